/**
 * What others do to the table: refused by the kernel where the agent owns it (n1), noticed and repaired where it cannot (n2), and
 * none of it costs more than it has to.
 */
import assert from 'node:assert/strict';
import { NftConnection } from 'nftables-js';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { lastArrivals } from '../support/arrivals.ts';
import { eventually } from '../support/eventually.ts';
import { policyObject, tcpAndUdp } from '../support/objects.ts';

/** Meant: 100 ms from the end of the command. Each is given more on a busy machine; half of them have to make it. */
const MEANT_REPAIR_MS = 100;
const LONGEST_REPAIR_MS = 1000;

const TABLE = ['inet', 'sluice'] as const;
const TAMPERINGS: readonly (readonly [what: string, command: readonly string[]])[] = [
  ['flushes the whole ruleset', ['flush', 'ruleset']],
  ['deletes the table', ['delete', 'table', ...TABLE]],
  ['deletes a base chain', ['delete', 'chain', ...TABLE, 'ingress']],
  ['flushes a base chain', ['flush', 'chain', ...TABLE, 'egress']],
  ['flushes the chain of a pod', ['flush', 'chain', ...TABLE, 'ingress/shop/closed-n2']],
  ['flushes the map of pods', ['flush', 'map', ...TABLE, 'ingress-pods-v4']],
  ['deletes an element', ['delete', 'element', ...TABLE, 'ingress-pods-v6', '{ fd00:10:244:1::4 }']],
  ['lets everything pass', ['insert', 'rule', ...TABLE, 'ingress', 'accept']],
  ['sets the policy of a chain', ['add', 'chain', ...TABLE, 'ingress', '{ policy drop; }']],
];

