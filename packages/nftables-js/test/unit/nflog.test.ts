/** Logged packets as bytes. Their headers were written out by hand from RFC 791, 8200, 9293, 768, 792 and 4443. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { MessageWriter } from '../../src/netlink/attributes.ts';
import { MalformedError } from '../../src/netlink/errors.ts';
import { readLoggedPacket } from '../../src/nflog/message.ts';
import { readPacket } from '../../src/nflog/packet.ts';

function hex(text: string): Uint8Array {
  return Uint8Array.fromHex(text.replaceAll(/\s/g, ''));
}

const source = hex('c0000201');
const destination = hex('c6336402');
const source6 = hex('20010db8000000000000000000000001');
const destination6 = hex('20010db8000000000000000000000002');
/** TTL 63, protocol, checksum left away, 192.0.2.1 to 198.51.100.2; `fragment` are flags and offset. */
const ipv4 = (protocol: string, rest: string, fragment = '4000', length = '003c') =>
  hex(`4500 ${length} abcd ${fragment} 3f ${protocol} 0000 c0000201 c6336402 ${rest}`);
/** Payload of 24 bytes, hop limit 64. */
const ipv6 = (next: string, rest: string) =>
  hex(`60000000 0018 ${next} 40 20010db8000000000000000000000001 20010db8000000000000000000000002 ${rest}`);
const PORTS = { sourcePort: 40000, destinationPort: 443 };
const SYN = '9c40 01bb 00000001 00000000 5002 ffff 0000 0000';

function onlyMalformed(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof MalformedError, `threw ${String(error)}`);
  }
}

describe('headers of a logged packet', () => {
  const v4 = { family: 'ip', source, destination, length: 60, hopLimit: 63, laterFragment: false };
  const v6 = { family: 'ip6', source: source6, destination: destination6, length: 64, hopLimit: 64, laterFragment: false };

  const cases: [name: string, packet: Uint8Array, header: object][] = [
    ['a SYN of TCP', ipv4('06', SYN), { ...v4, protocol: 6, ...PORTS, tcpFlags: 2 }],
    ['UDP', ipv4('11', '9c40 01bb 0008 0000'), { ...v4, protocol: 17, ...PORTS }],
    ['an INIT of SCTP', ipv4('84', '9c40 01bb 00000000 00000000 01000014'), { ...v4, protocol: 132, ...PORTS }],
    ['an echo request of ICMP', ipv4('01', '0800 0000 0001 0001'), { ...v4, protocol: 1, icmpType: 8, icmpCode: 0 }],
    ['a protocol without ports', ipv4('2f', '0000 0800'), { ...v4, protocol: 47 }],
    [
      'IPv4 with options',
      hex(`4600 003c abcd 4000 3f 11 0000 c0000201 c6336402 01010100 9c40 01bb 0008 0000`),
      { ...v4, protocol: 17, ...PORTS },
    ],
    ['a first fragment', ipv4('11', '9c40 01bb 0008 0000', '2000'), { ...v4, protocol: 17, ...PORTS }],
    [
      'a later fragment, whose first bytes are no ports',
      ipv4('11', '9c40 01bb 0008 0000', '2001'),
      { ...v4, protocol: 17, laterFragment: true },
    ],
    ['a copy cut off behind the ports of TCP', ipv4('06', '9c40 01bb'), { ...v4, protocol: 6, ...PORTS }],
    ['a copy cut off within the ports', ipv4('06', '9c40 01'), { ...v4, protocol: 6 }],
    ['a copy cut off behind the network header', ipv4('06', ''), { ...v4, protocol: 6 }],
    ['TCP over IPv6', ipv6('06', SYN), { ...v6, protocol: 6, ...PORTS, tcpFlags: 2 }],
    ['a neighbour solicitation', ipv6('3a', '8700 0000 00000000'), { ...v6, protocol: 58, icmpType: 135, icmpCode: 0 }],
    [
      'UDP behind hop-by-hop, routing and destination options',
      ipv6('00', '2b00000000000000 3c010000000000000000000000000000 1100000000000000 9c4001bb'),
      { ...v6, protocol: 17, ...PORTS },
    ],
    [
      'UDP behind an authentication header',
      ipv6('33', '1104 0000 00000001 00000001 000000000000000000000000 9c4001bb'),
      { ...v6, protocol: 17, ...PORTS },
    ],
    ['a first fragment of IPv6', ipv6('2c', '1100 0001 00000007 9c4001bb'), { ...v6, protocol: 17, ...PORTS }],
    ['a later fragment of IPv6', ipv6('2c', '1100 0009 00000007 9c4001bb'), { ...v6, protocol: 17, laterFragment: true }],
    ['an extension header that was not copied', ipv6('00', '1100'), { ...v6, protocol: 0 }],
  ];
  for (const [name, packet, header] of cases) it(`reads ${name}`, () => assert.deepEqual(readPacket(packet), header));

  it('refuses what is no IP, or ends within the network header', () => {
    for (const packet of [hex(''), hex('50'), ipv4('06', '').subarray(0, 19), ipv6('06', '').subarray(0, 39), hex(`44${'00'.repeat(30)}`)])
      assert.throws(() => readPacket(packet), MalformedError);
  });

  it('throws nothing but MalformedError on bytes of any kind', () => {
    const version = fc.constantFrom(0x45, 0x4f, 0x60);
    const next = fc.constantFrom(0, 6, 17, 43, 44, 51, 58, 60);
    fc.assert(
      fc.property(version, next, fc.uint8Array({ maxLength: 120 }), (first, next, rest) => {
        const packet = new Uint8Array([first, ...rest]);
        if (packet.length > 10) packet[first === 0x60 ? 6 : 9] = next;
        onlyMalformed(() => readPacket(packet));
      }),
      { numRuns: 3000 },
    );
  });
});

describe('messages of the netfilter log', () => {
  const full = (() => {
    const writer = new MessageWriter();
    writer.raw(new Uint8Array([10, 0, 0, 5]));
    writer.data(1, hex('86dd 02 00'));
    writer.be32(2, 0x1234);
    writer.data(3, hex('0000000067890abc 0000000000000007'));
    writer.be32(4, 3);
    writer.be32(5, 4);
    writer.be32(6, 5);
    writer.be32(7, 6);
    writer.data(8, hex('0006 0000 02aabbccddee 0000'));
    writer.string(10, 'policy/shop');
    writer.data(9, hex('6001020304'));
    writer.be32(12, 41);
    return writer.bytes();
  })();

  it('reads every field', () => {
    assert.deepEqual(readLoggedPacket(full), {
      protocolFamily: 10,
      etherType: 0x86dd,
      hook: 'forward',
      mark: 0x1234,
      timestampUs: 0x67890abc * 1e6 + 7,
      indev: 3,
      outdev: 4,
      physindev: 5,
      physoutdev: 6,
      hwaddr: hex('02aabbccddee'),
      prefix: 'policy/shop',
      payload: hex('6001020304'),
      sequence: 41,
    });
  });

  it('throws nothing but MalformedError on bytes of any kind', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => onlyMalformed(() => readLoggedPacket(bytes))));
    fc.assert(
      fc.property(fc.nat({ max: full.length - 1 }), fc.nat({ max: 255 }), (at, value) => {
        onlyMalformed(() => readLoggedPacket(full.subarray(0, at)));
        const changed = full.slice();
        changed[at] = value;
        onlyMalformed(() => readLoggedPacket(changed));
      }),
      { numRuns: 2000 },
    );
  });
});
