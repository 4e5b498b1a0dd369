/**
 * How long to wait before the next try. The wait grows with the time that nothing has worked, so that after a short outage everything is
 * in force within a second, and after a long one thousands of agents do not all come at once.
 */

/** Of the time that nothing has worked: so much later than possible is a change noticed at worst. */
const SHARE = 1 / 40;
const SHORTEST_MS = 100;
const LONGEST_MS = 30_000;

export class Backoff {
  readonly #now: () => number;
  readonly #random: () => number;
  /** When the first of the failures since the last success came. */
  #since: number | undefined;

  /** @param random from 0 to 1 */
  constructor(now: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#now = now;
    this.#random = random;
  }

  /** Something worked. */
  succeeded(): void {
    this.#since = undefined;
  }

  /** Something failed: how long to wait, ms. What the server asked for counts, and nobody is kept waiting for less than that. */
  failed(retryAfterMs?: number): number {
    this.#since ??= this.#now();
    const wanted = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, (this.#now() - this.#since) * SHARE));
    // Between half of it and all of it.
    const wait = wanted * (1 - this.#random() / 2);
    // Everybody was told the same: come a little apart.
    return retryAfterMs === undefined ? wait : retryAfterMs + wait;
  }
}
