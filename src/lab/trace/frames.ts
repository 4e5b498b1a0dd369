/**
 * Ethernet frames as data: who sends to whom, the IP packet inside, and where that is VXLAN the frame inside of it. Pure. What is cut
 * off or of another protocol is undefined, never an error: on a wire there may be anything.
 */
import { MalformedError, type PacketHeader, readPacket } from 'nftables-js';
import { type Address, addressFromBytes } from '../../policy/address.ts';

export interface Frame {
  /** Hardware addresses, lower case with colons. */
  readonly destination: string;
  readonly source: string;
  /** Undefined: neither IPv4 nor IPv6. */
  readonly packet: Packet | undefined;
}

export interface Packet {
  readonly header: PacketHeader;
  readonly source: Address;
  readonly destination: Address;
  /** From the transport header to the end of the packet. Empty behind an extension header of IPv6, and in later fragments. */
  readonly transport: Uint8Array;
  /** Undefined: not VXLAN. */
  readonly vxlan: Vxlan | undefined;
}

/** RFC 7348. */
export interface Vxlan {
  /** VXLAN network identifier, 24 bits. */
  readonly vni: number;
  readonly frame: Frame;
}

/** linux/if_ether.h, linux/in.h */
const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const IPV6_BYTES = 40;
const UDP_BYTES = 8;
const VXLAN_BYTES = 8;
/** The flag I: the network identifier is valid. */
const VXLAN_HAS_VNI = 0x08;
export const IPPROTO = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58, SCTP: 132 } as const;

/**
 * Reads a frame without VLAN tag, from its destination address on.
 * @param vxlanPorts UDP ports whose packets are VXLAN; undefined: a shorter frame than Ethernet's header
 */
export function readFrame(bytes: Uint8Array, vxlanPorts: ReadonlySet<number>): Frame | undefined {
  if (bytes.length < ETHERNET_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = view.getUint16(12);
  return {
    destination: hardwareAddress(bytes.subarray(0, 6)),
    source: hardwareAddress(bytes.subarray(6, 12)),
    packet: type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6 ? readIp(bytes.subarray(ETHERNET_BYTES), vxlanPorts) : undefined,
  };
}

function hardwareAddress(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function readIp(bytes: Uint8Array, vxlanPorts: ReadonlySet<number>): Packet | undefined {
  let header: PacketHeader;
  try {
    header = readPacket(bytes);
  } catch (error) {
    if (error instanceof MalformedError) return undefined;
    throw error;
  }
  const start = header.family === 'ip' ? ((bytes[0] ?? 0) & 0x0f) * 4 : IPV6_BYTES;
  const isPlain = !header.laterFragment && (header.family === 'ip' || bytes[6] === header.protocol);
  // A short frame is padded: what the packet says of its length counts.
  const transport = isPlain ? bytes.subarray(start, Math.max(start, header.length)) : new Uint8Array();
  const { protocol, destinationPort } = header;
  const isVxlan = protocol === IPPROTO.UDP && destinationPort !== undefined && vxlanPorts.has(destinationPort);
  return {
    header,
    source: addressFromBytes(header.source),
    destination: addressFromBytes(header.destination),
    transport,
    vxlan: isVxlan ? readVxlan(transport.subarray(UDP_BYTES), vxlanPorts) : undefined,
  };
}

function readVxlan(bytes: Uint8Array, vxlanPorts: ReadonlySet<number>): Vxlan | undefined {
  if (bytes.length < VXLAN_BYTES || ((bytes[0] ?? 0) & VXLAN_HAS_VNI) === 0) return undefined;
  const frame = readFrame(bytes.subarray(VXLAN_BYTES), vxlanPorts);
  return frame === undefined ? undefined : { vni: ((bytes[4] ?? 0) << 16) | ((bytes[5] ?? 0) << 8) | (bytes[6] ?? 0), frame };
}

/** The packet that a frame is about in the end: of VXLAN the one inside. */
export function innermost(frame: Frame): Packet | undefined {
  const { packet } = frame;
  return packet?.vxlan === undefined ? packet : innermost(packet.vxlan.frame);
}

/**
 * What stays of a packet, wherever it goes, and tells it from others: the protocol and what it carries, without what routers and
 * address translation change (addresses, ports, checksum). Empty where too little is there.
 */
export function fingerprint({ header, transport }: Packet): string {
  const [from, without] = CHANGING.get(header.protocol) ?? [0, []];
  if (transport.length <= from) return '';
  const bytes = transport.slice(from);
  for (const at of without) bytes.fill(0, at - from, at - from + 2);
  return `${header.protocol} ${Buffer.from(bytes).toString('hex')}`;
}

/** By protocol: where what stays begins, and which pairs of bytes behind that do not stay. */
const CHANGING: ReadonlyMap<number, readonly [from: number, without: readonly number[]]> = new Map([
  // Behind the ports; the checksum.
  [IPPROTO.TCP, [4, [16]]],
  // Behind the header.
  [IPPROTO.UDP, [8, []]],
  // Behind the ports; the checksum.
  [IPPROTO.SCTP, [4, [8, 10]]],
  // The type stays: an echo reply has all else of its request.
  [IPPROTO.ICMP, [0, [2]]],
  [IPPROTO.ICMPV6, [0, [2]]],
]);

/** Identifier of an ICMP echo, request or reply: what ports are to others. */
export function echoIdentifier({ transport }: Packet): number {
  return ((transport[4] ?? 0) << 8) | (transport[5] ?? 0);
}
