/** Two small things: how long `sluice --version` takes, and how many verdicts the evaluator gives. */
import { spawnSync } from 'node:child_process';
import { Cluster } from '../src/cluster/cluster.ts';
import { Sharing } from '../src/kubernetes/sharing.ts';
import { evaluate } from '../src/policy/evaluate.ts';
import { type Spread, spread } from './statistics.ts';
import { pages, upsert } from './feed.ts';
import { proportionalShape, SyntheticCluster } from './synthetic-cluster.ts';

export interface ProgramPlan {
  readonly starts: number;
  readonly pods: number;
  readonly verdicts: number;
}

export const PROGRAM_PLAN: ProgramPlan = { starts: 21, pods: 10_000, verdicts: 300_000 };
export const QUICK_PROGRAM_PLAN: ProgramPlan = { starts: 3, pods: 1_000, verdicts: 10_000 };

export interface ProgramResult {
  /** `sluice --version`, ms. */
  readonly version: Spread;
  /** Node alone, running an empty program, in turns with it, ms. */
  readonly emptyProgram: Spread;
  readonly verdictsPerSecond: Spread;
  readonly pods: number;
}

export function measureProgram(plan: ProgramPlan, progress: (text: string) => void): ProgramResult {
  progress('sluice --version');
  const version: number[] = [];
  const emptyProgram: number[] = [];
  const bin = new URL('../bin/sluice.js', import.meta.url).pathname;
  for (let start = 0; start < plan.starts; start++) {
    version.push(run([bin, '--version']));
    emptyProgram.push(run(['--eval', '0']));
  }
  progress('verdicts');
  return { version: spread(version), emptyProgram: spread(emptyProgram), verdictsPerSecond: verdicts(plan), pods: plan.pods };
}

function run(args: readonly string[]): number {
  const started = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${args.join(' ')} ended with status ${status}: ${stderr}`);
  return performance.now() - started;
}

function verdicts({ pods, verdicts }: ProgramPlan): Spread {
  const synthetic = new SyntheticCluster(proportionalShape(pods, Math.min(pods, 110)));
  const cluster = new Cluster();
  const sharing = new Sharing();
  for (const page of pages(synthetic.objects(), sharing)) cluster.apply(page);
  const addresses = Array.from({ length: pods }, (_, index) => {
    const event = upsert(synthetic.pod(index), sharing);
    return event.type === 'upsert' && event.kind === 'Pod' ? event.object.addresses : [];
  }).flatMap(([first]) => first ?? []);
  const rates: number[] = [];
  let allowed = 0;
  for (let round = 0; round < 5; round++) {
    const started = performance.now();
    for (let count = 0; count < verdicts; count++) {
      // Steps that have no divisor in common with the number of pods lead to ever new pairs.
      const source = addresses[(count * 7919) % pods];
      const destination = addresses[(count * 104_729 + round) % pods];
      if (source === undefined || destination === undefined) throw new Error('a pod has no address');
      if (evaluate(cluster, { source, destination, protocol: 'TCP', port: 8080 }).allowed) allowed++;
    }
    rates.push((verdicts * 1000) / (performance.now() - started));
  }
  if (allowed === 0 || allowed === verdicts * 5) throw new Error('all verdicts are the same');
  return spread(rates);
}
