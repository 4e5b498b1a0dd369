/**
 * What TCP gets between pods of two nodes through vxlan, where `sluice network` has made the devices and where flanneld has. Each daemon has
 * two new nodes of its own, all in one cluster, and all are measured in turns: whatever else the machine does meets them alike. The kernel
 * carries the packets, so that what is looked for is a difference in what the daemons tell it. What counts are ratios of the same round.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { inNamespace } from '../../src/lab/namespaces.ts';
import { BASELINE, type DaemonKind } from '../../test/apiserver/network/support/daemons.ts';
import { findFlanneld } from '../../test/apiserver/network/support/describe-with-flanneld.ts';
import { InteropNetwork, netConf } from '../../test/apiserver/network/support/interop-network.ts';
import { MeasuringProcess } from '../measuring-process.ts';
import { type Spread, spread } from '../statistics.ts';
import type { LoadAnswer, LoadKind, LoadPair, LoadRequest } from '../udp-proxy/load.ts';

export interface ThroughputPlan {
  readonly rounds: number;
  /** How long each variant is measured in a round, by each kind of load; also in the round before the first, which does not count. */
  readonly sliceMs: number;
}

export const THROUGHPUT_PLAN: ThroughputPlan = { rounds: 60, sliceMs: 300 };
export const QUICK_THROUGHPUT_PLAN: ThroughputPlan = { rounds: 2, sliceMs: 50 };

export interface ThroughputResult {
  readonly variants: readonly ThroughputVariant[];
  /** Why flanneld was left out. */
  readonly missing: string | undefined;
}

export interface ThroughputVariant {
  readonly name: string;
  readonly bulk: ThroughputFigures;
  readonly requests: ThroughputFigures;
}

export interface ThroughputFigures {
  /** Bytes, or requests. */
  readonly perSecond: Spread;
  /** The same to flanneld's of the same round; undefined without flanneld. */
  readonly ratio: Spread | undefined;
}

export const OURS = 'Sluice';
const FLANNELD = 'flanneld';
const KINDS: readonly LoadKind[] = ['bulk', 'requests'];
const DEVICE = 'flannel.1';
const LOAD = new URL('../udp-proxy/load.ts', import.meta.url);

interface NodePair {
  readonly name: string;
  readonly daemon: DaemonKind;
  readonly nodes: readonly [string, string];
}

const OUR_PAIR: NodePair = { name: OURS, daemon: 'sluice', nodes: ['sluice-1', 'sluice-2'] };
const PAIRS: readonly NodePair[] = [
  { name: FLANNELD, daemon: 'flanneld', nodes: ['flanneld-1', 'flanneld-2'] },
  OUR_PAIR,
  // Equal to the first: how far apart equals are in this run.
  { name: `${FLANNELD}, again`, daemon: 'flanneld', nodes: ['flanneld-3', 'flanneld-4'] },
];

interface Variant {
  readonly name: string;
  readonly ends: LoadPair;
  /** Network namespace of the node that the load leaves through the overlay; undefined where it takes none. */
  readonly overlayOf: string | undefined;
  readonly perSecond: Record<LoadKind, number[]>;
}

/** @throws LabError where there is no API server to be had; Error where a load did not take the overlay */
export async function measureThroughput(plan: ThroughputPlan, progress: (text: string) => void): Promise<ThroughputResult> {
  if (BASELINE) throw new Error('SLUICE_INTEROP_BASELINE=1 has flanneld run in the place of sluice: there would be nothing to compare');
  const hasFlanneld = findFlanneld() !== undefined;
  const pairs = hasFlanneld ? PAIRS : [OUR_PAIR];
  progress(`nodes of ${pairs.map(({ name }) => name).join(', ')}`);
  const state = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  const opened: (() => Promise<void> | void)[] = [() => rmSync(state, { recursive: true, force: true })];
  try {
    const api = await ApiServer.start({ state });
    opened.push(() => api.close());
    const nodes = pairs.flatMap((pair) => pair.nodes);
    const network = await InteropNetwork.create({ api, netConf: netConf({ Type: 'vxlan' }), nodes, carries: { 4: 1450 } });
    opened.push(() => network.close());
    await network.run(Object.fromEntries(pairs.flatMap((pair) => pair.nodes.map((node) => [node, pair.daemon]))));
    const variants = variantsOf(network, pairs);
    const server = new MeasuringProcess<never, 'listening'>(LOAD, { args: ['server', ...variants.map(({ ends }) => ends.server)] });
    opened.push(() => server.stop());
    await server.answer();
    const client = new MeasuringProcess<LoadRequest, LoadAnswer>(LOAD, { args: ['client'] });
    opened.push(() => client.stop());
    await measureInTurns(plan, client, variants, progress);
    return {
      variants: results(variants),
      missing: hasFlanneld ? undefined : 'flanneld is not built (sh scripts/build-flanneld.sh)',
    };
  } finally {
    for (const close of opened.toReversed()) await close();
  }
}

