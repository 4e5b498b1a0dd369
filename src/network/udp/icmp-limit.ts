/** How many ICMP errors may be sent: a flood of packets that go nowhere must not become a flood of answers. */

/** The kernel's own limits of all ICMP (icmp_msgs_per_sec, icmp_msgs_burst). */
const PER_SECOND = 1000;
const BURST = 50;

/** A bucket of tokens (RFC 1812, 4.3.2.8). */
export class IcmpLimit {
  readonly #now: () => number;
  #tokens = BURST;
  #filledAt: number;

  /** @param now in milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#filledAt = now();
  }

  /** Whether one more may be sent now. */
  take(): boolean {
    const now = this.#now();
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#filledAt) * PER_SECOND) / 1000);
    this.#filledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
