/**
 * Whom questions about everybody are about: pods, nodes, and what is outside; and how those that nothing tells apart are put together
 * and named for people. A name never says more than is so: `shop/web-* (3 pods)` stands for every such pod that was asked about, and
 * where one is not among them the name says that.
 */
import {
  type Address,
  type Family,
  familyOf,
  formatAddress,
  formatPrefix,
  networkAddress,
  type Prefix,
  prefixRange,
  type Range,
  widthOf,
} from './address.ts';
import type { OutsideClass } from './equivalence.ts';
import type { Node, Pod } from './objects.ts';
import { rangeToPrefixes, subtract } from './ranges.ts';
import { localAddresses, ownsAddresses, type World } from './world.ts';

/** Somebody who reaches and is reached. */
export interface Party {
  readonly kind: 'pod' | 'node' | 'outside';
  /** `shop/web-0`, `node/node-a`, `node/node-a at 203.0.113.7`, `outside: 10.0.0.0/8`, or an address. Unique among those that are asked about. */
  readonly name: string;
  /** Empty of what is no pod. */
  readonly namespace: string;
  /** Of a pod with hostNetwork as well, though its addresses are its node's. */
  readonly pod: Pod | undefined;
  /** The node that it runs on, or is. */
  readonly node: string | undefined;
  /** Of each family one at most; at least one. */
  readonly addresses: readonly Address[];
}

/** Parties that are shown as one. */
export interface Group {
  /** For people, and unique among the groups that were named together. */
  readonly name: string;
  readonly kind: Party['kind'];
  readonly namespace: string;
  /** What all of them have: their own generated labels are left out. Empty of what is no pod. */
  readonly labels: ReadonlyMap<string, string>;
  /** At least one. */
  readonly parties: readonly Party[];
}

/** Labels that controllers give each pod or each template of its own: they tell pods of one workload apart, and mean nothing to people. */
const GENERATED_LABELS: ReadonlySet<string> = new Set([
  'pod-template-hash',
  'controller-revision-hash',
  'pod-template-generation',
  'statefulset.kubernetes.io/pod-name',
  'apps.kubernetes.io/pod-index',
  'batch.kubernetes.io/controller-uid',
  'batch.kubernetes.io/job-completion-index',
  'controller-uid',
]);

/** Undefined: a pod that no packet goes to or comes from, because it has no address of its own. */
export function partyOfPod(pod: Pod, world: World): Party | undefined {
  // An address that was reused belongs to the newer pod (row 40); those of a pod with hostNetwork are its node's (row 29).
  const own = ownsAddresses(pod) ? pod.addresses.filter((address) => isOf(pod, world.podAt(address))) : pod.addresses;
  const addresses = firstOfEachFamily(own);
  if (addresses.length === 0) return undefined;
  const { namespace, name, node } = pod;
  // That it is on its node's network can be judged only where the node is known.
  const isKnown = !pod.hostNetwork || addresses.some((address) => world.nodeAt(address)?.name === node);
  return { kind: 'pod', name: `${namespace}/${name}`, namespace, pod, node: node !== '' && isKnown ? node : undefined, addresses };
}

/**
 * A node by its first address of each family; and by each other that `classOf` tells from those before it, as it does where a block has one
 * of them and not the other: an ExternalIP, the overlay device's, which is what pods of other nodes see of it. None of a node without an address.
 */
export function partiesOfNode(node: Node, world: World, classOf: (address: Address) => string): Party[] {
  const { name } = node;
  const isOwn = (address: Address): boolean => world.podAt(address) === undefined && world.nodeAt(address)?.name === name;
  const first = firstOfEachFamily(node.addresses.filter(isOwn));
  const seen = new Set(first.map(classOf));
  const party = (own: string, addresses: readonly Address[]): Party => ({
    kind: 'node',
    name: own,
    namespace: '',
    pod: undefined,
    node: name,
    addresses,
  });
  const further = localAddresses(node).filter((address) => {
    const text = classOf(address);
    if (first.length === 0 || !isOwn(address) || seen.has(text)) return false;
    seen.add(text);
    return true;
  });
  return [
    ...(first.length === 0 ? [] : [party(`node/${name}`, first)]),
    ...further.map((address) => party(`node/${name} at ${formatAddress(address)}`, [address])),
  ];
}

/** What is outside, as {@link outsideClasses} tells it apart; the rest of both families is one party. */
export function outsideParties(classes: readonly OutsideClass[]): Party[] {
  const outside = (name: string, addresses: readonly Address[]): Party => ({
    kind: 'outside',
    name,
    namespace: '',
    pod: undefined,
    node: undefined,
    addresses,
  });
  const blocks = classes.filter(({ isRest }) => !isRest);
  const rest = firstOfEachFamily(classes.filter(({ isRest }) => isRest).map(({ representative }) => representative));
  const named = blocks.map(({ ranges, representative }) => outside(`outside: ${rangesText(ranges)}`, [representative]));
  if (rest.length === 0) return named;
  return [...named, outside(blocks.length === 0 ? 'outside' : 'outside: everything else', rest)];
}

