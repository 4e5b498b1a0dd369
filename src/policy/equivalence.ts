/**
 * Which addresses no policy can tell apart, and verdicts about them: for questions about everybody at once, of which there are as many
 * as the square of the pods. What a policy can see of an address is looked at once: whether its pod is isolated, and by which policies;
 * which peers match it; what numbers its named ports have. Addresses of which all of that is the same are of one class.
 *
 * No verdict is derived here: each is the evaluator's, about one pair of addresses, and it is remembered for all pairs that the policies
 * concerned cannot tell from it. Only a pod and itself (row 30) and a pod and its own node (row 28) are asked about one by one, because
 * there it matters who an address is, and not what it is like.
 *
 * Policies that isolate nobody tell nobody apart. Objects must not change under it, as under {@link World}.
 */
import { TOO_MANY_LABELS } from './labels.ts';
import { type Address, compareAddresses, type Family, familyOf, ipv4, ipv6, type Range } from './address.ts';
import { type DirectionVerdict, evaluate, type Question, type Verdict, verdictOf } from './evaluate.ts';
import type { Direction, Peer, Pod, Policy, PolicyProtocol, Protocol } from './objects.ts';
import { peerSelects } from './peers.ts';
import { PORT_MAX } from './ports.ts';
import { addressAfter, union } from './ranges.ts';
import { ownsAddresses, type World } from './world.ts';

/** An address, and what policies can see of it. Made by {@link Equivalence.end}. */
export interface End {
  readonly address: Address;
  readonly family: Family;
  /** The same number: no policy can tell the two from one another. */
  readonly class: number;
  /** As {@link class}, but that addresses of both families may have the same: a pod's own two, where no block has either. */
  readonly likeness: number;
  /** The pod whose address it is. */
  readonly pod: Pod | undefined;
  /** Name of the node whose address it is; undefined where a pod has it, or nobody does. */
  readonly node: string | undefined;
  /** What of it peers and ports can see: a coarser number, which leaves out who isolates it. */
  readonly seenAs: number;
  readonly egress: Regime;
  readonly ingress: Regime;
}

/** What a direction of pods is subject to: the same policies, and, where it is about ingress, the same numbers for the names that they use. */
export interface Regime {
  /** That isolate; in the order that the evaluator asks them. None: everything is allowed. */
  readonly policies: readonly Policy[];
  readonly number: number;
  /** Whether any rule tells ports or protocols apart. */
  readonly asksPorts: boolean;
}

/** A regime, with what is known of verdicts under it. */
class KnownRegime implements Regime {
  readonly number: number;
  readonly policies: readonly Policy[];
  readonly direction: Direction;
  /** Numbers of the distinct peers that its rules name. */
  readonly selectors: readonly number[];
  readonly blocks: readonly number[];
  /** By what an address is seen as: who of them all its rules cannot tell apart has the same number. */
  local = new Int32Array();
  /** What none of its peers has is 0. */
  readonly localByKey = new Map<string, number>([['', 0]]);
  /** Numbers of direction verdicts: by protocol and port, then by local number. */
  readonly verdicts = new Map<number, number[]>();
  /** The entry that was asked for last: most questions that follow one another are about the same port. */
  lastKey = -1;
  lastVerdicts: number[] = [];
  readonly asksPorts: boolean;
  /** Whether rules about egress name ports: what these are depends on who is reached. */
  readonly usesNames: boolean;
  /** First ports of the pieces into which its rules cut each protocol's; sorted, each once. */
  readonly cuts: Readonly<Record<PolicyProtocol, readonly number[]>>;

  constructor(
    number: number,
    policies: readonly Policy[],
    direction: Direction,
    selectors: readonly number[],
    blocks: readonly number[],
    usesNames: boolean,
    cuts: Readonly<Record<PolicyProtocol, readonly number[]>>,
  ) {
    this.number = number;
    this.policies = policies;
    this.direction = direction;
    this.selectors = selectors;
    this.blocks = blocks;
    this.asksPorts = policies.some((policy) => policy[direction]?.some(({ ports }) => ports !== undefined) === true);
    this.usesNames = usesNames;
    this.cuts = cuts;
  }
}

interface KnownEnd extends End {
  /** Of the pod, the same for what is the same pod; -1: none. */
  readonly podNumber: number;
  readonly egress: KnownRegime;
  readonly ingress: KnownRegime;
}

