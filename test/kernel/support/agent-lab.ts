/**
 * A lab whose nodes each run the real agent, all watching one directory of manifests, or an API server (`api`; what `write` and `erase`
 * do is then up to the test, and `apply` and `remove` go there).
 *
 *     const cluster = await AgentLab.create({ nodes: [{ name: 'n1' }], pods: [{ namespace: 'dev', name: 'web', node: 'n1' }] });
 *     await cluster.apply(policyObject('dev', 'deny', { ingress: [] }));         // written, and in force on every node
 *     await cluster.expect('denied', { from: 'node/n2', to: 'dev/web' });        // both families, TCP and UDP, port 80
 *     await cluster.remove(policyObject('dev', 'deny', {}));
 *     await cluster.close();
 *
 * It writes the objects of the lab's namespaces and pods by itself, before the agents start: label them with `podLabels` and
 * `namespaceLabels`. Agents start with `agentArgs`; `start`, `agent(node).end(signal)` and `start` again restart one.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Lab, type LabProbe, type LabSpec } from '../../../src/lab/lab.ts';
import type { Measured, ProbeProtocol } from '../../../src/lab/prober/protocol.ts';
import { type AgentSource, directorySource } from '../../../src/lab/agents.ts';
import { ApiObjects } from '../../../src/lab/api/api-objects.ts';
import type { ApiServer } from '../../../src/lab/api/api-server.ts';
import { objectId, type ScenarioObject } from '../../../src/lab/manifests.ts';
import { AgentProcess } from './agent-process.ts';
import { eventually } from './eventually.ts';
import { type KubernetesObject, type Labels, namespaceObject, podObject } from './objects.ts';

export interface AgentLabSpec extends LabSpec {
  readonly podLabels?: Readonly<Record<string, Labels>>;
  readonly namespaceLabels?: Readonly<Record<string, Labels>>;
  /** By node; a node without an entry gets none. */
  readonly agentArgs?: Readonly<Record<string, readonly string[]>>;
  /** Objects that are there before the agents start. */
  readonly objects?: readonly KubernetesObject[];
  /** False: the test starts agents itself. */
  readonly agents?: boolean;
  readonly api?: ApiServer;
  /** Of the agents, where it is not the API server's own. */
  readonly kubeconfig?: string;
}

export interface StartOptions {
  readonly args?: readonly string[];
  readonly wrapper?: readonly string[];
}

/** Probes of one meaning: both families, TCP and UDP, port 80, unless said otherwise. */
export interface Expectation {
  readonly from: string;
  readonly to: string;
  readonly port?: number;
  readonly protocols?: readonly ProbeProtocol[];
  readonly families?: readonly (4 | 6)[];
  /** Who has to answer. Default: `to`, where it is a name. */
  readonly answeredBy?: string;
}

export class AgentLab {
  readonly lab: Lab;
  /** What the agents watch. */
  readonly directory: string;
  readonly #root: string;
  readonly #args: Readonly<Record<string, readonly string[]>>;
  readonly #source: AgentSource;
  /** What is in the API server, by id. */
  readonly #inApi = new Map<string, ScenarioObject>();
  readonly #api: ApiObjects | undefined;
  readonly #agents = new Map<string, AgentProcess>();
  #starts = 0;

  private constructor(lab: Lab, root: string, { agentArgs = {}, api, kubeconfig }: AgentLabSpec) {
    this.lab = lab;
    this.#root = root;
    this.#args = agentArgs;
    this.directory = join(root, 'manifests');
    mkdirSync(this.directory);
    const objects = api === undefined ? undefined : new ApiObjects(api);
    this.#api = objects;
    this.#source =
      api === undefined || objects === undefined
        ? directorySource(this.directory)
        : { args: ['--kubeconfig', kubeconfig ?? api.kubeconfig('agent')], revision: () => objects.revision() };
  }

