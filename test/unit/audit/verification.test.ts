import assert from 'node:assert/strict';
import type { Difference } from '../../../src/audit/table-comparison.ts';
import { type Comparison, verify, type Verification } from '../../../src/audit/verification.ts';

/** A set with elements that the kernel has too many. */
function extra(...texts: readonly string[]): Difference[] {
  if (texts.length === 0) return [];
  return [{ object: 'set', name: 's', kernel: 'different', lines: texts.map((text) => ({ side: 'kernel', text })) }];
}

/** `at` says what differs at which time (ms); reading the cluster takes `clusterMs`. */
async function run(
  at: (ms: number) => { readonly differences: readonly Difference[]; readonly generation?: number },
  { settleMs = 5_000, clusterMs = 20 } = {},
): Promise<Verification & { readonly endedAt: number }> {
  let now = 0;
  const clock = {
    now: () => now,
    sleep: (ms: number) => {
      now += ms;
      return Promise.resolve();
    },
  };
  const compare = (): Comparison => {
    const { differences, generation = 1 } = at(now);
    now += 1;
    return { differences, generation };
  };
  const verification = await verify({
    readCluster: () => {
      now += clusterMs;
      return Promise.resolve(compare);
    },
    settleMs,
    clock,
  });
  return { ...verification, endedAt: now };
}

describe('looking for what differs all the time', () => {
  it('looks once where nothing differs', async () => {
    const { differences, looks, passing } = await run(() => ({ differences: [] }));
    assert.deepEqual({ differences, looks, passing }, { differences: [], looks: { cluster: 1, kernel: 1 }, passing: 0 });
  });

  it('says of what stays that it differs, after a second in which nothing moved, and two looks at the cluster', async () => {
    const { differences, looks, endedAt } = await run(() => ({ differences: extra('10.0.0.1') }));
    assert.deepEqual(differences, extra('10.0.0.1'));
    assert.ok(looks.cluster >= 2 && looks.kernel > 10, JSON.stringify(looks));
    assert.ok(endedAt >= 1_000 && endedAt < 3_000, `${endedAt} ms`);
  });

  it('forgets what goes away, and ends as soon as nothing is left', async () => {
    const { differences, passing, endedAt } = await run((ms) => ({ differences: ms < 300 ? extra('10.0.0.1') : [] }));
    assert.deepEqual([differences, passing], [[], 1]);
    assert.ok(endedAt < 500, `${endedAt} ms`);
  });

  it('does not believe in what comes and goes, nor in what comes later', async () => {
    const { differences, passing } = await run((ms) => ({
      differences: Math.trunc(ms / 70) % 2 === 0 ? extra('10.0.0.1') : extra('10.0.0.2'),
    }));
    assert.deepEqual([differences, passing], [[], 2]);
  });

  it('finds one element of a set that changes all the time, and says it alone', async () => {
    const { differences, passing, looks } = await run((ms) => ({
      differences: extra('10.6.6.6', `10.0.0.${Math.trunc(ms / 40) % 200}`),
      generation: ms,
    }));
    assert.deepEqual(differences, extra('10.6.6.6'));
    assert.ok(passing > 20 && looks.cluster > 2, JSON.stringify({ passing, looks }));
  });

  it('looks longer while somebody commits, and no longer than it may', async () => {
    const { differences, endedAt } = await run((ms) => ({ differences: extra('10.0.0.1'), generation: ms }));
    assert.deepEqual(differences, extra('10.0.0.1'));
    assert.ok(endedAt >= 5_000 && endedAt < 5_200, `${endedAt} ms`);
  });

  it('looks once where it may not wait', async () => {
    const { differences, looks } = await run(() => ({ differences: extra('10.0.0.1') }), { settleMs: 0 });
    assert.deepEqual([differences, looks], [extra('10.0.0.1'), { cluster: 1, kernel: 1 }]);
  });

  it('counts equal lines: one of two that goes away is one that goes away', async () => {
    const { differences } = await run((ms) => ({ differences: ms < 300 ? extra('accept', 'accept') : extra('accept') }));
    assert.deepEqual(differences, extra('accept'));
  });

  it('drops an object that was missing at first, and keeps of it what still is', async () => {
    const chain = (kernel: Difference['kernel'], ...texts: readonly string[]): Difference[] => [
      { object: 'chain', name: 'c', kernel, lines: texts.map((text) => ({ side: 'desired', text })) },
    ];
    const { differences } = await run((ms) => ({ differences: ms < 300 ? chain('missing', 'a', 'b') : chain('different', 'b') }));
    assert.deepEqual(differences, chain('different', 'b'));
  });
});