/** An address that is asked about by itself. */
export function partyOfAddress(address: Address, name: string, world: World): Party {
  const node = world.podAt(address) === undefined ? world.nodeAt(address)?.name : undefined;
  return { kind: 'outside', name, namespace: '', pod: world.podAt(address), node, addresses: [address] };
}

export function addressOf({ addresses }: Party, family: Family): Address | undefined {
  return addresses.find((address) => familyOf(address) === family);
}

/**
 * Two of whose connection no policy tells that of any other two, where all of the sources are of one class, and all of the destinations.
 * A pod and itself are no pair (row 30), and a pod and its own node are one only if there is no other (row 28).
 */
export function pairAmong<T extends { readonly party: Party }>(
  sources: readonly T[],
  destinations: readonly T[],
): readonly [source: T, destination: T] | undefined {
  let ownNode: readonly [T, T] | undefined;
  for (const source of sources) {
    for (const destination of destinations) {
      if (!isPair(source.party, destination.party)) continue;
      if (!isOwnNode(source.party, destination.party)) return [source, destination];
      if (source.party.kind === 'pod' && destination.party.kind === 'pod') ownNode ??= [source, destination];
    }
  }
  return ownNode;
}

/** Whether there is anything to ask about the two: not about one and itself, nor about two that are no pods. */
export function isPair(source: Party, destination: Party): boolean {
  return source.name !== destination.name && (source.pod !== undefined || destination.pod !== undefined);
}

/** Whether one is the node that the other runs on, or is on its network: always allowed (row 28). */
export function isOwnNode(source: Party, destination: Party): boolean {
  return source.node !== undefined && source.node === destination.node && (isOnNode(source) || isOnNode(destination));
}

/** Whether its addresses are a node's. */
export function isOnNode({ pod, node }: Party): boolean {
  return pod === undefined ? node !== undefined : pod.hostNetwork;
}

/**
 * Parties that look the same to people, by namespace and labels, and have the same `key`, are one group; named together. In the order of
 * their first members.
 */
export function groupParties(parties: readonly Party[], key: (party: Party) => string): Group[] {
  const groups = new Map<string, Party[]>();
  for (const party of parties) {
    const text = `${likenessOf(party)}\n${key(party)}`;
    const known = groups.get(text);
    if (known === undefined) groups.set(text, [party]);
    else known.push(party);
  }
  return nameGroups([...groups.values()], parties);
}

/** Names sets of parties, each of one likeness. @param all everybody who is asked about: what a name must not stand for by mistake */
export function nameGroups(sets: readonly (readonly Party[])[], all: readonly Party[]): Group[] {
  const namesByNamespace = new Map<string, string[]>();
  for (const { kind, pod } of all) {
    if (kind !== 'pod' || pod === undefined) continue;
    const known = namesByNamespace.get(pod.namespace);
    if (known === undefined) namesByNamespace.set(pod.namespace, [pod.name]);
    else known.push(pod.name);
  }
  for (const names of namesByNamespace.values()) names.sort();
  const nodes = all.filter(({ kind }) => kind === 'node');
  return sets.flatMap((parties): Group[] => {
    const [first] = parties;
    if (first === undefined) return [];
    const { kind, namespace, pod } = first;
    const labels = kind === 'pod' && pod !== undefined ? ownLabels(pod) : NO_LABELS;
    const name =
      parties.length === 1
        ? first.name
        : kind === 'pod'
          ? podsText(parties, namesByNamespace.get(namespace) ?? [])
          : kind === 'node'
            ? nodesText(parties, nodes)
            : parties.map((party) => party.name).join(', ');
    return [{ name, kind, namespace, labels, parties }];
  });
}

