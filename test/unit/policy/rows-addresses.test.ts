/**
 * Whose an address is: nodes, hostNetwork pods, pods that ended, pods that share an address: rows 28 to 31, 33 and 40.
 *
 * Rows that only packets, or the reading of API objects, can prove, and which the evaluator therefore has no test for:
 * - 26 replies always pass (the evaluator is asked about the first packet of a flow)
 * - 27 a flow that is no longer allowed is cut, one that still is is untouched
 * - 31 that masqueraded traffic does arrive with a node's address (what then follows is tested here)
 * - 32 ICMP errors of an allowed flow, and IPv6 neighbour discovery, pass
 * - 34 a terminating pod keeps its place: the reading of pods decides that it is not terminal; a pod that is not, is tested here
 * - 35 that isolation holds from the first packet (that it does not wait for an address is tested in rows-isolation)
 * - 41 to 45 link-local, broadcast, multicast, frames that cannot be seen, spoofed sources, the overlay's port
 * - 46 only ICMP errors count as related
 */
import assert from 'node:assert/strict';
import type { Pod } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { address, allows, ask, ip, KEYS, labels, MODEL, only, pod, podsWith, policy } from './model.ts';

const EXTERNAL = '198.51.100.7';
const DENY = policy({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] }, 'deny');
const DENIED = worldOf({ ...MODEL, policies: [DENY] });

/** x/a admits pods of its namespace that have this label, and nobody else. */
function admitting(label: string) {
  return policy({ podSelector: only('a'), ingress: [{ from: [{ podSelector: { matchLabels: { role: label } } }] }] });
}

function claimant(name: string, fields: Partial<Pod>): Pod {
  return pod(`x/${name}`, { addresses: [address('10.244.1.99')], labels: labels({ pod: name, role: name }), ...fields });
}

/** Which of two claimants of 10.244.1.99 is taken for its owner, in whatever order they are seen. */
function owner(one: Pod, other: Pod): string | undefined {
  const [first, second] = [
    [one, other],
    [other, one],
  ].map((pods) => worldOf({ ...MODEL, pods: [...MODEL.pods, ...pods] }).podAt(address('10.244.1.99'))?.name);
  assert.equal(first, second, 'the order of events makes a difference');
  return first;
}

