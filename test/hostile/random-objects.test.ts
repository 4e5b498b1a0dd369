/**
 * Objects that are drawn from seeds along every field that can be long, deep, wide, many or odd, put into a real API server beside a bystander.
 *
 *     SLUICE_HOSTILE_SEED=7004 SLUICE_HOSTILE_OBJECTS=1 node test/runner/run.ts test/hostile/random-objects.test.ts      that one again
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { applyRoles } from '../../src/lab/api/manifests.ts';
import { KINDS, type ObjectKind } from '../../src/kubernetes/projections.ts';
import { WATCHED } from '../../src/sources/kubernetes.ts';
import { describeWithApi } from '../apiserver/support/describe-with-api.ts';
import { PROGRAM } from '../kernel/support/agent-process.ts';
import type { ApiObject } from '../random/cluster.ts';
import { drawHostile, type HostileObject } from './generator/draw.ts';
import { HostileLab, NODE } from './support/hostile-lab.ts';
import { create, refusalOf, remove } from './support/hostile-objects.ts';
import { size } from './support/hostile-size.ts';

const OBJECTS = Number(process.env['SLUICE_HOSTILE_OBJECTS'] ?? size(20, 500));
const FIRST_SEED = Number(process.env['SLUICE_HOSTILE_SEED'] ?? (Date.now() % 1_000_000) * 1_000);
/** So many are there at the same time. */
const AT_ONCE = 5;
/** Packets are sent, and the kernel's table is verified, each time so many have come and gone. */
const CHECKED_EVERY = 20;
/** A generator whose objects are mostly refused proves little. */
const REFUSED_SHARE = 0.05;

describeWithApi('drawn hostile objects', function () {
  this.timeout(60_000 + OBJECTS * 10_000);
  let state: string;
  let api: ApiServer;
  let lab: HostileLab;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
    await applyRoles(api.admin);
    lab = await HostileLab.create({ api });
    if (lab.withoutCgroup !== undefined) console.log(`      without a cgroup, which cannot be made here: ${lab.withoutCgroup}`);
  });

  after(async () => {
    await lab?.close();
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  /** Everything that is in the API server. */
  async function objects(): Promise<readonly ApiObject[]> {
    const found: ApiObject[] = [];
    for (const [kind, path] of Object.entries(WATCHED) as [ObjectKind, string][]) {
      const { object } = await api.admin.call({ method: 'GET', path });
      const { items } = object as { items: Omit<ApiObject, 'kind' | 'apiVersion'>[] };
      found.push(...items.map((item) => ({ ...item, kind, apiVersion: KINDS[kind].apiVersion }) as ApiObject));
    }
    return found;
  }

  /** Packets go as the evaluator says, and every rule of the kernel is as it should be. */
  async function check(): Promise<void> {
    await lab.quiet();
    await lab.expectAsEvaluated(await objects());
    const argv = [process.execPath, PROGRAM, 'verify', '--kubeconfig', api.kubeconfig('admin'), '--node', NODE];
    const { status, stdout, stderr } = await lab.cluster.lab.exec(`node/${NODE}`, argv, { check: false });
    assert.equal(status, 0, `${stdout}${stderr}`.slice(0, 4_000));
    lab.bystander.goOn();
  }

  it(`${OBJECTS} of them harm nobody, whatever they are`, async () => {
    console.log(`      ${OBJECTS} objects from seed ${FIRST_SEED}`);
    const place = { namespace: 'tenant', node: NODE, otherNode: 'n2', podLabels: { app: 'pod' } };
    const there: HostileObject[] = [];
    const refused: string[] = [];
    const drawn = new Map<string, number>();
    const played: { readonly at: number; readonly hostile: HostileObject }[] = [];
    await lab.begin();
    try {
      await play();
    } finally {
      for (const line of slowest(played)) console.log(`      ${line}`);
    }

    async function play(): Promise<void> {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + OBJECTS; seed++) {
        const hostile = drawHostile(seed, place);
        const said = (await refusalOf(api.admin, hostile)) ?? (await create(api.admin, hostile));
        if (said === undefined) for (const field of hostile.fields) drawn.set(field, (drawn.get(field) ?? 0) + 1);
        else refused.push(`${describeSeed(hostile)}: ${said.slice(0, 300)}`);
        played.push({ at: performance.timeOrigin + performance.now(), hostile });
        there.push(hostile);
        if (there.length > AT_ONCE) await remove(api.admin, there.shift() ?? hostile);
        if (played.length % CHECKED_EVERY === 0) await checked(there);
      }
      await checked(there);
      for (const hostile of there) await remove(api.admin, hostile);
      await check();
    }
    const fields = [...drawn].sort(([, a], [, b]) => b - a).map(([field, count]) => `${count} ${field}`);
    console.log(`      ${refused.length} of ${OBJECTS} refused by the API server; fields: ${fields.join(', ')}`);
    for (const each of refused) console.log(`      refused: ${each}`);
    console.log(`      ${lab.assertUnharmed()}`);
    assert.ok(refused.length <= Math.ceil(OBJECTS * REFUSED_SHARE), refused.join('\n'));
    // What is wrong with an object is said of it; anything else is the agent's own.
    const errors = lab.agent.log().filter(({ level, object }) => level === 'error' && object === undefined);
    assert.deepEqual(errors, []);
  });

  async function checked(there: readonly HostileObject[]): Promise<void> {
    try {
      await check();
    } catch (error) {
      throw new Error(`with ${there.map(describeSeed).join('; ')}`, { cause: error });
    }
  }

  /** The changes of the bystander that took longest, and what had just come. */
  function slowest(played: readonly { readonly at: number; readonly hostile: HostileObject }[]): string[] {
    return lab.bystander.samples
      .filter(({ kind, ms }) => kind === 'change' && ms > 200)
      .sort((a, b) => b.ms - a.ms)
      .slice(0, 12)
      .map(
        ({ ms, at }) =>
          `${Math.round(ms)} ms beside ${played
            .filter((each) => Math.abs(each.at - at) < 3_000)
            .map(({ hostile }) => describeSeed(hostile))
            .join('; ')}`,
      );
  }
});

function describeSeed({ seed, object, fields, motion }: HostileObject): string {
  return `seed ${seed} (${object.kind} with ${fields.join(' and ')}${motion === undefined ? '' : `, ${motion}`})`;
}
