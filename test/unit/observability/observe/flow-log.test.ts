import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { FlowLog, type FlowLogBounds } from '../../../../src/observability/observe/flow-log.ts';

interface Entry {
  readonly at: number;
  readonly value: number;
}

const all = (): boolean => true;

/** As many entries as this, however large they are. */
function entries(count: number): FlowLogBounds<Entry> {
  return { entries: count, bytes: Number.POSITIVE_INFINITY, bytesOf: () => 1 };
}

function take(cursor: { take(): Entry | undefined }): number[] {
  const values: number[] = [];
  for (let entry = cursor.take(); entry !== undefined; entry = cursor.take()) values.push(entry.value);
  return values;
}

describe('flow log', () => {
  it('remembers the last entries, oldest first', () => {
    const log = new FlowLog<Entry>(entries(3));
    for (let value = 1; value <= 5; value++) log.push({ at: value, value });
    assert.deepEqual(
      [...log.entries()].map(({ value }) => value),
      [3, 4, 5],
    );
    assert.deepEqual([log.start, log.end], [2, 5]);
  });

  it('shows a reader what comes from now on, and what is remembered from a time on', () => {
    const log = new FlowLog<Entry>(entries(10));
    for (let value = 1; value <= 5; value++) log.push({ at: value * 100, value });
    const live = log.read(all);
    const since = log.read(all, 300);
    const everything = log.read(all, 0);
    assert.deepEqual([take(live), take(since), take(everything)], [[], [3, 4, 5], [1, 2, 3, 4, 5]]);
    log.push({ at: 600, value: 6 });
    assert.deepEqual([take(live), take(since), take(everything)], [[6], [6], [6]]);
  });

  it('tells a reader that it overtakes how much it lost of what it wanted', () => {
    const log = new FlowLog<Entry>(entries(4));
    const even = log.read(({ value }) => value % 2 === 0);
    for (let value = 1; value <= 10; value++) log.push({ at: value, value });
    // 1 to 6 are gone, and 2, 4 and 6 of them were wanted.
    assert.equal(even.takeLost(), 3);
    assert.equal(even.takeLost(), 0);
    assert.deepEqual(take(even), [8, 10]);
  });

  it('counts nothing for a reader that has gone', () => {
    const log = new FlowLog<Entry>(entries(1));
    const cursor = log.read(all);
    cursor.close();
    for (let value = 1; value <= 10; value++) log.push({ at: value, value });
    assert.equal(cursor.takeLost(), 0);
  });

  it('shows or counts as lost everything that a reader wants, whatever it does when', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.constantFrom('push', 'take', 'lost'), { maxLength: 60 }),
        (capacity, steps) => {
          const log = new FlowLog<Entry>(entries(capacity));
          const cursor = log.read(({ value }) => value % 3 !== 0);
          let [pushed, shown, lost] = [0, 0, 0];
          for (const step of steps) {
            if (step === 'push') log.push({ at: 0, value: ++pushed });
            else if (step === 'take') shown += Number(cursor.take() !== undefined);
            else lost += cursor.takeLost();
          }
          shown += take(cursor).length;
          lost += cursor.takeLost();
          assert.equal(shown + lost, pushed - Math.floor(pushed / 3));
        },
      ),
    );
  });

  it('remembers no more bytes than it may, and tells readers what they lost of it', () => {
    const log = new FlowLog<Entry>({ entries: 100, bytes: 10, bytesOf: ({ value }) => value });
    const cursor = log.read(all);
    for (const value of [4, 4, 2, 5]) log.push({ at: 0, value });
    // The second 4 had to go for the 5, and the first before it.
    assert.deepEqual([log.bytes, log.start, log.end], [7, 2, 4]);
    assert.equal(cursor.takeLost(), 2);
    assert.deepEqual(take(cursor), [2, 5]);
    log.push({ at: 0, value: 1_000 });
    assert.deepEqual(
      [...log.entries()].map(({ value }) => value),
      [1_000],
      'what is too large for it is alone',
    );
    log.push({ at: 0, value: 3 });
    assert.equal(log.bytes, 3);
  });

  it('keeps to both bounds, and loses nothing untold, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 80 }), (sizes) => {
        const log = new FlowLog<Entry>({ entries: 5, bytes: 12, bytesOf: ({ value }) => value });
        const cursor = log.read(all);
        let lost = 0;
        for (const value of sizes) {
          log.push({ at: 0, value });
          let held = 0;
          for (const entry of log.entries()) held += entry.value;
          assert.equal(log.bytes, held);
          assert.ok(held <= 12 && log.end - log.start <= 5);
          lost += cursor.takeLost();
        }
        assert.equal(lost + take(cursor).length, sizes.length);
      }),
    );
  });
});
