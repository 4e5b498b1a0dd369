/**
 * The builder says what nft says: each rule is written, has to be listed by `nft` as this very text, and has to compare equal with
 * the rule that `nft` makes of the text.
 */
import assert from 'node:assert/strict';
import { canonicalRule, type Chain, type Family, type SetDefinition } from 'nftables-js';
import {
  accept,
  arp,
  concat,
  counter,
  ct,
  drop,
  ether,
  goto,
  icmp,
  icmpv6,
  ip,
  ip6,
  jump,
  limit,
  log,
  masquerade,
  meta,
  type Part,
  reject,
  rule,
  sctp,
  tcp,
  th,
  udp,
  verdict,
} from 'nftables-js/builder';
import { listed, nft, withConnection } from '../nft.ts';

type Rules = readonly (readonly [text: string, ...parts: Part[]])[];

const SETS: readonly Pick<SetDefinition, 'name' | 'key' | 'data' | 'flags'>[] = [
  { name: 'v4', key: ['ipv4_addr'], flags: [] },
  { name: 'v6', key: ['ipv6_addr'], flags: [] },
  { name: 'ranges', key: ['ipv4_addr'], flags: ['interval'] },
  { name: 'ports', key: ['inet_service'], flags: ['interval'] },
  { name: 'named-v4', key: ['ipv4_addr', 'inet_proto', 'inet_service'], flags: [] },
  { name: 'named-v6', key: ['ipv6_addr', 'inet_proto', 'inet_service'], flags: [] },
  { name: 'owners', key: ['ifname', 'ipv4_addr'], flags: [] },
  { name: 'types', key: ['icmpv6_type'], flags: [] },
  { name: 'interfaces', key: ['ifname'], flags: [] },
  { name: 'kinds', key: ['pkt_type'], flags: [] },
  { name: 'pods-v4', key: ['ipv4_addr'], data: ['verdict'], flags: [] },
  { name: 'pods-v6', key: ['ipv6_addr'], data: ['verdict'], flags: [] },
  { name: 'pod-ports', key: ['ifname', 'ipv4_addr'], data: ['verdict'], flags: [] },
];

