/**
 * Objects of nf_tables in the words of nft(8), from what the kernel holds: rules by their expressions, elements by their bytes. What has
 * no words here is listed as it is, in brackets, so that nothing that a rule does is passed over. (The text of a whole desired table, from
 * the neutral terms, is in text.ts.)
 */
import type { Chain, DataType, Element, Expression, MetaKey, Register, Rule, SetDefinition, Table, Verdict } from 'nftables-js';
import { addressFromBytes, formatAddress, formatPrefix } from '../../policy/address.ts';
import { rangeToPrefixes } from '../../policy/ranges.ts';

export interface RuleTextOptions {
  /** Whether to say what counters have counted. */
  readonly counts?: boolean;
  /** The set of this name, for those that have no name of their own (`__set0`): its elements are shown in the rule. */
  readonly set?: (name: string) => { readonly definition: SetDefinition; readonly elements: Iterable<Element> } | undefined;
}

/** A rule as `nft list` prints it. */
export function ruleText({ expressions, comment }: Pick<Rule, 'expressions' | 'comment'>, options: RuleTextOptions = {}): string {
  const words = new RuleWords(options);
  for (const [index, expression] of expressions.entries()) words.add(expression, expressions[index + 1]);
  return [...words.finish(), ...(comment === undefined ? [] : [`comment ${quote(comment)}`])].join(' ');
}

/** A rule as the list of its expressions, every value of each said: for rules that differ where their text does not. */
export function expressionList({ expressions, comment }: Pick<Rule, 'expressions' | 'comment'>): string {
  return [...expressions.map(bracketed), ...(comment === undefined ? [] : [`comment ${quote(comment)}`])].join(' ');
}

// --- rules

type Kind = 'address' | 'port' | 'protocol' | 'interface' | 'ct-state' | 'family' | 'host' | 'number' | 'icmp' | 'icmpv6' | 'bytes';

interface Field {
  /** Of a transport header before the protocol is put in front: `dport`. */
  readonly name: string;
  readonly kind: Kind;
  readonly base?: 'network' | 'transport';
  readonly network?: 4 | 6;
  /** Of an address of which only the beginning is read: how many bytes a whole one has. */
  readonly bytes?: number;
}

interface Loaded {
  readonly field: Field;
  readonly mask?: Uint8Array;
  readonly xor?: Uint8Array;
}

const NFPROTO: Readonly<Record<number, 4 | 6>> = { 2: 4, 10: 6 };
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  2: 'igmp',
  4: 'ipip',
  6: 'tcp',
  17: 'udp',
  33: 'dccp',
  47: 'gre',
  50: 'esp',
  51: 'ah',
  58: 'ipv6-icmp',
  132: 'sctp',
  136: 'udplite',
};
/** Those whose ports nft calls by the name of the protocol. */
const PORTED: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 33: 'dccp', 132: 'sctp', 136: 'udplite' };
/** linux/netfilter/nf_conntrack_common.h: NF_CT_STATE_BIT */
const STATES: readonly (readonly [bit: number, name: string])[] = [
  [1, 'invalid'],
  [2, 'established'],
  [4, 'related'],
  [8, 'new'],
  [64, 'untracked'],
];
/** RFC 792 */
const ICMP_TYPES: Readonly<Record<number, string>> = {
  0: 'echo-reply',
  3: 'destination-unreachable',
  4: 'source-quench',
  5: 'redirect',
  8: 'echo-request',
  11: 'time-exceeded',
  12: 'parameter-problem',
};
/** RFC 4443, RFC 4861 */
const ICMPV6_TYPES: Readonly<Record<number, string>> = {
  1: 'destination-unreachable',
  2: 'packet-too-big',
  3: 'time-exceeded',
  4: 'parameter-problem',
  128: 'echo-request',
  129: 'echo-reply',
  133: 'nd-router-solicit',
  134: 'nd-router-advert',
  135: 'nd-neighbor-solicit',
  136: 'nd-neighbor-advert',
  137: 'nd-redirect',
};
/** By offset and length: `version` is that of IP whose header it is. */
const NETWORK_FIELDS: Readonly<Record<4 | 6, Readonly<Record<string, Field>>>> = {
  4: {
    '8 1': { name: 'ip ttl', kind: 'number', base: 'network', network: 4 },
    '9 1': { name: 'ip protocol', kind: 'protocol', base: 'network', network: 4 },
    '12 4': { name: 'ip saddr', kind: 'address', base: 'network', network: 4 },
    '16 4': { name: 'ip daddr', kind: 'address', base: 'network', network: 4 },
  },
  6: {
    '6 1': { name: 'ip6 nexthdr', kind: 'protocol', base: 'network', network: 6 },
    '7 1': { name: 'ip6 hoplimit', kind: 'number', base: 'network', network: 6 },
    '8 16': { name: 'ip6 saddr', kind: 'address', base: 'network', network: 6 },
    '24 16': { name: 'ip6 daddr', kind: 'address', base: 'network', network: 6 },
  },
};
const OPERATORS: Readonly<Record<string, string>> = { eq: '', neq: '!=', lt: '<', lte: '<=', gt: '>', gte: '>=' };
const LOG_LEVELS: readonly string[] = ['emerg', 'alert', 'crit', 'err', 'warn', 'notice', 'info', 'debug'];
/** NFT_REJECT_ICMPX_* */
const ICMPX_CODES: readonly string[] = ['no-route', 'port-unreachable', 'host-unreachable', 'admin-prohibited'];