/** What a peer of kind `pods` asks: the same for peers of many policies. */
interface PodsPredicate {
  readonly policy: Policy;
  readonly peer: Extract<Peer, { kind: 'pods' }>;
}

interface BlockPredicate {
  readonly number: number;
  readonly family: Family;
  readonly ranges: readonly Range[];
}

/** More direction verdicts than this there are not; numbers of two of them fit into one that is safe. */
const DIRECTIONS = 2 ** 26;
/** A number that is to be worked out. */
const UNKNOWN = -1;
/** Protocols in the order of their numbers here. */
const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { TCP: 0, UDP: 1, SCTP: 2, ICMP: 3, other: 4 };

export class Equivalence {
  readonly world: World;
  readonly #ends = new Map<Address, KnownEnd>();
  readonly #likenesses = new Interner();
  readonly #pods = new Interner();
  readonly #seen = new Interner();
  readonly #portClasses = new Interner();
  /** Of what an address is seen as: the class of its pod's labels (-1: no pod's), and that of the blocks that have it. */
  readonly #labelClassOf: number[] = [];
  readonly #blockClassOf: number[] = [];
  readonly #portClassOf: number[] = [];

  /** By policies' own identity. */
  readonly #policyNumbers = new Map<Policy, number>();
  readonly #learnt: Readonly<Record<Direction, Set<Policy>>> = { ingress: new Set(), egress: new Set() };
  readonly #regimes = new Map<string, KnownRegime>();
  #regimeCount = 0;
  readonly #outsider: { readonly node: KnownRegime; readonly external: KnownRegime };

  readonly #selectorNumbers = new Map<string, number>();
  readonly #selectors: PodsPredicate[] = [];
  /** By number of the selector: the classes of labels that it matches. */
  readonly #matching: Set<number>[] = [];
  readonly #labelClasses = new Interner();
  readonly #labelClassBySignature = new Map<string, number>();
  #labelKeys: readonly string[] = [];

  readonly #blockNumbers = new Map<string, number>();
  readonly #blocks: BlockPredicate[] = [];
  readonly #blockClasses = new BlockClasses();
  readonly #pieces: Readonly<Record<Family, AddressPieces>>;
  /** `TCP http`: the names that some rule uses. */
  readonly #portNames = new Set<string>();
  /** Where some rule cuts the ports of a protocol; unordered, and sorted when asked for. */
  readonly #cuts: Readonly<Record<PolicyProtocol, number[]>> = { TCP: [], UDP: [], SCTP: [] };
  readonly #allCuts: Partial<Record<PolicyProtocol, readonly number[]>> = {};
  /** Policies whose ingress rules use any. */
  readonly #namingIngress = new Set<Policy>();

  readonly #directionNumbers = new Map<DirectionVerdict, number>();
  readonly #directionByText = new Map<string, number>();
  readonly #directions: DirectionVerdict[] = [];
  /** Of each direction verdict whether it allows. */
  readonly #allows: boolean[] = [];

