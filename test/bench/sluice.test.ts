/** The benchmarks work: each part in its smallest form. What they measure here means nothing, so nothing is said of how much it is. */
import assert from 'node:assert/strict';
import { measureChanges, QUICK_CHANGES_PLAN } from '../../bench/changes/changes.ts';
import { CHANGES } from '../../bench/changes/protocol.ts';
import { measureColdStart, QUICK_COLD_START_PLAN } from '../../bench/cold-start/cold-start.ts';
import { measureForwarding } from '../../bench/forwarding/forwarding.ts';
import { BASELINE } from '../../bench/forwarding/variants.ts';
import { thisMachine } from '../../bench/machine.ts';
import { measureMatrix, QUICK_MATRIX_PLAN } from '../../bench/matrix.ts';
import { measureObserve, QUICK_OBSERVE_PLAN, STATES } from '../../bench/observe/observe.ts';
import { measureProgram, QUICK_PROGRAM_PLAN } from '../../bench/program.ts';
import { report, targets } from '../../bench/report.ts';
import { latency, quantile, spread } from '../../bench/statistics.ts';
import { proportionalShape } from '../../bench/synthetic-cluster.ts';

const silent = (): void => undefined;

describe('the benchmarks', () => {
  it('count connections that all come about, whatever is between the pods', async () => {
    const { variants, missing, loadUs } = await measureForwarding({ rounds: 1, sliceMs: 50, sluicePods: [40], iptablesPods: [10] }, silent);
    assert.equal(variants.length + missing.length, 6);
    for (const { name, failures, perSecond, perCpuSecond } of variants) {
      assert.equal(failures, 0, name);
      assert.ok(perSecond.median > 0 && perCpuSecond.median > 0, name);
    }
    assert.equal(variants.find(({ name }) => name === BASELINE)?.ratio.median, 1);
    assert.ok(loadUs > 0);
  });

  it('measure every kind of change, and each of them commits something', async () => {
    const shapes = [proportionalShape(100, 100), proportionalShape(400, 40)];
    const results = await measureChanges({ ...QUICK_CHANGES_PLAN, shapes, rounds: 1, events: 3 }, silent);
    assert.deepEqual(
      results.map(({ node }) => node.shape),
      shapes,
    );
    for (const { node, changes } of results) {
      assert.ok(node.isolatedPods > 0 && node.sets > 0);
      for (const kind of CHANGES) {
        const { total, compute, commit, operations } = changes[kind];
        assert.equal(total.count, 3, kind);
        assert.ok(operations > 0, kind);
        assert.ok(total.max >= compute.p50 && total.max >= commit.p50, kind);
      }
    }
  });

  it('start an agent from nothing', async () => {
    const shape = { pods: 400, namespaces: 20, policies: 40, localPods: 40 };
    const { starts, parsing } = await measureColdStart({ ...QUICK_COLD_START_PLAN, shape }, silent);
    assert.equal(starts.length, 1);
    const [start] = starts;
    assert.ok(start !== undefined && start.commitMs > 0 && start.totalMs > start.generationMs + start.commitMs);
    assert.ok(start.peakBytes > 20e6, 'a Node process takes more than that');
    assert.ok(parsing.yamlMs > parsing.jsonMs);
  });

  it('ask a matrix about every pod', () => {
    const { cases } = measureMatrix(QUICK_MATRIX_PLAN, silent);
    assert.equal(cases.length, 4);
    // A hundred pods, two ports each, two families, and as many more of them from outside.
    for (const { name, ms, flows } of cases) assert.ok(ms.median > 0 && flows >= 100 * 99 * 2 * 2, name);
  });

  it('observe a flood of refused connections, beside some that are allowed', async () => {
    const { states, shownPerSecond } = await measureObserve(QUICK_OBSERVE_PLAN, silent);
    assert.deepEqual(
      states.map(({ state }) => state),
      STATES,
    );
    for (const { state, perSecond, refusedPerSecond, failures } of states) {
      assert.equal(failures, 0, state);
      assert.ok(perSecond.median > 0);
      assert.equal(refusedPerSecond.median > 0, state !== 'nobody is refused');
    }
    assert.ok(shownPerSecond > 0);
  });

  it('report what was measured, and whether it is what was wanted', () => {
    const program = measureProgram({ ...QUICK_PROGRAM_PLAN, starts: 1, pods: 100, verdicts: 1000 }, silent);
    const result = { machine: thisMachine(), startedAt: '', quick: false, program };
    assert.match(report(result), /`sluice --version` +\| +≤ 150 ms/);
    const slow = { ...program, version: { median: 151, low: 0, high: 0 } };
    assert.deepEqual(
      targets({ ...result, program: slow }).map(({ met }) => met),
      [false],
    );
  });

  it('sum numbers up by quantiles', () => {
    assert.deepEqual(spread([4, 1, 3, 2]), { median: 2.5, low: 1.75, high: 3.25 });
    assert.equal(quantile([5], 0.99), 5);
    assert.deepEqual(latency([3, 1, 2]), { count: 3, p50: 2, p99: 2.98, max: 3 });
  });
});
