import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { FlowLog } from '../../../../src/observability/observe/flow-log.ts';

interface Entry {
  readonly at: number;
  readonly value: number;
}

const all = (): boolean => true;

function take(cursor: { take(): Entry | undefined }): number[] {
  const values: number[] = [];
  for (let entry = cursor.take(); entry !== undefined; entry = cursor.take()) values.push(entry.value);
  return values;
}

describe('flow log', () => {
  it('remembers the last entries, oldest first', () => {
    const log = new FlowLog<Entry>(3);
    for (let value = 1; value <= 5; value++) log.push({ at: value, value });
    assert.deepEqual(
      [...log.entries()].map(({ value }) => value),
      [3, 4, 5],
    );
    assert.deepEqual([log.start, log.end], [2, 5]);
  });

  it('shows a reader what comes from now on, and what is remembered from a time on', () => {
    const log = new FlowLog<Entry>(10);
    for (let value = 1; value <= 5; value++) log.push({ at: value * 100, value });
    const live = log.read(all);
    const since = log.read(all, 300);
    const everything = log.read(all, 0);
    assert.deepEqual([take(live), take(since), take(everything)], [[], [3, 4, 5], [1, 2, 3, 4, 5]]);
    log.push({ at: 600, value: 6 });
    assert.deepEqual([take(live), take(since), take(everything)], [[6], [6], [6]]);
  });

  it('tells a reader that it overtakes how much it lost of what it wanted', () => {
    const log = new FlowLog<Entry>(4);
    const even = log.read(({ value }) => value % 2 === 0);
    for (let value = 1; value <= 10; value++) log.push({ at: value, value });
    // 1 to 6 are gone, and 2, 4 and 6 of them were wanted.
    assert.equal(even.takeLost(), 3);
    assert.equal(even.takeLost(), 0);
    assert.deepEqual(take(even), [8, 10]);
  });

  it('counts nothing for a reader that has gone', () => {
    const log = new FlowLog<Entry>(1);
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
          const log = new FlowLog<Entry>(capacity);
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
});
