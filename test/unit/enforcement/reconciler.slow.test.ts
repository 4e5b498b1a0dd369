import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../../../src/cluster/cluster.ts';
import type { FlowSweep, SweepResult } from '../../../src/enforcement/conntrack/flow-sweep.ts';
import type { CommitReport, Enforcement } from '../../../src/enforcement/enforcement.ts';
import { Reconciler } from '../../../src/enforcement/reconciler.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { upsertOf } from '../../random/events.ts';

const POD = upsertOf({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'a', namespace: 'x' },
  spec: { nodeName: 'n', containers: [] },
  status: { podIPs: [{ ip: '10.244.1.2' }] },
});
const SYNCED: SourceEvent = { type: 'synced' };

function policy(name: string): SourceEvent {
  return upsertOf({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'x' },
    spec: { podSelector: {} },
  });
}

/** A backend that says what it was asked, and fails when told to. */
class FakeEnforcement implements Enforcement {
  readonly calls: string[] = [];
  failures = 0;
  slow = false;

  async synchronize(): Promise<CommitReport> {
    this.calls.push('synchronize');
    if (this.failures-- > 0) throw new Error('no');
    if (this.slow) await sleep(20);
    return { operations: 1, durationMs: 0 };
  }

  commit(): CommitReport {
    this.calls.push('commit');
    if (this.failures-- > 0) throw new Error('no');
    return { operations: 1, durationMs: 0 };
  }

  close(): void {}
}

class Bench {
  readonly enforcement = new FakeEnforcement();
  readonly seen: string[] = [];
  sweepFails = 0;
  /** How long a look at live flows takes. */
  sweepMs = 0;
  readonly reconciler: Reconciler;

  constructor() {
    const cluster = new Cluster('n');
    const look = (what: string): SweepResult => {
      if (this.sweepFails-- > 0) throw new Error('no conntrack');
      for (const until = performance.now() + this.sweepMs; performance.now() < until; );
      this.seen.push(what);
      return { judged: 0, cut: 0, restored: 0, failures: [] };
    };
    const sweep = {
      mayHaveCut: false,
      sweep: (addresses: ReadonlySet<unknown>): SweepResult => look(`sweep ${addresses.size}`),
      sweepAll: async (): Promise<SweepResult> => {
        await new Promise(setImmediate);
        return look('sweep all');
      },
    } as unknown as FlowSweep;
    this.reconciler = new Reconciler({
      cluster,
      ruleset: new NodeRuleset(cluster),
      enforcement: this.enforcement,
      sweep,
      observer: {
        committed: ({ cause }) => this.seen.push(`committed ${cause}`),
        failed: () => this.seen.push('failed'),
        swept: () => undefined,
        sweepFailed: (_, retryMs) => this.seen.push(`sweep failed, again in ${retryMs}`),
      },
    });
  }

  async until(condition: () => boolean): Promise<void> {
    for (const deadline = Date.now() + 10_000; !condition(); await sleep(5))
      assert.ok(Date.now() < deadline, `waited in vain; seen: ${this.seen.join(', ')}`);
  }
}

