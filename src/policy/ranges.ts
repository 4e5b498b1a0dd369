/**
 * Arithmetic over address ranges. A list that this file returns is normal: ascending, disjoint, and nothing adjacent is left
 * apart, so that equal sets of addresses are equal lists. Ranges of both families may be in one list (IPv4 comes first); they
 * never touch one another.
 */
import { compact } from './compact.ts';
import { type Address, compareAddresses, ipv4, ipv6, type Prefix, type Range } from './address.ts';

/** All addresses of all the ranges, in whatever order they come. */
export function union(ranges: readonly Range[]): Range[] {
  const sorted = ranges.toSorted((a, b) => compareAddresses(a.first, b.first));
  const merged: { first: Address; last: Address }[] = [];
  for (const { first, last } of sorted) {
    const previous = merged.at(-1);
    if (previous !== undefined && touches(previous.last, first)) {
      if (last > previous.last) previous.last = last;
    } else {
      merged.push({ first, last });
    }
  }
  return merged;
}

/** What is left of `range` when the holes, in whatever order, are taken out. */
export function subtract(range: Range, holes: readonly Range[]): Range[] {
  const left: Range[] = [];
  let first = range.first;
  for (const hole of union(holes)) {
    if (typeof hole.first !== typeof first || hole.last < first) continue;
    if (hole.first > range.last) break;
    if (hole.first > first) left.push({ first, last: before(hole.first) });
    // Looked at before stepping past it: there is no address after the last of its family.
    if (hole.last >= range.last) return left;
    first = addressAfter(hole.last);
  }
  left.push({ first, last: range.last });
  return compact(left);
}

/** Whether a normal list (ascending, disjoint) has the address. Binary search. */
export function contains(ranges: readonly Range[], address: Address): boolean {
  const candidate = ranges[firstEndingAtOrAfter(ranges, address)];
  return candidate !== undefined && compareAddresses(candidate.first, address) <= 0;
}

/** Whether a normal list (ascending, disjoint) has any address of the range. Binary search. */
export function intersects(ranges: readonly Range[], range: Range): boolean {
  const candidate = ranges[firstEndingAtOrAfter(ranges, range.first)];
  return candidate !== undefined && compareAddresses(candidate.first, range.last) <= 0;
}

/** The fewest prefixes that make up exactly the range, ascending. */
export function rangeToPrefixes(range: Range): Prefix[] {
  const isIPv4 = typeof range.first === 'number';
  const width = isIPv4 ? 32 : 128;
  const last = BigInt(range.last);
  const prefixes: Prefix[] = [];
  for (let first = BigInt(range.first); first <= last; ) {
    // The largest block that starts here, by alignment, and ends within the range.
    let host = 0;
    while (host < width && (first & (1n << BigInt(host))) === 0n && first + (2n << BigInt(host)) - 1n <= last) host++;
    prefixes.push({ address: isIPv4 ? ipv4(Number(first)) : ipv6(first), length: width - host });
    first += 1n << BigInt(host);
  }
  return prefixes;
}

/** Index of the first range that does not end before the address; the list's length if all do. */
function firstEndingAtOrAfter(ranges: readonly Range[], address: Address): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (range !== undefined && compareAddresses(range.last, address) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Whether a range that starts at `first` overlaps or directly follows one that ends at `last`, and starts no later. */
function touches(last: Address, first: Address): boolean {
  if (typeof last === 'number') return typeof first === 'number' && first <= last + 1;
  return typeof first === 'bigint' && first <= last + 1n;
}

/** Throws `ADDRESS_RANGE` for the last of its family. */
export function addressAfter(address: Address): Address {
  return typeof address === 'number' ? ipv4(address + 1) : ipv6(address + 1n);
}

function before(address: Address): Address {
  return typeof address === 'number' ? ipv4(address - 1) : ipv6(address - 1n);
}
