/**
 * Which pod an address belongs to, and which others claim it (row 40). Addresses are reused quickly, events arrive in any
 * order, and a faulty node may say of its pods what it likes: so several may claim one address at once.
 */
import type { Address } from '../policy/address.ts';
import { betterClaim, type Claims } from '../policy/world.ts';
import type { PodRecord } from './records.ts';

/** Of an address that several claim. */
interface Dispute {
  readonly claims: Set<PodRecord>;
  owner: PodRecord;
}

const NONE: readonly PodRecord[] = [];

export class AddressOwners {
  readonly #context: Claims;
  /** A single claim is held as it is: nearly all addresses have one, and there are as many as pods. */
  readonly #claims = new Map<Address, PodRecord>();
  readonly #disputes = new Map<Address, Dispute>();

  constructor(context: Claims) {
    this.#context = context;
  }

  owner(address: Address): PodRecord | undefined {
    return this.#claims.get(address) ?? this.#disputes.get(address)?.owner;
  }

  /** Pods of a node that claim it, where others claim it as well; in no order. */
  *claimsOn(address: Address, node: string): Generator<PodRecord> {
    if (node !== '') for (const claim of this.#disputes.get(address)?.claims ?? NONE) if (claim.pod.node === node) yield claim;
  }

  /** All that claim an address which several claim, the owner first. */
  *claims(address: Address): Generator<PodRecord> {
    const dispute = this.#disputes.get(address);
    if (dispute === undefined) return;
    yield dispute.owner;
    for (const claim of dispute.claims) if (claim !== dispute.owner) yield claim;
  }

  count(address: Address): number {
    return this.#disputes.get(address)?.claims.size ?? Number(this.#claims.has(address));
  }

  /** Addresses that several claim. */
  disputed(): MapIterator<Address> {
    return this.#disputes.keys();
  }

  /** @returns those for whom something is different now: who claims it on the same node, and whoever had it or has it */
  claim(address: Address, record: PodRecord): Iterable<PodRecord> {
    const dispute = this.#disputes.get(address);
    if (dispute !== undefined) {
      if (dispute.claims.has(record)) return NONE;
      dispute.claims.add(record);
      return this.#settle(address, dispute, record);
    }
    const only = this.#claims.get(address);
    if (only === record) return NONE;
    if (only === undefined) {
      this.#claims.set(address, record);
      return [record];
    }
    this.#claims.delete(address);
    const begun: Dispute = { claims: new Set([only, record]), owner: only };
    this.#disputes.set(address, begun);
    return this.#settle(address, begun, record);
  }

  /** @returns as {@link claim} does */
  release(address: Address, record: PodRecord): Iterable<PodRecord> {
    if (this.#claims.get(address) === record) this.#claims.delete(address);
    const dispute = this.#disputes.get(address);
    if (dispute?.claims.delete(record) !== true) return NONE;
    const changed = this.#settle(address, dispute, record);
    const [only, second] = dispute.claims;
    if (second === undefined && only !== undefined) {
      this.#disputes.delete(address);
      this.#claims.set(address, only);
    }
    return changed;
  }

  /** What is known of nodes has changed, and with it perhaps who can have the address. @returns as {@link claim} does */
  judgeAgain(address: Address): Iterable<PodRecord> {
    const dispute = this.#disputes.get(address);
    return dispute === undefined ? NONE : this.#settle(address, dispute, undefined);
  }

  /** @param changed whose claim has come or gone */
  #settle(address: Address, dispute: Dispute, changed: PodRecord | undefined): Iterable<PodRecord> {
    const before = dispute.owner;
    let owner: PodRecord | undefined;
    for (const claim of dispute.claims) {
      if (owner === undefined || betterClaim(address, claim.pod, owner.pod, this.#context) < 0) owner = claim;
    }
    const touched = new Set([before]);
    if (owner !== undefined) {
      dispute.owner = owner;
      touched.add(owner);
    }
    if (changed !== undefined) for (const claim of dispute.claims) if (claim.pod.node === changed.pod.node) touched.add(claim);
    return touched;
  }
}
