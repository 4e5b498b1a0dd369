/** The flags without which packets between pods of one node bypass policy: set, watched, and their absence said. */
import assert from 'node:assert/strict';
import { setSysctls } from '../../../src/lab/namespaces.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { eventually } from '../support/eventually.ts';
import { policyObject } from '../support/objects.ts';

/** Meant: 100 ms from the end of the command; a busy machine is given more. */
const ON_AGAIN_WITHIN_MS = 500;

describe('flags of bridges', function () {
  this.timeout(60_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      pods: [
        { namespace: 'shop', name: 'client', node: 'n1' },
        { namespace: 'shop', name: 'server', node: 'n1' },
      ],
      podLabels: { 'shop/server': { app: 'server' } },
      agentArgs: { n1: ['--bridge', 'cni0', 'cni1'] },
      objects: [policyObject('shop', 'closed', { podSelector: { matchLabels: { app: 'server' } } })],
    });
    // These switch it on for every bridge of the namespace, whatever its own flags say.
    setSysctls(cluster.lab.netns('node/n1'), { 'net.bridge.bridge-nf-call-iptables': '0', 'net.bridge.bridge-nf-call-ip6tables': '0' });
  });

  after(() => cluster.close());

  async function flags(bridge: string): Promise<readonly string[]> {
    const { stdout } = await cluster.lab.exec('node/n1', ['ip', '-d', 'link', 'show', 'dev', bridge]);
    return stdout.match(/nf_call_ip6?tables \d/g) ?? [];
  }

  const ON = ['nf_call_iptables 1', 'nf_call_ip6tables 1'];

  it('decide over packets between pods of one node', async () => {
    assert.deepEqual(await flags('cni0'), ON);
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/server' });
    cluster.agent('n1').signal('SIGSTOP');
    try {
      await cluster.lab.exec('node/n1', ['ip', 'link', 'set', 'cni0', 'type', 'bridge', 'nf_call_iptables', '0', 'nf_call_ip6tables', '0']);
      await cluster.expect('allowed', { from: 'shop/client', to: 'shop/server' });
    } finally {
      cluster.agent('n1').signal('SIGCONT');
    }
    await eventually(async () => (await flags('cni0')).join() === ON.join(), 'on again');
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/server' });
  });

  for (const [flag, families] of [
    ['nf_call_iptables', [4]],
    ['nf_call_ip6tables', [6]],
  ] as const) {
    it(`are on again within 100 ms when somebody switches ${flag} off`, async () => {
      const repairs = cluster.agent('n1').logged('bridge filtering had been switched off; it is on again').length;
      await cluster.lab.exec('node/n1', ['ip', 'link', 'set', 'cni0', 'type', 'bridge', flag, '0']);
      const endedAt = performance.now();
      await eventually(async () => (await flags('cni0')).join() === ON.join(), 'on again', { everyMs: 1 });
      const tookMs = performance.now() - endedAt;
      assert.ok(tookMs < ON_AGAIN_WITHIN_MS, `${tookMs} ms`);
      await cluster.expect('denied', { from: 'shop/client', to: 'shop/server', families });
      assert.ok(cluster.agent('n1').logged('bridge filtering had been switched off; it is on again').length > repairs);
      assert.equal(cluster.agent('n1').status?.ready, true);
    });
  }

  it('are set on a bridge that is made after the agent has started, and made again', async () => {
    for (let turn = 0; turn < 2; turn++) {
      await cluster.lab.exec('node/n1', ['ip', 'link', 'add', 'cni1', 'type', 'bridge']);
      await eventually(async () => (await flags('cni1')).join() === ON.join(), 'set');
      await cluster.lab.exec('node/n1', ['ip', 'link', 'del', 'cni1']);
    }
    // Not one that the agent was not told of.
    await cluster.lab.exec('node/n1', ['ip', 'link', 'add', 'other', 'type', 'bridge']);
    await cluster.lab.exec('node/n1', ['ip', 'link', 'add', 'cni1', 'type', 'bridge']);
    await eventually(async () => (await flags('cni1')).join() === ON.join(), 'set');
    assert.deepEqual(await flags('other'), ['nf_call_iptables 0', 'nf_call_ip6tables 0']);
  });

  it('are missed where br_netfilter is not loaded: the agent enforces, says so, and is not ready', async () => {
    await cluster.agent('n1').end();
    // In a mount namespace of its own: there, /proc/sys/net has nothing of bridges.
    const hidden = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /proc/sys/net && exec "$@"', 'sh'];
    const agent = cluster.start('n1', { wrapper: hidden });
    const status = await agent.reaches(({ commits }) => commits > 0, 'enforces');
    assert.equal(status.ready, false);
    assert.match(status.bridgeProblems.join(), /bridge cni0 bypass policy: br_netfilter is not loaded \(modprobe br_netfilter\)/);
    assert.ok(agent.log().some(({ level, code }) => level === 'error' && code === 'BRIDGE_NOT_FILTERED'));
    await agent.end();
    cluster.start('n1');
    await cluster.settled();
  });
});