const INET: Rules = [
  ['ip saddr @v4 accept', ip.saddr.in('v4'), accept],
  ['ip daddr != @v4 drop', ip.daddr.notIn('v4'), drop],
  ['ip6 daddr @v6 accept', ip6.daddr.in('v6'), accept],
  ['ip saddr @ranges', ip.saddr.in('ranges')],
  ['ip saddr vmap @pods-v4', ip.saddr.vmap('pods-v4')],
  ['ip6 daddr vmap @pods-v6', ip6.daddr.vmap('pods-v6')],
  ['ip saddr 10.1.2.3', ip.saddr.eq('10.1.2.3')],
  ['ip saddr 10.1.2.3 ip daddr 10.1.2.4 tcp dport 80', ip.saddr.eq('10.1.2.3'), ip.daddr.eq(Uint8Array.of(10, 1, 2, 4)), tcp.dport.eq(80)],
  ['ip daddr 10.0.0.1-10.0.0.5', ip.daddr.range('10.0.0.1', '10.0.0.5')],
  ['ip saddr 10.0.0.0/8', ip.saddr.prefix('10.0.0.0/8')],
  ['ip saddr != 10.128.0.0/9', ip.saddr.notPrefix('10.128.0.0/9')],
  ['ip6 saddr fe80::/10', ip6.saddr.prefix('fe80::/10')],
  ['ip6 daddr fd00::/8', ip6.daddr.prefix('fd00::/8')],
  ['ip6 saddr != fd00::1', ip6.saddr.neq('fd00::1')],
  ['tcp dport 80 accept', tcp.dport.eq(80), accept],
  ['tcp dport 8000-9000', tcp.dport.range(8000, 9000)],
  ['tcp dport != 8000-9000', tcp.dport.notRange(8000, 9000)],
  ['tcp dport @ports', tcp.dport.in('ports')],
  ['udp sport 53 udp dport != 53', udp.sport.eq(53), udp.dport.neq(53)],
  ['sctp dport 5060', sctp.dport.eq(5060)],
  ['th dport @ports', th.dport.in('ports')],
  ['meta l4proto tcp th dport @ports', meta.l4proto.eq('tcp'), th.dport.in('ports')],
  ['ip saddr @v4 tcp dport 443 accept', ip.saddr.in('v4'), tcp.dport.eq(443), accept],
  ['tcp dport 443 ip saddr @v4 accept', tcp.dport.eq(443), ip.saddr.in('v4'), accept],
  ['ip daddr . meta l4proto . th dport @named-v4', concat(ip.daddr, meta.l4proto, th.dport).in('named-v4')],
  ['ip6 daddr . meta l4proto . th dport @named-v6 accept', concat(ip6.daddr, meta.l4proto, th.dport).in('named-v6'), accept],
  ['iifname . ip saddr != @owners drop', concat(meta.iifname, ip.saddr).notIn('owners'), drop],
  ['iifname . ip saddr vmap @pod-ports', concat(meta.iifname, ip.saddr).vmap('pod-ports')],
  ['meta nfproto ipv6', meta.nfproto.eq('ipv6')],
  ['meta nfproto ipv4 ip saddr @v4', meta.nfproto.eq('ipv4'), ip.saddr.in('v4')],
  ['meta l4proto sctp', meta.l4proto.eq('sctp')],
  ['meta l4proto != tcp', meta.l4proto.neq('tcp')],
  ['iifname "eth0" oifname != "cni0"', meta.iifname.eq('eth0'), meta.oifname.neq('cni0')],
  ['iifname "veth*" drop', meta.iifname.eq('veth*'), drop],
  ['iifname @interfaces', meta.iifname.in('interfaces')],
  ['iif "lo" accept', meta.iif.eq(1), accept],
  ['meta pkttype multicast drop', meta.pkttype.eq('multicast'), drop],
  ['meta skuid 0', meta.skuid.eq(0)],
  ['meta mark 0x00000010', meta.mark.eq(0x10)],
  ['meta mark & 0x0000ff00 == 0x00000100', meta.mark.masked(0xff00, 0x100)],
  ['meta mark set 0x80000001', meta.mark.set(0x80000001)],
  ['icmp type echo-request accept', icmp.type.eq('echo-request'), accept],
  ['icmp type != redirect', icmp.type.neq('redirect')],
  ['icmpv6 type nd-redirect drop', icmpv6.type.eq('nd-redirect'), drop],
  ['icmpv6 type @types ip6 hoplimit 255', icmpv6.type.in('types'), ip6.hoplimit.eq(255)],
  ['icmpv6 type 135-136', icmpv6.type.range(135, 136)],
  ['ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit', ip6.hoplimit.eq(255), icmpv6.type.eq('nd-neighbor-solicit')],
  ['ip ttl 1', ip.ttl.eq(1)],
  ['ip protocol udp', ip.protocol.eq('udp')],
  ['ct state established accept', ct.state.any(['established']), accept],
  ['ct state established,related accept', ct.state.any(['established', 'related']), accept],
  ['ct state != new', ct.state.neq(['new'])],
  ['ct status dnat', ct.status.any(['dnat'])],
  ['ct direction reply', ct.direction.eq('reply')],
  ['ct label 100 drop', ct.label(100), drop],
  ['ct mark 0x00000005', ct.mark.eq(5)],
  ['ct mark & 0x00000001 == 0x00000001 drop', ct.mark.masked(1, 1), drop],
  ['ct mark & 0x000000f0 != 0x00000000', ct.mark.anyBit(0xf0)],
  ['ct mark set 0x00000007', ct.mark.set(7)],
  ['tcp flags syn / fin,syn,rst,ack', tcp.flags.masked(['fin', 'syn', 'rst', 'ack'], ['syn'])],
  ['tcp flags != syn / syn,ack drop', tcp.flags.masked(['syn', 'ack'], ['syn'], 'neq'), drop],
  ['tcp flags != syn', tcp.flags.neq(['syn'])],
  ['tcp flags rst', tcp.flags.any(['rst'])],
  ['counter packets 0 bytes 0 drop', counter(), drop],
  ['counter name "hits"', counter('hits')],
  ['limit rate 10/second', limit(10, 'second')],
  ['limit rate over 3/hour burst 1 packets drop', limit(3, 'hour', { burst: 1, over: true }), drop],
  ['limit rate 10/minute log prefix "denied " group 5 snaplen 96', limit(10, 'minute'), log({ group: 5, prefix: 'denied ', snaplen: 96 })],
  ['log prefix "x" level debug', log({ prefix: 'x', level: 7 })],
  ['jump regular', jump('regular')],
  ['goto regular', goto('regular')],
  ['return', verdict({ verdict: 'return' })],
  ['continue', verdict({ verdict: 'continue' })],
  ['reject', reject()],
  ['reject with icmpx admin-prohibited', reject('admin-prohibited')],
  ['reject with tcp reset', reject('tcp-reset')],
  ['ether saddr 00:11:22:33:44:55', ether.saddr.eq('00:11:22:33:44:55')],
];

const IP: Rules = [
  ['ip saddr 10.1.2.3 tcp dport 80', ip.saddr.eq('10.1.2.3'), tcp.dport.eq(80)],
  ['icmp type echo-request', icmp.type.eq('echo-request')],
  ['ip daddr . meta l4proto . th dport @named-v4', concat(ip.daddr, meta.l4proto, th.dport).in('named-v4')],
  ['masquerade', masquerade()],
  ['masquerade random', masquerade({ random: true })],
  [
    'ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade fully-random',
    ip.saddr.prefix('10.244.0.0/16'),
    ip.daddr.notPrefix('10.244.0.0/16'),
    masquerade({ fullyRandom: true }),
  ],
];

