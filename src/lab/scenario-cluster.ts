/**
 * A scenario's cluster while it runs: the objects in the directory that the agents watch, and a lab whose pods are those of the
 * directory. What an author left open is filled in as the components of a cluster would: a node for a pod that has none (scheduler),
 * addresses (CNI plugin), Node objects.
 *
 * A pod has a network exactly as long as it is the living owner of its addresses: phases Succeeded and Failed take it away, and so
 * does a newer pod with the same address.
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { project } from '../kubernetes/projections.ts';
import { Sharing } from '../kubernetes/sharing.ts';
import { type Address, formatAddress, formatPrefix } from '../policy/address.ts';
import type { Node, Pod } from '../policy/objects.ts';
import { type World, worldOf } from '../policy/world.ts';
import { type DirectoryContents, loadDirectory } from '../sources/load-directory.ts';
import { LabError } from './errors.ts';
import { Lab } from './lab.ts';
import { type ScenarioObject, manifestFiles, objectId, readObjects, scenarioError, withFields } from './manifests.ts';
import { type Scenario, type Step, deletedWith } from './scenario.ts';
import { DEFAULT_PORTS, type LabNode, type NodeSpec, type PodSpec, freeAddresses, resolveNode } from './topology.ts';

/** Somewhere else that the cluster's objects are to be, beside the directory. */
export interface Mirror {
  /** Brings it from the objects of before, by id, to those of now. */
  replace(before: ReadonlyMap<string, ScenarioObject>, after: ReadonlyMap<string, ScenarioObject>): Promise<void>;
}

/** What a step did to an object. */
export interface ObjectChange {
  readonly change: 'created' | 'configured' | 'deleted' | 'unchanged';
  readonly id: string;
}

export class ScenarioCluster {
  readonly lab: Lab;
  /** What the agents watch. */
  readonly directory: string;
  readonly #settings: Scenario['settings'];
  readonly #mirror: Mirror | undefined;
  readonly #objects: Map<string, ScenarioObject>;
  /** Pods that have a network, as they were given it. */
  readonly #wired = new Map<string, PodSpec>();
  #contents: DirectoryContents | undefined;
  #world: World | undefined;

  private constructor(
    lab: Lab,
    directory: string,
    settings: Scenario['settings'],
    objects: Map<string, ScenarioObject>,
    mirror: Mirror | undefined,
  ) {
    this.lab = lab;
    this.#mirror = mirror;
    this.directory = directory;
    this.#settings = settings;
    this.#objects = objects;
  }

