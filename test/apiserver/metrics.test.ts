import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { API_ADDRESS, ApiServer } from '../../src/lab/api/api-server.ts';
import { applyRoles } from '../../src/lab/api/manifests.ts';
import { AgentLab } from '../kernel/support/agent-lab.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { peer, policyObject, tcpAndUdp } from '../kernel/support/objects.ts';
import { describeWithApi } from './support/describe-with-api.ts';

const DENIED_PACKETS = 37;
/** Of the node's end of its cable to the API server: what the tests reach it by. */
const NODE = '198.18.0.2';

describeWithApi('metrics of an agent', function () {
  this.timeout(120_000);
  let state: string;
  let api: ApiServer;
  let cluster: AgentLab;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
    await applyRoles(api.admin);
    // Who may review tokens, and who may read the metrics: the optional role, and a reader.
    await allow('sluice-metrics-access', [
      { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
      { apiGroups: ['authorization.k8s.io'], resources: ['subjectaccessreviews'], verbs: ['create'] },
    ]);
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'shop', name: 'web', node: 'n1' },
        { namespace: 'shop', name: 'client', node: 'n2' },
        { namespace: 'dev', name: 'intruder', node: 'n2' },
      ],
      podLabels: { 'shop/client': { app: 'client' } },
      objects: [
        policyObject('shop', 'web', {
          ingress: [{ from: [peer({ app: 'client' }, { 'kubernetes.io/metadata.name': 'shop' })], ports: tcpAndUdp(80) }],
        }),
      ],
      agentArgs: {
        n1: ['--metrics-address', `${NODE}:9477`, '--metrics-by-rule'],
        n2: ['--metrics-address', '198.18.0.3:9477', '--metrics-authentication', 'token'],
      },
      api,
    });
  });

  after(async () => {
    await cluster?.close();
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  async function allow(name: string, rules: readonly unknown[]): Promise<void> {
    const group = 'rbac.authorization.k8s.io';
    const apply = (resource: string, body: object): Promise<unknown> =>
      api.admin.call({
        method: 'PATCH',
        path: `/apis/${group}/v1/${resource}/${name}`,
        query: { fieldManager: 'test', force: 'true' },
        contentType: 'application/apply-patch+yaml',
        body: { apiVersion: `${group}/v1`, metadata: { name }, ...body },
      });
    await apply('clusterroles', { kind: 'ClusterRole', rules });
    const subjects = [{ kind: 'ServiceAccount', name: 'sluice', namespace: 'sluice' }];
    await apply('clusterrolebindings', { kind: 'ClusterRoleBinding', roleRef: { apiGroup: group, kind: 'ClusterRole', name }, subjects });
  }

  async function deny(times: number): Promise<void> {
    const probes = Array.from(
      { length: times },
      () => ({ from: 'dev/intruder', to: 'shop/web', port: 80, protocol: 'UDP', expected: 'denied' }) as const,
    );
    for (const { measured } of await cluster.lab.probe(probes)) assert.equal(measured, 'denied');
  }

  async function page(
    address: string,
    path = '/metrics',
    headers: Readonly<Record<string, string>> = {},
  ): Promise<{ status: number; text: string }> {
    const answer = await fetch(`http://${address}:9477${path}`, { headers });
    return { status: answer.status, text: await answer.text() };
  }

  it('are scraped by a real Prometheus, and a query returns the number of packets that were denied', async () => {
    const prometheus = await Prometheus.start(cluster, state, `${NODE}:9477`);
    try {
      const before = await cluster.dropped('ingress', 'shop/web');
      await deny(DENIED_PACKETS);
      const dropped = await cluster.dropped('ingress', 'shop/web');
      assert.ok(dropped - before >= DENIED_PACKETS);
      const query = 'sluice_denied_packets_total{namespace="shop",direction="ingress"}';
      await eventually(async () => (await prometheus.query(query)) === dropped, 'Prometheus knows what the kernel counted');
      assert.equal(await prometheus.query('up'), 1);
      assert.equal(await prometheus.query('sluice_ready'), 1);
    } finally {
      await prometheus.stop();
    }
  });

  it('say what is in force, and what has happened', async () => {
    await cluster.expect('allowed', { from: 'shop/client', to: 'shop/web' });
    const { status, text } = await page(NODE);
    assert.equal(status, 200);
    const value = (series: string): number => {
      const line = text.split('\n').find((each) => each.startsWith(`${series} `)) ?? assert.fail(`no ${series} in:\n${text}`);
      return Number(line.slice(series.length + 1));
    };
    assert.match(text, /^sluice_build_info\{version="\d+\.\d+\.\d+",node_version="\d+/m);
    assert.equal(value('sluice_cluster_pods'), 3);
    assert.equal(value('sluice_cluster_policies'), 1);
    assert.equal(value('sluice_active_policies'), 1);
    assert.equal(value('sluice_isolated_pods{direction="ingress"}'), 1);
    assert.equal(value('sluice_isolated_pods{direction="egress"}'), 0);
    // A pod's chain and a policy's, peers in both families with two ports, and each pod's address in its set.
    assert.equal(value('sluice_chains'), 2);
    assert.ok(value('sluice_rules') >= 4 && value('sluice_sets') >= 2);
    assert.equal(value('sluice_set_elements'), 2);
    assert.ok(value('sluice_commits_total{cause="start"}') >= 1);
    assert.equal(value('sluice_lists_total{resource="Pod",reason="start"}'), 1);
    assert.equal(value('sluice_source_objects{resource="NetworkPolicy"}'), 1);
    assert.ok(value('sluice_watch_age_seconds{resource="Pod"}') < 120);
    assert.ok(value('process_resident_memory_bytes') > 1e6);
    // Of TCP and UDP, IPv4 and IPv6. A look at the counters is good for a second.
    const rule =
      /^sluice_allowed_connections_total\{namespace="shop",policy="web",direction="ingress",rule="ingress\[0\].from\[0\]"\} (\d+)/m;
    await eventually(async () => Number(rule.exec((await page(NODE)).text)?.[1]) >= 4, 'each connection is counted', { everyMs: 100 });
    assert.ok(!(await page('198.18.0.3')).text.includes('sluice_allowed_connections_total'), 'not unless asked for');
  });

  it('never fall when a pod goes and its counter with it', async () => {
    const series = async (): Promise<number> =>
      Number(/^sluice_denied_packets_total\{namespace="shop",direction="ingress"\} (\d+)/m.exec((await page(NODE)).text)?.[1]);
    await deny(5);
    await eventually(async () => (await series()) === (await cluster.dropped('ingress', 'shop/web')), 'the page has caught up');
    const before = await series();
    const policy = policyObject('shop', 'web', {});
    await cluster.remove(policy);
    assert.equal(await series(), before);
    await cluster.apply(policyObject('shop', 'web', { ingress: [] }));
    await deny(3);
    await eventually(async () => (await series()) >= before + 3, 'what is counted anew is added');
  });

  it('are for those only who show a token that may read them, where that is asked for', async () => {
    const address = '198.18.0.3';
    assert.equal((await page(address)).status, 401);
    assert.equal((await page(address, '/metrics', { authorization: 'Bearer nobody' })).status, 401);
    // The agent's own user is known, and has no right to /metrics; the administrator has all.
    assert.equal((await page(address, '/metrics', { authorization: 'Bearer lab-agent' })).status, 403);
    const admitted = await page(address, '/metrics', { authorization: 'Bearer lab-admin' });
    assert.equal(admitted.status, 200);
    assert.match(admitted.text, /^sluice_ready 1$/m);
  });

  it('are beside health and readiness, on the loopback device of the node', async () => {
    const get = async (path: string): Promise<{ status: number; stdout: string }> => {
      const script = `fetch('http://127.0.0.1:9478${path}').then(async (a) => { process.stdout.write(await a.text()); process.exitCode = a.ok ? 0 : 1; })`;
      return await cluster.lab.exec('node/n1', [process.execPath, '-e', script], { check: false });
    };
    assert.equal((await get('/healthz')).status, 0);
    assert.equal((await get('/readyz')).status, 0);
    assert.match((await get('/nothing')).stdout, /there is no \/nothing; there are \/healthz \/readyz/);
  });
});

class Prometheus {
  readonly #process: ChildProcess;
  readonly #url: string;

  private constructor(process: ChildProcess, url: string) {
    this.#process = process;
    this.#url = url;
  }

  static async start(cluster: AgentLab, state: string, target: string): Promise<Prometheus> {
    const directory = join(state, 'prometheus');
    mkdirSync(directory);
    const config = join(directory, 'prometheus.yml');
    writeFileSync(
      config,
      JSON.stringify({ scrape_configs: [{ job_name: 'sluice', scrape_interval: '1s', static_configs: [{ targets: [target] }] }] }),
    );
    // Beside the API server: it listens where the tests are, and reaches nodes as these do.
    const { spawnIn } = await import('../../src/lab/namespaces.ts');
    const args = [`--config.file=${config}`, `--storage.tsdb.path=${join(directory, 'data')}`, `--web.listen-address=${API_ADDRESS}:9090`];
    const process = spawnIn(undefined, ['prometheus', ...args], { stdio: 'ignore' });
    const prometheus = new Prometheus(process, `http://${API_ADDRESS}:9090`);
    await eventually(
      () =>
        fetch(`${prometheus.#url}/-/ready`).then(
          ({ ok }) => ok,
          () => false,
        ),
      'Prometheus is ready',
      { withinMs: 30_000, everyMs: 100 },
    );
    assert.ok(cluster.agent('n1').running);
    return prometheus;
  }

  /** The value of the only series that a query gives; undefined: there is none yet. */
  async query(query: string): Promise<number | undefined> {
    const answer = await fetch(`${this.#url}/api/v1/query?query=${encodeURIComponent(query)}`);
    const { data } = (await answer.json()) as { data: { result: { value: [number, string] }[] } };
    assert.ok(data.result.length <= 1, JSON.stringify(data));
    const value = data.result[0]?.value[1];
    return value === undefined ? undefined : Number(value);
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => {
      this.#process.once('exit', resolve);
    });
    this.#process.kill('SIGTERM');
    await ended;
  }
}
