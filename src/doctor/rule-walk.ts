/**
 * What the rules of nf_tables do with a packet, without sending one: the packet is followed through the base chains of a hook, rule by
 * rule. Of a packet some bits are known and others are not (any pod of a subnet, any source port), and of rules some say what they ask
 * for in a way that only the kernel reads. So a rule may match, may not match, or may do either, and what is said in the end is what
 * may happen: nobody is accused on a guess.
 */
import {
  type Chain,
  type ComparisonOp,
  type Element,
  type Expression,
  MalformedError,
  readAttributes,
  type Rule,
  type Verdict,
} from 'nftables-js';
import { addressBytes, type Family, familyOf, type Prefix, widthOf } from '../policy/address.ts';
import type { Rules } from './evidence.ts';

/** The first packet of a new flow, at one hook. What is left out is not known. */
export interface TestPacket {
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
  readonly source: Prefix;
  readonly destination: Prefix;
  /** IANA's number. */
  readonly protocol: number;
  /** Of TCP, UDP and SCTP. */
  readonly destinationPort?: number;
  /** Of ICMP and ICMPv6. */
  readonly icmpType?: number;
  readonly iif?: { readonly name: string; readonly index: number };
  readonly oif?: { readonly name: string; readonly index: number };
}

export const PROTOCOL = { icmp: 1, ipip: 4, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const;

export type Effect = 'accept' | 'drop' | 'translate';

/** One thing that may happen to a packet in a base chain. */
export interface Hit {
  readonly effect: Effect;
  /** The rule that does it; undefined: the policy of the chain. */
  readonly rule: Rule | undefined;
  /** The rules that led from the base chain to the rule's own, jump by jump. */
  readonly via: readonly Rule[];
  /** The rule asks for the packet's port, so that it is about this kind of packet and no other. */
  readonly namesPort: boolean;
}

export interface ChainOutcome {
  readonly chain: Chain;
  /** All that may happen, in the order of the rules; one alone is certain. */
  readonly hits: readonly Hit[];
}

/** What each base chain of the hook may do with the packet, in the order in which the kernel asks them. */
export function walk(rules: Rules, packet: TestPacket): ChainOutcome[] {
  const family = familyOf(packet.source.address);
  const walker = new Walker(rules, packet);
  return rules.chains
    .filter(({ base, family: of }) => base?.hook === packet.hook && sees(of, family) && base.type !== 'route')
    .filter((chain) => !isDormant(rules, chain))
    .toSorted((a, b) => (a.base?.priority ?? 0) - (b.base?.priority ?? 0))
    .map((chain) => ({ chain, hits: walker.baseChain(chain) }));
}

function sees(of: Chain['family'], family: Family): boolean {
  return of === 'inet' || of === (family === 4 ? 'ip' : 'ip6');
}

function isDormant({ tables }: Rules, chain: Chain): boolean {
  return tables.some((table) => table.family === chain.family && table.name === chain.table && table.flags.includes('dormant'));
}

/** Bytes, of which those bits are known that are set in `known`. */
interface Value {
  readonly bytes: Uint8Array;
  readonly known: Uint8Array;
}

type Match = 'yes' | 'no' | 'maybe';

const REGISTER_BYTES = 4;
const REGISTERS = 16;
/** A chain of jumps is as long as the kernel lets it be (NFT_JUMP_STACK_SIZE). */
const DEPTH_MAX = 16;

/** Rules by their chain, and sets, each by family, table and name. */
interface RuleIndex {
  readonly chains: ReadonlyMap<string, readonly Rule[]>;
  readonly sets: ReadonlyMap<string, Rules['sets'][number]>;
}

/** kube-proxy has ten thousands of rules, and many packets are followed through the same ones. */
const indexes = new WeakMap<Rules, RuleIndex>();

function indexOf(rules: Rules): RuleIndex {
  const known = indexes.get(rules);
  if (known !== undefined) return known;
  const index: RuleIndex = {
    chains: Map.groupBy(rules.rules, ({ family, table, chain }) => `${family} ${table} ${chain}`),
    sets: new Map(rules.sets.map((set) => [`${set.family} ${set.table} ${set.name}`, set])),
  };
  indexes.set(rules, index);
  return index;
}

class Walker {
  readonly #index: RuleIndex;
  readonly #packet: TestPacket;
  #mark: Value = exactly(u32(0));

  constructor(rules: Rules, packet: TestPacket) {
    this.#index = indexOf(rules);
    this.#packet = packet;
  }

  baseChain(chain: Chain): Hit[] {
    this.#mark = exactly(u32(0));
    const { hits, goesOn } = this.#chain(chain, chain.name, 0);
    const policy = chain.base?.policy === 'drop' ? 'drop' : 'accept';
    return goesOn ? [...hits, { effect: policy, rule: undefined, via: [], namesPort: false }] : hits;
  }

  /** @returns what may happen in it, and whether a packet may come out at its end */
  #chain({ family, table }: Pick<Chain, 'family' | 'table'>, name: string, depth: number): ChainWalk {
    const hits: Hit[] = [];
    if (depth > DEPTH_MAX) return { hits, goesOn: true };
    let leaves = false;
    for (const rule of this.#index.chains.get(`${family} ${table} ${name}`) ?? []) {
      const { effects, isCertain, namesPort } = this.#rule(rule);
      let goesOn = !isCertain;
      for (const effect of effects) {
        const after = this.#effect(effect, rule, depth, namesPort, hits);
        if (after === 'next') goesOn = true;
        if (after === 'leave') leaves = true;
      }
      if (!goesOn) return { hits, goesOn: leaves };
    }
    return { hits, goesOn: true };
  }

  /** What a rule may do with the packet; certain: one of these it does. */
  #rule(rule: Rule): Effects & { readonly namesPort: boolean } {
    const state: RuleState = { registers: new Registers(), isCertain: true, namesPort: false };
    for (const expression of rule.expressions) {
      const outcome = this.#expression(expression, rule, state);
      if (outcome === 'no') break;
      if (outcome === 'maybe') state.isCertain = false;
      if (typeof outcome === 'string') continue;
      return { effects: outcome.effects, isCertain: state.isCertain && outcome.isCertain, namesPort: state.namesPort };
    }
    return { effects: [], isCertain: false, namesPort: false };
  }

  /** @returns where the packet goes then: to the next rule, out of the chain, or nowhere */
  #effect(effect: Effect | Verdict, rule: Rule, depth: number, namesPort: boolean, hits: Hit[]): 'next' | 'leave' | 'end' {
    const verdict: Verdict['verdict'] | 'translate' = typeof effect === 'string' ? effect : effect.verdict;
    switch (verdict) {
      case 'accept':
      case 'drop':
      case 'translate':
        hits.push({ effect: verdict, rule, via: [], namesPort });
        return 'end';
      case 'jump':
      case 'goto': {
        const below = this.#chain(rule, typeof effect === 'object' && 'chain' in effect ? effect.chain : '', depth + 1);
        for (const hit of below.hits) hits.push({ ...hit, via: [rule, ...hit.via], namesPort: hit.namesPort || namesPort });
        if (!below.goesOn) return 'end';
        return verdict === 'jump' ? 'next' : 'leave';
      }
      case 'return':
        return 'leave';
      case 'continue':
      case 'break':
        return 'next';
    }
  }

  /** Whether the packet matches; or what the rule does with it. */
  #expression(expression: Expression, rule: Rule, state: RuleState): Match | Effects {
    const { registers } = state;
    switch (expression.expr) {
      case 'payload':
        registers.set(expression.register, this.#payload(expression.base, expression.offset, expression.length));
        state.portRegister =
          expression.base === 'transport' && expression.offset <= 2 && expression.offset + expression.length >= 4
            ? expression.register
            : state.portRegister === expression.register
              ? undefined
              : state.portRegister;
        return 'yes';
      case 'meta':
        registers.set(expression.register, this.#meta(expression.key));
        return 'yes';
      case 'metaSet':
        if (expression.key === 'mark') this.#mark = state.isCertain ? registers.get(expression.register, 4) : unknown(4);
        return 'yes';
      case 'ct':
        registers.set(expression.register, ct(expression.key));
        return 'yes';
      case 'cmp': {
        const { register, op, value } = expression;
        const match = compare(registers.get(register, value.length), op, value);
        if (register === state.portRegister && op === 'eq') state.namesPort = true;
        return match;
      }
      case 'range': {
        const { register, op, from, to } = expression;
        const inside = within(registers.get(register, from.length), from, to);
        if (register === state.portRegister && op === 'eq') state.namesPort = true;
        return op === 'eq' ? inside : not(inside);
      }
      case 'bitwise':
        registers.set(
          expression.destination,
          masked(registers.get(expression.source, expression.mask.length), expression.mask, expression.xor),
        );
        return 'yes';
      case 'immediate':
        registers.set(expression.register, exactly(expression.value));
        return 'yes';
      case 'lookup':
        if (expression.register === state.portRegister && expression.invert !== true) state.namesPort = true;
        return this.#lookup(expression, rule, registers);
      case 'verdict':
        return { effects: [expression], isCertain: true };
      case 'reject':
        return { effects: ['drop'], isCertain: true };
      case 'masquerade':
      case 'nat':
        return { effects: ['translate'], isCertain: true };
      case 'limit':
        return 'maybe';
      case 'counter':
      case 'log':
      case 'objref':
      case 'ctSet':
        return 'yes';
      case 'unknown':
        return this.#extension(expression.name, expression.data, registers);
    }
  }

  #payload(base: 'link' | 'network' | 'transport' | 'inner', offset: number, length: number): Value {
    const header = base === 'network' ? networkHeader(this.#packet) : base === 'transport' ? transportHeader(this.#packet) : undefined;
    const value = unknown(length);
    if (header === undefined) return value;
    for (let at = 0; at < length; at++) {
      value.bytes[at] = header.bytes[offset + at] ?? 0;
      value.known[at] = header.known[offset + at] ?? 0;
    }
    return value;
  }

  #meta(key: Extract<Expression, { expr: 'meta' }>['key']): Value {
    const { source, protocol, iif, oif } = this.#packet;
    const isIPv4 = typeof source.address === 'number';
    if (key === 'l4proto') return exactly(Uint8Array.of(protocol));
    if (key === 'nfproto') return exactly(Uint8Array.of(isIPv4 ? 2 : 10));
    if (key === 'protocol') return exactly(isIPv4 ? Uint8Array.of(0x08, 0x00) : Uint8Array.of(0x86, 0xdd));
    if (key === 'mark') return this.#mark;
    const link = key === 'iif' || key === 'iifname' ? iif : key === 'oif' || key === 'oifname' ? oif : undefined;
    if (link === undefined) return unknown(16);
    return exactly(key === 'iif' || key === 'oif' ? u32(link.index) : interfaceName(link.name));
  }

  #lookup(expression: Extract<Expression, { expr: 'lookup' }>, rule: Rule, registers: Registers): Match | Effects {
    const { set: name, register, destination, invert = false } = expression;
    const set = this.#index.sets.get(`${rule.family} ${rule.table} ${name}`);
    if (set === undefined) {
      if (typeof destination === 'number') registers.set(destination, unknown(16));
      return 'maybe';
    }
    const { match, elements } = find(set, registers, register);
    if (destination === undefined) return invert ? not(match) : match;
    if (destination === 'verdict') {
      if (match === 'no') return 'no';
      const effects = elements.flatMap(({ data }) => (data !== undefined && 'verdict' in data ? [data] : []));
      return { effects, isCertain: match === 'yes' && effects.length === 1 };
    }
    const [only] = elements;
    const isOne = match === 'yes' && elements.length === 1 && only?.data !== undefined && !('verdict' in only.data);
    registers.set(destination, isOne && only.data instanceof Uint8Array ? exactly(only.data) : unknown(16));
    return match;
  }

  /** What iptables writes into nf_tables: matches and targets of xtables, in their own form. */
  #extension(kind: string, data: Uint8Array, registers: Registers): Match | Effects {
    const { name, info } = readExtension(data) ?? {};
    if (kind === 'target') {
      if (name === 'REJECT') return { effects: ['drop'], isCertain: true };
      if (name === 'MASQUERADE' || name === 'SNAT' || name === 'DNAT' || name === 'REDIRECT')
        return { effects: ['translate'], isCertain: true };
      if (name === 'MARK') this.#mark = unknown(4);
      return 'yes';
    }
    if (kind === 'match' && name !== undefined && info !== undefined) return this.#xtables(name, info);
    // It may have written into any register.
    registers.clear();
    return 'maybe';
  }

  #xtables(name: string, info: Uint8Array): Match {
    const { protocol, destinationPort } = this.#packet;
    const view = new DataView(info.buffer, info.byteOffset, info.byteLength);
    if (name === 'comment') return 'yes';
    // linux/netfilter/xt_tcpudp.h: struct xt_udp { u16 spts[2], dpts[2]; u8 invflags; }
    if (name === 'udp' && info.length >= 9) {
      if (protocol !== PROTOCOL.udp) return 'no';
      const isAnySource = view.getUint16(0, true) === 0 && view.getUint16(2, true) === 0xffff;
      const [from, to] = [view.getUint16(4, true), view.getUint16(6, true)];
      if (!isAnySource || destinationPort === undefined) return 'maybe';
      const XT_UDP_INV_DSTPT = 0x02;
      const isInside = destinationPort >= from && destinationPort <= to;
      return isInside !== ((view.getUint8(8) & XT_UDP_INV_DSTPT) !== 0) ? 'yes' : 'no';
    }
    if (name === 'tcp' && protocol !== PROTOCOL.tcp) return 'no';
    // linux/netfilter/xt_conntrack.h: struct xt_conntrack_mtinfo3. Where it asks for the state alone.
    if (name === 'conntrack' && info.length >= 152) {
      const XT_CONNTRACK_STATE = 1;
      const [asks, inverts, states] = [view.getUint16(146, true), view.getUint16(148, true), view.getUint16(150, true)];
      if (asks !== XT_CONNTRACK_STATE) return 'maybe';
      return ((states & CT_NEW) !== 0) !== ((inverts & XT_CONNTRACK_STATE) !== 0) ? 'yes' : 'no';
    }
    return 'maybe';
  }
}

