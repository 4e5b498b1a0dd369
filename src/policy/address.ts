/**
 * IPv4 and IPv6 addresses, prefixes and ranges, strict and exact. An IPv4 address is a number, an IPv6 address a bigint, so that
 * both are cheap keys of a Map and can never be taken for one another. Arithmetic over ranges is in ranges.ts.
 */
import { PolicyError } from './errors.ts';

declare const brand4: unique symbol;
declare const brand6: unique symbol;

/** An unsigned 32-bit number. Made by {@link ipv4} alone. */
export type IPv4 = number & { readonly [brand4]: true };
/** An unsigned 128-bit number. Made by {@link ipv6} alone. */
export type IPv6 = bigint & { readonly [brand6]: true };
export type Address = IPv4 | IPv6;
export type Family = 4 | 6;

/** A block whose host bits are zero. */
export interface Prefix {
  readonly address: Address;
  readonly length: number;
}

/** Both ends inclusive, of one family. */
export interface Range {
  readonly first: Address;
  readonly last: Address;
}

/** Throws {@link PolicyError} `ADDRESS_RANGE` unless it is a whole number from 0 to 2^32 - 1. */
export function ipv4(value: number): IPv4 {
  if (isIPv4(value)) return value;
  throw new PolicyError('ADDRESS_RANGE', `${value} is no IPv4 address: it has to be a whole number from 0 to 2^32 - 1`);
}

/** Throws {@link PolicyError} `ADDRESS_RANGE` unless it is from 0 to 2^128 - 1. */
export function ipv6(value: bigint): IPv6 {
  if (isIPv6(value)) return value;
  throw new PolicyError('ADDRESS_RANGE', `${value} is no IPv6 address: it has to be from 0 to 2^128 - 1`);
}

export function familyOf(address: Address): Family {
  return typeof address === 'number' ? 4 : 6;
}

/** Bits of an address: 32 or 128. */
export function widthOf(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** A total order for sorting and searching: IPv4 before IPv6, then by value. */
export function compareAddresses(a: Address, b: Address): number {
  if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Reads an address as RFC 4291 and RFC 6943 (strict dotted decimal) write it: no leading zeros in IPv4, which some read as octal,
 * no zone, no blanks. An IPv4-mapped address (`::ffff:10.0.0.1`) is an IPv6 address.
 */
export function parseAddress(text: string): Address | undefined {
  return readAddress(text, false);
}

/** The one text of an address; for IPv6 that of RFC 5952, sections 4 and 5 (IPv4-mapped in mixed notation). */
export function formatAddress(address: Address): string {
  return typeof address === 'number' ? formatIPv4(address) : formatIPv6(address);
}

/** Reads `address/length`, strictly: as {@link parseAddress}, the length without leading zeros, host bits zero. */
export function parsePrefix(text: string): Prefix | undefined {
  const reading = readPrefix(text);
  return reading === undefined || reading.leadingZeros || reading.hostBits ? undefined : reading.prefix;
}

/** What {@link readPrefix} had to forgive. */
export interface PrefixReading {
  readonly prefix: Prefix;
  /** Bits after the prefix were set (`10.0.0.5/24`), and have been masked. */
  readonly hostBits: boolean;
  /** Numbers had leading zeros (`010.0.0.0/8`), and were read as decimal. */
  readonly leadingZeros: boolean;
}

/**
 * Reads a prefix as leniently as Kubernetes does (`ParseCIDRSloppy`: host bits are masked, numbers with leading zeros are decimal),
 * for stored objects can hold both (row 20). Undefined: not even so.
 */
export function readPrefix(text: string): PrefixReading | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const [before, after] = [text.slice(0, slash), text.slice(slash + 1)];
  const strict = readAddress(before, false);
  const address = strict ?? readAddress(before, true);
  if (address === undefined || !DECIMAL.test(after)) return undefined;
  const length = Number(after);
  if (length > widthOf(familyOf(address))) return undefined;
  const network = networkAddress(address, length);
  return {
    prefix: { address: network, length },
    hostBits: network !== address,
    leadingZeros: strict === undefined || !CANONICAL_DECIMAL.test(after),
  };
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** The address with everything after `length` bits cleared. */
export function networkAddress(address: Address, length: number): Address {
  if (typeof address === 'number') return ipv4(length === 0 ? 0 : (address & (-1 << (32 - length))) >>> 0);
  const host = BigInt(128 - length);
  return ipv6((address >> host) << host);
}

export function prefixRange({ address, length }: Prefix): Range {
  const last = typeof address === 'number' ? ipv4(address + 2 ** (32 - length) - 1) : ipv6(address + (1n << BigInt(128 - length)) - 1n);
  return { first: address, last };
}

/** Whether the whole block is IPv4 written as IPv6 (`::ffff:0:0/96`, RFC 4291 section 2.5.5.2): no packet carries such an address. */
export function isIPv4Mapped({ address }: Prefix): boolean {
  // A block of less than 96 bits has host bits, which are zero, where these are ones.
  return typeof address === 'bigint' && address >> 32n === MAPPED;
}

/** In network byte order: 4 bytes or 16. */
export function addressBytes(address: Address): Uint8Array {
  if (typeof address === 'number') {
    return Uint8Array.of(address >>> 24, (address >>> 16) & 0xff, (address >>> 8) & 0xff, address & 0xff);
  }
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, address >> 64n);
  view.setBigUint64(8, address & 0xffff_ffff_ffff_ffffn);
  return bytes;
}

/** From network byte order. Throws {@link PolicyError} `ADDRESS_LENGTH` unless there are 4 bytes or 16. */
export function addressFromBytes(bytes: Uint8Array): Address {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 4) return ipv4(view.getUint32(0));
  if (bytes.length === 16) return ipv6((view.getBigUint64(0) << 64n) | view.getBigUint64(8));
  throw new PolicyError('ADDRESS_LENGTH', `an address has 4 bytes or 16, not ${bytes.length}: pass the whole field, and nothing after it`);
}

