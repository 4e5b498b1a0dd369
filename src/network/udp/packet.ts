/**
 * What the proxy does to an IPv4 packet (RFC 791): looks whether it is one, counts down its time to live, and writes the ICMP errors
 * that a router owes its sender. A packet is a DataView and the place in it where the packet begins, so that none is copied.
 */

const VERSION_4 = 4;
const MIN_HEADER_BYTES = 20;
const IDENTIFICATION = 4;
const FRAGMENT = 6;
const FRAGMENT_OFFSET_MASK = 0x1fff;
const TTL = 8;
const PROTOCOL = 9;
const CHECKSUM = 10;
const SOURCE = 12;
const DESTINATION = 16;
const PROTOCOL_ICMP = 1;

/** RFC 792: types that tell of an error, to which no error is ever answered. */
const ICMP_ERRORS: readonly number[] = [3, 4, 5, 11, 12];

/** Length of the packet, bytes, as its header says it; 0 where version, header length or total length cannot be, or not so many bytes are there. */
export function ipv4Length(packet: DataView, at: number, available: number): number {
  if (available < MIN_HEADER_BYTES) return 0;
  const first = packet.getUint32(at);
  const total = first & 0xffff;
  const header = (first >>> 22) & 0x3c;
  return first >>> 28 === VERSION_4 && header >= MIN_HEADER_BYTES && header <= total && total <= available ? total : 0;
}

/** Version of the Internet Protocol. */
export function versionOf(packet: DataView, at: number): number {
  return packet.getUint8(at) >>> 4;
}

/** As a signed number: it is only compared, and so it is one that V8 keeps without allocating. */
export function destinationOf(packet: DataView, at: number): number {
  return packet.getInt32(at + DESTINATION);
}

/**
 * Counts the time to live down by one, and mends the header checksum accordingly (RFC 1624). A checksum that was wrong stays wrong,
 * and the kernel that the packet goes to drops it.
 *
 * @returns false: its time is over (RFC 1812, 5.3.1), and the packet is as it was
 */
export function decrementTtl(packet: DataView, at: number): boolean {
  const ttl = packet.getUint8(at + TTL);
  if (ttl <= 1) return false;
  packet.setUint8(at + TTL, ttl - 1);
  const sum = packet.getUint16(at + CHECKSUM) + 0x100;
  // One's complement: the carry goes round. 0xffff is another zero, and the one that no sender writes.
  packet.setUint16(at + CHECKSUM, sum >= 0xffff ? sum + 1 : sum);
  return true;
}

/** Type and code of an ICMP error. */
export const NET_UNREACHABLE = { type: 3, code: 0 } as const;
export const TIME_EXCEEDED = { type: 11, code: 0 } as const;
export type IcmpError = typeof NET_UNREACHABLE | typeof TIME_EXCEEDED;

/**
 * Whether an error about the packet may be sent to its source: RFC 1122, 3.2.2, and RFC 1812, 4.3.2.7. Not about another error, nor
 * about a fragment that is not the first, nor where the header is broken, nor to or because of an address of more than one host.
 */
export function mayAnswerWithError(packet: DataView, at: number, total: number): boolean {
  if ((packet.getUint16(at + FRAGMENT) & FRAGMENT_OFFSET_MASK) !== 0) return false;
  const header = headerBytes(packet, at);
  if (internetChecksum(packet, at, header) !== 0) return false;
  if (!isOneHost(packet.getUint32(at + SOURCE)) || !isUnicast(packet.getUint32(at + DESTINATION))) return false;
  if (packet.getUint8(at + PROTOCOL) !== PROTOCOL_ICMP) return true;
  return total > header && !ICMP_ERRORS.includes(packet.getUint8(at + header));
}

/** RFC 1812, 4.3.2.3: as much of the packet as fits into 576 bytes. */
export const MAX_ICMP_ERROR_BYTES = 576;
const ICMP_HEADER_BYTES = 8;
const ICMP_TTL = 64;
/** Precedence "internetwork control" (RFC 1812, 4.3.2.5). */
const ICMP_TOS = 0xc0;

/**
 * Writes an error about the packet to its source, as a whole IPv4 packet.
 *
 * @param into of at least {@link MAX_ICMP_ERROR_BYTES}
 * @param from the router's address
 * @returns its length, bytes
 */
export function writeIcmpError(into: DataView, error: IcmpError, from: number, packet: DataView, at: number, total: number): number {
  const quoted = Math.min(total, MAX_ICMP_ERROR_BYTES - MIN_HEADER_BYTES - ICMP_HEADER_BYTES);
  const length = MIN_HEADER_BYTES + ICMP_HEADER_BYTES + quoted;
  into.setUint8(0, (VERSION_4 << 4) | (MIN_HEADER_BYTES / 4));
  into.setUint8(1, ICMP_TOS);
  into.setUint16(2, length);
  into.setUint32(IDENTIFICATION, 0);
  into.setUint8(TTL, ICMP_TTL);
  into.setUint8(PROTOCOL, PROTOCOL_ICMP);
  into.setUint16(CHECKSUM, 0);
  into.setUint32(SOURCE, from);
  into.setUint32(DESTINATION, packet.getUint32(at + SOURCE));
  into.setUint16(CHECKSUM, internetChecksum(into, 0, MIN_HEADER_BYTES));
  const icmp = MIN_HEADER_BYTES;
  into.setUint8(icmp, error.type);
  into.setUint8(icmp + 1, error.code);
  into.setUint16(icmp + 2, 0);
  into.setUint32(icmp + 4, 0);
  for (let index = 0; index < quoted; index++) into.setUint8(icmp + ICMP_HEADER_BYTES + index, packet.getUint8(at + index));
  into.setUint16(icmp + 2, internetChecksum(into, icmp, ICMP_HEADER_BYTES + quoted));
  return length;
}

/** RFC 1071; 0 over bytes that hold their own, right checksum. */
export function internetChecksum(packet: DataView, at: number, length: number): number {
  let sum = 0;
  for (let index = 0; index + 1 < length; index += 2) sum += packet.getUint16(at + index);
  if (length % 2 === 1) sum += packet.getUint8(at + length - 1) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function headerBytes(packet: DataView, at: number): number {
  return (packet.getUint8(at) & 0xf) * 4;
}

/** Neither the unspecified address nor loopback, and unicast. */
function isOneHost(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && isUnicast(address);
}

/** Below class D (multicast) and class E, which the limited broadcast is in. */
function isUnicast(address: number): boolean {
  return address >>> 28 < 0xe;
}