/** What acts, and does not only ask or load. */
type Statement = Extract<
  Expression,
  { expr: 'verdict' | 'counter' | 'objref' | 'limit' | 'log' | 'reject' | 'masquerade' | 'nat' | 'unknown' }
>;

class RuleWords {
  readonly #options: RuleTextOptions;
  readonly #words: string[] = [];
  readonly #registers = new Map<Register, Loaded>();
  readonly #values = new Map<Register, Uint8Array>();
  /** Registers that were loaded and not yet asked: the parts of a concatenation. */
  #asked: Register[] = [];
  /** Matches that nft hides where the next match says the same. */
  #hidden: { readonly about: 'network' | 'transport'; readonly text: string }[] = [];
  #network: 4 | 6 | undefined;
  #transport: number | undefined;
  /** The lower end of a range whose upper end comes next. */
  #from: Uint8Array | undefined;

  constructor(options: RuleTextOptions) {
    this.#options = options;
  }

  finish(): readonly string[] {
    this.#say();
    return this.#words;
  }

  add(expression: Expression, next: Expression | undefined): void {
    switch (expression.expr) {
      case 'payload':
        this.#load(expression.register, this.#payload(expression));
        break;
      case 'meta':
        this.#load(expression.register, { name: metaName(expression.key), kind: kindOfMeta(expression.key) });
        break;
      case 'ct': {
        const { key, direction } = expression;
        this.#load(expression.register, {
          name: `ct ${direction === undefined ? '' : `${direction} `}${CT_NAMES[key] ?? key}`,
          kind: key === 'state' ? 'ct-state' : key === 'labels' || key === 'helper' ? 'bytes' : 'host',
        });
        break;
      }
      case 'bitwise': {
        const { source, destination, mask, xor } = expression;
        const field = this.#registers.get(source)?.field ?? UNNAMED;
        this.#registers.set(destination, { field, mask, xor });
        break;
      }
      case 'cmp':
        this.#compare(expression, next);
        break;
      case 'range': {
        const { op, register, from, to } = expression;
        const { field } = this.#take(register);
        this.#match(field, ...(op === 'neq' ? ['!='] : []), `${showValue(from, field)}-${showValue(to, field)}`);
        break;
      }
      case 'lookup': {
        const { set, register, destination, invert } = expression;
        const fields = this.#takeAll(register);
        const names = fields.map((field) => this.#nameOf(field)).join(' . ');
        const to = destination === undefined ? [] : [destination === 'verdict' ? 'vmap' : `map => [register ${destination}]`];
        this.#say(...fields);
        this.#words.push(names, ...(invert === true ? ['!='] : []));
        for (const word of to) this.#words.push(word);
        this.#words.push(this.#setText(set));
        break;
      }
      case 'immediate':
        this.#values.set(expression.register, expression.value);
        break;
      case 'metaSet':
      case 'ctSet': {
        const value = this.#values.get(expression.register);
        const name = expression.expr === 'metaSet' ? metaName(expression.key) : `ct ${expression.key}`;
        const object = expression.expr === 'metaSet' && name === expression.key ? `meta ${name}` : name;
        this.#statement(`${object} set ${value === undefined ? `[register ${expression.register}]` : showValue(value, HOST)}`);
        break;
      }
      case 'verdict':
      case 'counter':
      case 'objref':
      case 'limit':
      case 'log':
      case 'reject':
      case 'masquerade':
      case 'nat':
      case 'unknown':
        this.#statement(this.#statementText(expression));
        break;
    }
  }

  #load(register: Register, field: Field): void {
    this.#registers.set(register, { field });
    this.#values.delete(register);
    this.#asked.push(register);
  }

  #take(register: Register): Loaded {
    this.#asked = this.#asked.filter((each) => each !== register);
    return this.#registers.get(register) ?? { field: UNNAMED };
  }

  /** What a lookup that begins at this register asks: everything that was loaded for it. */
  #takeAll(register: Register): Field[] {
    const registers = this.#asked.filter((each) => each >= register).sort((a, b) => a - b);
    this.#asked = [];
    return (registers.length === 0 ? [register] : registers).map((each) => this.#registers.get(each)?.field ?? UNNAMED);
  }

  #payload({ base, offset, length }: Extract<Expression, { expr: 'payload' }>): Field {
    const unknown: Field = {
      name: `@${{ link: 'll', network: 'nh', transport: 'th', inner: 'ih' }[base]},${offset * 8},${length * 8}`,
      kind: 'bytes',
    };
    if (base === 'network' && this.#network !== undefined) {
      const fields = NETWORK_FIELDS[this.#network];
      const known = fields[`${offset} ${length}`];
      if (known !== undefined) return known;
      // Of a prefix of whole bytes nft reads no more than these.
      for (const [place, field] of Object.entries(fields)) {
        const [start, bytes] = place.split(' ').map(Number);
        if (field.kind === 'address' && start === offset && length < Number(bytes)) return { ...field, bytes: Number(bytes) };
      }
    }
    if (base === 'transport') {
      if (length === 2 && offset <= 2) return { name: offset === 0 ? 'sport' : 'dport', kind: 'port', base: 'transport' };
      if (length === 1 && offset === 0 && this.#transport === IPPROTO_ICMP) return { name: 'icmp type', kind: 'icmp', base: 'transport' };
      if (length === 1 && offset === 0 && this.#transport === IPPROTO_ICMPV6)
        return { name: 'icmpv6 type', kind: 'icmpv6', base: 'transport' };
    }
    return unknown;
  }

  #nameOf(field: Field): string {
    if (field.kind !== 'port') return field.name;
    return `${(this.#transport === undefined ? undefined : PORTED[this.#transport]) ?? 'th'} ${field.name}`;
  }

  #compare({ op, register, value }: Extract<Expression, { expr: 'cmp' }>, next: Expression | undefined): void {
    if (op === 'gte' && next?.expr === 'cmp' && next.op === 'lte' && next.register === register) {
      this.#from = value;
      return;
    }
    const { field, mask, xor } = this.#take(register);
    if (op === 'lte' && this.#from !== undefined) {
      this.#match(field, `${showValue(this.#from, field)}-${showValue(value, field)}`);
      this.#from = undefined;
      return;
    }
    if (mask !== undefined) {
      this.#masked(field, mask, xor, op, value);
      return;
    }
    const isEqual = op === 'eq';
    if (isEqual && field.name === 'meta nfproto') {
      const network = NFPROTO[value[0] ?? 0];
      this.#network ??= network;
      this.#hide('network', `meta nfproto ${showValue(value, field)}`);
      return;
    }
    if (isEqual && field.name === 'meta l4proto') {
      this.#transport ??= value[0];
      this.#hide('transport', `meta l4proto ${showValue(value, field)}`);
      return;
    }
    this.#match(field, OPERATORS[op] ?? op, showValue(value, field));
  }

  #masked(field: Field, mask: Uint8Array, xor: Uint8Array | undefined, op: string, value: Uint8Array): void {
    const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
    if (xor !== undefined && !isZero(xor)) {
      this.#match(field, '&', hex(mask), '^', hex(xor), op === 'eq' ? '==' : (OPERATORS[op] ?? op), hex(value));
      return;
    }
    if (field.name === 'ct label' && op === 'neq' && isZero(value)) {
      const bits = bitsOf(mask);
      if (bits.length === 1) {
        this.#match(field, `${bits[0]}`);
        return;
      }
    }
    const length = prefixLength(mask);
    if (field.kind === 'address' && length !== undefined) {
      this.#match(field, OPERATORS[op] ?? op, `${showValue(value, field)}/${length}`);
      return;
    }
    // `ct state new`: the bits that are asked for are in the mask, and are not to be none.
    if (field.kind === 'ct-state' && op === 'neq' && isZero(value)) {
      this.#match(field, showValue(mask, field));
      return;
    }
    this.#match(field, '&', showValue(mask, field), op === 'eq' ? '==' : (OPERATORS[op] ?? op), showValue(value, field));
  }

  #hide(about: 'network' | 'transport', text: string): void {
    this.#hidden.push({ about, text });
  }

  /** A match of `field`: what it implies need not be said. */
  #match(field: Field, ...words: readonly string[]): void {
    const name = this.#nameOf(field);
    this.#say(field);
    this.#words.push([name, ...words].filter((word) => word !== '').join(' '));
  }

  #statement(text: string): void {
    this.#say();
    if (text !== '') this.#words.push(text);
  }

  /** Says what was held back, but for what these fields say themselves. */
  #say(...fields: readonly Field[]): void {
    const bases = new Set(fields.map(({ base }) => base));
    // `icmp type` says of itself that it is of IPv4, which only counts where the rule has said so.
    const saysTransport = fields.some(
      ({ kind, base }) => base === 'transport' && (kind === 'port' || this.#network === (kind === 'icmp' ? 4 : 6)),
    );
    const saysNetwork = bases.has('network') || fields.some(({ kind }) => kind === 'icmp' || kind === 'icmpv6');
    // A part of a concatenation that is no port of a protocol: `th dport` needs `meta l4proto` to be said.
    for (const { about, text } of this.#hidden) if (!(about === 'network' ? saysNetwork : saysTransport)) this.#words.push(text);
    this.#hidden = [];
  }

  #setText(name: string): string {
    const set = name.startsWith('__') ? this.#options.set?.(name) : undefined;
    return set === undefined ? `@${name}` : `{ ${elementTexts(set.definition, set.elements).join(', ')} }`;
  }

  #statementText(expression: Statement): string {
    switch (expression.expr) {
      case 'verdict':
        return verdictText(expression);
      case 'counter':
        return this.#options.counts === true ? `counter packets ${expression.packets} bytes ${expression.bytes}` : 'counter';
      case 'objref':
        return `${expression.type} name ${quote(expression.name)}`;
      case 'limit': {
        const { unit, rate, per, burst, over } = expression;
        const unitText = unit === 'packets' ? '' : ' bytes';
        // What nft takes where nothing is said, and does not show.
        const burstText = burst === (unit === 'packets' ? 5 : 0) ? '' : ` burst ${burst} ${unit}`;
        return `limit rate ${over === true ? 'over ' : ''}${rate}${unitText}/${per}${burstText}`;
      }
      case 'log': {
        const { prefix, group, snaplen, queueThreshold, level, flags } = expression;
        return [
          'log',
          ...(prefix === undefined ? [] : [`prefix ${quote(prefix)}`]),
          ...(group === undefined ? [] : [`group ${group}`]),
          ...(snaplen === undefined || snaplen === 0 ? [] : [`snaplen ${snaplen}`]),
          ...(queueThreshold === undefined || queueThreshold === 0 ? [] : [`queue-threshold ${queueThreshold}`]),
          ...(level === undefined || group !== undefined ? [] : [`level ${LOG_LEVELS[level] ?? level}`]),
          ...(flags === undefined || flags === 0 ? [] : [`flags 0x${flags.toString(16)}`]),
        ].join(' ');
      }
      case 'reject': {
        const { type, code = 0 } = expression;
        if (type === 'tcp-reset') return 'reject with tcp reset';
        if (type === 'icmpx') return code === 1 ? 'reject' : `reject with icmpx ${ICMPX_CODES[code] ?? code}`;
        return `reject with ${this.#network === 6 ? 'icmpv6' : 'icmp'} ${code}`;
      }
      case 'masquerade':
        return expression.flags === undefined ? 'masquerade' : `masquerade flags 0x${expression.flags.toString(16)}`;
      case 'nat': {
        const end = (register: Register | undefined, field: Field): string => {
          const value = register === undefined ? undefined : this.#values.get(register);
          return value === undefined ? `[register ${register}]` : showValue(value, field);
        };
        const { type, family, addressMin, addressMax, portMin, portMax, flags } = expression;
        const address =
          addressMin === undefined ? '' : end(addressMin, ADDRESS) + (addressMax === undefined ? '' : `-${end(addressMax, ADDRESS)}`);
        const port = portMin === undefined ? '' : `:${end(portMin, PORT)}${portMax === undefined ? '' : `-${end(portMax, PORT)}`}`;
        return `${type} ${family} to ${address}${port}${flags === undefined ? '' : ` flags 0x${flags.toString(16)}`}`;
      }
      case 'unknown':
        if (expression.name === 'notrack') return 'notrack';
        return bracketed(expression);
    }
  }
}

