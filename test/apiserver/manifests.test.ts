import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

  it('let metrics be read with a token, and take a taint away, where these components are added', async () => {
    const directory = join(state, 'overlay');
    mkdirSync(directory);
    const manifests = relative(directory, MANIFESTS);
    const kustomization = {
      resources: [`${manifests}/base`],
      components: ['metrics-token', 'startup-taint'].map((name) => `${manifests}/components/${name}`),
    };
    writeFileSync(join(directory, 'kustomization.yaml'), JSON.stringify(kustomization));
    const objects = await built(directory);
    assert.deepEqual(containerOf(objects).container.args, [
      'agent',
      '--metrics-address=:9477',
      '--metrics-authentication=token',
      '--startup-taint=sluice/agent-not-ready',
    ]);
    const roles = objects.filter(({ kind }) => kind === 'ClusterRole').map(({ metadata }) => (metadata as Fields)['name']);
    assert.ok(roles.includes('sluice-metrics-access') && roles.includes('sluice-startup-taint'), roles.join());
  });

  it('have alerts that Prometheus can read', async () => {
    const { stdout } = await run(undefined, ['promtool', 'check', 'rules', join(MANIFESTS, 'monitoring/alerts.yaml')]);
    assert.match(stdout, /SUCCESS: \d+ rules found/);
  });

  it('have a dashboard and alerts that ask for no metric that the agent does not have, in queries that Prometheus can read', async () => {
    const { AgentMetrics } = await import('../../src/observability/metrics.ts');
    const { body } = await new AgentMetrics({ version: '0', byRule: true }).page();
    const known = new Set(
      [...body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = '', type]) => (type === 'histogram' ? [`${name}_bucket`] : [name])),
    );
    const dashboard = JSON.parse(readFileSync(join(MANIFESTS, 'monitoring/dashboard.json'), 'utf8')) as {
      panels: { title: string; targets: { expr: string }[] }[];
    };
    const queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
    assert.ok(queries.length > 12);
    const alerts = readFileSync(join(MANIFESTS, 'monitoring/alerts.yaml'), 'utf8');
    for (const [name] of [...queries, alerts].join('\n').matchAll(/\b(sluice|process)_[a-z_]+/g)) assert.ok(known.has(name), name);
    // As rules, with Grafana's own words put in.
    const rules = queries.map((expr, index) => ({
      record: `q:${index}`,
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'),
    }));
    const file = join(state, 'queries.yaml');
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
    const { stdout } = await run(undefined, ['promtool', 'check', 'rules', file]);
    assert.match(stdout, new RegExp(`SUCCESS: ${queries.length} rules found`));
  });
});
