/** Leases from a real API server: what is told of them while the server, the Nodes and other people do what they like. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiClient } from '../../../src/kubernetes/api/client.ts';
import { ApiServer } from '../../../src/lab/api/api-server.ts';
import { KubernetesLeases } from '../../../src/network/kubernetes-leases.ts';
import { spawnIn } from '../../../src/lab/namespaces.ts';
import type { Lease } from '../../../src/network/lease.ts';
import type { Announcement, LeaseSourceListener, OwnLease } from '../../../src/network/lease-source.ts';
import { parseNetConf } from '../../../src/network/net-conf.ts';
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from '../../../src/policy/address.ts';
import { PROGRAM } from '../../kernel/support/agent-process.ts';
import { eventually } from '../../kernel/support/eventually.ts';
import { describeWithApi } from '../support/describe-with-api.ts';
import { FaultProxy } from '../support/fault-proxy.ts';

const NODES = '/api/v1/nodes';
const PREFIX = 'flannel.alpha.coreos.com';
const CONF = parseNetConf('{ "Network": "10.244.0.0/16", "Backend": { "Type": "vxlan" } }', 'net-conf.json');
const OWN = 'self';
const SUBNET = parsePrefix('10.244.0.0/24') ?? assert.fail();
const PUBLIC = parseAddress('172.18.0.1') ?? assert.fail();
const ANNOUNCEMENT: Announcement = {
  backend: 'vxlan',
  v4: { subnet: SUBNET, publicAddress: PUBLIC, data: '{"VNI":1,"VtepMAC":"0e:00:00:00:00:01"}' },
  v6: undefined,
};
/** From when somebody has done something, or the server is back, until it is known or undone. */
const SOON_MS = 1_000;

interface NodeObject {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[] };
}

/** What a listener has been told. */
class Heard implements LeaseSourceListener {
  /** `subnet address mac`, by node. */
  readonly leases = new Map<string, string>();
  readonly troubles = new Map<string, readonly string[]>();
  readonly owns: (OwnLease | { readonly waiting: string })[] = [];
  readonly failures: string[] = [];
  isSynced = false;

