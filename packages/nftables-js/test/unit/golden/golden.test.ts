/** Our messages are those of `nft`: messages.txt was recorded from it by capture.ts. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { type Operation, readMessages } from 'nftables-js';
import { accept, counter, ct, ip, ip6, jump, limit, log, reject, rule, tcp } from 'nftables-js/builder';
import { encodeBatch } from '../../../src/transaction.ts';

const NLM_F_ACK = 0x4;
const NLM_F_CREATE = 0x400;
const NFT_MSG_NEWTABLE = 0xa00;

/** Attributes as [type, value] in the order of their types, because their order means nothing except in lists (all of one type). */
type Tree = readonly (readonly [type: number, value: string | Tree])[];

function tree(bytes: Uint8Array): Tree {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: [number, string | Tree][] = [];
  for (let at = 0; at < bytes.length; at += (view.getUint16(at, true) + 3) & ~3) {
    const type = view.getUint16(at + 2, true);
    const value = bytes.subarray(at + 4, at + view.getUint16(at, true));
    found.push([type & 0x3fff, type > 0x7fff ? tree(value) : Buffer.from(value).toString('hex')]);
  }
  return found.toSorted(([a], [b]) => a - b);
}

/** Where an attribute is, as the types that lead to it, and its value. */
interface Extra {
  readonly path: readonly number[];
  readonly value: string | Tree;
}

function without(attributes: Tree, { path: [first, ...rest], value: extra }: Extra): Tree {
  return attributes.flatMap(([type, value]): Tree => {
    if (type !== first) return [[type, value]];
    if (rest.length === 0) return isDeepStrictEqual(value, extra) ? [] : [[type, value]];
    return [[type, typeof value === 'string' ? value : without(value, { path: rest, value: extra })]];
  });
}

interface Case {
  readonly nft: string;
  readonly operation: Operation;
  /** What nft sends besides and the kernel does not need. */
  readonly more?: Extra;
}

const g = { family: 'inet', table: 'g' } as const;
/** nft names sets by number as well as by name, for sets that have no name yet. */
const LOOKUP_SET_ID: Extra = { path: [4, 1, 2, 4], value: '00000001' };

