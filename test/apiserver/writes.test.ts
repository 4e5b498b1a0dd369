import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { applyRoles } from '../../src/lab/api/manifests.ts';
import { AgentLab } from '../kernel/support/agent-lab.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { policyObject } from '../kernel/support/objects.ts';
import { run } from '../../src/lab/namespaces.ts';
import { describeWithApi } from './support/describe-with-api.ts';

/** The API would refuse it; an older version may have stored it. */
const BROKEN = policyObject('shop', 'office', { ingress: [{ from: [{ ipBlock: { cidr: '203.0.113.0/240' } }, {}] }] });

describeWithApi('what the agent writes to the API', function () {
  this.timeout(60_000);
  let state: string;
  let api: ApiServer;
  let cluster: AgentLab;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
    await applyRoles(api.admin);
    const names = ['n1', 'n2', 'n3'];
    cluster = await AgentLab.create({
      nodes: names.map((name) => ({ name })),
      pods: [{ namespace: 'shop', name: 'web', node: 'n1' }],
      objects: names.map((name) => ({ apiVersion: 'v1', kind: 'Node', metadata: { name } })),
      api,
    });
  });

  after(async () => {
    await cluster?.close();
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  interface Event {
    readonly involvedObject: { readonly kind: string; readonly name: string };
    readonly reason: string;
    readonly type: string;
    readonly message: string;
    readonly source: { readonly host: string };
  }

  async function events(): Promise<readonly Event[]> {
    const { object } = await api.admin.call({ method: 'GET', path: '/api/v1/namespaces/shop/events' });
    return (object as { items: Event[] }).items;
  }

  it('Events say each fault of a policy once, whoever reads the policy, and also when all agents start again', async () => {
    await cluster.apply(BROKEN);
    await eventually(async () => (await events()).length === 2, 'both faults are told');
    const [first, second] = (await events()).toSorted((a, b) => (a.message < b.message ? -1 : 1));
    assert.match(
      first?.message ?? '',
      /^spec\.ingress\[0\]\.from\[0\]\.ipBlock\.cidr: "203\.0\.113\.0\/240" is no CIDR; the peer matches nothing/,
    );
    assert.equal(first?.reason, 'CidrInvalid');
    assert.equal(first?.type, 'Warning');
    assert.match(second?.message ?? '', /^spec\.ingress\[0\]\.from\[1\]: /);
    assert.deepEqual(first?.involvedObject.kind, 'NetworkPolicy');
    assert.equal(first?.source.host, second?.source.host, 'one node speaks for a policy');

    for (const node of ['n1', 'n2', 'n3']) await cluster.agent(node).end();
    for (const node of ['n1', 'n2', 'n3']) cluster.start(node);
    await cluster.settled();
    // Another fault comes behind those that would be told again.
    await cluster.apply(policyObject('shop', 'other', { ingress: [{ ports: [{ port: 81, endPort: 80 }] }] }));
    await eventually(async () => (await events()).some(({ involvedObject }) => involvedObject.name === 'other'), 'another fault is told');
    assert.equal((await events()).length, 3);
    for (const node of ['n1', 'n2', 'n3']) assert.deepEqual(cluster.agent(node).logged('an Event about a policy could not be sent'), []);
  });

  it('the startup taint is taken away when everything is in force, and no other', async () => {
    const nodes = '/api/v1/nodes/n3';
    await cluster.agent('n3').end();
    const taint = (key: string): object => ({ key, effect: 'NoSchedule' });
    const taints = [taint('sluice/agent-not-ready'), taint('somebody/else')];
    await api.admin.call({ method: 'PATCH', path: nodes, contentType: 'application/merge-patch+json', body: { spec: { taints } } });
    const role = { kind: 'ClusterRole', rules: [{ apiGroups: [''], resources: ['nodes'], verbs: ['get', 'patch'] }] };
    const binding = {
      kind: 'ClusterRoleBinding',
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'taint' },
      subjects: [{ kind: 'ServiceAccount', name: 'sluice', namespace: 'sluice' }],
    };
    for (const [resource, object] of [
      ['clusterroles', role],
      ['clusterrolebindings', binding],
    ] as const) {
      const body = { apiVersion: 'rbac.authorization.k8s.io/v1', metadata: { name: 'taint' }, ...object };
      await api.admin.call({ method: 'POST', path: `/apis/rbac.authorization.k8s.io/v1/${resource}`, body });
    }
    const agent = cluster.start('n3', { args: ['--startup-taint', 'sluice/agent-not-ready'] });
    await eventually(() => agent.logged('the startup taint is removed').length === 1, 'it is removed');
    assert.equal(agent.status?.ready, true);
    const { object } = await api.admin.call({ method: 'GET', path: nodes });
    const left = (object as { spec: { taints: { key: string }[] } }).spec.taints.map(({ key }) => key);
    assert.ok(left.includes('somebody/else') && !left.includes('sluice/agent-not-ready'), left.join());
  });

  it('Events are found by kubectl', async () => {
    const { stdout } = await run(undefined, [
      api.kubectl,
      '--kubeconfig',
      api.kubeconfig('admin'),
      'events',
      '-n',
      'shop',
      '--for',
      'networkpolicy/office',
    ]);
    assert.match(stdout, /Warning +CidrInvalid +NetworkPolicy\/office +spec\.ingress\[0\]\.from\[0\]\.ipBlock\.cidr/);
  });
});
