/** Which policies of a namespace there is room for: the lightest, whatever the order in which they come, change and go. */
import assert from 'node:assert/strict';
import { NAMESPACE_BUDGET, weightOf } from '../../../src/policy/budget.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import { NamespaceBudget, withinNamespaceBudgets } from '../../../src/policy/namespace-budget.ts';
import { parseAddress } from '../../../src/policy/address.ts';
import type { Pod, Policy } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';

const LIMIT = 100;

/** By another way: sorted anew each time. */
function closedOf(weights: ReadonlyMap<string, number>): string[] {
  const closed: string[] = [];
  let sum = 0;
  for (const [name, weight] of [...weights].sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1))) {
    sum += weight;
    if (sum > LIMIT) closed.push(name);
  }
  return closed.sort();
}

/** A policy of so many blocks. */
function blocks(name: string, count: number): Policy {
  const from = Array.from({ length: count }, (_, index) => ({ ipBlock: { cidr: `10.${index >> 8}.${index & 255}.0/24` } }));
  return interpretPolicy('tenant', name, { podSelector: {}, ingress: [{ from }] });
}

describe('the budget of a namespace', () => {
  it('closes the heaviest, and tells which others that changes, in any order of events', () => {
    let seed = 7;
    const draw = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * below);
    };
    let told = 0;
    for (let run = 0; run < 50; run++) {
      const budget = new NamespaceBudget(LIMIT);
      const weights = new Map<string, number>();
      const closed = new Set<string>();
      for (let step = 0; step < 200; step++) {
        const name = `p${draw(12)}`;
        const weight = draw(4) === 0 ? undefined : 1 + draw(run % 2 === 0 ? 30 : 60);
        if (weight === undefined) weights.delete(name);
        else weights.set(name, weight);
        const others = budget.set(name, weight);
        for (const other of others) {
          assert.notEqual(other, name);
          if (budget.isClosed(other)) closed.add(other);
          else closed.delete(other);
        }
        told += others.length;
        if (budget.isClosed(name)) closed.add(name);
        else closed.delete(name);
        assert.deepEqual([...closed].sort(), closedOf(weights), `run ${run}, step ${step}`);
        assert.deepEqual([...weights.keys()].filter((each) => budget.isClosed(each)).sort(), closedOf(weights));
      }
    }
    assert.ok(told > 1_000, `${told}`);
  });

  it('costs little for a policy of a namespace that is far beyond it', () => {
    const budget = new NamespaceBudget();
    for (let index = 0; index < 30_000; index++) budget.set(`p${index}`, 10 + (index % 7));
    const started = performance.now();
    for (let index = 0; index < 100; index++) budget.set('one', 10 + index);
    assert.ok(performance.now() - started < 500, `${performance.now() - started} ms for a hundred changes`);
  });

  it('has room for what people write: ten lists of the addresses of a cloud, or a thousand small policies', () => {
    const clouds = Array.from({ length: 10 }, (_, index) => blocks(`cloud-${index}`, 9_000));
    assert.deepEqual(withinNamespaceBudgets(clouds), clouds);
    const small = Array.from({ length: 1_000 }, (_, index) =>
      interpretPolicy('tenant', `small-${index}`, {
        podSelector: { matchLabels: { app: `a${index}` } },
        ingress: [{ from: [{ podSelector: { matchLabels: { app: `b${index}` } } }, { namespaceSelector: {} }], ports: [{ port: 80 }] }],
      }),
    );
    assert.deepEqual(withinNamespaceBudgets(small), small);
  });

  it('isolates by a policy that there is no room for, admits nothing by it, and leaves the lighter ones as they are', () => {
    const large = Array.from({ length: 11 }, (_, index) => blocks(`large-${index}`, 19_000 + index));
    assert.ok(large.reduce((sum, policy) => sum + weightOf(policy), 0) > NAMESPACE_BUDGET.entries);
    const carried = withinNamespaceBudgets([blocks('zz-light', 1), ...large]);
    assert.deepEqual(
      carried.map(({ name, ingress }) => [name, ingress?.length]),
      [['zz-light', 1], ...large.map(({ name }, index) => [name, index < 10 ? 1 : 0])],
    );
    const [fault] = carried.at(-1)?.problems ?? [];
    assert.equal(fault?.code, 'NAMESPACE_TOO_LARGE');
    assert.match(fault?.message ?? '', /has 19021, and is among those that there is no room for; it isolates/u);
  });

  it('asks of the policies of one pod the first thousand by name, and takes it for isolated by all', () => {
    const here = parseAddress('10.0.0.1') ?? assert.fail();
    const there = parseAddress('10.0.0.2') ?? assert.fail();
    const pod: Pod = {
      namespace: 'tenant',
      name: 'here',
      uid: 'u',
      node: 'n',
      labels: new Map(),
      addresses: [here],
      hostNetwork: false,
      terminal: false,
      createdAt: 0,
      ports: [],
      declaredPorts: [],
    };
    const policies = Array.from({ length: 1_003 }, (_, index) =>
      interpretPolicy('tenant', `p${String(index).padStart(5, '0')}`, { podSelector: {}, ingress: [{ ports: [{ port: 1 + index }] }] }),
    );
    const world = worldOf({ pods: [pod], policies: policies.toReversed() });
    const reaches = (port: number): boolean => evaluate(world, { source: there, destination: here, protocol: 'TCP', port }).allowed;
    assert.deepEqual([1, 1_000, 1_001, 1_003].map(reaches), [true, true, false, false]);
    assert.deepEqual(
      world.leftOut(pod, 'ingress').map(({ name }) => name),
      ['p01000', 'p01001', 'p01002'],
    );
    // One policy alone is carried, however much it is.
    const rules = Array.from({ length: 1_000 }, (_, index) => ({
      ports: Array.from({ length: 19 }, (_, name) => ({ port: `n${index}-${name}` })),
    }));
    const heavy = interpretPolicy('tenant', 'heavy', { podSelector: {}, ingress: rules });
    assert.deepEqual([...new Set(heavy.problems.map(({ code }) => code))], ['POLICY_TOO_LARGE']);
    const isolated = worldOf({ pods: [pod], policies: [heavy] });
    assert.equal(isolated.isolating(pod, 'ingress').length, 1);
    assert.equal(evaluate(isolated, { source: there, destination: here, protocol: 'TCP', port: 80 }).allowed, false);
  });
});
