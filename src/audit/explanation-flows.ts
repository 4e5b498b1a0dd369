/**
 * Every flow between two ends, explained, and united where the explanation is the same: pods that no policy can tell apart are asked about
 * once, so that a Deployment of thousands costs what one pod does, and a block of addresses falls into the parts that policies tell apart.
 */
import { TOO_MANY_LABELS } from '../policy/labels.ts';
import { SluiceError } from '../errors.ts';
import {
  type Address,
  type Family,
  familyOf,
  formatAddress,
  formatPrefix,
  type Prefix,
  prefixRange,
  type Range,
} from '../policy/address.ts';
import type { Question } from '../policy/evaluate.ts';
import { isAlikeKey } from '../policy/nearest-miss.ts';
import type { Direction, Pod, Policy } from '../policy/objects.ts';
import { addressAfter, contains, rangeToPrefixes, union } from '../policy/ranges.ts';
import { localAddresses, type World } from '../policy/world.ts';
import {
  coarseKey,
  type DirectionExplanation,
  explainFlow,
  type Explained,
  type FlowExplanation,
  uniteExplanations,
} from './explanation.ts';
import { type Ask, type AskedPort, declaredAsks, type Ends, keyOf, type Member, type Unanswered } from './explanation-ends.ts';
import type { Inventory } from './inventory.ts';

/** Flows that have the same explanation. */
export interface ExplainedFlow extends FlowExplanation {
  readonly source: Group;
  readonly destination: Group;
  readonly families: readonly Family[];
  readonly protocol: Ask['protocol'] | 'any';
  /** Ascending; none for ICMP, and where the answer is the same for every port of every protocol. */
  readonly ports: readonly AskedPort[];
  /** Each source and its destination are one and the same pod. */
  readonly itself: boolean;
}

/** Those of an end that a flow is about. */
export interface Group {
  /** What the end is called. */
  readonly name: string;
  /** How many members the end has as a whole. */
  readonly of: number;
  readonly members: readonly Member[];
  /** Of a block: the addresses of no pod and no node, as the fewest blocks. */
  readonly blocks: readonly Prefix[];
  /** One address of each part of these. */
  readonly samples: readonly Member[];
}

export interface Explanations {
  readonly flows: readonly ExplainedFlow[];
  readonly unanswered: readonly Unanswered[];
}

/** Parts of a block that are asked about; pods and nodes in it do not count. */
const PARTS_MAX = 512;
/** Above this, explanations that differ in nothing but their misses become one. */
const ENTRIES_WANTED = 24;
/**
 * Questions that are asked, those that many policies refuse counting for more: of each of these it is looked for what comes nearest. More
 * would take minutes, and nobody reads the answer.
 */
const WORK_MAX = 20_000;
/** So many policies that refuse are as much work as a question. */
const POLICIES_PER_QUESTION = 100;

type ExplainedInventory = Explained & Pick<Inventory, 'pods' | 'nodes' | 'policies'>;

/** @throws SluiceError `PORT_MISSING` where it depends on the port, and none is named or declared */
export function explainFlows(inventory: ExplainedInventory, ends: Ends): Explanations {
  return new FlowReader(inventory, ends).read();
}

/** Members that no policy in question can tell apart. */
interface Kind {
  readonly members: Member[];
  /** Of a block: all of it. */
  readonly ranges: readonly Range[];
  /** Undefined: not named, not declared. Of sources none is asked. */
  readonly asks: readonly Ask[] | undefined;
}

interface Nodes {
  readonly addressed: ReadonlySet<string>;
  readonly running: ReadonlySet<string>;
}

interface Row {
  readonly sources: readonly Kind[];
  readonly destinations: readonly Kind[];
  readonly families: readonly Family[];
  readonly protocol: ExplainedFlow['protocol'];
  readonly ports: readonly AskedPort[];
  readonly itself: boolean;
  /** The same value for the same explanation. */
  readonly explanation: FlowExplanation;
}

class FlowReader {
  readonly #inventory: ExplainedInventory;
  readonly #world: World;
  readonly #ends: Ends;
  readonly #unanswered: Unanswered[] = [];
  readonly #ids = new Map<Kind | FlowExplanation, number>();
  /** Of kinds of destination with one pod the kind of source that is nothing but the same pod. */
  readonly #twins = new Map<Kind, Kind>();
  readonly #explanations = new Map<string, FlowExplanation>();
  #subjectKeys: ReadonlyMap<string, ReadonlySet<string>> | undefined;
  #work = 0;

