/**
 * What `sluice diff` says would change, against packets: every pair is probed before a change of policies and after it, and what has
 * turned is what was said to turn, no more and no less.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Applied, apply, readChange, remove } from '../../src/audit/difference-objects.ts';
import { type Comparison, differenceOf } from '../../src/audit/difference.ts';
import { formatAddress } from '../../src/policy/address.ts';
import { DiffDocument } from '../../src/commands/diff-document.ts';
import { Equivalence } from '../../src/policy/equivalence.ts';
import { worldOf } from '../../src/policy/world.ts';
import { type DirectoryContents, loadDirectory } from '../../src/sources/load-directory.ts';
import { type ApiObject, Dice, LABELS, NAMESPACES } from '../random/cluster.ts';
import { EnforcedLab } from '../random/enforced-lab.ts';
import { LabCluster, manifestOf, objectName } from '../random/lab-cluster.ts';
import { expectationOf, type Probe, PROBES } from '../random/probes.ts';
import { isAbout } from './support/said-to-turn.ts';

const CLUSTERS = Number(process.env['SLUICE_RANDOM_CLUSTERS'] ?? '6');
const SEED = Number(process.env['SLUICE_RANDOM_SEED'] ?? String(Math.floor(Date.now() / 1000) % 1_000_000_000));
const DIRECT = PROBES.filter(({ through, via }) => through === 'directly' && via === undefined);

/** What is done to the policies of a cluster. */
interface Plan {
  readonly how: 'apply' | 'delete';
  readonly objects: readonly ApiObject[];
}

function planOf(cluster: LabCluster, seed: number): Plan {
  const dice = new Dice(seed);
  const policies = cluster.objects.filter(({ kind }) => kind === 'NetworkPolicy');
  if (seed % 3 === 0) return { how: 'delete', objects: dice.shuffle(policies).slice(0, 2) };
  const drawn = new LabCluster(seed + 7_000_000).objects.filter(({ kind }) => kind === 'NetworkPolicy').slice(0, 3);
  // Of one of them the name is taken, so that it is replaced.
  const objects = drawn.map((policy, index): ApiObject => {
    const victim = index === 0 ? policies[0] : undefined;
    return victim === undefined ? policy : { ...policy, metadata: { ...policy.metadata, ...victim.metadata } };
  });
  if (seed % 3 === 1) return { how: 'apply', objects };
  // Labels of namespaces and pods change with them.
  const namespace = cluster.objects.find(({ kind, metadata }) => kind === 'Namespace' && metadata.name === dice.pick(NAMESPACES));
  const pod = dice.pick(cluster.objects.filter(({ kind }) => kind === 'Pod'));
  const relabelled = (object: ApiObject, labels: unknown): ApiObject => ({ ...object, metadata: { ...object.metadata, labels } });
  return {
    how: 'apply',
    objects: [
      ...objects,
      ...(namespace === undefined ? [] : [relabelled(namespace, { team: dice.pick(['red', 'green']), env: 'dev' })]),
      relabelled(pod, { app: dice.pick(LABELS['app'] ?? []), tier: '' }),
    ],
  };
}

/** As the command puts it together. */
function comparisonOf(contents: DirectoryContents, { objects, onlyPolicies }: Applied): Comparison {
  return {
    before: new Equivalence(worldOf(contents), contents.pods),
    after: new Equivalence(worldOf(objects), objects.pods),
    pods: objects.pods,
    nodes: objects.nodes,
    onlyPolicies,
  };
}

function textOf({ from, to, family, protocol, port, leaving }: Probe): string {
  return `${from} (${formatAddress(leaving.source)}) to ${to} (${formatAddress(leaving.destination)}) IPv${family} ${port}/${protocol}`;
}

