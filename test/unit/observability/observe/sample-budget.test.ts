import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { SampleBudget } from '../../../../src/observability/observe/sample-budget.ts';

function takenOf(budget: SampleBudget, count: number, now: number): number {
  return Array.from({ length: count }, () => budget.take(now)).filter(Boolean).length;
}

describe('sample budget', () => {
  it('lets a burst through, and then so many a second', () => {
    const budget = new SampleBudget(100, 20, 1_000);
    assert.equal(takenOf(budget, 500, 1_000), 20);
    assert.equal(takenOf(budget, 500, 1_100), 10);
    assert.equal(takenOf(budget, 500, 11_000), 20, 'what is not used is not saved beyond the burst');
  });

  it('goes over to another rate at once', () => {
    const budget = new SampleBudget(10, 5, 0);
    takenOf(budget, 10, 0);
    budget.perSecond = 1_000;
    assert.equal(takenOf(budget, 100, 4), 4);
  });

  it('never lets more through than rate and burst allow, however packets come', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 30 }), { maxLength: 200 }), (pauses) => {
        const budget = new SampleBudget(100, 20, 0);
        let [now, taken] = [0, 0];
        for (const pause of pauses) {
          now += pause;
          taken += takenOf(budget, 7, now);
          assert.ok(taken <= 20 + now / 10 + 1e-6, `${taken} in ${now} ms`);
        }
      }),
    );
  });
});
