/** A stream of bytes as lines: what a watch sends is one JSON object a line, and a chunk may end anywhere, also within a character. */
import { ApiError } from './errors.ts';

const NEWLINE = 0x0a;
/** etcd refuses objects of more than 1.5 MB; whatever sends this much without a newline is no API server. */
const LONGEST_LINE_BYTES = 64 << 20;

export class LineSplitter {
  #rest: Buffer[] = [];
  #restBytes = 0;

  /** The lines that this chunk completes, without their newlines; empty lines are left out. */
  *push(chunk: Buffer): Generator<string> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const line = this.#restBytes === 0 ? chunk.toString('utf8', start, end) : this.#complete(chunk.subarray(start, end));
      start = end + 1;
      if (line !== '') yield line;
    }
    if (start === chunk.length) return;
    const rest = chunk.subarray(start);
    this.#rest.push(rest);
    this.#restBytes += rest.length;
    if (this.#restBytes > LONGEST_LINE_BYTES) throw new ApiError('API_GARBLED', `a line of more than ${LONGEST_LINE_BYTES >> 20} MiB`);
  }

  /** Bytes of a line that has not ended. */
  get pending(): number {
    return this.#restBytes;
  }

  #complete(end: Buffer): string {
    const line = Buffer.concat([...this.#rest, end]).toString('utf8');
    this.#rest = [];
    this.#restBytes = 0;
    return line;
  }
}
