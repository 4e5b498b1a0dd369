/**
 * What the evaluator asks of a cluster. The incremental store answers it from its indexes; {@link worldOf} answers it by
 * looking at everything, and is what the store is tested against.
 */
import { type Address, familyOf, type Prefix, prefixRange } from './address.ts';
import type { Direction, Namespace, Node, Pod, Policy } from './objects.ts';
import { addressAfter, contains } from './ranges.ts';
import { BUDGETS, type Budgets, closed, withinPodBudget } from './budget.ts';
import type { Labels } from './labels.ts';
import { withinNamespaceBudgets } from './namespace-budget.ts';
import { selects } from './selector.ts';

export interface World {
  /** The pod that an address belongs to: of those that claim it the one that can have it (rows 29, 33, 40). */
  podAt(address: Address): Pod | undefined;
  /** The node that an address is local to: its own addresses, and the first two of each podCIDR (overlay device and bridge; row 28). */
  nodeAt(address: Address): Node | undefined;
  /** A namespace without an object has only its kubernetes.io/metadata.name label. */
  namespaceLabels(namespace: string): Labels;
  /**
   * The policies that isolate this pod in this direction, ordered by name: those that the budgets of the pod and its namespace have room for
   * (budget.ts), and what the isolation of pods of its node comes to that claim one of its addresses as well ({@link togetherWith}). Empty for
   * pods that no policy selects.
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
  /** See {@link Claims}. */
  readonly node?: string | undefined;
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

/** What tells who can have an address. */
export interface Claims {
  /** The node whose rules are made; undefined: none in particular. */
  readonly node: string | undefined;
  nodeOf(name: string): Node | undefined;
}

/**
 * Sorts pods that claim one address: the first is the one that it belongs to (row 40). A pod of this node comes before any other: only this node
 * enforces its policies, and no claim from elsewhere may lift them. Then comes one that is within the podCIDRs of its node, which is where
 * packets for the address are sent; then one that has a node at all. When a pod was made says least: of those that are left the newest comes
 * first, of two as old the one with the smaller uid, then with the smaller `namespace/name`, so that the order of events makes no difference.
 * Pods that own no address ({@link ownsAddresses}) come last, and never own it.
 */
export function betterClaim(address: Address, a: Pod, b: Pod, claims: Claims): number {
  const first = (holds: (pod: Pod) => boolean): number => Number(holds(b)) - Number(holds(a));
  return (
    first(ownsAddresses) ||
    first(({ node }) => node !== '' && node === claims.node) ||
    first(({ node }) => isWithin(address, claims.nodeOf(node)?.podCIDRs ?? [])) ||
    first(({ node }) => node !== '') ||
    b.createdAt - a.createdAt ||
    compareText(a.uid, b.uid) ||
    compareText(keyOf(a), keyOf(b))
  );
}

function isWithin(address: Address, prefixes: readonly Prefix[]): boolean {
  return prefixes.some((prefix) => familyOf(prefix.address) === familyOf(address) && contains([prefixRange(prefix)], address));
}

/**
 * What isolates a pod that claims an address that others on its node claim too: nobody can tell whose a packet is, so the isolation of each of
 * them holds (row 40). Where the others that are isolated are so by the same policies as this one, those decide; else what one of them admits is not
 * admitted by another, for all that anybody knows, and nothing is.
 *
 * @param own policies that isolate the pod itself
 * @param rivals of each of the others those that isolate it
 */
export function togetherWith(own: readonly Policy[], rivals: Iterable<readonly Policy[]>): readonly Policy[] {
  const lists = [...rivals].filter(({ length }) => length > 0);
  if (lists.every((list) => isSameList(list, own))) return own;
  return [...new Set([...own, ...lists.flat()])]
    .toSorted((a, b) => compareText(keyOf(a), keyOf(b)))
    .map((policy) => closed(policy, DISPUTED));
}

/** Whether several pods claim an address, and different policies isolate them. @param isolating of one of them, as {@link World} says */
export function isDisputed(isolating: readonly Policy[]): boolean {
  return isolating[0]?.problems[0]?.code === DISPUTED.code;
}

const DISPUTED = {
  code: 'ADDRESS_DISPUTED',
  reason: 'several pods of this node claim one address, and different policies isolate them',
} as const;

function isSameList(a: readonly Policy[], b: readonly Policy[]): boolean {
  return a.length === b.length && a.every((policy, index) => policy === b[index]);
}

/** Whether a policy isolates a pod in a direction: whether the pod is ready, or even has an address, is not asked (row 35). */
export function isolates(policy: Policy, pod: Pod, direction: Direction): boolean {
  return policy[direction] !== undefined && policy.namespace === pod.namespace && ownsAddresses(pod) && selects(policy.subject, pod.labels);
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

  const claimants = new Map<Address, Pod[]>();
  for (const pod of pods.values()) {
    if (!ownsAddresses(pod)) continue;
    for (const address of pod.addresses) {
      const known = claimants.get(address);
      if (known === undefined) claimants.set(address, [pod]);
      else known.push(pod);
    }
  }
  const claims: Claims = { node: objects.node, nodeOf: (name) => nodes.get(name) };
  for (const [address, list] of claimants) if (list.length > 1) list.sort((a, b) => betterClaim(address, a, b, claims));
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
  const carriedBy = (pod: Pod, direction: Direction): readonly Policy[] => {
    const all = isolating(pod, direction);
    let found = carried[direction].get(all);
    if (found === undefined) carried[direction].set(all, (found = withinPodBudget(all, direction, budgets.pod)));
    return found;
  };
  const rivalsOf = (pod: Pod): Set<Pod> => {
    const rivals = new Set<Pod>();
    if (pod.node === '' || !ownsAddresses(pod)) return rivals;
    for (const address of pod.addresses) {
      const claiming = claimants.get(address) ?? [];
      if (claiming.length > 1) for (const other of claiming) if (other.node === pod.node && keyOf(other) !== keyOf(pod)) rivals.add(other);
    }
    return rivals;
  };
  return {
    podAt: (address) => claimants.get(address)?.[0],
    nodeAt: (address) => nodeOf.get(address),
    namespaceLabels: (namespace) => namespaces.get(namespace) ?? defaultNamespaceLabels(namespace),
    isolating: (pod, direction) => {
      const own = carriedBy(pod, direction);
      const rivals = rivalsOf(pod);
      return rivals.size === 0
        ? own
        : togetherWith(
            own,
            [...rivals].map((rival) => carriedBy(rival, direction)),
          );
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
