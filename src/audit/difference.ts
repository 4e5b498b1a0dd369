/**
 * What a change of objects does to connections: which of them become allowed and which denied, between pods, nodes and what is outside.
 * Both states are asked, {@link Equivalence} by {@link Equivalence}; what nothing tells apart in either is asked about once. Complete: every
 * port and protocol is looked at, since each rule's ports are cut where a rule of either state begins or ends.
 */
import type { Address, Family } from '../policy/address.ts';
import { type End, type Equivalence, outsideClasses } from '../policy/equivalence.ts';
import {
  addressOf,
  type Group,
  groupParties,
  isOwnNode,
  isPair,
  outsideParties,
  pairAmong,
  partiesOfNode,
  type Party,
  partyOfPod,
} from '../policy/equivalence-parties.ts';
import type { Verdict } from '../policy/evaluate.ts';
import type { Direction, Node, Pod, Policy, Protocol } from '../policy/objects.ts';
import { PORT_MAX, type PortRange } from '../policy/ports.ts';

/** The two states, and whom they are compared for. */
export interface Comparison {
  readonly before: Equivalence;
  readonly after: Equivalence;
  /** Those of both states; of a pod that is in one only nothing can become anything. */
  readonly pods: readonly Pod[];
  readonly nodes: readonly Node[];
  /** Whether nothing but policies differs, and those that do not are the same objects: what they judge need not be looked at. */
  readonly onlyPolicies: boolean;
}

/** Ports of one protocol. */
export interface PortSet {
  readonly protocol: Protocol;
  /** Ascending, disjoint, and none directly follows another; none of ICMP and of other protocols, which have no ports. */
  readonly ranges: readonly PortRange[];
}

/** Connections to which the same happens. */
export interface Change {
  readonly becomes: 'allowed' | 'denied';
  readonly sources: readonly Group[];
  readonly destinations: readonly Group[];
  readonly families: readonly Family[];
  /** In the order TCP, UDP, SCTP, ICMP, other; at least one. */
  readonly ports: readonly PortSet[];
  /** Of one of them. Of a direction that turns the others were answered for the same kind of reason before, and are for the same reason after. */
  readonly before: Verdict;
  readonly after: Verdict;
}

/** Pods that policies begin to isolate in a direction, or cease to. */
export interface IsolationChange {
  readonly direction: Direction;
  readonly becomes: 'isolated' | 'open';
  readonly pods: readonly Group[];
  /** That isolate them now, or did before. */
  readonly policies: readonly Policy[];
}

export interface Difference {
  /** Everybody who is in the comparison. */
  readonly parties: readonly Party[];
  readonly changes: readonly Change[];
  readonly isolation: readonly IsolationChange[];
}

export const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP', 'other'];
const DIRECTIONS = ['egress', 'ingress'] as const satisfies readonly Direction[];
const BOTH: readonly Family[] = [4, 6];
const ONLY_4: readonly Family[] = [4];
const ONLY_6: readonly Family[] = [6];
const NOTHING: readonly Found[] = [];
/** More answers than this there are not; two numbers of them fit into one that is safe. */
const MOST_REASONS = 2 ** 26;

export function differenceOf(comparison: Comparison): Difference {
  const parties = partiesOf(comparison);
  // No policy of either state tells those of one group apart.
  const groups = groupParties(parties, ({ addresses }) => addresses.map(classIn(comparison)).join(' '));
  return { parties, changes: new Comparer(comparison, groups).changes(), isolation: isolationOf(comparison, groups) };
}

/** The same text: no policy of either state tells the two addresses apart. */
function classIn({ before, after }: Comparison): (address: Address) => string {
  return (address) => `${before.end(address).class} ${after.end(address).class}`;
}

/** Pods of both states, nodes, and what is outside of the cluster. */
export function partiesOf(comparison: Comparison): Party[] {
  const { before, after, pods, nodes } = comparison;
  const { world } = after;
  return [
    ...pods.filter((pod) => !pod.terminal).flatMap((pod) => partyOfPod(pod, world) ?? []),
    ...nodes.flatMap((node) => partiesOfNode(node, world, classIn(comparison))),
    ...outsideParties(outsideClasses([before, after])),
  ];
}

