/** Reading the messages of the change monitor. That they mean this is proven by test/kernel/monitor.test.ts. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { MalformedError } from '../../src/netlink/errors.ts';
import { type Message, MessageWriter, readMessages } from '../../src/netlink/attributes.ts';
import { headOfChange, readMonitorMessage, sameChange } from '../../src/monitor/change.ts';

interface Change {
  readonly type: number;
  readonly family: number;
  readonly generation: number;
  readonly table: string;
  readonly port: number;
  readonly rest: Uint8Array;
}

/** As the kernel writes it: the table first, then what the object is. */
function changeMessage(change: Change): Message {
  const writer = new MessageWriter();
  const start = writer.beginMessage((10 << 8) | change.type, 0, 0, change.port);
  writer.raw(new Uint8Array([change.family, 0, change.generation >> 8, change.generation & 0xff]));
  writer.string(1, change.table);
  writer.data(2, change.rest);
  writer.endMessage(start);
  const [message] = readMessages(writer.bytes());
  assert.ok(message);
  return message;
}

const message: fc.Arbitrary<Change> = fc.record({
  type: fc.constantFrom(0, 2, 3, 6, 12, 14),
  family: fc.constantFrom(1, 2, 10),
  generation: fc.nat({ max: 0xffff }),
  table: fc.constantFrom('a', 'b', 'sluice', 'sluice2'),
  port: fc.constantFrom(0, 77),
  rest: fc.uint8Array({ maxLength: 8 }),
});

function onlyMalformed(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof MalformedError, `threw ${String(error)}`);
  }
}

describe('messages of the ruleset monitor', () => {
  it('reads who added what to which table', () => {
    const change = changeMessage({ type: 12, family: 1, generation: 5, table: 'sluice', port: 4711, rest: new Uint8Array(3) });
    assert.deepEqual(readMonitorMessage(change), {
      event: 'change',
      action: 'add',
      object: 'element',
      family: 'inet',
      table: 'sluice',
      port: 4711,
      count: 1,
    });
  });

  it('reads the number and the maker of a generation', () => {
    const writer = new MessageWriter();
    const start = writer.beginMessage((10 << 8) | 15, 0, 0, 9);
    writer.raw(new Uint8Array(4));
    writer.be32(1, 70_000);
    writer.be32(2, 1234);
    writer.string(3, 'nft');
    writer.endMessage(start);
    const [generation] = readMessages(writer.bytes());
    assert.ok(generation);
    assert.deepEqual(readMonitorMessage(generation), { event: 'generation', id: 70_000, pid: 1234, processName: 'nft', port: 9 });
  });

  it('passes over kinds of messages it does not know, and other subsystems', () => {
    const change = changeMessage({ type: 77, family: 1, generation: 5, table: 't', port: 1, rest: new Uint8Array(0) });
    assert.equal(readMonitorMessage(change), undefined);
    assert.equal(readMonitorMessage({ ...change, type: 1 << 8 }), undefined);
  });

  it('takes two changes for the same exactly if nothing but the object differs', () => {
    fc.assert(
      fc.property(message, message, (a, b) => {
        const first = changeMessage(a);
        const head = headOfChange(first.payload);
        assert.ok(head);
        const equal = a.type === b.type && a.family === b.family && a.table === b.table && a.port === b.port;
        assert.equal(sameChange(changeMessage(b), { type: first.type, port: first.port, head }), equal);
      }),
      { numRuns: 2000 },
    );
  });

  it('throws nothing but MalformedError on bytes of any kind', () => {
    const type = fc.constantFrom(...[0, 2, 3, 6, 8, 9, 12, 15, 18].map((type) => (10 << 8) | type));
    fc.assert(
      fc.property(type, fc.uint8Array({ maxLength: 64 }), (type, payload) => {
        onlyMalformed(() => readMonitorMessage({ type, flags: 0, sequence: 0, port: 0, payload }));
        onlyMalformed(() => headOfChange(payload));
      }),
    );
    fc.assert(
      fc.property(message, fc.nat(), (change, cut) => {
        const whole = changeMessage(change);
        onlyMalformed(() => readMonitorMessage({ ...whole, payload: whole.payload.subarray(0, cut % whole.payload.length) }));
      }),
    );
  });
});
