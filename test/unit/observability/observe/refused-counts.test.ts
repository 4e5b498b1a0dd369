import assert from 'node:assert/strict';
import { type RefusedCount, RefusedCounts } from '../../../../src/observability/observe/refused-counts.ts';

/** ms since the epoch. */
const NOW = Date.UTC(2026, 10, 21);
const count = (packets: number, pod = 'shop/db'): RefusedCount => ({
  chain: `ingress/${pod}`,
  direction: 'ingress',
  pod,
  packets,
  audited: false,
});
const missed = (counts: RefusedCounts): (readonly [string, number])[] =>
  [...counts.takeMissed()].map(({ pod, count: number }) => [pod, number]);

describe('refused packets that were not shown', () => {
  it('are what the counters have counted since the first look, less what was described', () => {
    const counts = new RefusedCounts();
    counts.look([count(1_000)], NOW);
    assert.deepEqual(missed(counts), []);
    for (let shown = 0; shown < 10; shown++) counts.described('ingress', 'shop/db', NOW);
    counts.look([count(1_300)], NOW);
    assert.deepEqual(missed(counts), [['shop/db', 290]]);
    assert.deepEqual(missed(counts), [], 'told once');
    counts.look([count(1_300)], NOW);
    assert.deepEqual(missed(counts), []);
  });

  it('are none where a packet is described before its counter is looked at', () => {
    const counts = new RefusedCounts();
    counts.look([count(0)], NOW);
    counts.described('ingress', 'shop/db', NOW);
    counts.look([count(0)], NOW);
    assert.deepEqual(missed(counts), []);
    counts.look([count(1)], NOW);
    assert.deepEqual(missed(counts), []);
    counts.look([count(2)], NOW);
    assert.deepEqual(missed(counts), [['shop/db', 1]]);
  });

  it('go on across a rule that is made anew with a counter at zero', () => {
    const counts = new RefusedCounts();
    counts.look([count(500)], NOW);
    counts.look([count(510)], NOW);
    assert.deepEqual(missed(counts), [['shop/db', 10]]);
    counts.look([count(3)], NOW);
    assert.deepEqual(missed(counts), [['shop/db', 3]]);
    counts.look([], NOW);
    counts.look([count(4)], NOW);
    assert.deepEqual(missed(counts), [['shop/db', 4]], 'gone for a while');
  });

  it('are those of the rule that lets them through and of the one that does not, however they compare', () => {
    const counts = new RefusedCounts();
    counts.look([count(5)], NOW);
    counts.look([{ ...count(100), audited: true }], NOW);
    assert.deepEqual(missed(counts), [['shop/db', 100]]);
    counts.look([count(300)], NOW);
    assert.deepEqual(missed(counts), [['shop/db', 300]]);
  });

  it('do not become fewer by packets that came before the first look and are described after it', () => {
    const counts = new RefusedCounts();
    counts.look([count(20)], NOW);
    for (let late = 0; late < 15; late++) counts.described('ingress', 'shop/db', NOW - 50);
    counts.look([count(30)], NOW + 1_000);
    assert.deepEqual(missed(counts), [['shop/db', 10]]);
  });

  it('begin at zero for a pod that comes later, and are kept apart by pod and direction', () => {
    const counts = new RefusedCounts();
    counts.look([count(7)], NOW);
    counts.look([count(7), count(5, 'shop/new'), { ...count(2, 'shop/new'), direction: 'egress' }], NOW);
    assert.deepEqual(
      [...counts.takeMissed()],
      [
        { direction: 'ingress', pod: 'shop/new', count: 5 },
        { direction: 'egress', pod: 'shop/new', count: 2 },
      ],
    );
  });
});