/** Every connection that a change is about, pair by pair. */
export function* pairsOf({ sources, destinations, families }: Change): Generator<{
  readonly source: Party;
  readonly destination: Party;
  readonly family: Family;
}> {
  for (const source of sources.flatMap(({ parties }) => parties)) {
    for (const destination of destinations.flatMap(({ parties }) => parties)) {
      if (!isPair(source, destination) || isOwnNode(source, destination)) continue;
      for (const family of families) {
        if (addressOf(source, family) !== undefined && addressOf(destination, family) !== undefined) yield { source, destination, family };
      }
    }
  }
}

/** Both ends in both states. */
interface Candidate {
  readonly party: Party;
  readonly before: End;
  readonly after: End;
}

/** What becomes of connections, of one family, for one reason: the same object where it is the same. */
interface Found {
  readonly number: number;
  readonly ports: readonly PortSet[];
  /** Numbers of the verdicts of one of them. */
  readonly was: number;
  readonly is: number;
}

/** A change in the making. */
interface Gathered {
  readonly one: Found;
  readonly families: readonly Family[];
  /** Indexes of groups. */
  readonly sources: number[];
}

class Comparer {
  readonly #before: Equivalence;
  readonly #after: Equivalence;
  readonly #onlyPolicies: boolean;
  readonly #groups: readonly Group[];
  readonly #candidates: readonly Readonly<Record<Family, readonly Candidate[]>>[];
  /** By reasons and ports. */
  readonly #found = new Map<string, Found>();
  /** By reasons: what happens to every port and protocol, as it does where no rule asks for any. */
  readonly #foundOfAll = new Map<number, readonly Found[]>();
  /** By direction and numbers of its answers. */
  readonly #reasonNumbers: Readonly<Record<Direction, Map<number, number>>> = { egress: new Map(), ingress: new Map() };
  readonly #reasonTexts = new Map<string, number>();

