/**
 * A node with a tenant who means ill and a bystander: one real agent, with the memory that the manifests give it where a cgroup can be made, and the
 * bounds that the agent promises to keep whatever the tenant writes.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { ApiServer } from '../../../src/lab/api/api-server.ts';
import type { LabProbe } from '../../../src/lab/lab.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { AgentLab, type AgentLabSpec } from '../../kernel/support/agent-lab.ts';
import type { AgentProcess } from '../../kernel/support/agent-process.ts';
import { eventually } from '../../kernel/support/eventually.ts';
import type { ApiObject } from '../../random/cluster.ts';
import { worldFrom } from '../../random/world.ts';
import { Bystander, VICTIM, victimPolicy } from './bystander.ts';
import { CGROUP_BYTES, HEALTH_MS, IN_FORCE_MS, RESIDENT_BYTES } from './hostile-size.ts';
import { MemoryCgroup } from './memory-cgroup.ts';

export const NODE = 'n1';
const PODS = ['tenant/pod', 'tenant/other', 'victim/client', 'victim/server'] as const;
/** As bin/sluice.js has it in its first line. */
const NODE_OPTIONS = '--max-semi-space-size=2 --max-old-space-size=1536';

export interface HostileLabSpec extends Pick<AgentLabSpec, 'objects' | 'podLabels'> {
  readonly api?: ApiServer;
  readonly agentArgs?: readonly string[];
}

/** What became of the bystander and the agent. */
export interface Outcome {
  readonly changes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly slowestMs: number;
  readonly healthMs: number;
  readonly residentBytes: number;
}

export class HostileLab {
  readonly cluster: AgentLab;
  readonly bystander: Bystander;
  readonly #cgroup: MemoryCgroup | undefined;
  readonly #args: readonly string[];
  /** Undefined: there is one. */
  readonly withoutCgroup: string | undefined;
  #since = 0;

  private constructor(cluster: AgentLab, cgroup: MemoryCgroup | string, bystander: Bystander, args: readonly string[]) {
    this.cluster = cluster;
    this.bystander = bystander;
    this.#args = args;
    this.#cgroup = typeof cgroup === 'string' ? undefined : cgroup;
    this.withoutCgroup = typeof cgroup === 'string' ? cgroup : undefined;
  }

  static async create({ api, agentArgs = [], podLabels = {}, objects = [] }: HostileLabSpec): Promise<HostileLab> {
    const cluster = await AgentLab.create({
      nodes: [{ name: NODE }],
      pods: PODS.map((key) => {
        const [namespace = '', name = ''] = key.split('/');
        return { namespace, name, node: NODE };
      }),
      podLabels: {
        'tenant/pod': { app: 'pod' },
        'tenant/other': { app: 'other' },
        'victim/client': { app: 'client' },
        'victim/server': { app: VICTIM.label },
        ...podLabels,
      },
      objects: [victimPolicy(1), ...objects],
      agents: false,
      ...(api === undefined ? {} : { api }),
    });
    const cgroup = MemoryCgroup.create(CGROUP_BYTES);
    const wrapper = wrapperOf(cgroup);
    cluster.start(NODE, { args: agentArgs, wrapper });
    await cluster.settled();
    const source = api === undefined ? { directory: cluster.directory } : { kubeconfig: api.kubeconfig('admin') };
    const lab = new HostileLab(cluster, cgroup, new Bystander(cluster.lab, NODE, source), agentArgs);
    await eventually(() => lab.bystander.times('change').length > 0, 'the bystander has changed something');
    lab.begin();
    return lab;
  }

  get agent(): AgentProcess {
    return this.cluster.agent(NODE);
  }

