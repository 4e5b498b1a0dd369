/**
 * Connections a second between two pods of one node, by what the node has between them. Every variant has a node, a bridge and two pods
 * of its own, and all are measured in turns: whatever else the machine does meets them alike. What counts are ratios to the baseline
 * of the same round.
 */
import { Lab } from '../../src/lab/lab.ts';
import { type Spread, spread } from '../statistics.ts';
import { Load, type Pair } from './load.ts';
import { BASELINE, type BenchNode, PORT, type Variant, variants } from './variants.ts';

export interface ForwardingPlan {
  readonly rounds: number;
  /** How long each variant is measured in a round. */
  readonly sliceMs: number;
  readonly sluicePods: readonly number[];
  readonly iptablesPods: readonly number[];
}

/** Many short turns rather than a few long ones: what else goes on changes within seconds. */
export const FORWARDING_PLAN: ForwardingPlan = {
  rounds: 200,
  sliceMs: 25,
  sluicePods: [100, 1_000, 10_000],
  iptablesPods: [100, 1_000],
};
export const QUICK_FORWARDING_PLAN: ForwardingPlan = { rounds: 3, sliceMs: 100, sluicePods: [100], iptablesPods: [100] };

export interface ForwardingResult {
  readonly variants: readonly VariantResult[];
  /** Microseconds of one core that the load itself takes for a connection. */
  readonly loadUs: number;
  /** Variants that were left out, and why. */
  readonly missing: readonly string[];
}

export interface VariantResult {
  readonly name: string;
  /** Connections a second by the clock, and for a second of CPU time. */
  readonly perSecond: Spread;
  readonly perCpuSecond: Spread;
  /** The latter, to the baseline of the same round. */
  readonly ratio: Spread;
  /** The former, likewise. */
  readonly clockRatio: Spread;
  readonly failures: number;
}

interface Measured {
  readonly variant: Variant;
  readonly perSecond: number[];
  readonly perCpuSecond: number[];
  failures: number;
}

export async function measureForwarding(plan: ForwardingPlan, progress: (text: string) => void): Promise<ForwardingResult> {
  const all = variants(plan.sluicePods, plan.iptablesPods);
  const nodes = all.map((_, index) => ({ name: `bench-${index}` }));
  const pods = nodes.flatMap(({ name }) => ['client', 'server'].map((pod) => ({ namespace: name, name: pod, node: name })));
  progress(`setting up ${nodes.length} nodes`);
  const lab = await Lab.create({ nodes, pods });
  const undo: (() => void)[] = [];
  let load: Load | undefined;
  try {
    const chosen: { readonly variant: Variant; readonly node: BenchNode }[] = [];
    const missing: string[] = [];
    for (const [index, variant] of all.entries()) {
      const name = `bench-${index}`;
      const node: BenchNode = { lab, name, client: `${name}/client`, server: `${name}/server` };
      if (variant.needs !== undefined && !(await isInstalled(lab, node, variant.needs))) {
        missing.push(`${variant.name}: ${variant.needs} is not installed (apt-get install iptables)`);
        continue;
      }
      progress(`setting up: ${variant.name}`);
      const flag = variant.filtered ? '1' : '0';
      await lab.exec(`node/${name}`, ['ip', 'link', 'set', 'cni0', 'type', 'bridge', 'nf_call_iptables', flag, 'nf_call_ip6tables', flag]);
      const takeBack = await variant.setUp(node);
      if (takeBack !== undefined) undo.push(takeBack);
      chosen.push({ variant, node });
    }
    load = await Load.start(chosen.map(({ node }) => pair(node)));
    const measured = chosen.map(({ variant }): Measured => ({ variant, perSecond: [], perCpuSecond: [], failures: 0 }));
    await measureInTurns(plan, load, measured, progress);
    return { variants: results(measured), loadUs: await load.overheadUs(), missing };
  } finally {
    await load?.close();
    for (const takeBack of undo) takeBack();
    await lab.close();
  }
}

function pair({ lab, client, server }: BenchNode): Pair {
  const [address] = lab.addresses(server);
  if (address === undefined) throw new Error(`${server} has no address`);
  return { client: lab.netns(client), server: lab.netns(server), address, port: PORT };
}

async function isInstalled(lab: Lab, { name }: BenchNode, program: string): Promise<boolean> {
  const { status } = await lab.exec(`node/${name}`, ['sh', '-c', `command -v ${program}`], { check: false });
  return status === 0;
}

/** Each round begins with another variant, so that none is always behind the same. */
async function measureInTurns(
  plan: ForwardingPlan,
  load: Load,
  measured: readonly Measured[],
  progress: (text: string) => void,
): Promise<void> {
  // The first round warms up.
  for (let round = 0; round <= plan.rounds; round++) {
    if (round % Math.ceil(plan.rounds / 10) === 0) progress(round === 0 ? 'warming up' : `round ${round} of ${plan.rounds}`);
    for (let turn = 0; turn < measured.length; turn++) {
      const index = (turn + round) % measured.length;
      const { perSecond, perCpuSecond, failures } = await load.run(index, plan.sliceMs);
      const of = measured[index];
      if (of === undefined || round === 0) continue;
      of.perSecond.push(perSecond);
      of.perCpuSecond.push(perCpuSecond);
      of.failures += failures;
    }
  }
}

function results(measured: readonly Measured[]): VariantResult[] {
  const baseline = measured.find(({ variant }) => variant.name === BASELINE);
  return measured.map(({ variant, perSecond, perCpuSecond, failures }) => ({
    name: variant.name,
    perSecond: spread(perSecond),
    perCpuSecond: spread(perCpuSecond),
    ratio: spread(ratios(perCpuSecond, baseline?.perCpuSecond ?? [])),
    clockRatio: spread(ratios(perSecond, baseline?.perSecond ?? [])),
    failures,
  }));
}

function ratios(values: readonly number[], baseline: readonly number[]): number[] {
  return values.map((value, round) => value / (baseline[round] ?? Number.NaN));
}
