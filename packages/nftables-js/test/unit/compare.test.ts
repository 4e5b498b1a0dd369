import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import { canonicalRule, type Expression, type SetDefinition, sameDefinition } from 'nftables-js';
import { accept, counter, drop, ip, log, rule, tcp } from 'nftables-js/builder';
import { EXPRESSIONS } from './arbitraries.ts';

const bytes = Uint8Array.of(1);
const same = (a: Expression, b: Expression): void => assert.equal(canonicalRule([a]), canonicalRule([b]));
const different = (a: Expression, b: Expression): void => assert.notEqual(canonicalRule([a]), canonicalRule([b]));

describe('canonical rules', () => {
  it('are the same whatever counters have counted', () => {
    same({ expr: 'counter', packets: 0n, bytes: 0n }, { expr: 'counter', packets: 5n, bytes: 500n });
    assert.notEqual(canonicalRule(rule('inet', counter(), drop)), canonicalRule(rule('inet', drop)));
  });

  it('are the same whichever order properties are in', () => {
    same({ expr: 'meta', key: 'mark', register: 1 }, { register: 1, key: 'mark', expr: 'meta' });
  });

  it('are the same where what is said is what the kernel takes anyway', () => {
    same({ expr: 'log', prefix: 'x' }, { expr: 'log', prefix: 'x', level: 4, flags: 0, queueThreshold: 0 });
    same(
      { expr: 'limit', unit: 'packets', rate: 1n, per: 'day', burst: 0 },
      { expr: 'limit', unit: 'packets', rate: 1n, per: 'day', burst: 5, over: false },
    );
    different(
      { expr: 'limit', unit: 'bytes', rate: 1n, per: 'day', burst: 0 },
      { expr: 'limit', unit: 'bytes', rate: 1n, per: 'day', burst: 5 },
    );
    same({ expr: 'reject', type: 'icmp' }, { expr: 'reject', type: 'icmp', code: 0 });
    same({ expr: 'reject', type: 'tcp-reset' }, { expr: 'reject', type: 'tcp-reset', code: 3 });
    same({ expr: 'masquerade' }, { expr: 'masquerade', flags: 0 });
    same(
      { expr: 'nat', type: 'dnat', family: 'ip', addressMin: 0, addressMax: 0, flags: 3 },
      { expr: 'nat', type: 'dnat', family: 'ip', addressMin: 0 },
    );
    same({ expr: 'lookup', set: 's', register: 0, invert: false }, { expr: 'lookup', set: 's', register: 0 });
  });

  it('differ in every value, name, register and verdict', () => {
    different({ expr: 'cmp', op: 'eq', register: 0, value: bytes }, { expr: 'cmp', op: 'eq', register: 0, value: Uint8Array.of(2) });
    different({ expr: 'cmp', op: 'eq', register: 0, value: bytes }, { expr: 'cmp', op: 'eq', register: 0, value: Uint8Array.of(1, 0) });
    different({ expr: 'cmp', op: 'eq', register: 0, value: bytes }, { expr: 'cmp', op: 'eq', register: 1, value: bytes });
    different({ expr: 'lookup', set: 's', register: 0 }, { expr: 'lookup', set: 's', register: 0, invert: true });
    different({ expr: 'lookup', set: 's', register: 0 }, { expr: 'lookup', set: 's', register: 0, destination: 'verdict' });
    different({ expr: 'verdict', verdict: 'jump', chain: 'a' }, { expr: 'verdict', verdict: 'goto', chain: 'a' });
    different({ expr: 'log', group: 0 }, { expr: 'log' });
    assert.notEqual(canonicalRule(rule('inet', tcp.dport.eq(80), accept)), canonicalRule(rule('inet', tcp.dport.eq(81), accept)));
    assert.notEqual(canonicalRule(rule('inet', ip.saddr.in('a'), accept)), canonicalRule(rule('inet', accept, ip.saddr.in('a'))));
  });

  it('cannot be forged by names', () => {
    assert.notEqual(canonicalRule(rule('inet', log({ prefix: 'a" ; drop' }))), canonicalRule(rule('inet', log({ prefix: 'a' }), drop)));
    different({ expr: 'log', prefix: 'x" group=5 y="' }, { expr: 'log', prefix: 'x', group: 5 });
  });

  it('of different expressions differ', () => {
    // Of these there is one form only, so whatever is not deeply equal has to differ.
    const { counter: _counter, log: _log, limit: _limit, ...others } = EXPRESSIONS;
    const any = fc.oneof(...Object.values<fc.Arbitrary<Expression>>(others));
    fc.assert(fc.property(any, any, (a, b) => assert.equal(canonicalRule([a]) === canonicalRule([b]), isDeepStrictEqual(a, b))));
  });
});

describe('definitions of sets', () => {
  const set: SetDefinition = { family: 'inet', table: 't', name: 's', key: ['ipv4_addr'], flags: ['interval', 'timeout'] };

  it('are the same without handle and comment, whichever order flags are in', () => {
    assert.ok(sameDefinition(set, { ...set, handle: 5n, comment: 'x', flags: ['timeout', 'interval'] }));
    assert.ok(sameDefinition(set, { ...set, timeoutMs: 0n, size: 0 }));
  });

  it('differ in everything else', () => {
    const others: Partial<SetDefinition>[] = [
      { family: 'ip' },
      { table: 'u' },
      { name: 'r' },
      { key: ['ipv6_addr'] },
      { key: ['ipv4_addr', 'inet_service'] },
      { keyBytes: 5 },
      { data: ['verdict'] },
      { flags: ['interval'] },
      { timeoutMs: 5n },
      { size: 5 },
    ];
    for (const other of others)
      assert.ok(
        !sameDefinition(set, { ...set, ...other }),
        JSON.stringify(other, (_, value) => String(value)),
      );
  });
});
