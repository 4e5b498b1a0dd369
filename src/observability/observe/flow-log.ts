/**
 * The last flows that were described, and who reads them. There is one copy of each, however many readers: a reader is a place in the
 * log. So what a reader costs does not grow with how slow it is, and whoever writes never waits for anybody: a reader that the log
 * overtakes loses what is oldest, and is told how much of what it wanted that was.
 */

/** What there has to be known of an entry: ms since the epoch. */
export interface Timed {
  readonly at: number;
}

/** How much is remembered: whichever is reached first. */
export interface FlowLogBounds<T> {
  readonly entries: number;
  /** Of all entries together; one that is larger alone is remembered alone. */
  readonly bytes: number;
  /** What an entry holds, the same whenever it is asked. */
  readonly bytesOf: (entry: T) => number;
}

export class FlowLog<T extends Timed> {
  readonly #entries: (T | undefined)[];
  readonly #cursors = new Set<FlowCursor<T>>();
  readonly #bounds: FlowLogBounds<T>;
  #start = 0;
  /** The number of the next entry; its place is that modulo the capacity. */
  #end = 0;
  #bytes = 0;

  constructor(bounds: FlowLogBounds<T>) {
    this.#bounds = bounds;
    this.#entries = Array.from({ length: bounds.entries }, () => undefined);
  }

  push(entry: T): void {
    const bytes = this.#bounds.bytesOf(entry);
    while (this.#end > this.#start && (this.#end - this.#start >= this.#entries.length || this.#bytes + bytes > this.#bounds.bytes))
      this.#forgetOldest();
    this.#entries[this.#end % this.#entries.length] = entry;
    this.#bytes += bytes;
    this.#end++;
  }

  #forgetOldest(): void {
    const place = this.#start % this.#entries.length;
    const oldest = this.#entries[place];
    if (oldest !== undefined) {
      for (const cursor of this.#cursors) cursor.forget(this.#start, oldest);
      this.#bytes -= this.#bounds.bytesOf(oldest);
    }
    this.#entries[place] = undefined;
    this.#start++;
  }

  /** The number of the oldest entry that is remembered. */
  get start(): number {
    return this.#start;
  }

  /** What all that is remembered holds, by the measure of its bounds. */
  get bytes(): number {
    return this.#bytes;
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
