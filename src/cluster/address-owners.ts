/**
 * Which pod an address belongs to. Addresses are reused quickly and events arrive in any order, so an address may be claimed by
 * several pods at once; it belongs to the newest of those that live (rows 33, 40), whatever the order of events.
 */
import type { Address } from '../policy/address.ts';
import { newerClaim } from '../policy/world.ts';
import type { PodRecord } from './records.ts';

export class AddressOwners {
  /** A single claim is held as it is: nearly all addresses have one, and there are as many as pods. */
  readonly #claims = new Map<Address, PodRecord | PodRecord[]>();

  owner(address: Address): PodRecord | undefined {
    const claims = this.#claims.get(address);
    if (!Array.isArray(claims)) return claims;
    return claims.reduce((newest, claim) => (newerClaim(claim.pod, newest.pod) < 0 ? claim : newest));
  }

  claim(address: Address, record: PodRecord): void {
    const claims = this.#claims.get(address);
    if (claims === undefined) this.#claims.set(address, record);
    else if (Array.isArray(claims)) {
      if (!claims.includes(record)) claims.push(record);
    } else if (claims !== record) this.#claims.set(address, [claims, record]);
  }

  release(address: Address, record: PodRecord): void {
    const claims = this.#claims.get(address);
    if (claims === record) this.#claims.delete(address);
    else if (Array.isArray(claims)) {
      const rest = claims.filter((claim) => claim !== record);
      const [only] = rest;
      this.#claims.set(address, rest.length === 1 && only !== undefined ? only : rest);
    }
  }

  /** All that claim it, the owner included. */
  claims(address: Address): readonly PodRecord[] {
    const claims = this.#claims.get(address);
    return claims === undefined ? [] : Array.isArray(claims) ? claims : [claims];
  }
}
