/**
 * Who reaches whom in a scenario's cluster: which probes there are, what the scenario and the evaluator say of each, and what the
 * packets say.
 */
import type { Family } from '../policy/address.ts';
import { type Address, familyOf } from '../policy/address.ts';
import { evaluate } from '../policy/evaluate.ts';
import type { Expectation } from './expectation.ts';
import type { LabProbe } from './lab.ts';
import type { Measured, ProbeProtocol, ProbeResult } from './prober/protocol.ts';
import type { ScenarioCluster } from './scenario-cluster.ts';
import type { ScenarioSettings } from './scenario.ts';
import { DEFAULT_PORTS } from './topology.ts';

/** Somebody who probes and is probed. */
export interface Party {
  /** `namespace/pod`, `node/NAME`, or the name of a host outside. */
  readonly name: string;
  readonly addresses: readonly Address[];
  readonly ports: readonly number[];
  /** The node it is on (pods), or is (nodes). */
  readonly node: string | undefined;
  /** Its address is its node's: nodes, and pods with hostNetwork. */
  readonly isNode: boolean;
}

/** One probe of one step: a record of `-o json`. */
export interface VerdictRecord {
  readonly step: string;
  readonly source: string;
  readonly destination: string;
  readonly family: Family;
  /** 0 with ICMP. */
  readonly port: number;
  readonly protocol: ProbeProtocol;
  /** The scenario's expectation; where it gives none, the evaluator's. */
  readonly expected: Measured;
  /** The evaluator's verdict. */
  readonly predicted: Measured;
  readonly measured: Measured;
  /** Who answered, where it was not the destination. */
  readonly answeredBy?: string;
}

/** Packets, scenario and evaluator agree, and the right one answered. */
export function isAsExpected({ expected, predicted, measured, answeredBy }: VerdictRecord): boolean {
  return measured === expected && predicted === expected && answeredBy === undefined;
}

/** In the order of the matrix: pods by namespace and name, nodes, hosts outside. */
export function partiesOf({ lab }: ScenarioCluster, settings: ScenarioSettings): readonly Party[] {
  const ports = settings.probe.ports ?? DEFAULT_PORTS;
  const pods = lab.pods
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map((pod): Party => ({ ...pod, name: pod.key, isNode: pod.hostNetwork }));
  const nodes = lab.nodes.map(
    (node): Party => ({ name: `node/${node.name}`, addresses: node.addresses, ports, node: node.name, isNode: true }),
  );
  const outside = [...lab.outside].map(([name, addresses]): Party => ({ name, addresses, ports, node: undefined, isNode: false }));
  return [...pods, ...(settings.probe.nodes ? nodes : []), ...outside];
}

interface Planned {
  readonly probe: LabProbe & { readonly family: Family };
  readonly expected: Measured;
  readonly predicted: Measured;
}

/** Every party to every other, on each port of the destination; not to itself, which no rule could see. */
function plan(cluster: ScenarioCluster, settings: ScenarioSettings, expectation: Expectation | undefined): readonly Planned[] {
  const parties = partiesOf(cluster, settings);
  expectation?.check(parties.map(({ name }) => name));
  const { protocols, families } = settings.probe;
  return parties.flatMap((source) =>
    parties.flatMap((destination) =>
      families.flatMap((text) => {
        const family: Family = text === 'IPv4' ? 4 : 6;
        const from = source.addresses.find((address) => familyOf(address) === family);
        const to = destination.addresses.find((address) => familyOf(address) === family);
        if (from === undefined || to === undefined || from === to) return [];
        return protocols.flatMap((protocol) =>
          (protocol === 'ICMP' ? [0] : destination.ports).map((port): Planned => {
            const question = { source: from, destination: to, protocol, ...(protocol === 'ICMP' ? {} : { port }) };
            const predicted = evaluate(cluster.world, question).allowed ? 'allowed' : 'denied';
            const probe = { from: source.name, to: destination.name, port, protocol, family };
            const isOwnNode = source.node !== undefined && source.node === destination.node && (source.isNode || destination.isNode);
            const expected = isOwnNode
              ? 'allowed'
              : expectation?.verdict({ source: source.name, destination: destination.name, port, protocol, family });
            return { probe, predicted, expected: expectation === undefined ? predicted : (expected ?? predicted) };
          }),
        );
      }),
    ),
  );
}

export interface MeasureOptions {
  readonly step: string;
  readonly settings: ScenarioSettings;
  readonly expectation: Expectation | undefined;
  /** How long rules may take to come into force, from now. */
  readonly settleMs: number;
  /** Whether the question is out of date, so that another try is in vain. */
  readonly isOver?: () => boolean;
}

/** How long a probe that should be answered may take, while there is time for another try. */
const TRY_MS = 3000;

/**
 * Probes everybody from everybody. Where something is not as expected, the rules may not be in force yet: everything is probed
 * again, until it is as expected or the time is over.
 */
export async function measure(cluster: ScenarioCluster, options: MeasureOptions): Promise<readonly VerdictRecord[]> {
  const { step, settings, expectation, settleMs, isOver } = options;
  const planned = plan(cluster, settings, expectation);
  const until = performance.now() + settleMs;
  for (;;) {
    const results = await cluster.lab.probe(
      planned.map(({ probe, expected }) => ({ ...probe, expected })),
      { deadlineMs: TRY_MS },
    );
    const records = planned.map(({ probe, expected, predicted }, index) =>
      record(cluster, step, probe, expected, predicted, results[index]),
    );
    // Where scenario and evaluator contradict one another, no further try will please both.
    const settled = records.every(
      (each) => each.measured === each.expected || (each.predicted !== each.expected && each.measured === each.predicted),
    );
    if (settled || performance.now() >= until || isOver?.() === true) return records;
    await new Promise((resolve) => {
      setTimeout(resolve, 100);
    });
  }
}

function record(
  cluster: ScenarioCluster,
  step: string,
  { from, to, family, port, protocol }: Planned['probe'],
  expected: Measured,
  predicted: Measured,
  result: ProbeResult | undefined,
): VerdictRecord {
  const { answeredBy } = result ?? {};
  const isRight = answeredBy === undefined || answeredBy === to || sharesAddress(cluster, answeredBy, to);
  return {
    step,
    source: from,
    destination: to,
    family,
    port,
    protocol,
    expected,
    predicted,
    measured: result?.measured ?? 'denied',
    ...(isRight ? {} : { answeredBy }),
  };
}

/** A node and its pods with hostNetwork have one address, and one name to answer with. */
function sharesAddress({ lab }: ScenarioCluster, a: string, b: string): boolean {
  try {
    return lab.netns(a) === lab.netns(b) && lab.addresses(a).some((address) => lab.addresses(b).includes(address));
  } catch {
    return false;
  }
}
