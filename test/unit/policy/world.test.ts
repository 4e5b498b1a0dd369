/** The naive world: order, duplicates, and that policy code depends on nothing of ours outside its folder. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { betterClaim, type Claims, localAddresses, worldOf } from '../../../src/policy/world.ts';
import { address, labels, MODEL, node, namespace, only, pod, policy, prefix } from './model.ts';

describe('worldOf', () => {
  it('gives isolating policies by name, in code units, whatever order they come in', () => {
    const [a, b, z] = [policy({}, 'a'), policy({ podSelector: only('a') }, 'b'), policy({}, 'Z')];
    const other = policy({}, 'a', 'y');
    const subject = MODEL.pods[0] ?? assert.fail();
    for (const policies of [
      [a, b, z, other],
      [other, z, b, a],
    ]) {
      assert.deepEqual(worldOf({ ...MODEL, policies }).isolating(subject, 'ingress'), [z, a, b]);
      assert.deepEqual(worldOf({ ...MODEL, policies }).isolating(subject, 'egress'), []);
    }
  });

  it('takes the last of several objects of one name', () => {
    const world = worldOf({
      pods: [pod('x/a'), pod('x/a', { addresses: [address('10.244.1.77')] })],
      namespaces: [namespace('x', { team: 'old' }), namespace('x', { team: 'new' })],
      nodes: [node(1), { ...node(1), addresses: [address('192.0.2.77')], podCIDRs: [] }],
      policies: [policy({}), policy({ policyTypes: ['Egress'] })],
    });
    assert.equal(world.podAt(address('10.244.1.10')), undefined);
    assert.equal(world.podAt(address('10.244.1.77'))?.name, 'a');
    assert.equal(world.namespaceLabels('x').get('team'), 'new');
    assert.equal(world.nodeAt(address('192.0.2.1')), undefined);
    assert.equal(world.nodeAt(address('192.0.2.77'))?.name, 'n1');
    assert.equal(world.isolating(pod('x/a'), 'ingress').length, 0);
    assert.equal(world.isolating(pod('x/a'), 'egress').length, 1);
  });

  it('knows nothing of an empty cluster, and says so', () => {
    const world = worldOf({});
    assert.equal(world.podAt(address('10.244.1.10')), undefined);
    assert.equal(world.nodeAt(address('192.0.2.1')), undefined);
    assert.deepEqual(world.namespaceLabels('x'), labels({ 'kubernetes.io/metadata.name': 'x' }));
    assert.deepEqual(world.isolating(pod('x/a'), 'ingress'), []);
  });

  it('gives a node no address beyond a podCIDR of one, and the ends of the families', () => {
    const odd = { name: 'n', addresses: [], podCIDRs: ['255.255.255.255/32', '255.255.255.254/31', '::/127'].map(prefix) };
    assert.deepEqual(localAddresses(odd), ['255.255.255.255', '255.255.255.254', '255.255.255.255', '::', '::1'].map(address));
  });

  it('sorts claims in one order, whichever way round they are compared', () => {
    const nodes = [node(1), node(2), node(3)];
    const claims: Claims = { node: 'n3', nodeOf: (name) => nodes.find((each) => each.name === name) };
    const order = (a: Parameters<typeof betterClaim>[1], b: typeof a): number => betterClaim(address('10.244.1.10'), a, b, claims);
    const sorted = [
      pod('x/here', { createdAt: 1, node: 'n3' }),
      pod('x/within', { createdAt: 2, node: 'n1' }),
      pod('x/a', { createdAt: 5, uid: '1', node: 'n2' }),
      pod('x/b', { createdAt: 5, uid: '2', node: 'n2' }),
      pod('x/c', { createdAt: 4, uid: '0', node: 'unknown' }),
      pod('x/nowhere', { createdAt: 9, node: '' }),
      pod('x/d', { createdAt: 9, terminal: true, node: 'n2' }),
      pod('x/e', { createdAt: 8, hostNetwork: true, node: 'n2' }),
    ];
    assert.deepEqual(sorted.toReversed().toSorted(order), sorted);
    for (const a of sorted) for (const b of sorted) assert.equal(Math.sign(order(a, b)), -Math.sign(order(b, a)) + 0);
  });
});

describe('src/policy', () => {
  it('imports nothing outside of itself, and so does no I/O', () => {
    const folder = new URL('../../../src/policy/', import.meta.url);
    const files = readdirSync(folder).filter((file) => file.endsWith('.ts'));
    assert.ok(files.includes('evaluate.ts'));
    for (const file of files) {
      const imported = [...readFileSync(new URL(file, folder), 'utf8').matchAll(/from '([^']*)'|import\(|import '([^']*)'/g)];
      for (const [statement, module] of imported) assert.match(module ?? '', /^\.\/[a-z-]+\.ts$/, `${file}: ${statement}`);
    }
  });
});
