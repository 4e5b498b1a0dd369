import assert from 'node:assert/strict';
import { fingerprint, type Frame, innermost, type Packet, readFrame } from '../../../src/lab/trace/frames.ts';
import { frameLines } from '../../../src/lab/trace/report.ts';
import { formatAddress } from '../../../src/policy/address.ts';

const VXLAN_PORTS = new Set([8472]);

/** Hexadecimal with blanks; what is behind `#` is for people. */
function bytes(text: string): Uint8Array {
  return Buffer.from(text.replaceAll(/#.*$/gmu, '').replaceAll(/\s/gu, ''), 'hex');
}

function read(text: string, ports = VXLAN_PORTS): Frame {
  return readFrame(bytes(text), ports) ?? assert.fail('no frame');
}

function packetOf(frame: Frame): Packet {
  return innermost(frame) ?? assert.fail('no packet');
}

/** 10.244.0.2:40000 to 10.244.1.2:80, as the pod sends it. */
const SYN = `
  0a58 0af4 0001  32a1 b2c3 d4e5  0800           # to, from, IPv4
  45 00 003c  1234 4000  40 06 0000              # IHL 5, length 60, id, DF, TTL 64, TCP, checksum left to the card
  0af4 0002  0af4 0102
  9c40 0050  11223344 00000000  a0 02 faf0 abcd 0000   # ports, sequence, 10 words, SYN, window, checksum
  0204 0582  0402  080a 01020304 00000000  01  03 03 07  # options: MSS, SACK, times, window scale
`;

/** The same, two routers later, from node to node. */
const VXLAN = `
  52aa bbcc dd02  52aa bbcc dd01  0800           # to, from, IPv4
  45 00 006e  0001 0000  40 11 0000              # length 110, TTL 64, UDP
  ac12 0002  ac12 0003
  c001 2118  005a 0000                           # 49153 to 8472, length 90, no checksum
  08 000000  000001 00                           # VXLAN: flag I, VNI 1
  ${SYN.replace('0a58 0af4 0001', 'e6d3 a6d1 e9f9').replace('32a1 b2c3 d4e5', '927b d9d5 bf01').replace('40 06 0000', '3f 06 7777')}
`;

describe('frames of a trace', () => {
  it('are read with hardware addresses, IP addresses, TTL, ports and flags', () => {
    assert.deepEqual(frameLines(read(SYN)), [
      'ether 32:a1:b2:c3:d4:e5 > 0a:58:0a:f4:00:01',
      'IP 10.244.0.2 > 10.244.1.2 ttl 64, TCP 40000 > 80 SYN',
    ]);
  });

  it('are read through VXLAN, with its identifier and the packet inside', () => {
    const frame = read(VXLAN);
    assert.equal(frame.packet?.vxlan?.vni, 1);
    assert.deepEqual(frameLines(frame), [
      'ether 52:aa:bb:cc:dd:01 > 52:aa:bb:cc:dd:02',
      'IP 172.18.0.2 > 172.18.0.3 ttl 64, UDP 49153 > 8472',
      'VXLAN id 1',
      '  ether 92:7b:d9:d5:bf:01 > e6:d3:a6:d1:e9:f9',
      '  IP 10.244.0.2 > 10.244.1.2 ttl 63, TCP 40000 > 80 SYN',
    ]);
    assert.equal(formatAddress(packetOf(frame).destination), '10.244.1.2');
  });

  it('have a network identifier of 24 bits', () => {
    const frame = read(VXLAN.replace('08 000000  000001 00', '08 000000  abcdef 00'));
    assert.equal(frame.packet?.vxlan?.vni, 0xabcdef);
  });

  it('are VXLAN only on its ports, and only with the flag that the identifier is valid', () => {
    assert.equal(read(VXLAN, new Set([4789])).packet?.vxlan, undefined);
    assert.equal(read(VXLAN.replace('08 000000', '00 000000')).packet?.vxlan, undefined);
  });

  it('are read over IPv6', () => {
    const frame = read(`
      3333 0000 0001  32a1 b2c3 d4e5  86dd
      60000000 0010 3a 40                         # 16 bytes of ICMPv6, hop limit 64
      fd00 0010 0244 0000 0000 0000 0000 0002
      2001 0db8 0000 0000 0000 0000 0000 0010
      80 00 1111  ea60 0001  0000000000000000     # echo request, identifier 60000
    `);
    assert.deepEqual(frameLines(frame), [
      'ether 32:a1:b2:c3:d4:e5 > 33:33:00:00:00:01',
      'IP6 fd00:10:244::2 > 2001:db8::10 hlim 64, ICMPv6 echo request',
    ]);
  });

  it('need not carry IP', () => {
    const arp = read(`ffff ffff ffff  32a1 b2c3 d4e5  0806  0001 0800 0604 0001`);
    assert.equal(arp.packet, undefined);
    assert.deepEqual(frameLines(arp), ['ether 32:a1:b2:c3:d4:e5 > ff:ff:ff:ff:ff:ff']);
  });

  it('that are cut off anywhere are read as far as they go, and throw nothing', () => {
    const whole = bytes(VXLAN);
    for (let length = 0; length < whole.length; length++) {
      const frame = readFrame(whole.subarray(0, length), VXLAN_PORTS);
      assert.equal(frame === undefined, length < 14, `${length} bytes`);
      if (frame !== undefined) frameLines(frame);
    }
  });

  it('do not count padding behind a short packet as part of it', () => {
    const short = `0a58 0af4 0001 32a1 b2c3 d4e5 0800  45 00 001d 0000 0000 40 11 0000 0af4 0002 0af4 0102  9c40 0050 0009 0000 50`;
    const padded = `${short} ${'00'.repeat(17)}`;
    assert.deepEqual([...packetOf(read(padded)).transport.subarray(8)], [0x50]);
  });
});

describe('the fingerprint of a packet', () => {
  const of = (text: string): string => fingerprint(packetOf(read(text)));

  it('stays the same through routers, tunnels and address translation', () => {
    assert.equal(of(VXLAN), of(SYN));
    // Another destination and source, other ports, other checksums.
    const translated = SYN.replace('0af4 0102', '0a60 000a')
      .replace('0af4 0002', 'ac12 0002')
      .replace('9c40 0050', '0400 1f90')
      .replace('abcd', '9999');
    assert.equal(of(translated), of(SYN));
  });

  it('is another one where the packet is: another sequence number, a repetition, an answer', () => {
    assert.notEqual(of(SYN.replace('11223344', '11223345')), of(SYN));
    assert.notEqual(of(SYN.replace('01020304', '010206ec')), of(SYN), 'a repeated SYN has a later time');
    assert.notEqual(of(SYN.replace('a0 02', 'a0 12')), of(SYN), 'SYN ACK');
  });

  it('tells an echo reply from its request, which has all else of it', () => {
    const echo = (type: string): string =>
      `0a58 0af4 0001 32a1 b2c3 d4e5 0800  45 00 0020 0000 0000 40 01 0000 0af4 0002 0af4 0102  ${type} 00 1234 ea60 0001 00000000`;
    assert.notEqual(of(echo('00')), of(echo('08')));
    assert.equal(of(echo('08').replace('1234', '5678')), of(echo('08')), 'but for the checksum');
  });

  it('leaves out the checksum of UDP and of SCTP', () => {
    const udp = (checksum: string): string =>
      `0a58 0af4 0001 32a1 b2c3 d4e5 0800  45 00 001e 0000 0000 40 11 0000 0af4 0002 0af4 0102  9c40 0050 000a ${checksum} 5001`;
    assert.equal(of(udp('1111')), of(udp('2222')));
    const sctp = (checksum: string): string =>
      `0a58 0af4 0001 32a1 b2c3 d4e5 0800  45 00 0028 0000 0000 40 84 0000 0af4 0002 0af4 0102  9c40 0050 00000000 ${checksum} 01000014 a1a2a3a4`;
    assert.equal(of(sctp('11111111')), of(sctp('22222222')));
    assert.notEqual(of(sctp('11111111')), of(sctp('11111111').replace('a1a2a3a4', 'a1a2a3a5')));
  });

  it('is empty, and so nobody’s, where the packet is cut off before anything that tells it', () => {
    const cut = bytes(SYN).subarray(0, 14 + 20 + 4);
    assert.equal(fingerprint(packetOf(readFrame(cut, VXLAN_PORTS) ?? assert.fail('no frame'))), '');
  });
});
