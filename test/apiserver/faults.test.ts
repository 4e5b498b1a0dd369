import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { applyRoles } from '../../src/lab/api/manifests.ts';
import { AgentLab } from '../kernel/support/agent-lab.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { peer, policyObject, podObject, tcpAndUdp } from '../kernel/support/objects.ts';
import { describeWithApi } from './support/describe-with-api.ts';
import { FaultProxy } from './support/fault-proxy.ts';

const NAMESPACE = { 'kubernetes.io/metadata.name': 'shop' };
const CLOSED = policyObject('shop', 'closed', { podSelector: { matchLabels: { app: 'web' } }, ingress: [] });
const OPEN_TO_CLIENTS = policyObject('shop', 'closed', {
  podSelector: { matchLabels: { app: 'web' } },
  ingress: [{ from: [peer({ app: 'client' }, NAMESPACE)], ports: tcpAndUdp(80) }],
});
const POLICIES = '/apis/networking.k8s.io/v1/networkpolicies';

/** From when the server can be reached again until what it has is in force. */
const BACK_IN_FORCE_MS = 1_000;

describeWithApi('an agent whose API server fails', function () {
  this.timeout(120_000);
  let state: string;
  let api: ApiServer;
  let proxy: FaultProxy;
  let cluster: AgentLab;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
    await applyRoles(api.admin);
    proxy = await FaultProxy.start(api.port, join(state, 'certificates/apiserver.crt'));
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      pods: [
        { namespace: 'shop', name: 'web', node: 'n1' },
        { namespace: 'shop', name: 'client', node: 'n1' },
        { namespace: 'shop', name: 'stranger', node: 'n1' },
      ],
      podLabels: { 'shop/web': { app: 'web' }, 'shop/client': { app: 'client' } },
      api,
      kubeconfig: api.kubeconfig('agent', { url: proxy.url, name: 'by-proxy' }),
    });
  });

  after(async () => {
    await cluster?.close();
    proxy?.close();
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  beforeEach(async () => {
    proxy.refuse = undefined;
    await cluster.apply(OPEN_TO_CLIENTS);
    await expectOpenToClients();
  });

  async function expectOpenToClients(): Promise<void> {
    await cluster.expectAll([
      ['allowed', { from: 'shop/client', to: 'shop/web' }],
      ['denied', { from: 'shop/stranger', to: 'shop/web' }],
    ]);
  }

  /** Lists that the agent has asked for since. */
  function lists(since: number): readonly string[] {
    return proxy.requests.slice(since).filter((path) => path.includes('sendInitialEvents') || path.includes('limit='));
  }

  /**
   * Makes a change that the agent cannot see, and the server's return; what the server has is in force within a second of it, and until
   * then what was in force stays.
   */
  async function changesMeanwhile(comeBack: () => void | Promise<void>): Promise<void> {
    await cluster.change({ apply: [CLOSED] });
    await expectOpenToClients();
    await comeBack();
    const backAt = performance.now();
    await cluster.settled();
    const tookMs = performance.now() - backAt;
    assert.ok(tookMs < BACK_IN_FORCE_MS, `in force ${Math.round(tookMs)} ms after the server's return`);
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/web' }, { from: 'shop/stranger', to: 'shop/web' });
  }

  it('goes on where it was after its connections were reset, without a list', async () => {
    const before = proxy.requests.length;
    proxy.refuse = () => ({ status: 503 });
    proxy.reset();
    await changesMeanwhile(() => {
      proxy.refuse = undefined;
    });
    assert.deepEqual(lists(before), []);
  });

  it('is told to wait by 429 and Retry-After, and waits', async () => {
    const refusedAt: number[] = [];
    proxy.refuse = () => {
      refusedAt.push(performance.now());
      return { status: 429, headers: { 'retry-after': '2' } };
    };
    proxy.reset();
    await eventually(() => refusedAt.length >= 4, 'each watch has been refused');
    await sleep(1_500);
    assert.equal(refusedAt.length, 4);
    proxy.refuse = undefined;
    await cluster.apply(CLOSED);
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/web' });
  });

  for (const [what, line] of [
    ['truncated JSON', '{"type":"MODIFIED","object":{"kind":"NetworkPolicy","metadata":{"na'],
    [
      'an ERROR event',
      `${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 500, message: 'etcdserver: leader changed' } })}\n`,
    ],
    ['what is no JSON at all', '<html>502 Bad Gateway</html>\n'],
  ] as const) {
    it(`goes on where it was after ${what} in a watch`, async () => {
      const before = proxy.requests.length;
      proxy.refuse = () => ({ status: 503 });
      assert.equal(proxy.inject(POLICIES, line, { end: true }), 1);
      await changesMeanwhile(() => {
        proxy.refuse = undefined;
      });
      assert.deepEqual(lists(before), []);
    });
  }

  it('lists again after an ERROR event that says 410, and drops what is gone', async () => {
    await cluster.apply(policyObject('shop', 'extra', { podSelector: { matchLabels: { app: 'client' } }, ingress: [] }));
    await cluster.expect('denied', { from: 'shop/web', to: 'shop/client' });
    const before = proxy.requests.length;
    proxy.refuse = () => ({ status: 503 });
    const gone = { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' } };
    proxy.inject(POLICIES, `${JSON.stringify(gone)}\n`, { end: true });
    await cluster.change({ remove: [policyObject('shop', 'extra', {})] });
    proxy.refuse = undefined;
    await cluster.settled();
    await cluster.expect('allowed', { from: 'shop/web', to: 'shop/client' });
    assert.equal(lists(before).length, 1);
  });

  it('takes objects of a shape that nobody expects for faults of theirs, and goes on', async () => {
    const strange = [
      { type: 'ADDED', object: null },
      { type: 'ADDED', object: { metadata: { name: 7 } } },
      { type: 'MODIFIED', object: { metadata: { name: 'closed', namespace: 'shop', resourceVersion: '1' }, spec: 'open' } },
      { type: 'ADDED', object: { metadata: { name: 'x', namespace: 'shop' }, spec: { podSelector: [], ingress: {}, policyTypes: 3 } } },
    ];
    // What it says of itself is wrong, so what it really is comes with the next list.
    const isReported = (): boolean =>
      cluster
        .agent('n1')
        .log()
        .some(({ object }) => object === 'NetworkPolicy shop/x');
    await eventually(
      () => {
        // What is put into the middle of a line of the server's spoils that, and is lost with it.
        if (!isReported()) for (const event of strange) proxy.inject(POLICIES, `${JSON.stringify(event)}\n`);
        return isReported();
      },
      'the fault is reported',
      { everyMs: 500, withinMs: 30_000 },
    );
    // A policy whose subject cannot be read isolates the namespace.
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/web' }, { from: 'shop/web', to: 'shop/stranger' });
    const gone = { type: 'DELETED', object: { metadata: { name: 'x', namespace: 'shop' } } };
    // The one that was refused as a whole kept its last good state.
    await eventually(async () => {
      proxy.inject(POLICIES, `${JSON.stringify(gone)}\n`);
      const [result] = await cluster.lab.probe([{ from: 'shop/client', to: 'shop/web', port: 80, protocol: 'TCP', expected: 'allowed' }]);
      return result?.measured === 'allowed';
    }, 'open to clients again');
    await expectOpenToClients();
    await cluster.apply(CLOSED);
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/web' });
  });

  it('keeps what is in force while the API server is dead, and catches up when it is back', async () => {
    await api.kill('kube-apiserver');
    await sleep(2_000);
    await expectOpenToClients();
    await api.launch();
    const backAt = performance.now();
    await cluster.change({ apply: [CLOSED] });
    await cluster.settled();
    const tookMs = performance.now() - backAt;
    assert.ok(tookMs < BACK_IN_FORCE_MS + 500, `in force ${Math.round(tookMs)} ms after the server's return and the change`);
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/web' });
  });

  it('finds out what it has missed where history was forgotten: policies, pods that are gone, addresses that others have', async () => {
    const stranger = cluster.lab.pod('shop/stranger');
    // The agent's watches are gone, and the server's memory of what they have not seen.
    proxy.refuse = () => ({ status: 503 });
    proxy.reset();
    // The stranger goes, and its address is a client's now; the policy changes; a pod's label too.
    await cluster.change({ remove: [podObject(stranger)] });
    const heir = podObject({ ...stranger, name: 'heir' }, { labels: { app: 'client' } });
    await cluster.change({ apply: [heir, OPEN_TO_CLIENTS, podObject(cluster.lab.pod('shop/client'), { labels: { app: 'other' } })] });
    await api.compact();
    await api.kill('kube-apiserver');
    await expectOpenToClients();
    await api.launch();
    proxy.refuse = undefined;
    const backAt = performance.now();
    await cluster.settled();
    const tookMs = performance.now() - backAt;
    assert.ok(tookMs < BACK_IN_FORCE_MS, `in force ${Math.round(tookMs)} ms after the server's return`);
    await cluster.expectAll([
      ['allowed', { from: 'shop/stranger', to: 'shop/web', answeredBy: 'shop/web' }],
      ['denied', { from: 'shop/client', to: 'shop/web' }],
    ]);
    // As it was, for whoever comes next.
    await cluster.change({ remove: [heir] });
    await cluster.apply(podObject(stranger), podObject(cluster.lab.pod('shop/client'), { labels: { app: 'client' } }));
  });
});

describeWithApi('an agent and a silent connection', function () {
  this.timeout(120_000);

  it('is noticed by the idle timer, and made anew', async () => {
    const { ApiClient } = await import('../../src/kubernetes/api/client.ts');
    const { Reflector } = await import('../../src/kubernetes/api/reflector.ts');
    const state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    const api = await ApiServer.start({ state });
    const proxy = await FaultProxy.start(api.port, join(state, 'certificates/apiserver.crt'));
    const client = await ApiClient.open({ file: api.kubeconfig('admin', { url: proxy.url, name: 'by-proxy' }), userAgent: 'test' });
    const names = new Set<string>();
    const codes: string[] = [];
    const reflector = new Reflector({
      path: '/api/v1/namespaces',
      client,
      receiver: {
        listing: () => undefined,
        listed: () => undefined,
        upsert: (value) => void names.add((value as { metadata: { name: string } }).metadata.name),
        remove: () => undefined,
        flush: () => undefined,
      },
      observer: { failed: (error) => codes.push((error as { code: string }).code), heard: () => undefined, listing: () => undefined },
      // The server ends a watch after two seconds; that this cannot be heard is noticed a second later.
      watchSeconds: () => 2,
      graceMs: 1_000,
    });
    try {
      reflector.start();
      await eventually(() => names.has('default'), 'listed');
      proxy.silence();
      await api.admin.call({
        method: 'POST',
        path: '/api/v1/namespaces',
        body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'late' } },
      });
      await eventually(() => names.has('late'), 'the connection is made anew');
      assert.ok(codes.includes('API_SILENT'), codes.join());
    } finally {
      await reflector.stop();
      client.close();
      proxy.close();
      await api.close();
      rmSync(state, { recursive: true, force: true });
    }
  });
});
