/**
 * How many of the packets that come are described, and how much time that may take: bounds on what a flood costs, and on what a packet costs
 * that is dear to describe because thousands of policies isolate its pod.
 */
import { LRUCache } from 'lru-cache';

/** A number of packets: a token bucket, so that it also evens them out. */

export class SampleBudget {
  readonly #atOnce: number;
  #perSecond: number;
  #left: number;
  /** ms */
  #filledAt: number;

  /** @param now ms, of whatever clock the rest is asked with */
  constructor(perSecond: number, atOnce: number, now: number) {
    this.#perSecond = perSecond;
    this.#atOnce = atOnce;
    this.#left = atOnce;
    this.#filledAt = now;
  }

  /** From now on; what is left stays. */
  set perSecond(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Whether one more may be described at this time (ms, never earlier than before). */
  take(now: number): boolean {
    this.#left = Math.min(this.#atOnce, this.#left + ((now - this.#filledAt) * this.#perSecond) / 1000);
    this.#filledAt = now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}

/** Describing one packet takes some hundredths of a millisecond; what takes so long is dear. */
const DEAR_MS = 1;
/** Of the time, for each namespace; a thousand ordinary packets a second take half of that. */
const SHARE = 1 / 10;
/** How far a namespace may be ahead of its share: what comes together may be described together. */
const AHEAD_MS = 500;
/** The same for all that is dear, of all namespaces together: nobody else waits for it. */
const DEAR_SHARE = 1 / 10;
const DEAR_AHEAD_MS = 100;
/** More namespaces than have pods on a node. */
const ACCOUNTS = 1_024;

interface Account {
  /** When its share of the time will have paid for what it used; ms. */
  readonly paidAt: number;
  readonly isDear: boolean;
}

/**
 * How much time describing may take, on the account of the namespace whose pod refused. Where thousands of policies isolate a pod, each of
 * them is asked about each packet: then fewer packets of that namespace are described, and as many of the others as before.
 */
export class DescribingTime {
  readonly #accounts = new LRUCache<string, Account>({ max: ACCOUNTS });
  #dearPaidAt = Number.NEGATIVE_INFINITY;

  /** Whether a packet of this namespace may be described now (ms, never earlier than before). */
  isFree(namespace: string, now: number): boolean {
    const account = this.#accounts.get(namespace);
    if (account === undefined) return true;
    if (account.isDear && this.#dearPaidAt > now + DEAR_AHEAD_MS) return false;
    return account.paidAt <= now + AHEAD_MS;
  }

  /** Describing a packet of this namespace took so long, until now. */
  used(namespace: string, tookMs: number, now: number): void {
    const isDear = tookMs >= DEAR_MS;
    const paidAt = Math.max(this.#accounts.get(namespace)?.paidAt ?? now, now) + tookMs / SHARE;
    this.#accounts.set(namespace, { paidAt, isDear });
    if (isDear) this.#dearPaidAt = Math.max(this.#dearPaidAt, now) + tookMs / DEAR_SHARE;
  }
}
