/**
 * IPv4 and IPv6 addresses, prefixes and ranges, strict and exact. An IPv4 address is a number, an IPv6 address a bigint, so that
 * both are cheap keys of a Map and can never be taken for one another.
 */
declare const ipv4: unique symbol;
declare const ipv6: unique symbol;

/** An unsigned 32-bit number. */
export type IPv4 = number & { readonly [ipv4]: true };
/** An unsigned 128-bit number. */
export type IPv6 = bigint & { readonly [ipv6]: true };
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

export function familyOf(address: Address): Family {
  return typeof address === 'number' ? 4 : 6;
}
