/**
 * Restarts under load, with both kinds of ownership: n1's table is owned by its agent, n2's is open to all. Whatever way the agent
 * ends, what it left in the kernel stays in force, and the next one adopts it.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabStream } from '../../../src/lab/flows.ts';
import type { FlowCounts, StreamCounts } from '../../../src/lab/prober/protocol.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { lastArrivals } from '../support/arrivals.ts';
import { eventually } from '../support/eventually.ts';
import { type KubernetesObject, policyObject, tcpAndUdp } from '../support/objects.ts';

const NODES = ['n1', 'n2'] as const;
const RESTARTS = 20;
/** From the start of the process to the change in force. Meant: well below a second; a busy machine is given more. */
const IN_FORCE_WITHIN_MS = 5000;

const selecting = (app: string): { readonly podSelector: unknown } => ({ podSelector: { matchLabels: { app } } });
/** What is changed while the agent is dead. */
const doors = (isOpen: boolean): KubernetesObject =>
  policyObject('shop', 'door', { ...selecting('door'), ingress: isOpen ? [{ ports: tcpAndUdp(80) }] : [] });

describe('restarts of the agent', function () {
  this.timeout(90_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: NODES.map((name) => ({ name })),
      pods: NODES.flatMap((node) =>
        ['client', 'open', 'closed', 'door'].map((name) => ({ namespace: 'shop', name: `${name}-${node}`, node })),
      ),
      podLabels: Object.fromEntries(
        NODES.flatMap((node) => ['client', 'open', 'closed', 'door'].map((app) => [`shop/${app}-${node}`, { app }] as const)),
      ),
      agentArgs: { n1: ['--ownership', 'owned'], n2: ['--ownership', 'shared'] },
      objects: [
        policyObject('shop', 'open', { ...selecting('open'), ingress: [{ from: [selecting('client')], ports: tcpAndUdp(80) }] }),
        policyObject('shop', 'closed', selecting('closed')),
        doors(true),
      ],
    });
  });

  after(() => cluster.close());

  /** Constant attempts on both nodes and between them: to what is allowed, or to what is not. */
  function streams(to: 'open' | 'closed'): Promise<readonly LabStream[]> {
    return Promise.all(
      NODES.flatMap((node) =>
        NODES.flatMap((server) =>
          (['TCP', 'UDP'] as const).map((protocol) =>
            cluster.lab.startStream(
              { from: `shop/client-${node}`, to: `shop/${to}-${server}`, port: 80, protocol, family: node === server ? 4 : 6 },
              { perSecond: 12, timeoutMs: to === 'open' ? 15_000 : 1000 },
            ),
          ),
        ),
      ),
    );
  }

  /** Ends the streams: every allowed attempt has been answered, and no denied one. */
  async function stopAll(allowed: readonly LabStream[], denied: readonly LabStream[]): Promise<void> {
    const [counts, others] = await Promise.all([allowed, denied].map((streams) => Promise.all(streams.map((stream) => stream.stop()))));
    const outcome = (count: StreamCounts): unknown => ({ ...count, pending: 0, slowestMs: 0 });
    assert.deepEqual(
      counts?.map(outcome),
      counts?.map(({ started }) => ({ started, answered: started, unanswered: 0, failed: {}, pending: 0, slowestMs: 0 })),
    );
    assert.deepEqual(
      others?.map(outcome),
      others?.map(({ started }) => ({ started, answered: 0, unanswered: started, failed: {}, pending: 0, slowestMs: 0 })),
    );
  }

  /** Handles of everything in a node's table that has nothing to do with the policy that changes, by what it is. */
  async function handles(node: string): Promise<ReadonlyMap<string, string>> {
    let chain = '';
    const found = new Map<string, string>();
    for (const line of (await cluster.table(node, { handles: true })).split('\n')) {
      const [, text = '', handle] = /^\s*(.*?) # handle (\d+)$/.exec(line) ?? [];
      if (/^(chain|set|map) /.test(text)) chain = text;
      if (handle !== undefined && !/door/.test(chain))
        found.set(`${chain}: ${text.replace(/counter packets \d+ bytes \d+/, 'counter')}`, handle);
    }
    return found;
  }

  it('change no verdict and lose no flow, 20 times, half of them SIGKILL, and bring a change made meanwhile into force at once', async () => {
    const before = await Promise.all(NODES.map(handles));
    for (const map of before) assert.ok(map.size > 15, `${map.size} handles`);
    const [allowed, denied] = await Promise.all([streams('open'), streams('closed')]);
    const flows = await Promise.all(
      NODES.flatMap((node) =>
        (['TCP', 'UDP'] as const).map((protocol) =>
          cluster.lab.openFlow({ from: 'shop/client-n1', to: `shop/open-${node}`, port: 80, protocol }),
        ),
      ),
    );
    for (const flow of flows) await flow.serverSends({ everyMs: 10 });
    const dropped = NODES.map(() => 0);
    const inForceMs: number[] = [];

    for (let turn = 0; turn < RESTARTS; turn++) {
      const isOpen = turn % 2 === 1;
      const signal = turn % 4 < 2 ? 'SIGKILL' : 'SIGTERM';
      const doorFlow = isOpen
        ? undefined
        : await cluster.lab.openFlow({ from: 'shop/client-n1', to: 'shop/door-n2', port: 80, protocol: 'TCP' });
      await doorFlow?.serverSends({ everyMs: 10 });
      const ends = await Promise.all(NODES.map((node) => cluster.agent(node).end(signal)));
      for (const end of ends) assert.deepEqual(end, signal === 'SIGKILL' ? { code: null, signal } : { code: 0, signal: null });
      cluster.write(doors(isOpen));
      for (const node of NODES) cluster.start(node);
      await cluster.settled();
      for (const [index, node] of NODES.entries()) {
        const agent = cluster.agent(node);
        const at = agent.logged('rules in force')[0]?.at ?? Number.NaN;
        assert.ok(at - agent.startedAt < IN_FORCE_WITHIN_MS, `${at - agent.startedAt} ms`);
        inForceMs.push(at - agent.startedAt);
        const count = await cluster.dropped('ingress', `shop/closed-${node}`);
        assert.ok(count > (dropped[index] ?? 0), `the counter of ${node} has gone from ${dropped[index]} to ${count}`);
        dropped[index] = count;
      }
      const probes = NODES.flatMap((node) => NODES.map((server) => ({ from: `shop/client-${node}`, to: `shop/door-${server}` })));
      if (isOpen) await cluster.expect('allowed', ...probes);
      else {
        await cluster.expect('denied', ...probes.slice(turn % 4, (turn % 4) + 1));
        assert.equal(doorFlow === undefined || (await lastArrivals([doorFlow], { quietMs: 100 }))[0]?.silent, true, 'a flow to it is cut');
        await doorFlow?.close();
      }
    }

    await stopAll(allowed, denied);
    await Promise.all(flows.map((flow) => flow.stop()));
    let last: readonly FlowCounts[] = [];
    await eventually(
      async () => {
        last = await Promise.all(flows.map((flow) => flow.counts()));
        return last.every(({ client, server, broken }) => client.received === server.sent && broken === undefined);
      },
      () => `every message of the open flows arrives: ${JSON.stringify(last)}`,
    );
    assert.deepEqual(await Promise.all(NODES.map(handles)), before, 'equal objects keep their handles');
    // For whoever wants the figure: SHOW_FIGURES=1.
    if (process.env['SHOW_FIGURES'] !== undefined)
      console.log(`      from start to in force, ms: ${inForceMs.toSorted((a, b) => a - b).join(' ')}`);
  });

  it('leave the old rules or the new ones where it is killed in the middle of a large commit, and never a part', async () => {
    // A rule each: those of one rule would be united in one set.
    const blocks = Array.from({ length: 1000 }, (_, index) => ({
      ipBlock: { cidr: `100.${64 + (index >> 13)}.${(index >> 5) & 255}.${(index & 31) * 8}/30` },
    }));
    const large = policyObject('shop', 'large', { ...selecting('closed'), ingress: blocks.map((block) => ({ from: [block] })) });
    const [allowed, denied] = await Promise.all([streams('open'), streams('closed')]);
    /** How many blocks the node's table holds. */
    const held = async (node: string): Promise<number> => (await cluster.table(node)).match(/elements = \{ 100\./g)?.length ?? 0;
    const commits = async (): Promise<readonly { readonly fromMs: number; readonly takesMs: number }[]> => {
      const writtenAt = Date.now();
      await cluster.apply(large);
      return NODES.map((node) => {
        const line = cluster.agent(node).logged('rules in force').at(-1) ?? assert.fail();
        return { fromMs: line.at - Number(line['commitMs']) - writtenAt, takesMs: Number(line['commitMs']) };
      });
    };
    const timing = await commits();
    const seen = new Set<string>();
    for (let turn = 0; turn < 3; turn++) {
      await cluster.remove(large);
      assert.deepEqual(await Promise.all(NODES.map(held)), [0, 0]);
      cluster.write(large);
      await Promise.all(
        NODES.map(async (node, index) => {
          const { fromMs, takesMs } = timing[index] ?? assert.fail();
          await sleep(fromMs + (takesMs * (turn + 0.5)) / 3);
          await cluster.agent(node).end('SIGKILL');
          const count = await held(node);
          assert.ok(count === 0 || count === blocks.length, `${node} holds ${count} of ${blocks.length} blocks`);
          seen.add(count === 0 ? 'old' : 'new');
          cluster.start(node);
        }),
      );
      await cluster.settled();
      assert.deepEqual(await Promise.all(NODES.map(held)), [blocks.length, blocks.length]);
    }
    await cluster.remove(large);
    await stopAll(allowed, denied);
    if (process.env['SHOW_FIGURES'] !== undefined)
      console.log(`      found after the kill: ${[...seen].join(' and ')} rules; commits ${JSON.stringify(timing)}`);
  });
});
