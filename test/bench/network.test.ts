/** The benchmarks of the pod network work: in their smallest form, of which the figures mean nothing. */
import assert from 'node:assert/strict';
import { thisMachine } from '../../bench/machine.ts';
import { measureNetwork, QUICK_NETWORK_PLAN } from '../../bench/network/network.ts';
import { measureThroughput, QUICK_THROUGHPUT_PLAN, type ThroughputResult, withinNoise } from '../../bench/network/throughput.ts';
import { report, targets } from '../../bench/report.ts';
import { describeWithApi } from '../apiserver/support/describe-with-api.ts';
import { BASELINE } from '../apiserver/network/support/daemons.ts';
import { findFlanneld } from '../apiserver/network/support/describe-with-flanneld.ts';

const RUN = { machine: thisMachine(), startedAt: '', quick: true };

describeWithApi('the benchmarks of the pod network', function () {
  this.timeout(120_000);

  it('starts every daemon beside others’ leases, and says what it left out', async () => {
    const network = await measureNetwork({ ...QUICK_NETWORK_PLAN, starts: 2 }, () => undefined);
    assert.deepEqual(
      network.daemons.map(({ daemon }) => daemon),
      network.missing === undefined ? ['sluice', 'flanneld'] : ['sluice'],
    );
    for (const { startsMs, join, residentBytes } of network.daemons) {
      assert.ok(startsMs.length === 2 && startsMs.every((ms) => ms > 0));
      assert.equal(join.count, QUICK_NETWORK_PLAN.joins);
      assert.ok(residentBytes > 10e6);
    }
    assert.match(report({ ...RUN, network }), /### The network of a node with 50 peers/);
  });

  it('gets streams and requests through the vxlan of every daemon, and says what it left out', async function () {
    if (BASELINE) this.skip();
    const throughput = await measureThroughput(QUICK_THROUGHPUT_PLAN, () => undefined);
    const { variants, missing } = throughput;
    assert.equal(missing === undefined, findFlanneld() !== undefined);
    assert.equal(variants.length, missing === undefined ? 4 : 2);
    for (const { name, bulk, requests } of variants) {
      for (const { perSecond, ratio } of [bulk, requests]) {
        assert.ok(perSecond.median > 0, name);
        assert.equal(ratio !== undefined && ratio.median > 0, missing === undefined, name);
      }
    }
    assert.match(report({ ...RUN, throughput }), /### Through the overlay\n\n.*\n.*\n(.*\n)*\| Sluice /);
    assert.equal(targets({ ...RUN, throughput }).length, missing === undefined ? 1 : 0);
  });
});

describe('the target of the vxlan benchmark', () => {
  it('takes a ratio for noise that is around 1, or hardly less', () => {
    assert.ok(withinNoise({ median: 0.9, low: 0.8, high: 1 }));
    assert.ok(withinNoise({ median: 0.97, low: 0.96, high: 0.98 }));
    assert.ok(withinNoise({ median: 1.2, low: 1.1, high: 1.3 }));
    assert.ok(!withinNoise({ median: 0.96, low: 0.95, high: 0.99 }));
  });

  it('is met where both the stream and the requests are', () => {
    const same = { median: 1, low: 1, high: 1 };
    const figures = (ratio: number) => ({ perSecond: same, ratio: { median: ratio, low: ratio, high: ratio } });
    const of = (bulk: number, requests: number): ThroughputResult => ({
      variants: [{ name: 'Sluice', bulk: figures(bulk), requests: figures(requests) }],
      missing: undefined,
    });
    const met = (throughput: ThroughputResult) => targets({ ...RUN, throughput }).map(({ measured, met }) => [measured, met]);
    assert.deepEqual(met(of(1, 0.98)), [['1.000 / 0.980', true]]);
    assert.deepEqual(met(of(1, 0.96)), [['1.000 / 0.960', false]]);
    assert.deepEqual(met(of(0.5, 1)), [['0.500 / 1.000', false]]);
  });
});