  constructor({ before, after, onlyPolicies }: Comparison, groups: readonly Group[]) {
    this.#onlyPolicies = onlyPolicies;
    this.#before = before;
    this.#after = after;
    this.#groups = groups;
    this.#candidates = groups.map(({ parties }) => {
      const of = (family: Family): Candidate[] =>
        parties.flatMap((party) => {
          const address = addressOf(party, family);
          return address === undefined ? [] : [{ party, before: before.end(address), after: after.end(address) }];
        });
      return { 4: of(4), 6: of(6) };
    });
  }

  /** Sources to which the same happens are together, and then destinations to which the same happens from the same sources. */
  changes(): Change[] {
    const changes = new Map<string, { readonly gathered: Gathered; readonly destinations: Group[] }>();
    for (const [to, destination] of this.#groups.entries()) {
      for (const gathered of this.#into(to)) {
        const whole = `${gathered.one.number} ${gathered.families.join()} ${gathered.sources.join()}`;
        const known = changes.get(whole);
        if (known === undefined) changes.set(whole, { gathered, destinations: [destination] });
        else known.destinations.push(destination);
      }
    }
    return [...changes.values()].map(({ gathered: { one, families, sources }, destinations }): Change => {
      const [before, after] = [this.#before.verdictNumbered(one.was), this.#after.verdictNumbered(one.is)];
      const groups = sources.flatMap((source) => this.#groups[source] ?? []);
      return { becomes: after.allowed ? 'allowed' : 'denied', sources: groups, destinations, families, ports: one.ports, before, after };
    });
  }

  /** What becomes of the connections to a group. */
  #into(to: number): Iterable<Gathered> {
    const gathered = new Map<number, Gathered>();
    for (const from of this.#groups.keys()) {
      for (const { one, families } of this.#between(from, to)) {
        const key = one.number * 3 + (families === BOTH ? 0 : families === ONLY_4 ? 1 : 2);
        const known = gathered.get(key);
        if (known === undefined) gathered.set(key, { one, families, sources: [from] });
        else known.sources.push(from);
      }
    }
    return gathered.values();
  }

  /** Families to which the same happens, on the same ports and for the same reasons, are together. */
  #between(from: number, to: number): { readonly one: Found; readonly families: readonly Family[] }[] {
    const of = (family: Family): readonly [Candidate, Candidate] | undefined =>
      pairAmong(this.#candidates[from]?.[family] ?? [], this.#candidates[to]?.[family] ?? []);
    const [v4, v6] = [of(4), of(6)];
    const found4 = v4 === undefined ? [] : this.#compare(...v4);
    if (v6 === undefined) return found4.map((one) => ({ one, families: ONLY_4 }));
    if (v4 !== undefined && isAlike(v4[0], v6[0]) && isAlike(v4[1], v6[1])) return found4.map((one) => ({ one, families: BOTH }));
    const found6 = this.#compare(...v6);
    return [
      ...found4.map((one) => ({ one, families: found6.includes(one) ? BOTH : ONLY_4 })),
      ...found6.filter((one) => !found4.includes(one)).map((one) => ({ one, families: ONLY_6 })),
    ];
  }

  /** Whether the same policies judge them as before. */
  #isUntouched(source: Candidate, destination: Candidate): boolean {
    return (
      this.#onlyPolicies &&
      samePolicies(source.before.egress.policies, source.after.egress.policies) &&
      samePolicies(destination.before.ingress.policies, destination.after.ingress.policies)
    );
  }

  #compare(from: Candidate, to: Candidate): readonly Found[] {
    if (this.#isUntouched(from, to)) return NOTHING;
    const asksPorts = [from.before.egress, to.before.ingress, from.after.egress, to.after.ingress].some((regime) => regime.asksPorts);
    if (!asksPorts) return this.#compareAll(from, to);
    const found = new Map<number, { readonly ports: PortSet[]; readonly was: number; readonly is: number }>();
    for (const protocol of PROTOCOLS) {
      for (const { first, last } of this.#pieces(protocol, from, to)) {
        const was = this.#before.verdictNumber(from.before, to.before, protocol, first);
        const is = this.#after.verdictNumber(from.after, to.after, protocol, first);
        if (this.#before.isAllowed(was) === this.#after.isAllowed(is)) continue;
        const reasons = this.#reasons(was, is);
        let one = found.get(reasons);
        if (one === undefined) {
          one = { ports: [], was, is };
          found.set(reasons, one);
        }
        addPorts(one.ports, protocol, first, last);
      }
    }
    return [...found].map(([reasons, { ports, was, is }]) => this.#foundOnce(reasons, ports, was, is));
  }

  /** Where no rule asks for ports one answer is that for all. */
  #compareAll(from: Candidate, to: Candidate): readonly Found[] {
    const was = this.#before.verdictNumber(from.before, to.before, 'ICMP', undefined);
    const is = this.#after.verdictNumber(from.after, to.after, 'ICMP', undefined);
    if (this.#before.isAllowed(was) === this.#after.isAllowed(is)) return NOTHING;
    const reasons = this.#reasons(was, is);
    let found = this.#foundOfAll.get(reasons);
    if (found === undefined) {
      found = [this.#foundOnce(reasons, EVERY_PORT, was, is)];
      this.#foundOfAll.set(reasons, found);
    }
    return found;
  }

  #foundOnce(reasons: number, ports: readonly PortSet[], was: number, is: number): Found {
    const key = `${reasons} ${ports.map(({ protocol, ranges }) => `${protocol} ${ranges.map(({ first, last }) => `${first}-${last}`).join()}`).join()}`;
    let found = this.#found.get(key);
    if (found === undefined) {
      found = { number: this.#found.size, ports, was, is };
      this.#found.set(key, found);
    }
    return found;
  }

  /** Of each direction that turns: what kind of answer it was, and what it is now. The same number where that is the same. */
  #reasons(was: number, is: number): number {
    const [before, after] = [this.#before.directionNumbers(was), this.#after.directionNumbers(is)];
    return this.#reason('egress', before.egress, after.egress) * MOST_REASONS + this.#reason('ingress', before.ingress, after.ingress);
  }

  #reason(direction: Direction, was: number, is: number): number {
    const key = was * MOST_REASONS + is;
    let number = this.#reasonNumbers[direction].get(key);
    if (number === undefined) {
      const { allowed, reason } = this.#before.directionNumbered(was);
      const text = allowed === this.#after.directionNumbered(is).allowed ? '' : `${reason} ${is}`;
      number = this.#reasonTexts.get(text) ?? this.#reasonTexts.size;
      this.#reasonTexts.set(text, number);
      this.#reasonNumbers[direction].set(key, number);
    }
    return number;
  }

  /** Ports that no rule of either state tells apart. */
  #pieces(protocol: Protocol, from: Candidate, to: Candidate): readonly PortRange[] {
    if (protocol === 'ICMP' || protocol === 'other') return NO_PORTS;
    const cuts = new Set([
      ...this.#before.portCuts(from.before, to.before, protocol),
      ...this.#after.portCuts(from.after, to.after, protocol),
    ]);
    const firsts = [...cuts].sort((a, b) => a - b);
    return firsts.map((first, index) => ({ first, last: (firsts[index + 1] ?? PORT_MAX + 1) - 1 }));
  }
}

