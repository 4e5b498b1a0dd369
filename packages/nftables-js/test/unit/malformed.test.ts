/** Whatever bytes arrive, decoders answer or throw MalformedError: nothing else, and they end. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { MalformedError, MessageWriter, readMessages } from 'nftables-js';
import { readChain, writeChain } from '../../src/nftables/chain.ts';
import { readCounter, writeCounter } from '../../src/nftables/counter.ts';
import { copyKeys, readElements, writeElements, writeElementsReference } from '../../src/nftables/element.ts';
import { writeHeader } from '../../src/nftables/message.ts';
import { readRule, writeRule } from '../../src/nftables/rule.ts';
import { readSet, writeSet } from '../../src/nftables/set.ts';
import { readTable, writeTable } from '../../src/nftables/table.ts';
import * as arbitrary from './arbitraries.ts';

const DECODERS: Readonly<Record<string, (payload: Uint8Array) => unknown>> = {
  messages: (bytes) => [...readMessages(bytes)],
  table: readTable,
  chain: readChain,
  rule: readRule,
  set: readSet,
  counter: readCounter,
  elements: (payload) => [...readElements(payload)],
  keys: (payload) => copyKeys(payload, 4, new Uint8Array(payload.length), 0),
};

/** Payloads of real messages. */
const valid: fc.Arbitrary<Uint8Array> = fc
  .oneof(
    arbitrary.table.map((table) => (writer: MessageWriter) => writeTable(writer, table)),
    arbitrary.chain.map((chain) => (writer: MessageWriter) => writeChain(writer, chain)),
    arbitrary.rule.map((rule) => (writer: MessageWriter) => writeRule(writer, rule)),
    arbitrary.set.map((set) => (writer: MessageWriter) => writeSet(writer, set, 1)),
    arbitrary.counter.map((counter) => (writer: MessageWriter) => writeCounter(writer, counter)),
    arbitrary.elements.map(
      (elements) => (writer: MessageWriter) =>
        writeElements(
          writer,
          elements,
          () => (writeElementsReference(writer, 't', 's'), 0),
          () => undefined,
        ),
    ),
  )
  .map((write) => {
    const writer = new MessageWriter();
    writeHeader(writer, 'inet');
    write(writer);
    return writer.bytes();
  });

const truncated = fc
  .tuple(valid, fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([bytes, part]) => bytes.slice(0, Math.floor(bytes.length * part)));
const changed = fc.tuple(valid, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 })).map(([bytes, changes]) => {
  const copy = bytes.slice();
  for (const [at, value] of changes) copy[at % copy.length] = value;
  return copy;
});

describe('malformed bytes', () => {
  for (const [name, decode] of Object.entries(DECODERS)) {
    it(`as ${name}`, () => {
      fc.assert(
        fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), truncated, changed), (bytes) => {
          try {
            decode(bytes);
          } catch (error) {
            assert.ok(error instanceof MalformedError, String(error));
          }
        }),
        { numRuns: 1000 },
      );
    });
  }

  it('are told by what is wrong', () => {
    assert.throws(() => readTable(Uint8Array.of(1, 0)), { code: 'ERR_MALFORMED', message: 'a message of nf_tables of 2 bytes' });
    assert.throws(() => readTable(Uint8Array.of(99, 0, 0, 0, 5, 0, 1, 0, 0)), { message: 'a message of the unknown address family 99' });
    assert.throws(() => readTable(Uint8Array.of(1, 0, 0, 0)), { message: "a table's name (attribute 1) is missing" });
    assert.throws(() => readTable(Uint8Array.of(1, 0, 0, 0, 9, 0, 1, 0)), { message: 'an attribute of 9 bytes at 0 does not fit into 4' });
  });
});
