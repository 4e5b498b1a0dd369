/** What the udp backend reads of a packet and does to it, as bytes. That kernels take it so is proven by test/kernel/network/udp.test.ts. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import {
  decrementTtl,
  destinationOf,
  internetChecksum,
  ipv4Length,
  MAX_ICMP_ERROR_BYTES,
  mayAnswerWithError,
  NET_UNREACHABLE,
  TIME_EXCEEDED,
  writeIcmpError,
} from '../../../src/network/udp/packet.ts';

/** RFC 1071 as it is written there, with a sum that never overflows. */
function onesComplementSum(bytes: readonly number[]): number {
  let sum = 0n;
  for (let at = 0; at < bytes.length; at += 2) sum += BigInt((bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0));
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(sum);
}

interface Fields {
  readonly ttl?: number;
  readonly protocol?: number;
  readonly source?: readonly number[];
  readonly destination?: readonly number[];
  readonly fragment?: number;
  readonly options?: readonly number[];
  readonly payload?: readonly number[];
}

/** With a right checksum. */
function packetBytes({
  ttl = 64,
  protocol = 17,
  source = [10, 99, 1, 5],
  destination = [10, 99, 2, 6],
  fragment = 0,
  options = [],
  payload = [0, 1, 2, 3, 4, 5, 6, 7],
}: Fields = {}): number[] {
  const total = 20 + options.length + payload.length;
  const header = [0x40 + 5 + options.length / 4, 0, total >> 8, total & 0xff, 0x12, 0x34, fragment >> 8, fragment & 0xff, ttl, protocol];
  const sum = onesComplementSum([...header, 0, 0, ...source, ...destination, ...options]) ^ 0xffff;
  return [...header, sum >> 8, sum & 0xff, ...source, ...destination, ...options, ...payload];
}

/** The packet at an odd place, with other bytes around it. */
const AT = 7;
function viewOf(bytes: readonly number[]): DataView {
  return new DataView(Uint8Array.from([...Array<number>(AT).fill(0xee), ...bytes, 0xee, 0xee]).buffer);
}

function bytesOf(view: DataView, length: number): number[] {
  return [...new Uint8Array(view.buffer, AT, length)];
}

const byte = fc.nat(255);
const anyPacket = fc
  .record({
    ttl: byte,
    protocol: byte,
    source: fc.array(byte, { minLength: 4, maxLength: 4 }),
    destination: fc.array(byte, { minLength: 4, maxLength: 4 }),
    fragment: fc.nat(0xffff),
    options: fc.nat(10).chain((words) => fc.array(byte, { minLength: words * 4, maxLength: words * 4 })),
    payload: fc.array(byte, { maxLength: 40 }),
  })
  .map(packetBytes);

describe('an IPv4 packet of the udp backend', () => {
  it('is one where its lengths can be, and is as long as its header says', () => {
    fc.assert(
      fc.property(anyPacket, fc.nat(10), (bytes, more) => {
        const view = viewOf([...bytes, ...Array<number>(more).fill(0)]);
        assert.equal(ipv4Length(view, AT, bytes.length + more), bytes.length);
        assert.equal(ipv4Length(view, AT, bytes.length - 1), 0);
      }),
    );
  });

  it('is none with a wrong version, header length or total length', () => {
    const wrong: readonly (readonly [at: number, bytes: readonly number[]])[] = [
      [0, [0x65]],
      [0, [0x05]],
      [0, [0x44]],
      [0, [0x48]],
      [2, [0, 0]],
      [2, [0, 19]],
      [2, [0, 29]],
      [2, [0xff, 0xff]],
    ];
    for (const [at, changed] of wrong) {
      const bytes = packetBytes();
      bytes.splice(at, changed.length, ...changed);
      assert.equal(ipv4Length(viewOf(bytes), AT, 28), 0, `${at}: ${changed.join(' ')}`);
    }
    assert.equal(ipv4Length(viewOf(packetBytes()), AT, 28), 28);
  });

  it('has a destination that is the same number, signed', () => {
    assert.equal(destinationOf(viewOf(packetBytes({ destination: [10, 0, 0, 1] })), AT), 0x0a000001);
    assert.equal(destinationOf(viewOf(packetBytes({ destination: [255, 255, 255, 254] })), AT), -2);
  });

  it('loses one of its time to live, and its checksum stays right', () => {
    fc.assert(
      fc.property(anyPacket, (bytes) => {
        const view = viewOf(bytes);
        const ttl = bytes[8] ?? 0;
        const header = ((bytes[0] ?? 0) & 0xf) * 4;
        if (ttl <= 1) {
          assert.equal(decrementTtl(view, AT), false);
          assert.deepEqual(bytesOf(view, bytes.length), bytes);
          return;
        }
        assert.equal(decrementTtl(view, AT), true);
        const after = bytesOf(view, bytes.length);
        assert.equal(onesComplementSum(after.slice(0, header)), 0xffff);
        assert.deepEqual(
          after,
          bytes
            .with(8, ttl - 1)
            .with(10, after[10] ?? 0)
            .with(11, after[11] ?? 0),
        );
      }),
      { numRuns: 2000 },
    );
  });

  it('gets the same checksum as one that is computed anew, for every checksum there is', () => {
    for (let identification = 0; identification <= 0xffff; identification++) {
      const bytes = packetBytes()
        .with(4, identification >> 8)
        .with(5, identification & 0xff)
        .with(10, 0)
        .with(11, 0);
      const checksum = (header: readonly number[]): number => onesComplementSum(header.slice(0, 20)) ^ 0xffff;
      const before = checksum(bytes);
      const view = viewOf(bytes.with(10, before >> 8).with(11, before & 0xff));
      decrementTtl(view, AT);
      const expected = checksum(bytes.with(8, 63));
      assert.equal(view.getUint16(AT + 10), expected, `${identification}`);
    }
  });

  it('keeps a checksum that is wrong wrong', () => {
    const bytes = packetBytes();
    bytes[10] = (bytes[10] ?? 0) ^ 0x40;
    const view = viewOf(bytes);
    decrementTtl(view, AT);
    assert.notEqual(onesComplementSum(bytesOf(view, 20)), 0xffff);
  });
});

