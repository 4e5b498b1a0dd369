/** What is written to the kernel is what is read from it: everything of types.ts survives its own encoding. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { type Expression, MessageWriter } from 'nftables-js';
import { readChain, writeChain } from '../../src/nftables/chain.ts';
import { readCounter, writeCounter } from '../../src/nftables/counter.ts';
import { copyKeys, readElements, writeElements, writeElementsReference } from '../../src/nftables/element.ts';
import { writeHeader } from '../../src/nftables/message.ts';
import { readRule, writeRule } from '../../src/nftables/rule.ts';
import { readSet, writeSet } from '../../src/nftables/set.ts';
import { readTable, writeTable } from '../../src/nftables/table.ts';
import type { Family } from '../../src/types.ts';
import * as arbitrary from './arbitraries.ts';

function payload(family: Family, write: (writer: MessageWriter) => void): Uint8Array {
  const writer = new MessageWriter(16);
  writeHeader(writer, family);
  write(writer);
  return writer.bytes();
}

/** Handles and owners come from the kernel, and are not written. */
function written(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([name]) => name !== 'handle' && name !== 'owner'));
}

describe('round trip', () => {
  for (const [kind, expressions] of Object.entries(arbitrary.EXPRESSIONS) as [Expression['expr'], fc.Arbitrary<Expression>][]) {
    it(`of the expression ${kind}`, () => {
      const rule = { family: 'inet', table: 't', chain: 'c' } as const;
      fc.assert(
        fc.property(expressions, (expression) => {
          const bytes = payload('inet', (writer) => writeRule(writer, { ...rule, expressions: [expression] }));
          assert.deepEqual(readRule(bytes), { ...rule, expressions: [expression] });
        }),
      );
    });
  }

  it('of rules', () => {
    fc.assert(
      fc.property(arbitrary.rule, (rule) => {
        assert.deepEqual(readRule(payload(rule.family, (writer) => writeRule(writer, rule))), written(rule));
      }),
    );
  });

  it('of tables', () => {
    fc.assert(
      fc.property(arbitrary.table, (table) => {
        assert.deepEqual(readTable(payload(table.family, (writer) => writeTable(writer, table))), written(table));
      }),
    );
  });

  it('of chains', () => {
    fc.assert(
      fc.property(arbitrary.chain, (chain) => {
        assert.deepEqual(readChain(payload(chain.family, (writer) => writeChain(writer, chain))), written(chain));
      }),
    );
  });

  it('of sets and maps', () => {
    fc.assert(
      fc.property(arbitrary.set, (set) => {
        assert.deepEqual(readSet(payload(set.family, (writer) => writeSet(writer, set, 1))), written(set));
      }),
    );
  });

  it('of elements', () => {
    fc.assert(
      fc.property(arbitrary.elements, (elements) => {
        const messages = elementMessages(elements);
        assert.deepEqual(
          messages.flatMap((message) => [...readElements(message)]),
          elements,
        );
      }),
    );
  });

  it('of named counters', () => {
    fc.assert(
      fc.property(arbitrary.counter, (counter) => {
        assert.deepEqual(readCounter(payload(counter.family, (writer) => writeCounter(writer, counter))), written(counter));
      }),
    );
  });

  it('of many elements, over as many messages as their lengths need', () => {
    const count = 20_000;
    const keys = Array.from({ length: count }, (_, at) => Uint8Array.of(10, at >> 16, (at >> 8) & 0xff, at & 0xff));
    const messages = elementMessages(keys.map((key) => ({ key })));
    // 16 bytes an element: attribute, key, value, four bytes; 65,531 of them fit.
    assert.equal(messages.length, Math.ceil(count / Math.floor((0xffff - 4) / 16)));
    assert.deepEqual(
      messages.flatMap((message) => Array.from(readElements(message), ({ key }) => key)),
      keys,
    );
    const packed = new Uint8Array(count * 16 + 1000);
    let end = 0;
    for (const message of messages) end = copyKeys(message, 4, packed, end);
    assert.deepEqual(Buffer.from(packed.subarray(0, end)), Buffer.concat(keys));
  });

  it('of elements that a generator yields in one and the same object', () => {
    const key = new Uint8Array(4);
    function* reused(): Generator<{ key: Uint8Array }> {
      for (let at = 0; at < 10_000; at++) {
        new DataView(key.buffer).setUint32(0, at);
        yield { key };
      }
    }
    const read = elementMessages(reused()).flatMap((message) =>
      Array.from(readElements(message), ({ key }) => Buffer.from(key).readUInt32BE()),
    );
    assert.deepEqual(
      read,
      Array.from({ length: 10_000 }, (_, at) => at),
    );
  });
});

function elementMessages(elements: Iterable<{ readonly key: Uint8Array }>): Uint8Array[] {
  const writer = new MessageWriter(16);
  const messages: Uint8Array[] = [];
  writeElements(
    writer,
    elements,
    () => {
      const start = writer.length;
      writeHeader(writer, 'inet');
      writeElementsReference(writer, 't', 's');
      return start;
    },
    (start) => messages.push(writer.bytes().slice(start)),
  );
  return messages;
}
