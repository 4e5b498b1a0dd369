/** Who is isolated, and how policies come together: rows 1 to 3, 23 to 25, 35, 37 to 39. */
import assert from 'node:assert/strict';
import type { Policy } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { allows, ask, labels, MODEL, namespace, only, pod, policy } from './model.ts';

const EXTERNAL = '198.51.100.7';

function world(...policies: readonly Policy[]) {
  return worldOf({ ...MODEL, policies });
}

/** What a spec isolates. */
function isolated(spec: unknown): string[] {
  const read = policy(spec);
  return [...(read.ingress ? ['Ingress'] : []), ...(read.egress ? ['Egress'] : [])];
}

describe('isolation', () => {
  it('row 1: without policyTypes it is Ingress, and Egress only where there are egress rules', () => {
    assert.deepEqual(isolated({ podSelector: {} }), ['Ingress']);
    assert.deepEqual(isolated({ podSelector: {}, ingress: [{}] }), ['Ingress']);
    assert.deepEqual(isolated({ podSelector: {}, egress: [{}] }), ['Ingress', 'Egress']);
    assert.deepEqual(isolated({ podSelector: {}, egress: [] }), ['Ingress']);
    assert.deepEqual(isolated({ podSelector: {}, egress: null, policyTypes: null }), ['Ingress']);
    assert.deepEqual(isolated({ podSelector: {}, egress: [{}], policyTypes: [] }), ['Ingress', 'Egress']);
  });

  it('row 1: policyTypes that are written decide alone', () => {
    assert.deepEqual(isolated({ podSelector: {}, egress: [{}], policyTypes: ['Ingress'] }), ['Ingress']);
    assert.deepEqual(isolated({ podSelector: {}, ingress: [{}], policyTypes: ['Egress'] }), ['Egress']);
    assert.deepEqual(isolated({ podSelector: {}, policyTypes: ['Egress', 'Ingress'] }), ['Ingress', 'Egress']);
  });

  it('row 2: no ingress rules deny all', () => {
    for (const spec of [
      { podSelector: {} },
      { podSelector: {}, ingress: [] },
      { podSelector: {}, ingress: null },
      { ingress: [] },
      {},
      undefined,
    ]) {
      assert.ok(!allows(world(policy(spec)), 'x/b', 'x/a'));
      assert.ok(!allows(world(policy(spec)), EXTERNAL, 'x/a', 'ICMP'));
      assert.ok(allows(world(policy(spec)), 'x/b', 'y/a'));
    }
  });

  it('row 2: an empty rule allows all', () => {
    const open = world(policy({ podSelector: {}, ingress: [{}] }));
    for (const from of ['x/b', 'y/a', EXTERNAL, '192.0.2.3']) {
      for (const protocol of ['TCP', 'UDP', 'SCTP', 'ICMP', 'other'] as const) assert.ok(allows(open, from, 'x/a', protocol, 9999), from);
    }
    assert.equal(ask(open, 'x/b', 'x/a').ingress.reason, 'admitted');
  });

  it('row 3: empty or missing from, to and ports restrict nothing, external addresses included', () => {
    for (const none of [undefined, null, []]) {
      const ingress = world(policy({ podSelector: {}, ingress: [{ from: none, ports: [{ port: 80 }] }] }));
      assert.ok(allows(ingress, EXTERNAL, 'x/a', 'TCP', 80));
      assert.ok(!allows(ingress, EXTERNAL, 'x/a', 'TCP', 81));
      const egress = world(policy({ podSelector: {}, policyTypes: ['Egress'], egress: [{ to: none, ports: [{ port: 80 }] }] }));
      assert.ok(allows(egress, 'x/a', EXTERNAL, 'TCP', 80));
      assert.ok(!allows(egress, 'x/a', EXTERNAL, 'TCP', 81));
      const anyPort = world(policy({ podSelector: {}, ingress: [{ from: [{ podSelector: {} }], ports: none }] }));
      assert.ok(allows(anyPort, 'x/b', 'x/a', 'SCTP', 9999));
      assert.ok(!allows(anyPort, EXTERNAL, 'x/a', 'SCTP', 9999));
    }
  });

  it('row 23: SCTP is not TCP, and a policy that only names SCTP isolates', () => {
    const sctp = world(policy({ podSelector: {}, ingress: [{ ports: [{ protocol: 'SCTP', port: 80 }] }] }));
    assert.ok(allows(sctp, 'y/a', 'x/a', 'SCTP', 80));
    assert.ok(!allows(sctp, 'y/a', 'x/a', 'TCP', 80));
  });

  it('row 24: a policy that only names UDP blocks TCP', () => {
    const udp = world(policy({ podSelector: {}, ingress: [{ ports: [{ protocol: 'UDP', port: 80 }] }] }));
    assert.ok(allows(udp, 'y/a', 'x/a', 'UDP', 80));
    assert.ok(!allows(udp, 'y/a', 'x/a', 'TCP', 80));
  });

  it('row 25: policies of one direction unite', () => {
    const fromB = policy({ podSelector: only('a'), ingress: [{ from: [{ podSelector: only('b') }] }] }, 'from-b');
    const fromC = policy({ podSelector: {}, ingress: [{ from: [{ podSelector: only('c') }] }] }, 'from-c');
    for (const both of [world(fromB, fromC), world(fromC, fromB)]) {
      assert.ok(allows(both, 'x/b', 'x/a'));
      assert.ok(allows(both, 'x/c', 'x/a'));
      assert.ok(!allows(both, 'y/b', 'x/a'));
      assert.ok(!allows(both, 'x/a', 'x/b'));
    }
  });

  it('row 25: rules of one policy unite', () => {
    const two = world(policy({ podSelector: {}, ingress: [{ from: [{ podSelector: only('b') }] }, { ports: [{ port: 81 }] }] }));
    assert.ok(allows(two, 'x/b', 'x/a', 'TCP', 80));
    assert.ok(allows(two, 'y/c', 'x/a', 'TCP', 81));
    assert.ok(!allows(two, 'y/c', 'x/a', 'TCP', 80));
  });

  it('row 25: egress of the client and ingress of the server must both allow', () => {
    const client = policy({
      podSelector: {},
      policyTypes: ['Egress'],
      egress: [{ to: [{ namespaceSelector: {} }], ports: [{ port: 80 }] }],
    });
    const server = policy({ podSelector: {}, ingress: [{ ports: [{ port: 80 }, { port: 81 }] }] }, 'server', 'y');
    const both = world(client, server);
    assert.ok(allows(both, 'x/a', 'y/a', 'TCP', 80));
    const refusedByClient = ask(both, 'x/a', 'y/a', 'TCP', 81);
    assert.deepEqual([refusedByClient.allowed, refusedByClient.egress.allowed, refusedByClient.ingress.allowed], [false, false, true]);
    const refusedByServer = ask(both, 'z/a', 'y/a', 'TCP', 82);
    assert.deepEqual([refusedByServer.allowed, refusedByServer.egress.allowed, refusedByServer.ingress.allowed], [false, true, false]);
  });

  it('row 25: a policy for egress only does not isolate ingress', () => {
    const egress = world(policy({ podSelector: {}, policyTypes: ['Egress'] }));
    assert.ok(allows(egress, 'y/a', 'x/a'));
    assert.ok(!allows(egress, 'x/a', 'y/a'));
  });

  it('row 25: a policy isolates pods of its own namespace only', () => {
    const denied = world(policy({ podSelector: {} }));
    assert.ok(!allows(denied, 'y/a', 'x/a'));
    assert.ok(allows(denied, 'x/a', 'y/a') && allows(denied, 'x/a', 'z/c'));
  });

  it('row 35: a pod is isolated before it has a node or an address', () => {
    const early = pod('x/new', { node: '', addresses: [], labels: labels({ pod: 'new' }) });
    const deny = policy({ podSelector: only('new'), policyTypes: ['Ingress', 'Egress'] });
    const cluster = worldOf({ ...MODEL, pods: [early], policies: [deny] });
    assert.deepEqual(cluster.isolating(early, 'ingress'), [deny]);
    assert.deepEqual(cluster.isolating(early, 'egress'), [deny]);
  });

  it('row 37: a policy is in force while it exists, whatever has become of its namespace', () => {
    const denied = worldOf({ ...MODEL, namespaces: [namespace('y')], policies: [policy({ podSelector: {} })] });
    assert.ok(!allows(denied, 'y/a', 'x/a'));
  });

  it('row 38: labels of namespaces, peers and subjects take effect without a change of the policy', () => {
    const unchanged = policy({
      podSelector: { matchLabels: { guarded: 'yes' } },
      ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: 'red' } }, podSelector: { matchLabels: { role: 'client' } } }] }],
    });
    const guarded = pod('x/a', { labels: labels({ guarded: 'yes' }) });
    const client = pod('y/a', { labels: labels({ role: 'client' }) });
    const red = namespace('y', { team: 'red' });
    const asked = (pods: readonly ReturnType<typeof pod>[], namespaces: readonly ReturnType<typeof namespace>[]): boolean =>
      allows(worldOf({ nodes: MODEL.nodes, pods, namespaces, policies: [unchanged] }), 'y/a', 'x/a');
    assert.ok(asked([pod('x/a'), client], [red]), 'not yet a subject');
    assert.ok(!asked([guarded, client], [namespace('y')]), 'a subject, and the namespace not yet a peer');
    assert.ok(!asked([guarded, pod('y/a')], [red]), 'the pod not yet a peer');
    assert.ok(asked([guarded, client], [red]));
  });

  it('row 39: an unknown policy type isolates both directions and allows nothing for itself', () => {
    const spec = { podSelector: {}, policyTypes: ['Ingres'], ingress: [{}], egress: [{}] };
    assert.deepEqual(isolated(spec), ['Ingress', 'Egress']);
    assert.ok(!allows(world(policy(spec)), 'y/a', 'x/a'));
    assert.ok(!allows(world(policy(spec)), 'x/a', 'y/a'));
    assert.deepEqual(
      policy(spec).problems.map(({ path, code }) => [path, code]),
      [['spec.policyTypes[0]', 'POLICY_TYPE_UNKNOWN']],
    );
  });

  it('row 39: an unknown policy type beside a known one leaves the rules of the known one', () => {
    for (const policyTypes of [
      ['Ingress', 'ingress'],
      ['Tunnel', 'Ingress'],
      ['Ingress', null],
    ]) {
      const mixed = world(policy({ podSelector: {}, policyTypes, ingress: [{ ports: [{ port: 80 }] }], egress: [{}] }));
      assert.ok(allows(mixed, 'y/a', 'x/a', 'TCP', 80));
      assert.ok(!allows(mixed, 'y/a', 'x/a', 'TCP', 81));
      assert.ok(!allows(mixed, 'x/a', 'y/a', 'TCP', 80));
    }
  });

  it('row 39: an unknown protocol isolates and allows nothing for its entry', () => {
    for (const protocol of ['tcp', '', 'ICMP', 6, {}]) {
      const entry = world(policy({ podSelector: {}, ingress: [{ ports: [{ protocol, port: 80 }, { port: 81 }] }] }));
      for (const asked of ['TCP', 'UDP', 'SCTP', 'ICMP', 'other'] as const) assert.ok(!allows(entry, 'y/a', 'x/a', asked, 80));
      assert.ok(allows(entry, 'y/a', 'x/a', 'TCP', 81));
    }
    const alone = world(policy({ podSelector: {}, ingress: [{ ports: [{ protocol: 'tcp' }] }] }));
    assert.ok(!allows(alone, 'y/a', 'x/a', 'TCP', 80));
  });
});
