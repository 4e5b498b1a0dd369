/**
 * The last flows that were described, and who reads them. There is one copy of each, however many readers: a reader is a place in the
 * log. So what a reader costs does not grow with how slow it is, and whoever writes never waits for anybody: a reader that the log
 * overtakes loses what is oldest, and is told how much of what it wanted that was.
 */

/** What there has to be known of an entry: ms since the epoch. */
export interface Timed {
  readonly at: number;
}

export class FlowLog<T extends Timed> {
  readonly #entries: (T | undefined)[];
  readonly #cursors = new Set<FlowCursor<T>>();
  /** The number of the next entry; its place is that modulo the capacity. */
  #end = 0;

  /** @param capacity how many entries are remembered */
  constructor(capacity: number) {
    this.#entries = Array.from({ length: capacity }, () => undefined);
  }

  push(entry: T): void {
    const place = this.#end % this.#entries.length;
    const oldest = this.#entries[place];
    if (oldest !== undefined) for (const cursor of this.#cursors) cursor.forget(this.start, oldest);
    this.#entries[place] = entry;
    this.#end++;
  }

  /** The number of the oldest entry that is remembered. */
  get start(): number {
    return Math.max(0, this.#end - this.#entries.length);
  }

  /** The number that the next entry will have. */
  get end(): number {
    return this.#end;
  }

  /** The entry of a number from {@link start} to below {@link end}. */
  entry(number: number): T | undefined {
    return this.#entries[number % this.#entries.length];
  }

  /** All that is remembered, oldest first. */
  *entries(): Generator<T> {
    for (let number = this.start; number < this.#end; number++) {
      const entry = this.entry(number);
      if (entry !== undefined) yield entry;
    }
  }

  /**
   * A reader from now on, and with `since` of what is remembered from then on (ms since the epoch).
   *
   * @param wants what it wants to see; the rest it passes by
   */
  read(wants: (entry: T) => boolean, since?: number): FlowCursor<T> {
    let first = this.#end;
    // From the end: clocks of packets differ by a little, and what is wanted is what is recent.
    if (since !== undefined) while (first > this.start && (this.entry(first - 1)?.at ?? 0) >= since) first--;
    const cursor = new FlowCursor(this, first, wants, () => this.#cursors.delete(cursor));
    this.#cursors.add(cursor);
    return cursor;
  }
}

/** A reader's place in a {@link FlowLog}. */
export class FlowCursor<T extends Timed> {
  /** Ends the reading: nothing is counted for it any more. */
  readonly close: () => void;
  readonly #log: FlowLog<T>;
  readonly #wants: (entry: T) => boolean;
  #next: number;
  #lost = 0;

  constructor(log: FlowLog<T>, next: number, wants: (entry: T) => boolean, close: () => void) {
    this.#log = log;
    this.#next = next;
    this.#wants = wants;
    this.close = close;
  }

  /** The number of the entry that it looks at next. */
  get next(): number {
    return this.#next;
  }

  /** The next entry that it wants; undefined: there is none yet. */
  take(): T | undefined {
    while (this.#next < this.#log.end) {
      const entry = this.#log.entry(this.#next++);
      if (entry !== undefined && this.#wants(entry)) return entry;
    }
    return undefined;
  }

  /** How many entries that it wanted have been overwritten before it came to them, since the last time this was asked. */
  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  /** The log is about to overwrite this entry, its oldest. */
  forget(number: number, entry: T): void {
    if (this.#next > number) return;
    this.#next = number + 1;
    if (this.#wants(entry)) this.#lost++;
  }
}
