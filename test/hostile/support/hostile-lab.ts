/**
 * A node with a tenant who means ill and a bystander: one real agent, with the memory that the manifests give it where a cgroup can be made, and the
 * bounds that the agent promises to keep whatever the tenant writes.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ApiServer } from '../../../src/lab/api/api-server.ts';
import type { LabProbe } from '../../../src/lab/lab.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { AgentLab, type AgentLabSpec } from '../../kernel/support/agent-lab.ts';
import type { AgentProcess } from '../../kernel/support/agent-process.ts';
import { eventually } from '../../kernel/support/eventually.ts';
import type { KubernetesObject } from '../../kernel/support/objects.ts';
import type { ApiObject } from '../../random/cluster.ts';
import { worldFrom } from '../../random/world.ts';
import { Bystander, VICTIM, victimPolicy } from './bystander.ts';
import { CGROUP_BYTES, HEALTH_MS, IN_FORCE_MS, RESIDENT_BYTES, SLOWEST_MS } from './hostile-size.ts';
import { MemoryCgroup } from './memory-cgroup.ts';

export const NODE = 'n1';
/** What hostile files are called. */
const HOSTILE = 'hostile-';
const LIST = 1_000;
/** Of fewer changes only the slowest is looked at. */
const MANY_CHANGES = 50;
const LIST_BYTES = 1_500_000;
const PODS = ['tenant/pod', 'tenant/other', 'victim/client', 'victim/server'] as const;
/** As bin/sluice.js has it in its first line. */
const NODE_OPTIONS = '--max-semi-space-size=2 --max-old-space-size=1536';

export interface HostileLabSpec extends Pick<AgentLabSpec, 'objects' | 'podLabels'> {
  readonly api?: ApiServer;
  readonly agentArgs?: readonly string[];
}

export interface StartOptions {
  readonly args?: readonly string[];
  /** Further options of Node. */
  readonly nodeOptions?: string;
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
  #files = 0;
  /** How long the agent that was started last took until everything was in force. */
  startMs = Number.NaN;

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
    await lab.begin();
    return lab;
  }

  get agent(): AgentProcess {
    return this.cluster.agent(NODE);
  }

  /**
   * The agent is killed, and the next one has everything in force when this resolves, and has been watched for some changes.
   *
   * @param fresh what the first has left in the kernel is gone, as when a node boots
   */
  async restart({ fresh = false } = {}): Promise<void> {
    await this.bystander.rest();
    await this.agent.end('SIGKILL');
    if (fresh) await this.cluster.lab.exec(`node/${NODE}`, ['nft', 'delete', 'table', 'inet', 'sluice']);
    const startedAt = performance.now();
    this.cluster.start(NODE, { args: this.#args, wrapper: wrapperOf(this.#cgroup) });
    const { pid } = this.agent;
    // Health is asked for from the moment that it can be: until then nobody listens.
    await this.agent.reaches((status) => status.pid === pid && status.enforcement !== null, 'has begun');
    this.#since = performance.timeOrigin + performance.now();
    await this.cluster.settled();
    this.startMs = performance.now() - startedAt;
    this.bystander.goOn();
    await this.changes(5);
  }

  /** Starts an agent where none runs, and does not wait. */
  startAgent({ args = [], nodeOptions = '' }: StartOptions): void {
    this.cluster.start(NODE, { args: [...this.#args, ...args], wrapper: wrapperOf(this.#cgroup, nodeOptions) });
  }

  /** Another agent in place of the one that runs, if one does. Resolves when the bystander's changes are in force, whatever the agent can tell of itself. */
  async restartWith({ fresh = false, ...options }: StartOptions & { readonly fresh?: boolean }): Promise<void> {
    await this.bystander.rest();
    await this.agent.end('SIGKILL');
    if (fresh) await this.cluster.lab.exec(`node/${NODE}`, ['nft', 'delete', 'table', 'inet', 'sluice']);
    this.startAgent(options);
    await this.begin();
  }

  /** What came before is not counted, of time and of memory; resolves when the bystander changes things. */
  async begin(): Promise<void> {
    this.bystander.goOn();
    writeFileSync(`/proc/${this.agent.pid}/clear_refs`, '5');
    const at = performance.timeOrigin + performance.now();
    await eventually(() => this.bystander.times('change', at).length > 0, 'the bystander changes something');
    this.#since = at;
  }

  /** The bystander rests, and everything is in force. */
  async quiet(): Promise<void> {
    await this.bystander.rest();
    await this.cluster.settled();
  }

  /** Writes objects into the directory, in Lists of at most a thousand that are no larger than one object of the API may be, and does not wait. */
  write(objects: readonly KubernetesObject[]): void {
    let items: string[] = [];
    let bytes = 0;
    const put = (): void => {
      if (items.length === 0) return;
      const file = join(this.cluster.directory, `${HOSTILE}${++this.#files}.json`);
      writeFileSync(`${file}.new`, `{"apiVersion":"v1","kind":"List","items":[${items.join(',')}]}`);
      renameSync(`${file}.new`, file);
      [items, bytes] = [[], 0];
    };
    for (const object of objects) {
      const text = JSON.stringify(object);
      if (items.length >= LIST || bytes + text.length > LIST_BYTES) put();
      items.push(text);
      bytes += text.length;
    }
    put();
  }

  /** Takes away what {@link write} has written, and does not wait. */
  erase(): void {
    for (const name of readdirSync(this.cluster.directory)) if (name.startsWith(HOSTILE)) rmSync(join(this.cluster.directory, name));
  }

  /** Resolves when the bystander has made so many changes since {@link begin}. */
  async changes(count: number, withinMs = 60_000): Promise<void> {
    await eventually(() => this.bystander.times('change', this.#since).length >= count, `${count} changes of the bystander`, { withinMs });
  }

  outcome(): Outcome {
    const changes = this.bystander.times('change', this.#since);
    const at = (share: number): number => changes[Math.ceil(changes.length * share) - 1] ?? Number.NaN;
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
    // Of a few changes the slowest is no hundredth.
    assert.ok(changes > 0 && (changes < MANY_CHANGES || p99Ms <= IN_FORCE_MS), `p99 of at most ${IN_FORCE_MS} ms: ${figures}`);
    assert.ok(slowestMs <= SLOWEST_MS, `none slower than ${SLOWEST_MS} ms: ${figures}`);
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

function wrapperOf(cgroup: MemoryCgroup | string | undefined, more = ''): readonly string[] {
  const options = ['env', `NODE_OPTIONS=${NODE_OPTIONS} ${more}`];
  return cgroup instanceof MemoryCgroup ? [...cgroup.wrapper, ...options] : options;
}
