/** Plays a scenario from its start to its end, and says of every step who reached whom. */
import { join } from 'node:path';
import { formatProblem } from '../output/problems.ts';
import type { Paint } from '../output/colour.ts';
import { type AgentSource, directorySource, LabAgents } from './agents.ts';
import type { ApiObjects } from './api/api-objects.ts';
import type { ApiServer } from './api/api-server.ts';
import { type ObjectChange, ScenarioCluster } from './scenario-cluster.ts';
import type { Scenario, Step } from './scenario.ts';
import { type VerdictRecord, isAsExpected, measure, partiesOf } from './verdicts.ts';

export interface StepReport {
  readonly step: string;
  readonly changes: readonly ObjectChange[];
  /** Rows and columns of the matrix, in order. */
  readonly names: readonly string[];
  readonly records: readonly VerdictRecord[];
  /** From the change to the last answer. */
  readonly durationMs: number;
}

export interface PlayOptions {
  /** An empty directory, for the cluster's objects, logs and status files. */
  readonly state: string;
  /** Without, whatever enforces policy has to be there already. */
  readonly agents: boolean;
  /** The cluster's objects are in an API server, and agents have them from there; otherwise from a directory. */
  readonly api?: boolean;
  /** How long a change may take to be in force everywhere. Default: 10,000. */
  readonly settleMs?: number;
  /** The nodes and pods are there, and agents are ready; no step has been played. What it throws ends the play. */
  readonly clusterUp?: (cluster: ScenarioCluster) => void;
  /** Awaited, before the next step is played. */
  readonly stepDone: (report: StepReport, cluster: ScenarioCluster) => void | Promise<void>;
  /** What is going on, for people. */
  readonly progress: (text: string) => void;
  readonly paint: Paint;
}

/** A scenario after its last step, still running. */
export interface Stage {
  readonly cluster: ScenarioCluster;
  readonly agents: LabAgents | undefined;
  readonly api: ApiServer | undefined;
  readonly reports: readonly StepReport[];
  close(): Promise<void>;
}

/** Everything that was probed is in `reports`; the lab stays up until it is closed. */
export async function playScenario(scenario: Scenario, options: PlayOptions): Promise<Stage> {
  const { progress, state } = options;
  const startedAt = performance.now();
  const directory = join(state, 'cluster');
  const api = options.api === true ? await startApi(options) : undefined;
  let cluster: ScenarioCluster;
  try {
    cluster = await ScenarioCluster.create(scenario, directory, api?.objects);
    await api?.server.connect(cluster.lab);
  } catch (error) {
    await api?.server.close();
    throw error;
  }
  let agents: LabAgents | undefined;
  try {
    const { lab } = cluster;
    progress(`${count(lab.nodes.length, 'node')} and ${count(lab.pods.length, 'pod')} are up after ${ms(performance.now() - startedAt)}`);
    if (options.agents) {
      const agentsAt = performance.now();
      agents = await LabAgents.start(lab, { source: api?.source ?? directorySource(directory), state });
      progress(`an agent on each node is ready after ${ms(performance.now() - agentsAt)}`);
    }
    options.clusterUp?.(cluster);
    const reports: StepReport[] = [];
    const problems = new ProblemReporter(options);
    for (const step of [scenario.cluster, ...scenario.steps]) {
      const report = await playStep(cluster, agents, scenario, step, options);
      problems.report(cluster);
      reports.push(report);
      await options.stepDone(report, cluster);
    }
    return {
      cluster,
      agents,
      api: api?.server,
      reports,
      close: async () => {
        await agents?.endAll();
        await cluster.close();
        await api?.server.close();
      },
    };
  } catch (error) {
    await cluster.close();
    await api?.server.close();
    throw error;
  }
}

async function startApi({ state, progress }: PlayOptions): Promise<{ server: ApiServer; objects: ApiObjects; source: AgentSource }> {
  // Only where it is asked for: a lab on a directory has no use for a client.
  const [{ ApiServer }, { ApiObjects }, { applyRoles }] = await Promise.all([
    import('./api/api-server.ts'),
    import('./api/api-objects.ts'),
    import('./api/manifests.ts'),
  ]);
  const startedAt = performance.now();
  const server = await ApiServer.start({ state: join(state, 'api') });
  try {
    await applyRoles(server.admin);
    progress(`an API server is ready after ${ms(performance.now() - startedAt)}`);
    const objects = new ApiObjects(server);
    return { server, objects, source: { args: ['--kubeconfig', server.kubeconfig('agent')], revision: () => objects.revision() } };
  } catch (error) {
    await server.close();
    throw error;
  }
}

async function playStep(
  cluster: ScenarioCluster,
  agents: LabAgents | undefined,
  scenario: Scenario,
  step: Step,
  { settleMs = 10_000 }: PlayOptions,
): Promise<StepReport> {
  const startedAt = performance.now();
  const isStart = step === scenario.cluster;
  const changes = isStart ? [] : await cluster.apply(step);
  // What an agent could not bring into force shows in the probes.
  await agents?.inForce(settleMs);
  const { settings } = scenario;
  const records = await measure(cluster, { step: step.name, settings, expectation: step.expectation, settleMs });
  agents?.check();
  return {
    step: step.name,
    changes,
    names: partiesOf(cluster, settings).map(({ name }) => name),
    records,
    durationMs: performance.now() - startedAt,
  };
}

/** `504 probes, 504 as expected, 680 ms` */
export function summary({ records, durationMs }: Pick<StepReport, 'records'> & { readonly durationMs?: number }): string {
  const right = records.filter(isAsExpected).length;
  return `${records.length} probes, ${right} as expected${durationMs === undefined ? '' : `, ${ms(durationMs)}`}`;
}

/** Says what is wrong with the objects, each thing once. */
class ProblemReporter {
  readonly #options: PlayOptions;
  readonly #said = new Set<string>();

  constructor(options: PlayOptions) {
    this.#options = options;
  }

  report(cluster: ScenarioCluster): void {
    for (const problem of cluster.contents.problems) {
      if (problem.severity === 'notice') continue;
      const text = formatProblem(problem, this.#options.paint);
      if (!this.#said.has(text)) this.#options.progress(text);
      this.#said.add(text);
    }
  }
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

function ms(duration: number): string {
  return duration < 1000 ? `${Math.round(duration)} ms` : `${(duration / 1000).toFixed(1)} s`;
}
