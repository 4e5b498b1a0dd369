/** How packets are gathered into messages. That the kernel cuts them up again just so is proven by test/kernel/network/udp.test.ts. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { Outgoing } from '../../../src/network/udp/messages.ts';
import type { NextHop } from '../../../src/network/udp/routes.ts';

const hop = (port: number): NextHop => ({ address: 0xc0000200 + port, port, trainsOffFor: 0 });

/** The lengths of the packets of each message. */
function messagesOf(outgoing: Outgoing): number[][] {
  const messages: number[][] = [];
  while (outgoing.pending) {
    messages.push(Array.from({ length: outgoing.unsentPackets }, (_, index) => outgoing.unsentPacket(index).length));
    outgoing.advance();
  }
  return messages;
}

describe('packets that are sent together', () => {
  it('are those of one length to one peer, and a shorter one at their end', () => {
    const outgoing = new Outgoing(64, 2048, true);
    const [first, second] = [hop(1), hop(2)];
    for (const length of [1400, 1400, 1400, 500, 500, 600]) outgoing.add(length, first);
    outgoing.add(600, second);
    outgoing.add(600, first);
    assert.deepEqual(messagesOf(outgoing), [[1400, 1400, 1400, 500], [500], [600], [600], [600]]);
  });

  it('are not so where the kernel cannot cut them apart', () => {
    const outgoing = new Outgoing(64, 2048, false);
    const first = hop(1);
    for (const length of [1400, 1400, 500]) outgoing.add(length, first);
    assert.deepEqual(messagesOf(outgoing), [[1400], [1400], [500]]);
  });

  it('are no more than a datagram holds, nor than 64', () => {
    const large = new Outgoing(20, 9000, true);
    const first = hop(1);
    while (!large.full) large.add(8972, first);
    // Seven of them are 62,804 bytes; eight would be more than 65,507.
    assert.deepEqual(
      messagesOf(large).map((lengths) => lengths.length),
      [7, 7, 6],
    );
    const small = new Outgoing(100, 64, true);
    while (!small.full) small.add(40, first);
    assert.deepEqual(
      messagesOf(small).map((lengths) => lengths.length),
      [64, 36],
    );
  });

  it('go one by one to a peer that refused them, for a while, and to others as before', () => {
    const outgoing = new Outgoing(64, 2048, true);
    const [refusing, other] = [hop(1), hop(2)];
    const add = (): void => {
      for (const to of [refusing, refusing, other, other]) outgoing.add(1400, to);
    };
    add();
    outgoing.refuseTrains();
    assert.deepEqual(messagesOf(outgoing), [
      [1400, 1400],
      [1400, 1400],
    ]);
    add();
    assert.deepEqual(messagesOf(outgoing), [[1400], [1400], [1400, 1400]]);
    for (let count = 0; refusing.trainsOffFor > 0; count++) {
      assert.ok(count < 1e6);
      outgoing.add(1400, refusing);
      outgoing.advance();
    }
    add();
    assert.deepEqual(messagesOf(outgoing), [
      [1400, 1400],
      [1400, 1400],
    ]);
  });

  it('leave in the order they came in, none lost, with the slots free again', () => {
    const hops = [hop(1), hop(2), hop(3)];
    const packet = fc.record({ length: fc.constantFrom(40, 500, 1400), to: fc.nat(2) });
    fc.assert(
      fc.property(fc.array(fc.array(packet, { maxLength: 16 }), { maxLength: 5 }), (batches) => {
        const outgoing = new Outgoing(16, 1472, true);
        for (const batch of batches) {
          for (const { length, to } of batch) outgoing.add(length, hops[to] ?? hop(9));
          assert.equal(outgoing.full, batch.length === 16);
          const messages = messagesOf(outgoing);
          assert.deepEqual(
            messages.flat(),
            batch.map(({ length }) => length),
          );
          for (const lengths of messages) {
            const [unit = 0] = lengths;
            assert.ok(lengths.slice(0, -1).every((length) => length === unit) && (lengths.at(-1) ?? 0) <= unit);
          }
          assert.equal(outgoing.nextAt, 0);
        }
      }),
    );
  });
});