  static async create(spec: AgentLabSpec): Promise<AgentLab> {
    const { podLabels = {}, namespaceLabels = {}, objects = [], agents = true } = spec;
    const lab = await Lab.create(spec);
    const cluster = new AgentLab(lab, mkdtempSync(join(tmpdir(), 'sluice-test-')), spec);
    try {
      await spec.api?.connect(lab);
      const namespaces = new Set([...lab.pods.map((pod) => pod.namespace), ...Object.keys(namespaceLabels)]);
      await cluster.#put([
        ...[...namespaces].map((name) => namespaceObject(name, namespaceLabels[name])),
        ...lab.pods.map((pod) => podObject(pod, { labels: podLabels[pod.key] ?? {} })),
        ...objects,
      ]);
      if (agents) {
        for (const { name } of lab.nodes) cluster.start(name);
        await cluster.settled();
      }
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  /** Starts a node's agent; where one is there already, the new one is a second one beside it. */
  start(node: string, { args = [], wrapper }: StartOptions = {}): AgentProcess {
    const agent = new AgentProcess(this.lab, node, {
      source: this.#source.args,
      state: this.#root,
      name: `${node}-${++this.#starts}`,
      args: [...(this.#args[node] ?? []), ...args],
      ...(wrapper === undefined ? {} : { wrapper }),
    });
    this.#agents.set(node, agent);
    return agent;
  }

  /** The one of this node that was started last. */
  agent(node: string): AgentProcess {
    return this.#agents.get(node) ?? assert.fail(`node ${node} has no agent`);
  }

  // --- the directory

  #file({ kind, metadata }: KubernetesObject): string {
    return join(this.directory, `${kind}.${metadata.namespace ?? ''}.${metadata.name}.json`.toLowerCase());
  }

  /** Writes objects, a file each, and does not wait. */
  write(...objects: readonly KubernetesObject[]): void {
    for (const object of objects) {
      const file = this.#file(object);
      writeFileSync(`${file}.new`, JSON.stringify(object));
      renameSync(`${file}.new`, file);
    }
  }

  /** Deletes what an object with this kind and name was written to, and does not wait. */
  erase(...objects: readonly KubernetesObject[]): void {
    for (const object of objects) rmSync(this.#file(object));
  }

  /** Puts objects where agents look, and does not wait for these. */
  async #put(objects: readonly KubernetesObject[]): Promise<void> {
    if (this.#api === undefined) this.write(...objects);
    else await this.#change(objects, []);
  }

  async #change(changed: readonly KubernetesObject[], gone: readonly KubernetesObject[]): Promise<void> {
    const before = new Map(this.#inApi);
    for (const object of gone.map(asApplied)) this.#inApi.delete(object.id);
    for (const object of changed.map(asApplied)) this.#inApi.set(object.id, object);
    await this.#api?.replace(before, this.#inApi);
  }

  /** Writes objects; they are in force on every node when this resolves. */
  async apply(...objects: readonly KubernetesObject[]): Promise<void> {
    await this.#put(objects);
    await this.settled();
  }

  /** Deletes objects; nothing of them is in force when this resolves. */
  async remove(...objects: readonly KubernetesObject[]): Promise<void> {
    if (this.#api === undefined) this.erase(...objects);
    else await this.#change([], objects);
    await this.settled();
  }

  /** The same without waiting for any agent. */
  async change({
    apply = [],
    remove = [],
  }: {
    readonly apply?: readonly KubernetesObject[];
    readonly remove?: readonly KubernetesObject[];
  }) {
    if (this.#api !== undefined) return await this.#change(apply, remove);
    this.erase(...remove);
    this.write(...apply);
  }

  /** Waits until every agent that runs has in force what is there now. */
  async settled(nodes: readonly string[] = [...this.#agents.keys()]): Promise<void> {
    const revision = await this.#source.revision();
    await Promise.all(
      nodes
        .map((node) => this.agent(node))
        .filter((agent) => agent.running)
        .map((agent) => agent.reaches((status) => status.ready && status.revision === revision, `has revision ${revision} in force`)),
    );
  }

  // --- packets

  /** Makes all probes at once, and fails with those whose verdict is another one. */
  async expect(measured: Measured, ...expectations: readonly Expectation[]): Promise<void> {
    await this.expectAll(expectations.map((expectation) => [measured, expectation]));
  }

  /** The same with a verdict each, so that all wait at the same time. */
  async expectAll(expectations: readonly (readonly [Measured, Expectation])[]): Promise<void> {
    const probes = expectations.flatMap(([expected, { from, to, port = 80, protocols = ['TCP', 'UDP'] as const, families, answeredBy }]) =>
      (families ?? familiesOf(to)).flatMap((family) =>
        protocols.map((protocol): LabProbe & { readonly answeredBy: string | undefined } => ({
          from,
          to,
          port: protocol === 'ICMP' ? 0 : port,
          protocol,
          family,
          expected,
          answeredBy: protocol === 'ICMP' ? undefined : (answeredBy ?? (isAddress(to) ? undefined : to)),
        })),
      ),
    );
    const results = await this.lab.probe(probes);
    const wrong = probes.flatMap((probe, index) => {
      const result = results[index] ?? assert.fail('a probe without a result');
      const { answeredBy } = probe;
      const right =
        result.measured === probe.expected &&
        (result.measured === 'denied' || answeredBy === undefined || result.answeredBy === answeredBy);
      const said = `${result.measured} (${result.detail ?? result.answeredBy ?? 'echo'})`;
      return right
        ? []
        : [`${probe.from} -> ${probe.to} ${probe.protocol}/${probe.port} IPv${probe.family}: expected ${probe.expected}, ${said}`];
    });
    assert.deepEqual(wrong, []);
  }

  /** The table `inet sluice` of a node, as nft lists it; `handles`: with `# handle N` after each object. */
  async table(node: string, { handles = false } = {}): Promise<string> {
    const { stdout } = await this.lab.exec(`node/${node}`, ['nft', ...(handles ? ['-a'] : []), 'list', 'table', 'inet', 'sluice']);
    return stdout;
  }

  /** Packets that the last rule of a pod's chain has dropped. */
  dropped(direction: 'ingress' | 'egress', pod: string): Promise<number> {
    return this.#counted(direction, pod, 'drop');
  }

  /** Packets that the last rule of an audited pod's chain has let through. */
  letThrough(direction: 'ingress' | 'egress', pod: string): Promise<number> {
    return this.#counted(direction, pod, 'accept');
  }

  async #counted(direction: 'ingress' | 'egress', pod: string, verdict: 'drop' | 'accept'): Promise<number> {
    const { stdout } = await this.lab.exec(`node/${this.lab.pod(pod).node}`, [
      'nft',
      'list',
      'chain',
      'inet',
      'sluice',
      `${direction}/${pod}`,
    ]);
    const [, packets] = new RegExp(`counter packets (\\d+) bytes \\d+ ${verdict}\\n`).exec(stdout) ?? assert.fail(stdout);
    return Number(packets);
  }

  async close(): Promise<void> {
    await this.lab.close();
    await eventually(() => [...this.#agents.values()].every((agent) => !agent.running), 'all agents have ended');
    rmSync(this.#root, { recursive: true, force: true });
  }
}

/** What people would apply: the API says itself what it is called and how old it is. */
function asApplied({ kind, metadata, ...fields }: KubernetesObject): ScenarioObject {
  const { uid: _uid, creationTimestamp: _created, ...own } = metadata;
  const { name, namespace = '' } = metadata;
  const value = { kind, metadata: own, ...fields };
  const text = JSON.stringify(value);
  return { kind, namespace, name, id: objectId(kind, namespace, name), place: { file: 'test', line: 1 }, value, text };
}

function isAddress(text: string): boolean {
  return !text.includes('/') && /[.:]/.test(text);
}

function familiesOf(to: string): readonly (4 | 6)[] {
  return isAddress(to) ? [to.includes(':') ? 6 : 4] : [4, 6];
}