  constructor(inventory: ExplainedInventory, ends: Ends) {
    this.#inventory = inventory;
    this.#world = inventory.world;
    this.#ends = ends;
  }

  read(): Explanations {
    const { source, destination } = this.#ends;
    const inSource = source.block && this.#membersIn(source.block);
    const inDestination = destination.block && this.#membersIn(destination.block.prefix);
    const sources = source.members
      .map((member) => ({ member, asks: undefined }))
      .concat((inSource ?? []).map((member) => ({ member, asks: undefined })));
    const blockAsks = destination.block?.asks;
    const targets = destination.targets.concat(
      (inDestination ?? []).map((member) => ({ member, asks: blockAsks ?? declaredAsks(member) })),
    );

    // What tells sources apart is what the policies of the destinations ask, and the other way round.
    const asked = {
      source: relevanceOf(this.#policiesOf(targets, 'ingress'), 'ingress', false),
      destination: relevanceOf(this.#policiesOf(sources, 'egress'), 'egress', true),
    };
    const sourceKinds = this.#kinds(sources, asked.source, this.#nodesOf(targets));
    const targetKinds = this.#kinds(targets, asked.destination, this.#nodesOf(sources));
    if (source.block !== undefined)
      for (const each of this.#parts(source.block, asked.source.edges, inSource ?? [], undefined)) sourceKinds.push(each);
    if (destination.block !== undefined) {
      for (const each of this.#parts(destination.block.prefix, asked.destination.edges, inDestination ?? [], blockAsks))
        targetKinds.push(each);
    }
    for (const kind of [...sourceKinds, ...targetKinds]) this.#ids.set(kind, this.#ids.size);

    const rows = this.#rows(sourceKinds, targetKinds);
    const of = { source: sources.length, destination: targets.length };
    return { flows: this.#unite(rows).map((row) => this.#flowOf(row, of)), unanswered: this.#unanswered };
  }

  /** Pods and nodes whose addresses are in a block, each with these. */
  #membersIn(block: Prefix): Member[] {
    const range = prefixRange(block);
    const isIn = (address: Address): boolean => contains([range], address);
    const found = new Map<string, Member>();
    for (const pod of this.#inventory.pods) {
      const own = pod.addresses.filter((address) => isIn(address) && this.#world.podAt(address) === pod);
      if (own.length > 0) found.set(keyOf(pod), { name: keyOf(pod), pod, addresses: own.slice(0, 1) });
    }
    for (const node of this.#inventory.nodes) {
      for (const address of localAddresses(node).filter((own) => isIn(own) && this.#world.podAt(own) === undefined)) {
        found.set(formatAddress(address), { name: formatAddress(address), pod: undefined, addresses: [address] });
      }
    }
    return [...found.values()];
  }

  /** All that isolate any of these in a direction. */
  #policiesOf(members: readonly { readonly member: Member }[], direction: Direction): ReadonlySet<Policy> {
    const policies = new Set<Policy>();
    const seen = new Set<string>();
    for (const { member } of members) {
      for (const address of member.addresses) {
        const pod = this.#world.podAt(address);
        if (pod === undefined) continue;
        const labels = `${pod.namespace} ${JSON.stringify(this.#subjectLabels(pod))}`;
        if (seen.has(labels)) continue;
        seen.add(labels);
        for (const policy of this.#world.isolating(pod, direction)) policies.add(policy);
      }
    }
    return policies;
  }

  /** Of a pod's labels those that decide which policies isolate it. */
  #subjectLabels({ namespace, labels }: Pod): (string | null)[] {
    if (labels === TOO_MANY_LABELS) return ['*'];
    this.#subjectKeys ??= subjectKeys(this.#inventory.policies);
    return [...(this.#subjectKeys.get(namespace) ?? [])].map((key) => labels.get(key) ?? null);
  }

  /** Nodes that have an address at this end, and those that its pods are on: a pod and its own node are a case apart (row 28). */
  #nodesOf(members: readonly { readonly member: Member }[]): Nodes {
    const nodes = { addressed: new Set<string>(), running: new Set<string>() };
    for (const { member } of members) {
      for (const address of member.addresses) {
        const pod = this.#world.podAt(address);
        const node = this.#world.nodeAt(address);
        if (pod !== undefined) nodes.running.add(pod.node);
        else if (node !== undefined) nodes.addressed.add(node.name);
      }
    }
    return nodes;
  }

  /** @param others nodes of the other end */
  #kinds(
    members: readonly { readonly member: Member; readonly asks: readonly Ask[] | undefined }[],
    relevance: Relevance,
    others: Nodes,
  ): Kind[] {
    const kinds = new Map<string, Kind>();
    for (const { member, asks } of members) {
      const key = [...member.addresses.map((address) => this.#signature(address, relevance, others)), JSON.stringify(asks ?? null)].join(
        '\n',
      );
      const kind = kinds.get(key);
      if (kind === undefined) kinds.set(key, { members: [member], ranges: [], asks });
      else kind.members.push(member);
    }
    return [...kinds.values()];
  }

  #signature(address: Address, { edges, keys, portNames }: Relevance, others: Nodes): string {
    const pod = this.#world.podAt(address);
    const family = familyOf(address);
    if (pod === undefined) {
      const node = this.#world.nodeAt(address)?.name;
      const which = node === undefined ? 'outside' : others.running.has(node) ? `of ${node}` : 'of a node';
      return `${which} ${family} ${edgesUpTo(edges[family], address)}`;
    }
    // Names of ports are the destination's (row 15).
    const ports = portNames && pod.ports.length > 0 ? JSON.stringify(pod.ports) : '';
    const labels = JSON.stringify([this.#subjectLabels(pod), [...pod.labels].filter(([key]) => keys(key)).sort(byKey)]);
    return `${family} ${pod.namespace} ${labels} ${edgesUpTo(edges[family], address)} ${ports} ${others.addressed.has(pod.node) ? pod.node : ''}`;
  }

  /** What is left of a block without pods and nodes, cut where policies cut it. */
  #parts(block: Prefix, edges: Record<Family, readonly Address[]>, within: readonly Member[], asks: Kind['asks']): Kind[] {
    const { first, last } = prefixRange(block);
    const taken = new Set(within.flatMap(({ addresses }) => addresses));
    const cuts = edges[familyOf(first)].filter((edge) => edge > first && edge <= last);
    const kinds: Kind[] = [];
    let leftOut = 0;
    for (const [index, start] of [first, ...cuts].entries()) {
      const next = cuts[index];
      const end = next === undefined ? last : addressBefore(next);
      const free = firstFree({ first: start, last: end }, taken, this.#world);
      if (free === undefined) continue;
      if (kinds.length >= PARTS_MAX) {
        leftOut++;
        continue;
      }
      const member: Member = { name: formatAddress(free), pod: undefined, addresses: [free] };
      kinds.push({ members: [member], ranges: [{ first: start, last: end }], asks });
    }
    if (leftOut > 0) {
      this.#unanswered.push({
        name: formatPrefix(block),
        reason: `policies cut it into more than ${PARTS_MAX} parts; ${leftOut} of them are left out: ask about a smaller block`,
      });
    }
    return kinds;
  }

  #rows(sources: readonly Kind[], destinations: readonly Kind[]): Row[] {
    const rows: Row[] = [];
    const portless: Kind[] = [];
    let leftOut = 0;
    for (const destination of destinations) {
      for (const source of sources) {
        if (this.#work >= WORK_MAX) {
          leftOut++;
          continue;
        }
        if (isTwin(source, destination)) this.#twins.set(destination, source);
        for (const { from, to, itself } of representatives(source, destination)) {
          const families = from.addresses.flatMap((a) =>
            to.addresses.flatMap((b) => (familyOf(a) === familyOf(b) ? [[a, b] as const] : [])),
          );
          if (families.length === 0) {
            const kind = from.addresses.some((address) => familyOf(address) === 4) ? 'IPv4' : 'IPv6';
            const other = kind === 'IPv4' ? 'IPv6' : 'IPv4';
            this.#leaveOut(
              pairName(this.#ends, source, destination),
              `no packet goes between them: the source has ${kind} only, and the destination ${other} only`,
            );
          }
          for (const [a, b] of families) {
            const ends = { source: a, destination: b };
            for (const asked of this.#askedOf(ends, destination)) {
              const explanation = this.#explain({
                ...ends,
                protocol: asked.protocol === 'any' ? 'TCP' : asked.protocol,
                port: asked.number,
              });
              const { protocol, ports } = asked;
              rows.push({ sources: [source], destinations: [destination], families: [familyOf(a)], protocol, ports, itself, explanation });
            }
            if (destination.asks === undefined && !this.#isForAnyPort(ends)) portless.push(destination);
          }
        }
      }
    }
    if (leftOut > 0) {
      this.#leaveOut(
        `${this.#ends.source.name} to ${this.#ends.destination.name}`,
        `these are more flows than are explained at once; ${leftOut} kinds of them are left out: ask about fewer pods or one port`,
      );
    }
    this.#sayPortless(portless, rows.length > 0);
    return rows;
  }

  *#askedOf(
    ends: Pick<Question, 'source' | 'destination'>,
    { asks }: Kind,
  ): Generator<{
    readonly protocol: ExplainedFlow['protocol'];
    readonly number: number | undefined;
    readonly ports: readonly AskedPort[];
  }> {
    if (asks === undefined) {
      if (this.#isForAnyPort(ends)) yield { protocol: 'any', number: ANY_PORT, ports: [] };
      return;
    }
    for (const { protocol, ports } of asks) {
      if (ports.length === 0) yield { protocol, number: undefined, ports };
      for (const port of ports) yield { protocol, number: port.port, ports: [port] };
    }
  }

  /** Whether no policy is asked, so that the port makes no difference. */
  #isForAnyPort(ends: Pick<Question, 'source' | 'destination'>): boolean {
    const { egress, ingress } = this.#explain({ ...ends, protocol: 'TCP', port: ANY_PORT });
    return [egress, ingress].every(({ reason }) => reason !== 'admitted' && reason !== 'refused');
  }

  #explain(question: Question): FlowExplanation {
    const explanation = explainFlow(this.#inventory, question);
    this.#work += 1 + (isolating(explanation.egress) + isolating(explanation.ingress)) / POLICIES_PER_QUESTION;
    const text = JSON.stringify(explanation);
    const known = this.#explanations.get(text);
    if (known !== undefined) return known;
    this.#explanations.set(text, explanation);
    this.#ids.set(explanation, this.#ids.size);
    return explanation;
  }

  #leaveOut(name: string, reason: string): void {
    if (!this.#unanswered.some((one) => one.name === name && one.reason === reason)) this.#unanswered.push({ name, reason });
  }

  #sayPortless(portless: readonly Kind[], isAnswered: boolean): void {
    const members = [...new Set(portless)].flatMap((kind) => kind.members);
    const [first] = members;
    if (first === undefined) return;
    const { destination } = this.#ends;
    const isPod = first.pod !== undefined;
    if (!isAnswered) {
      const name = destination.name.includes(':') ? `[${destination.name}]` : destination.name;
      throw new SluiceError(
        'PORT_MISSING',
        isPod
          ? `${destination.name} declares no port, and policies ask for one`
          : `${destination.name} declares no ports, being no pod, and policies ask for one`,
        { hint: `Name one: ${name}:80, ${name}:53/UDP, ${name}:icmp.`, exitStatus: 2 },
      );
    }
    for (const { name } of members) this.#leaveOut(name, 'it declares no port, and policies ask for one: name it');
  }

