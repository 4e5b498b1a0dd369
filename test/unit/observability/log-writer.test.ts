/** What becomes of log lines whose reader is slow, stops, or is gone. */
import assert from 'node:assert/strict';
import { LogWriter } from '../../../src/observability/log-writer.ts';
import { eventually } from '../../kernel/support/eventually.ts';

/** A reader that takes `room` bytes, and no more until it is given more. */
class Reader {
  room = 0;
  text = '';
  code = 'EAGAIN';

  write(bytes: Uint8Array): number {
    const count = Math.min(this.room, bytes.length);
    if (count === 0) throw Object.assign(new Error(this.code), { code: this.code });
    this.room -= count;
    this.text += Buffer.from(bytes.subarray(0, count)).toString();
    return count;
  }
}

function writerTo(reader: Reader): LogWriter {
  const writer = new LogWriter(reader);
  writer.tellOfDropped((count) => `dropped ${count}\n`);
  return writer;
}

/** A line of a hundred bytes. */
function line(index: number): string {
  return `${String(index).padEnd(99, '.')}\n`;
}

describe('the log of a daemon', () => {
  it('is written at once as long as somebody reads it', () => {
    const reader = new Reader();
    reader.room = Number.POSITIVE_INFINITY;
    const writer = writerTo(reader);
    for (let index = 0; index < 5_000; index++) writer.write(line(index));
    assert.equal(reader.text, Array.from({ length: 5_000 }, (_, index) => line(index)).join(''));
    assert.equal(writer.dropped, 0);
  });

  it('keeps lines for a reader that is slow, up to a bound, and says how many are missing where they are', async () => {
    const reader = new Reader();
    const writer = writerTo(reader);
    for (let index = 0; index < 3_000; index++) writer.write(line(index));
    assert.ok(writer.dropped > 1_000, `${writer.dropped}`);
    const { dropped } = writer;
    reader.room = Number.POSITIVE_INFINITY;
    await eventually(() => reader.text.includes('dropped '), 'it is told');
    writer.write(line(3_000));
    const lines = reader.text.split('\n').slice(0, -1);
    const kept = 3_000 - dropped;
    assert.deepEqual(
      lines.slice(0, kept),
      Array.from({ length: kept }, (_, index) => line(index).trim()),
    );
    assert.deepEqual(lines.slice(kept), [`dropped ${dropped}`, line(3_000).trim()]);
  });

  it('goes on within a line where it stopped', async () => {
    const reader = new Reader();
    reader.room = 130;
    const writer = writerTo(reader);
    for (let index = 0; index < 4; index++) writer.write(line(index));
    assert.equal(reader.text.length, 130);
    reader.room = Number.POSITIVE_INFINITY;
    await eventually(() => reader.text.length === 400, 'the rest has come');
    assert.equal(reader.text, [0, 1, 2, 3].map(line).join(''));
  });

  it('counts the lines that nobody can read any more, and goes on when somebody can', () => {
    const reader = new Reader();
    reader.code = 'EPIPE';
    const writer = writerTo(reader);
    for (let index = 0; index < 10; index++) writer.write(line(index));
    assert.equal(writer.dropped, 10);
    reader.room = Number.POSITIVE_INFINITY;
    writer.write(line(10));
    assert.equal(reader.text, `dropped 10\n${line(10)}`);
  });

  it('waits at the end for so long and no longer', () => {
    const reader = new Reader();
    const writer = writerTo(reader);
    writer.write(line(0));
    const startedAt = performance.now();
    writer.flush(50);
    const tookMs = performance.now() - startedAt;
    assert.ok(tookMs >= 50 && tookMs < 1_000, `${tookMs} ms`);
  });
});
