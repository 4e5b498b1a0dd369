/**
 * An agent as a process of its own, fed by a real API server: how soon a policy that the API server has taken is in the kernel, what
 * rate of changes leaves no backlog, and what a start beside a large cluster and doing nothing cost.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Monitor, Poller } from 'nftables-js';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { applyRoles } from '../../src/lab/api/manifests.ts';
import { type ProcessOptions } from '../measuring-process.ts';
import { asTheProgram } from '../cold-start/cold-start.ts';
import { type Latency, latency, median } from '../statistics.ts';
import { type ClusterShape, LOCAL_NODE, SyntheticCluster } from '../synthetic-cluster.ts';
import { fillApiServer, stored } from './fill.ts';
import { type RecordedResult, replay } from './recorded.ts';

export interface ApiPlan {
  /** Of the clusters that an agent is started beside; changes are made in the first. */
  readonly shapes: readonly ClusterShape[];
  readonly starts: number;
  /** One at a time. */
  readonly changes: number;
  /** How long policies are written at a rate, and how long the agent is watched while nothing and little happens. */
  readonly seconds: number;
  /** Changes a second of a recorded stream. */
  readonly recordedPerSecond: number;
}

export const API_PLAN: ApiPlan = {
  shapes: [
    { pods: 20_000, namespaces: 1_000, policies: 1_000, localPods: 110 },
    { pods: 100_000, namespaces: 5_000, policies: 10_000, localPods: 110 },
  ],
  starts: 5,
  changes: 500,
  seconds: 30,
  recordedPerSecond: 1_000,
};
export const QUICK_API_PLAN: ApiPlan = {
  shapes: [{ pods: 300, namespaces: 15, policies: 30, localPods: 30 }],
  starts: 1,
  changes: 10,
  seconds: 1,
  recordedPerSecond: 200,
};

export interface ApiStart {
  readonly totalMs: number;
  /** Longest time that the event loop of the agent was held up until then. */
  readonly stallMs: number;
  /** At its peak. */
  readonly residentBytes: number;
}

export interface ApiRate {
  /** Policies a second that the API server takes with no agent beside it. */
  readonly alonePerSecond: number;
  /** What was asked for, and what came about, with the agent. */
  readonly wantedPerSecond: number;
  readonly perSecond: number;
  /** From the answer to the last write until the kernel has it, ms. */
  readonly backlogMs: number;
}

export interface ApiResult {
  readonly shapes: readonly ClusterShape[];
  /** By shape. */
  readonly starts: readonly (readonly ApiStart[])[];
  readonly latency: Latency;
  readonly rate: ApiRate;
  readonly recorded: RecordedResult;
  /** Of one core, in percent. */
  readonly idlePercent: number;
  readonly statusUpdates: { readonly perSecond: number; readonly percent: number; readonly commits: number };
}

export async function measureApi(plan: ApiPlan, progress: (text: string) => void): Promise<ApiResult> {
  const starts: ApiStart[][] = [];
  let changes: Omit<ApiResult, 'shapes' | 'starts' | 'recorded'> | undefined;
  for (const shape of plan.shapes) {
    const bench = await ApiBench.create(shape, progress);
    try {
      const of: ApiStart[] = [];
      for (let start = 0; start < plan.starts; start++) {
        progress(`start ${start + 1} of ${plan.starts} beside ${shape.pods} pods`);
        of.push(await bench.start());
        if (changes === undefined && start === plan.starts - 1) changes = await bench.changes(plan, progress);
        await bench.stop();
      }
      starts.push(of);
    } finally {
      await bench.close();
    }
  }
  if (changes === undefined) throw new Error('there is no cluster to change');
  progress('a recorded stream');
  const [first = { pods: 100, namespaces: 5, policies: 10, localPods: 10 }] = plan.shapes;
  const recorded = await replay(first, plan.recordedPerSecond, plan.seconds);
  return { shapes: plan.shapes, starts, ...changes, recorded };
}

const METRICS = 'http://127.0.0.1:9477/metrics';
const READY = 'http://127.0.0.1:9478/readyz';
/** Ticks of /proc/PID/stat a second (sysconf(_SC_CLK_TCK) of Linux on every architecture that Node runs on). */
const TICKS = 100;
/** As many requests as keep the API server busy. */
const WRITERS = 16;

class ApiBench {
  readonly #api: ApiServer;
  readonly #synthetic: SyntheticCluster;
  readonly #state: string;
  readonly #poller = new Poller();
  #monitor: Monitor | undefined;
  /** Commits to anything in this network namespace, and when the last one was seen. */
  #generations = 0;
  #lastAt = 0;
  /** Told of the next one. */
  #onGeneration: (() => void) | undefined;
  #agent: ChildProcess | undefined;
  #variant = 0;

