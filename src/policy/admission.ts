/**
 * The evaluator's yes or no for many questions about the same pods, each at a cost that does not grow with the number of their policies. It says
 * nothing of why; a test holds it to what `evaluate` says.
 *
 * What the policies of a pod say is prepared once: rules by the ports that they admit, addresses as sorted ranges, selectors by the labels that
 * they have been compared with. All of it follows from the policies alone, and so stays right whatever becomes of the cluster: another policy is
 * another object. How much is kept is bounded.
 */
import type { Address, Range } from './address.ts';
import type { Flow } from './evaluate.ts';
import type { Labels } from './labels.ts';
import type { Direction, NamedPort, Peer, Pod, Policy, PolicyProtocol, Protocol, Rule } from './objects.ts';
import { peerSelects } from './peers.ts';
import { groupPorts, type PortGroup, type PortRange } from './ports.ts';
import { contains, union } from './ranges.ts';
import type { World } from './world.ts';

/** Ranges, ports and selectors that are kept prepared, some 100 bytes each. More than all policies of one namespace may have (budget.ts). */
const KEPT_ENTRIES = 250_000;
/** Of one list of policies. Each range of ports that they tell apart may have some. */
const KEPT_PROFILES = 2_000;
const KEPT_LABELS = 10_000;
/** Rules of profiles, and ranges of addresses that are merged in them, of one list of policies. */
const KEPT_IN_PROFILES = 250_000;
/** So many ranges are merged within a few milliseconds; of more, each rule is searched on its own. */
const MERGED_RANGES = 10_000;

type PodsPeer = Extract<Peer, { kind: 'pods' }>;

interface PreparedRule {
  /** Undefined: every protocol and port. */
  readonly ports: readonly PortGroup[] | undefined;
  readonly isOpen: boolean;
  /** Of all its blocks, normal. */
  readonly ranges: readonly Range[];
  readonly pods: readonly PodsPeer[];
  readonly namespace: string;
  readonly entries: number;
}

function prepared({ namespace }: Policy, { peers, ports }: Rule): PreparedRule {
  const groups = groupPorts(ports);
  const blocks = peers?.flatMap((peer) => (peer.kind === 'block' ? [peer.ranges] : [])) ?? [];
  const ranges = blocks.length === 1 && blocks[0] !== undefined ? blocks[0] : union(blocks.flat());
  const pods = peers?.filter((peer): peer is PodsPeer => peer.kind === 'pods') ?? [];
  let entries = 1 + ranges.length + pods.length;
  for (const group of groups ?? []) entries += group.ranges.length + group.names.length;
  return { ports: groups, isOpen: peers === undefined, ranges, pods, namespace, entries };
}

export class Admission {
  #rules = new Map<Rule, PreparedRule>();
  #lists = { ingress: new Map<readonly Policy[], PolicyList>(), egress: new Map<readonly Policy[], PolicyList>() };
  #names = new Map<readonly NamedPort[], ReadonlyMap<string, string>>();
  #entries = 0;

