/** The benchmark of an agent that an API server feeds works: in its smallest form, of which the figures mean nothing. */
import assert from 'node:assert/strict';
import { measureApi, QUICK_API_PLAN } from '../../bench/api/api.ts';
import { measureExplain, QUICK_EXPLAIN_PLAN } from '../../bench/explain.ts';
import { thisMachine } from '../../bench/machine.ts';
import { report } from '../../bench/report.ts';
import { describeWithApi } from '../apiserver/support/describe-with-api.ts';

describeWithApi('the benchmark of the API source', function () {
  this.timeout(120_000);

  it('starts agents, changes policies, and lets them be', async () => {
    const api = await measureApi(QUICK_API_PLAN, () => undefined);
    assert.equal(api.starts.length, QUICK_API_PLAN.shapes.length);
    for (const { totalMs, stallMs, residentBytes } of api.starts.flat()) assert.ok(totalMs > 0 && stallMs > 0 && residentBytes > 20e6);
    assert.equal(api.latency.count, QUICK_API_PLAN.changes);
    assert.ok(api.rate.alonePerSecond > 0 && api.rate.perSecond > 0);
    assert.equal(api.recorded.events, QUICK_API_PLAN.recordedPerSecond * QUICK_API_PLAN.seconds);
    assert.equal(api.statusUpdates.commits, 0);
    assert.match(report({ machine: thisMachine(), startedAt: '', quick: true, api }), /### Fed by an API server/);
  });

  it('explains a flow, whatever the objects are from', async () => {
    const explain = await measureExplain(QUICK_EXPLAIN_PLAN, () => undefined);
    assert.equal(explain.cases.length, 3);
    assert.ok(explain.cases.every(({ ms }) => ms.median > 0));
    assert.match(report({ machine: thisMachine(), startedAt: '', quick: true, explain }), /sluice explain/);
  });
});
