/**
 * Rows 26 and 27 on packets: a live flow that a change forbids is cut in both directions while only the server sends, one that
 * stays allowed loses nothing, and one that is allowed again goes on. TCP and UDP, directly and through a Service's DNAT, IPv4 and
 * IPv6, on one node and across nodes, at once.
 */
import assert from 'node:assert/strict';
import type { LabFlow } from '../../../src/lab/flows.ts';
import type { LabProbe } from '../../../src/lab/lab.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { lastArrivals } from '../support/arrivals.ts';
import { eventually } from '../support/eventually.ts';
import { FixedPortClient } from '../support/fixed-port.ts';
import { type KubernetesObject, namespaceObject, peer, podObject, policyObject, tcpAndUdp } from '../support/objects.ts';

const SERVICES = [
  { pod: 'shop/near', addresses: ['10.96.0.1', 'fd00:10:96::1'] },
  { pod: 'shop/far', addresses: ['10.96.0.2', 'fd00:10:96::2'] },
] as const;
/** How soon after the commit a flow has to be cut. Meant: 100 ms; a busy machine is given more. */
const CUT_WITHIN_MS = 500;

type FlowProbe = LabProbe & { readonly protocol: 'TCP' | 'UDP' };

interface OpenFlow {
  readonly probe: FlowProbe;
  readonly flow: LabFlow;
  readonly server: string;
}

/** From a client to both servers, directly and through their Services. */
function everyWay(from: string, port: number): readonly (FlowProbe & { readonly server: string })[] {
  return SERVICES.flatMap(({ pod, addresses }) =>
    (['TCP', 'UDP'] as const).flatMap((protocol) =>
      ([4, 6] as const).flatMap((family) => [
        { from, to: pod, port, protocol, family, server: pod },
        { from, to: family === 4 ? addresses[0] : addresses[1], port: port + 8000, protocol, family, server: pod },
      ]),
    ),
  );
}

async function openAll(cluster: AgentLab, probes: ReturnType<typeof everyWay>): Promise<readonly OpenFlow[]> {
  return Promise.all(
    probes.map(async ({ server, ...probe }) => {
      const flow = await cluster.lab.openFlow(probe);
      assert.equal((await flow.counts()).answeredBy, server);
      return { probe, flow, server };
    }),
  );
}

function shown({ from, to, port, protocol, family }: FlowProbe): string {
  return `${from} -> ${to} ${protocol}/${port} IPv${family}`;
}

/** Those of the flows on which a message of this side does (not) arrive within the time. */
async function delivering(flows: readonly OpenFlow[], from: 'client' | 'server', withinMs: number): Promise<readonly string[]> {
  const delivered = await Promise.all(flows.map(({ flow }) => flow.delivers(from, withinMs)));
  return flows.filter((_, index) => delivered[index]).map(({ probe }) => shown(probe));
}