  /** The agent is killed, and the next one has everything in force when this resolves. */
  async restart(): Promise<void> {
    await this.bystander.rest();
    await this.agent.end('SIGKILL');
    this.cluster.start(NODE, { args: this.#args, wrapper: wrapperOf(this.#cgroup) });
    await this.cluster.settled();
    this.bystander.goOn();
  }

  /** What came before is not counted. */
  begin(): void {
    this.#since = performance.timeOrigin + performance.now();
  }

  /** Resolves when the bystander has made so many changes since {@link begin}. */
  async changes(count: number, withinMs = 60_000): Promise<void> {
    await eventually(() => this.bystander.times('change', this.#since).length >= count, `${count} changes of the bystander`, { withinMs });
  }

  outcome(): Outcome {
    const changes = this.bystander.times('change', this.#since);
    const at = (share: number): number => changes[Math.min(changes.length - 1, Math.floor(changes.length * share))] ?? Number.NaN;
    const status = readFileSync(`/proc/${this.agent.pid}/status`, 'utf8');
    const [, peak] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? assert.fail('the agent has no memory');
    return {
      changes: changes.length,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      slowestMs: changes.at(-1) ?? Number.NaN,
      healthMs: this.bystander.times('health', this.#since).at(-1) ?? Number.NaN,
      residentBytes: Number(peak) * 1024,
    };
  }

  /** The rule: what one object costs, one object pays. @returns the figures, for whoever reads of the test */
  assertUnharmed(): string {
    const { changes, p50Ms, p99Ms, slowestMs, healthMs, residentBytes } = this.outcome();
    const figures = `${changes} changes of the bystander in force after ${Math.round(p50Ms)} ms, p99 ${Math.round(p99Ms)} ms, the slowest ${Math.round(slowestMs)} ms; health after ${Math.round(healthMs)} ms at most; ${Math.round(residentBytes / 1e6)} MB at the peak`;
    assert.ok(this.agent.running, 'the agent has ended');
    assert.equal(this.#cgroup?.ended ?? 0, 0, 'the kernel has ended a process of the cgroup for want of memory');
    assert.ok(changes > 0 && p99Ms <= IN_FORCE_MS, `p99 of at most ${IN_FORCE_MS} ms: ${figures}`);
    assert.ok(healthMs <= HEALTH_MS, `health within ${HEALTH_MS} ms: ${figures}`);
    assert.ok(residentBytes < RESIDENT_BYTES, `less than ${RESIDENT_BYTES / 1e6} MB: ${figures}`);
    return figures;
  }

  /** Every pod to every other: packets go where the evaluator says, of these objects. */
  async expectAsEvaluated(objects: readonly ApiObject[]): Promise<void> {
    const world = worldFrom(objects);
    const probes = PODS.flatMap((from) =>
      PODS.filter((to) => to !== from).flatMap((to) =>
        ([4, 6] as const).flatMap((family) =>
          (['TCP', 'UDP'] as const).flatMap((protocol) =>
            [80, 81].map((port): LabProbe => {
              const of = (key: string) =>
                this.cluster.lab.pod(key).addresses[family === 4 ? 0 : 1] ?? assert.fail(`${key} has no IPv${family}`);
              const { allowed } = evaluate(world, { source: of(from), destination: of(to), protocol, port });
              return { from, to, family, protocol, port, expected: allowed ? 'allowed' : 'denied' };
            }),
          ),
        ),
      ),
    );
    const results = await this.cluster.lab.probe(probes);
    const wrong = probes.flatMap(({ from, to, family, protocol, port, expected }, index) => {
      const { measured } = results[index] ?? assert.fail('a probe without a result');
      return measured === expected
        ? []
        : [`${from} -> ${to} ${protocol}/${port} IPv${family}: evaluated ${expected}, measured ${measured}`];
    });
    assert.deepEqual(wrong, []);
  }

  async close(): Promise<void> {
    await this.bystander.end();
    await this.cluster.close();
    this.#cgroup?.remove();
  }
}

function wrapperOf(cgroup: MemoryCgroup | string | undefined): readonly string[] {
  const options = ['env', `NODE_OPTIONS=${NODE_OPTIONS}`];
  return cgroup instanceof MemoryCgroup ? [...cgroup.wrapper, ...options] : options;
}
