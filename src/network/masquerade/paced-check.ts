/**
 * A check that is asked for by whatever may have changed something: never two at a time, and never so often that two programs that
 * want different things keep a node busy; after a failure again, later and later.
 */

/** Between the beginnings of two checks. What somebody undoes is back within this, and what the check takes. */
const EVERY_MS = 400;
const RETRY_FIRST_MS = 1_000;
const RETRY_LAST_MS = 30_000;

export class PacedCheck {
  readonly #check: () => void | Promise<void>;
  readonly #onError: (error: unknown) => void;
  #startedAt = Number.NEGATIVE_INFINITY;
  #running = false;
  /** Asked for while one was running. */
  #asked = false;
  /** How many failed in a row. While that is not zero the next one has its time, and nothing brings it forward. */
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `onError` hears of what failed checks throw, but not of the one of {@link first}. */
  constructor(check: () => void | Promise<void>, onError: (error: unknown) => void) {
    this.#check = check;
    this.#onError = onError;
  }

  /** Checks at once: what of it is synchronous is done when this returns. To be called once. @throws what the check throws */
  async first(): Promise<void> {
    await this.#run();
    if (this.#asked) this.due();
  }

  /** Something may have changed. */
  due(): void {
    if (this.#running) this.#asked = true;
    else if (this.#failures === 0) this.#schedule(Math.max(0, this.#startedAt + EVERY_MS - performance.now()));
  }

  /** No check begins after this, and of one that is under way nothing is heard. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #schedule(afterMs: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#again(), afterMs).unref();
  }

  async #again(): Promise<void> {
    try {
      await this.#run();
      this.#failures = 0;
      if (this.#asked) this.due();
    } catch (error) {
      if (this.#closed) return;
      this.#schedule(Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_LAST_MS));
      this.#failures++;
      this.#onError(error);
    }
  }

  async #run(): Promise<void> {
    this.#running = true;
    this.#asked = false;
    this.#startedAt = performance.now();
    try {
      await this.#check();
    } finally {
      this.#running = false;
    }
  }
}