  /** @param pods every pod of the world: their policies are those that are looked at */
  constructor(world: World, pods: Iterable<Pod>) {
    this.world = world;
    const owners = [...pods].filter(ownsAddresses);
    const isolating = owners.map((pod) => [world.isolating(pod, 'egress'), world.isolating(pod, 'ingress')] as const);
    for (const [egress, ingress] of isolating) {
      for (const policy of egress) this.#learn(policy, 'egress');
      for (const policy of ingress) this.#learn(policy, 'ingress');
    }
    this.#outsider = { node: this.#regime([], 'egress', 'node'), external: this.#regime([], 'egress', 'external') };
    const keys = new Set(this.#selectors.flatMap(({ peer }) => peer.pods.requirements.map(({ key }) => key)));
    this.#labelKeys = [...keys].sort();
    this.#classifyLabels(owners);
    for (const { name, protocol, port } of owners.flatMap(({ ports }) => ports)) {
      if (this.#portNames.has(`${protocol} ${name}`)) this.#cuts[protocol].push(port, port + 1);
    }
    this.#pieces = { 4: new AddressPieces(4, this.#blocks, this.#blockClasses), 6: new AddressPieces(6, this.#blocks, this.#blockClasses) };
  }

  /** What policies can see of an address, whoever has it. The same object for the same address. */
  end(address: Address): End {
    return this.#end(address);
  }

  /** As {@link evaluate} answers. */
  verdict(question: Question): Verdict {
    const { source, destination, protocol, port } = question;
    // The evaluator says what is wrong with such a question.
    if (familyOf(source) !== familyOf(destination)) return evaluate(this.world, question);
    return this.verdictNumbered(this.verdictNumber(this.#end(source), this.#end(destination), protocol, port));
  }

  /**
   * The number of the verdict: equal numbers are equal verdicts. Both ends are of one family, and from {@link end}.
   * Throws what {@link evaluate} throws.
   */
  verdictNumber(source: End, destination: End, protocol: Protocol, port: number | undefined): number {
    const [from, to] = [source as KnownEnd, destination as KnownEnd];
    const egress = this.#direction('egress', from.egress, from, to, protocol, port);
    return egress * DIRECTIONS + this.#direction('ingress', to.ingress, from, to, protocol, port);
  }

  /** The verdict that has this number. */
  verdictNumbered(number: number): Verdict {
    const { egress, ingress } = this.directionNumbers(number);
    return verdictOf(this.directionNumbered(egress), this.directionNumbered(ingress));
  }

  /** Of which two answers a verdict is made up: numbers that are equal where the answers are. */
  directionNumbers(number: number): Readonly<Record<Direction, number>> {
    return { egress: Math.floor(number / DIRECTIONS), ingress: number % DIRECTIONS };
  }

  /** The answer that has this number. */
  directionNumbered(number: number): DirectionVerdict {
    const direction = this.#directions[number];
    if (direction === undefined) throw new RangeError(`no answer has number ${number}`);
    return direction;
  }

  /** Whether the verdict of this number allows; what {@link verdictNumbered} says, and cheaper. */
  isAllowed(number: number): boolean {
    return this.#allows[Math.floor(number / DIRECTIONS)] === true && this.#allows[number % DIRECTIONS] === true;
  }

  /**
   * Where the ports of a protocol have to be cut so that no rule concerned tells two ports of one piece apart: the first of each piece,
   * ascending, with 0.
   */
  portCuts(source: End, destination: End, protocol: PolicyProtocol): readonly number[] {
    const egress = (source as KnownEnd).egress.cuts[protocol];
    const ingress = (destination as KnownEnd).ingress.cuts[protocol];
    const named = (destination.pod?.ports ?? []).filter(
      (port) => port.protocol === protocol && this.#portNames.has(`${protocol} ${port.name}`),
    );
    // Of one without rules about ports there is only 0, which all have; and the same cuts are the same list.
    if (named.length === 0 && egress.length === 1) return ingress;
    if (named.length === 0 && ingress.length === 1) return egress;
    return portsAmong([...egress, ...ingress, ...named.flatMap(({ port }) => [port, port + 1])]);
  }

  /** The same for ports of a protocol that no rule of any policy, and no name that one uses, tells apart. */
  portPiece(protocol: PolicyProtocol, port: number): number {
    const cuts = (this.#allCuts[protocol] ??= portsAmong([0, ...this.#cuts[protocol]]));
    let low = 0;
    let high = cuts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((cuts[middle] ?? 0) <= port) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Where the addresses of a family have to be cut so that no block tells two of a piece apart: the first of each piece, ascending. */
  addressCuts(family: Family): readonly Address[] {
    return this.#pieces[family].firsts;
  }

  /** Whether any block of a policy has it. */
  isInBlock(address: Address): boolean {
    return this.#pieces[familyOf(address)].classOf(address) !== NO_BLOCK;
  }

  #end(address: Address): KnownEnd {
    let end = this.#ends.get(address);
    if (end === undefined) {
      end = this.#makeEnd(address);
      this.#ends.set(address, end);
    }
    return end;
  }

  #makeEnd(address: Address): KnownEnd {
    const { world } = this;
    const family = familyOf(address);
    const pod = world.podAt(address);
    const node = pod === undefined ? world.nodeAt(address)?.name : undefined;
    const labelClass = pod === undefined ? -1 : this.#labelClass(pod);
    const blockClass = this.#pieces[family].classOf(address);
    const ports = this.#portClass(pod);
    const kind = pod !== undefined ? 'pod' : node === undefined ? 'external' : 'node';
    const seenAs = this.#seen.number(`${kind} ${labelClass} ${blockClass} ${ports}`);
    this.#labelClassOf[seenAs] = labelClass;
    this.#blockClassOf[seenAs] = blockClass;
    this.#portClassOf[seenAs] = ports;
    const outsider = node === undefined ? this.#outsider.external : this.#outsider.node;
    const egress = pod === undefined ? outsider : this.#regime(world.isolating(pod, 'egress'), 'egress', '');
    const ingress = pod === undefined ? outsider : this.#ingressRegime(pod, ports);
    const likeness = this.#likenesses.number(`${seenAs} ${egress.number} ${ingress.number}`);
    // Twice, and one more for IPv6.
    const number = likeness * 2 + (family === 4 ? 0 : 1);
    const podNumber = pod === undefined ? -1 : this.#pods.number(`${pod.namespace}/${pod.name}/${pod.uid}`);
    return { address, family, class: number, likeness, pod, podNumber, node, seenAs, egress, ingress };
  }

  #direction(
    direction: Direction,
    regime: KnownRegime,
    source: KnownEnd,
    destination: KnownEnd,
    protocol: Protocol,
    port: number | undefined,
  ): number {
    const subject = direction === 'egress' ? source : destination;
    const other = direction === 'egress' ? destination : source;
    const isParticular =
      subject.pod !== undefined &&
      (other.pod === undefined ? other.node !== undefined && other.node === subject.pod.node : subject.podNumber === other.podNumber);
    const portNumber = protocol === 'ICMP' || protocol === 'other' ? 0 : (port ?? -1);
    // What is no port the evaluator complains about.
    const isPort = portNumber >= 0 && portNumber <= PORT_MAX && Number.isInteger(portNumber);
    if (isParticular || !isPort) return this.#ask(direction, source, destination, protocol, port);
    let local = regime.local[other.seenAs] ?? UNKNOWN;
    if (local === UNKNOWN) local = this.#localNumber(regime, other.seenAs);
    const key = PROTOCOL_NUMBERS[protocol] * (PORT_MAX + 1) + portNumber;
    if (regime.lastKey !== key) {
      let entry = regime.verdicts.get(key);
      if (entry === undefined) {
        entry = [];
        regime.verdicts.set(key, entry);
      }
      regime.lastKey = key;
      regime.lastVerdicts = entry;
    }
    const known = regime.lastVerdicts;
    let number = known[local];
    if (number === undefined) {
      number = this.#ask(direction, source, destination, protocol, port);
      known[local] = number;
    }
    return number;
  }

  #ask(direction: Direction, source: End, destination: End, protocol: Protocol, port: number | undefined): number {
    const verdict = evaluate(this.world, { source: source.address, destination: destination.address, protocol, port })[direction];
    const known = this.#directionNumbers.get(verdict);
    if (known !== undefined) return known;
    const text = this.#textOf(verdict);
    let number = this.#directionByText.get(text);
    if (number === undefined) {
      number = this.#directions.length;
      this.#directionByText.set(text, number);
      this.#directions.push(verdict);
      this.#allows.push(verdict.allowed);
    }
    // Most reasons are constants of the evaluator; what admits or refuses is made anew for each question, and not kept.
    if (verdict.reason !== 'admitted' && verdict.reason !== 'refused') this.#directionNumbers.set(verdict, number);
    return number;
  }

  /** The same for verdicts that are the same. */
  #textOf(verdict: DirectionVerdict): string {
    if (verdict.reason === 'refused') return `refused ${verdict.policies.map((policy) => this.#policyNumber(policy)).join(' ')}`;
    if (verdict.reason !== 'admitted') return verdict.reason;
    return `admitted ${this.#policyNumber(verdict.policy)} ${verdict.rule} ${verdict.peer} ${verdict.port}`;
  }

  #policyNumber(policy: Policy): number {
    let number = this.#policyNumbers.get(policy);
    if (number === undefined) {
      number = this.#policyNumbers.size;
      this.#policyNumbers.set(policy, number);
    }
    return number;
  }

