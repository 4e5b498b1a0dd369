/** The fields that rules match, under the names they have in nft(8): `ip.saddr`, `tcp.dport`, `meta.l4proto`, `ct.state`. */
import { NetlinkError } from '../netlink/errors.ts';
import type { CtKey, MetaKey } from '../types.ts';
import { ETHER_TYPE, type NetworkProtocol, type Part, type RuleContext } from './context.ts';
import { AddressField, BitField, Field } from './field.ts';
import { be16, bits, interfaceName, ipv4, ipv6, le16, le32, mac, named, u8 } from './values.ts';

/** linux/in.h, IPPROTO_* */
const IPPROTO = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const;
const NFPROTO = { ipv4: 2, ipv6: 10 } as const;
/** linux/if_packet.h, PACKET_* */
const PACKET_TYPE = { host: 0, broadcast: 1, multicast: 2, other: 3 } as const;
/** linux/netfilter/nf_conntrack_common.h, NF_CT_STATE_*_BIT */
const CT_STATE = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
/** linux/netfilter/nf_conntrack_common.h, IPS_* */
const CT_STATUS = { expected: 1, 'seen-reply': 2, assured: 4, confirmed: 8, snat: 16, dnat: 32, dying: 512 } as const;
const CT_DIRECTION = { original: 0, reply: 1 } as const;
const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ecn: 64, cwr: 128 } as const;
/** RFC 792, RFC 4443, RFC 4861 */
const ICMP_TYPE = { 'echo-reply': 0, 'destination-unreachable': 3, redirect: 5, 'echo-request': 8, 'time-exceeded': 11 } as const;
const ICMPV6_TYPE = {
  'destination-unreachable': 1,
  'packet-too-big': 2,
  'time-exceeded': 3,
  'echo-request': 128,
  'echo-reply': 129,
  'nd-router-solicit': 133,
  'nd-router-advert': 134,
  'nd-neighbor-solicit': 135,
  'nd-neighbor-advert': 136,
  'nd-redirect': 137,
} as const;
const ARP_OPERATION = { request: 1, reply: 2 } as const;

/** A name of an enumeration, or any number. */
type Named<Names> = keyof Names | number;
type Base = 'link' | 'network' | 'transport';

function header<Value>(
  base: Base,
  offset: number,
  bytes: number,
  encode: (value: Value) => Uint8Array,
  need?: (rule: RuleContext) => void,
): Field<Value> {
  return new Field({
    bytes,
    encode,
    load: (register) => ({ expr: 'payload', base, offset, length: bytes, register }),
    ...(need !== undefined && { need }),
  });
}

function address(
  offset: number,
  bytes: number,
  encode: (value: string | Uint8Array) => Uint8Array,
  need: (rule: RuleContext) => void,
  base: Base = 'network',
): AddressField {
  return new AddressField({ bytes, encode, need }, (register, length) => ({ expr: 'payload', base, offset, length, register }));
}

function metaField<Value>(
  key: MetaKey,
  bytes: number,
  encode: (value: Value) => Uint8Array,
  matched?: (rule: RuleContext, value: Value) => void,
): Field<Value> {
  return new Field({
    bytes,
    encode,
    load: (register) => ({ expr: 'meta', key, register }),
    unordered: bytes > 1,
    ...(matched !== undefined && { matched }),
  });
}

function ctField<Value>(key: CtKey, encode: (value: Value) => Uint8Array): BitField<Value> {
  return new BitField({ bytes: 4, encode, load: (register) => ({ expr: 'ct', key, register }), unordered: true });
}

function ports(need?: (rule: RuleContext) => void): { readonly sport: Field<number>; readonly dport: Field<number> } {
  return { sport: header('transport', 0, 2, be16, need), dport: header('transport', 2, 2, be16, need) };
}

/** A mark of 32 bits, which rules also set. */
class MarkField extends BitField<number> {
  readonly #set: (value: number) => Part;

  constructor(key: 'meta' | 'ct') {
    super({ bytes: 4, encode: le32, load: (register) => ({ expr: key, key: 'mark', register }), unordered: true });
    this.#set = (value) => (rule) => {
      rule.push({ expr: 'immediate', register: 0, value: le32(value) });
      rule.push(key === 'meta' ? { expr: 'metaSet', key: 'mark', register: 0 } : { expr: 'ctSet', key: 'mark', register: 0 });
    };
  }

  set(value: number): Part {
    return this.#set(value);
  }

  /** At least one of these bits is set, as nft writes it for numbers: `ct mark & 0x10 != 0`. */
  anyBit(mask: number): Part {
    return this.masked(mask, 0, 'neq');
  }
}

const needIp = (rule: RuleContext): void => rule.needNetwork('ip');
const needIp6 = (rule: RuleContext): void => rule.needNetwork('ip6');
const needArp = (rule: RuleContext): void => rule.needNetwork('arp');
const needTcp = (rule: RuleContext): void => rule.needTransport(IPPROTO.tcp);
const needIcmp = (rule: RuleContext): void => rule.needTransport(IPPROTO.icmp, 'ip');
const needIcmpv6 = (rule: RuleContext): void => rule.needTransport(IPPROTO.icmpv6, 'ip6');
const needEthernet = (rule: RuleContext): void => rule.needEthernet();

const protocolNumber = (value: Named<typeof IPPROTO>): Uint8Array => u8(named(IPPROTO, value));
const etherType = (value: Named<typeof ETHER_TYPE>): Uint8Array => be16(named(ETHER_TYPE, value));

function networkOf(value: Named<typeof ETHER_TYPE>): NetworkProtocol | undefined {
  const number = named(ETHER_TYPE, value);
  return (['ip', 'ip6', 'arp'] as const).find((name) => ETHER_TYPE[name] === number);
}