const UNNAMED: Field = { name: '?', kind: 'bytes' };
const HOST: Field = { name: '', kind: 'host' };
const ADDRESS: Field = { name: '', kind: 'address' };
const PORT: Field = { name: '', kind: 'port' };
const CT_NAMES: Readonly<Record<string, string>> = {
  labels: 'label',
  src_ip: 'ip saddr',
  dst_ip: 'ip daddr',
  src_ip6: 'ip6 saddr',
  dst_ip6: 'ip6 daddr',
};
/** What nft says without `meta`. */
const PLAIN_META: ReadonlySet<MetaKey> = new Set(['iif', 'oif', 'iifname', 'oifname', 'iiftype', 'oiftype']);

function metaName(key: MetaKey): string {
  return PLAIN_META.has(key) ? key : `meta ${key}`;
}

function kindOfMeta(key: MetaKey): Kind {
  if (key === 'l4proto') return 'protocol';
  if (key === 'nfproto') return 'family';
  if (key === 'iifname' || key === 'oifname' || key === 'bri_iifname' || key === 'bri_oifname') return 'interface';
  return key === 'protocol' ? 'bytes' : 'host';
}

function showValue(value: Uint8Array, { kind, bytes = value.length }: Field): string {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  switch (kind) {
    case 'address': {
      if ((bytes !== 4 && bytes !== 16) || value.length > bytes) return hex(value);
      const whole = new Uint8Array(bytes);
      whole.set(value);
      return `${formatAddress(addressFromBytes(whole))}${bytes === value.length ? '' : `/${value.length * 8}`}`;
    }
    case 'port':
      return value.length === 2 ? String(view.getUint16(0)) : hex(value);
    case 'protocol':
      return value.length === 1 ? (PROTOCOLS[view.getUint8(0)] ?? String(view.getUint8(0))) : hex(value);
    case 'family':
      return value[0] === 2 ? 'ipv4' : value[0] === 10 ? 'ipv6' : hex(value);
    case 'icmp':
      return value.length === 1 ? (ICMP_TYPES[view.getUint8(0)] ?? String(view.getUint8(0))) : hex(value);
    case 'icmpv6':
      return value.length === 1 ? (ICMPV6_TYPES[view.getUint8(0)] ?? String(view.getUint8(0))) : hex(value);
    case 'number':
      return value.length === 1 ? String(view.getUint8(0)) : value.length === 2 ? String(view.getUint16(0)) : hex(value);
    case 'interface': {
      const end = value.indexOf(0);
      const name = Buffer.from(end < 0 ? value : value.subarray(0, end)).toString();
      return quote(end < 0 ? `${name}*` : name);
    }
    case 'ct-state': {
      const bits = value.length === 4 ? view.getUint32(0, true) : 0;
      const known = STATES.filter(([bit]) => (bits & bit) !== 0);
      return known.length > 0 && known.reduce((sum, [bit]) => sum | bit, 0) === bits ? known.map(([, name]) => name).join(',') : hex(value);
    }
    // In the host's order, which is little-endian wherever this runs.
    case 'host':
      return value.length === 4 ? `0x${view.getUint32(0, true).toString(16).padStart(8, '0')}` : hex(value);
    case 'bytes':
      return hex(value);
  }
}