const CASES: readonly Case[] = [
  {
    nft: 'add table inet g { comment "a table"; }',
    operation: { op: 'add', table: { family: 'inet', name: 'g', flags: [], comment: 'a table' } },
  },
  {
    nft: 'add chain inet g regular { comment "a chain"; }',
    operation: { op: 'add', chain: { ...g, name: 'regular', comment: 'a chain' } },
  },
  {
    nft: 'add chain inet g base { type filter hook forward priority -20; policy drop; }',
    operation: { op: 'add', chain: { ...g, name: 'base', base: { type: 'filter', hook: 'forward', priority: -20, policy: 'drop' } } },
  },
  {
    nft: 'add set inet g addresses { type ipv4_addr; size 100; comment "a set"; }',
    operation: { op: 'add', set: { ...g, name: 'addresses', key: ['ipv4_addr'], flags: [], size: 100, comment: 'a set' } },
  },
  {
    nft: 'add set inet g expiring { type ipv6_addr; flags dynamic,timeout; timeout 30s; }',
    operation: { op: 'add', set: { ...g, name: 'expiring', key: ['ipv6_addr'], flags: ['dynamic', 'timeout'], timeoutMs: 30_000n } },
  },
  {
    nft: 'add set inet g ports { type inet_service; flags interval; }',
    operation: { op: 'add', set: { ...g, name: 'ports', key: ['inet_service'], flags: ['interval'] } },
  },
  {
    nft: 'add counter inet g hits { comment "an object"; packets 5 bytes 100; }',
    operation: { op: 'add', counter: { ...g, name: 'hits', packets: 5n, bytes: 100n, comment: 'an object' } },
  },
  {
    nft: 'add rule inet g base ct state established,related counter accept comment "a rule"',
    operation: {
      op: 'append',
      rule: {
        ...g,
        chain: 'base',
        expressions: rule('inet', ct.state.any(['established', 'related']), counter(), accept),
        comment: 'a rule',
      },
    },
  },
  {
    nft: 'add rule inet g base ip saddr @addresses limit rate 10/second burst 7 packets log group 5 prefix "x" snaplen 64',
    operation: {
      op: 'append',
      rule: {
        ...g,
        chain: 'base',
        expressions: rule('inet', ip.saddr.in('addresses'), limit(10, 'second', { burst: 7 }), log({ group: 5, prefix: 'x', snaplen: 64 })),
      },
    },
    more: LOOKUP_SET_ID,
  },
  {
    nft: 'add rule inet g base ip6 saddr fe80::/10 ct mark set 5 jump regular',
    operation: {
      op: 'append',
      rule: { ...g, chain: 'base', expressions: rule('inet', ip6.saddr.prefix('fe80::/10'), ct.mark.set(5), jump('regular')) },
    },
  },
  {
    nft: 'insert rule inet g base tcp dport != 10-20 reject with tcp reset',
    operation: {
      op: 'insert',
      rule: { ...g, chain: 'base', expressions: rule('inet', tcp.dport.notRange(10, 20), reject('tcp-reset')) },
    },
  },
  {
    nft: 'create element inet g addresses { 10.0.0.1 comment "an element" }',
    operation: {
      op: 'create',
      elements: { ...g, set: 'addresses', elements: [{ key: Uint8Array.of(10, 0, 0, 1), comment: 'an element' }] },
    },
    more: { path: [4], value: '00000001' },
  },
  {
    nft: 'add element inet g expiring { fd00::1 timeout 10s }',
    operation: {
      op: 'add',
      elements: {
        ...g,
        set: 'expiring',
        elements: [{ key: Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), timeoutMs: 10_000n }],
      },
    },
    more: { path: [4], value: '00000002' },
  },
  {
    nft: 'delete element inet g addresses { 10.0.0.1 }',
    operation: { op: 'delete', elements: { ...g, set: 'addresses', elements: [{ key: Uint8Array.of(10, 0, 0, 1) }] } },
  },
  { nft: 'flush set inet g addresses', operation: { op: 'flush', elements: { ...g, set: 'addresses' } } },
  { nft: 'flush chain inet g base', operation: { op: 'flush', rules: { ...g, chain: 'base' } } },
  // nft appends an empty NFTA_OBJ_DATA.
  { nft: 'delete counter inet g hits', operation: { op: 'delete', counter: { ...g, name: 'hits' } }, more: { path: [4], value: [] } },
  { nft: 'delete set inet g expiring', operation: { op: 'delete', set: { ...g, name: 'expiring' } } },
  { nft: 'delete table inet g', operation: { op: 'delete', table: { family: 'inet', name: 'g' } } },
];

interface Recorded {
  readonly type: number;
  readonly flags: number;
  readonly payload: Uint8Array;
}

function recorded(): Map<string, Recorded> {
  const found = new Map<string, Recorded>();
  const text = readFileSync(new URL('messages.txt', import.meta.url), 'utf8');
  for (const [, command = '', type, flags, hex = ''] of text.matchAll(/^# nft '(.*)'\n(\d+) (\d+) ([0-9a-f]+)$/gm))
    found.set(command, { type: Number(type), flags: Number(flags), payload: Buffer.from(hex, 'hex') });
  return found;
}

describe('messages are those of nft', () => {
  const messages = recorded();

  it('for every recorded command', () => {
    assert.deepEqual(
      [...messages.keys()],
      CASES.map(({ nft }) => nft),
    );
  });

  for (const { nft, operation, more } of CASES) {
    it(nft, () => {
      let sequence = 0;
      const batch = encodeBatch([operation], () => sequence++);
      assert.ok(batch);
      const [, message] = readMessages(batch.bytes);
      const expected = messages.get(nft);
      assert.ok(message !== undefined && expected !== undefined);
      assert.equal(message.type, expected.type);
      // nft does without CREATE for tables, where the kernel does not ask for it.
      const optional = NLM_F_ACK | (message.type === NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);
      assert.equal(message.flags & ~optional, expected.flags & ~optional);
      assert.deepEqual(message.payload.subarray(0, 4), Uint8Array.from(expected.payload.subarray(0, 4)));
      const wanted = tree(expected.payload.subarray(4));
      assert.deepEqual(tree(message.payload.subarray(4)), more === undefined ? wanted : without(wanted, more));
    });
  }
});