function etherTypeField(): Field<Named<typeof ETHER_TYPE>> {
  return new Field({
    bytes: 2,
    encode: etherType,
    load: (register) => ({ expr: 'payload', base: 'link', offset: 12, length: 2, register }),
    need: needEthernet,
    matched: (rule, value) => rule.matchedNetwork(networkOf(value)),
  });
}

export const meta = {
  nfproto: metaField<Named<typeof NFPROTO>>(
    'nfproto',
    1,
    (value) => u8(named(NFPROTO, value)),
    (rule, value) =>
      rule.matchedNetwork(named(NFPROTO, value) === NFPROTO.ipv4 ? 'ip' : named(NFPROTO, value) === NFPROTO.ipv6 ? 'ip6' : undefined),
  ),
  l4proto: metaField<Named<typeof IPPROTO>>('l4proto', 1, protocolNumber, (rule, value) => rule.matchedTransport(named(IPPROTO, value))),
  /** The type in the Ethernet header, also of packets that have lost it. */
  protocol: metaField<Named<typeof ETHER_TYPE>>('protocol', 2, etherType, (rule, value) => rule.matchedNetwork(networkOf(value))),
  iifname: metaField('iifname', 16, interfaceName),
  oifname: metaField('oifname', 16, interfaceName),
  /** By number, which is quicker and ends when the interface goes. */
  iif: metaField('iif', 4, le32),
  oif: metaField('oif', 4, le32),
  /** ARPHRD_* */
  iiftype: metaField('iiftype', 2, le16),
  pkttype: metaField<Named<typeof PACKET_TYPE>>('pkttype', 1, (value) => u8(named(PACKET_TYPE, value))),
  skuid: metaField('skuid', 4, le32),
  mark: new MarkField('meta'),
} as const;

export const ether = {
  daddr: address(0, 6, mac, needEthernet, 'link'),
  saddr: address(6, 6, mac, needEthernet, 'link'),
  type: etherTypeField(),
} as const;

export const arp = {
  operation: header<Named<typeof ARP_OPERATION>>('network', 6, 2, (value) => be16(named(ARP_OPERATION, value)), needArp),
  /** The addresses of ARP for IPv4 over Ethernet (RFC 826): `arp saddr ether`, `arp saddr ip`, … */
  saddrEther: address(8, 6, mac, needArp),
  saddrIp: address(14, 4, ipv4, needArp),
  daddrEther: address(18, 6, mac, needArp),
  daddrIp: address(24, 4, ipv4, needArp),
} as const;

export const ip = {
  protocol: header('network', 9, 1, protocolNumber, needIp),
  ttl: header('network', 8, 1, u8, needIp),
  saddr: address(12, 4, ipv4, needIp),
  daddr: address(16, 4, ipv4, needIp),
} as const;

export const ip6 = {
  nexthdr: header('network', 6, 1, protocolNumber, needIp6),
  hoplimit: header('network', 7, 1, u8, needIp6),
  saddr: address(8, 16, ipv6, needIp6),
  daddr: address(24, 16, ipv6, needIp6),
} as const;

/** Ports of whichever transport protocol the rule has matched by `meta.l4proto`. */
export const th = ports();
export const udp = ports((rule) => rule.needTransport(IPPROTO.udp));
export const sctp = ports((rule) => rule.needTransport(IPPROTO.sctp));

export type TcpFlag = keyof typeof TCP_FLAGS;

export const tcp = {
  ...ports(needTcp),
  flags: new BitField<readonly TcpFlag[]>({
    bytes: 1,
    encode: (flags) => u8(bits(TCP_FLAGS, flags)),
    load: (register) => ({ expr: 'payload', base: 'transport', offset: 13, length: 1, register }),
    need: needTcp,
  }),
} as const;

export const icmp = {
  type: header<Named<typeof ICMP_TYPE>>('transport', 0, 1, (value) => u8(named(ICMP_TYPE, value)), needIcmp),
  code: header('transport', 1, 1, u8, needIcmp),
} as const;

export const icmpv6 = {
  type: header<Named<typeof ICMPV6_TYPE>>('transport', 0, 1, (value) => u8(named(ICMPV6_TYPE, value)), needIcmpv6),
  code: header('transport', 1, 1, u8, needIcmpv6),
} as const;

export type CtState = keyof typeof CT_STATE;
export type CtStatus = keyof typeof CT_STATUS;

export const ct = {
  state: ctField<readonly CtState[]>('state', (states) => le32(bits(CT_STATE, states))),
  status: ctField<readonly CtStatus[]>('status', (statuses) => le32(bits(CT_STATUS, statuses))),
  direction: new Field<keyof typeof CT_DIRECTION>({
    bytes: 1,
    encode: (direction) => u8(named(CT_DIRECTION, direction)),
    load: (register) => ({ expr: 'ct', key: 'direction', register }),
  }),
  mark: new MarkField('ct'),
  /** The flow has this label, 0 to 127. */
  label: (label: number): Part => {
    const mask = labelMask(label);
    return (rule) =>
      rule.push(
        { expr: 'ct', key: 'labels', register: 0 },
        { expr: 'bitwise', source: 0, destination: 0, mask, xor: new Uint8Array(16) },
        { expr: 'cmp', op: 'neq', register: 0, value: new Uint8Array(16) },
      );
  },
} as const;

/** 128 bits in words of the host's order, which is little-endian: label n is bit n % 8 of byte n / 8. */
function labelMask(label: number): Uint8Array {
  if (!Number.isInteger(label) || label < 0 || label > 127) throw new NetlinkError('ERR_INVALID', `label ${label}; there are 0 to 127`);
  const mask = new Uint8Array(16);
  mask[label >> 3] = 1 << (label & 7);
  return mask;
}
