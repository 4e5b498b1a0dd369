/** What a tenant does through a real API server: policies that are large or wrong in many places, and changes as fast as the server takes them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { applyRoles } from '../../src/lab/api/manifests.ts';
import { describeWithApi } from '../apiserver/support/describe-with-api.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { podObject, policyObject } from '../kernel/support/objects.ts';
import { KubernetesSource } from '../../src/sources/kubernetes.ts';
import { HostileLab, NODE } from './support/hostile-lab.ts';
import { IS_ALL, size } from './support/hostile-size.ts';

const times = <T>(count: number, of: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => of(index));
const MERGE = 'application/merge-patch+json';
const PODS = '/api/v1/namespaces/tenant/pods';
const POLICIES = '/apis/networking.k8s.io/v1/namespaces/tenant/networkpolicies';
/** Requests at the same time. */
const WRITERS = 4;

describeWithApi('a tenant of an API server', function () {
  this.timeout(240_000);
  let state: string;
  let api: ApiServer;
  let lab: HostileLab;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
    await applyRoles(api.admin);
    lab = await HostileLab.create({ api });
  });
  after(async () => {
    await lab?.close();
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  async function settledAndUnharmed(what: string): Promise<void> {
    await lab.quiet();
    console.log(`      ${what}: ${lab.assertUnharmed()}`);
  }

  it('who writes a policy with 65,000 faults in 1.3 MB keeps nobody’s change out, nor an agent from starting', async () => {
    const except = times(65_000, () => '09.9.9.9/8');
    const poison = policyObject('tenant', 'faults', {
      podSelector: { matchLabels: { nobody: 'x' } },
      ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except } }] }],
    });
    await lab.begin();
    await api.admin.call({ method: 'POST', path: POLICIES, body: poison });
    await lab.changes(size(20, 100));
    await settledAndUnharmed('while it comes');
    await lab.restart();
    await settledAndUnharmed('while an agent starts');
    await lab.begin();
    await api.admin.call({ method: 'DELETE', path: `${POLICIES}/faults` });
    await lab.changes(10);
    await settledAndUnharmed('while it goes');
  });

  it('who writes a policy of 260 selectors times 260 named ports keeps no new pod of others open', async () => {
    const rule = {
      from: times(260, (i) => ({ podSelector: { matchLabels: { k: `v${i}` } } })),
      ports: times(260, (i) => ({ port: `p${i}` })),
    };
    await lab.begin();
    await api.admin.call({ method: 'POST', path: POLICIES, body: policyObject('tenant', 'rules', { ingress: [rule] }) });
    const pod = await lab.cluster.lab.addPod({ namespace: 'victim', name: 'new', node: NODE });
    await lab.changes(10);
    await lab.quiet();
    await lab.cluster.apply(podObject(pod, { labels: { app: 'server' } }));
    await lab.cluster.expectAll([
      ['denied', { from: 'victim/client', to: 'victim/new', port: 81 }],
      ['allowed', { from: 'victim/client', to: 'victim/new', protocols: ['TCP'] }],
      ['denied', { from: 'victim/client', to: 'tenant/pod' }],
    ]);
    assert.equal(lab.agent.status?.closedPolicyCount, 0);
    await settledAndUnharmed('while it is there');
    await api.admin.call({ method: 'DELETE', path: `${POLICIES}/rules` });
  });

  it('who annotates a policy makes no source read it again; its next spec is read, and another policy of its name', async () => {
    const read: string[] = [];
    const revisions: string[] = [];
    const source = new KubernetesSource({
      client: api.admin,
      observer: { failed: () => undefined, heard: () => undefined, listing: () => undefined, listed: () => undefined },
    });
    await source.start({
      events: (events) => read.push(...events.flatMap((event) => ('key' in event && event.key === 'tenant/same' ? event.type : []))),
      problems: () => undefined,
      revision: (revision) => revisions.push(revision),
    });
    const next = async (write: Parameters<typeof api.admin.call>[0]): Promise<readonly string[]> => {
      await eventually(() => revisions.length > 0, 'everything has been read');
      const [before] = [revisions.length, read.splice(0)];
      await api.admin.call(write);
      await eventually(() => revisions.length > before, 'the change has come');
      return read;
    };
    const path = `${POLICIES}/same`;
    const body = policyObject('tenant', 'same', { ingress: [] });
    await lab.bystander.rest();
    try {
      assert.deepEqual(await next({ method: 'POST', path: POLICIES, body }), ['upsert']);
      const annotated = { metadata: { annotations: { some: 'thing' } } };
      assert.deepEqual(await next({ method: 'PATCH', path, contentType: MERGE, body: annotated }), []);
      assert.deepEqual(await next({ method: 'PATCH', path, contentType: MERGE, body: { spec: { ingress: [{}] } } }), ['upsert']);
      assert.deepEqual(await next({ method: 'DELETE', path }), ['delete']);
      // Its first spec has the number that the other one's first had.
      assert.deepEqual(await next({ method: 'POST', path: POLICIES, body }), ['upsert']);
      assert.deepEqual(await next({ method: 'DELETE', path }), ['delete']);
    } finally {
      await source.stop();
      lab.bystander.goOn();
    }
  });

  it('who gives pods 20,000 labels of their own each fills no memory, and is told', async () => {
    const count = size(10, 100);
    const containers = [{ name: 'main', image: 'registry.invalid/none' }];
    await lab.begin();
    for (let pod = 0; pod < count; pod++) {
      const labels = Object.fromEntries(times(20_000, (label) => [`k${pod}-${label}`, `value-${label}`]));
      const body = { metadata: { name: `labels-${pod}`, labels }, spec: { nodeName: pod % 2 === 0 ? NODE : 'elsewhere', containers } };
      await api.admin.call({ method: 'POST', path: PODS, body });
      const status = { phase: 'Running', podIP: `10.245.2.${pod}`, podIPs: [{ ip: `10.245.2.${pod}` }] };
      await api.admin.call({ method: 'PATCH', path: `${PODS}/labels-${pod}/status`, contentType: MERGE, body: { status } });
    }
    await lab.changes(10);
    await settledAndUnharmed('while they come');
    assert.equal(lab.agent.status?.sourceProblems['Pod tenant/labels-0'], 1);
    await lab.restart();
    await settledAndUnharmed('while an agent starts');
    for (let pod = 0; pod < count; pod++) {
      await api.admin.call({ method: 'DELETE', path: `${PODS}/labels-${pod}`, query: { gracePeriodSeconds: '0' } });
    }
  });

  for (const [what, path, patchOf] of [
    [
      'relabels a pod in and out of a thousand groups',
      `${PODS}/moving`,
      (n: number) => ({ metadata: { labels: { a: n % 2 === 0 ? 'out' : 'in' } } }),
    ],
    ['relabels a pod to something new each time', `${PODS}/moving`, (n: number) => ({ metadata: { labels: { a: `r${n}` } } })],
    [
      'has a pod whose address flaps',
      `${PODS}/moving/status`,
      (n: number) => ({ status: { podIP: `10.245.1.${n % 100}`, podIPs: [{ ip: `10.245.1.${n % 100}` }] } }),
    ],
    ['annotates a policy with faults', `${POLICIES}/groups`, (n: number) => ({ metadata: { annotations: { n: String(n) } } })],
  ] as const) {
    it(`who ${what}, as fast as the server takes it, delays nobody`, async () => {
      const values = (i: number): string[] => ['in', `v${i}`];
      const from = times(1_000, (i) => ({ podSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: values(i) }] } }));
      const except = times(2_000, () => '9.9.9.9/8');
      const groups = policyObject('tenant', 'groups', { ingress: [{ from }, { from: [{ ipBlock: { cidr: '0.0.0.0/0', except } }] }] });
      await api.admin.call({ method: 'POST', path: POLICIES, body: groups });
      const body = {
        metadata: { name: 'moving', labels: { a: 'in' } },
        spec: { nodeName: 'elsewhere', containers: [{ name: 'main', image: 'registry.invalid/none' }] },
      };
      await api.admin.call({ method: 'POST', path: PODS, body });
      const status = { phase: 'Running', podIP: '10.245.1.1', podIPs: [{ ip: '10.245.1.1' }] };
      await api.admin.call({ method: 'PATCH', path: `${PODS}/moving/status`, contentType: MERGE, body: { status } });
      await lab.quiet();
      await lab.begin();
      const flood = { isOver: false };
      let writes = 0;
      const startedAt = performance.now();
      const writers = times(WRITERS, async () => {
        while (!flood.isOver) await api.admin.call({ method: 'PATCH', path, contentType: MERGE, body: patchOf(++writes) });
      });
      try {
        await lab.changes(size(20, 120), 120_000);
      } finally {
        flood.isOver = true;
        await Promise.all(writers);
      }
      await settledAndUnharmed(`${Math.round((writes * 1_000) / (performance.now() - startedAt))} writes a second`);
      await api.admin.call({ method: 'DELETE', path: `${PODS}/moving`, query: { gracePeriodSeconds: '0' } });
      await api.admin.call({ method: 'DELETE', path: `${POLICIES}/groups` });
    });
    // Each is a case of its own; in other runs the first stands for them.
    if (!IS_ALL) break;
  }
});
