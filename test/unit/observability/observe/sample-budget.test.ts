import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { DescribingTime, SampleBudget } from '../../../../src/observability/observe/sample-budget.ts';

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

describe('the time that describing takes', () => {
  /** How many packets of a namespace are described in a second of so many packets, at so many ms each. */
  function describedOf(time: DescribingTime, namespace: string, tookMs: number, from: number): number {
    let [described, now] = [0, from];
    while (now < from + 1_000) {
      if (time.isFree(namespace, now)) {
        now += tookMs;
        time.used(namespace, tookMs, now);
        described++;
      } else now += 0.1;
    }
    return described;
  }

  it('does not bound what is ordinary', () => {
    assert.ok(describedOf(new DescribingTime(), 'shop', 0.05, 0) > 1_000);
  });

  it('is a tenth of all at most for what is dear, however many namespaces that is of, and none of it is anybody else’s', () => {
    const time = new DescribingTime();
    let [busy, now] = [0, 0];
    while (now < 10_000) {
      const free = ['a', 'b', 'c', 'd'].find((namespace) => time.isFree(namespace, now));
      if (free !== undefined) {
        now += 5;
        busy += 5;
        time.used(free, 5, now);
      } else now += 0.1;
    }
    assert.ok(busy < 10_000 * 0.1 + 100, `${busy} ms of 10,000`);
    assert.ok(describedOf(time, 'shop', 0.05, 10_000) > 1_000);
  });

  it('ends with the packets: who has paid is described again', () => {
    const time = new DescribingTime();
    time.used('shop', 100, 1_000);
    assert.equal(time.isFree('shop', 1_000), false);
    assert.equal(time.isFree('shop', 2_100), true);
  });
});