function bitsOf(mask: Uint8Array): number[] {
  return [...mask].flatMap((byte, at) => [0, 1, 2, 3, 4, 5, 6, 7].flatMap((bit) => ((byte >> bit) & 1 ? [at * 8 + bit] : [])));
}

/** Undefined where the ones are not all in front. */
function prefixLength(mask: Uint8Array): number | undefined {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return /^1*0*$/.test(bits) ? bits.lastIndexOf('1') + 1 : undefined;
}

function hex(value: Uint8Array): string {
  return `0x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`;
}

function quote(text: string): string {
  return `"${text}"`;
}

function bracketed(expression: Expression): string {
  const { expr, ...rest } = expression.expr === 'counter' ? { expr: 'counter' } : expression;
  const words = Object.entries(rest).flatMap(([name, value]: [string, string | number | bigint | boolean | Uint8Array | undefined]) =>
    value === undefined ? [] : [`${name}=${value instanceof Uint8Array ? hex(value) : value}`],
  );
  return `[${[expr === 'unknown' ? '' : expr, ...words].filter((word) => word !== '').join(' ')}]`;
}

function verdictText(verdict: Verdict): string {
  return 'chain' in verdict ? `${verdict.verdict} ${verdict.chain}` : verdict.verdict;
}

// --- elements