  /** What differs in one thing alone becomes one: first families, then ports, sources and destinations. */
  #unite(rows: readonly Row[]): Row[] {
    const fine = this.#uniteBy(rows, ({ explanation }) => this.#ids.get(explanation) ?? 0);
    if (fine.length <= ENTRIES_WANTED) return fine;
    // So many are not read by anybody: what matters then is the verdict, and who says so.
    const keys = new Map<FlowExplanation, string>();
    const keyOfRow = ({ explanation }: Row): string => {
      const key = keys.get(explanation) ?? coarseKey(explanation);
      keys.set(explanation, key);
      return key;
    };
    return this.#uniteBy(rows, keyOfRow);
  }

  /** @param same equal for explanations that may become one */
  #uniteBy(rows: readonly Row[], same: (row: Row) => string | number): Row[] {
    const ids = (kinds: readonly Kind[]): string =>
      kinds
        .map((kind) => this.#ids.get(kind) ?? 0)
        .sort((a, b) => a - b)
        .join();
    const ports = (row: Row): string => `${row.protocol} ${JSON.stringify(row.ports)}`;
    const all = <T>(group: readonly Row[], of: (row: Row) => readonly T[]): T[] => [...new Set(group.flatMap(of))];
    const key = (row: Row, ...parts: readonly string[]): string => [...parts, row.itself, same(row)].join('\n');

    const ofFamilies = mergeBy(
      rows,
      (row) => key(row, ids(row.sources), ids(row.destinations), ports(row)),
      (group) => ({ families: all(group, (row) => row.families) }),
    );
    const ofPorts = mergeBy(
      ofFamilies,
      (row) => key(row, ids(row.sources), ids(row.destinations), row.families.join(), row.protocol),
      (group) => ({ ports: group.flatMap((row) => row.ports).sort((a, b) => a.port - b.port) }),
    );
    const ofSources = mergeBy(
      ofPorts,
      (row) => key(row, ids(row.destinations), row.families.join(), ports(row)),
      (group) => ({ sources: all(group, (row) => row.sources) }),
    );
    // A pod and itself is a row of its own, which must not keep apart what is the same otherwise: {a} to b and {b} to a are {a, b} to {a, b}.
    const keyOfSources = (row: Row, sources: readonly Kind[]): string => key(row, ids(sources), row.families.join(), ports(row));
    const counts = new Map<string, number>();
    const withSelf = new Map<Row, readonly Kind[]>();
    for (const row of ofSources) {
      const [only] = row.destinations;
      const isAlone = only !== undefined && row.destinations.length === 1 && only.members.length === 1;
      const twin = isAlone && !row.itself ? this.#twins.get(only) : undefined;
      const sources = twin === undefined ? row.sources : [...row.sources, twin];
      withSelf.set(row, sources);
      for (const candidate of new Set([keyOfSources(row, row.sources), keyOfSources(row, sources)])) {
        counts.set(candidate, (counts.get(candidate) ?? 0) + 1);
      }
    }
    const filled = ofSources.map((row) => {
      const sources = withSelf.get(row) ?? row.sources;
      return sources !== row.sources && (counts.get(keyOfSources(row, sources)) ?? 0) > 1 ? { ...row, sources } : row;
    });
    return mergeBy(
      filled,
      (row) => keyOfSources(row, row.sources),
      (group) => ({ destinations: all(group, (row) => row.destinations) }),
    );
  }

  #flowOf(
    { sources, destinations, families, protocol, ports, itself, explanation }: Row,
    of: Record<'source' | 'destination', number>,
  ): ExplainedFlow {
    const { source, destination } = this.#ends;
    let [from, to] = [membersOf(sources), membersOf(destinations)];
    if (itself) {
      const names = new Set(to.map(({ name }) => name));
      from = from.filter(({ name, pod }) => pod !== undefined && names.has(name));
      const both = new Set(from.map(({ name }) => name));
      to = to.filter(({ name }) => both.has(name));
    }
    return {
      source: { name: source.name, of: of.source, members: from, ...blocksOfKinds(sources) },
      destination: { name: destination.name, of: of.destination, members: to, ...blocksOfKinds(destinations) },
      families: families.toSorted((a, b) => a - b),
      protocol,
      ports,
      itself,
      ...explanation,
    };
  }
}

