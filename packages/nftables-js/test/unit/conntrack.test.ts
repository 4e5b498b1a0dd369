/** Conntrack entries as bytes. That the kernel means this by them is proven by test/kernel/conntrack.test.ts. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { type FlowChange, writeChange } from '../../src/conntrack/change.ts';
import { flowMatches } from '../../src/conntrack/filter.ts';
import { type Flow, hasLabel, labelBits, readFlow, type Tuple } from '../../src/conntrack/flow.ts';
import { MessageWriter, readAttributes } from '../../src/netlink/attributes.ts';
import { MalformedError } from '../../src/netlink/errors.ts';

/** Plain objects, so that what is read can be compared with them. */
const plain = { noNullPrototype: true };
const u16 = fc.nat({ max: 0xffff });
const u32 = fc.nat({ max: 0xffff_ffff });
const u8 = fc.nat({ max: 0xff });
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

function tupleOf(family: Flow['family']): fc.Arbitrary<Tuple> {
  const addresses = { source: bytes(family === 'ip' ? 4 : 16), destination: bytes(family === 'ip' ? 4 : 16) };
  const none = fc.constant(undefined);
  return fc.oneof(
    fc.record({ ...addresses, protocol: fc.constantFrom(6, 17, 132), sourcePort: u16, destinationPort: u16, icmp: none }, plain),
    fc.record(
      {
        ...addresses,
        protocol: fc.constant(family === 'ip' ? 1 : 58),
        sourcePort: none,
        destinationPort: none,
        icmp: fc.record({ type: u8, code: u8, id: u16 }, plain),
      },
      plain,
    ),
    fc.record({ ...addresses, protocol: fc.constant(4), sourcePort: none, destinationPort: none, icmp: none }, plain),
  );
}

const flow: fc.Arbitrary<Flow> = fc.constantFrom('ip' as const, 'ip6' as const).chain((family) =>
  fc.record(
    {
      family: fc.constant(family),
      id: u32,
      original: tupleOf(family),
      reply: tupleOf(family),
      zone: fc.nat({ max: 100 }).map((zone) => zone + 1),
      zoneDirection: fc.constantFrom('both', 'original', 'reply'),
      status: u32,
      mark: u32,
      labels: fc.option(bytes(16), { nil: undefined }),
      timeoutSeconds: fc.option(u32, { nil: undefined }),
    },
    plain,
  ),
);

/** A message as ctnetlink_fill_info of the kernel writes it, with attributes among it that are not read. */
function kernelMessage(flow: Flow): Uint8Array {
  const writer = new MessageWriter();
  writer.raw(new Uint8Array([flow.family === 'ip' ? 2 : 10, 0, 0, 0]));
  for (const [type, direction, tuple] of [
    [1, 'original', flow.original],
    [2, 'reply', flow.reply],
  ] as const) {
    const start = writer.beginNested(type);
    const ip = writer.beginNested(1);
    writer.data(flow.family === 'ip' ? 1 : 3, tuple.source);
    writer.data(flow.family === 'ip' ? 2 : 4, tuple.destination);
    writer.endNested(ip);
    const proto = writer.beginNested(2);
    writer.u8(1, tuple.protocol);
    if (tuple.sourcePort !== undefined) writer.be16(2, tuple.sourcePort);
    if (tuple.destinationPort !== undefined) writer.be16(3, tuple.destinationPort);
    if (tuple.icmp !== undefined) {
      const first = flow.family === 'ip' ? 4 : 7;
      writer.be16(first, tuple.icmp.id);
      writer.u8(first + 1, tuple.icmp.type);
      writer.u8(first + 2, tuple.icmp.code);
    }
    writer.endNested(proto);
    if (flow.zoneDirection === direction) writer.be16(3, flow.zone);
    writer.endNested(start);
  }
  if (flow.zoneDirection === 'both') writer.be16(18, flow.zone);
  writer.be32(3, flow.status);
  if (flow.timeoutSeconds !== undefined) writer.be32(7, flow.timeoutSeconds);
  const counters = writer.beginNested(9);
  writer.be64(1, 12n);
  writer.endNested(counters);
  writer.be32(8, flow.mark);
  if (flow.labels !== undefined) writer.data(22, flow.labels);
  writer.be32(12, flow.id);
  writer.be32(11, 1);
  return writer.bytes().slice();
}

function onlyMalformed(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof MalformedError, `threw ${String(error)}`);
  }
}

/** The request for a change, without its header. */
function requestOf(change: FlowChange): Uint8Array {
  const writer = new MessageWriter();
  writeChange(writer, change);
  return writer.bytes().slice(4);
}