/**
 * Elements as nft lists them between the braces of a set; those of interval sets as ranges, in their order. (A `0` that closes nothing, as
 * nft itself puts at the beginning of an interval set, is none.)
 */
export function elementTexts({ key, data, flags }: SetDefinition, elements: Iterable<Element>): string[] {
  const texts = flags.includes('interval') && key.length === 1 ? intervalTexts(key, elements) : plainTexts(key, elements);
  return [...texts].map(([text, element]) => `${text}${dataText(data, element)}${noteText(element)}`);
}

function* plainTexts(types: readonly DataType[], elements: Iterable<Element>): Generator<readonly [string, Element]> {
  for (const element of elements) {
    if (element.key.length === 0) yield ['*', element];
    else if (element.keyEnd === undefined) yield [partsOf(types, element.key).join(' . '), element];
    else {
      const ends = partsOf(types, element.keyEnd);
      yield [
        partsOf(types, element.key)
          .map((part, at) => (part === ends[at] ? part : `${part}-${ends[at]}`))
          .join(' . '),
        element,
      ];
    }
  }
}

/** From the elements that open and close ranges to the ranges, both ends inclusive. */
function* intervalTexts(types: readonly DataType[], elements: Iterable<Element>): Generator<readonly [string, Element]> {
  const sorted = [...elements].sort(
    (a, b) => Buffer.compare(a.key, b.key) || Number(b.intervalEnd ?? false) - Number(a.intervalEnd ?? false),
  );
  let open: Element | undefined;
  const range = (first: Element, last: Uint8Array): readonly [string, Element] => {
    return [rangeText(types, first.key, last), first];
  };
  for (const element of sorted) {
    if (element.key.length === 0) {
      yield ['*', element];
      continue;
    }
    if (open !== undefined) yield range(open, before(element.key));
    open = element.intervalEnd === true ? undefined : element;
  }
  if (open !== undefined) yield range(open, new Uint8Array(open.key.length).fill(0xff));
}