  /**
   * Whether some rule of the policies admits the flow.
   *
   * @param policies those that isolate the one end of the flow in this direction, and are asked (see `askedAbout`)
   */
  admits(world: World, policies: readonly Policy[], flow: Flow, direction: Direction): boolean {
    const list = this.#list(policies, direction);
    const isEgress = direction === 'egress';
    const profile = list.profile(flow.protocol, flow.port, this.#namesOf(flow));
    return profile.admits(world, isEgress ? flow.destination : flow.source, isEgress ? flow.destinationPod : flow.sourcePod);
  }

  /** Whether {@link prepare} has nothing to do. */
  isPrepared(policies: readonly Policy[], direction: Direction): boolean {
    return this.#lists[direction].has(policies);
  }

  /** Prepares what {@link admits} will need of these policies, a rule between two yields: one rule may have 20,000 blocks, and there may be many. */
  *prepare(policies: readonly Policy[], direction: Direction): Generator<void> {
    if (this.isPrepared(policies, direction)) return;
    for (const policy of policies) {
      for (const rule of policy[direction] ?? []) {
        if (this.#rules.has(rule)) continue;
        this.#prepared(policy, rule);
        yield;
      }
    }
  }

  #list(policies: readonly Policy[], direction: Direction): PolicyList {
    let list = this.#lists[direction].get(policies);
    if (list !== undefined) return list;
    const rules = policies.flatMap((policy) => (policy[direction] ?? []).map((rule) => this.#prepared(policy, rule)));
    list = new PolicyList(rules);
    this.#grow(rules.length);
    this.#lists[direction].set(policies, list);
    return list;
  }

  #prepared(policy: Policy, rule: Rule): PreparedRule {
    let known = this.#rules.get(rule);
    if (known !== undefined) return known;
    known = prepared(policy, rule);
    this.#grow(known.entries);
    this.#rules.set(rule, known);
    return known;
  }

  #grow(entries: number): void {
    this.#entries += entries;
    if (this.#entries <= KEPT_ENTRIES) return;
    this.#entries = entries;
    this.#rules = new Map();
    this.#lists = { ingress: new Map(), egress: new Map() };
    this.#names = new Map();
  }

  /** By which names the destination has the port, sorted (rows 15, 16); almost always one or none. */
  #namesOf({ destinationPod, protocol, port }: Flow): string {
    if (destinationPod === undefined || destinationPod.ports.length === 0) return '';
    let names = this.#names.get(destinationPod.ports);
    if (names === undefined) {
      names = namesByPort(destinationPod.ports);
      this.#grow(destinationPod.ports.length);
      this.#names.set(destinationPod.ports, names);
    }
    return names.get(`${protocol} ${port}`) ?? '';
  }
}

/** Names have no blanks. */
function namesByPort(ports: readonly NamedPort[]): Map<string, string> {
  const names = new Map<string, Set<string>>();
  for (const { name, protocol, port } of ports) {
    const key = `${protocol} ${port}`;
    const known = names.get(key);
    if (known === undefined) names.set(key, new Set([name]));
    else known.add(name);
  }
  return new Map([...names].map(([key, set]) => [key, [...set].sort().join(' ')]));
}

/** The policies that isolate a pod in a direction. */
class PolicyList {
  readonly #rules: readonly PreparedRule[];
  readonly #bounds = new Map<Protocol, Uint32Array>();
  #profiles = new Map<string, Profile>();
  #kept = 0;

  constructor(rules: readonly PreparedRule[]) {
    this.#rules = rules;
  }

  /** What is admitted to a port. @param names of the port at the destination, as of {@link namesByPort} */
  profile(protocol: Protocol, port: number | undefined, names: string): Profile {
    const segment = port === undefined ? 0 : segmentOf(this.#boundsOf(protocol), port);
    const key = `${protocol} ${segment} ${names}`;
    let profile = this.#profiles.get(key);
    if (profile !== undefined) return profile;
    const wanted = names === '' ? [] : names.split(' ');
    profile = new Profile(
      this.#rules.filter(({ ports }) => ports === undefined || portsAdmit(ports, protocol, port, wanted)),
      (ranges) => this.#keep(ranges),
    );
    this.#keep(profile.rules);
    this.#profiles.set(key, profile);
    return profile;
  }

  #keep(entries: number): void {
    this.#kept += 1 + entries;
    if (this.#profiles.size < KEPT_PROFILES && this.#kept <= KEPT_IN_PROFILES) return;
    this.#profiles = new Map();
    this.#kept = 1 + entries;
  }

  /** Where the ranges of ports of any rule begin, and where they have ended; ascending. Between two of these all ports are alike. */
  #boundsOf(protocol: Protocol): Uint32Array {
    let bounds = this.#bounds.get(protocol);
    if (bounds !== undefined) return bounds;
    const all = new Set<number>();
    for (const { ports } of this.#rules) {
      for (const range of rangesOf(ports, protocol)) all.add(range.first).add(range.last + 1);
    }
    bounds = Uint32Array.from(all).sort();
    this.#bounds.set(protocol, bounds);
    return bounds;
  }
}

function rangesOf(ports: readonly PortGroup[] | undefined, protocol: Protocol): readonly PortRange[] {
  return ports?.find((group) => group.protocol === protocol)?.ranges ?? [];
}

/** How many of the bounds are at or below the port. */
function segmentOf(bounds: Uint32Array, port: number): number {
  let [low, high] = [0, bounds.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((bounds[middle] ?? 0) <= port) low = middle + 1;
    else high = middle;
  }
  return low;
}

function portsAdmit(groups: readonly PortGroup[], protocol: Protocol, port: number | undefined, names: readonly string[]): boolean {
  // Rows 16, 23, 24, 32: nothing but TCP, UDP and SCTP, which have ports.
  const group = groups.find((each) => each.protocol === (protocol as PolicyProtocol));
  if (group === undefined || port === undefined) return false;
  return names.some((name) => group.names.includes(name)) || hasPort(group.ranges, port);
}

/** Binary search. */
function hasPort(ranges: readonly PortRange[], port: number): boolean {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (range !== undefined && range.last < port) low = middle + 1;
    else high = middle;
  }
  const candidate = ranges[low];
  return candidate !== undefined && candidate.first <= port;
}

