import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { ApiServer, findPrograms } from '../../src/lab/api/api-server.ts';
import { run } from '../../src/lab/namespaces.ts';
import { describeWithApi } from './support/describe-with-api.ts';

const MANIFESTS = resolve(import.meta.dirname, '../../manifests');
const OVERLAYS = readdirSync(join(MANIFESTS, 'overlays'));

type Fields = Readonly<Record<string, unknown>>;

interface Container {
  readonly args: readonly string[];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly env: readonly { readonly name: string; readonly valueFrom?: unknown }[];
}

describeWithApi('the manifests', function () {
  this.timeout(60_000);
  let state: string;
  let api: ApiServer;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
  });

  after(async () => {
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  /** @param directory below manifests/, or an absolute one */
  async function built(directory: string): Promise<readonly Fields[]> {
    const { stdout } = await run(undefined, [join(findPrograms(), 'kubectl'), 'kustomize', resolve(MANIFESTS, directory)]);
    return parseAllDocuments(stdout).map((document) => document.toJS() as Fields);
  }

  function containerOf(objects: readonly Fields[]): {
    readonly pod: Record<string, unknown>;
    readonly container: Container;
  } {
    const daemonSet = objects.find(({ kind }) => kind === 'DaemonSet') ?? assert.fail('no DaemonSet');
    const pod = (daemonSet['spec'] as { template: { spec: Record<string, unknown> } }).template.spec;
    const [container] = pod['containers'] as [Container];
    return { pod, container };
  }

  for (const overlay of OVERLAYS) {
    it(`${overlay}: the API server takes all of it, strictly`, async () => {
      const kubectl = [api.kubectl, '--kubeconfig', api.kubeconfig('admin')];
      // What the rest is in has to be there for a dry run.
      await run(undefined, [...kubectl, 'apply', '-f', join(MANIFESTS, 'base/namespace.yaml')]);
      const { stdout } = await run(undefined, [
        ...kubectl,
        'apply',
        '--server-side',
        '--dry-run=server',
        '--validate=strict',
        '-k',
        join(MANIFESTS, 'overlays', overlay),
      ]);
      for (const kind of ['daemonset.apps/sluice', 'serviceaccount/sluice', 'clusterrole.rbac.authorization.k8s.io/sluice'])
        assert.match(stdout, new RegExp(kind));
    });
  }

  it('give the agent CAP_NET_ADMIN and nothing else', async () => {
    const { pod, container } = containerOf(await built('base'));
    assert.equal(pod['hostNetwork'], true);
    assert.equal(pod['priorityClassName'], 'system-node-critical');
    assert.deepEqual(pod['securityContext'], { seccompProfile: { type: 'RuntimeDefault' } });
    assert.deepEqual(container.securityContext, {
      runAsUser: 0,
      runAsGroup: 0,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
    });
    assert.deepEqual(container.env, [{ name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }]);
  });

  it('let metrics be read with a token where that component is added', async () => {
    const directory = join(state, 'overlay');
    mkdirSync(directory);
    const manifests = relative(directory, MANIFESTS);
    const kustomization = { resources: [`${manifests}/base`], components: [`${manifests}/components/metrics-token`] };
    writeFileSync(join(directory, 'kustomization.yaml'), JSON.stringify(kustomization));
    const objects = await built(directory);
    assert.deepEqual(containerOf(objects).container.args, ['agent', '--metrics-address=:9477', '--metrics-authentication=token']);
    const roles = objects.filter(({ kind }) => kind === 'ClusterRole').map(({ metadata }) => (metadata as Fields)['name']);
    assert.ok(roles.includes('sluice-metrics-access'), roles.join());
  });

  it('have alerts that Prometheus can read', async () => {
    const { stdout } = await run(undefined, ['promtool', 'check', 'rules', join(MANIFESTS, 'monitoring/alerts.yaml')]);
    assert.match(stdout, /SUCCESS: \d+ rules found/);
  });
});
