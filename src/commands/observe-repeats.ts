/**
 * Unites repeats: who is refused tries again, and would fill the screen. What is remembered is shown with how often it came within a
 * second; what happens now is shown at once, and what follows of the same within a second is one more line.
 */
import type { FlowRecord } from '../observability/observed-flow.ts';

/** Repeats within this time are one line. */
const WINDOW_MS = 1_000;

export interface RepeatsOptions {
  /** `count`: how many times; of more than one `record` is the first of what was remembered, the last of what happens. */
  readonly print: (record: FlowRecord, count: number) => void;
}

interface Window {
  /** ms, of the clock that it was opened with. */
  readonly openedAt: number;
  record: FlowRecord;
  count: number;
}

export class Repeats {
  readonly #print: RepeatsOptions['print'];
  readonly #windows = new Map<string, Window>();
  /** What is remembered, while it is read; undefined: what comes happens now. */
  #remembered: Window[] | undefined = [];

  constructor({ print }: RepeatsOptions) {
    this.#print = print;
  }

  /** @param now ms; never less than before, except that what is remembered goes by the times of the records */
  push(record: FlowRecord, now: number): void {
    const key = keyOf(record);
    const window = this.#windows.get(key);
    if (this.#remembered !== undefined) {
      const at = Date.parse(record.time);
      if (window !== undefined && at - window.openedAt < WINDOW_MS) window.count++;
      else {
        const opened = { openedAt: at, record, count: 1 };
        this.#windows.set(key, opened);
        this.#remembered.push(opened);
      }
      return;
    }
    if (window === undefined) {
      this.#windows.set(key, { openedAt: now, record, count: 0 });
      this.#print(record, 1);
    } else {
      window.record = record;
      window.count++;
    }
  }

  /** What was remembered is over. */
  live(): void {
    const remembered = this.#remembered ?? [];
    this.#remembered = undefined;
    this.#windows.clear();
    // What was refused is told before what was allowed; people read it in the order of time.
    for (const { record, count } of remembered.toSorted((a, b) => a.openedAt - b.openedAt)) this.#print(record, count);
  }

  /** Prints the repeats whose second is over at this time; to be called now and then. */
  tick(now: number): void {
    if (this.#remembered !== undefined) return;
    for (const [key, { openedAt, record, count }] of this.#windows) {
      if (now - openedAt < WINDOW_MS) continue;
      this.#windows.delete(key);
      if (count === 0) continue;
      // It goes on: what comes within the next second is again one line.
      this.#windows.set(key, { openedAt: now, record, count: 0 });
      this.#print(record, count);
    }
  }

  /** Prints everything that is held back. */
  end(): void {
    if (this.#remembered !== undefined) this.live();
    this.tick(Number.POSITIVE_INFINITY);
  }
}

/** The same connection tried again has another source port. */
function keyOf(record: FlowRecord): string {
  const { kind, source, destination, protocolNumber, icmp } = record;
  const denial = record.kind === 'Denied' ? [record.direction, record.audited, record.reason, record.morePolicies, ...record.policies] : [];
  return JSON.stringify([kind, source.address, destination.address, destination.port, protocolNumber, icmp?.type, ...denial]);
}
