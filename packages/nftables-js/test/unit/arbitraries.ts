/** Values of every type in types.ts, in the form that the kernel gives them back. */
import * as fc from 'fast-check';
import type { Chain, DataType, Element, Expression, Family, NamedCounter, Rule, SetDefinition, Table, Verdict } from 'nftables-js';

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const u64 = fc.bigInt(0n, 2n ** 64n - 1n);
const register = fc.nat(15);
export const name = fc.stringMatching(/^[a-z][a-z0-9/_.-]{0,40}$/);
const bytes = fc.uint8Array({ minLength: 1, maxLength: 64 });
const comment = fc
  .string({ unit: 'grapheme', minLength: 0, maxLength: 20 })
  .filter((text) => !text.includes('\0') && Buffer.byteLength(text) <= 128);
const family = fc.constantFrom<Family>('ip', 'ip6', 'inet', 'arp', 'bridge', 'netdev');
const handle = u64;

/** Optional properties are absent, never undefined. */
function record<T extends object>(
  model: { [K in keyof T]-?: fc.Arbitrary<Exclude<T[K], undefined>> },
  required: (keyof T)[],
): fc.Arbitrary<T> {
  return fc.record(model, { requiredKeys: required, noNullPrototype: true });
}

/** All properties required, and objects like any others. */
function object<T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

export const verdict: fc.Arbitrary<Verdict> = fc.oneof(
  object({ verdict: fc.constantFrom('accept', 'drop', 'continue', 'return', 'break') }),
  object({ verdict: fc.constantFrom('jump', 'goto'), chain: name }),
);

type Of<Kind extends Expression['expr']> = Extract<Expression, { expr: Kind }>;
type Literal<T> = fc.Arbitrary<T>;
const kind = <Kind extends Expression['expr']>(value: Kind): Literal<Kind> => fc.constant(value);

const metaKey = fc.constantFrom<Of<'meta'>['key']>(
  'len',
  'mark',
  'iifname',
  'nfproto',
  'l4proto',
  'bri_iifname',
  'pkttype',
  'skgid',
  'cgroup',
);
const ctKey = fc.constantFrom<Of<'ct'>['key']>('state', 'mark', 'labels', 'zone', 'id', 'src_ip', 'dst_ip6', 'proto_dst');

export const EXPRESSIONS: { readonly [Kind in Expression['expr']]: fc.Arbitrary<Of<Kind>> } = {
  payload: object({
    expr: kind('payload'),
    base: fc.constantFrom('link', 'network', 'transport', 'inner'),
    offset: u32,
    length: u32,
    register,
  }),
  meta: object({ expr: kind('meta'), key: metaKey, register }),
  metaSet: object({ expr: kind('metaSet'), key: metaKey, register }),
  ct: record<Of<'ct'>>({ expr: kind('ct'), key: ctKey, register, direction: fc.constantFrom('original', 'reply') }, [
    'expr',
    'key',
    'register',
  ]),
  ctSet: record<Of<'ctSet'>>({ expr: kind('ctSet'), key: ctKey, register, direction: fc.constantFrom('original', 'reply') }, [
    'expr',
    'key',
    'register',
  ]),
  cmp: object({ expr: kind('cmp'), op: fc.constantFrom('eq', 'neq', 'lt', 'lte', 'gt', 'gte'), register, value: bytes }),
  range: object({ expr: kind('range'), op: fc.constantFrom('eq', 'neq'), register, from: bytes, to: bytes }),
  bitwise: object({ expr: kind('bitwise'), source: register, destination: register, mask: bytes, xor: bytes }).map((expression) => ({
    ...expression,
    xor: Uint8Array.from(expression.mask, (_, at) => expression.xor[at] ?? 0),
  })),
  lookup: record<Of<'lookup'>>(
    {
      expr: kind('lookup'),
      set: name,
      register,
      destination: fc.oneof(register, fc.constant('verdict' as const)),
      invert: fc.constant(true),
    },
    ['expr', 'set', 'register'],
  ),
  immediate: object({ expr: kind('immediate'), register, value: bytes }),
  verdict: verdict.map((verdict) => ({ expr: 'verdict', ...verdict })),
  counter: object({ expr: kind('counter'), packets: u64, bytes: u64 }),
  objref: object({ expr: kind('objref'), type: fc.constantFrom('counter', 'quota', 'limit'), name }),
  limit: record<Of<'limit'>>(
    {
      expr: kind('limit'),
      unit: fc.constantFrom('packets', 'bytes'),
      rate: u64,
      per: fc.constantFrom('second', 'minute', 'hour', 'day', 'week'),
      burst: u32,
      over: fc.constant(true),
    },
    ['expr', 'unit', 'rate', 'per', 'burst'],
  ),
  log: record<Of<'log'>>(
    {
      expr: kind('log'),
      prefix: name,
      group: u16,
      snaplen: u32,
      queueThreshold: u16,
      level: fc.constantFrom(0, 1, 2, 3, 5, 6, 7),
      flags: u32,
    },
    ['expr'],
  ),
  reject: fc.oneof(
    object({ expr: kind('reject'), type: fc.constantFrom('icmp', 'icmpx'), code: u8 }),
    object({ expr: kind('reject'), type: fc.constant('tcp-reset') }),
  ),
  masquerade: record<Of<'masquerade'>>({ expr: kind('masquerade'), flags: fc.integer({ min: 1, max: 0xff }) }, ['expr']),
  nat: record<Of<'nat'>>(
    {
      expr: kind('nat'),
      type: fc.constantFrom('snat', 'dnat'),
      family: fc.constantFrom('ip', 'ip6'),
      addressMin: fc.constant(0),
      addressMax: fc.constant(4),
      portMin: fc.constant(8),
      portMax: fc.constant(9),
      flags: fc.integer({ min: 1, max: 15 }).map((bits) => bits << 2),
    },
    ['expr', 'type', 'family'],
  ),
  unknown: object({
    expr: kind('unknown'),
    name: name.map((name) => `x${name}`),
    data: fc.uint8Array({ maxLength: 15 }).map((bytes) => Uint8Array.from({ length: bytes.length * 4 }, (_, at) => bytes[at] ?? 0)),
  }),
};

