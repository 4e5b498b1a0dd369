/**
 * Where log lines go. Whoever reads them is never waited for: what cannot be written yet is kept up to a bound, and what comes after
 * that is dropped and counted. A line says how many, at the place where they are missing. Lines are written whole, or continued.
 */
import { systemErrorCode } from '../errors.ts';
import { type Output, WHOLE_BYTES } from './standard-output.ts';

/** What waits for a reader: some five hundred lines. */
const KEPT_BYTES = 128 * 1024;
/** After lines were dropped, further ones are kept once so little waits: otherwise every second line would be one that tells of the other. */
const KEPT_AGAIN_BYTES = KEPT_BYTES / 2;
/** How soon a reader that was slow is tried again; one that has stopped, ever less often. */
const FIRST_RETRY_MS = 5;
const LONGEST_RETRY_MS = 250;
/** How long the end of the process waits for a reader, and how often it looks. */
const LAST_MS = 500;
const LAST_LOOK_MS = 5;

interface Entry {
  readonly bytes: Buffer;
  /** Where it tells of lines that were dropped: how many. */
  readonly tellsOf: number;
}

export class LogWriter {
  readonly #output: Output;
  readonly #queue: Entry[] = [];
  #queuedBytes = 0;
  /** Of the first entry, how much has been written. */
  #written = 0;
  /** Since it was told last. */
  #untold = 0;
  #dropped = 0;
  #retryMs = FIRST_RETRY_MS;
  #timer: NodeJS.Timeout | undefined;
  #describe: (count: number) => string = (count) => `${count} log lines were dropped\n`;

  constructor(output: Output) {
    this.#output = output;
  }

  /** How many lines were dropped so far. */
  get dropped(): number {
    return this.#dropped;
  }

  /** What the line looks like, its end included, that tells of dropped ones. */
  tellOfDropped(describe: (count: number) => string): void {
    this.#describe = describe;
  }

  /** Writes a line, which ends as lines do, as soon as that is possible. */
  write(line: string): void {
    if (this.#untold > 0) {
      if (this.#queuedBytes > KEPT_AGAIN_BYTES) return this.#drop(1);
      this.#tell();
    }
    const bytes = Buffer.from(line);
    if (this.#queue.length > 0 && this.#queuedBytes + bytes.length > KEPT_BYTES) return this.#drop(1);
    this.#push({ bytes, tellsOf: 0 });
    // While a reader is waited for, lines only wait with the others.
    if (this.#timer === undefined) this.#writeOut();
  }

  /** Waits for the reader, not longer than `withinMs`, and holds up everything else meanwhile: for the end of the process. */
  flush(withinMs = LAST_MS): void {
    clearTimeout(this.#timer);
    const until = performance.now() + withinMs;
    const never = new Int32Array(new SharedArrayBuffer(4));
    for (this.#writeOut(); this.#queue.length > 0 && performance.now() < until; this.#writeOut()) {
      clearTimeout(this.#timer);
      Atomics.wait(never, 0, 0, LAST_LOOK_MS);
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #push(entry: Entry): void {
    this.#queue.push(entry);
    this.#queuedBytes += entry.bytes.length;
  }

  #drop(count: number): void {
    this.#untold += count;
    this.#dropped += count;
  }

  #tell(): void {
    const count = this.#untold;
    this.#untold = 0;
    this.#push({ bytes: Buffer.from(this.#describe(count)), tellsOf: count });
  }

  /** As much as goes now; the rest is tried again. */
  #writeOut(): void {
    this.#timer = undefined;
    for (;;) {
      if (this.#queue.length === 0) {
        if (this.#untold === 0) return;
        this.#tell();
      }
      try {
        this.#take(this.#output.write(this.#next()));
        this.#retryMs = FIRST_RETRY_MS;
      } catch (error) {
        const code = systemErrorCode(error);
        if (code === 'EAGAIN') this.#retryLater();
        else if (code === 'EINTR') continue;
        // Nobody reads any more (EPIPE), or nothing can be written (ENOSPC): the next line tries it again.
        else this.#giveUp();
        return;
      }
    }
  }

  #retryLater(): void {
    // Nothing that keeps the process: at its end there is flush.
    this.#timer = setTimeout(() => this.#writeOut(), this.#retryMs).unref();
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
  }

  /** Drops everything but a line of which a part has been written: it is continued. */
  #giveUp(): void {
    for (const { tellsOf, bytes } of this.#queue.splice(this.#written > 0 ? 1 : 0)) {
      this.#queuedBytes -= bytes.length;
      // Lines that it would have told of have been counted before.
      if (tellsOf > 0) this.#untold += tellsOf;
      else this.#drop(1);
    }
  }

  /** Whole lines, as many as can be written as a whole; a longer one by itself. */
  #next(): Uint8Array {
    const [first, ...others] = this.#queue.slice(0, WHOLE_BYTES / 32);
    if (first === undefined) return Buffer.alloc(0);
    const parts = [first.bytes.subarray(this.#written)];
    let length = parts[0]?.length ?? 0;
    for (const { bytes } of others) {
      length += bytes.length;
      if (length > WHOLE_BYTES) break;
      parts.push(bytes);
    }
    return parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts);
  }

  #take(count: number): void {
    this.#written += count;
    let whole = 0;
    for (const { bytes } of this.#queue) {
      if (this.#written < bytes.length) break;
      this.#written -= bytes.length;
      this.#queuedBytes -= bytes.length;
      whole++;
    }
    this.#queue.splice(0, whole);
  }
}