const IP6: Rules = [
  ['ip6 saddr fe80::1 udp dport 53', ip6.saddr.eq('fe80::1'), udp.dport.eq(53)],
  ['icmpv6 type nd-router-advert', icmpv6.type.eq('nd-router-advert')],
  ['ip6 nexthdr tcp', ip6.nexthdr.eq('tcp')],
];

const BRIDGE: Rules = [
  ['ip saddr 10.0.0.1 drop', ip.saddr.eq('10.0.0.1'), drop],
  ['ip6 saddr fe80::/10 drop', ip6.saddr.prefix('fe80::/10'), drop],
  ['iifname . ip saddr != @owners drop', concat(meta.iifname, ip.saddr).notIn('owners'), drop],
  ['iifname . arp saddr ip != @owners drop', concat(meta.iifname, arp.saddrIp).notIn('owners'), drop],
  ['arp operation reply', arp.operation.eq('reply')],
  ['arp saddr ether 00:11:22:33:44:55', arp.saddrEther.eq('00:11:22:33:44:55')],
  ['arp daddr ip 10.0.0.1', arp.daddrIp.eq('10.0.0.1')],
  ['ether type arp accept', ether.type.eq('arp'), accept],
  ['ether type ip ip saddr 10.0.0.1', ether.type.eq('ip'), ip.saddr.eq('10.0.0.1')],
  ['ether type != ip6', ether.type.neq('ip6')],
  ['ether saddr 00:11:22:33:44:55 drop', ether.saddr.eq('00:11:22:33:44:55'), drop],
  ['meta protocol ip6', meta.protocol.eq('ip6')],
  ['meta pkttype @kinds', meta.pkttype.in('kinds')],
  ['icmp type redirect drop', icmp.type.eq('redirect'), drop],
  ['icmpv6 type nd-router-advert drop', icmpv6.type.eq('nd-router-advert'), drop],
  ['ip6 saddr fe80::1 icmpv6 type nd-redirect', ip6.saddr.eq('fe80::1'), icmpv6.type.eq('nd-redirect')],
  ['udp dport 8472 drop', udp.dport.eq(8472), drop],
];

const NETDEV: Rules = [
  ['ip saddr 10.0.0.1 tcp dport 80', ip.saddr.eq('10.0.0.1'), tcp.dport.eq(80)],
  ['arp saddr ip 10.0.0.1', arp.saddrIp.eq('10.0.0.1')],
  ['icmpv6 type nd-router-advert drop', icmpv6.type.eq('nd-router-advert'), drop],
  ['ether type ip6', ether.type.eq('ip6')],
];

const BASES: Partial<Record<Family, Chain['base']>> = {
  netdev: { type: 'filter', hook: 'ingress', priority: 0, policy: 'accept', devices: ['lo'] },
  ip: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
};

/** How nft lists what can be told in other words. */
const LISTED: Readonly<Record<string, string>> = {
  'meta l4proto tcp th dport @ports': 'tcp dport @ports',
  'reject with tcp reset': 'meta l4proto tcp reject with tcp reset',
  'meta nfproto ipv4 ip saddr @v4': 'ip saddr @v4',
  'ether type ip ip saddr 10.0.0.1': 'ip saddr 10.0.0.1',
};

describe('builder', () => {
  const connection = withConnection();

  for (const [family, rules] of Object.entries({ inet: INET, ip: IP, ip6: IP6, bridge: BRIDGE, netdev: NETDEV }) as [Family, Rules][]) {
    describe(`in tables of the family ${family}`, () => {
      beforeEach(() => {
        const base = BASES[family];
        connection().commit([
          { op: 'add', table: { family, name: 't', flags: [] } },
          { op: 'add', chain: { family, table: 't', name: 'regular' } },
          { op: 'add', counter: { family, table: 't', name: 'hits', packets: 0n, bytes: 0n } },
          ...SETS.map((set) => ({ op: 'add', set: { family, table: 't', ...set } }) as const),
          ...['ours', 'theirs'].map((name) => ({ op: 'add', chain: { family, table: 't', name, ...(base && { base }) } }) as const),
        ]);
      });

      for (const [text, ...parts] of rules) {
        it(text, () => {
          const expressions = rule(family, ...parts);
          connection().commit([{ op: 'append', rule: { family, table: 't', chain: 'ours', expressions } }]);
          const lines = listed(family, 't').filter((line) => line !== '');
          const chain = lines.slice(lines.indexOf('chain ours {') + 1, -1).filter((line) => !line.startsWith('type '));
          assert.equal(chain[0], LISTED[text] ?? text);

          nft(`add rule ${family} t theirs ${text}`);
          const [theirs] = connection().rules({ family, table: 't', chain: 'theirs' });
          const [ours] = connection().rules({ family, table: 't', chain: 'ours' });
          assert.ok(theirs !== undefined && ours !== undefined);
          assert.deepEqual(ours.expressions, expressions);
          assert.equal(canonicalRule(expressions), canonicalRule(theirs.expressions));
        });
      }
    });
  }
});
