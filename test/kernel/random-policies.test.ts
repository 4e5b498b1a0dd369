/**
 * Evaluator against kernel, on clusters and policies drawn at random: real agents on two nodes, real packets between their pods.
 * docs/testing.md says how to run more of it, and what it covers.
 */
import assert from 'node:assert/strict';
import { Dice, NODES } from '../random/cluster.ts';
import { ShownRows } from '../random/coverage.ts';
import { drawChange, drawClusters, drawProbes, SEEDS_FOR_ALL } from '../random/draw.ts';
import { EnforcedLab } from '../random/enforced-lab.ts';
import type { ApiObject } from '../random/cluster.ts';
import { Mismatch } from '../random/mismatch.ts';
import { expectationOf } from '../random/probes.ts';

const CLUSTERS = setting('SLUICE_RANDOM_CLUSTERS', SEEDS_FOR_ALL);
const SEED = setting('SLUICE_RANDOM_SEED', Math.floor(Date.now() / 1000) % 1_000_000_000);
/** In every so many clusters one agent is killed, and finds the change when it starts again. */
const RESTART_EVERY = 8;

describe('Random policies', function () {
  this.timeout(60_000 + CLUSTERS * 5_000);
  let lab: EnforcedLab;

  before(async () => {
    lab = await EnforcedLab.create();
  });

  after(() => lab.close());

  it(`are enforced as the evaluator says: ${CLUSTERS} clusters from seed ${SEED}`, async () => {
    const shown = new ShownRows();
    const mismatches: Mismatch[] = [];
    let restarts = 0;
    const started = performance.now();

    const check = async (
      seed: number,
      state: string,
      objects: readonly ApiObject[],
      previous: readonly ApiObject[] | undefined,
    ): Promise<void> => {
      // While the agents take in what was written.
      const planned = drawProbes(seed, objects, previous);
      await lab.inForce(`cluster ${seed}, ${state},`);
      const world = await lab.world();
      for (const { probe, expectation } of planned) {
        const { allowed } = expectationOf(world, probe);
        assert.equal(allowed, expectation.allowed, `cluster ${seed}: the directory does not say what was drawn`);
      }
      const results = await lab.probe(planned);
      for (const [index, { probe, expectation, shows }] of planned.entries()) {
        const result = results[index];
        assert.ok(result !== undefined);
        const right = result.answeredBy === undefined || result.answeredBy === probe.to;
        if ((result.measured === 'allowed') === expectation.allowed && right) shown.count(probe, expectation, shows);
        else mismatches.push(new Mismatch(seed, state, probe, expectation, result, objects, shows));
      }
      shown.endState();
    };

    for (let seed = SEED; seed < SEED + CLUSTERS && mismatches.length === 0; seed++) {
      for (const cluster of drawClusters(seed)) {
        lab.write(cluster.objects);
        await check(seed, 'as drawn', cluster.objects, undefined);

        const previous = cluster.objects;
        const changes = drawChange(cluster, seed);
        const killed = seed % RESTART_EVERY === 3 ? new Dice(seed).pick(NODES) : undefined;
        if (killed !== undefined) await lab.kill(killed);
        lab.write(cluster.objects);
        if (killed !== undefined) lab.restart(killed);
        const how = killed === undefined ? '' : `, while the agent of ${killed} was dead`;
        await check(seed, `after: ${changes.join('; ')}${how}`, cluster.objects, previous);
        if (killed !== undefined) restarts++;
      }
      const done = seed - SEED + 1;
      if (done % 50 === 0) console.log(`  … ${done} of ${CLUSTERS} clusters, ${((performance.now() - started) / 1000).toFixed(0)} s`);
    }

    const seconds = (performance.now() - started) / 1000;
    console.log(
      `\n${CLUSTERS} clusters from seed ${SEED}, each before and after a change, ${restarts} agents killed and restarted, in ${seconds.toFixed(1)} s`,
    );
    if (mismatches.length > 0) assert.fail(Mismatch.describeAll(mismatches));
    console.log(shown.report());
    // Fewer cannot have shown everything.
    if (CLUSTERS >= SEEDS_FOR_ALL) assert.deepEqual(shown.missing(), []);
  });
});

function setting(name: string, usual: number): number {
  const text = process.env[name] ?? '';
  const value = text === '' ? usual : Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name} has to be a whole number, not ${text}`);
  return value;
}