function rangeText(types: readonly DataType[], first: Uint8Array, last: Uint8Array): string {
  const from = partsOf(types, first).join(' . ');
  const to = partsOf(types, last).join(' . ');
  if (from === to) return from;
  if (types[0] === 'ipv4_addr' || types[0] === 'ipv6_addr') {
    const [prefix, another] = rangeToPrefixes({ first: addressFromBytes(first), last: addressFromBytes(last) });
    if (prefix !== undefined && another === undefined) return formatPrefix(prefix);
  }
  return `${from}-${to}`;
}

function before(key: Uint8Array): Uint8Array {
  const bytes = key.slice();
  for (let at = bytes.length - 1; at >= 0; at--) {
    const byte = bytes[at] ?? 0;
    bytes[at] = (byte - 1) & 0xff;
    if (byte !== 0) break;
  }
  return bytes;
}

/** Bytes of the types that sets of addresses and ports have; undefined: the rest of the key. */
const TYPES: Readonly<Partial<Record<DataType, { readonly bytes: number; readonly kind: Kind }>>> = {
  ipv4_addr: { bytes: 4, kind: 'address' },
  ipv6_addr: { bytes: 16, kind: 'address' },
  inet_proto: { bytes: 1, kind: 'protocol' },
  inet_service: { bytes: 2, kind: 'port' },
  icmp_type: { bytes: 1, kind: 'icmp' },
  icmpv6_type: { bytes: 1, kind: 'icmpv6' },
  mark: { bytes: 4, kind: 'host' },
  ct_state: { bytes: 4, kind: 'ct-state' },
  ifname: { bytes: 16, kind: 'interface' },
  nf_proto: { bytes: 1, kind: 'family' },
};

