/** How many of the packets that come are described: a bound on what a flood costs. A token bucket, so that it also evens them out. */

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