/** The same text: people would call the two by one name. */
export function likenessOf({ kind, name, pod }: Party): string {
  if (kind !== 'pod' || pod === undefined) return kind === 'node' ? 'node' : name;
  const labels = [...ownLabels(pod)].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}=${value}`);
  return `${pod.namespace}\n${pod.hostNetwork ? 'host' : 'pod'}\n${labels.join('\n')}`;
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

function ownLabels(pod: Pod): ReadonlyMap<string, string> {
  return new Map([...pod.labels].filter(([key]) => !GENERATED_LABELS.has(key)));
}

/** The name that a pod has from its workload: without what a controller puts behind it. */
function baseName({ name, labels }: Pod): string {
  const hash = labels.get('pod-template-hash');
  const at = hash === undefined ? -1 : name.lastIndexOf(`-${hash}-`);
  if (at > 0) return name.slice(0, at);
  // A StatefulSet's number, or the five letters of every other controller (apimachinery's rand.String: no vowels, no 0, 1, 3).
  return name.replace(/-(?:\d+|[bcdfghjklmnpqrstvwxz2456789]{5})$/u, '');
}

/** `shop/web-* (3 pods)`. @param sorted names of all pods of the namespace that are asked about */
function podsText(parties: readonly Party[], sorted: readonly string[]): string {
  const pods = parties.flatMap(({ pod }) => pod ?? []);
  const namespace = pods[0]?.namespace ?? '';
  const bases = new Set(pods.map(baseName));
  const [base = ''] = bases;
  const prefix = bases.size === 1 ? `${base}-` : wholeWords(commonPrefix(pods.map(({ name }) => name)));
  const own = new Set(pods.map(({ name }) => name));
  // A pod that is called as its base is would not be found by the pattern.
  const pattern = [...own].every((name) => name.startsWith(prefix)) ? prefix : '';
  const others = startingWith(sorted, pattern).filter((name) => !own.has(name));
  const text = `${namespace}/${pattern}*`;
  if (others.length === 0) return `${text} (${pods.length} pods)`;
  const of = `${pods.length} of ${pods.length + others.length} pods`;
  if (others.length <= Math.min(3, pods.length)) return `${text} (${of}, not ${others.join(' ')})`;
  return `${text} (${of}: ${[...own].join(' ')})`;
}

/** More addresses than this are not written out. */
const ADDRESSES_SHOWN = 4;

/**
 * `other nodes`: what is shown of nodes is never about a pod's own. A node of which every address is among them has its name alone.
 *
 * @param all nodes that are asked about, by all of their addresses
 */
function nodesText(parties: readonly Party[], all: readonly Party[]): string {
  const isFirst = ({ name, node }: Party): boolean => name === `node/${node}`;
  const [own, known] = [parties, all].map((some) => Map.groupBy(some, ({ node }) => node));
  const first = parties.filter(isFirst).map(({ name }) => name);
  const further = parties.filter((party) => !isFirst(party) && own?.get(party.node)?.length !== known?.get(party.node)?.length);
  const shown = further.slice(0, ADDRESSES_SHOWN).flatMap(({ addresses }) => addresses.map(formatAddress));
  const more = further.length - shown.length;
  const at =
    further.length === 1 ? further.map(({ name }) => name) : [`nodes at ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`];
  const names = first.length > 1 && first.length === known?.size ? ['other nodes'] : first;
  return [...names, ...(further.length === 0 ? [] : at)].join(', ');
}

function startingWith(sorted: readonly string[], prefix: string): readonly string[] {
  if (prefix === '') return sorted;
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? '') < prefix) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (sorted[end]?.startsWith(prefix) === true) end++;
  return sorted.slice(low, end);
}

function commonPrefix(names: readonly string[]): string {
  const [first = ''] = names;
  let length = first.length;
  for (const name of names) {
    while (!name.startsWith(first.slice(0, length))) length--;
  }
  return first.slice(0, length);
}

function wholeWords(prefix: string): string {
  return prefix.slice(0, prefix.lastIndexOf('-') + 1);
}

/** More prefixes than this are not written out. */
const PREFIXES_SHOWN = 4;

/** `10.0.0.0/8 except 10.1.0.0/16`, or the prefixes, whichever is shorter. @param ranges of one family, normal, at least one */
export function rangesText(ranges: readonly Range[]): string {
  const prefixes = ranges.flatMap(rangeToPrefixes);
  const whole = enclosing(ranges);
  const holes = subtract(prefixRange(whole), ranges).flatMap(rangeToPrefixes);
  if (holes.length < prefixes.length - 1) return `${formatPrefix(whole)}${holes.length === 0 ? '' : ` except ${prefixList(holes)}`}`;
  return prefixList(prefixes);
}

function prefixList(prefixes: readonly Prefix[]): string {
  const shown = prefixes.slice(0, PREFIXES_SHOWN).map(formatPrefix).join(', ');
  const more = prefixes.length - PREFIXES_SHOWN;
  return more > 0 ? `${shown} and ${more} more from ${formatPrefix(prefixes[PREFIXES_SHOWN] as Prefix)} on` : shown;
}

/** The smallest prefix that has them all. */
function enclosing(ranges: readonly Range[]): Prefix {
  // At least one range.
  const [first, last] = [ranges[0] as Range, ranges.at(-1) as Range];
  let length = widthOf(familyOf(first.first));
  let bits: number = length;
  while (networkAddress(first.first, bits) !== networkAddress(last.last, bits)) bits--;
  length = bits as typeof length;
  return { address: networkAddress(first.first, length), length };
}

function isOf(pod: Pod, owner: Pod | undefined): boolean {
  return owner !== undefined && owner.namespace === pod.namespace && owner.name === pod.name;
}

function firstOfEachFamily(addresses: readonly Address[]): Address[] {
  return addresses.filter((address, index) => addresses.findIndex((other) => familyOf(other) === familyOf(address)) === index);
}