/** What the rules that admit one range of ports say of peers. */
class Profile {
  readonly rules: number;
  readonly #isOpen: boolean;
  /** Those that have blocks, and those that have selectors. */
  readonly #blocks: readonly PreparedRule[];
  readonly #pods: readonly PreparedRule[];
  readonly #rangeCount: number;
  readonly #keep: (entries: number) => void;
  #searches = 0;
  #merged: readonly Range[] | undefined;
  /** By the labels of a pod and of its namespace, and whether it is the policies' own. */
  #byLabels = new Map<Labels, Map<Labels, { own?: boolean; other?: boolean }>>();
  #labels = 0;

  constructor(rules: readonly PreparedRule[], keep: (entries: number) => void) {
    this.rules = rules.length;
    this.#isOpen = rules.some(({ isOpen }) => isOpen);
    this.#blocks = rules.filter(({ ranges }) => ranges.length > 0);
    this.#pods = rules.filter(({ pods }) => pods.length > 0);
    this.#rangeCount = this.#blocks.reduce((sum, { ranges }) => sum + ranges.length, 0);
    this.#keep = keep;
  }

  admits(world: World, address: Address, pod: Pod | undefined): boolean {
    return this.#isOpen || this.#admitsAddress(address) || (pod !== undefined && this.#pods.length > 0 && this.#admitsPod(world, pod));
  }

  /** Merging costs about what searching each rule's ranges has cost by then: so it is never much more than the cheaper of both. */
  #admitsAddress(address: Address): boolean {
    if (this.#merged !== undefined) return contains(this.#merged, address);
    this.#searches += this.#blocks.length;
    if (this.#searches > this.#rangeCount && this.#blocks.length > 1 && this.#rangeCount <= MERGED_RANGES) {
      this.#merged = union(this.#blocks.flatMap(({ ranges }) => ranges));
      this.#keep(this.#merged.length);
      return contains(this.#merged, address);
    }
    return this.#blocks.some(({ ranges }) => contains(ranges, address));
  }

  #admitsPod(world: World, pod: Pod): boolean {
    const namespaceLabels = world.namespaceLabels(pod.namespace);
    // Policies that isolate one pod are all of its namespace.
    const key = pod.namespace === this.#pods[0]?.namespace ? 'own' : 'other';
    let byNamespace = this.#byLabels.get(pod.labels);
    if (byNamespace === undefined) this.#byLabels.set(pod.labels, (byNamespace = new Map()));
    let known = byNamespace.get(namespaceLabels);
    if (known === undefined) byNamespace.set(namespaceLabels, (known = {}));
    const verdict = known[key];
    if (verdict !== undefined) return verdict;
    if (++this.#labels > KEPT_LABELS) {
      this.#byLabels = new Map();
      this.#labels = 0;
    }
    return (known[key] = this.#pods.some((rule) => rule.pods.some((peer) => peerSelects(world, rule, peer, pod))));
  }
}
