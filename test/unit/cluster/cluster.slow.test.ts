import assert from 'node:assert/strict';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { BUDGETS, type Budgets } from '../../../src/policy/budget.ts';
import type { Address } from '../../../src/policy/address.ts';
import type { Namespace, Node, Pod, Policy } from '../../../src/policy/objects.ts';
import { isDisputed, type World, worldOf } from '../../../src/policy/world.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { ClusterGenerator } from '../../random/cluster.ts';
import { History } from '../../random/events.ts';

/** The world of a history's state, by looking at everything. */
function worldNow(history: History, budgets: Budgets): { world: World; pods: Pod[]; addresses: Set<Address> } {
  const pods: Pod[] = [];
  const namespaces: Namespace[] = [];
  const nodes: Node[] = [];
  const policies: Policy[] = [];
  for (const event of history.state.values()) {
    if (event.kind === 'Pod') pods.push(event.object);
    else if (event.kind === 'Namespace') namespaces.push(event.object);
    else if (event.kind === 'Node') nodes.push(event.object);
    else policies.push(event.object);
  }
  const addresses = new Set([...pods.flatMap((pod) => pod.addresses), ...nodes.flatMap((node) => node.addresses)]);
  return { world: worldOf({ pods, namespaces, nodes, policies, node: 'node-a' }, budgets), pods, addresses };
}

describe('cluster', () => {
  it('answers as a look at everything would, after every batch of random histories', () => {
    let disputed = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const history = new History(new ClusterGenerator(seed));
      // Of every other seed many policies are beyond the budget of their namespace or of a pod.
      const budgets: Budgets = seed % 2 === 0 ? BUDGETS : { pod: { policies: 1, rules: 4 }, namespace: { entries: 150 } };
      const cluster = new Cluster('node-a', budgets);
      for (let step = 0; step < 40; step++) {
        cluster.apply(history.batch());
        while (cluster.unreadPolicies.size > 0)
          cluster.apply([...cluster.unreadPolicies].map((key) => history.state.get(`NetworkPolicy ${key}`) ?? assert.fail(key)));
        const { world, pods, addresses } = worldNow(history, budgets);
        const where = `seed ${seed}, step ${step}`;
        for (const address of addresses) {
          assert.equal(cluster.podAt(address), world.podAt(address), where);
          assert.equal(cluster.nodeAt(address)?.name, world.nodeAt(address)?.name, where);
        }
        for (const namespace of ['x', 'y', 'z', 'nowhere'])
          assert.deepEqual(cluster.namespaceLabels(namespace), world.namespaceLabels(namespace), where);
        for (const pod of pods.filter(({ hostNetwork, terminal }) => !hostNetwork && !terminal)) {
          for (const direction of ['ingress', 'egress'] as const) {
            // A closed policy has its name, and no rules.
            const told = (policies: readonly Policy[]): unknown => policies.map((policy) => [policy.name, policy[direction]?.length]);
            assert.deepEqual(told(cluster.isolating(pod, direction)), told(world.isolating(pod, direction)), where);
            disputed += Number(isDisputed(world.isolating(pod, direction)));
            assert.deepEqual(told(cluster.leftOut(pod, direction)), told(world.leftOut(pod, direction)), where);
          }
        }
      }
    }
    assert.ok(disputed > 100, `${disputed} pods with an address that is disputed`);
  });

  it('tells of a group that a label change touches, and of no other', () => {
    const cluster = new Cluster('node-a');
    const pod = (app: string): SourceEvent => {
      const object: Pod = {
        namespace: 'x',
        name: 'a',
        uid: 'u',
        node: 'node-b',
        labels: new Map([['app', app]]),
        addresses: [],
        hostNetwork: false,
        terminal: false,
        createdAt: 0,
        ports: [],
        declaredPorts: [],
      };
      return { type: 'upsert', kind: 'Pod', key: 'x/a', object };
    };
    const selector = (value: string) =>
      ({ requirements: [{ key: 'app', operator: 'In', values: [value] }], text: `app=${value}` }) as const;
    const web = cluster.acquireGroup({ namespace: 'x', pods: selector('web'), local: false });
    const other = cluster.acquireGroup({ namespace: 'x', pods: selector('db'), local: false });
    assert.deepEqual([...cluster.apply([pod('web')]).groups.keys()], [web]);
    assert.equal(cluster.apply([pod('mail')]).groups.get(web)?.size, 1);
    assert.equal(web.members.size, 0);
    assert.equal(cluster.apply([pod('cache')]).groups.size, 0);
    assert.equal(other.members.size, 0);
  });

  it('gives a new group its members whichever way it finds them', () => {
    for (let seed = 100; seed < 130; seed++) {
      const history = new History(new ClusterGenerator(seed));
      const early = new Cluster('node-a');
      const late = new Cluster('node-a');
      const definitions = [
        { namespace: 'x', pods: { requirements: [], text: '' }, local: false },
        {
          namespace: { requirements: [{ key: 'team', operator: 'In', values: ['red'] }], text: 'team=red' },
          pods: { requirements: [{ key: 'app', operator: 'In', values: ['a', 'b'] }], text: 'app in (a,b)' },
          local: false,
        },
        {
          namespace: { requirements: [], text: '' },
          pods: { requirements: [{ key: 'tier', operator: 'Exists', values: [] }], text: 'tier' },
          local: true,
        },
        { namespace: 'y', pods: { requirements: [{ key: 'app', operator: 'NotIn', values: ['a'] }], text: 'app!=a' }, local: true },
      ] as const;
      const kept = definitions.map((definition) => early.acquireGroup(definition));
      for (let step = 0; step < 50; step++) {
        const batch = history.batch();
        early.apply(batch);
        late.apply(batch);
      }
      definitions.forEach((definition, index) => {
        const fresh = late.acquireGroup(definition);
        assert.deepEqual(
          [...fresh.members].map(({ key }) => key).sort(),
          [...(kept[index]?.members ?? [])].map(({ key }) => key).sort(),
          `seed ${seed}`,
        );
      });
    }
  });
});