/** The parts of a key, each of which is padded to four bytes where there are several. */
function partsOf(types: readonly DataType[], key: Uint8Array): string[] {
  const parts: string[] = [];
  let at = 0;
  for (const type of types) {
    const known = TYPES[type];
    const bytes = known?.bytes ?? key.length - at;
    parts.push(showValue(key.subarray(at, at + bytes), { name: '', kind: known?.kind ?? 'bytes' }));
    at += types.length > 1 ? Math.ceil(bytes / 4) * 4 : bytes;
  }
  return parts;
}

function dataText(types: readonly DataType[] | undefined, { data }: Element): string {
  if (data === undefined) return '';
  return ` : ${data instanceof Uint8Array ? partsOf(types ?? [], data).join(' . ') : verdictText(data)}`;
}

function noteText({ comment, timeoutMs }: Element): string {
  return `${timeoutMs === undefined ? '' : ` timeout ${timeoutMs}ms`}${comment === undefined ? '' : ` comment ${quote(comment)}`}`;
}

// --- sets, chains, tables

/** `set pods-v4/…`, or `map …`. */
export function setHead({ name, data }: Pick<SetDefinition, 'name' | 'data'>): string {
  return `${data === undefined ? 'set' : 'map'} ${name}`;
}

/** What a set is, a line each: type, flags, limits. */
export function setLines({ key, data, flags, timeoutMs = 0n, size = 0 }: SetDefinition): string[] {
  return [
    `type ${key.join(' . ')}${data === undefined ? '' : ` : ${data.join(' . ')}`}`,
    ...(flags.length === 0 ? [] : [`flags ${flags.toSorted().join(',')}`]),
    ...(timeoutMs === 0n ? [] : [`timeout ${timeoutMs}ms`]),
    ...(size === 0 ? [] : [`size ${size}`]),
  ];
}

/** `type filter hook forward priority -10; policy accept;`; undefined of a chain that no hook leads to. */
export function hookLine({ base }: Pick<Chain, 'base'>): string | undefined {
  if (base === undefined) return undefined;
  const { type, hook, priority, policy, devices = [] } = base;
  const device = devices.length === 0 ? '' : ` devices = { ${devices.join(', ')} }`;
  return `type ${type} hook ${hook}${device} priority ${priority}; policy ${policy};`;
}

/** `flags dormant,owner`; undefined where there are none. */
export function flagsLine({ flags }: Pick<Table, 'flags'>): string | undefined {
  return flags.length === 0 ? undefined : `flags ${flags.toSorted().join(',')}`;
}