  /** Takes in what the rules of a policy ask. */
  #learn(policy: Policy, direction: Direction): void {
    if (this.#learnt[direction].has(policy)) return;
    this.#learnt[direction].add(policy);
    for (const { peers = [], ports = [] } of policy[direction] ?? []) {
      for (const peer of peers) {
        if (peer.kind === 'pods') this.#selectorNumber(policy, peer);
        else if (peer.kind === 'block') this.#blockNumber(peer);
      }
      for (const port of ports) {
        if (port.kind === 'numbers') this.#cuts[port.protocol].push(port.first, port.last + 1);
        if (port.kind !== 'name') continue;
        this.#portNames.add(`${port.protocol} ${port.name}`);
        if (direction === 'ingress') this.#namingIngress.add(policy);
      }
    }
  }

  #selectorNumber(policy: Policy, peer: PodsPredicate['peer']): number {
    const where = peer.namespaces === undefined ? `in ${policy.namespace}` : `where ${peer.namespaces.text}`;
    // The text of a selector has no line break.
    const key = `${where}\n${peer.pods.text}`;
    let number = this.#selectorNumbers.get(key);
    if (number === undefined) {
      number = this.#selectors.length;
      this.#selectorNumbers.set(key, number);
      this.#selectors.push({ policy, peer });
      this.#matching.push(new Set());
    }
    return number;
  }

  #blockNumber({ family, ranges }: Extract<Peer, { kind: 'block' }>): number {
    const key = `${family} ${ranges.map(({ first, last }) => `${first}-${last}`).join(' ')}`;
    let number = this.#blockNumbers.get(key);
    if (number === undefined) {
      number = this.#blocks.length;
      this.#blockNumbers.set(key, number);
      this.#blocks.push({ number, family, ranges });
    }
    return number;
  }

  /** Pods of one namespace with the same values of all labels that are asked about share a signature. */
  #signature(pod: Pod): string {
    if (pod.labels === TOO_MANY_LABELS) return `${pod.namespace} *`;
    let text = pod.namespace;
    // With their lengths, as those that a directory holds may have any character in them; one that is absent differs from one that is empty.
    for (const key of this.#labelKeys) {
      const value = pod.labels.get(key);
      text += value === undefined ? ' -' : ` ${value.length}:${value}`;
    }
    return text;
  }

  #classifyLabels(pods: readonly Pod[]): void {
    const signatures = new Map<string, Pod>();
    for (const pod of pods) {
      const signature = this.#signature(pod);
      if (!signatures.has(signature)) signatures.set(signature, pod);
    }
    for (const [signature, pod] of signatures) this.#addSignature(signature, pod);
  }

  #addSignature(signature: string, pod: Pod): number {
    const matching: number[] = [];
    for (const [number, { policy, peer }] of this.#selectors.entries()) {
      if (peerSelects(this.world, policy, peer, pod)) matching.push(number);
    }
    const number = this.#labelClasses.number(matching.join(' '));
    for (const selector of matching) this.#matching[selector]?.add(number);
    this.#labelClassBySignature.set(signature, number);
    return number;
  }

  #labelClass(pod: Pod): number {
    const signature = this.#signature(pod);
    return this.#labelClassBySignature.get(signature) ?? this.#addSignature(signature, pod);
  }

  #portClass(pod: Pod | undefined): number {
    const named = (pod?.ports ?? []).flatMap(({ name, protocol, port }) =>
      this.#portNames.has(`${protocol} ${name}`) ? [`${protocol} ${name} ${port}`] : [],
    );
    return this.#portClasses.number([...new Set(named)].sort().join());
  }

  #regime(policies: readonly Policy[], direction: Direction, variant: string): KnownRegime {
    const key =
      policies.length === 0
        ? `open ${variant}`
        : `${direction} ${variant} ${policies.map((policy) => this.#policyNumber(policy)).join(' ')}`;
    let regime = this.#regimes.get(key);
    if (regime === undefined) {
      const rules = policies.flatMap((policy) => (policy[direction] ?? []).map((rule) => ({ policy, rule })));
      const selectors = new Set<number>();
      const blocks = new Set<number>();
      let usesNames = false;
      const cuts: Record<PolicyProtocol, number[]> = { TCP: [0], UDP: [0], SCTP: [0] };
      for (const { policy, rule } of rules) {
        for (const peer of rule.peers ?? []) {
          if (peer.kind === 'pods') selectors.add(this.#selectorNumber(policy, peer));
          else if (peer.kind === 'block') blocks.add(this.#blockNumber(peer));
        }
        for (const port of rule.ports ?? []) {
          if (port.kind === 'numbers') cuts[port.protocol].push(port.first, port.last + 1);
          else usesNames ||= direction === 'egress';
        }
      }
      const sorted = { TCP: portsAmong(cuts.TCP), UDP: portsAmong(cuts.UDP), SCTP: portsAmong(cuts.SCTP) };
      regime = new KnownRegime(this.#regimeCount++, policies, direction, [...selectors], [...blocks], usesNames, sorted);
      this.#regimes.set(key, regime);
    }
    return regime;
  }

  #ingressRegime(pod: Pod, ports: number): KnownRegime {
    const policies = this.world.isolating(pod, 'ingress');
    // Of two pods with the same policies the names of ports may mean other numbers.
    return this.#regime(policies, 'ingress', policies.some((policy) => this.#namingIngress.has(policy)) ? String(ports) : '');
  }

  #localNumber(regime: KnownRegime, seenAs: number): number {
    if (seenAs >= regime.local.length) {
      this.#prepare(regime);
      const prepared = regime.local[seenAs] ?? UNKNOWN;
      if (prepared !== UNKNOWN) return prepared;
    }
    const labelClass = this.#labelClassOf[seenAs] ?? -1;
    const blockClass = this.#blockClassOf[seenAs] ?? NO_BLOCK;
    // By name: the numbers of the destination's ports.
    let key = regime.usesNames ? `p${this.#portClassOf[seenAs]}` : '';
    for (const selector of regime.selectors) if (this.#matching[selector]?.has(labelClass) === true) key += ` s${selector}`;
    for (const block of regime.blocks) if (this.#blockClasses.has(blockClass, block)) key += ` b${block}`;
    let number = regime.localByKey.get(key);
    if (number === undefined) {
      number = regime.localByKey.size;
      regime.localByKey.set(key, number);
    }
    regime.local[seenAs] = number;
    return number;
  }

  /** Most of what there is is matched by no peer of a regime: that is noted of all of it at once, and only the others are looked at. */
  #prepare(regime: KnownRegime): void {
    const before = regime.local;
    const local = new Int32Array(this.#labelClassOf.length).fill(UNKNOWN);
    local.set(before);
    const matching = regime.selectors.map((selector) => this.#matching[selector] ?? new Set());
    if (!regime.usesNames) {
      const interesting = new Set(matching.flatMap((classes) => [...classes]));
      for (let seenAs = before.length; seenAs < local.length; seenAs++) {
        const isMatched = interesting.size > 0 && interesting.has(this.#labelClassOf[seenAs] ?? -1);
        const isInBlock = regime.blocks.length > 0 && this.#blockClassOf[seenAs] !== NO_BLOCK;
        if (!isMatched && !isInBlock) local[seenAs] = 0;
      }
    }
    regime.local = local;
  }
}

/** Gives the same text the same number, from 0. */
class Interner {
  readonly #numbers = new Map<string, number>();

  number(text: string): number {
    let number = this.#numbers.get(text);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(text, number);
    }
    return number;
  }
}

/** The class of addresses that no block has. */
const NO_BLOCK = 0;

/** Sets of blocks that have an address in common. */
class BlockClasses {
  readonly #numbers = new Interner();
  readonly #blocks: ReadonlySet<number>[] = [];

  constructor() {
    this.number([]);
  }

  /** @param blocks ascending */
  number(blocks: readonly number[]): number {
    const number = this.#numbers.number(blocks.join(' '));
    this.#blocks[number] ??= new Set(blocks);
    return number;
  }

  has(number: number, block: number): boolean {
    return this.#blocks[number]?.has(block) === true;
  }
}

/** The address space of a family, cut wherever a block begins or ends. */
class AddressPieces {
  /** Of each piece the first address; ascending, beginning with the first of the family. */
  readonly firsts: readonly Address[];
  readonly #classes: readonly number[];

  constructor(family: Family, blocks: readonly BlockPredicate[], classes: BlockClasses) {
    const own = blocks.filter((block) => block.family === family);
    const starts: Address[] = [family === 4 ? ipv4(0) : ipv6(0n)];
    for (const { ranges } of own) for (const { first, last } of ranges) starts.push(first, ...(isLast(last) ? [] : [addressAfter(last)]));
    this.firsts = ascending(starts);
    // Which blocks begin, and which end, with each piece: a sweep costs what the blocks are, not what they hold.
    const [begins, ends] = [new Map<Address, number[]>(), new Map<Address, number[]>()];
    const note = (map: Map<Address, number[]>, at: Address, block: number): void => {
      const known = map.get(at);
      if (known === undefined) map.set(at, [block]);
      else known.push(block);
    };
    for (const { number, ranges } of own) {
      for (const { first, last } of ranges) {
        note(begins, first, number);
        if (!isLast(last)) note(ends, addressAfter(last), number);
      }
    }
    const current = new Set<number>();
    this.#classes = this.firsts.map((first) => {
      for (const block of ends.get(first) ?? []) current.delete(block);
      for (const block of begins.get(first) ?? []) current.add(block);
      return classes.number([...current].sort((a, b) => a - b));
    });
  }

  classOf(address: Address): number {
    let low = 0;
    let high = this.firsts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      // Within the list, and of one family.
      if ((this.firsts[middle] as Address) <= address) low = middle;
      else high = middle - 1;
    }
    return this.#classes[low] ?? NO_BLOCK;
  }
}