/** One question is enough. */
const NO_PORTS: readonly PortRange[] = [{ first: 0, last: 0 }];
const EVERY_PORT: readonly PortSet[] = PROTOCOLS.map((protocol) => ({
  protocol,
  ranges: protocol === 'ICMP' || protocol === 'other' ? [] : [{ first: 0, last: PORT_MAX }],
}));

/** Whether policies see the same of both, a pod's own two addresses, in either state. */
function isAlike(v4: Candidate, v6: Candidate): boolean {
  return v4.before.likeness === v6.before.likeness && v4.after.likeness === v6.after.likeness;
}

function samePolicies(before: readonly Policy[], after: readonly Policy[]): boolean {
  return before.length === after.length && before.every((policy, index) => policy === after[index]);
}

function addPorts(ports: PortSet[], protocol: Protocol, first: number, last: number): void {
  const known = ports.at(-1);
  const isPort = protocol !== 'ICMP' && protocol !== 'other';
  if (known?.protocol !== protocol) {
    ports.push({ protocol, ranges: isPort ? [{ first, last }] : [] });
    return;
  }
  const previous = known.ranges.at(-1);
  const ranges =
    previous !== undefined && previous.last + 1 === first
      ? [...known.ranges.slice(0, -1), { first: previous.first, last }]
      : [...known.ranges, { first, last }];
  ports[ports.length - 1] = { protocol, ranges };
}

/** Directions whose answers turn: what does it. */
export function turning({ before, after }: Pick<Change, 'before' | 'after'>): Direction[] {
  return DIRECTIONS.filter((direction) => before[direction].allowed !== after[direction].allowed);
}

function nameOf({ namespace, name }: Policy): string {
  return `${namespace}/${name}`;
}

function isolationOf({ before, after }: Comparison, groups: readonly Group[]): IsolationChange[] {
  const found = new Map<string, IsolationChange>();
  for (const group of groups) {
    const party = group.parties[0];
    const [address] = party?.addresses ?? [];
    if (party?.kind !== 'pod' || address === undefined) continue;
    for (const direction of ['ingress', 'egress'] as const) {
      const [was, is] = [before.end(address)[direction].policies, after.end(address)[direction].policies];
      if ((was.length === 0) === (is.length === 0)) continue;
      const becomes = is.length > 0 ? 'isolated' : 'open';
      const policies = is.length > 0 ? is : was;
      const key = `${direction} ${becomes} ${policies.map(nameOf).join(' ')}`;
      const known = found.get(key);
      found.set(key, { direction, becomes, policies, pods: [...(known?.pods ?? []), group] });
    }
  }
  return [...found.values()];
}

/** Whether a change is about every port of a protocol. */
export function isWhole({ protocol, ranges }: PortSet): boolean {
  if (protocol === 'ICMP' || protocol === 'other') return true;
  return ranges.length === 1 && ranges[0]?.first === 0 && ranges[0].last === PORT_MAX;
}

/** What is left of a protocol's ports. */
export function otherPorts(ranges: readonly PortRange[]): PortRange[] {
  const others: PortRange[] = [];
  let next = 0;
  for (const { first, last } of ranges) {
    if (first > next) others.push({ first: next, last: first - 1 });
    next = last + 1;
  }
  if (next <= PORT_MAX) others.push({ first: next, last: PORT_MAX });
  return others;
}
