/**
 * The headers of a logged packet as plain data: who spoke to whom, and with which ports. Only what fits into the copied part is
 * there: a copy cut off behind the network header still tells the addresses.
 */
import { MalformedError } from '../netlink/errors.ts';

export interface PacketHeader {
  readonly family: 'ip' | 'ip6';
  /** 4 or 16 bytes. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** IPPROTO_*; of IPv6 the first that is no extension header. */
  readonly protocol: number;
  /** The length of the packet in bytes, network header included, as the packet says; that of a jumbogram is 40. */
  readonly length: number;
  /** TTL or hop limit. */
  readonly hopLimit: number;
  /** A fragment other than the first: it has no ports. */
  readonly laterFragment: boolean;
  /** Of TCP, UDP, SCTP, DCCP and UDP-Lite, where they were copied. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Of TCP: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128. */
  readonly tcpFlags?: number;
  /** Of ICMP and ICMPv6. */
  readonly icmpType?: number;
  readonly icmpCode?: number;
}

const ICMP = 1;
const TCP = 6;
const ICMPV6 = 58;
/** Protocols whose header begins with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite. */
const WITH_PORTS: ReadonlySet<number> = new Set([TCP, 17, 33, 132, 136]);

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION_OPTIONS = 60;
const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;

/**
 * Reads an IPv4 or IPv6 packet from its network header on (RFC 791, RFC 8200).
 * @throws MalformedError where it is neither, or is cut off within the network header
 */
export function readPacket(packet: Uint8Array): PacketHeader {
  const version = (packet[0] ?? 0) >> 4;
  if (version === 4) return readIPv4(packet);
  if (version === 6) return readIPv6(packet);
  throw new MalformedError(`a packet of ${packet.length} bytes and IP version ${version}`);
}

function viewOf(packet: Uint8Array, least: number, what: string): DataView {
  if (packet.length < least) throw new MalformedError(`${what} of ${packet.length} bytes instead of ${least}`);
  return new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
}

function readIPv4(packet: Uint8Array): PacketHeader {
  const view = viewOf(packet, IPV4_HEADER_BYTES, 'an IPv4 header');
  const headerBytes = (view.getUint8(0) & 0xf) * 4;
  if (headerBytes < IPV4_HEADER_BYTES) throw new MalformedError(`an IPv4 header that says it has ${headerBytes} bytes`);
  const protocol = view.getUint8(9);
  const laterFragment = (view.getUint16(6) & 0x1fff) !== 0;
  return {
    family: 'ip',
    source: packet.slice(12, 16),
    destination: packet.slice(16, 20),
    protocol,
    length: view.getUint16(2),
    hopLimit: view.getUint8(8),
    laterFragment,
    ...(laterFragment ? {} : readTransport(view, headerBytes, protocol)),
  };
}

function readIPv6(packet: Uint8Array): PacketHeader {
  const view = viewOf(packet, IPV6_HEADER_BYTES, 'an IPv6 header');
  let protocol = view.getUint8(6);
  let at = IPV6_HEADER_BYTES;
  let laterFragment = false;
  // Each header is at least 8 bytes, so this ends with the packet. One that was not copied ends it with the number of that header.
  while (!laterFragment && at + 8 <= packet.length) {
    const nextProtocol = view.getUint8(at);
    if (protocol === HOP_BY_HOP || protocol === ROUTING || protocol === DESTINATION_OPTIONS) {
      at += (view.getUint8(at + 1) + 1) * 8;
    } else if (protocol === AUTHENTICATION) {
      at += (view.getUint8(at + 1) + 2) * 4;
    } else if (protocol === FRAGMENT) {
      laterFragment = (view.getUint16(at + 2) & 0xfff8) !== 0;
      at += 8;
    } else {
      break;
    }
    protocol = nextProtocol;
  }
  return {
    family: 'ip6',
    source: packet.slice(8, 24),
    destination: packet.slice(24, 40),
    protocol,
    length: IPV6_HEADER_BYTES + view.getUint16(4),
    hopLimit: view.getUint8(7),
    laterFragment,
    ...(laterFragment ? {} : readTransport(view, at, protocol)),
  };
}

type Transport = Pick<PacketHeader, 'sourcePort' | 'destinationPort' | 'tcpFlags' | 'icmpType' | 'icmpCode'>;

function readTransport(view: DataView, at: number, protocol: number): Transport {
  const copied = view.byteLength - at;
  if (WITH_PORTS.has(protocol) && copied >= 4) {
    const ports = { sourcePort: view.getUint16(at), destinationPort: view.getUint16(at + 2) };
    return protocol === TCP && copied >= 14 ? { ...ports, tcpFlags: view.getUint8(at + 13) } : ports;
  }
  if ((protocol === ICMP || protocol === ICMPV6) && copied >= 2) return { icmpType: view.getUint8(at), icmpCode: view.getUint8(at + 1) };
  return {};
}