const DECIMAL = /^[0-9]+$/;
const CANONICAL_DECIMAL = /^(0|[1-9][0-9]*)$/;
const HEXADECIMAL = /^[0-9a-fA-F]+$/;
/** The upper 96 bits of an IPv4-mapped address. */
const MAPPED = 0xffffn;

function isIPv4(value: number): value is IPv4 {
  return Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
}

function isIPv6(value: bigint): value is IPv6 {
  return value >= 0n && value >> 128n === 0n;
}

/** `sloppy`: any number of leading zeros, always decimal (IPv4) or hexadecimal (IPv6). */
function readAddress(text: string, sloppy: boolean): Address | undefined {
  return text.includes(':') ? readIPv6(text, sloppy) : readIPv4(text, sloppy);
}

function readIPv4(text: string, sloppy: boolean): IPv4 | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!(sloppy ? DECIMAL : CANONICAL_DECIMAL).test(part)) return undefined;
    const octet = Number(part);
    if (octet > 255) return undefined;
    value = value * 256 + octet;
  }
  return ipv4(value);
}

function readIPv6(text: string, sloppy: boolean): IPv6 | undefined {
  const halves = text.split('::');
  const [left = '', right] = halves;
  if (halves.length > 2) return undefined;
  const head = readGroups(left, sloppy, right === undefined);
  const tail = right === undefined ? [] : readGroups(right, sloppy, true);
  if (head === undefined || tail === undefined) return undefined;
  const written = head.length + tail.length;
  // `::` stands for at least one group.
  if (right === undefined ? written !== 8 : written > 7) return undefined;
  const zeros = Array.from({ length: 8 - written }, () => 0);
  let value = 0n;
  for (const group of [...head, ...zeros, ...tail]) value = (value << 16n) | BigInt(group);
  return ipv6(value);
}

/** The 16-bit groups of one side of `::`. Only the last of the whole address may be dotted decimal, and is two of them. */
function readGroups(text: string, sloppy: boolean, isLast: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (isLast && index === parts.length - 1 && part.includes('.')) {
      const dotted = readIPv4(part, sloppy);
      if (dotted === undefined) return undefined;
      groups.push(dotted >>> 16, dotted & 0xffff);
      continue;
    }
    if (!HEXADECIMAL.test(part) || (!sloppy && part.length > 4)) return undefined;
    const group = Number.parseInt(part, 16);
    if (group > 0xffff) return undefined;
    groups.push(group);
  }
  return groups;
}

function formatIPv4(address: IPv4): string {
  return `${address >>> 24}.${(address >>> 16) & 0xff}.${(address >>> 8) & 0xff}.${address & 0xff}`;
}

function formatIPv6(address: IPv6): string {
  if (address >> 32n === MAPPED) return `::ffff:${formatIPv4(ipv4(Number(address & 0xffff_ffffn)))}`;
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((address >> shift) & 0xffffn));
  const [start, length] = longestZeros(groups);
  const hex = groups.map((group) => group.toString(16));
  // RFC 5952 section 4.2.2: a single zero group is not shortened.
  if (length < 2) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`;
}

/** Start and length of the longest run of zeros, of equals the first (RFC 5952 section 4.2.3). */
function longestZeros(groups: readonly number[]): [start: number, length: number] {
  let best: [number, number] = [0, 0];
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== 0) start = index + 1;
    else if (index + 1 - start > best[1]) best = [start, index + 1 - start];
  }
  return best;
}

/** Unspecified, of this host only, of this link only, of several receivers, or of none: never the address of one pod. */
export function isSpecial(address: Address): boolean {
  return SPECIAL.some(
    (prefix) => familyOf(prefix.address) === familyOf(address) && networkAddress(address, prefix.length) === prefix.address,
  );
}

const SPECIAL: readonly Prefix[] = [
  // RFC 6890: this network, loopback, link-local, multicast, broadcast. (What else is reserved, 240.0.0.0/4, clusters do give to pods.)
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '255.255.255.255/32',
  '::/127',
  'fe80::/10',
  'ff00::/8',
].flatMap((text) => parsePrefix(text) ?? []);