describe('A difference', function () {
  this.timeout(120_000 + CLUSTERS * 20_000);
  let lab: EnforcedLab;
  let files: string;

  before(async () => {
    lab = await EnforcedLab.create();
    files = mkdtempSync(join(tmpdir(), 'sluice-diff-'));
  });

  after(async () => {
    await lab.close();
    rmSync(files, { recursive: true, force: true });
  });

  // First: what others probe leaves flows behind.
  it('has the live flows of the node at hand that a change then cuts', async () => {
    const { pods, policies } = quietCluster();
    lab.write(pods);
    await lab.inForce('a cluster without policies');
    const probe = { family: 4, port: 80, protocol: 'TCP' } as const;
    const doomed = await lab.lab.openFlow({ ...probe, from: 'slot/a2', to: 'slot/a3' });
    const spared = await lab.lab.openFlow({ ...probe, from: 'slot/a4', to: 'slot/a3' });
    const directory = join(files, 'live');
    mkdirSync(directory);
    for (const object of pods) writeFileSync(join(directory, `${objectName(object)}.yaml`), manifestOf(object));
    const file = join(files, 'live-policies.yaml');
    writeFileSync(file, policies.map(manifestOf).join('---\n'));
    const program = join(import.meta.dirname, '../../bin/sluice.js');
    const ask = async (...more: readonly string[]): Promise<DiffDocument> => {
      const argv = [process.execPath, program, 'diff', '--source', directory, '-f', file, '--node', 'node-a', '-o', 'json', ...more];
      return DiffDocument.parse(JSON.parse((await lab.lab.exec('node/node-a', argv)).stdout));
    };
    const { flows } = await ask();
    assert.deepEqual(flows?.cut, [{ source: 'x/a2 (10.244.1.2)', destination: 'x/a3 (10.244.1.3)', protocol: 'TCP', port: 80 }]);
    assert.deepEqual(flows.restored, []);

    lab.write([...pods, ...policies]);
    await lab.inForce('the policies');
    assert.equal(await doomed.fallsSilent(500, 20_000), true);
    assert.equal(await doomed.delivers('client', 500), false);
    assert.equal(await spared.delivers('client', 20_000), true);

    for (const object of policies) writeFileSync(join(directory, `${objectName(object)}.yaml`), manifestOf(object));
    const back = (await ask('--delete')).flows;
    assert.deepEqual(back?.restored, [{ source: 'x/a2 (10.244.1.2)', destination: 'x/a3 (10.244.1.3)', protocol: 'TCP', port: 80 }]);
    lab.write(pods);
    await lab.inForce('no policy again');
    assert.equal(await doomed.delivers('client', 20_000), true);
  });

  it(`is what packets show before and after: ${CLUSTERS} clusters from seed ${SEED}`, async () => {
    let [probed, turned, becameDenied] = [0, 0, 0];
    for (let seed = SEED; seed < SEED + CLUSTERS; seed++) {
      const cluster = new LabCluster(seed);
      const plan = planOf(cluster, seed);
      const file = join(files, `${seed}.yaml`);
      writeFileSync(file, plan.objects.map(manifestOf).join('---\n'));
      const objects = cluster.objects;
      const directory = join(files, String(seed));
      mkdirSync(directory);
      for (const object of objects) writeFileSync(join(directory, `${objectName(object)}.yaml`), manifestOf(object));

      lab.write(objects);
      await lab.inForce(`cluster ${seed}`);
      const contents = await loadDirectory(directory);
      // What is in a directory may be what no API would take; what is applied is read by the same rules.
      const written = readChange([file], 'default', () => assert.fail());
      const applied = plan.how === 'apply' ? apply(contents, written.objects) : remove(contents, written.objects);
      const comparison = comparisonOf(contents, applied);
      const { changes } = differenceOf(comparison);
      const before = await measure(lab, comparison.before.world);

      const names = new Set(plan.objects.map(objectName));
      const kept = objects.filter((object) => !names.has(objectName(object)));
      lab.write(plan.how === 'apply' ? [...kept, ...plan.objects] : kept);
      await lab.inForce(`cluster ${seed}, after its change`);
      const after = await measure(lab, comparison.after.world);

      for (const [index, probe] of DIRECT.entries()) {
        const [was, is] = [before[index], after[index]];
        const said = changes.filter((change) =>
          isAbout(comparison, change, { ...probe.leaving, protocol: probe.protocol, port: probe.port }),
        );
        const measured = was === is ? [] : [is ? 'allowed' : 'denied'];
        assert.deepEqual([...new Set(said.map(({ becomes }) => becomes))], measured, `cluster ${seed}: ${textOf(probe)}`);
        probed++;
        if (was !== is) turned++;
        if (was === true && is === false) becameDenied++;
      }
    }
    console.log(`\n${probed} pairs and ports before and after a change: ${turned} turned, ${becameDenied} of them to denied`);
    if (CLUSTERS > 1) assert.ok(turned > 0);
  });
});

/** Three pods of one node; the policies let one of the others reach the third, and not the other. */
function quietCluster(): { readonly pods: readonly ApiObject[]; readonly policies: readonly ApiObject[] } {
  const pod = (name: string, ip: string): ApiObject => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'x', name, uid: name, labels: { app: name } },
    spec: { nodeName: 'node-a', containers: [{ name: 'main' }] },
    status: { phase: 'Running', podIPs: [{ ip }] },
  });
  const policy: ApiObject = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: 'x', name: 'only-a4' },
    spec: {
      podSelector: { matchLabels: { app: 'a3' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: 'a4' } } }] }],
    },
  };
  return { pods: [pod('a2', '10.244.1.2'), pod('a3', '10.244.1.3'), pod('a4', '10.244.1.4')], policies: [policy] };
}

/** Of every probe whether it got through. What is expected only says how long silence is listened to. */
async function measure(lab: EnforcedLab, world: Comparison['before']['world']): Promise<boolean[]> {
  const results = await lab.probe(DIRECT.map((probe) => ({ probe, expectation: expectationOf(world, probe) })));
  return results.map(({ measured }) => measured === 'allowed');
}
