/** Values in the bytes that the kernel compares: header fields in network order, what meta and ct know in host order. */
import { isIPv4, isIPv6 } from 'node:net';
import { NetlinkError } from '../netlink/errors.ts';

const IFNAMSIZ = 16;
const encoder = new TextEncoder();

function whole(value: number, bits: 8 | 16 | 32): number {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** bits)
    throw new NetlinkError('ERR_INVALID', `${value} is no number of ${bits} bits`);
  return value;
}

export function u8(value: number): Uint8Array {
  return Uint8Array.of(whole(value, 8));
}

export function be16(value: number): Uint8Array {
  whole(value, 16);
  return Uint8Array.of(value >> 8, value & 0xff);
}

/** Host order, which is little-endian wherever this runs. */
export function le16(value: number): Uint8Array {
  whole(value, 16);
  return Uint8Array.of(value & 0xff, value >> 8);
}

/** Host order. */
export function le32(value: number): Uint8Array {
  whole(value, 32);
  return Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}

/** The number of an enumeration by its name. */
export function named(names: Readonly<Record<string, number>>, value: string | number): number {
  if (typeof value === 'number') return value;
  const number = names[value];
  if (number === undefined) throw new NetlinkError('ERR_INVALID', `${value} is none of ${Object.keys(names).join(', ')}`);
  return number;
}

/** Several of an enumeration of bits. */
export function bits(names: Readonly<Record<string, number>>, values: readonly string[]): number {
  return values.reduce((sum, value) => sum | named(names, value), 0);
}

/** An IPv4 address: its four bytes, or text. */
export function ipv4(value: string | Uint8Array): Uint8Array {
  if (typeof value !== 'string') return ofLength(value, 4);
  if (!isIPv4(value)) throw new NetlinkError('ERR_INVALID', `${value} is no IPv4 address`);
  return Uint8Array.from(value.split('.'), Number);
}

/** An IPv6 address: its 16 bytes, or text. */
export function ipv6(value: string | Uint8Array): Uint8Array {
  if (typeof value !== 'string') return ofLength(value, 16);
  if (!isIPv6(value) || value.includes('%')) throw new NetlinkError('ERR_INVALID', `${value} is no IPv6 address`);
  // A dotted tail is two groups.
  const groups = value.replace(/[^:]+\.[^:]+$/, (tail) => {
    const [a = 0, b = 0, c = 0, d = 0] = ipv4(tail);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  const [head = '', tail] = groups.split('::');
  const before = head === '' ? [] : head.split(':');
  const behind = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - before.length - behind.length }, () => '0');
  return Uint8Array.from([...before, ...zeros, ...behind].flatMap((group) => [...be16(Number.parseInt(group, 16))]));
}

/** A MAC address: its six bytes, or text. */
export function mac(value: string | Uint8Array): Uint8Array {
  if (typeof value !== 'string') return ofLength(value, 6);
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value)) throw new NetlinkError('ERR_INVALID', `${value} is no MAC address`);
  return Uint8Array.from(value.split(':'), (byte) => Number.parseInt(byte, 16));
}

function ofLength(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length !== length) throw new NetlinkError('ERR_INVALID', `an address of ${bytes.length} bytes instead of ${length}`);
  return bytes;
}

/** The name of an interface in its 16 bytes; of `veth*` only the beginning, so that a comparison matches every such name. */
export function interfaceName(name: string): Uint8Array {
  const wildcard = name.endsWith('*');
  const bytes = encoder.encode(wildcard ? name.slice(0, -1) : name);
  if (bytes.length === 0 || bytes.length >= IFNAMSIZ || bytes.includes(0))
    throw new NetlinkError('ERR_INVALID', `${JSON.stringify(name)} is no name of an interface`);
  if (wildcard) return bytes;
  const padded = new Uint8Array(IFNAMSIZ);
  padded.set(bytes);
  return padded;
}

/** A mask with the first `length` bits set. */
export function prefixMask(bytes: number, length: number): Uint8Array {
  if (!Number.isInteger(length) || length < 0 || length > bytes * 8)
    throw new NetlinkError('ERR_INVALID', `a prefix of ${length} bits of ${bytes * 8}`);
  return Uint8Array.from({ length: bytes }, (_, at) => (0xff00 >> Math.min(8, Math.max(0, length - at * 8))) & 0xff);
}
