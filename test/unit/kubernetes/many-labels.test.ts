/** An object with more labels than are carried fails closed: whatever would follow from a part of its labels does not. */
import assert from 'node:assert/strict';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { LABELS_MAX, TOO_MANY_LABELS } from '../../../src/policy/labels.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { parseAddress } from '../../../src/policy/address.ts';
import type { World } from '../../../src/policy/world.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import type { ApiObject } from '../../random/cluster.ts';
import { upsertOf } from '../../random/events.ts';
import { worldFrom } from '../../random/world.ts';

const MANY = Object.fromEntries(Array.from({ length: LABELS_MAX + 1 }, (_, i) => [`k${i}`, 'v']));
const ADDRESSES = { many: '10.244.0.2', web: '10.244.0.3', client: '10.244.0.4' } as const;

function pod(name: keyof typeof ADDRESSES, labels: Readonly<Record<string, string>>): ApiObject {
  const podIPs = [{ ip: ADDRESSES[name] }];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'shop', name, uid: name, labels },
    spec: { nodeName: 'n', containers: [] },
    status: { podIPs },
  };
}

function policy(name: string, spec: Readonly<Record<string, unknown>>): ApiObject {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { namespace: 'shop', name }, spec };
}

const PODS = [pod('many', { ...MANY, app: 'web' }), pod('web', { app: 'web' }), pod('client', { app: 'client' })];

/** By the evaluator's world, and by the store that the rules are made from. */
function worlds(policies: readonly ApiObject[]): readonly World[] {
  const objects = [...PODS, ...policies];
  const cluster = new Cluster('n');
  cluster.apply(objects.map((object) => upsertOf(object)));
  return [worldFrom(objects), cluster];
}

function allows(world: World, from: keyof typeof ADDRESSES, to: keyof typeof ADDRESSES): boolean {
  const of = (name: keyof typeof ADDRESSES) => parseAddress(ADDRESSES[name]) ?? assert.fail();
  return evaluate(world, { source: of(from), destination: of(to), protocol: 'TCP', port: 80 }).allowed;
}

describe('a pod with more labels than are carried', () => {
  it('is told of, and has none of them', () => {
    const { object, problems } = project('Pod', PODS[0], new Sharing());
    assert.deepEqual(
      problems.map(({ path, code }) => `${path} ${code}`),
      ['metadata.labels LABELS_TOO_MANY'],
    );
    assert.equal(object !== undefined && 'labels' in object && object.labels, TOO_MANY_LABELS);
  });

  for (const [what, podSelector] of [
    ['everyone', {}],
    ['a label that it has', { matchLabels: { app: 'web' } }],
    ['lacking a label', { matchExpressions: [{ key: 'missing', operator: 'DoesNotExist' }] }],
    ['another value', { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['client'] }] }],
  ] as const) {
    it(`is no peer by ${what}`, () => {
      for (const world of worlds([
        policy('client', { podSelector: { matchLabels: { app: 'client' } }, ingress: [{ from: [{ podSelector }] }] }),
      ])) {
        assert.equal(allows(world, 'many', 'client'), false);
        assert.equal(allows(world, 'web', 'client'), true);
      }
    });
  }

  it('is led to by no named port, of a rule without peers either', () => {
    const ports = [{ name: 'http', containerPort: 80 }];
    const open = policy('open', {
      podSelector: { matchLabels: { app: 'client' } },
      policyTypes: ['Egress'],
      egress: [{ ports: [{ port: 'http' }] }],
    });
    const withPorts = PODS.map((each) => ({ ...each, spec: { nodeName: 'n', containers: [{ name: 'c', ports }] } }));
    const cluster = new Cluster('n');
    cluster.apply([...withPorts, open].map((object) => upsertOf(object)));
    for (const world of [worldFrom([...withPorts, open]), cluster]) {
      assert.deepEqual([allows(world, 'client', 'many'), allows(world, 'client', 'web')], [false, true]);
    }
  });

  it('is isolated by every policy of its namespace, also by one that comes later', () => {
    const closed = policy('closed', { podSelector: { matchLabels: { app: 'nobody' } }, ingress: [] });
    for (const world of worlds([closed])) {
      assert.equal(allows(world, 'client', 'many'), false);
      assert.equal(allows(world, 'client', 'web'), true);
    }
    const cluster = new Cluster('n');
    const ruleset = new NodeRuleset(cluster);
    ruleset.update(cluster.apply(PODS.map((object) => upsertOf(object))));
    assert.equal(allows(cluster, 'client', 'many'), true);
    ruleset.update(cluster.apply([upsertOf(closed)]));
    assert.equal(allows(cluster, 'client', 'many'), false);
    assert.deepEqual(
      [...ruleset.chains.keys()].filter((name) => name.includes('shop/many')),
      ['ingress/shop/many'],
    );
    ruleset.update(cluster.apply([{ type: 'delete', kind: 'NetworkPolicy', key: 'shop/closed' }]));
    assert.equal(allows(cluster, 'client', 'many'), true);
  });
});

describe('a namespace with more labels than are carried', () => {
  it('is selected by no namespaceSelector, not even by one for everyone', () => {
    const namespace: ApiObject = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels: MANY } };
    const open = policy('open', { podSelector: { matchLabels: { app: 'client' } }, ingress: [{ from: [{ namespaceSelector: {} }] }] });
    for (const world of worlds([namespace, open])) assert.equal(allows(world, 'web', 'client'), false);
    for (const world of worlds([open])) assert.equal(allows(world, 'web', 'client'), true);
  });
});
