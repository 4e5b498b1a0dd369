import assert from 'node:assert/strict';
import { PacedCheck } from '../../../src/network/masquerade/paced-check.ts';
import { eventually } from '../../kernel/support/eventually.ts';

describe('a paced check', () => {
  it('runs the first one at once, and those that are asked for meanwhile as one', async () => {
    let runs = 0;
    let finish = (): void => undefined;
    const check = new PacedCheck(
      () => {
        runs++;
        return new Promise((resolve) => {
          finish = resolve;
        });
      },
      (error) => assert.fail(String(error)),
    );
    const first = check.first();
    assert.equal(runs, 1);
    for (let count = 0; count < 100; count++) check.due();
    assert.equal(runs, 1);
    finish();
    await first;
    await eventually(() => runs === 2, 'the second run');
    finish();
    check.close();
  });

  it('does not run more often than every 0.4 s, however often it is asked for', async () => {
    const times: number[] = [];
    const check = new PacedCheck(
      () => void times.push(performance.now()),
      (error) => assert.fail(String(error)),
    );
    await check.first();
    await eventually(() => {
      check.due();
      return times.length === 3;
    }, 'three runs');
    check.close();
    for (const [index, time] of times.slice(1).entries()) {
      const waited = time - (times[index] ?? 0);
      // The clock of timers is coarser than this one.
      assert.ok(waited >= 395, `${waited} ms`);
    }
  });

  it('rejects where the first one fails, and tells of none', async () => {
    const check = new PacedCheck(
      () => {
        throw new Error('no');
      },
      () => assert.fail('was told'),
    );
    await assert.rejects(check.first(), /^Error: no$/);
    check.close();
  });

  it('tells of a failure and tries again after a second, though nobody asks and whoever asks', async () => {
    const errors: number[] = [];
    const started = performance.now();
    let fails = false;
    let runs = 0;
    const check = new PacedCheck(
      () => {
        runs++;
        if (fails) throw new Error('no');
      },
      () => void errors.push(performance.now() - started),
    );
    await check.first();
    fails = true;
    check.due();
    await eventually(() => errors.length === 1, 'the first failure');
    check.due();
    await eventually(() => errors.length === 2, 'the second failure');
    assert.ok((errors[1] ?? 0) - (errors[0] ?? 0) >= 990);
    fails = false;
    await eventually(() => runs === 4, 'the success');
    check.close();
    assert.equal(errors.length, 2);
  });

  it('is heard of no more once it is closed', async () => {
    let runs = 0;
    let fail = (): void => undefined;
    const check = new PacedCheck(
      () => (runs++ === 0 ? undefined : new Promise((_, reject) => (fail = () => reject(new Error('no'))))),
      () => assert.fail('was told'),
    );
    await check.first();
    check.due();
    await eventually(() => runs === 2, 'the second run');
    check.close();
    fail();
    await new Promise(setImmediate);
    check.due();
    assert.equal(runs, 2);
  });
});