  /**
   * Sets up the lab and fills the directory.
   *
   * @throws LabError what is wrong with an object, with its file and line; what {@link Lab.create} throws
   */
  static async create(scenario: Scenario, directory: string, mirror?: Mirror): Promise<ScenarioCluster> {
    const { settings, cluster } = scenario;
    const given = new Map(cluster.objects.map((object) => [object.id, object]));
    const { objects, nodes } = completeNodes(given, settings.nodes);
    completePods(objects, nodes, new Map());
    const pods = wantedPods(objects, settings.probe.ports);
    const lab = await Lab.create({
      nodes: nodes.map(nodeSpec),
      pods: [...pods.values()],
      ...(settings.outside === undefined ? {} : { outside: settings.outside }),
      ...(settings.probe.ports === undefined ? {} : { ports: settings.probe.ports }),
    });
    const running = new ScenarioCluster(lab, directory, settings, objects, mirror);
    for (const [key, spec] of pods) running.#wired.set(key, spec);
    try {
      mkdirSync(directory, { recursive: true });
      for (const object of objects.values()) running.#write(object);
      await mirror?.replace(new Map(), objects);
      await running.#load();
      return running;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** Everything that the directory says, as the agents read it. */
  get contents(): DirectoryContents {
    if (this.#contents === undefined) throw new Error('the directory has not been read');
    return this.#contents;
  }

  get world(): World {
    if (this.#world === undefined) throw new Error('the directory has not been read');
    return this.#world;
  }

  async #load(): Promise<void> {
    this.#contents = await loadDirectory(this.directory);
    this.#world = worldOf(this.#contents);
  }

  /** Deletes and applies what a step says; resolves when the directory and the lab's pods are as it wants them. */
  async apply(step: Step): Promise<readonly ObjectChange[]> {
    const before = new Map(this.#objects);
    for (const { id } of step.deletions) {
      for (const gone of deletedWith(id, this.#objects.values())) this.#objects.delete(gone);
    }
    for (const object of step.objects) this.#objects.set(object.id, object);
    completePods(this.#objects, this.lab.nodes, before);
    await this.#wire();
    for (const [id, object] of before) if (!this.#objects.has(id)) rmSync(this.#file(object));
    for (const [id, object] of this.#objects) if (before.get(id)?.text !== object.text) this.#write(object);
    await this.#mirror?.replace(before, this.#objects);
    await this.#load();
    return this.#changes(before, step);
  }

  #changes(before: ReadonlyMap<string, ScenarioObject>, step: Step): readonly ObjectChange[] {
    const deleted = [...before.keys()].filter((id) => !this.#objects.has(id)).map((id): ObjectChange => ({ change: 'deleted', id }));
    const applied = step.objects.map(({ id }): ObjectChange => {
      const known = before.get(id);
      if (known === undefined) return { change: 'created', id };
      return { change: isDeepStrictEqual(known.value, this.#objects.get(id)?.value) ? 'unchanged' : 'configured', id };
    });
    return [...deleted, ...applied];
  }

  /**
   * Takes over what somebody wrote into the directory: fills in what is left open, and gives pods their network or takes it.
   * False: nothing differs from what was known.
   *
   * @throws LabError where a file cannot be read; everything is left as it was
   */
  async adopt(): Promise<boolean> {
    const objects = new Map(
      manifestFiles(this.directory).flatMap((file) => readObjects(file).map((object) => [object.id, object] as const)),
    );
    if (sameTexts(objects, this.#objects)) return false;
    const written = new Map(objects);
    const before = new Map(this.#objects);
    for (const node of this.#nodeObjects()) if (!objects.has(node.id)) objects.set(node.id, node);
    completePods(objects, this.lab.nodes, this.#objects);
    this.#objects.clear();
    for (const [id, object] of objects) this.#objects.set(id, object);
    await this.#wire();
    // A file with an object that was filled in is replaced as a whole, by a file for each of its objects.
    const replaced = new Set<string>();
    for (const [id, object] of objects) {
      const was = written.get(id);
      if (was === undefined) this.#write(object);
      else if (was.text !== object.text) replaced.add(was.place.file);
    }
    for (const file of replaced) rmSync(file, { force: true });
    for (const object of objects.values()) if (replaced.has(object.place.file)) this.#write(object);
    await this.#mirror?.replace(before, this.#objects);
    await this.#load();
    return true;
  }

  #nodeObjects(): readonly ScenarioObject[] {
    return [...this.#objects.values()].filter((object) => object.kind === 'Node');
  }

  /** Makes the lab's pods those that the objects want. */
  async #wire(): Promise<void> {
    const wanted = wantedPods(this.#objects, this.#settings.probe.ports);
    for (const [key, spec] of this.#wired) {
      if (isDeepStrictEqual(wanted.get(key), spec)) continue;
      await this.lab.removePod(key);
      this.#wired.delete(key);
    }
    for (const [key, spec] of wanted) {
      if (this.#wired.has(key)) continue;
      try {
        await this.lab.addPod(spec);
      } catch (error) {
        const object = this.#objects.get(objectId('Pod', spec.namespace, spec.name));
        if (object === undefined || !(error instanceof LabError)) throw error;
        throw scenarioError(error.code, object.place, error.message);
      }
      this.#wired.set(key, spec);
    }
  }

  #file({ kind, namespace, name }: ScenarioObject): string {
    return join(this.directory, namespace, `${kind.toLowerCase()}-${name}.yaml`);
  }

  #write(object: ScenarioObject): void {
    const file = this.#file(object);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, object.text);
  }

  async close(): Promise<void> {
    await this.lab.close();
    for (const entry of readdirSync(this.directory)) rmSync(join(this.directory, entry), { recursive: true });
  }
}

function sameTexts(a: ReadonlyMap<string, ScenarioObject>, b: ReadonlyMap<string, ScenarioObject>): boolean {
  return a.size === b.size && [...a].every(([id, { text }]) => b.get(id)?.text.trim() === text.trim());
}

/** @throws LabError `SCENARIO_OBJECT` where the object has no shape that anybody could use */
function projected<Kind extends 'Pod' | 'Node'>(kind: Kind, object: ScenarioObject): Kind extends 'Pod' ? Pod : Node {
  const { object: result, problems } = project(kind, object.value, new Sharing());
  if (result !== undefined) return result as Kind extends 'Pod' ? Pod : Node;
  const [problem] = problems;
  throw scenarioError('SCENARIO_OBJECT', object.place, `${object.id}: ${problem?.path ?? ''}: ${problem?.message ?? 'cannot be read'}`);
}

/** Node objects with addresses and podCIDRs; made where there are none. */
function completeNodes(
  given: ReadonlyMap<string, ScenarioObject>,
  names: readonly string[] | undefined,
): { readonly objects: Map<string, ScenarioObject>; readonly nodes: readonly LabNode[] } {
  const objects = new Map(given);
  if (![...given.values()].some((object) => object.kind === 'Node')) {
    const used = [...given.values()].filter((object) => object.kind === 'Pod').map((object) => projected('Pod', object).node);
    for (const name of names ?? [...new Set(used.filter((name) => name !== ''))].toSorted()) {
      const node = bareNode(name);
      objects.set(node.id, node);
    }
    if (objects.size === given.size) for (const name of ['node-a', 'node-b']) objects.set(`Node ${name}`, bareNode(name));
  }
  const nodes: LabNode[] = [];
  for (const object of [...objects.values()].filter((each) => each.kind === 'Node')) {
    const node = projected('Node', object);
    let resolved: LabNode;
    try {
      resolved = resolveNode(
        {
          name: node.name,
          ...(node.addresses.length === 0 ? {} : { addresses: node.addresses.map(formatAddress) }),
          ...(node.podCIDRs.length === 0 ? {} : { podCIDRs: node.podCIDRs.map(formatPrefix) }),
        },
        nodes.length,
        '',
      );
    } catch (error) {
      throw error instanceof LabError ? scenarioError(error.code, object.place, error.message) : error;
    }
    nodes.push(resolved);
    objects.set(
      object.id,
      withFields(object, [
        ...(node.podCIDRs.length > 0
          ? []
          : [
              [['spec', 'podCIDR'], resolved.podCIDRs.map(formatPrefix)[0]] as const,
              [['spec', 'podCIDRs'], resolved.podCIDRs.map(formatPrefix)] as const,
            ]),
        ...(node.addresses.length > 0
          ? []
          : [
              [
                ['status', 'addresses'],
                resolved.addresses.map((address) => ({ type: 'InternalIP', address: formatAddress(address) })),
              ] as const,
            ]),
      ]),
    );
  }
  return { objects, nodes };
}

function bareNode(name: string): ScenarioObject {
  const text = `apiVersion: v1\nkind: Node\nmetadata:\n  name: ${name}\n`;
  const [node] = readObjects('scenario.yaml', text);
  // The text is one Node.
  if (node === undefined) throw new Error(text);
  return node;
}

function nodeSpec({ name, addresses, podCIDRs }: LabNode): NodeSpec {
  return { name, addresses: addresses.map(formatAddress), podCIDRs: podCIDRs.map(formatPrefix) };
}

/** Gives pods a node and addresses where they have none, in place. A pod that is applied anew keeps what it had. */
function completePods(objects: Map<string, ScenarioObject>, nodes: readonly LabNode[], before: ReadonlyMap<string, ScenarioObject>): void {
  const pods = [...objects.values()].filter((object) => object.kind === 'Pod').map((object) => ({ object, pod: projected('Pod', object) }));
  const taken = new Set<Address>(pods.flatMap(({ pod }) => (pod.hostNetwork ? [] : pod.addresses)));
  const load = new Map(nodes.map((node) => [node.name, pods.filter(({ pod }) => pod.node === node.name).length]));
  for (const { object, pod } of pods) {
    const known = before.get(object.id);
    const was = known === undefined ? undefined : projected('Pod', known);
    const name = pod.node || was?.node || (nodes.toSorted((a, b) => (load.get(a.name) ?? 0) - (load.get(b.name) ?? 0))[0]?.name ?? '');
    const node = nodes.find((each) => each.name === name);
    if (node === undefined) {
      throw scenarioError(
        'SCENARIO_OBJECT',
        object.place,
        `${object.id}: spec.nodeName: there is no node ${name}`,
        `Nodes are: ${nodes.map((each) => each.name).join(', ')}`,
      );
    }
    load.set(name, (load.get(name) ?? 0) + 1);
    let { addresses } = pod;
    if (addresses.length === 0) {
      if (pod.hostNetwork) ({ addresses } = node);
      else if (was !== undefined && was.addresses.length > 0 && was.node === name && !was.hostNetwork) ({ addresses } = was);
      else addresses = freeAddresses(node, taken);
      if (!pod.hostNetwork) for (const address of addresses) taken.add(address);
    }
    const texts = addresses.map(formatAddress);
    objects.set(
      object.id,
      withFields(object, [
        ...(pod.node === '' ? [[['spec', 'nodeName'], name] as const] : []),
        ...(pod.addresses.length > 0
          ? []
          : [[['status', 'podIP'], texts[0]] as const, [['status', 'podIPs'], texts.map((ip) => ({ ip }))] as const]),
      ]),
    );
  }
}

/** Pods that have a network, by key: living ones that own all of their addresses. */
function wantedPods(objects: ReadonlyMap<string, ScenarioObject>, ports: readonly number[] | undefined): Map<string, PodSpec> {
  const pods = [...objects.values()].filter((object) => object.kind === 'Pod').map((object) => projected('Pod', object));
  const world = worldOf({ pods });
  const wanted = new Map<string, PodSpec>();
  for (const pod of pods) {
    const owns = pod.hostNetwork || pod.addresses.every((address) => world.podAt(address) === pod);
    if (pod.terminal || !owns) continue;
    const declared = [...new Set(pod.declaredPorts.map(({ port }) => port))];
    wanted.set(`${pod.namespace}/${pod.name}`, {
      namespace: pod.namespace,
      name: pod.name,
      node: pod.node,
      addresses: pod.addresses.map(formatAddress),
      hostNetwork: pod.hostNetwork,
      ports: ports ?? (declared.length > 0 ? declared : DEFAULT_PORTS),
    });
  }
  return wanted;
}
