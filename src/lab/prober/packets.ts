/**
 * SCTP INIT and INIT-ACK (RFC 9260) and ICMP echo (RFC 792, RFC 4443) as bytes. The kernels that people run often have no SCTP
 * sockets, so both ends of an SCTP probe are raw sockets, and the checksum has to be right: connection tracking verifies it.
 */

const SCTP_HEADER = 12;
const CHUNK_INIT = 1;
const CHUNK_INIT_ACK = 2;
const PARAMETER_STATE_COOKIE = 7;
/** A chunk header, and the fields of INIT up to its parameters. */
const INIT_LENGTH = 20;

const CRC32C = crcTable(0x82f63b78);

function crcTable(polynomial: number): Uint32Array {
  const table = new Uint32Array(256);
  for (let index = 0; index < 256; index++) {
    let crc = index;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    table[index] = crc >>> 0;
  }
  return table;
}

/** CRC-32C (Castagnoli), as RFC 9260 appendix A has it. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of data) crc = (crc >>> 8) ^ (CRC32C[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}

/** What a packet of the SCTP probe says. */
export interface SctpPacket {
  readonly kind: 'INIT' | 'INIT-ACK';
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** 0 in an INIT; in an INIT-ACK the initiate tag of the INIT that it answers. */
  readonly verificationTag: number;
  /** Not 0. */
  readonly initiateTag: number;
  /** The state cookie of an INIT-ACK; here: who answers. Empty in an INIT. */
  readonly cookie: string;
}

/** Lengths of parameters on the wire are rounded up to multiples of four. */
const padded = (length: number): number => (length + 3) & ~3;

export function writeSctp(packet: SctpPacket): Uint8Array {
  const cookie = new TextEncoder().encode(packet.cookie);
  const chunkLength = INIT_LENGTH + (packet.kind === 'INIT' ? 0 : 4 + cookie.length);
  const bytes = new Uint8Array(SCTP_HEADER + padded(chunkLength));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, packet.sourcePort);
  view.setUint16(2, packet.destinationPort);
  view.setUint32(4, packet.verificationTag);
  view.setUint8(12, packet.kind === 'INIT' ? CHUNK_INIT : CHUNK_INIT_ACK);
  view.setUint16(14, chunkLength);
  view.setUint32(16, packet.initiateTag);
  // Receiver window, streams out and in, first TSN.
  view.setUint32(20, 65536);
  view.setUint16(24, 1);
  view.setUint16(26, 1);
  view.setUint32(28, packet.initiateTag);
  if (packet.kind === 'INIT-ACK') {
    view.setUint16(32, PARAMETER_STATE_COOKIE);
    view.setUint16(34, 4 + cookie.length);
    bytes.set(cookie, 36);
  }
  // The one field of SCTP that is little-endian (RFC 9260 appendix A).
  view.setUint32(8, crc32c(bytes), true);
  return bytes;
}

/** Undefined where it is no INIT or INIT-ACK with a right checksum. */
export function readSctp(bytes: Uint8Array): SctpPacket | undefined {
  if (bytes.length < SCTP_HEADER + INIT_LENGTH) return undefined;
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const checksum = view.getUint32(8, true);
  view.setUint32(8, 0);
  if (crc32c(copy) !== checksum) return undefined;
  const type = view.getUint8(12);
  if (type !== CHUNK_INIT && type !== CHUNK_INIT_ACK) return undefined;
  let cookie = '';
  if (type === CHUNK_INIT_ACK && bytes.length >= 36 && view.getUint16(32) === PARAMETER_STATE_COOKIE) {
    const end = 32 + view.getUint16(34);
    if (end <= bytes.length) cookie = new TextDecoder().decode(copy.subarray(36, end));
  }
  return {
    kind: type === CHUNK_INIT ? 'INIT' : 'INIT-ACK',
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    verificationTag: view.getUint32(4),
    initiateTag: view.getUint32(16),
    cookie,
  };
}

const ECHO_REQUEST = { 4: 8, 6: 128 } as const;
const ECHO_REPLY = { 4: 0, 6: 129 } as const;

/** An echo request. The kernel computes the checksum of ICMPv6, which covers the addresses; that of ICMP is computed here. */
export function writeEcho(family: 4 | 6, identifier: number, sequence: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, ECHO_REQUEST[family]);
  view.setUint16(4, identifier);
  view.setUint16(6, sequence);
  if (family === 4) view.setUint16(2, internetChecksum(bytes));
  return bytes;
}

/** Identifier and sequence number of an echo reply; undefined where it is none. */
export function readEchoReply(family: 4 | 6, bytes: Uint8Array): { readonly identifier: number; readonly sequence: number } | undefined {
  if (bytes.length < 8 || bytes[0] !== ECHO_REPLY[family]) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { identifier: view.getUint16(4), sequence: view.getUint16(6) };
}

/** RFC 1071. */
export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** The payload of an IPv4 packet, for raw sockets deliver the header too. */
export function withoutIPv4Header(packet: Uint8Array): Uint8Array {
  return packet.subarray(((packet[0] ?? 0) & 0x0f) * 4);
}
