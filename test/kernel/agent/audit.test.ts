/**
 * Agents that audit, all of them or the pods of a namespace: nothing that would be refused is stopped, all of it is counted and logged,
 * and switching between the modes loses no packet that is allowed and opens no gap.
 */
import assert from 'node:assert/strict';
import { PacketLog, Poller } from 'nftables-js';
import { readLogPrefix } from '../../../src/enforcement/nftables/render.ts';
import type { LabFlow } from '../../../src/lab/flows.ts';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { lastArrivals } from '../support/arrivals.ts';
import { eventually } from '../support/eventually.ts';
import { NumberedPackets } from '../support/numbered-packets.ts';
import { namespaceObject, peer, policyObject, tcpAndUdp } from '../support/objects.ts';

const LOG_GROUP = 100;
const NODES = ['n1', 'n2'] as const;

const shop = (mode?: string) => namespaceObject('shop', {}, mode === undefined ? undefined : { 'sluice.dev/mode': mode });

describe('auditing', function () {
  this.timeout(120_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: NODES.map((name) => ({ name })),
      pods: [
        { namespace: 'dev', name: 'friend', node: 'n1' },
        { namespace: 'dev', name: 'stranger', node: 'n2' },
        { namespace: 'shop', name: 'near', node: 'n1' },
        { namespace: 'shop', name: 'far', node: 'n2' },
        { namespace: 'shop', name: 'mute', node: 'n1' },
        { namespace: 'bank', name: 'vault', node: 'n1' },
      ],
      // The log group is the test's own.
      agentArgs: Object.fromEntries(NODES.map((name) => [name, ['--observe-socket', 'off']])),
      podLabels: { 'dev/friend': { role: 'friend' }, 'shop/mute': { app: 'mute' } },
      objects: [
        policyObject('shop', 'friends', {
          ingress: [{ from: [peer({ role: 'friend' }, {})], ports: [...tcpAndUdp(80), { protocol: 'UDP', port: 7000 }] }],
        }),
        policyObject('shop', 'mute', { podSelector: { matchLabels: { app: 'mute' } }, policyTypes: ['Egress'] }),
        policyObject('bank', 'closed', { policyTypes: ['Ingress', 'Egress'] }),
      ],
    });
  });

  after(() => cluster.close());
  afterEach(() => NumberedPackets.stopAll());

  /** Ends the agents of some nodes, and starts others with these arguments. */
  async function restart(args: readonly string[], nodes: readonly string[] = NODES): Promise<void> {
    await Promise.all(nodes.map((node) => cluster.agent(node).end()));
    for (const node of nodes) cluster.start(node, { args });
    await cluster.settled();
  }

  async function metrics(node: string): Promise<(series: string) => number | undefined> {
    const { stdout } = await cluster.lab.exec(`node/${node}`, ['curl', '-sf', 'http://127.0.0.1:9477/metrics']);
    return (series) => {
      const line = stdout.split('\n').find((each) => each.startsWith(`${series} `));
      return line === undefined ? undefined : Number(line.slice(series.length + 1));
    };
  }

  it('enforces until it is told otherwise', async () => {
    await cluster.expect('allowed', { from: 'dev/friend', to: 'shop/near' });
    await cluster.expect(
      'denied',
      { from: 'dev/stranger', to: 'shop/near' },
      { from: 'shop/mute', to: 'dev/stranger' },
      { from: 'dev/friend', to: 'bank/vault' },
    );
    const { mode, auditedPods } = cluster.agent('n1').status ?? assert.fail();
    assert.deepEqual({ mode, auditedPods }, { mode: 'enforce', auditedPods: 0 });
    const value = await metrics('n1');
    assert.equal(value('sluice_enforcing'), 1);
    assert.equal(value('sluice_audited_pods'), 0);
    assert.ok((value('sluice_denied_packets_total{namespace="shop",direction="ingress"}') ?? 0) >= 4);
    assert.equal(value('sluice_would_be_denied_packets_total{namespace="shop",direction="ingress"}'), undefined);
  });

  it('with --mode audit lets everything through, and counts and logs what would be refused', async () => {
    await restart(['--mode', 'audit', '--audit-namespaces']);
    const poller = new Poller();
    const records: { chain: string; audited: boolean }[] = [];
    const log = inNamespace(cluster.lab.nodes[0]?.netns ?? assert.fail(), () =>
      PacketLog.open({
        poller,
        group: LOG_GROUP,
        onEvent: (event) => {
          if (event.event === 'packet') records.push(readLogPrefix(event.packet.prefix));
        },
      }),
    );
    try {
      await cluster.expect('allowed', { from: 'dev/friend', to: 'shop/near' }, { from: 'dev/friend', to: 'shop/far' });
      assert.equal(await cluster.letThrough('ingress', 'shop/near'), 0, 'what a policy admits is not counted as refused');
      await cluster.expect(
        'allowed',
        { from: 'dev/stranger', to: 'shop/near' },
        { from: 'dev/friend', to: 'shop/near', port: 81 },
        { from: 'shop/mute', to: 'dev/stranger', protocols: ['TCP', 'UDP', 'ICMP'] },
        { from: 'dev/friend', to: 'bank/vault' },
        { from: 'bank/vault', to: 'shop/far' },
      );
      // TCP and UDP, IPv4 and IPv6, each once: what comes back makes the rest of a flow.
      assert.equal(await cluster.letThrough('ingress', 'shop/near'), 8);
      assert.equal(await cluster.letThrough('egress', 'shop/mute'), 6);
      assert.equal(await cluster.letThrough('ingress', 'bank/vault'), 4);
      assert.equal(await cluster.letThrough('egress', 'bank/vault'), 4);
      assert.equal(await cluster.letThrough('ingress', 'shop/far'), 4);
      await eventually(
        () => records.length >= 22,
        () => `${records.length} records`,
      );
      const expected = { 'ingress/shop/near': 8, 'egress/shop/mute': 6, 'ingress/bank/vault': 4, 'egress/bank/vault': 4 };
      const found = Object.fromEntries(Object.keys(expected).map((name) => [name, records.filter(({ chain }) => chain === name).length]));
      assert.deepEqual(found, expected);
      assert.ok(records.every(({ audited }) => audited));
    } finally {
      log.close();
      poller.close();
    }

    const agent = cluster.agent('n1');
    const status = agent.status ?? assert.fail();
    // Both of shop, and the one of bank.
    assert.deepEqual([status.mode, status.auditedPods, status.ready], ['audit', 3, true]);
    const [line, ...others] = agent.log().filter(({ code }) => code === 'AUDIT');
    assert.equal(line?.level, 'warn');
    assert.match(line?.message ?? '', /^audit: nothing is enforced/);
    assert.deepEqual(others, []);
    const value = await metrics('n1');
    assert.equal(value('sluice_enforcing'), 0);
    assert.equal(value('sluice_ready'), 1);
    assert.equal(value('sluice_audited_pods'), 3);
    assert.equal(value('sluice_isolated_pods{direction="ingress"}'), 3);
    assert.equal(value('sluice_would_be_denied_packets_total{namespace="shop",direction="ingress"}'), 8);
    assert.equal(value('sluice_would_be_denied_packets_total{namespace="bank",direction="egress"}'), 4);
    assert.equal(value('sluice_denied_packets_total{namespace="shop",direction="ingress"}'), undefined);
  });

  it('audits a namespace that asks for it, where the agent allows it, and no other', async () => {
    await restart(['--audit-namespaces'], ['n1']);
    await restart([], ['n2']);
    await cluster.apply(shop('audit'));
    await cluster.expectAll([
      ['allowed', { from: 'dev/stranger', to: 'shop/near' }],
      ['allowed', { from: 'shop/mute', to: 'dev/stranger' }],
      ['denied', { from: 'dev/stranger', to: 'shop/far' }],
      ['denied', { from: 'dev/friend', to: 'bank/vault' }],
      // What one end lets through the other may refuse.
      ['denied', { from: 'shop/mute', to: 'bank/vault' }],
      ['denied', { from: 'bank/vault', to: 'shop/near' }],
    ]);
    assert.ok((await cluster.letThrough('egress', 'shop/mute')) >= 8);
    assert.ok((await cluster.dropped('ingress', 'bank/vault')) >= 8);
    const [n1, n2] = NODES.map((node) => cluster.agent(node));
    assert.ok(n1 !== undefined && n2 !== undefined);
    assert.deepEqual([n1.status?.mode, n1.status?.auditedPods, n1.status?.sourceProblems], ['enforce', 2, {}]);
    assert.deepEqual([n2.status?.mode, n2.status?.auditedPods], ['enforce', 0]);
    assert.deepEqual(n2.status?.sourceProblems, { 'sluice.dev/mode of Namespace shop': 1 });
    assert.deepEqual(
      [n1, n2].map((agent) =>
        agent.log().flatMap(({ code, level }) => (String(code).startsWith('NAMESPACE_') ? [`${level} ${String(code)}`] : [])),
      ),
      [['warn NAMESPACE_AUDITED'], ['warn NAMESPACE_MODE_NOT_ALLOWED']],
    );

    for (const mode of ['enforce', 'off', 'Audit', undefined]) {
      await cluster.apply(shop(mode));
      await cluster.expect('denied', { from: 'dev/stranger', to: 'shop/near' }, { from: 'shop/mute', to: 'dev/stranger' });
      assert.equal(n1.status?.auditedPods, 0);
    }
    assert.equal(n1.log().filter(({ code, level }) => code === 'NAMESPACE_MODE_UNKNOWN' && level === 'error').length, 2);
    assert.deepEqual(n2.status?.sourceProblems, {});
  });

  it('row 27: leaves live flows alone that would be refused, cuts them when it enforces, and lets them go on when it does not', async () => {
    await cluster.apply(shop('audit'));
    const open = (from: string): Promise<LabFlow[]> =>
      Promise.all(
        (['TCP', 'UDP'] as const).flatMap((protocol) =>
          ([4, 6] as const).map((family) => cluster.lab.openFlow({ from, to: 'shop/near', port: 80, protocol, family })),
        ),
      );
    const [refused, allowed] = await Promise.all([open('dev/stranger'), open('dev/friend')]);
    for (const flow of [...refused, ...allowed]) await flow.serverSends({ everyMs: 10 });
    const goOn = async (): Promise<void> => {
      assert.deepEqual(await Promise.all(refused.map((flow) => flow.delivers('server', 10_000))), [true, true, true, true]);
    };
    const areCut = async (): Promise<void> => {
      assert.deepEqual(
        (await lastArrivals(refused)).map(({ silent }) => silent),
        [true, true, true, true],
      );
    };

    const { flowsCut = 0, flowsRestored = 0 } = cluster.agent('n1').status ?? {};
    // Each judges the flows of the pods that it selects anew.
    await cluster.apply(policyObject('shop', 'other', { policyTypes: ['Ingress', 'Egress'], egress: [{}] }));
    await cluster.remove(policyObject('shop', 'other', {}));
    await goOn();
    assert.equal(cluster.agent('n1').status?.flowsCut, flowsCut);

    await cluster.apply(shop());
    await areCut();
    await cluster.apply(shop('audit'));
    await goOn();
    const status = cluster.agent('n1').status ?? assert.fail();
    // What the tests before have left is judged as well.
    assert.ok(status.flowsCut >= flowsCut + 4 && status.flowsRestored >= flowsRestored + 4);

    await restart([], ['n1']);
    await areCut();
    await restart(['--mode', 'audit'], ['n1']);
    await goOn();
    await restart([], ['n1']);
    await areCut();
    await restart(['--audit-namespaces'], ['n1']);
    await goOn();

    await Promise.all([...refused, ...allowed].map((flow) => flow.stop()));
    await eventually(async () => {
      const counts = await Promise.all(allowed.map((flow) => flow.counts()));
      return counts.every(({ client, server, broken }) => client.received === server.sent && server.sent > 100 && broken === undefined);
    }, 'every message of the flows that are allowed arrives');
    await Promise.all([...refused, ...allowed].map((flow) => flow.close()));
    await cluster.apply(shop());
  });

  interface Switch {
    readonly how: string;
    /** What the agent is started with. */
    readonly args: readonly string[];
    readonly toAudit: () => Promise<void>;
    readonly toEnforce: () => Promise<void>;
    /** Whether bank is audited along with shop. */
    readonly ofAll: boolean;
  }

  const switches: readonly Switch[] = [
    {
      how: 'by a restart with the other mode',
      args: [],
      toAudit: () => restart(['--mode', 'audit'], ['n1']),
      toEnforce: () => restart([], ['n1']),
      ofAll: true,
    },
    {
      how: 'by a restart that allows a namespace what it asks for',
      args: [],
      toAudit: async () => {
        await cluster.apply(shop('audit'));
        await restart(['--audit-namespaces'], ['n1']);
      },
      toEnforce: async () => {
        await restart([], ['n1']);
        await cluster.apply(shop());
      },
      ofAll: false,
    },
    {
      how: 'by the annotation',
      args: ['--audit-namespaces'],
      toAudit: () => cluster.apply(shop('audit')),
      toEnforce: () => cluster.apply(shop()),
      ofAll: false,
    },
  ];

  for (const { how, args, toAudit, toEnforce, ofAll } of switches) {
    it(`switches ${how}, loses no packet that is allowed, and lets none through before or after`, async () => {
      await restart(args, ['n1']);
      const streams = await Promise.all(
        (['TCP', 'UDP'] as const).flatMap((protocol) =>
          ([4, 6] as const).map((family) =>
            cluster.lab.startStream(
              { from: 'dev/friend', to: 'shop/near', port: 80, protocol, family },
              { perSecond: 25, timeoutMs: 15_000 },
            ),
          ),
        ),
      );
      const open = (from: string, to: string, port: number): NumberedPackets[] =>
        ([4, 6] as const).map((family) => new NumberedPackets(cluster.lab, { from, to, port, family, everyMs: 5 }));
      const allowed = open('dev/friend', 'shop/near', 7000);
      const switched = open('dev/stranger', 'shop/near', 7001);
      const others = open('dev/friend', 'bank/vault', 7000);
      if (ofAll) switched.push(...others);
      /** Between which of its packets each switch took place, a stream each. */
      const between = switched.map((): [from: number, to: number][] => []);
      const more = (): Promise<unknown> => Promise.all(switched.map((stream) => stream.more(40)));
      await more();
      for (const step of [toAudit, toEnforce, toAudit, toEnforce]) {
        const from = switched.map(({ sent }) => sent);
        await step();
        for (const [index, { sent }] of switched.entries()) between[index]?.push([from[index] ?? 0, sent]);
        await more();
      }

      const passed = new Map(
        await Promise.all([...allowed, ...switched, ...others].map(async (stream) => [stream, await stream.stop()] as const)),
      );
      for (const stream of allowed) {
        const lost = (passed.get(stream) ?? []).flatMap((arrived, number) => (arrived ? [] : [number]));
        assert.deepEqual(lost, [], `of ${stream.sent} packets that are allowed`);
      }
      for (const [index, stream] of switched.entries()) {
        const arrivals = passed.get(stream) ?? [];
        const turns = arrivals.flatMap((arrived, number) => (number > 0 && arrived !== arrivals[number - 1] ? [number] : []));
        const told = `refused and let through in turn, once a switch: ${turns.join(' ')}, switched at ${JSON.stringify(between[index])}`;
        assert.equal(arrivals[0], false);
        assert.equal(turns.length, 4, told);
        for (const [turn, number] of turns.entries()) {
          const [from, to] = between[index]?.[turn] ?? assert.fail();
          assert.ok(from <= number && number <= to, told);
        }
      }
      for (const stream of ofAll ? [] : others) {
        const through = (passed.get(stream) ?? []).flatMap((arrived, number) => (arrived ? [number] : []));
        assert.deepEqual(through, [], `of ${stream.sent} packets that are refused`);
      }
      for (const { started, answered, unanswered, failed } of await Promise.all(streams.map((stream) => stream.stop())))
        assert.deepEqual({ answered, unanswered, failed }, { answered: started, unanswered: 0, failed: {} });
    });
  }
});
