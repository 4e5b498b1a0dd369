/**
 * A rule of nf_tables for people, nearly as `nft list` would print it. What has no short form is named (`fib …`, `match multiport …`);
 * where to find the rule itself is said by {@link placeOf}.
 */
import type { Chain, Expression, Rule } from 'nftables-js';
import { addressFromBytes, formatAddress } from '../policy/address.ts';
import { readExtension } from './rule-walk.ts';

/** `nft -a list chain inet filter input`, and the handle that the rule has there. */
export function placeOf(rule: Rule): string {
  return `table ${rule.family} ${rule.table} chain ${rule.chain}${rule.handle === undefined ? '' : ` handle ${rule.handle}`}`;
}

export function chainText({ family, table, name, base }: Chain): string {
  const hook = base === undefined ? '' : ` (hook ${base.hook} priority ${base.priority} policy ${base.policy})`;
  return `table ${family} ${table} chain ${name}${hook}`;
}

export function ruleText({ expressions, comment }: Rule): string {
  const words: string[] = [];
  const names = new Map<number, Field>();
  const masks = new Map<number, Uint8Array>();
  for (const expression of expressions) {
    switch (expression.expr) {
      case 'payload':
        names.set(expression.register, fieldOf(expression));
        masks.delete(expression.register);
        break;
      case 'meta':
        names.set(expression.register, {
          name: expression.key === 'l4proto' ? 'meta l4proto' : expression.key,
          kind: kindOfMeta(expression.key),
        });
        masks.delete(expression.register);
        break;
      case 'ct':
        names.set(expression.register, { name: `ct ${expression.key}`, kind: expression.key === 'state' ? 'ct-state' : 'number' });
        masks.delete(expression.register);
        break;
      case 'bitwise':
        names.set(expression.destination, names.get(expression.source) ?? UNNAMED);
        masks.set(expression.destination, expression.mask);
        break;
      case 'cmp': {
        const field = names.get(expression.register) ?? UNNAMED;
        const mask = masks.get(expression.register);
        // `ct state new`: the bits that are asked for are in the mask, and are not to be none.
        if (field.kind === 'ct-state' && mask !== undefined && expression.op === 'neq') words.push(field.name, show(mask, field));
        else words.push([field.name, ...(OPERATORS[expression.op] ?? []), show(expression.value, field) + lengthOf(mask, field)].join(' '));
        break;
      }
      case 'range': {
        const field = names.get(expression.register) ?? UNNAMED;
        const ends = `${show(expression.from, field)}-${show(expression.to, field)}`;
        words.push(field.name, ...(expression.op === 'neq' ? ['!='] : []), ends);
        break;
      }
      case 'lookup':
        words.push(names.get(expression.register)?.name ?? UNNAMED.name, ...(expression.invert === true ? ['!='] : []));
        words.push(...(expression.destination === 'verdict' ? ['vmap'] : []), `@${expression.set}`);
        break;
      case 'verdict':
      case 'reject':
      case 'masquerade':
      case 'nat':
      case 'counter':
      case 'log':
      case 'limit':
      case 'unknown':
        words.push(statement(expression));
        break;
      case 'immediate':
      case 'metaSet':
      case 'ctSet':
      case 'objref':
        // Of no account for what happens to a packet.
        break;
    }
  }
  return [...words, ...(comment === undefined ? [] : [`comment ${JSON.stringify(comment)}`])].filter((word) => word !== '').join(' ');
}

interface Field {
  readonly name: string;
  readonly kind: 'address' | 'port' | 'protocol' | 'interface' | 'ct-state' | 'family' | 'number' | 'bytes';
  /** Of an address of which no more than a part is read: how many bytes it has. */
  readonly bytes?: number;
}

