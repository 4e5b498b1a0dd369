/** What the builder refuses, and the values it takes. What it makes of them is held against nft in kernel/builder.test.ts. */
import assert from 'node:assert/strict';
import { isIPv6, SocketAddress } from 'node:net';
import * as fc from 'fast-check';
import { arp, concat, ct, icmpv6, ip, ip6, meta, type Part, rule, tcp, udp } from 'nftables-js/builder';
import { interfaceName, ipv4, ipv6, mac, prefixMask } from '../../src/builder/values.ts';

describe('builder', () => {
  const refused: readonly (readonly [why: string, part: () => readonly Part[], message: RegExp])[] = [
    ['IPv4 and IPv6 at once', () => [ip.saddr.in('a'), ip6.daddr.in('b')], /a rule for ip and ip6 matches nothing/],
    ['two transport protocols', () => [tcp.dport.eq(1), udp.sport.eq(1)], /transport protocols 6 and 17 matches nothing/],
    ['arp where there is none', () => [arp.saddrIp.eq('1.1.1.1')], /a table of the family inet sees no arp/],
    ['ICMPv6 of IPv4', () => [ip.saddr.in('a'), icmpv6.type.eq(1)], /a rule for ip and ip6/],
    ['a port beyond 65535', () => [tcp.dport.eq(65_536)], /65536 is no number of 16 bits/],
    ['half a port', () => [tcp.dport.eq(1.5)], /1.5 is no number/],
    ['an address of the other family', () => [ip.saddr.eq('fd00::1')], /fd00::1 is no IPv4 address/],
    ['a prefix with host bits', () => [ip.saddr.prefix('10.0.0.1/8')], /10.0.0.1\/8 has bits behind its prefix/],
    ['a prefix that is too long', () => [ip.saddr.prefix('10.0.0.0/33')], /a prefix of 33 bits of 32/],
    ['a prefix without length', () => [ip.saddr.prefix('10.0.0.0')], /a prefix of/],
    ['a range of marks', () => [ct.mark.range(1, 2)], /a range of a field that is not in a header/],
    ['a label beyond 127', () => [ct.label(128)], /label 128; there are 0 to 127/],
    ['an interface name of 16 bytes', () => [meta.iifname.eq('abcdefghijklmnop')], /is no name of an interface/],
    [
      'more than 64 bytes at once',
      () => [concat(ip6.saddr, ip6.daddr, meta.iifname, meta.oifname, tcp.dport).in('a')],
      /more than 64 bytes/,
    ],
  ];
  for (const [why, parts, message] of refused) {
    it(`refuses ${why}`, () => {
      assert.throws(() => rule('inet', ...parts()), { code: 'ERR_INVALID', message });
    });
  }

  it('reads addresses as Node does', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV6(), fc.constantFrom('::', '::1', 'fd00::', '::ffff:10.0.0.1', '1:2:3:4:5:6:7:8')), (text) => {
        fc.pre(isIPv6(text));
        const groups = Array.from({ length: 8 }, (_, at) =>
          Buffer.from(ipv6(text))
            .readUInt16BE(at * 2)
            .toString(16),
        );
        assert.equal(
          new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address,
          new SocketAddress({ address: text, family: 'ipv6' }).address,
        );
      }),
    );
    fc.assert(fc.property(fc.ipV4(), (text) => assert.equal(ipv4(text).join('.'), text)));
    assert.deepEqual(mac('00:1A:ff:00:00:01'), Uint8Array.of(0, 0x1a, 0xff, 0, 0, 1));
    for (const text of ['00:1A:ff:00:00', '001Aff000001', 'g0:00:00:00:00:00']) assert.throws(() => mac(text), { code: 'ERR_INVALID' });
    assert.throws(() => ipv6('fe80::1%eth0'), { code: 'ERR_INVALID' });
    assert.throws(() => ipv4(Uint8Array.of(1, 2, 3)), { message: 'an address of 3 bytes instead of 4' });
  });

  it('pads names of interfaces, and cuts them at a star', () => {
    assert.deepEqual(interfaceName('lo'), Uint8Array.from([108, 111, ...Array.from({ length: 14 }, () => 0)]));
    assert.deepEqual(interfaceName('lo*'), Uint8Array.of(108, 111));
  });

  it('makes masks of prefixes', () => {
    fc.assert(
      fc.property(fc.constantFrom(4, 16), fc.nat(128), (bytes, length) => {
        fc.pre(length <= bytes * 8);
        const bits = Array.from(prefixMask(bytes, length), (byte) => byte.toString(2).padStart(8, '0')).join('');
        assert.equal(bits, '1'.repeat(length).padEnd(bytes * 8, '0'));
      }),
    );
  });
});