function isolating(explanation: DirectionExplanation): number {
  return explanation.reason === 'refused' ? explanation.isolatedBy.length : 0;
}

/** Evaluated where no policy is asked: any will do. */
const ANY_PORT = 1;
const LAST = {
  4: prefixRange({ address: 0 as Address, length: 0 }).last,
  6: prefixRange({ address: 0n as Address, length: 0 }).last,
} as const;

/**
 * Who is asked about for two kinds: one source and one destination that are not the same pod, and one pod that is both, where there are
 * such.
 */
function* representatives(
  source: Kind,
  destination: Kind,
): Generator<{ readonly from: Member; readonly to: Member; readonly itself: boolean }> {
  const [from] = source.members;
  const [to] = destination.members;
  if (from === undefined || to === undefined) return;
  const others = source.members.find((member) => !isSame(member, to));
  const another = destination.members.find((member) => !isSame(member, from));
  if (others !== undefined) yield { from: others, to, itself: false };
  else if (another !== undefined) yield { from, to: another, itself: false };
  const names = new Set(destination.members.flatMap(({ name, pod }) => (pod === undefined ? [] : [name])));
  const self = source.members.find(({ name, pod }) => pod !== undefined && names.has(name));
  const twin = self && destination.members.find((member) => isSame(member, self));
  if (self !== undefined && twin !== undefined) yield { from: self, to: twin, itself: true };
}

