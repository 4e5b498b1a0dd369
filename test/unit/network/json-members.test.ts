/** Expected values: what encoding/json of Go 1.26 makes of the same texts (a struct with the fields Network, SubnetLen, EnableIPv6). */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { belongsTo, fieldOf, readMembers } from '../../../src/network/json-members.ts';

describe('members of a JSON object', () => {
  it('come in the order of the text, also with equal names', () => {
    const text = '{"a":1, "b" : {"a":[2,"}"]} ,"a":"x\\"y,", "c":null,"d":[]}';
    const expected = [
      ['a', 1],
      ['b', { a: [2, '}'] }],
      ['a', 'x"y,'],
      ['c', null],
      ['d', []],
    ];
    assert.deepEqual(
      readMembers(text)?.map(({ name, value }) => [name, value]),
      expected,
    );
  });

  it('carry their own text', () => {
    assert.deepEqual(
      readMembers(' {"Backend" : { "Type" : "x" } } ')?.map(({ text }) => text),
      ['{ "Type" : "x" }'],
    );
  });

  it('are those of JSON.parse for any object, where no name comes twice', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.constantFrom(undefined, 2), (object, indent) => {
        const members = readMembers(JSON.stringify(object, undefined, indent)) ?? [];
        const expected = JSON.parse(JSON.stringify(object)) as Record<string, unknown>;
        assert.deepEqual(Object.fromEntries(members.map(({ name, value }) => [name, value])), { ...expected });
        assert.equal(members.length, Object.keys(object).length);
      }),
    );
  });

  it('have names that may be escaped', () => {
    assert.deepEqual(
      readMembers('{"\\u0054ype":1,"":2}')?.map(({ name }) => name),
      ['Type', ''],
    );
  });

  it('are none of what is no object', () => {
    for (const text of ['[]', '"x"', 'null', '1']) assert.equal(readMembers(text), undefined);
    assert.deepEqual(readMembers('{}'), []);
  });

  it('are refused where it is no JSON', () => {
    for (const text of ['', '{', '{"a":1,}', "{'a':1}"]) assert.throws(() => readMembers(text), SyntaxError);
  });
});

describe('a field of a Go struct', () => {
  it('is found in any case, and by what Unicode folds to its letters', () => {
    for (const name of ['Network', 'network', 'NETWORK', 'networ\u212a', 'NetworK']) assert.ok(belongsTo('Network', name), name);
    assert.ok(belongsTo('SubnetLen', '\u017fubnetLen'));
  });

  it('is no other word', () => {
    for (const name of ['Networks', ' Network', 'Netw\u00f6rk', 'Network\n', ''])
      assert.ok(!belongsTo('Network', name), JSON.stringify(name));
    // A dotless i folds to no i.
    assert.ok(!belongsTo('SubnetMin', 'SubnetM\u0131n'));
  });

  it('is the last that is not null', () => {
    assert.equal(fieldOf({ VNI: 1, vni: 2, Vni: null }, 'VNI'), 2);
    assert.equal(fieldOf({ vnj: 2 }, 'VNI'), undefined);
  });
});