describe('reconciler', () => {
  let bench: Bench;
  beforeEach(() => {
    bench = new Bench();
  });
  afterEach(() => bench.reconciler.stop());

  it('commits nothing before the source is synced, and compares everything then', async () => {
    bench.reconciler.push([POD, policy('p')]);
    assert.deepEqual(bench.enforcement.calls, []);
    bench.reconciler.push([SYNCED]);
    await bench.reconciler.idle();
    assert.deepEqual(bench.enforcement.calls, ['synchronize']);
    assert.ok(bench.reconciler.settled);
  });

  it('has committed a small change when it returns', async () => {
    bench.reconciler.push([POD, SYNCED]);
    await bench.reconciler.idle();
    bench.reconciler.push([policy('p')]);
    assert.deepEqual(bench.enforcement.calls, ['synchronize', 'commit']);
    bench.reconciler.push([policy('q')]);
    assert.equal(bench.enforcement.calls.length, 3);
  });

  it('makes no commit of what changes nothing', async () => {
    bench.reconciler.push([POD, policy('p'), SYNCED]);
    await bench.reconciler.idle();
    bench.reconciler.push([POD, policy('p')]);
    assert.deepEqual(bench.enforcement.calls, ['synchronize']);
  });

  it('takes what arrives during a commit together into the next', async () => {
    bench.enforcement.slow = true;
    bench.reconciler.push([POD, SYNCED]);
    bench.reconciler.push([policy('p')]);
    bench.reconciler.push([policy('q')]);
    await bench.reconciler.idle();
    assert.deepEqual(bench.enforcement.calls, ['synchronize', 'commit']);
  });

  it('compares everything after a failure, until it succeeds', async () => {
    bench.reconciler.push([POD, SYNCED]);
    await bench.reconciler.idle();
    bench.enforcement.failures = 3;
    bench.reconciler.push([policy('p')]);
    await bench.reconciler.idle();
    assert.deepEqual(bench.enforcement.calls, ['synchronize', 'commit', 'synchronize', 'synchronize', 'synchronize']);
    assert.deepEqual(
      bench.seen.filter((what) => what.startsWith('committed')),
      ['committed start', 'committed retry'],
    );
  });

  it('judges flows before anybody hears of the commit, and again shortly after', async () => {
    bench.reconciler.push([POD, SYNCED]);
    await bench.reconciler.idle();
    await bench.until(() => bench.seen.length === 3);
    bench.seen.length = 0;
    bench.reconciler.push([policy('p')]);
    assert.deepEqual(bench.seen, ['sweep 1', 'committed change']);
    await bench.until(() => bench.seen.length === 3);
    assert.equal(bench.seen[2], 'sweep 1');
  });

  it('judges the flows of many commits together, so that these do not wait for it', async () => {
    bench.reconciler.push([POD, SYNCED]);
    await bench.until(() => bench.seen.length === 3);
    bench.seen.length = 0;
    bench.sweepMs = 600;
    for (let count = 0; count < 10; count++) bench.reconciler.push([policy(`p${count}`)]);
    // The first at once, which is more than the share of a second; the others are in force, and wait for the next.
    const commits = Array.from({ length: 9 }, () => 'committed change');
    assert.deepEqual(bench.seen, ['sweep 1', 'committed change', ...commits]);
    bench.sweepMs = 0;
    // Nothing is said to be in force before its flows have been judged.
    await bench.reconciler.idle();
    assert.deepEqual(bench.seen.slice(11), ['sweep 1']);
  });

  it('judges flows at once after each of a few commits in a row', async () => {
    bench.reconciler.push([POD, SYNCED]);
    await bench.reconciler.idle();
    bench.seen.length = 0;
    bench.sweepMs = 10;
    for (let count = 0; count < 5; count++) bench.reconciler.push([policy(`p${count}`)]);
    assert.deepEqual(bench.seen, Array.from({ length: 5 }, () => ['sweep 1', 'committed change']).flat());
  });

  it('judges all flows again, ever less often, while that fails', async () => {
    bench.sweepFails = 3;
    bench.reconciler.push([POD, SYNCED]);
    await bench.until(() => bench.seen.includes('sweep all'));
    assert.deepEqual(
      bench.seen.filter((what) => what.startsWith('sweep')),
      ['sweep failed, again in 100', 'sweep failed, again in 200', 'sweep failed, again in 400', 'sweep all'],
    );
  });

  it('compares once more when somebody changes something during a comparison', async () => {
    bench.enforcement.slow = true;
    bench.reconciler.push([POD, SYNCED]);
    bench.reconciler.drifted();
    await bench.reconciler.idle();
    assert.deepEqual(bench.enforcement.calls, ['synchronize', 'synchronize']);
  });
});
