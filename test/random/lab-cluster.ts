/**
 * Random clusters for a lab whose machines stay the same: ten slots, each a real network namespace with its addresses on one of two
 * nodes. Which pod a slot is, is drawn: its namespace, labels and ports, whether another pod claims the same address, or has left
 * it, or whether no pod is known to have it at all. So every cluster is new, and no machine has to be made for it.
 *
 * A cluster follows from its seed alone, so that one that failed can be drawn again.
 */
import { stringify } from 'yaml';
import type { Family } from '../../src/policy/address.ts';
import {
  type ApiObject,
  ClusterGenerator,
  LABELS,
  NAMESPACE_LABELS,
  NAMESPACES,
  NODE_ADDRESSES,
  NODES,
  ORPHAN,
  OUTSIDE,
  POD_CIDRS,
  PORTS,
} from './cluster.ts';

/** A network namespace that is some pod, or nobody that is known. */
export interface Slot {
  /** `a2`: node and number of its address. */
  readonly name: string;
  readonly node: string;
  readonly host: number;
  readonly families: readonly Family[];
}

const BOTH: readonly Family[] = [4, 6];
const FAMILIES_OF_HOST: Readonly<Record<number, readonly Family[]>> = { 2: BOTH, 3: BOTH, 4: BOTH, 5: [4], 6: [6] };

export const SLOTS: readonly Slot[] = NODES.flatMap((node) =>
  Object.entries(FAMILIES_OF_HOST).map(([host, families]) => ({ name: `${node.at(-1)}${host}`, node, host: Number(host), families })),
);

export function slotAddress({ node, host }: Slot, family: Family): string {
  const [v4, v6] = POD_CIDRS[node] ?? ['', ''];
  return family === 4 ? v4.replace('0/24', String(host)) : v6.replace('/64', host.toString(16));
}

/** What {@link SLOTS} are in the lab: pods of a namespace `slot`. */
export const LAB_SPEC = {
  nodes: NODES.map((name) => ({ name, addresses: [...(NODE_ADDRESSES[name] ?? [])], podCIDRs: [...(POD_CIDRS[name] ?? [])] })),
  pods: SLOTS.map((slot) => ({
    namespace: 'slot',
    name: slot.name,
    node: slot.node,
    addresses: slot.families.map((family) => slotAddress(slot, family)),
    ports: [...PORTS],
  })),
  outside: { outside: [...OUTSIDE] },
  ports: [...PORTS],
};

/** Unique among a cluster's objects, and the name of its file. */
export function objectName({ kind, metadata: { namespace, name } }: ApiObject): string {
  return [kind.toLowerCase(), namespace, name].filter((part) => part !== undefined).join('.');
}

/** As a manifest. YAML 1.1 is what Kubernetes reads: there a namespace y has to be in quotes. */
export function manifestOf(object: ApiObject): string {
  return stringify(object, { version: '1.1' });
}

/** The objects of one cluster, and how it goes on. */
export class LabCluster {
  readonly #generator: ClusterGenerator;
  readonly #objects = new Map<string, ApiObject>();
  #policies = 0;

  constructor(seed: number) {
    this.#generator = new ClusterGenerator(seed);
    const { dice } = this.#generator;
    for (const node of this.#generator.nodes()) this.#put(node);
    for (const name of NAMESPACES) this.#put(this.#namespace(name));
    for (const slot of SLOTS) this.#fill(slot);
    for (const node of NODES) {
      // Their addresses are the node's: no packet shows which of them was meant.
      if (dice.chance(60)) this.#put(this.#generator.pod(dice.pick(NAMESPACES), `host-${node}`, node, 0, BOTH, { hostNetwork: true }));
    }
    const policies = dice.pick([2, 3, 4, 5, 6]);
    for (let count = 0; count < policies; count++) this.#put(this.#policy());
  }

  get objects(): readonly ApiObject[] {
    return [...this.#objects.values()];
  }

  /** One to three things change; with `only`, nothing but labels (row 38), or who there is (rows 33, 35, 40). Says what did. */
  change(only?: 'labels' | 'pods'): readonly string[] {
    const { dice } = this.#generator;
    return Array.from({ length: dice.pick([1, 1, 2, 3]) }, () => this.#change(only));
  }

  #put(object: ApiObject): string {
    const name = objectName(object);
    this.#objects.set(name, object);
    return name;
  }

  #namespace(name: string): ApiObject {
    const namespace = this.#generator.namespace(name);
    if (!this.#generator.dice.chance(15)) return namespace;
    const metadata = { ...namespace.metadata, deletionTimestamp: new Date(1_800_000_000_000).toISOString() };
    return { ...namespace, metadata, status: { phase: 'Terminating' } };
  }

  #anyNamespace(): string {
    return this.#generator.dice.pick([...NAMESPACES, ...NAMESPACES, ORPHAN]);
  }

  #pod(slot: Slot, name: string, terminal: boolean): ApiObject {
    return this.#generator.pod(this.#anyNamespace(), name, slot.node, slot.host, slot.families, { hostNetwork: false, terminal });
  }