  upsert({ node, v4 }: Lease): void {
    assert.ok(v4 !== undefined);
    this.leases.set(node, `${formatPrefix(v4.subnet)} ${formatAddress(v4.publicAddress)} ${(v4.data as { VtepMAC: string }).VtepMAC}`);
  }
  remove(node: string): void {
    assert.ok(this.leases.delete(node), `${node} was not there`);
  }
  synced(): void {
    assert.ok(!this.isSynced, 'told once');
    this.isSynced = true;
  }
  problems(node: string, problems: readonly string[]): void {
    if (problems.length === 0) this.troubles.delete(node);
    else this.troubles.set(node, problems);
  }
  own(lease: OwnLease | { readonly waiting: string }): void {
    this.owns.push(lease);
  }
  failed(doing: string, error: unknown): void {
    this.failures.push(`${doing}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

describeWithApi('leases of a cluster', function () {
  this.timeout(120_000);
  let state: string;
  let api: ApiServer;
  let proxy: FaultProxy;
  let client: ApiClient;
  let heard: Heard;
  let leases: KubernetesLeases;
  const repairs: string[] = [];
  /** Between an answer of the server and whoever has asked. @param known what the watch had brought when it was asked */
  let answered: (method: string, known: number) => Promise<void>;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
    proxy = await FaultProxy.start(api.port, join(state, 'certificates/apiserver.crt'));
  });

  after(async () => {
    proxy?.close();
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  beforeEach(async () => {
    proxy.refuse = undefined;
    repairs.length = 0;
    const { object } = await api.admin.call({ method: 'GET', path: NODES });
    for (const { metadata } of (object as { items: NodeObject[] }).items) await deleteNode(metadata.name);
    client = await ApiClient.open({ file: api.kubeconfig('admin', { url: proxy.url, name: 'by-proxy' }), userAgent: 'sluice-test' });
    heard = new Heard();
    answered = async () => undefined;
    leases = new KubernetesLeases({
      client: {
        get: (request) => client.get(request),
        async call(call) {
          const known = heard.owns.length;
          const answer = await client.call(call);
          await answered(call.method, known);
          return answer;
        },
      },
      node: OWN,
      conf: CONF,
      prefix: PREFIX,
      setsCondition: true,
      onRepair: (what) => repairs.push(what),
    });
  });

  afterEach(async () => {
    proxy.refuse = undefined;
    await leases.stop();
    client.close();
  });

  async function createNode(
    name: string,
    { podCIDR = '', annotations = {} }: { podCIDR?: string; annotations?: object } = {},
  ): Promise<void> {
    const spec = podCIDR === '' ? {} : { podCIDR, podCIDRs: [podCIDR] };
    const body = { apiVersion: 'v1', kind: 'Node', metadata: { name, annotations }, spec };
    await api.admin.call({ method: 'POST', path: NODES, body });
  }
  async function createPeer(number: number, over: object = {}): Promise<void> {
    await createNode(`peer-${number}`, { podCIDR: `10.244.${number}.0/24`, annotations: { ...peerAnnotations(number), ...over } });
  }
  function peerAnnotations(number: number, mac = number): Record<string, string> {
    return {
      [`${PREFIX}/kube-subnet-manager`]: 'true',
      [`${PREFIX}/backend-type`]: 'vxlan',
      [`${PREFIX}/backend-data`]: `{"VNI":1,"VtepMAC":"0e:00:00:00:01:0${mac}"}`,
      [`${PREFIX}/public-ip`]: `172.18.0.${100 + number}`,
    };
  }
  async function deleteNode(name: string): Promise<void> {
    await api.admin.call({ method: 'DELETE', path: `${NODES}/${name}` });
  }
  async function change(name: string, patch: object): Promise<void> {
    const contentType = 'application/merge-patch+json';
    await api.admin.call({ method: 'PATCH', path: `${NODES}/${name}`, contentType, body: patch });
  }
  const annotate = (name: string, annotations: Readonly<Record<string, string | null>>): Promise<void> =>
    change(name, { metadata: { annotations } });
  async function own(): Promise<NodeObject> {
    return (await api.admin.call({ method: 'GET', path: `${NODES}/${OWN}` })).object as NodeObject;
  }
  const expected = (number: number, mac = number): string => `10.244.${number}.0/24 172.18.0.${100 + number} 0e:00:00:00:01:0${mac}`;
  async function isTold(): Promise<boolean> {
    const { metadata, status } = await own();
    const annotations = metadata.annotations ?? {};
    const condition = status?.conditions?.find(({ type }) => type === 'NetworkUnavailable');
    return (
      annotations[`${PREFIX}/public-ip`] === '172.18.0.1' &&
      annotations[`${PREFIX}/backend-data`] === ANNOUNCEMENT.v4?.data &&
      annotations[`${PREFIX}/kube-subnet-manager`] === 'true' &&
      condition?.status === 'False' &&
      condition.reason === 'FlannelIsUp'
    );
  }
  async function soon(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
    const at = performance.now();
    await eventually(condition, () => `${what}; ${[...heard.leases].join(' | ')}; ${heard.failures.slice(-3).join(' | ')}`);
    assert.ok(performance.now() - at < SOON_MS, `${what} took ${Math.round(performance.now() - at)} ms`);
  }
  async function started(): Promise<void> {
    leases.start(heard);
    await eventually(() => heard.isSynced, 'all leases being read');
  }
  /** The node has a Node, and has told its peers. */
  async function announced(): Promise<void> {
    await createNode(OWN, { podCIDR: '10.244.0.0/24' });
    await started();
    await leases.announce(ANNOUNCEMENT);
    await leases.available();
    assert.ok(await isTold());
  }

  it('are told as Nodes come, change and go', async () => {
    await createPeer(1);
    await started();
    assert.deepEqual([...heard.leases], [['peer-1', expected(1)]]);
    await createPeer(2);
    await soon(() => heard.leases.get('peer-2') === expected(2), 'a new Node');
    await annotate('peer-1', peerAnnotations(1, 9));
    await soon(() => heard.leases.get('peer-1') === expected(1, 9), 'a new VTEP');
    await deleteNode('peer-2');
    await soon(() => !heard.leases.has('peer-2'), 'the end of a Node');
    assert.deepEqual(heard.failures, []);
  });

  it('are waited for while the API server is away at the start', async () => {
    await createPeer(1);
    proxy.refuse = () => ({ status: 503 });
    leases.start(heard);
    await eventually(() => heard.failures.length >= 3, 'several tries');
    assert.ok(!heard.isSynced);
    proxy.refuse = undefined;
    await soon(() => heard.isSynced, 'all leases being read');
    assert.deepEqual([...heard.leases], [['peer-1', expected(1)]]);
    assert.deepEqual(heard.owns, [{ waiting: 'the node is not there yet' }]);
  });

  it('are as they are again after the server was killed and Nodes changed meanwhile', async () => {
    await createPeer(1);
    await createPeer(2);
    await announced();
    proxy.refuse = () => ({ status: 503 });
    await api.kill('kube-apiserver');
    await api.launch();
    await deleteNode('peer-1');
    await annotate('peer-2', peerAnnotations(2, 9));
    await createPeer(3);
    await annotate(OWN, { [`${PREFIX}/public-ip`]: '192.0.2.1' });
    assert.deepEqual([...heard.leases.keys()], ['peer-1', 'peer-2'], 'who was known stays meanwhile');
    proxy.refuse = undefined;
    await soon(
      () => !heard.leases.has('peer-1') && heard.leases.get('peer-2') === expected(2, 9) && heard.leases.has('peer-3'),
      'the leases',
    );
    await soon(isTold, 'the own annotations');
  });

  it('are read again after 410, and who is gone is gone', async () => {
    await createPeer(1);
    await createPeer(2);
    await started();
    proxy.refuse = () => ({ status: 503 });
    const gone = { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' } };
    assert.equal(proxy.inject(NODES, `${JSON.stringify(gone)}\n`, { end: true }), 1);
    await deleteNode('peer-1');
    proxy.refuse = undefined;
    await soon(() => !heard.leases.has('peer-1'), 'the end of a Node');
    assert.deepEqual([...heard.leases.keys()], ['peer-2']);
  });

  it('begin as soon as the Node comes, and has a podCIDR', async () => {
    await started();
    assert.deepEqual(heard.owns.at(-1), { waiting: 'the node is not there yet' });
    await createNode(OWN);
    await soon(() => JSON.stringify(heard.owns.at(-1)).includes('no IPv4 podCIDR yet'), 'the Node');
    await change(OWN, { spec: { podCIDR: '10.244.0.0/24', podCIDRs: ['10.244.0.0/24'] } });
    await soon(() => 'v4' in (heard.owns.at(-1) ?? {}), 'the podCIDR');
    assert.deepEqual((heard.owns.at(-1) as OwnLease).v4, SUBNET);
  });

  it('are those of the node that this runs on, whose name is asked for until somebody says it', async () => {
    const file = join(state, 'net-conf.json');
    writeFileSync(file, '{ "Network": "10.244.0.0/16", "Backend": { "Type": "alloc" } }');
    proxy.refuse = () => ({ status: 503 });
    const argv = [process.execPath, PROGRAM, 'network', '--net-config-path', file, '--subnet-file', 'off', '--cni-conf-file', 'off'];
    const flags = ['--kubeconfig-file', api.kubeconfig('admin', { url: proxy.url, name: 'by-proxy' }), '--metrics-address', 'off'];
    const child = spawnIn(undefined, [...argv, ...flags], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_NAME: '', POD_NAME: 'sluice-x', POD_NAMESPACE: 'default' },
    });
    let log = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    try {
      const asked = (): number => proxy.requests.filter((path) => path === '/api/v1/namespaces/default/pods/sluice-x').length;
      await eventually(
        () => asked() >= 3,
        () => log,
      );
      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'sluice-x' },
        spec: { nodeName: OWN, containers: [{ name: 'x', image: 'x' }] },
      };
      await api.admin.call({ method: 'POST', path: '/api/v1/namespaces/default/pods', body: pod });
      proxy.refuse = undefined;
      await eventually(
        () => /"node":"self","why":"the node is not there yet"/.test(log),
        () => log,
      );
    } finally {
      child.kill('SIGTERM');
      await eventually(
        () => child.exitCode !== null,
        () => log,
      );
    }
    assert.equal(child.exitCode, 0);
  });

  describe('of this node', () => {
    it('come back when somebody removes or changes them, and that is told', async () => {
      await announced();
      for (const value of [null, '192.0.2.1', '']) {
        repairs.length = 0;
        await annotate(OWN, { [`${PREFIX}/public-ip`]: value });
        await soon(isTold, 'the annotation');
        // The server has it before its answer is here.
        await soon(() => repairs.length > 0, 'the repair being told');
        assert.deepEqual(repairs, [`annotations written again: ${PREFIX}/public-ip`]);
      }
      assert.deepEqual(heard.failures, []);
    });

    it('come back with the condition when the Node is deleted and made anew', async () => {
      await announced();
      await deleteNode(OWN);
      await soon(() => JSON.stringify(heard.owns.at(-1)).includes('not there'), 'the end of the Node');
      await createNode(OWN, { podCIDR: '10.244.0.0/24' });
      await soon(isTold, 'what the peers are told');
    });

    it('come back with the condition when the Node is made anew from a copy', async () => {
      await announced();
      const { metadata } = await own();
      await deleteNode(OWN);
      await createNode(OWN, { podCIDR: '10.244.0.0/24', annotations: metadata.annotations ?? {} });
      await soon(isTold, 'the condition');
      await soon(() => repairs.length > 0, 'the repair being told');
      assert.deepEqual(repairs, ['condition NetworkUnavailable written again']);
    });

    it('leave the condition to who sets it to something else', async () => {
      await announced();
      const condition = { type: 'NetworkUnavailable', status: 'True', reason: 'NoRouteCreated', message: 'of the cloud' };
      const contentType = 'application/strategic-merge-patch+json';
      await api.admin.call({ method: 'PATCH', path: `${NODES}/${OWN}/status`, contentType, body: { status: { conditions: [condition] } } });
      await annotate(OWN, { [`${PREFIX}/public-ip`]: null });
      await soon(async () => (await own()).metadata.annotations?.[`${PREFIX}/public-ip`] === '172.18.0.1', 'the annotation');
      assert.equal((await own()).status?.conditions?.find(({ type }) => type === 'NetworkUnavailable')?.reason, 'NoRouteCreated');
    });

    it('come back where somebody changes them again while they are written, and the watch is faster than the answer', async () => {
      await announced();
      const address = `${PREFIX}/public-ip`;
      let changed = 0;
      answered = async (method, known) => {
        if (method !== 'PATCH' || changed > 0) return;
        changed++;
        await annotate(OWN, { [address]: '192.0.2.2' });
        // Of what was written, and of this.
        await eventually(() => heard.owns.length >= known + 2, 'the watch has brought both');
      };
      await annotate(OWN, { [address]: '192.0.2.1' });
      await eventually(() => changed === 1, 'it is written');
      await eventually(isTold, 'the annotation');
    });

    it('cost little where somebody changes them again and again', async () => {
      await announced();
      const requests = proxy.requests.length;
      const until = performance.now() + 2_000;
      while (performance.now() < until) {
        await annotate(OWN, { [`${PREFIX}/public-ip`]: '192.0.2.1' });
        await sleep(5);
      }
      // Each takes one to look and one to write, and is half a second from the next.
      assert.ok(proxy.requests.length - requests < 20, `${proxy.requests.length - requests} requests in two seconds`);
      await soon(isTold, 'the annotation');
    });

    it('are asked for once, however often the Node has changed while writing was refused', async () => {
      await announced();
      proxy.refuse = ({ method }) => (method === 'PATCH' ? { status: 403 } : undefined);
      await annotate(OWN, { [`${PREFIX}/public-ip`]: null });
      await eventually(() => heard.failures.length > 0, 'the refusal');
      const before = heard.owns.length;
      for (let round = 0; round < 50; round++) await annotate(OWN, { example: String(round) });
      await eventually(() => heard.owns.length >= before + 50, 'all changes');
      const requests = proxy.requests.length;
      proxy.refuse = undefined;
      await soon(isTold, 'the annotation');
      await sleep(600);
      assert.ok(proxy.requests.length - requests < 8, `${proxy.requests.length - requests} requests`);
    });

    it('are told after as long as the server asks for with 429', async () => {
      await createNode(OWN, { podCIDR: '10.244.0.0/24' });
      await started();
      const refusedAt: number[] = [];
      proxy.refuse = ({ method }) => {
        if (method !== 'PATCH' || refusedAt.length > 0) return undefined;
        refusedAt.push(performance.now());
        return { status: 429, headers: { 'retry-after': '2' } };
      };
      await leases.announce(ANNOUNCEMENT);
      const waited = performance.now() - (refusedAt[0] ?? Number.NaN);
      assert.ok(waited >= 2_000 && waited < 3_000, `${waited} ms`);
    });

    it('are given up with the end of the daemon, whatever is under way', async () => {
      await createNode(OWN, { podCIDR: '10.244.0.0/24' });
      await started();
      proxy.refuse = ({ method }) => (method === 'PATCH' ? { status: 500 } : undefined);
      const announcing = leases.announce(ANNOUNCEMENT).then(
        () => 'told',
        () => 'given up',
      );
      await eventually(() => heard.failures.length > 0, 'the refusal');
      await leases.stop();
      assert.equal(await announcing, 'given up');
    });
  });

  describe('that cannot be read', () => {
    it('leave what was known, and the complaint goes with the Node', async () => {
      await createPeer(1);
      await createPeer(2, { [`${PREFIX}/public-ip`]: 'nonsense' });
      await started();
      assert.match(heard.troubles.get('peer-2')?.join() ?? '', /"nonsense" is no IPv4 address of a node/);
      await annotate('peer-1', { [`${PREFIX}/backend-data`]: '{' });
      await soon(() => heard.troubles.has('peer-1'), 'the complaint');
      assert.equal(heard.leases.get('peer-1'), expected(1));
      await deleteNode('peer-2');
      await soon(() => !heard.troubles.has('peer-2'), 'the end of the complaint');
      await deleteNode('peer-1');
      await soon(() => !heard.leases.has('peer-1') && heard.troubles.size === 0, 'the end of the Node');
    });

    it('are complained of no more once a new list is without them', async () => {
      await createPeer(2, { [`${PREFIX}/public-ip`]: 'nonsense' });
      await started();
      assert.ok(heard.troubles.has('peer-2'));
      proxy.refuse = () => ({ status: 503 });
      const gone = { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' } };
      proxy.inject(NODES, `${JSON.stringify(gone)}\n`, { end: true });
      await deleteNode('peer-2');
      proxy.refuse = undefined;
      await soon(() => heard.troubles.size === 0, 'the end of the complaint');
    });
  });
});