/** Those of the pairs, and one between the two nodes of the first pair, past all that the daemons have made. */
function variantsOf(network: InteropNetwork, pairs: readonly NodePair[]): readonly Variant[] {
  const overlays = pairs.map(({ name, nodes: [from, to] }): Variant => {
    const [client, server] = [network.node(from), network.node(to)];
    return variant(name, { client: client.podNetns, server: server.podNetns, address: server.pod4 }, client.netns);
  });
  const [client, server] = (pairs[0] ?? OUR_PAIR).nodes.map((name) => network.node(name));
  if (client === undefined || server === undefined) throw new Error('a pair has two nodes');
  const direct = { client: client.netns, server: server.netns, address: server.v4 };
  return [...overlays, variant('from node to node, no overlay', direct, undefined)];
}

function variant(name: string, ends: LoadPair, overlayOf: string | undefined): Variant {
  return { name, ends, overlayOf, perSecond: { bulk: [], requests: [] } };
}

/** Each round begins with another variant, so that none is always behind the same. */
async function measureInTurns(
  { rounds, sliceMs }: ThroughputPlan,
  client: MeasuringProcess<LoadRequest, LoadAnswer>,
  variants: readonly Variant[],
  progress: (text: string) => void,
): Promise<void> {
  for (let round = 0; round <= rounds; round++) {
    if (round % Math.ceil(rounds / 5) === 0) progress(round === 0 ? 'warming up' : `round ${round} of ${rounds}`);
    for (const kind of KINDS) {
      for (let turn = 0; turn < variants.length; turn++) {
        const variant = variants[(turn + round) % variants.length];
        if (variant === undefined) continue;
        const before = carried(variant, kind);
        const { amount, elapsedMs } = await client.ask({ pair: variant.ends, kind, forMs: sliceMs });
        if (variant.overlayOf !== undefined && !(carried(variant, kind) - before >= amount))
          throw new Error(`${variant.name}: what was sent has not gone through ${DEVICE}`);
        if (round > 0) variant.perSecond[kind].push((amount * 1000) / elapsedMs);
      }
    }
  }
}

/** What has left through the overlay's device so far: bytes, or packets, of which a request is at least one. */
function carried({ overlayOf }: Variant, kind: LoadKind): number {
  if (overlayOf === undefined) return 0;
  const devices = inNamespace(overlayOf, () => readFileSync('/proc/thread-self/net/dev', 'utf8'));
  const fields = devices
    .split('\n')
    .map((line) => line.trim().split(/[:\s]+/))
    .find(([name]) => name === DEVICE);
  // After the name eight fields of what came in, and then of what left: bytes, packets, and others.
  return Number(fields?.[kind === 'bulk' ? 9 : 10] ?? Number.NaN);
}

function results(variants: readonly Variant[]): ThroughputVariant[] {
  const flanneld = variants.find(({ name }) => name === FLANNELD);
  return variants.map(({ name, perSecond }) => {
    const figures = (kind: LoadKind): ThroughputFigures => ({
      perSecond: spread(perSecond[kind]),
      ratio: flanneld && spread(perSecond[kind].map((value, round) => value / (flanneld.perSecond[kind][round] ?? Number.NaN))),
    });
    return { name, bulk: figures('bulk'), requests: figures('requests') };
  });
}

/** Whether a ratio may be that of equals: half of the rounds' are around 1, or it is not more than a little less. */
export function withinNoise({ median, low, high }: Spread): boolean {
  return (low <= 1 && high >= 1) || median >= 0.97;
}
