/**
 * What the evaluator asks of a cluster. The incremental store answers it from its indexes; {@link worldOf} answers it by
 * looking at everything, and is what the store is tested against.
 */
import { type Address, prefixRange } from './address.ts';
import type { Direction, Namespace, Node, Pod, Policy } from './objects.ts';
import { addressAfter } from './ranges.ts';
import { BUDGETS, type Budgets, withinPodBudget } from './budget.ts';
import type { Labels } from './labels.ts';
import { withinNamespaceBudgets } from './namespace-budget.ts';
import { matches } from './selector.ts';

export interface World {
  /** The pod that an address belongs to: of those that claim it the newest that lives; never a hostNetwork or terminal pod (rows 29, 33, 40). */
  podAt(address: Address): Pod | undefined;
  /** The node that an address is local to: its own addresses, and the first two of each podCIDR (overlay device and bridge; row 28). */
  nodeAt(address: Address): Node | undefined;
  /** A namespace without an object has only its kubernetes.io/metadata.name label. */
  namespaceLabels(namespace: string): Labels;
  /**
   * The policies that isolate this pod in this direction, ordered by name: those that the budgets of the pod and its namespace have room for
   * (budget.ts). Empty for pods that no policy selects.
   */
  isolating(pod: Pod, direction: Direction): readonly Policy[];
  /** Those that isolate it too, and admit nothing, because the pod's budget has no room for them; ordered by name. */
  leftOut(pod: Pod, direction: Direction): readonly Policy[];
}

/** A cluster's objects, in whatever order. Of objects of one name the last counts, as the last event does. */
export interface Objects {
  readonly pods?: Iterable<Pod>;
  readonly namespaces?: Iterable<Namespace>;
  readonly nodes?: Iterable<Node>;
  readonly policies?: Iterable<Policy>;
}

/** Set by the API on every namespace, with its name. */
export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name';

/** What namespaces without an object are taken to have. */
export function defaultNamespaceLabels(namespace: string): Labels {
  return new Map([[NAMESPACE_NAME_LABEL, namespace]]);
}

/**
 * Whether a pod's addresses are its own: not a hostNetwork pod's, which are its node's (row 29), nor those of one that has ended
 * (row 33). The same pods are subject and peer of no policy. A terminating pod still is (row 34).
 */
export function ownsAddresses(pod: Pod): boolean {
  return !pod.hostNetwork && !pod.terminal;
}

/**
 * Sorts pods that claim one address: the first is the one that it belongs to (rows 33, 40). The newest comes first; of two as
 * old the one with the smaller uid, then with the smaller `namespace/name`, so that the order of events makes no difference.
 * Pods that own no address ({@link ownsAddresses}) come last, and never own it.
 */
export function newerClaim(a: Pod, b: Pod): number {
  return (
    Number(ownsAddresses(b)) - Number(ownsAddresses(a)) ||
    b.createdAt - a.createdAt ||
    compareText(a.uid, b.uid) ||
    compareText(keyOf(a), keyOf(b))
  );
}

/** Whether a policy isolates a pod in a direction: whether the pod is ready, or even has an address, is not asked (row 35). */
export function isolates(policy: Policy, pod: Pod, direction: Direction): boolean {
  return policy[direction] !== undefined && policy.namespace === pod.namespace && ownsAddresses(pod) && matches(policy.subject, pod.labels);
}

/** What is local to a node: its own addresses, and the first two of each podCIDR (flannel's overlay device has the first, the bridge the second). */
export function localAddresses(node: Node): Address[] {
  const devices = node.podCIDRs.flatMap((cidr) => {
    const { first, last } = prefixRange(cidr);
    return first === last ? [first] : [first, addressAfter(first)];
  });
  return [...node.addresses, ...devices];
}

/**
 * The world that these objects make up, by looking at everything. Objects do not change under it; a new state is a new world.
 * An address that two nodes claim belongs to the first by name.
 */
export function worldOf(objects: Objects, budgets: Budgets = BUDGETS): World {
  const pods = new Map([...(objects.pods ?? [])].map((pod) => [keyOf(pod), pod]));
  const namespaces = new Map([...(objects.namespaces ?? [])].map((namespace) => [namespace.name, namespace.labels]));
  const nodes = new Map([...(objects.nodes ?? [])].map((node) => [node.name, node]));
  const policies = new Map([...(objects.policies ?? [])].map((policy) => [keyOf(policy), policy]));

  const podOf = new Map<Address, Pod>();
  for (const pod of [...pods.values()].filter(ownsAddresses).sort(newerClaim)) {
    for (const address of pod.addresses) if (!podOf.has(address)) podOf.set(address, pod);
  }
  const nodeOf = new Map<Address, Node>();
  for (const node of [...nodes.values()].sort(byName)) {
    for (const address of localAddresses(node)) if (!nodeOf.has(address)) nodeOf.set(address, node);
  }
  const sorted = withinNamespaceBudgets([...policies.values()], budgets.namespace.entries).toSorted(byName);
  const remembered = { ingress: new Map<Pod, Policy[]>(), egress: new Map<Pod, Policy[]>() };

  const isolating = (pod: Pod, direction: Direction): readonly Policy[] => {
    let found = remembered[direction].get(pod);
    if (found === undefined) {
      found = sorted.filter((policy) => isolates(policy, pod, direction));
      remembered[direction].set(pod, found);
    }
    return found;
  };
  const carried = { ingress: new Map<readonly Policy[], readonly Policy[]>(), egress: new Map<readonly Policy[], readonly Policy[]>() };
  return {
    podAt: (address) => podOf.get(address),
    nodeAt: (address) => nodeOf.get(address),
    namespaceLabels: (namespace) => namespaces.get(namespace) ?? defaultNamespaceLabels(namespace),
    isolating: (pod, direction) => {
      const all = isolating(pod, direction);
      let found = carried[direction].get(all);
      if (found === undefined) carried[direction].set(all, (found = withinPodBudget(all, direction, budgets.pod)));
      return found;
    },
    leftOut: (pod, direction) => {
      const all = isolating(pod, direction);
      return all.slice(withinPodBudget(all, direction, budgets.pod).length);
    },
  };
}

/** `namespace/name`. */
function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return compareText(a.name, b.name);
}

/** By code units, the same everywhere, unlike localeCompare. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
