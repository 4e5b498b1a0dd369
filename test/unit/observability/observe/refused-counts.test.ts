import assert from 'node:assert/strict';
import { type RefusedCount, RefusedCounts } from '../../../../src/observability/observe/refused-counts.ts';

const count = (packets: number, pod = 'shop/db'): RefusedCount => ({ chain: `ingress/${pod}`, direction: 'ingress', pod, packets });
const missed = (counts: RefusedCounts): (readonly [string, number])[] =>
  [...counts.takeMissed()].map(({ pod, count: number }) => [pod, number]);

describe('refused packets that were not shown', () => {
  it('are what the counters have counted since the first look, less what was described', () => {
    const counts = new RefusedCounts();
    counts.look([count(1_000)]);
    assert.deepEqual(missed(counts), []);
    for (let shown = 0; shown < 10; shown++) counts.described('ingress', 'shop/db');
    counts.look([count(1_300)]);
    assert.deepEqual(missed(counts), [['shop/db', 290]]);
    assert.deepEqual(missed(counts), [], 'told once');
    counts.look([count(1_300)]);
    assert.deepEqual(missed(counts), []);
  });

  it('are none where a packet is described before its counter is looked at', () => {
    const counts = new RefusedCounts();
    counts.look([count(0)]);
    counts.described('ingress', 'shop/db');
    counts.look([count(0)]);
    assert.deepEqual(missed(counts), []);
    counts.look([count(1)]);
    assert.deepEqual(missed(counts), []);
    counts.look([count(2)]);
    assert.deepEqual(missed(counts), [['shop/db', 1]]);
  });

  it('go on across a rule that is made anew with a counter at zero', () => {
    const counts = new RefusedCounts();
    counts.look([count(500)]);
    counts.look([count(510)]);
    assert.deepEqual(missed(counts), [['shop/db', 10]]);
    counts.look([count(3)]);
    assert.deepEqual(missed(counts), [['shop/db', 3]]);
    counts.look([]);
    counts.look([count(4)]);
    assert.deepEqual(missed(counts), [['shop/db', 4]], 'gone for a while');
  });

  it('begin at zero for a pod that comes later, and are kept apart by pod and direction', () => {
    const counts = new RefusedCounts();
    counts.look([count(7)]);
    counts.look([count(7), count(5, 'shop/new'), { ...count(2, 'shop/new'), direction: 'egress' }]);
    assert.deepEqual(
      [...counts.takeMissed()],
      [
        { direction: 'ingress', pod: 'shop/new', count: 5 },
        { direction: 'egress', pod: 'shop/new', count: 2 },
      ],
    );
  });
});