  /** Who has the slot's addresses, and who claims them besides. */
  #fill(slot: Slot): void {
    const { dice } = this.#generator;
    if (dice.chance(6)) return;
    const earlier = dice.chance(12);
    if (earlier) this.#put(this.#pod(slot, `${slot.name}-before`, dice.chance(60)));
    const pod = this.#pod(slot, slot.name, dice.chance(4));
    this.#put(pod);
    if (!dice.chance(12)) return;
    const later = this.#pod(slot, `${slot.name}-after`, dice.chance(60));
    // As old as the other: then the smaller uid has it.
    const { creationTimestamp } = pod.metadata;
    this.#put(dice.chance(20) ? { ...later, metadata: { ...later.metadata, creationTimestamp } } : later);
  }

  #policy(): ApiObject {
    return this.#generator.policy(this.#anyNamespace(), `policy-${this.#policies++ % 8}`);
  }

  #change(only: 'labels' | 'pods' | undefined): string {
    const { dice } = this.#generator;
    const of = (kind: ApiObject['kind']): ApiObject[] => this.objects.filter((object) => object.kind === kind);
    const [pods, policies] = [of('Pod'), of('NetworkPolicy')];
    const what = only === 'labels' ? dice.roll(3) : only === 'pods' ? 5 + dice.roll(3) : dice.roll(11);
    if (what < 2 && pods.length > 0) {
      const pod = dice.pick(pods);
      return `relabel ${this.#put({ ...pod, metadata: { ...pod.metadata, labels: this.#generator.labels(LABELS) } })}`;
    }
    if (what === 2 || (what < 2 && pods.length === 0)) {
      const [namespace] = dice.some(of('Namespace'), 50);
      if (namespace === undefined) return 'nothing';
      const labels = this.#generator.labels(NAMESPACE_LABELS);
      return `relabel ${this.#put({ ...namespace, metadata: { ...namespace.metadata, labels } })}`;
    }
    switch (what) {
      case 3: {
        if (policies.length === 0) break;
        const name = objectName(dice.pick(policies));
        this.#objects.delete(name);
        return `delete ${name}`;
      }
      case 4: {
        if (policies.length === 0) break;
        const { namespace = '', name } = dice.pick(policies).metadata;
        return `change ${this.#put(this.#generator.policy(namespace, name))}`;
      }
      case 5: {
        // Ends, and its address may be somebody else's at once (row 33).
        const pod = dice.pick(pods);
        if (pod.metadata.name.startsWith('host-')) break;
        return `end ${this.#put({ ...pod, status: { ...(pod['status'] as object), phase: 'Succeeded' } })}`;
      }
      case 6: {
        const name = objectName(dice.pick(pods));
        this.#objects.delete(name);
        return `delete ${name}`;
      }
      case 7: {
        const slot = dice.pick(SLOTS);
        return `claim ${this.#put(this.#pod(slot, `${slot.name}-${dice.pick(['new', 'newer', 'newest'])}`, false))}`;
      }
      case 8: {
        const name = dice.pick(NAMESPACES);
        const namespace = this.objects.find((object) => object.kind === 'Namespace' && object.metadata.name === name);
        if (namespace === undefined) return `create ${this.#put(this.#namespace(name))}`;
        this.#objects.delete(objectName(namespace));
        return `delete ${objectName(namespace)}`;
      }
      case 9: {
        // The same pod, other ports.
        const pod = dice.pick(pods);
        const { spec } = this.#generator.pod('', '', '', 0, [], { hostNetwork: false, terminal: false }) as unknown as PodObject;
        const own = pod as unknown as PodObject;
        return `change ports of ${this.#put({ ...pod, spec: { ...own.spec, containers: spec.containers } })}`;
      }
    }
    return `create ${this.#put(this.#policy())}`;
  }
}

/** The fields of a generated pod that a change touches. */
interface PodObject {
  readonly spec: { readonly containers: unknown };
}