describe('tampering with the rules', function () {
  this.timeout(90_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: ['n1', 'n2'].flatMap((node) =>
        ['client', 'open', 'closed'].map((name) => ({ namespace: 'shop', name: `${name}-${node}`, node })),
      ),
      podLabels: Object.fromEntries(['n1', 'n2'].flatMap((node) => ['open', 'closed'].map((app) => [`shop/${app}-${node}`, { app }]))),
      agentArgs: { n1: ['--ownership', 'owned'], n2: ['--ownership', 'shared'] },
      objects: [
        policyObject('shop', 'open', { podSelector: { matchLabels: { app: 'open' } }, ingress: [{ ports: tcpAndUdp(80) }] }),
        policyObject('shop', 'closed', { podSelector: { matchLabels: { app: 'closed' } } }),
      ],
    });
  });

  after(() => cluster.close());

  /** The table without its counters. */
  async function rules(node: string): Promise<string> {
    const { status, stdout } = await cluster.lab.exec(`node/${node}`, ['nft', 'list', 'table', ...TABLE], { check: false });
    // Elements of a hash have no order.
    return status === 0
      ? stdout
          .replaceAll(/counter packets \d+ bytes \d+/g, 'counter')
          .split(/[\n,{}]/)
          .map((part) => part.trim())
          .toSorted()
          .join('\n')
      : 'none';
  }

  const drifts = (): number => cluster.agent('n2').status?.drifts ?? 0;
  const commits = (node: string): number => cluster.agent(node).status?.commits ?? 0;

  it('is refused by the kernel where the agent owns the table, and the agent has nothing to do', async () => {
    const before = await cluster.table('n1', { handles: true });
    const committed = commits('n1');
    for (const [what, command] of TAMPERINGS) {
      const argv = ['nft', ...command.map((part) => part.replaceAll('n2', 'n1').replace('244:1::', '244::'))];
      const { status, stderr } = await cluster.lab.exec('node/n1', argv, { check: false });
      if (command[1] === 'ruleset') assert.equal(status, 0, 'a flush of the ruleset passes it by');
      else {
        assert.notEqual(status, 0, what);
        assert.match(stderr, /Operation not permitted/, what);
      }
    }
    const counters = /counter packets \d+ bytes \d+/g;
    assert.equal((await cluster.table('n1', { handles: true })).replaceAll(counters, ''), before.replaceAll(counters, ''));
    await cluster.expectAll([
      ['denied', { from: 'shop/client-n1', to: 'shop/closed-n1' }],
      ['allowed', { from: 'shop/client-n1', to: 'shop/open-n1' }],
    ]);
    assert.deepEqual([cluster.agent('n1').status?.drifts, commits('n1')], [0, committed]);
  });

  it('is noticed, repaired within 100 ms and counted where the table is open to all', async () => {
    const before = await rules('n2');
    const repairMs: number[] = [];
    for (const [what, command] of TAMPERINGS) {
      const counted = drifts();
      await cluster.lab.exec('node/n2', ['nft', ...command]);
      const endedAt = performance.now();
      await eventually(async () => (await rules('n2')) === before, `repaired after somebody ${what}`, { everyMs: 1 });
      repairMs.push(Math.round(performance.now() - endedAt));
      await eventually(() => drifts() > counted, `counted that somebody ${what}`);
    }
    await cluster.expectAll([
      ['denied', { from: 'shop/client-n1', to: 'shop/closed-n2' }],
      ['denied', { from: 'shop/client-n2', to: 'shop/closed-n2' }],
      ['allowed', { from: 'shop/client-n1', to: 'shop/open-n2' }],
    ]);
    const sorted = repairMs.toSorted((a, b) => a - b);
    assert.ok(
      (sorted[sorted.length >> 1] ?? Infinity) <= MEANT_REPAIR_MS && (sorted.at(-1) ?? Infinity) <= LONGEST_REPAIR_MS,
      `ms: ${repairMs.join(' ')}`,
    );
  });

  it('is undone on packets too: a flow that got in while the agent could not look is cut', async () => {
    // As on every node with kube-proxy, something else keeps track of connections: what nobody tracks, nobody can judge afterwards.
    await cluster.lab.addService('10.96.0.1', 80, [{ pod: 'shop/open-n2', port: 80 }]);
    await cluster.lab.addService('fd00:10:96::1', 80, [{ pod: 'shop/open-n2', port: 80 }]);
    const agent = cluster.agent('n2');
    const counted = drifts();
    agent.signal('SIGSTOP');
    const flows = [];
    try {
      await cluster.lab.exec('node/n2', ['nft', 'delete', 'table', ...TABLE]);
      for (const from of ['shop/client-n1', 'shop/client-n2']) {
        for (const protocol of ['TCP', 'UDP'] as const) {
          for (const family of [4, 6] as const)
            flows.push(await cluster.lab.openFlow({ from, to: 'shop/closed-n2', port: 80, protocol, family }));
        }
      }
      for (const flow of flows) await flow.serverSends({ everyMs: 10 });
    } finally {
      agent.signal('SIGCONT');
    }
    await agent.reaches((status) => status.ready && status.drifts > counted, 'has noticed');
    const arrivals = await lastArrivals(flows);
    assert.deepEqual(
      arrivals.filter(({ silent }) => !silent),
      [],
    );
    for (const flow of flows) await flow.close();
  });

  it('is repaired although a foreign commit of 200,000 elements runs over the monitor, and hides it', async function () {
    const before = await rules('n2');
    const counted = drifts();
    const elements = Array.from({ length: 200_000 }, (_, index) => `10.${100 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`);
    const script = `add table inet foreign
add set inet foreign many { type ipv4_addr; }
add element inet foreign many { ${elements.join(', ')} }
flush chain inet sluice ingress
`;
    const agent = cluster.agent('n2');
    // On an idle machine the agent may read as fast as the kernel writes.
    agent.signal('SIGSTOP');
    const { status, stderr } = await cluster.lab.exec('node/n2', ['nft', '-f', '-'], { input: script, check: false });
    agent.signal('SIGCONT');
    const endedAt = performance.now();
    // An ordinary user's socket buffer is bounded by wmem_max.
    if (/Message too long|No buffer space/.test(stderr)) return this.skip();
    assert.equal(status, 0, stderr);
    await eventually(async () => (await rules('n2')) === before, 'repaired', { everyMs: 1 });
    const repairMs = performance.now() - endedAt;
    assert.ok(repairMs < LONGEST_REPAIR_MS, `${repairMs} ms`);
    await eventually(() => drifts() > counted, 'counted');
    const noticed = agent.logged('somebody else changed the rules; comparing').map(({ what }) => what);
    assert.ok(noticed.includes('changes were lost: the monitor ran over'), noticed.join(', '));
    await cluster.lab.exec('node/n2', ['nft', 'delete', 'table', 'inet', 'foreign']);
    // The removal of so much runs over it as well.
    await eventually(async () => (await rules('n2')) === before, 'still as it was');
  });

  it('is not seen in what others do to their own tables, however much', async () => {
    const connection = inNamespace(cluster.lab.netns('node/n2'), () => NftConnection.open());
    const family = 'inet';
    const table = 'churn';
    try {
      connection.commit([
        { op: 'add', table: { family, name: table, flags: [] } },
        { op: 'add', set: { family, table, name: 'set', key: ['ipv4_addr'], flags: [] } },
      ]);
      // What an earlier test caused has to be over.
      await cluster.settled();
      const [counted, committed] = [drifts(), commits('n2')];
      for (let turn = 0; turn < 1000; turn++) {
        const elements = [{ key: new Uint8Array([10, 0, turn >> 8, turn & 255]) }];
        connection.commit([
          {
            op: turn % 2 === 0 ? 'add' : 'delete',
            elements: {
              family,
              table,
              set: 'set',
              elements: turn % 2 === 0 ? elements : [{ key: new Uint8Array([10, 0, (turn - 1) >> 8, (turn - 1) & 255]) }],
            },
          },
        ]);
      }
      connection.commit([{ op: 'delete', table: { family, name: table } }]);
      // The one change of its own table comes after all of those.
      await cluster.lab.exec('node/n2', ['nft', 'add', 'set', ...TABLE, 'last', '{ type mark; }']);
      await eventually(() => drifts() > counted, 'the last change is noticed');
      await eventually(() => commits('n2') > committed, 'and undone');
      assert.doesNotMatch(await rules('n2'), /set last/);
      assert.deepEqual([drifts() - counted, commits('n2') - committed], [1, 1]);
    } finally {
      connection.close();
    }
  });
});