describe('conntrack entries as bytes', () => {
  it('reads every field of a flow', () => {
    fc.assert(fc.property(flow, (flow) => assert.deepEqual(readFlow(kernelMessage(flow)), flow)));
  });

  it('reads a flow from the midst of a larger buffer, and keeps no part of it', () => {
    fc.assert(
      fc.property(flow, fc.nat({ max: 20 }), (flow, offset) => {
        const message = kernelMessage(flow);
        const buffer = new Uint8Array(offset + message.length + 7).fill(0xff);
        buffer.set(message, offset);
        const read = readFlow(buffer.subarray(offset, offset + message.length));
        buffer.fill(0);
        assert.deepEqual(read, flow);
      }),
    );
  });

  it('gives nothing for a family that has no flows of IP', () => {
    assert.equal(readFlow(new Uint8Array([7, 0, 0, 0])), undefined);
  });

  it('throws nothing but MalformedError on bytes of any kind', () => {
    const family = fc.constantFrom(2, 10);
    fc.assert(
      fc.property(family, fc.uint8Array({ maxLength: 200 }), (family, rest) =>
        onlyMalformed(() => readFlow(new Uint8Array([family, 0, 0, 0, ...rest]))),
      ),
    );
    fc.assert(fc.property(flow, fc.nat(), (flow, cut) => onlyMalformed(() => readFlow(kernelMessage(flow).subarray(0, cut % 200)))));
    fc.assert(
      fc.property(flow, fc.nat(), u8, (flow, at, value) => {
        const message = kernelMessage(flow);
        message[at % message.length] = value;
        onlyMalformed(() => readFlow(message));
      }),
      { numRuns: 2000 },
    );
  });

  it('never asks for a deletion without a tuple, which would empty the table', () => {
    fc.assert(
      fc.property(flow, (flow) => {
        const attributes = readAttributes(requestOf({ change: 'delete', flow }));
        const tuple = attributes.get(1)?.nested();
        const addresses = tuple?.get(1)?.nested();
        const protocol = tuple?.get(2)?.nested();
        assert.ok(addresses?.has(flow.family === 'ip' ? 1 : 3));
        assert.ok(addresses?.has(flow.family === 'ip' ? 2 : 4));
        assert.ok(protocol?.has(1));
        assert.equal(attributes.get(12)?.be32(), flow.id);
      }),
    );
  });

  it('asks for no bit outside of the mask, which the kernel would toggle', () => {
    fc.assert(
      fc.property(flow, bytes(16), bytes(16), u32, u32, (flow, value, mask, markValue, markMask) => {
        const labels = readAttributes(requestOf({ change: 'labels', flow, labels: { value, mask } }));
        assert.deepEqual(labels.get(23)?.bytes(), mask);
        assert.deepEqual(
          labels.get(22)?.bytes(),
          value.map((byte, at) => byte & (mask[at] ?? 0)),
        );
        const mark = readAttributes(requestOf({ change: 'mark', flow, mark: { value: markValue, mask: markMask } }));
        assert.equal(mark.get(21)?.be32(), markMask);
        assert.equal(mark.get(8)?.be32(), (markValue & markMask) >>> 0);
      }),
    );
  });

  it('keeps labels in the order of bits that the kernel has', () => {
    assert.deepEqual(labelBits(0, 9, 127), new Uint8Array([1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]));
    assert.throws(() => labelBits(128), RangeError);
    assert.throws(() => labelBits(-1), RangeError);
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat({ max: 127 })), fc.nat({ max: 127 }), (set, label) =>
        assert.equal(hasLabel({ labels: labelBits(...set) }, label), set.includes(label)),
      ),
    );
    assert.equal(hasLabel({ labels: undefined }, 5), false);
  });

  it('filters here what an old kernel does not filter', () => {
    fc.assert(
      fc.property(flow, flow, (flow, other) => {
        assert.equal(flowMatches(flow, {}), true);
        assert.equal(flowMatches(flow, { family: other.family }), flow.family === other.family);
        const { source, destination, protocol } = flow.original;
        assert.equal(flowMatches(flow, { family: flow.family, original: { source, destination, protocol } }), true);
        const another = source.slice();
        another[0] = (another[0] ?? 0) ^ 1;
        assert.equal(flowMatches(flow, { original: { source: another } }), false);
        assert.equal(flowMatches(flow, { reply: { destination: flow.reply.destination.slice(1) } }), false);
        assert.equal(flowMatches(flow, { reply: { protocol: flow.reply.protocol + 1 } }), false);
        assert.equal(flowMatches(flow, { mark: { value: flow.mark, mask: 0xffff_ffff } }), true);
        assert.equal(flowMatches(flow, { mark: { value: (flow.mark ^ 0x10) >>> 0, mask: 0x10 } }), false);
        assert.equal(flowMatches(flow, { mark: { value: (flow.mark ^ 0x10) >>> 0, mask: 0x20 } }), true);
      }),
    );
  });
});