export const expression: fc.Arbitrary<Expression> = fc.oneof(...Object.values(EXPRESSIONS));

export const table: fc.Arbitrary<Table> = record<Table>(
  { family, name, flags: fc.subarray(['dormant', 'owner', 'persist']), handle, owner: u32, comment },
  ['family', 'name', 'flags'],
);

const base = record<NonNullable<Chain['base']>>(
  {
    type: fc.constantFrom('filter', 'nat', 'route'),
    // In every family there is one of these.
    hook: fc.constant('ingress'),
    priority: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    policy: fc.constantFrom('accept', 'drop'),
    devices: fc.array(name, { minLength: 1, maxLength: 3 }),
  },
  ['type', 'hook', 'priority', 'policy'],
);

export const chain: fc.Arbitrary<Chain> = record<Chain>(
  { family: fc.constantFrom('inet', 'netdev'), table: name, name, base, comment, handle },
  ['family', 'table', 'name'],
);

export const rule: fc.Arbitrary<Rule> = record<Rule>(
  { family, table: name, chain: name, expressions: fc.array(expression, { maxLength: 8 }), comment, handle },
  ['family', 'table', 'chain', 'expressions'],
);

const dataTypes = fc.array(
  fc.constantFrom<DataType>(
    'ipv4_addr',
    'ipv6_addr',
    'ether_addr',
    'inet_proto',
    'inet_service',
    'mark',
    'ifname',
    'nf_proto',
    'iface_index',
  ),
  { minLength: 1, maxLength: 5 },
);

export const set: fc.Arbitrary<SetDefinition> = record<SetDefinition>(
  {
    family,
    table: name,
    name,
    key: dataTypes,
    keyBytes: fc.constant(99),
    data: fc.oneof(dataTypes, fc.constant<DataType[]>(['verdict'])),
    dataBytes: fc.constant(77),
    flags: fc.subarray(['anonymous', 'constant', 'interval', 'timeout', 'dynamic']),
    timeoutMs: u64,
    autoMerge: fc.constant(true),
    size: u32,
    comment,
    handle,
  },
  ['family', 'table', 'name', 'key', 'flags'],
).map(({ dataBytes, ...set }) =>
  set.data === undefined || set.data[0] === 'verdict' || dataBytes === undefined ? set : { ...set, dataBytes },
);

/** Keys of one length, as in a set. */
export const elements: fc.Arbitrary<Element[]> = fc.array(
  record<Omit<Element, 'expirationMs'>>(
    {
      // An empty one is the catch-all element.
      key: fc.uint8Array({ maxLength: 40 }),
      keyEnd: bytes,
      intervalEnd: fc.constant(true),
      data: fc.oneof(bytes, verdict),
      timeoutMs: u64,
      comment,
    },
    ['key'],
  ),
  { maxLength: 20 },
);

export const counter: fc.Arbitrary<NamedCounter> = record<NamedCounter>(
  { family, table: name, name, packets: u64, bytes: u64, comment, handle },
  ['family', 'table', 'name', 'packets', 'bytes'],
);
