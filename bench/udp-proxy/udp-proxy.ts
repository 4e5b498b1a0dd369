/**
 * What TCP gets through the proxies of the udp backend: Sluice's, and flannel's in C. Each variant has two nodes of its own, and all are
 * measured in turns: whatever else the machine does meets them alike. What counts are ratios to flannel's of the same round.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { MeasuringProcess } from '../measuring-process.ts';
import type { Target } from '../report.ts';
import { type Spread, spread } from '../statistics.ts';
import { buildFlannelProxy } from './flannel-proxy.ts';
import type { LoadAnswer, LoadKind, LoadRequest } from './load.ts';
import { makeUnderlay, removeUnderlay, startProxy, type TunnelEnds, tunnelEnds } from './tunnel.ts';

export interface UdpProxyPlan {
  readonly rounds: number;
  /** How long each variant is measured in a round, by each kind of load. */
  readonly sliceMs: number;
  /** The same in the round before the first, which does not count: what V8 compiles is compiled then. */
  readonly warmUpMs: number;
}

export const UDP_PROXY_PLAN: UdpProxyPlan = { rounds: 30, sliceMs: 300, warmUpMs: 1000 };
export const QUICK_UDP_PROXY_PLAN: UdpProxyPlan = { rounds: 2, sliceMs: 50, warmUpMs: 50 };

export interface UdpProxyResult {
  readonly variants: readonly UdpProxyVariant[];
  /** Variants that were left out, and why. */
  readonly missing: readonly string[];
}

export interface UdpProxyVariant {
  readonly name: string;
  readonly bulk: UdpProxyFigures;
  readonly requests: UdpProxyFigures;
}

export interface UdpProxyFigures {
  /** Bytes, or requests. */
  readonly perSecond: Spread;
  /** The same to flannel's of the same round; NaN where that is missing. */
  readonly ratio: Spread;
  /** CPU time of both proxies, microseconds, for a request, or for 1,000,000 bytes. */
  readonly cpuUs: Spread;
}

const FLANNEL = 'flannel’s proxy';
const OURS = 'Sluice';
const KINDS: readonly LoadKind[] = ['bulk', 'requests'];

interface Variant {
  readonly name: string;
  readonly ends: TunnelEnds;
  readonly proxies: readonly ChildProcess[];
  readonly perSecond: Record<LoadKind, number[]>;
  readonly cpuUs: Record<LoadKind, number[]>;
}

export async function measureUdpProxy(plan: UdpProxyPlan, progress: (text: string) => void): Promise<UdpProxyResult> {
  const ours = [process.execPath, new URL('proxy-process.ts', import.meta.url).pathname];
  const built = buildFlannelProxy();
  const programs: [string, readonly string[]][] = [[OURS, ours]];
  const missing: string[] = [];
  if ('missing' in built) missing.push(`${FLANNEL}: ${built.missing}`);
  // The second is equal to the first: how far apart equals are in this run.
  else programs.unshift([FLANNEL, [built.program]], [`${FLANNEL}, again`, [built.program]]);
  const variants: Variant[] = [];
  const processes: { stop(): void }[] = [];
  try {
    for (const [index, [name, program]] of programs.entries()) {
      progress(`setting up: ${name}`);
      variants.push(await setUp(name, tunnelEnds(`udp-${index}`), program));
    }
    const server = new MeasuringProcess<never, 'listening'>(LOAD, { args: ['server', ...variants.map(({ ends }) => ends.b.netns)] });
    processes.push(server);
    await server.answer();
    const client = new MeasuringProcess<LoadRequest, LoadAnswer>(LOAD, { args: ['client'] });
    processes.push(client);
    await measureInTurns(plan, client, variants, progress);
    return { variants: results(variants), missing };
  } finally {
    for (const process of processes) process.stop();
    for (const variant of variants) await tearDown(variant);
  }
}

const LOAD = new URL('load.ts', import.meta.url);

async function setUp(name: string, ends: TunnelEnds, program: readonly string[]): Promise<Variant> {
  await makeUnderlay(ends);
  const proxies = [await startProxy(program, ends.a, ends.b), await startProxy(program, ends.b, ends.a)];
  return { name, ends, proxies, perSecond: { bulk: [], requests: [] }, cpuUs: { bulk: [], requests: [] } };
}

async function tearDown({ ends, proxies }: Variant): Promise<void> {
  for (const proxy of proxies) {
    proxy.kill('SIGKILL');
    if (proxy.exitCode === null && proxy.signalCode === null) await once(proxy, 'exit');
  }
  await removeUnderlay(ends);
}

/** Each round begins with another variant, so that none is always behind the same. */
async function measureInTurns(
  { rounds, sliceMs, warmUpMs }: UdpProxyPlan,
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
        const { a, b } = variant.ends;
        const before = cpuUs(variant);
        const { amount, elapsedMs } = await client.ask({
          pair: { client: a.netns, server: b.netns, address: b.address },
          kind,
          forMs: round === 0 ? warmUpMs : sliceMs,
        });
        if (round === 0) continue;
        variant.perSecond[kind].push((amount * 1000) / elapsedMs);
        variant.cpuUs[kind].push((cpuUs(variant) - before) / (kind === 'bulk' ? amount / 1e6 : amount));
      }
    }
  }
}

/** All threads of both proxies so far. The first number of schedstat is nanoseconds; those of stat are hundredths of a second. */
function cpuUs({ proxies }: Variant): number {
  return proxies.reduce((sum, { pid }) => sum + processUs(pid ?? 0), 0);
}

function processUs(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  return tasks.reduce((sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1000, 0);
}

function results(variants: readonly Variant[]): UdpProxyVariant[] {
  const flannel = variants.find(({ name }) => name === FLANNEL);
  return variants.map((variant) => {
    const figures = (kind: LoadKind): UdpProxyFigures => ({
      perSecond: spread(variant.perSecond[kind]),
      ratio: spread(variant.perSecond[kind].map((value, round) => value / (flannel?.perSecond[kind][round] ?? Number.NaN))),
      cpuUs: spread(variant.cpuUs[kind]),
    });
    return { name: variant.name, bulk: figures('bulk'), requests: figures('requests') };
  });
}

/** What is wanted of Sluice's proxy. Nothing where there is no other to compare it with. */
export function udpProxyTargets({ variants, missing }: UdpProxyResult): Target[] {
  const ours = variants.find(({ name }) => name === OURS);
  if (ours === undefined || missing.length > 0) return [];
  const target = (what: string, { ratio: { median } }: UdpProxyFigures): Target => ({
    what: `udp proxy: ${what}`,
    wanted: '≥ 0.5 of flannel’s in C',
    measured: median.toFixed(2),
    met: median >= 0.5,
  });
  return [target('a TCP stream', ours.bulk), target('requests and answers', ours.requests)];
}

/** As text for people. */
export function udpProxyReport({ variants, missing }: UdpProxyResult): string {
  const ratio = ({ median, low, high }: Spread): string => `${median.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`;
  const rows = variants.map(({ name, bulk, requests }) => [
    name,
    ((bulk.perSecond.median * 8) / 1e6).toFixed(0),
    ratio(bulk.ratio),
    bulk.cpuUs.median.toFixed(0),
    requests.perSecond.median.toFixed(0),
    ratio(requests.ratio),
    requests.cpuUs.median.toFixed(1),
  ]);
  const header = ['proxy', 'Mbit/s', 'ratio', 'CPU µs/MB', 'requests/s', 'ratio', 'CPU µs/request'];
  const lines = [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return [...lines, ...missing.map((text) => `Left out: ${text}.`)].join('\n');
}
