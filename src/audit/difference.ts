/**
 * What a change of objects does to connections: which of them become allowed and which denied, between pods, nodes and what is outside.
 * Both states are asked, {@link Equivalence} by {@link Equivalence}; what nothing tells apart in either is asked about once. Complete: every
 * port and protocol is looked at, since each rule's ports are cut where a rule of either state begins or ends.
 */
import type { Family } from '../policy/address.ts';
import { type End, type Equivalence, outsideClasses } from '../policy/equivalence.ts';
import {
  addressOf,
  type Group,
  groupParties,
  isOwnNode,
  isPair,
  outsideParties,
  pairAmong,
  type Party,
  partyOfNode,
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
  /** Of one of them; those of the others are the same as far as a direction turns. */
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
  readonly changes: readonly Change[];
  readonly isolation: readonly IsolationChange[];
}

export const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP', 'other'];

export function differenceOf(comparison: Comparison): Difference {
  const parties = partiesOf(comparison);
  const { before, after } = comparison;
  // No policy of either state tells those of one group apart.
  const groups = groupParties(parties, ({ addresses }) =>
    addresses.map((address) => `${before.end(address).class} ${after.end(address).class}`).join(' '),
  );
  return { changes: unite(new Comparer(comparison, groups).changes()), isolation: isolationOf(comparison, groups) };
}

/** Pods of both states, nodes, and what is outside of the cluster. */
export function partiesOf({ before, after, pods, nodes }: Comparison): Party[] {
  const { world } = after;
  return [
    ...pods.filter((pod) => !pod.terminal).flatMap((pod) => partyOfPod(pod, world) ?? []),
    ...nodes.flatMap((node) => partyOfNode(node, world) ?? []),
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

/** What becomes of the connections of two groups, of one family. */
interface Found {
  readonly source: Group;
  readonly destination: Group;
  readonly family: Family;
  /** Numbers of the verdicts. */
  readonly was: number;
  readonly is: number;
  readonly ports: PortSet[];
}

class Comparer {
  readonly #before: Equivalence;
  readonly #after: Equivalence;
  readonly #onlyPolicies: boolean;
  readonly #groups: readonly Group[];
  readonly #candidates: readonly Readonly<Record<Family, readonly Candidate[]>>[];

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

  *changes(): Generator<Change> {
    for (const [to, destination] of this.#groups.entries()) {
      for (const [from, source] of this.#groups.entries()) {
        const found: Found[] = [];
        for (const family of [4, 6] as const) {
          const pair = pairAmong(this.#candidates[from]?.[family] ?? [], this.#candidates[to]?.[family] ?? []);
          if (pair !== undefined && !this.#isUntouched(...pair)) found.push(...this.#compare(source, destination, family, ...pair));
        }
        yield* this.#united(found);
      }
    }
  }

  /** Whether the same policies judge them as before. */
  #isUntouched(source: Candidate, destination: Candidate): boolean {
    return (
      this.#onlyPolicies &&
      samePolicies(source.before.egress.policies, source.after.egress.policies) &&
      samePolicies(destination.before.ingress.policies, destination.after.ingress.policies)
    );
  }

  *#compare(source: Group, destination: Group, family: Family, from: Candidate, to: Candidate): Generator<Found> {
    const found = new Map<string, Found>();
    for (const protocol of PROTOCOLS) {
      for (const { first, last } of this.#pieces(protocol, from, to)) {
        const was = this.#before.verdictNumber(from.before, to.before, protocol, first);
        const is = this.#after.verdictNumber(from.after, to.after, protocol, first);
        if (this.#before.isAllowed(was) === this.#after.isAllowed(is)) continue;
        const key = `${was} ${is}`;
        let one = found.get(key);
        if (one === undefined) {
          one = { source, destination, family, was, is, ports: [] };
          found.set(key, one);
        }
        addPorts(one.ports, protocol, first, last);
      }
    }
    yield* found.values();
  }

  /** Ports that no rule of either state tells apart. */
  #pieces(protocol: Protocol, from: Candidate, to: Candidate): PortRange[] {
    if (protocol === 'ICMP' || protocol === 'other') return [{ first: 0, last: 0 }];
    const cuts = new Set([
      ...this.#before.portCuts(from.before, to.before, protocol),
      ...this.#after.portCuts(from.after, to.after, protocol),
    ]);
    const firsts = [...cuts].sort((a, b) => a - b);
    return firsts.map((first, index) => ({ first, last: (firsts[index + 1] ?? PORT_MAX + 1) - 1 }));
  }

  /** Families to which the same happens, on the same ports and for the same reasons, are one change. */
  *#united(found: readonly Found[]): Generator<Change> {
    const byKey = new Map<string, { readonly one: Found; readonly families: Family[] }>();
    for (const one of found) {
      const key = `${one.was} ${one.is} ${JSON.stringify(one.ports)}`;
      const known = byKey.get(key);
      if (known === undefined) byKey.set(key, { one, families: [one.family] });
      else known.families.push(one.family);
    }
    for (const { one, families } of byKey.values()) {
      const { source, destination, was, is, ports } = one;
      const [before, after] = [this.#before.verdictNumbered(was), this.#after.verdictNumbered(is)];
      yield {
        becomes: after.allowed ? 'allowed' : 'denied',
        sources: [source],
        destinations: [destination],
        families,
        ports,
        before,
        after,
      };
    }
  }
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

/** Changes that differ in their sources only become one, and then those that differ in their destinations only. */
function unite(changes: Iterable<Change>): Change[] {
  const names = (groups: readonly Group[]): string => groups.map(({ name }) => name).join('\n');
  const bySources = united(
    changes,
    ({ destinations }) => names(destinations),
    (into, { sources }) => ({ ...into, sources: [...into.sources, ...sources] }),
  );
  return united(
    bySources,
    ({ sources }) => names(sources),
    (into, { destinations }) => ({ ...into, destinations: [...into.destinations, ...destinations] }),
  );
}

function united(changes: Iterable<Change>, keyOf: (change: Change) => string, add: (into: Change, change: Change) => Change): Change[] {
  const byKey = new Map<string, Change>();
  for (const change of changes) {
    const { becomes, families, ports } = change;
    const key = [becomes, families.join(), JSON.stringify(ports), turning(change).join(), reasonsKey(change), keyOf(change)].join('\u0000');
    const known = byKey.get(key);
    byKey.set(key, known === undefined ? change : add(known, change));
  }
  return [...byKey.values()];
}

/** Directions whose answers turn: what does it. */
export function turning({ before, after }: Pick<Change, 'before' | 'after'>): Direction[] {
  return (['egress', 'ingress'] as const).filter((direction) => before[direction].allowed !== after[direction].allowed);
}

/** The same for changes that have the same reasons. */
function reasonsKey(change: Change): string {
  return turning(change)
    .flatMap((direction) => [change.before[direction], change.after[direction]])
    .map((one) => {
      if (one.reason === 'refused') return `refused ${one.policies.map(nameOf).join(' ')}`;
      return one.reason === 'admitted' ? `admitted ${nameOf(one.policy)} ${one.rule} ${one.peer} ${one.port}` : one.reason;
    })
    .join('\u0000');
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