/** Addresses that are neither a pod's nor a node's, and that no policy of any of the worlds tells apart. */
export interface OutsideClass {
  readonly family: Family;
  /** One of them. */
  readonly representative: Address;
  /** All of them; addresses of pods and nodes may lie between. Normal: ascending, disjoint. */
  readonly ranges: readonly Range[];
  /** No block of a policy has them: everything else. */
  readonly isRest: boolean;
}

/**
 * The classes of what is outside the cluster, the rest of each family last. Cut by the blocks of all the worlds, so that what is of one
 * class in each of them is of one class here. A block of which pods and nodes have every address is nobody's.
 */
export function outsideClasses(worlds: readonly Equivalence[]): OutsideClass[] {
  return ([4, 6] as const).flatMap((family) => {
    const firsts = ascending(worlds.flatMap((world) => world.addressCuts(family)));
    const classes = new Map<string, { readonly representative: Address; readonly isRest: boolean; readonly ranges: Range[] }>();
    let previous: { readonly ranges: Range[] } | undefined;
    for (const [index, first] of firsts.entries()) {
      const next = firsts[index + 1];
      const last = next === undefined ? lastOf(family) : addressBefore(next);
      const representative = firstOutside({ first, last }, worlds);
      if (representative === undefined) {
        // Nobody outside has an address of it: to whom it is counted makes no difference, and this is the shorter to write.
        previous?.ranges.push({ first, last });
        continue;
      }
      const key = worlds.map((world) => world.end(representative).class).join(' ');
      let entry = classes.get(key);
      if (entry === undefined) {
        entry = { representative, isRest: !worlds.some((world) => world.isInBlock(representative)), ranges: [] };
        classes.set(key, entry);
      }
      entry.ranges.push({ first, last });
      previous = entry;
    }
    return [...classes.values()]
      .map(({ representative, isRest, ranges }): OutsideClass => ({ family, representative, isRest, ranges: union(ranges) }))
      .sort((a, b) => Number(a.isRest) - Number(b.isRest) || compareAddresses(a.representative, b.representative));
  });
}

function firstOutside({ first, last }: Range, worlds: readonly Equivalence[]): Address | undefined {
  const isSomebodys = (address: Address): boolean =>
    worlds.some(({ world }) => world.podAt(address) !== undefined || world.nodeAt(address) !== undefined);
  for (let address = first; ; address = addressAfter(address)) {
    if (!isSomebodys(address)) return address;
    if (address >= last) return undefined;
  }
}

function lastOf(family: Family): Address {
  return family === 4 ? ipv4(2 ** 32 - 1) : ipv6((1n << 128n) - 1n);
}

function isLast(address: Address): boolean {
  return address === lastOf(familyOf(address));
}

function addressBefore(address: Address): Address {
  return typeof address === 'number' ? ipv4(address - 1) : ipv6(address - 1n);
}

/** Ascending, each once; what would follow the last port is none. */
function portsAmong(numbers: readonly number[]): number[] {
  return ascending(numbers.filter((number) => number <= PORT_MAX));
}

/** Each once. */
function ascending<T extends Address | number>(values: readonly T[]): T[] {
  return [...new Set(values)].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
