/**
 * Tells a large commit of one's own from changes by others where the monitor has run over. The kernel numbers what each transaction of anybody leaves, so
 * where the number is one more after a commit than it was before, and everything up to that has been heard, nothing of anybody else's was lost.
 */
import type { NftConnection } from 'nftables-js';

export class Generations {
  readonly #connection: Pick<NftConnection, 'generation'>;
  readonly #onLost: () => void;
  /** Up to this one every change by others has been heard of. */
  #heard: number;
  #isCommitting = false;
  #wasLost = false;

  /** @param onLost changes by others may have been lost */
  constructor(connection: Pick<NftConnection, 'generation'>, onLost: () => void) {
    this.#connection = connection;
    this.#onLost = onLost;
    this.#heard = connection.generation();
  }

  /** The monitor has told of all changes up to this generation. */
  heard(generation: number): void {
    this.#heard = generation;
  }

  /** The monitor has run over. */
  lost(): void {
    if (this.#isCommitting) this.#wasLost = true;
    else this.#judge();
  }

  /** A commit that may be larger than what the monitor can hold. */
  async during(commit: () => Promise<void>): Promise<void> {
    const before = this.#connection.generation();
    const isCurrent = before === this.#heard;
    this.#isCommitting = true;
    try {
      await commit();
    } finally {
      this.#isCommitting = false;
      const after = this.#connection.generation();
      if (isCurrent && after === next(before)) this.#heard = after;
      if (this.#wasLost) {
        this.#wasLost = false;
        this.#judge();
      }
    }
  }

  #judge(): void {
    const now = this.#connection.generation();
    if (now === this.#heard) return;
    this.#heard = now;
    this.#onLost();
  }
}

/** The kernel leaves out zero (nf_tables_commit). */
function next(generation: number): number {
  return (generation + 1) >>> 0 || 1;
}