interface ChainWalk {
  readonly hits: Hit[];
  readonly goesOn: boolean;
}

interface RuleState {
  readonly registers: Registers;
  /** All that was asked for so far holds for sure. */
  isCertain: boolean;
  namesPort: boolean;
  /** The register that holds the destination port, and perhaps more. */
  portRegister?: number | undefined;
}

interface Effects {
  readonly effects: readonly (Effect | Verdict)[];
  readonly isCertain: boolean;
}

/** A rule begins with nothing in them. */
class Registers {
  readonly #bytes = new Uint8Array(REGISTERS * REGISTER_BYTES);
  readonly #known = new Uint8Array(REGISTERS * REGISTER_BYTES);

  /** What is left of the last four bytes is zero. */
  set(register: number, { bytes, known }: Value): void {
    const at = register * REGISTER_BYTES;
    for (let index = 0; index < Math.ceil(bytes.length / REGISTER_BYTES) * REGISTER_BYTES && at + index < this.#bytes.length; index++) {
      this.#bytes[at + index] = bytes[index] ?? 0;
      this.#known[at + index] = known[index] ?? 0xff;
    }
  }

  get(register: number, length: number): Value {
    const at = register * REGISTER_BYTES;
    return { bytes: this.#bytes.slice(at, at + length), known: this.#known.slice(at, at + length) };
  }

  clear(): void {
    this.#known.fill(0);
  }
}

// --- values

function exactly(bytes: Uint8Array): Value {
  return { bytes, known: new Uint8Array(bytes.length).fill(0xff) };
}

function unknown(length: number): Value {
  return { bytes: new Uint8Array(length), known: new Uint8Array(length) };
}

/** In host order. */
function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function interfaceName(name: string): Uint8Array {
  const bytes = new Uint8Array(16);
  new TextEncoder().encodeInto(name, bytes.subarray(0, 15));
  return bytes;
}

/** The state NEW as a bit (linux/netfilter/nf_conntrack_common.h: NF_CT_STATE_BIT). */
const CT_NEW = 8;

/** Of the first packet of a flow. */
function ct(key: Extract<Expression, { expr: 'ct' }>['key']): Value {
  if (key === 'state') return exactly(u32(CT_NEW));
  if (key === 'mark') return exactly(u32(0));
  if (key === 'labels') return exactly(new Uint8Array(16));
  // IP_CT_DIR_ORIGINAL
  if (key === 'direction') return exactly(Uint8Array.of(0));
  return unknown(16);
}

function networkHeader({ source, destination, protocol }: TestPacket): Value {
  const isIPv4 = typeof source.address === 'number';
  const header = unknown(isIPv4 ? 20 : 40);
  header.bytes[0] = isIPv4 ? 0x45 : 0x60;
  header.known[0] = isIPv4 ? 0xff : 0xf0;
  const at = isIPv4 ? { protocol: 9, source: 12, destination: 16 } : { protocol: 6, source: 8, destination: 24 };
  header.bytes[at.protocol] = protocol;
  header.known[at.protocol] = 0xff;
  for (const [where, { address, length }] of [[at.source, source] as const, [at.destination, destination] as const]) {
    const bytes = addressBytes(address);
    header.bytes.set(bytes, where);
    for (let bit = 0; bit < Math.min(length, widthOf(familyOf(address))); bit++) {
      const index = where + (bit >>> 3);
      header.known[index] = (header.known[index] ?? 0) | (0x80 >>> (bit & 7));
    }
  }
  return header;
}

function transportHeader({ protocol, destinationPort, icmpType }: TestPacket): Value | undefined {
  const header = unknown(20);
  if (protocol === PROTOCOL.icmp || protocol === PROTOCOL.icmpv6) {
    if (icmpType === undefined) return undefined;
    header.bytes[0] = icmpType;
    header.known[0] = 0xff;
    return header;
  }
  if (protocol !== PROTOCOL.udp && protocol !== PROTOCOL.tcp && protocol !== PROTOCOL.sctp) return undefined;
  if (destinationPort !== undefined) {
    new DataView(header.bytes.buffer).setUint16(2, destinationPort);
    header.known.fill(0xff, 2, 4);
  }
  if (protocol === PROTOCOL.tcp) {
    // SYN
    header.bytes[13] = 0x02;
    header.known[13] = 0xff;
  }
  return header;
}

function masked({ bytes, known }: Value, mask: Uint8Array, xor: Uint8Array): Value {
  return {
    bytes: bytes.map((byte, index) => (byte & (mask[index] ?? 0)) ^ (xor[index] ?? 0)),
    known: known.map((bits, index) => bits | ~(mask[index] ?? 0)),
  };
}

function compare(value: Value, op: ComparisonOp, wanted: Uint8Array): Match {
  if (op === 'eq' || op === 'neq') {
    const equal = isEqual(value, wanted);
    return op === 'eq' ? equal : not(equal);
  }
  const [least, most] = bounds(value);
  const [toLeast, toMost] = [Buffer.compare(least, wanted), Buffer.compare(most, wanted)];
  const holds = (order: number): boolean => (op === 'lt' ? order < 0 : op === 'lte' ? order <= 0 : op === 'gt' ? order > 0 : order >= 0);
  // What holds for both ends holds for all between.
  return holds(toLeast) === holds(toMost) ? (holds(toLeast) ? 'yes' : 'no') : 'maybe';
}

function isEqual({ bytes, known }: Value, wanted: Uint8Array): Match {
  let isCertain = true;
  for (const [index, byte] of wanted.entries()) {
    const bits = known[index] ?? 0;
    if (((bytes[index] ?? 0) & bits) !== (byte & bits)) return 'no';
    if (bits !== 0xff) isCertain = false;
  }
  return isCertain ? 'yes' : 'maybe';
}

/** The least and the most that it may be. */
function bounds({ bytes, known }: Value): [Uint8Array, Uint8Array] {
  return [bytes.map((byte, index) => byte & (known[index] ?? 0)), bytes.map((byte, index) => byte | (~(known[index] ?? 0) & 0xff))];
}

function within(value: Value, from: Uint8Array, to: Uint8Array): Match {
  const [least, most] = bounds(value);
  if (Buffer.compare(most, from) < 0 || Buffer.compare(least, to) > 0) return 'no';
  return Buffer.compare(least, from) >= 0 && Buffer.compare(most, to) <= 0 ? 'yes' : 'maybe';
}

function not(match: Match): Match {
  return match === 'yes' ? 'no' : match === 'no' ? 'yes' : 'maybe';
}

// --- sets

interface Found {
  readonly match: Match;
  /** Those that the key may be; with `yes` and one alone, it is that one. */
  readonly elements: readonly Element[];
}

function find(set: Rules['sets'][number], registers: Registers, register: number): Found {
  const isConcatenation = set.key.length > 1;
  if (!set.flags.includes('interval')) {
    const exact = exactElement(set, registers, register);
    if (exact !== undefined) return exact;
  }
  const candidates =
    set.flags.includes('interval') && !isConcatenation
      ? intervals(set.elements)
      : set.elements.map((element) => ({ element, from: element.key, to: element.keyEnd ?? element.key }));
  const elements: Element[] = [];
  for (const { element, from, to } of candidates) {
    // Without a key it is the one for all that have none.
    const match = from.length === 0 ? 'maybe' : elementMatch(registers.get(register, from.length), from, to, isConcatenation);
    if (match === 'yes') return { match, elements: [element] };
    if (match === 'maybe') elements.push(element);
  }
  return { match: elements.length === 0 ? 'no' : 'maybe', elements };
}

/** Elements by their keys, of sets that have as many as a cluster has pods. */
const elementIndexes = new WeakMap<readonly Element[], ReadonlyMap<string, Element>>();

/** Of a set of single keys, for a value that is known bit by bit; undefined: it has to be looked for one by one. */
function exactElement(set: Rules['sets'][number], registers: Registers, register: number): Found | undefined {
  const { elements } = set;
  const length = elements[0]?.key.length ?? 0;
  const { bytes, known } = registers.get(register, length);
  if (length === 0 || known.some((bits) => bits !== 0xff)) return undefined;
  let index = elementIndexes.get(elements);
  if (index === undefined) {
    // Ranges, and the element for all keys that there are none for, are no single keys.
    const isPlain = elements.every(({ key, keyEnd }) => key.length === length && keyEnd === undefined);
    index = new Map(isPlain ? elements.map((element) => [textOf(element.key), element]) : []);
    elementIndexes.set(elements, index);
  }
  if (index.size === 0) return undefined;
  const found = index.get(textOf(bytes));
  return found === undefined ? { match: 'no', elements: [] } : { match: 'yes', elements: [found] };
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function elementMatch(value: Value, from: Uint8Array, to: Uint8Array, isConcatenation: boolean): Match {
  if (Buffer.compare(from, to) === 0) return isEqual(value, from);
  // Where one part of a concatenation begins and another ends is not known here.
  return isConcatenation ? 'maybe' : within(value, from, to);
}

/** Openings and ends of ranges, sorted, as pairs; the end is no part of the range. */
function intervals(elements: readonly Element[]): { element: Element; from: Uint8Array; to: Uint8Array }[] {
  const sorted = elements.toSorted(
    (a, b) => Buffer.compare(a.key, b.key) || Number(b.intervalEnd ?? false) - Number(a.intervalEnd ?? false),
  );
  return sorted.flatMap((element, index) => {
    if (element.intervalEnd === true) return [];
    const next = sorted[index + 1];
    const to = next === undefined || element.key.length === 0 ? new Uint8Array(element.key.length).fill(0xff) : before(next.key);
    return [{ element, from: element.key, to }];
  });
}

function before(key: Uint8Array): Uint8Array {
  const bytes = key.slice();
  for (let at = bytes.length - 1; at >= 0; at--) {
    bytes[at] = ((bytes[at] ?? 0) - 1) & 0xff;
    if (bytes[at] !== 0xff) break;
  }
  return bytes;
}

// --- xtables

/** linux/netfilter/nf_tables_compat.h: NFTA_MATCH_NAME, NFTA_MATCH_INFO, and the same of targets. */
const EXTENSION_NAME = 1;
const EXTENSION_INFO = 3;

/** Undefined where it is no extension of xtables. */
export function readExtension(data: Uint8Array): { readonly name: string; readonly info: Uint8Array } | undefined {
  try {
    const attributes = readAttributes(data);
    const name = attributes.get(EXTENSION_NAME)?.string();
    return name === undefined ? undefined : { name, info: attributes.get(EXTENSION_INFO)?.data ?? new Uint8Array() };
  } catch (error) {
    if (error instanceof MalformedError) return undefined;
    throw error;
  }
}