function isTwin({ members: [from, ...others] }: Kind, { members: [to, ...more] }: Kind): boolean {
  return from !== undefined && to !== undefined && others.length === 0 && more.length === 0 && isSame(from, to);
}

function isSame(a: Member, b: Member): boolean {
  return a.pod !== undefined && b.pod !== undefined && a.name === b.name;
}

function pairName({ source, destination }: Ends, from: Kind, to: Kind): string {
  const name = (end: string, { members, ranges }: Kind): string =>
    members.length === 1 && ranges.length === 0 ? (members[0]?.name ?? end) : end;
  return `${name(source.name, from)} to ${name(destination.name, to)}`;
}

/** Rows of one key become one, in the order of the first of each. */
function mergeBy(rows: readonly Row[], keyOfRow: (row: Row) => string, merge: (group: readonly Row[]) => Partial<Row>): Row[] {
  return [...Map.groupBy(rows, keyOfRow).values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined || group.length === 1) return group;
    const explanation = group.map((row) => row.explanation).reduce((a, b) => (a === b ? a : uniteExplanations(a, b)));
    return [{ ...first, explanation, ...merge(group) }];
  });
}

function membersOf(kinds: readonly Kind[]): Member[] {
  return kinds.flatMap(({ members, ranges }) => (ranges.length > 0 ? [] : members));
}

