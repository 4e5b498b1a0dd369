import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import {
  crc32c,
  internetChecksum,
  readEchoReply,
  readSctp,
  type SctpPacket,
  withoutIPv4Header,
  writeEcho,
  writeSctp,
} from '../../../src/lab/prober/packets.ts';

describe('packets of the prober', () => {
  it('compute CRC-32C as RFC 3720 appendix B.4 has it', () => {
    assert.equal(crc32c(Buffer.from('123456789')), 0xe306_9283);
    assert.equal(crc32c(new Uint8Array(32)), 0x8a91_36aa);
    assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8_ab43);
    assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd_794e);
  });

  it('have the fields of SCTP where RFC 9260 has them', () => {
    const bytes = writeSctp({
      kind: 'INIT-ACK',
      sourcePort: 80,
      destinationPort: 4660,
      verificationTag: 0x0a0b0c0d,
      initiateTag: 0x01020304,
      cookie: 'a/b',
    });
    const hex = Buffer.from(bytes).toString('hex');
    // Ports and verification tag; after the checksum: type, flags, length 27 (padded to 28), initiate tag, window, streams, TSN; cookie.
    assert.equal(hex.slice(0, 16), '005012340a0b0c0d');
    assert.equal(hex.slice(24), '0200001b0102030400010000000100010102030400070007612f6200');
  });

  it('are read as they were written', () => {
    const u16 = fc.integer({ min: 0, max: 0xffff });
    const u32 = fc.integer({ min: 1, max: 0xffff_ffff });
    fc.assert(
      fc.property(
        u16,
        u16,
        u32,
        u32,
        fc.string({ unit: 'grapheme-ascii', maxLength: 60 }),
        (sourcePort, destinationPort, verificationTag, initiateTag, cookie) => {
          const init: SctpPacket = { kind: 'INIT', sourcePort, destinationPort, verificationTag: 0, initiateTag, cookie: '' };
          assert.deepEqual(readSctp(writeSctp(init)), init);
          const ack: SctpPacket = { kind: 'INIT-ACK', sourcePort, destinationPort, verificationTag, initiateTag, cookie };
          assert.deepEqual(readSctp(writeSctp(ack)), ack);
        },
      ),
    );
  });

  it('are passed over where a bit has flipped, and where they are no packets at all', () => {
    const bytes = writeSctp({
      kind: 'INIT-ACK',
      sourcePort: 80,
      destinationPort: 9,
      verificationTag: 7,
      initiateTag: 8,
      cookie: 'dev/web',
    });
    fc.assert(
      fc.property(fc.nat(bytes.length * 8 - 1), (bit) => {
        const broken = bytes.slice();
        broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.equal(readSctp(broken), undefined);
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (noise) => readSctp(noise) === undefined));
  });

  it('carry a checksum over ICMP that adds up to zero (RFC 1071)', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 0, max: 0xffff }), (identifier, sequence) => {
        const request = writeEcho(4, identifier, sequence);
        assert.equal(internetChecksum(request), 0);
        assert.equal(readEchoReply(4, request), undefined, 'a request is no reply');
        const reply = request.slice();
        reply[0] = 0;
        assert.deepEqual(readEchoReply(4, reply), { identifier, sequence });
        const reply6 = writeEcho(6, identifier, sequence);
        reply6[0] = 129;
        assert.deepEqual(readEchoReply(6, reply6), { identifier, sequence });
      }),
    );
  });

  it('lose an IPv4 header with options', () => {
    assert.deepEqual(withoutIPv4Header(Uint8Array.of(0x46, ...new Uint8Array(23), 1, 2, 3)), Uint8Array.of(1, 2, 3));
  });
});
