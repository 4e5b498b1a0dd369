/**
 * Evaluator against kernel, on clusters and policies drawn at random: real agents on two nodes, real packets between their pods.
 * docs/testing.md says how to run more of it, and what it covers.
 */
import assert from 'node:assert/strict';
import type { Address } from '../../src/policy/address.ts';
import { MODE_ANNOTATION } from '../../src/policy/mode.ts';
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
/** Every so many clusters are probed once more while some of their namespaces are audited. */
const AUDIT_EVERY = 4;

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
    /** Probes that only passed because a namespace was audited. */
    let letThrough = 0;
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

    /** What the pods of some namespaces refuse is let through, and nothing else; once it is over all is as before. */
    const checkAudited = async (seed: number, objects: readonly ApiObject[]): Promise<void> => {
      const names = objects.flatMap(({ kind, metadata }) => (kind === 'Namespace' ? [metadata.name] : []));
      const audited = new Set(new Dice(seed).some(names, 50));
      const annotated = objects.map((object) =>
        object.kind === 'Namespace' && audited.has(object.metadata.name)
          ? { ...object, metadata: { ...object.metadata, annotations: { [MODE_ANNOTATION]: 'audit' } } }
          : object,
      );
      lab.write(annotated);
      const state = `with ${[...audited].join(' and ') || 'no namespace'} audited`;
      const drawn = drawProbes(seed, objects, undefined);
      await lab.inForce(`cluster ${seed}, ${state},`);
      const world = await lab.world();
      const isAudited = (address: Address): boolean => audited.has(world.podAt(address)?.namespace ?? '');
      const planned = drawn.map(({ probe, expectation, shows }) => {
        const { egress, ingress } = expectation;
        const leaves = egress.allowed || isAudited(probe.leaving.source);
        const arrives = ingress.allowed || isAudited(probe.arriving.destination);
        if (leaves && arrives && !expectation.allowed) letThrough++;
        return { probe, expectation: { ...expectation, allowed: leaves && arrives }, shows };
      });
      for (const [index, result] of (await lab.probe(planned)).entries()) {
        const { probe, expectation, shows } = planned[index] ?? assert.fail();
        if ((result.measured === 'allowed') === expectation.allowed) continue;
        mismatches.push(new Mismatch(seed, state, probe, expectation, result, annotated, shows));
      }
    };

    for (let seed = SEED; seed < SEED + CLUSTERS && mismatches.length === 0; seed++) {
      for (const cluster of drawClusters(seed)) {
        lab.write(cluster.objects);
        await check(seed, 'as drawn', cluster.objects, undefined);
        if (seed % AUDIT_EVERY === 1) await checkAudited(seed, cluster.objects);

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
    console.log(`${letThrough} probes let through by namespaces that were audited for a while`);
    console.log(shown.report());
    // Fewer cannot have shown everything.
    if (CLUSTERS >= SEEDS_FOR_ALL) {
      assert.deepEqual(shown.missing(), []);
      assert.ok(letThrough > 0);
    }
  });
});

function setting(name: string, usual: number): number {
  const text = process.env[name] ?? '';
  const value = text === '' ? usual : Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name} has to be a whole number, not ${text}`);
  return value;
}