function blocksOfKinds(kinds: readonly Kind[]): Pick<Group, 'blocks' | 'samples'> {
  const blocks = union(kinds.flatMap(({ ranges }) => ranges)).flatMap(rangeToPrefixes);
  return { blocks, samples: kinds.flatMap(({ members, ranges }) => (ranges.length > 0 ? members : [])) };
}

/** What policies ask of the other end. */
interface Relevance {
  /** Where their blocks begin, and where what is behind them does; ascending. */
  readonly edges: Record<Family, readonly Address[]>;
  /** Whether a label of a pod may make a difference: it is asked for, or is so much like one that it is named in an explanation. */
  readonly keys: (key: string) => boolean;
  /** Whether it is their ports that are asked about. */
  readonly portNames: boolean;
}

function relevanceOf(policies: ReadonlySet<Policy>, direction: Direction, portNames: boolean): Relevance {
  const starts: Record<Family, Set<Address>> = { 4: new Set(), 6: new Set() };
  const asked = new Set<string>();
  for (const policy of policies) {
    for (const peer of (policy[direction] ?? []).flatMap(({ peers = [] }) => peers)) {
      if (peer.kind === 'pods') for (const { key } of peer.pods.requirements) asked.add(key);
      if (peer.kind !== 'block') continue;
      for (const { first, last } of peer.ranges) {
        starts[peer.family].add(first);
        if (last !== LAST[peer.family]) starts[peer.family].add(addressAfter(last));
      }
      // Outside of the cidr and in its except are two different things to say.
      const { first, last } = prefixRange(peer.cidr);
      starts[peer.family].add(first);
      if (last !== LAST[peer.family]) starts[peer.family].add(addressAfter(last));
    }
  }
  const known = new Map<string, boolean>();
  const keys = (key: string): boolean => {
    let isRelevant = known.get(key);
    if (isRelevant === undefined) {
      isRelevant = asked.has(key) || [...asked].some((one) => isAlikeKey(one, key));
      known.set(key, isRelevant);
    }
    return isRelevant;
  };
  return { portNames, edges: { 4: [...starts[4]].sort(ascending), 6: [...starts[6]].sort(ascending) }, keys };
}

/** By namespace the labels that its policies select pods by. */
function subjectKeys(policies: readonly Policy[]): Map<string, Set<string>> {
  const keys = new Map<string, Set<string>>();
  for (const { namespace, subject } of policies) {
    const own = keys.get(namespace) ?? new Set<string>();
    keys.set(namespace, own);
    for (const { key } of subject.requirements) own.add(key);
  }
  return keys;
}

function byKey([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** How many edges are at or before the address: addresses with the same number are in the same blocks. */
function edgesUpTo(edges: readonly Address[], address: Address): number {
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((edges[middle] ?? address) <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

function ascending(a: Address, b: Address): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function addressBefore(address: Address): Address {
  return (typeof address === 'number' ? address - 1 : address - 1n) as Address;
}

/** An address of a part that nobody has; undefined: all are somebody's. */
function firstFree({ first, last }: Range, taken: ReadonlySet<Address>, world: World): Address | undefined {
  for (let address = first; ; address = addressAfter(address)) {
    if (!taken.has(address) && world.podAt(address) === undefined && world.nodeAt(address) === undefined) return address;
    if (address >= last) return undefined;
  }
}
