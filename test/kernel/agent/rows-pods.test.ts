/** The rows of the semantics that are about whose an address is, and from when to when, on packets. */
import assert from 'node:assert/strict';
import { AgentLab, type Expectation } from '../support/agent-lab.ts';
import { type KubernetesObject, podObject, policyObject, tcpAndUdp } from '../support/objects.ts';
import type { LabPod } from '../../../src/lab/topology.ts';

const allowed = (from: string, to: string, more: Partial<Expectation> = {}): readonly ['allowed', Expectation] => [
  'allowed',
  { from, to, ...more },
];
const denied = (from: string, to: string, more: Partial<Expectation> = {}): readonly ['denied', Expectation] => [
  'denied',
  { from, to, ...more },
];
const app = (name: string): { readonly podSelector: unknown } => ({ podSelector: { matchLabels: { app: name } } });

describe('pods and nodes', function () {
  this.timeout(60_000);
  let cluster: AgentLab;
  let b: LabPod;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'a', node: 'n1' },
        { namespace: 'dev', name: 'b', node: 'n1' },
        { namespace: 'dev', name: 'c', node: 'n2' },
        { namespace: 'dev', name: 'host', node: 'n2', hostNetwork: true, ports: [8080] },
      ],
      podLabels: Object.fromEntries(['a', 'b', 'c', 'host'].map((name) => [`dev/${name}`, { app: name }])),
    });
    b = cluster.lab.pod('dev/b');
  });

  after(() => cluster.close());

  /** In force during the action, and gone afterwards. */
  async function under(objects: readonly KubernetesObject[], action: () => Promise<void>): Promise<void> {
    await cluster.apply(...objects);
    try {
      await action();
    } finally {
      await cluster.remove(...objects);
    }
  }

  it('row 28: a pod and its own node always reach each other, by every address of the node; another node is external', () =>
    under([policyObject('dev', 'isolated', { policyTypes: ['Ingress', 'Egress'] })], () =>
      cluster.expectAll([
        allowed('node/n1', 'dev/a'),
        allowed('node/n1', 'dev/a', { protocols: ['ICMP'] }),
        allowed('dev/a', 'node/n1'),
        ...['10.244.0.1', '10.244.0.0', '172.18.0.2', 'fd00:10:244::1', 'fd00:172:18::2'].map((to) =>
          allowed('dev/a', to, { answeredBy: 'node/n1' }),
        ),
        // The overlay device's is the subnet-router anycast address of the podCIDR (RFC 4291, 2.6.1), which answers no TCP.
        allowed('dev/a', 'fd00:10:244::', { protocols: ['UDP'], answeredBy: 'node/n1' }),
        denied('node/n2', 'dev/a'),
        denied('dev/a', 'node/n2'),
        denied('dev/a', 'outside'),
        denied('outside', 'dev/a'),
      ]),
    ));

  it('row 28: an ipBlock opens to another node', () =>
    under(
      [
        policyObject('dev', 'blocks', {
          ingress: [{ from: ['172.18.0.3/32', 'fd00:172:18::3/128'].map((cidr) => ({ ipBlock: { cidr } })) }],
        }),
      ],
      () => cluster.expectAll([allowed('node/n2', 'dev/a'), denied('dev/c', 'dev/a'), denied('outside', 'dev/a')]),
    ));

  it('row 29: a hostNetwork pod is neither subject nor peer', () =>
    under([policyObject('dev', 'from-host', { ingress: [{ from: [app('host')] }] })], () =>
      cluster.expectAll([
        allowed('dev/a', 'dev/host', { port: 8080 }),
        allowed('outside', 'dev/host', { port: 8080 }),
        denied('dev/host', 'dev/a'),
      ]),
    ));

  it('row 33: a pod that has ended leaves every set at once, as a peer and as a subject', async () => {
    const policies = [policyObject('dev', 'a', { ...app('a'), ingress: [{ from: [app('b')] }] }), policyObject('dev', 'b', app('b'))];
    await under(policies, async () => {
      await cluster.expectAll([allowed('dev/b', 'dev/a'), denied('dev/a', 'dev/b')]);
      for (const phase of ['Succeeded', 'Failed']) {
        await cluster.apply(podObject(b, { labels: { app: 'b' }, phase }));
        await cluster.expectAll([denied('dev/b', 'dev/a'), allowed('dev/a', 'dev/b')]);
      }
      await cluster.apply(podObject(b, { labels: { app: 'b' } }));
    });
  });

  it('rows 33, 40: an address belongs to the newest pod that lives, whatever the order of events', async () => {
    const original = podObject(b, { labels: { app: 'b' } });
    const claim = (name: string, creationTimestamp: string, phase = 'Running'): KubernetesObject =>
      podObject({ ...b, name }, { labels: { app: name }, creationTimestamp, phase });
    const older = claim('older', '2026-01-02T00:00:00Z');
    const newer = claim('newer', '2026-01-03T00:00:00Z');
    await cluster.remove(original);
    const policies = [
      policyObject('dev', 'a', { ...app('a'), ingress: [{ from: [app('newer')] }] }),
      policyObject('dev', 'c', { ...app('c'), ingress: [{ from: [app('older')] }] }),
      policyObject('dev', 'newer', app('newer')),
    ];
    const isNewer = [allowed('dev/b', 'dev/a'), denied('dev/b', 'dev/c'), denied('dev/a', 'dev/b')];
    const isOlder = [denied('dev/b', 'dev/a'), allowed('dev/b', 'dev/c'), allowed('dev/a', 'dev/b')];
    await under(policies, async () => {
      for (const order of [
        [older, newer],
        [newer, older],
      ]) {
        for (const object of order) await cluster.apply(object);
        await cluster.expectAll(isNewer);
        await cluster.remove(newer);
        await cluster.expectAll(isOlder);
        await cluster.apply(newer);
        await cluster.expectAll(isNewer);
        // The newer one ends: the older one, which lives, has the address.
        await cluster.apply(claim('newer', '2026-01-03T00:00:00Z', 'Succeeded'));
        await cluster.expectAll(isOlder);
        await cluster.remove(older, newer);
      }
    });
    await cluster.apply(original);
  });

  it('row 34: a terminating pod keeps its isolation and its membership until it is gone', async () => {
    const policies = [policyObject('dev', 'a', { ...app('a'), ingress: [{ from: [app('b')] }] }), policyObject('dev', 'b', app('b'))];
    await under(policies, async () => {
      await cluster.apply(podObject(b, { labels: { app: 'b' }, deletionTimestamp: '2026-01-05T00:00:00Z' }));
      await cluster.expectAll([allowed('dev/b', 'dev/a'), denied('dev/a', 'dev/b')]);
      await cluster.remove(podObject(b));
      await cluster.expectAll([denied('dev/b', 'dev/a'), allowed('dev/a', 'dev/b')]);
      await cluster.apply(podObject(b, { labels: { app: 'b' } }));
    });
  });

  it('row 35: a pod is isolated from its first packet, while it is being made and before it is ready', async () => {
    const addresses = ['10.244.0.77', 'fd00:10:244::77'];
    const made = { namespace: 'dev', name: 'made', node: 'n1', addresses };
    const object = (fields: Parameters<typeof podObject>[1]): KubernetesObject =>
      podObject({ ...b, name: 'made' }, { labels: { app: 'made' }, addresses, ...fields });
    await under([policyObject('dev', 'made', app('made')), object({ phase: 'Pending', initialising: true })], async () => {
      const streams = await Promise.all(
        ['dev/a', 'dev/c'].flatMap((from) =>
          addresses.flatMap((to) =>
            (['TCP', 'UDP'] as const).map((protocol) =>
              cluster.lab.startStream({ from, to, port: 80, protocol }, { perSecond: 50, timeoutMs: 500 }),
            ),
          ),
        ),
      );
      await cluster.lab.addPod(made);
      await cluster.expectAll([denied('dev/a', 'dev/made'), allowed('node/n1', 'dev/made')]);
      await cluster.apply(object({ phase: 'Running', initialising: true }));
      await cluster.expectAll([denied('dev/c', 'dev/made')]);
      for (const { answered, started } of await Promise.all(streams.map((stream) => stream.stop()))) {
        assert.equal(answered, 0);
        assert.ok(started > 5);
      }
    });
    // It was policy that kept it closed.
    await cluster.expectAll([allowed('dev/a', 'dev/made'), allowed('dev/c', 'dev/made')]);
    await cluster.lab.removePod('dev/made');
  });

  it('row 36: both addresses of a pod are in force, and a block of one family opens nothing of the other', async () => {
    const block = (cidr: string): KubernetesObject =>
      policyObject('dev', 'block', { ...app('a'), ingress: [{ from: [{ ipBlock: { cidr } }], ports: tcpAndUdp(80) }] });
    for (const [cidr, open, shut] of [
      ['0.0.0.0/0', 4, 6],
      ['::/0', 6, 4],
    ] as const) {
      await under([block(cidr)], () =>
        cluster.expectAll(
          ['dev/b', 'dev/c', 'outside'].flatMap((from) => [
            allowed(from, 'dev/a', { families: [open] }),
            denied(from, 'dev/a', { families: [shut] }),
          ]),
        ),
      );
    }
    await under([policyObject('dev', 'pods', { ...app('a'), ingress: [{ from: [app('b')] }] })], () =>
      cluster.expectAll([allowed('dev/b', 'dev/a'), denied('dev/c', 'dev/a')]),
    );
  });
});