  private constructor(api: ApiServer, synthetic: SyntheticCluster, state: string) {
    this.#api = api;
    this.#synthetic = synthetic;
    this.#state = state;
  }

  static async create(shape: ClusterShape, progress: (text: string) => void): Promise<ApiBench> {
    const state = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    const api = await ApiServer.start({ state });
    const bench = new ApiBench(api, new SyntheticCluster(shape), state);
    try {
      await applyRoles(api.admin);
      await fillApiServer(api, bench.#synthetic, progress);
      bench.#monitor = Monitor.open({
        poller: bench.#poller,
        onEvent: ({ event }) => {
          if (event !== 'generation') return;
          bench.#generations++;
          bench.#lastAt = performance.now();
          bench.#onGeneration?.();
        },
      });
      return bench;
    } catch (error) {
      await bench.close();
      throw error;
    }
  }

  /** Starts the agent as the program is started, and waits until all is in force. */
  async start(): Promise<ApiStart> {
    const { nodeFlags = [], env = {} }: ProcessOptions = asTheProgram();
    const program = new URL('../../bin/sluice.js', import.meta.url).pathname;
    const args = [...nodeFlags, program, 'agent', '--kubeconfig', this.#api.kubeconfig('agent'), '--node', LOCAL_NODE];
    const log = openSync(join(this.#state, 'agent.log'), 'a');
    const startedAt = performance.now();
    this.#agent = spawn(process.execPath, args, { stdio: ['ignore', log, log], env: { ...process.env, ...env } });
    closeSync(log);
    while (
      !(await fetch(READY).then(
        ({ ok }) => ok,
        () => false,
      ))
    ) {
      if (this.#agent.exitCode !== null) throw new Error(readFileSync(join(this.#state, 'agent.log'), 'utf8'));
      await sleep(5);
    }
    const totalMs = performance.now() - startedAt;
    const metrics = await (await fetch(METRICS)).text();
    const stallMs = Number(/^nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(metrics)?.[1]) * 1000;
    const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.#pid}/status`, 'utf8'))?.[1];
    return { totalMs, stallMs, residentBytes: Number(kibibytes) * 1024 };
  }

  get #pid(): number {
    const pid = this.#agent?.pid;
    if (pid === undefined) throw new Error('there is no agent');
    return pid;
  }

  /** The rules stay, and are taken out: the next start finds nothing. */
  async stop(): Promise<void> {
    const agent = this.#agent;
    this.#agent = undefined;
    if (agent === undefined || agent.exitCode !== null) return;
    const ended = new Promise((resolve) => {
      agent.once('exit', resolve);
    });
    agent.kill('SIGTERM');
    await ended;
    const program = new URL('../../bin/sluice.js', import.meta.url).pathname;
    const cleanup = spawn(process.execPath, [program, 'cleanup'], { stdio: 'ignore' });
    await new Promise((resolve) => {
      cleanup.once('exit', resolve);
    });
  }

  async close(): Promise<void> {
    await this.stop();
    this.#monitor?.close();
    this.#poller.close();
    await this.#api.close();
    rmSync(this.#state, { recursive: true, force: true });
  }

  // --- changes

  async changes(plan: ApiPlan, progress: (text: string) => void): Promise<Omit<ApiResult, 'shapes' | 'starts' | 'recorded'>> {
    const policy = await this.#policyHere();
    progress('one change at a time');
    const latencies: number[] = [];
    for (let change = 0; change < plan.changes; change++) {
      latencies.push(await this.#change(policy));
      await sleep(5);
    }
    progress('as many changes as there can be');
    const rate = await this.#rate(policy, plan.seconds);
    progress('nothing');
    await sleep(2_000);
    const idlePercent = await this.#cpuPercent(async () => await sleep(plan.seconds * 1000));
    progress('status updates');
    const before = await this.#commits();
    let updates = 0;
    const percent = await this.#cpuPercent(async () => {
      updates = await this.#updateStatus(plan.seconds);
    });
    const statusUpdates = { perSecond: updates / plan.seconds, percent, commits: (await this.#commits()) - before };
    return { latency: latency(latencies), rate, idlePercent, statusUpdates };
  }

  /** A policy whose ports are in the kernel of this node. */
  async #policyHere(): Promise<number> {
    const { shape, nodes } = this.#synthetic;
    for (let local = 0; local < shape.localPods; local++) {
      const namespace = this.#synthetic.namespaceOf(Math.floor((local * nodes) / 10));
      for (let index = namespace; index < shape.policies; index += shape.namespaces) {
        const before = this.#generations;
        await this.#write(index, ++this.#variant);
        for (let look = 0; look < 100 && this.#generations === before; look++) await sleep(2);
        if (this.#generations > before) return index;
      }
    }
    throw new Error('no policy of this cluster matters to this node');
  }

  async #write(index: number, variant: number): Promise<void> {
    const object = stored(this.#synthetic.policy(index, variant));
    const { name, namespace } = this.#synthetic.policy(index).metadata;
    await this.#api.admin.call({
      method: 'PATCH',
      path: `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies/${name}`,
      contentType: 'application/merge-patch+json',
      body: { spec: object['spec'] },
    });
  }

  /** From the API server's answer until the kernel says that it has new rules, ms; 0 where the kernel was the first. */
  async #change(policy: number): Promise<number> {
    const before = this.#generations;
    await this.#write(policy, ++this.#variant);
    const answeredAt = performance.now();
    // Not looked for again and again: that would take the processor from those who are measured.
    if (this.#generations === before) {
      await new Promise<void>((resolve) => {
        this.#onGeneration = resolve;
      });
      this.#onGeneration = undefined;
    }
    return Math.max(0, this.#lastAt - answeredAt);
  }

  async #rate(policy: number, seconds: number): Promise<ApiRate> {
    const agent = this.#agent;
    // Alone: the agent sleeps, and what it misses meanwhile it takes in afterwards.
    agent?.kill('SIGSTOP');
    const alone = await this.#writeFor(policy, seconds / 3, undefined);
    agent?.kill('SIGCONT');
    await sleep(2_000);
    const wantedPerSecond = alone * 0.8;
    const perSecond = await this.#writeFor(policy, seconds, wantedPerSecond);
    const answeredAt = performance.now();
    // The last write is told from the others by what it leaves: nothing comes behind it.
    let quietSince = this.#lastAt;
    for (let look = 0; look < 50; look++) {
      await sleep(20);
      if (this.#lastAt !== quietSince) [look, quietSince] = [0, this.#lastAt];
    }
    return { alonePerSecond: alone, wantedPerSecond, perSecond, backlogMs: Math.max(0, quietSince - answeredAt) };
  }

  /** Writes one policy again and again; how often a second. @param perSecond undefined: as often as can be */
  async #writeFor(policy: number, seconds: number, perSecond: number | undefined): Promise<number> {
    const startedAt = performance.now();
    let written = 0;
    const write = async (): Promise<void> => {
      for (;;) {
        const elapsedMs = performance.now() - startedAt;
        if (elapsedMs > seconds * 1000) return;
        if (perSecond !== undefined && written >= (elapsedMs / 1000) * perSecond) {
          await sleep(1);
          continue;
        }
        written++;
        await this.#write(policy, ++this.#variant);
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, write));
    return written / ((performance.now() - startedAt) / 1000);
  }

  /** A hundred pods a second say that they are still running. */
  async #updateStatus(seconds: number): Promise<number> {
    const startedAt = performance.now();
    const pods = this.#synthetic.shape.pods;
    let updates = 0;
    while (performance.now() - startedAt < seconds * 1000) {
      if (updates >= ((performance.now() - startedAt) / 1000) * 100) {
        await sleep(1);
        continue;
      }
      const { name, namespace } = this.#synthetic.pod((updates * 7) % pods).metadata;
      const conditions = [
        { type: 'Ready', status: 'True', lastProbeTime: new Date(1e12 + updates * 1000).toISOString().replace('.000', '') },
      ];
      await this.#api.admin.call({
        method: 'PATCH',
        path: `/api/v1/namespaces/${namespace}/pods/${name}/status`,
        contentType: 'application/strategic-merge-patch+json',
        body: { status: { conditions } },
      });
      updates++;
    }
    return updates;
  }

  async #commits(): Promise<number> {
    const metrics = await (await fetch(METRICS)).text();
    return [...metrics.matchAll(/^sluice_commits_total\{[^}]*\} (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
  }

  async #cpuPercent(action: () => Promise<void>): Promise<number> {
    const startedAt = performance.now();
    const before = cpuTicks(this.#pid);
    await action();
    return ((cpuTicks(this.#pid) - before) / TICKS / ((performance.now() - startedAt) / 1000)) * 100;
  }
}

/** utime and stime of /proc/PID/stat. */
function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

export function medianStart(starts: readonly ApiStart[]): ApiStart {
  const of = (pick: (start: ApiStart) => number): number => median(starts.map(pick));
  return {
    totalMs: of(({ totalMs }) => totalMs),
    stallMs: of(({ stallMs }) => stallMs),
    residentBytes: of(({ residentBytes }) => residentBytes),
  };
}