describe('live flows', function () {
  this.timeout(60_000);
  let cluster: AgentLab;
  let client: KubernetesObject;
  let dev: KubernetesObject;
  /** dev/client to port 80: what each of the changes forbids. */
  let cut: readonly OpenFlow[];
  /** ops/steady to port 80 and dev/client to port 81: what all or most of the changes leave alone. */
  let steady: readonly OpenFlow[];
  let others: readonly OpenFlow[];

  const clients = peer({ role: 'client' }, { env: 'dev' });
  const allow = policyObject('shop', 'allow', { ingress: [{ from: [clients], ports: tcpAndUdp(80, 81) }] });

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'client', node: 'n1' },
        { namespace: 'ops', name: 'steady', node: 'n1' },
        { namespace: 'shop', name: 'near', node: 'n1' },
        { namespace: 'shop', name: 'far', node: 'n2' },
        { namespace: 'shop', name: 'spare', node: 'n2' },
      ],
      podLabels: { 'dev/client': { role: 'client' }, 'ops/steady': { role: 'client' } },
      namespaceLabels: { dev: { env: 'dev' }, ops: { env: 'dev' } },
      objects: [policyObject('shop', 'deny', {}), allow],
    });
    client = podObject(cluster.lab.pod('dev/client'), { labels: { role: 'client' } });
    dev = namespaceObject('dev', { env: 'dev' });
    for (const { pod, addresses } of SERVICES) {
      for (const address of addresses) {
        for (const protocol of ['TCP', 'UDP'] as const) {
          for (const port of [80, 81]) await cluster.lab.addService(address, port + 8000, [{ pod, port }], protocol);
        }
      }
    }
    cut = await openAll(cluster, everyWay('dev/client', 80));
    steady = await openAll(cluster, everyWay('ops/steady', 80));
    others = await openAll(cluster, everyWay('dev/client', 81));
    for (const { flow } of [...cut, ...steady, ...others]) await flow.serverSends({ everyMs: 10 });
  });

  after(() => cluster.close());

  /** When the change that was made last came into force on a server's or a client's node, ms since the epoch. */
  function inForceAt(node: string): number {
    return cluster.agent(node).logged('rules in force').at(-1)?.at ?? assert.fail(`nothing was committed on ${node}`);
  }

  interface Cause {
    readonly what: string;
    readonly forbid: () => Promise<void>;
    readonly allow: () => Promise<void>;
    /** dev/client's flows to port 81 are none of its business. */
    readonly spares81: boolean;
    /** Where the verdict changes: the servers' nodes, or the client's. */
    readonly at?: 'client';
  }

  const causes: readonly Cause[] = [
    {
      what: 'the ports that a policy allows are changed',
      forbid: () =>
        cluster.apply(
          policyObject('shop', 'allow', {
            ingress: [
              { from: [clients], ports: tcpAndUdp(81) },
              { from: [peer({}, { 'kubernetes.io/metadata.name': 'ops' })], ports: tcpAndUdp(80) },
            ],
          }),
        ),
      allow: () => cluster.apply(allow),
      spares81: true,
    },
    {
      what: 'a policy isolates the client for egress',
      forbid: () => cluster.apply(policyObject('dev', 'egress', { policyTypes: ['Egress'], egress: [{ ports: tcpAndUdp(81) }] })),
      allow: () => cluster.remove(policyObject('dev', 'egress', {})),
      spares81: true,
      at: 'client',
    },
    {
      what: 'the policy that allowed them is deleted, and another one allows others',
      forbid: async () => {
        cluster.write(policyObject('shop', 'allow-ops', { ingress: [{ from: [peer({}, { 'kubernetes.io/metadata.name': 'ops' })] }] }));
        await cluster.remove(allow);
      },
      allow: async () => {
        cluster.erase(policyObject('shop', 'allow-ops', {}));
        await cluster.apply(allow);
      },
      spares81: false,
    },
    {
      what: 'a label of the client is changed',
      forbid: () => cluster.apply(podObject(cluster.lab.pod('dev/client'), { labels: { role: 'visitor' } })),
      allow: () => cluster.apply(client),
      spares81: false,
    },
    {
      what: "a label of the client's namespace is changed",
      forbid: () => cluster.apply(namespaceObject('dev', { env: 'prod' })),
      allow: () => cluster.apply(dev),
      spares81: false,
    },
    {
      what: 'the client is deleted, and its packets are not those of a pod any more',
      forbid: () => cluster.remove(client),
      allow: () => cluster.apply(client),
      spares81: false,
    },
    {
      what: 'the client ends (phase Succeeded)',
      forbid: () => cluster.apply(podObject(cluster.lab.pod('dev/client'), { labels: { role: 'client' }, phase: 'Succeeded' })),
      allow: () => cluster.apply(client),
      spares81: false,
    },
  ];

  for (const { what, forbid, allow, spares81, at } of causes) {
    it(`row 27: are cut when ${what}, and go on when that is undone`, async function () {
      const gone = spares81 ? cut : [...cut, ...others];
      await forbid();
      const arrivals = await lastArrivals(gone.map(({ flow }) => flow));
      const late = gone.flatMap(({ probe, server }, index) => {
        const { silent, lastAt } = arrivals[index] ?? assert.fail();
        const afterMs = lastAt - inForceAt(at === 'client' ? 'n1' : cluster.lab.pod(server).node);
        return silent && afterMs < CUT_WITHIN_MS ? [] : [`${shown(probe)}: ${silent ? `cut after ${afterMs} ms` : 'goes on'}`];
      });
      assert.deepEqual(late, []);
      const [fromServer, fromClient, spared] = await Promise.all([
        delivering(gone, 'server', 150),
        delivering(gone, 'client', 150),
        delivering(spares81 ? [...steady, ...others] : steady, 'server', 5000),
      ]);
      assert.deepEqual([...fromServer, ...fromClient], [], 'both directions are cut');
      assert.equal(spared.length, spares81 ? steady.length + others.length : steady.length, 'others go on');

      await allow();
      assert.equal((await delivering(gone, 'server', 10_000)).length, gone.length, 'they go on');
    });
  }

  it('row 27: lose nothing through all of this, and through changes that have nothing to do with them, where they stay allowed', async () => {
    for (let turn = 0; turn < 5; turn++) {
      cluster.write(
        policyObject('shop', `unrelated-${turn}`, { podSelector: { matchLabels: { app: 'none' } }, policyTypes: ['Ingress', 'Egress'] }),
        policyObject('shop', 'more', { ingress: [{ from: [peer({ turn: `${turn}` }, {})] }] }),
      );
      await cluster.apply(podObject(cluster.lab.pod('shop/spare'), { labels: { turn: `${turn}` } }));
    }
    await Promise.all(steady.map(({ flow }) => flow.stop()));
    await eventually(async () => {
      const counts = await Promise.all(steady.map(({ flow }) => flow.counts()));
      return counts.every(({ client, server }) => client.received === server.sent);
    }, 'every message that a server sent arrives');
    for (const { probe, flow } of steady) {
      const { client, server, broken } = await flow.counts();
      assert.equal(client.received, server.sent, shown(probe));
      assert.ok(server.sent > 100, `${shown(probe)}: ${server.sent} messages`);
      assert.equal(broken, undefined, shown(probe));
    }
  });

  it('row 27: judge a connection anew that comes from the same port as one that was cut', async () => {
    const connections = (['TCP', 'UDP'] as const).flatMap((protocol) =>
      ([4, 6] as const).map((family) => ({ from: 'ops/steady', sourcePort: 4000, to: 'shop/far', port: 80, protocol, family })),
    );
    const connect = (): FixedPortClient[] => connections.map((connection) => new FixedPortClient(cluster.lab, connection));
    const first = connect();
    await Promise.all(first.map((client) => client.answered('shop/far')));
    await cluster.apply(policyObject('shop', 'allow', { ingress: [{ from: [clients], ports: tcpAndUdp(81) }] }));
    await Promise.all(first.map((client) => client.close()));
    const dropped = await cluster.dropped('ingress', 'shop/far');
    const second = connect();
    await Promise.all(second.map((client) => client.unanswered(500)));
    await eventually(async () => (await cluster.dropped('ingress', 'shop/far')) >= dropped + 2, 'both SYN are dropped as new ones');
    await Promise.all(second.map((client) => client.close()));
    await cluster.apply(allow);
    const third = connect();
    await Promise.all(third.map((client) => client.answered('shop/far')));
    await Promise.all(third.map((client) => client.close()));
  });

  it('row 26: replies pass whatever the other direction says', async () => {
    // The servers may not send anything by themselves, the clients may not be spoken to.
    const silent = [
      policyObject('shop', 'no-egress', { policyTypes: ['Egress'] }),
      policyObject('ops', 'no-ingress', { policyTypes: ['Ingress'] }),
    ];
    await cluster.apply(...silent);
    assert.equal((await delivering(steady, 'server', 5000)).length, steady.length, 'flows that were open');
    await cluster.expectAll(
      SERVICES.flatMap(({ pod, addresses }) => [
        ['allowed', { from: 'ops/steady', to: pod }] as const,
        ['allowed', { from: 'ops/steady', to: addresses[0], port: 8080, answeredBy: pod }] as const,
        ['allowed', { from: 'ops/steady', to: addresses[1], port: 8080, answeredBy: pod }] as const,
        ['denied', { from: pod, to: 'ops/steady' }] as const,
        ['denied', { from: pod, to: 'dev/client' }] as const,
      ]),
    );
    await cluster.remove(...silent);
  });
});
