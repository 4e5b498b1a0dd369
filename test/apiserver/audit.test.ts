import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCluster } from '../../src/audit/cluster-inventory.ts';
import { explain } from '../../src/commands/explain.ts';
import { ApiClient } from '../../src/kubernetes/api/client.ts';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { isFields } from '../../src/policy/problems.ts';
import { NO_KERNEL } from './support/audit-answers.ts';
import { describeWithApi } from './support/describe-with-api.ts';

const BIN = join(import.meta.dirname, '../../bin');
const PROGRAM = join(BIN, 'sluice.js');

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const SHOP = ['shop', 'office'];

describeWithApi('the audit commands, of an API server', function () {
  this.timeout(60_000);
  let state: string;
  let api: ApiServer;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
    for (const name of SHOP) await create('/api/v1/namespaces', { metadata: { name } });
    await create('/api/v1/nodes', { metadata: { name: 'node-a' } });
    await pod('shop', 'web-1', '10.244.1.1');
    await pod('shop', 'db-0', '10.244.1.2', [{ name: 'sql', containerPort: 5432 }]);
    await pod('office', 'mail', '10.244.1.3');
    await create('/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies', {
      metadata: { name: 'db-from-api' },
      spec: {
        podSelector: { matchLabels: { app: 'db-0' } },
        ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web-2' } } }], ports: [{ port: 5432 }] }],
      },
    });
    await create('/api/v1/namespaces/shop/services', {
      metadata: { name: 'db' },
      spec: { selector: { app: 'db-0' }, ports: [{ port: 3306, targetPort: 'sql' }] },
    });
  });
  after(async () => {
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  function create(path: string, object: object): Promise<unknown> {
    return api.admin.call({ method: 'POST', path, body: object });
  }

  async function pod(namespace: string, name: string, ip: string, ports: readonly object[] = [], second?: string): Promise<void> {
    await create(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name: 'default' } }).catch(() => undefined);
    await create(`/api/v1/namespaces/${namespace}/pods`, {
      metadata: { name, labels: { app: name } },
      spec: { nodeName: 'node-a', containers: [{ name: 'c', image: 'x', ports }], automountServiceAccountToken: false },
    });
    await api.admin.call({
      method: 'PATCH',
      path: `/api/v1/namespaces/${namespace}/pods/${name}/status`,
      contentType: 'application/merge-patch+json',
      body: { status: { phase: 'Running', podIP: ip, podIPs: [{ ip }, ...(second === undefined ? [] : [{ ip: second }])] } },
    });
  }

  function sluice(args: readonly string[], kubeconfig = api.kubeconfig('admin'), program = PROGRAM): Ran {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], HOME: state, KUBECONFIG: kubeconfig },
    });
    return { status, stdout, stderr };
  }

  /** A kubeconfig of somebody who may list these resources in namespace shop, and nothing else. */
  async function limited(name: string, resources: readonly string[], inCluster: readonly string[] = []): Promise<string> {
    await create('/api/v1/namespaces/shop/serviceaccounts', { metadata: { name } });
    const grant = async (base: string, kind: 'Role' | 'ClusterRole', of: readonly string[]): Promise<void> => {
      const apiGroups = ['', 'networking.k8s.io'];
      await create(`${base}/${kind.toLowerCase()}s`, { metadata: { name }, rules: [{ apiGroups, resources: of, verbs: ['list', 'get'] }] });
      await create(`${base}/${kind.toLowerCase()}bindings`, {
        metadata: { name },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name },
        subjects: [{ kind: 'ServiceAccount', name, namespace: 'shop' }],
      });
    };
    await grant('/apis/rbac.authorization.k8s.io/v1/namespaces/shop', 'Role', resources);
    if (inCluster.length > 0) await grant('/apis/rbac.authorization.k8s.io/v1', 'ClusterRole', inCluster);
    const { object } = await api.admin.call({
      method: 'POST',
      path: `/api/v1/namespaces/shop/serviceaccounts/${name}/token`,
      body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} },
    });
    assert.ok(isFields(object) && isFields(object['status']));
    return kubeconfigWith(name, { token: object['status']['token'] });
  }

  function kubeconfigWith(name: string, user: object): string {
    const config = JSON.parse(readFileSync(api.kubeconfig('admin'), 'utf8')) as { users: { user: object }[] };
    for (const each of config.users) each.user = user;
    const file = join(state, `${name}.kubeconfig`);
    writeFileSync(file, JSON.stringify(config));
    return file;
  }

  it('explain: a refusal with its nearest miss, and the place in the policy', () => {
    const { status, stdout, stderr } = sluice(['explain', 'shop/web-1', 'shop/db-0:5432']);
    assert.equal(stderr, '');
    assert.equal(status, 1);
    assert.match(stdout, /refused/u);
    assert.match(stdout, /shop\/db-from-api/u);
    assert.match(stdout, /web-2/u);
    assert.match(stdout, /ingress\[0\]\.from\[0\]: wants app=web-2/u);
  });

  it('explain: a Service by what is behind it', () => {
    const { stdout } = sluice(['explain', '-n', 'shop', 'web-1', 'svc/db', '-o', 'json']);
    const document = JSON.parse(stdout) as { flows: { ports: unknown; allowed: boolean }[] };
    assert.deepEqual(
      document.flows.map(({ ports, allowed }) => ({ ports, allowed })),
      [{ ports: [{ port: 5432, servicePort: 3306 }], allowed: false }],
    );
  });

  it('who may list one namespace only gets its answer, and hears what it lacks', async () => {
    const kubeconfig = await limited('developer', ['pods', 'networkpolicies']);
    const { status, stdout, stderr } = sluice(['explain', 'shop/web-1', 'shop/db-0:5432'], kubeconfig);
    assert.equal(status, 1);
    assert.match(stdout, /shop\/db-from-api/u);
    // Others may claim the same address; the node and the labels of the namespace.
    assert.match(stderr, /missing: pods of other namespaces than shop: .*forbidden/u);
    assert.match(stderr, /missing: node node-a: .*forbidden/u);
    assert.match(stderr, /missing: namespace shop: .*forbidden/u);
    assert.equal(stderr.match(/^missing:/gmu)?.length, 3);
  });

  it('who may list one namespace only hears what a question about everybody lacks', async () => {
    const kubeconfig = await limited('developer-2', ['pods', 'networkpolicies']);
    const { status, stdout, stderr } = sluice(['explain', '192.0.2.1', 'shop/db-0:5432'], kubeconfig);
    assert.equal(status, 1);
    assert.match(stdout, /shop\/db-from-api/u);
    for (const what of [
      'pods of other namespaces than shop',
      'nodes',
      'namespaces of other namespaces than shop',
      'networkpolicies of other namespaces than shop',
    ]) {
      assert.match(stderr, new RegExp(`missing: (${what}|namespaces): .*forbidden`, 'u'));
    }
  });

  it('what is read around two pods gives the answer that everything gives, whoever else has their addresses', async () => {
    await pod('shop', 'old', '10.244.1.50');
    await pod('shop', 'heir', '10.244.1.50');
    await pod('office', 'second', '10.244.1.51', [], 'fd00::51');
    await pod('office', 'third', '10.244.1.52', [], 'fd00::51');
    const client = await ApiClient.open({ file: api.kubeconfig('admin'), userAgent: 'sluice-test' });
    const all = await readCluster({ client, server: 'here', namespaces: [] });
    const names = all.pods.map(({ namespace, name }) => ({ namespace, name }));
    assert.ok(names.length >= 7);
    for (const source of names) {
      for (const destination of names) {
        const around = await readCluster({ client, server: 'here', namespaces: [], pods: [source, destination] });
        assert.ok(around.pods.length <= all.pods.length);
        const asked = [source, destination].map(({ namespace, name }) => `${namespace}/${name}`);
        const answers = await Promise.all(
          [all, around].map(async (inventory) => {
            const { flows, unanswered } = await explain(
              inventory,
              asked[0] ?? '',
              `${asked[1] ?? ''}:5432`,
              { namespace: 'default' },
              NO_KERNEL,
            );
            return { flows, unanswered };
          }),
        );
        assert.deepEqual(answers[1], answers[0], asked.join(' -> '));
      }
    }
    client.close();
    for (const [namespace, name] of [
      ['shop', 'old'],
      ['shop', 'heir'],
      ['office', 'second'],
      ['office', 'third'],
    ] as const) {
      await api.admin.call({ method: 'DELETE', path: `/api/v1/namespaces/${namespace}/pods/${name}`, body: { gracePeriodSeconds: 0 } });
    }
  });

  it('who may not list policies anywhere gets no answer, and hears what is needed', async () => {
    const kubeconfig = await limited('visitor', ['pods']);
    const { status, stdout, stderr } = sluice(['explain', 'shop/web-1', 'shop/db-0:5432'], kubeconfig);
    assert.deepEqual({ status, stdout }, { status: 1, stdout: '' });
    assert.match(stderr, /^sluice: networkpolicies may not be listed in shop/u);
    assert.match(stderr, /role with the verb list for networkpolicies/u);
    assert.doesNotMatch(stderr, /\n {4}at /u);
  });

  it('who is not known is told so', () => {
    const { status, stderr } = sluice(['explain', 'shop/web-1', 'shop/db-0'], kubeconfigWith('stranger', { token: 'nobody' }));
    assert.equal(status, 1);
    assert.match(stderr, /^sluice: reading from https:\/\/198\.18\.0\.1:6443 failed: .*401/u);
    assert.match(stderr, /log in again/u);
  });

  it('a server that is not there is an error that says where it was looked for', () => {
    const file = join(state, 'away.kubeconfig');
    writeFileSync(file, readFileSync(api.kubeconfig('admin'), 'utf8').replace(':6443', ':1'));
    const { status, stderr } = sluice(['explain', 'shop/web-1', 'shop/db-0'], file);
    assert.equal(status, 1);
    assert.match(stderr, /^sluice: reading from https:\/\/198\.18\.0\.1:1 failed: .*\n.*--source/u);
  });

  it('names are completed from it, in kubectl as well', () => {
    const complete = (...words: string[]): string => sluice(words, undefined, join(BIN, 'kubectl_complete-sluice.js')).stdout;
    assert.equal(complete('explain', 'sh'), 'shop/\n:4\n');
    assert.equal(complete('explain', 'shop/web-1', 'shop/d'), 'shop/db-0\n:4\n');
    assert.equal(
      complete('explain', '-n', 'office', ''),
      'mail\ndefault/\nkube-node-lease/\nkube-public/\nkube-system/\noffice/\nshop/\n:4\n',
    );
    assert.equal(complete('explain', '--node', ''), 'node-a\n:4\n');
  });

  it('kubectl sluice is the same program', function () {
    if (spawnSync('kubectl', ['version', '--client']).error !== undefined) this.skip();
    symlinkSync(join(BIN, 'kubectl-sluice.js'), join(state, 'kubectl-sluice'));
    const env = { PATH: `${state}:${process.env['PATH']}`, HOME: state, KUBECONFIG: api.kubeconfig('admin') };
    const { status, stdout } = spawnSync('kubectl', ['sluice', 'explain', 'shop/web-1', 'office/mail:25'], { encoding: 'utf8', env });
    assert.equal(status, 0);
    assert.match(stdout, /allowed/u);
  });
});