describe('addresses', () => {
  it('row 28: a pod and its own node always reach one another', () => {
    for (const local of ['192.0.2.1', '2001:db8::1']) {
      assert.equal(ask(DENIED, local, 'x/a').ingress.reason, 'own-node');
      assert.ok(allows(DENIED, local, 'x/a') && allows(DENIED, 'x/a', local));
      assert.ok(allows(DENIED, local, 'x/a', 'ICMP', undefined));
    }
  });

  it('row 28: the overlay device and the bridge are the node’s own addresses as well', () => {
    for (const local of ['10.244.1.0', '10.244.1.1', 'fd00:244:1::', 'fd00:244:1::1']) {
      assert.ok(allows(DENIED, local, 'x/a'), local);
      assert.ok(allows(DENIED, 'x/a', local), local);
    }
    assert.ok(!allows(DENIED, '10.244.1.2', 'x/a'));
    assert.ok(!allows(DENIED, '10.244.1.255', 'x/a'));
  });

  it('row 28: another node is an ordinary external address', () => {
    for (const other of ['192.0.2.2', '10.244.2.0', '10.244.2.1', '2001:db8::3', 'fd00:244:3::1']) {
      assert.ok(!allows(DENIED, other, 'x/a'), other);
      assert.ok(!allows(DENIED, 'x/a', other), other);
    }
    const block = policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '192.0.2.2/32' } }] }] });
    assert.ok(allows(worldOf({ ...MODEL, policies: [block] }), '192.0.2.2', 'x/a'));
  });

  it('row 28: an address in the podCIDR that a pod has is that pod’s, though it be the second', () => {
    const odd = pod('x/odd', { addresses: [address('10.244.1.1')] });
    const deny = policy({ podSelector: only('a'), policyTypes: ['Ingress'] });
    assert.equal(ask(worldOf({ ...MODEL, policies: [deny] }), '10.244.1.1', 'x/a').ingress.reason, 'own-node');
    assert.equal(ask(worldOf({ ...MODEL, pods: podsWith(odd), policies: [deny] }), '10.244.1.1', 'x/a').ingress.reason, 'refused');
  });

  it('row 28: a pod without a node has none of its own', () => {
    const unscheduled = pod('x/a', { node: '' });
    const world = worldOf({
      pods: [unscheduled],
      policies: [DENY],
      nodes: [...MODEL.nodes, { name: '', addresses: [address(EXTERNAL)], podCIDRs: [] }],
    });
    assert.ok(!allows(world, EXTERNAL, 'x/a'));
  });

  it('row 29: a hostNetwork pod is no subject', () => {
    const host = pod('x/host', { hostNetwork: true, addresses: [address('192.0.2.1')] });
    const world = worldOf({ ...MODEL, pods: podsWith(host), policies: [DENY] });
    assert.deepEqual(world.isolating(host, 'ingress'), []);
    assert.equal(ask(world, EXTERNAL, '192.0.2.1').ingress.reason, 'node');
    assert.ok(allows(world, EXTERNAL, '192.0.2.1') && allows(world, '192.0.2.1', EXTERNAL));
  });

  it('row 29: a hostNetwork pod is no peer; only a block matches its node’s address', () => {
    const host = pod('x/host', { hostNetwork: true, node: 'n2', addresses: [address('192.0.2.2')] });
    const world = (from: object) =>
      worldOf({ ...MODEL, pods: podsWith(host), policies: [policy({ podSelector: only('a'), ingress: [{ from: [from] }] })] });
    assert.equal(world({}).podAt(address('192.0.2.2')), undefined);
    assert.ok(!allows(world({ podSelector: {} }), '192.0.2.2', 'x/a'));
    assert.ok(!allows(world({ namespaceSelector: {} }), '192.0.2.2', 'x/a'));
    assert.ok(allows(world({ ipBlock: { cidr: '192.0.2.2/32' } }), '192.0.2.2', 'x/a'));
  });

  it('row 30: a pod always reaches itself, and no other pod for that', () => {
    assert.ok(KEYS.every((key) => allows(DENIED, key, key)));
    assert.equal(ask(DENIED, 'x/a', 'x/a').egress.reason, 'same-pod');
    assert.equal(ask(DENIED, 'x/a', 'x/a').ingress.reason, 'same-pod');
    assert.ok(!allows(DENIED, 'x/a', 'x/b'));
  });

  it('row 30: a pod reaches itself from one of its addresses to another', () => {
    const two = pod('x/two', { addresses: [address('10.244.1.50'), address('10.244.1.51')] });
    assert.ok(allows(worldOf({ ...MODEL, pods: podsWith(two), policies: [DENY] }), '10.244.1.50', '10.244.1.51'));
  });

  it('row 31: what arrives with a node’s address is matched by a block only', () => {
    const everyPod = policy({ podSelector: only('a'), ingress: [{ from: [{ namespaceSelector: {} }] }] }, 'pods');
    const everyAddress = policy({ podSelector: only('a'), ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }] }, 'blocks');
    assert.ok(!allows(worldOf({ ...MODEL, policies: [everyPod] }), '10.244.2.0', 'x/a'));
    assert.ok(allows(worldOf({ ...MODEL, policies: [everyPod, everyAddress] }), '10.244.2.0', 'x/a'));
  });

  it('row 33: a pod that ended is in no set, and no policy isolates it', () => {
    const ended = claimant('ended', { terminal: true });
    const world = worldOf({ ...MODEL, pods: podsWith(ended), policies: [admitting('ended'), DENY] });
    assert.equal(world.podAt(address('10.244.1.99')), undefined);
    assert.deepEqual(world.isolating(ended, 'ingress'), []);
    assert.ok(!allows(world, '10.244.1.99', 'x/a'));
    assert.equal(ask(world, EXTERNAL, '10.244.1.99').ingress.reason, 'external');
  });

  it('row 33: where an address is reused the live pod has it, though it be the older one', () => {
    const live = claimant('live', { createdAt: 1000 });
    const ended = claimant('ended', { createdAt: 2000, terminal: true });
    assert.equal(owner(live, ended), 'live');
    const world = worldOf({ ...MODEL, pods: podsWith(ended, live), policies: [admitting('live')] });
    assert.ok(allows(world, '10.244.1.99', 'x/a'));
    assert.ok(!allows(worldOf({ ...MODEL, pods: podsWith(ended, live), policies: [admitting('ended')] }), '10.244.1.99', 'x/a'));
  });

  it('row 34: a pod that is not terminal keeps its isolation and its membership', () => {
    const terminating = claimant('leaving', { terminal: false });
    const world = worldOf({ ...MODEL, pods: podsWith(terminating), policies: [admitting('leaving'), DENY] });
    assert.ok(!allows(world, EXTERNAL, '10.244.1.99'));
    assert.equal(ask(world, '10.244.1.99', 'x/a').ingress.reason, 'admitted');
  });

  /** Pods of n1, n2 and of no node that claim 10.244.1.99, which is in the podCIDR of n1. */
  const here = (name: string, fields: Partial<Pod> = {}): Pod => claimant(name, { node: 'n1', ...fields });
  const elsewhere = (name: string, fields: Partial<Pod> = {}): Pod => claimant(name, { node: 'n2', ...fields });

  it('row 40: no claim from another node, or from none, takes an address from a pod that is where its packets go, whatever its date', () => {
    const in2099 = Date.parse('2099-01-01T00:00:00Z');
    for (const thief of [elsewhere('thief', { createdAt: in2099 }), claimant('thief', { node: '', createdAt: in2099 })])
      assert.equal(owner(here('victim', { createdAt: 1 }), thief), 'victim');
    const unscheduled = claimant('nowhere', { node: '', createdAt: in2099 });
    assert.equal(owner(unscheduled, claimant('somewhere', { node: 'unknown', createdAt: 1 })), 'somewhere');
  });

  it('row 40: where rules are made, a pod of the node has it before any other', () => {
    const pods = [...MODEL.pods, here('there', { createdAt: 9 }), elsewhere('here', { createdAt: 1 })];
    const at = address('10.244.1.99');
    assert.equal(worldOf({ ...MODEL, pods, node: 'n2' }).podAt(at)?.name, 'here');
    assert.equal(worldOf({ ...MODEL, pods, node: 'n1' }).podAt(at)?.name, 'there');
    assert.equal(worldOf({ ...MODEL, pods }).podAt(at)?.name, 'there');
  });

  it('row 40: the isolation of every pod of a node that claims it holds', () => {
    const closing = policy({ podSelector: only('isolated') }, 'closing');
    const opening = policy({ podSelector: only('other'), ingress: [{}] }, 'opening');
    const [isolated, open, other] = [here('isolated', { createdAt: 1 }), here('open', { createdAt: 2 }), here('other', { createdAt: 3 })];
    const reaches = (pods: readonly Pod[]): boolean =>
      allows(worldOf({ ...MODEL, pods: [...MODEL.pods, ...pods], policies: [closing, opening] }), ip('y/a'), '10.244.1.99');
    assert.deepEqual([reaches([isolated]), reaches([open]), reaches([other])], [false, true, true]);
    // The newer one, which nobody isolates, does not open it, nor does one that is admitted.
    assert.deepEqual([reaches([isolated, open]), reaches([isolated, other]), reaches([open, other])], [false, false, true]);
    // Where the same policies isolate both, what they admit is admitted.
    const twin = here('twin', { createdAt: 4, labels: other.labels });
    assert.equal(reaches([other, twin]), true);
  });

  it('row 40: of two live pods that can have it as well as each other it belongs to the newest', () => {
    assert.equal(owner(claimant('old', { createdAt: 1000 }), claimant('new', { createdAt: 2000 })), 'new');
    assert.equal(owner(claimant('new', { createdAt: 2000 }), claimant('old', { createdAt: 1000 })), 'new');
  });

  it('row 40: of two as old the smaller uid decides, then the smaller name', () => {
    assert.equal(owner(claimant('b', { createdAt: 5, uid: '1' }), claimant('a', { createdAt: 5, uid: '2' })), 'b');
    assert.equal(owner(claimant('b', { createdAt: 5, uid: '1' }), claimant('a', { createdAt: 5, uid: '1' })), 'a');
  });

  it('row 40: a hostNetwork pod never has it, however new', () => {
    assert.equal(owner(claimant('host', { createdAt: 9, hostNetwork: true }), claimant('own', { createdAt: 1 })), 'own');
    assert.equal(owner(claimant('host', { hostNetwork: true }), claimant('ended', { terminal: true })), undefined);
  });

  it('an address that is nobody’s is external, and no policy is about it', () => {
    assert.deepEqual(ask(DENIED, EXTERNAL, 'y/a').egress, { allowed: true, reason: 'external' });
    assert.deepEqual(ask(DENIED, EXTERNAL, 'y/a').ingress, { allowed: true, reason: 'not-isolated' });
    assert.deepEqual(ask(DENIED, ip('x/a'), EXTERNAL).egress, { allowed: false, reason: 'refused', policies: [DENY] });
  });
});