const UNNAMED: Field = { name: '?', kind: 'bytes' };
const OPERATORS: Readonly<Partial<Record<string, readonly string[]>>> = {
  neq: ['!='],
  lt: ['<'],
  lte: ['<='],
  gt: ['>'],
  gte: ['>='],
};
const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 4: 'ipip', 6: 'tcp', 17: 'udp', 47: 'gre', 58: 'ipv6-icmp', 132: 'sctp' };
/** linux/netfilter/nf_conntrack_common.h: NF_CT_STATE_BIT. */
const STATES: readonly (readonly [number, string])[] = [
  [1, 'invalid'],
  [2, 'established'],
  [4, 'related'],
  [8, 'new'],
  [64, 'untracked'],
];
/** Of the headers: base, offset and length. The transport header is that of TCP and UDP alike. */
const FIELDS: Readonly<Record<string, Field>> = {
  'network 9 1': { name: 'ip protocol', kind: 'protocol' },
  'network 12 4': { name: 'ip saddr', kind: 'address' },
  'network 16 4': { name: 'ip daddr', kind: 'address' },
  'network 6 1': { name: 'ip6 nexthdr', kind: 'protocol' },
  'network 8 16': { name: 'ip6 saddr', kind: 'address' },
  'network 24 16': { name: 'ip6 daddr', kind: 'address' },
  'transport 0 2': { name: 'th sport', kind: 'port' },
  'transport 2 2': { name: 'th dport', kind: 'port' },
};

function fieldOf({ base, offset, length }: Extract<Expression, { expr: 'payload' }>): Field {
  const known = FIELDS[`${base} ${offset} ${length}`];
  if (known !== undefined) return known;
  // Of a prefix of whole bytes nft reads no more than these.
  for (const [at, { name, kind }] of Object.entries(FIELDS)) {
    const [of, start, bytes] = at.split(' ');
    if (kind === 'address' && of === base && Number(start) === offset && length < Number(bytes))
      return { name, kind, bytes: Number(bytes) };
  }
  return { name: `@${base},${offset * 8},${length * 8}`, kind: 'bytes' };
}

function kindOfMeta(key: Extract<Expression, { expr: 'meta' }>['key']): Field['kind'] {
  if (key === 'l4proto') return 'protocol';
  if (key === 'nfproto') return 'family';
  return key === 'iifname' || key === 'oifname' ? 'interface' : 'number';
}

function show(value: Uint8Array, { kind, bytes = value.length }: Field): string {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  switch (kind) {
    case 'address':
      if (bytes !== 4 && bytes !== 16) return hex(value);
      return `${formatAddress(addressFromBytes(Uint8Array.from({ length: bytes }, (_, at) => value[at] ?? 0)))}${bytes === value.length ? '' : `/${value.length * 8}`}`;
    case 'port':
      return value.length === 2 ? String(view.getUint16(0)) : hex(value);
    case 'protocol':
      return PROTOCOLS[value[0] ?? 0] ?? String(value[0]);
    case 'family':
      return value[0] === 2 ? 'ipv4' : value[0] === 10 ? 'ipv6' : String(value[0]);
    case 'interface': {
      const end = value.indexOf(0);
      const name = new TextDecoder().decode(end < 0 ? value : value.subarray(0, end));
      return JSON.stringify(end < 0 ? `${name}*` : name);
    }
    case 'ct-state': {
      const bits = value.length === 4 ? view.getUint32(0, true) : 0;
      return STATES.flatMap(([bit, name]) => ((bits & bit) === 0 ? [] : [name])).join(',') || hex(value);
    }
    case 'number':
      return value.length === 4 ? `0x${view.getUint32(0, true).toString(16)}` : hex(value);
    case 'bytes':
      return hex(value);
  }
}

/** `/16`, where a mask of leading ones says so. */
function lengthOf(mask: Uint8Array | undefined, { kind }: Field): string {
  if (mask === undefined) return '';
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return kind === 'address' && /^1*0*$/.test(bits) ? `/${bits.lastIndexOf('1') + 1}` : ` (of ${hex(mask)})`;
}

function hex(value: Uint8Array): string {
  return `0x${Buffer.from(value).toString('hex')}`;
}

type Statement = Extract<Expression, { expr: 'verdict' | 'reject' | 'masquerade' | 'nat' | 'counter' | 'log' | 'limit' | 'unknown' }>;

function statement(expression: Statement): string {
  switch (expression.expr) {
    case 'verdict':
      return 'chain' in expression ? `${expression.verdict} ${expression.chain}` : expression.verdict;
    case 'reject':
    case 'masquerade':
    case 'counter':
    case 'log':
      return expression.expr;
    case 'nat':
      return expression.type;
    case 'limit':
      return `limit rate ${expression.over === true ? 'over ' : ''}${expression.rate}/${expression.per}`;
    case 'unknown': {
      const { name, data } = expression;
      const extension = name === 'match' || name === 'target' ? readExtension(data) : undefined;
      if (extension?.name === 'comment') return '';
      return extension === undefined ? `${name} …` : `${name === 'target' ? '' : 'match '}${extension.name}`;
    }
  }
}