describe('an ICMP error of the udp backend', () => {
  const may = (fields: Fields): boolean => {
    const bytes = packetBytes(fields);
    return mayAnswerWithError(viewOf(bytes), AT, bytes.length);
  };

  it('is due to a host that sent a first fragment, or a whole packet', () => {
    assert.ok(may({}));
    assert.ok(may({ fragment: 0x2000 }));
    assert.ok(may({ fragment: 0x4000 }));
    assert.ok(may({ protocol: 6, options: [1, 1, 1, 1] }));
  });

  it('is never due to a later fragment, from or to more than one host, or where the header is broken', () => {
    assert.ok(!may({ fragment: 0x0001 }));
    assert.ok(!may({ fragment: 0x3fff }));
    for (const source of [
      [0, 0, 0, 0],
      [0, 1, 2, 3],
      [127, 0, 0, 1],
      [224, 0, 0, 1],
      [239, 1, 1, 1],
      [240, 0, 0, 1],
      [255, 255, 255, 255],
    ]) {
      assert.ok(!may({ source }), source.join('.'));
    }
    for (const destination of [
      [224, 0, 0, 251],
      [255, 255, 255, 255],
    ])
      assert.ok(!may({ destination }), destination.join('.'));
    const broken = packetBytes();
    broken[5] = 0;
    assert.ok(!mayAnswerWithError(viewOf(broken), AT, broken.length));
  });

  it('is due to an ICMP message that is no error itself', () => {
    const ofType = (type: number): boolean => may({ protocol: 1, payload: [type, 0, 0, 0] });
    // RFC 792: destination unreachable, source quench, redirect, time exceeded, parameter problem.
    assert.deepEqual(
      Array.from({ length: 256 }, (_, type) => type).filter((type) => !ofType(type)),
      [3, 4, 5, 11, 12],
    );
    assert.ok(!may({ protocol: 1, payload: [] }));
    // The type is behind the options.
    assert.ok(!may({ protocol: 1, options: [8, 8, 8, 8], payload: [3, 0] }));
    // Other protocols may begin with any byte.
    assert.ok(may({ protocol: 6, payload: [3, 0] }));
  });

  it('is a whole packet to the source, and quotes as much as fits into 576 bytes', () => {
    const router = 0x0a630100;
    for (const length of [0, 1, 8, 527, 528, 529, 1400]) {
      for (const error of [NET_UNREACHABLE, TIME_EXCEEDED]) {
        const bytes = packetBytes({ payload: Array.from({ length }, (_, index) => index & 0xff) });
        const into = new DataView(new ArrayBuffer(MAX_ICMP_ERROR_BYTES));
        new Uint8Array(into.buffer).fill(0xaa);
        const total = writeIcmpError(into, error, router, viewOf(bytes), AT, bytes.length);
        assert.equal(total, Math.min(576, 28 + bytes.length));
        const written = [...new Uint8Array(into.buffer, 0, total)];
        assert.equal(onesComplementSum(written.slice(0, 20)), 0xffff);
        assert.equal(onesComplementSum(written.slice(20)), 0xffff);
        assert.deepEqual(written.slice(0, 10), [0x45, 0xc0, total >> 8, total & 0xff, 0, 0, 0, 0, 64, 1]);
        assert.deepEqual(written.slice(12, 22), [10, 99, 1, 0, 10, 99, 1, 5, error.type, error.code]);
        assert.deepEqual(written.slice(24), [0, 0, 0, 0, ...bytes.slice(0, total - 28)]);
      }
    }
  });
});

describe('the checksum of the Internet', () => {
  it('is that of RFC 1071, over an odd number of bytes too', () => {
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 60 }), (bytes) => {
        assert.equal(internetChecksum(viewOf(bytes), AT, bytes.length), onesComplementSum(bytes) ^ 0xffff);
      }),
    );
  });
});
