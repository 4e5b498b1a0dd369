import assert from 'node:assert/strict';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { type Address, familyOf, parseAddress } from '../../../src/policy/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { BUDGETS, type Budgets } from '../../../src/policy/budget.ts';
import type { Auditing } from '../../../src/policy/mode.ts';
import { NodeRuleset, RULESET_LIMITS, type RulesetLimits } from '../../../src/ruleset/node-ruleset.ts';
import { isEmpty } from '../../../src/ruleset/objects.ts';
import type { RulesetUpdate } from '../../../src/ruleset/update.ts';
import { ClusterGenerator, OUTSIDE } from '../../random/cluster.ts';
import { History, upsertOf } from '../../random/events.ts';
import { Replica } from './replica.ts';

const NODE = 'node-a';

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

/** One of these a seed. */
const AUDITINGS: readonly Auditing[] = [
  { mode: 'enforce', namespaces: true },
  { mode: 'enforce', namespaces: false },
  { mode: 'enforce', namespaces: true },
  { mode: 'audit', namespaces: true },
];

/** One of these a seed: with the second nearly every rule of several peers or names is united. */
const LIMITS: readonly RulesetLimits[] = [
  RULESET_LIMITS,
  { ...RULESET_LIMITS, peers: 1, rules: 1, jumps: 0 },
  { ...RULESET_LIMITS, peers: 2, rules: 4, jumps: 1 },
  // Nearly every policy is prepared, and its sets are filled by two elements at a time.
  { ...RULESET_LIMITS, peers: 1, rules: 1, looks: 2, ranges: 1, handedOut: 2 },
  { ...RULESET_LIMITS, looks: 0, ranges: 0, handedOut: 1 },
];

/** One of these a seed: with the second many policies are beyond the budget of their namespace or of a pod. */
const ALL_BUDGETS: readonly Budgets[] = [BUDGETS, { pod: { policies: 1, rules: 4 }, namespace: { entries: 150 } }];

interface TestNode {
  readonly history: History;
  readonly cluster: Cluster;
  readonly ruleset: NodeRuleset;
  readonly auditing: Auditing;
  readonly limits: RulesetLimits;
  readonly budgets: Budgets;
}

function nodeOf(seed: number): TestNode {
  const auditing = AUDITINGS[seed % AUDITINGS.length] ?? assert.fail();
  const limits = LIMITS[seed % LIMITS.length] ?? assert.fail();
  const budgets = ALL_BUDGETS[Math.floor(seed / 4) % ALL_BUDGETS.length] ?? assert.fail();
  const cluster = new Cluster(NODE, budgets);
  const history = new History(new ClusterGenerator(seed), seed);
  return { history, cluster, ruleset: new NodeRuleset(cluster, auditing, limits), auditing, limits, budgets };
}

/** Takes in the next changes, and reads policies again that there is room for once more, as an agent does. */
function advance({ history, cluster, ruleset }: TestNode): RulesetUpdate[] {
  const updates = [ruleset.update(cluster.apply(history.batch()))];
  while (cluster.unreadPolicies.size > 0 || ruleset.preparing) {
    const again = [...cluster.unreadPolicies].map((key) => history.state.get(`NetworkPolicy ${key}`) ?? assert.fail(key));
    updates.push(ruleset.update(cluster.apply(again)));
  }
  return updates;
}

/** Whether what a pod of this namespace refuses is let through, by what the objects say. */
function isLetThrough({ history, auditing }: TestNode, namespace: string): boolean {
  if (auditing.mode === 'audit') return true;
  const known = history.state.get(`Namespace ${namespace}`);
  return auditing.namespaces && known?.kind === 'Namespace' && known.object.mode === 'audit';
}

describe('node ruleset', () => {
  it('is the same by differences as from the start, and its changes lead from each state to the next', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const node = nodeOf(seed);
      const { history, ruleset, auditing, limits, budgets } = node;
      const replica = new Replica();
      for (let step = 0; step < 30; step++) {
        const updates = advance(node);
        for (const [index, { changes }] of updates.entries()) replica.apply(changes, index < updates.length - 1);
        if (step % 5 !== 4) continue;
        assert.deepEqual(replica, Replica.of(ruleset), `seed ${seed}, step ${step}: what the changes led to`);
        const freshCluster = new Cluster(NODE, budgets);
        const fresh = new NodeRuleset(freshCluster, auditing, { ...limits, looks: RULESET_LIMITS.looks, ranges: RULESET_LIMITS.ranges });
        fresh.update(freshCluster.apply(history.state.values()));
        assert.deepEqual(replica, Replica.of(fresh), `seed ${seed}, step ${step}: what a fresh start gives`);
      }
    }
  });

  it('admits exactly what the evaluator allows, and of the rest refuses what is not audited, judged by its rules alone', () => {
    const counts = { admitted: 0, audited: 0, refused: 0 };
    let [closed, leftOut] = [0, 0];
    for (let seed = 1000; seed < 1060; seed++) {
      const node = nodeOf(seed);
      const { history, cluster, ruleset } = node;
      for (let step = 0; step < 25; step++) advance(node);
      closed += cluster.closedPolicies.size;
      leftOut += ruleset.leftOut.size;
      const replica = Replica.of(ruleset);
      const pods = [...history.state.values()].flatMap((event) =>
        event.kind === 'Pod' && !event.object.hostNetwork ? event.object.addresses : [],
      );
      const addresses = [...new Set([...pods, ...OUTSIDE.map(address)])];
      for (const source of addresses) {
        for (const destination of addresses) {
          if (familyOf(source) !== familyOf(destination)) continue;
          for (const [protocol, port] of [
            ['TCP', 80],
            ['TCP', 81],
            ['UDP', 80],
            ['SCTP', 8080],
            ['TCP', 8000],
            ['ICMP', undefined],
          ] as const) {
            const question = port === undefined ? { source, destination, protocol } : { source, destination, protocol, port };
            const verdict = evaluate(cluster, question);
            for (const [direction, pod] of [
              ['ingress', cluster.podAt(destination)],
              ['egress', cluster.podAt(source)],
            ] as const) {
              if (pod === undefined || pod.node !== NODE) continue;
              const where = `seed ${seed} ${direction} ${source} ${destination} ${protocol} ${port}`;
              const refusal = isLetThrough(node, pod.namespace) ? 'audited' : 'refused';
              const expected = verdict[direction].allowed ? 'admitted' : refusal;
              assert.equal(replica.judges(direction, question), expected, where);
              counts[expected]++;
            }
          }
        }
      }
    }
    assert.ok(closed > 20 && leftOut > 10, `${closed} policies beyond the budget of their namespace, ${leftOut} pods with too many`);
    assert.ok(
      Object.values(counts).every((count) => count > 1000),
      `too few to tell: ${JSON.stringify(counts)}`,
    );
  });

  it('admits, while it prepares large policies, nothing that was not allowed before or is not allowed after', () => {
    let [admitted, between] = [0, 0];
    for (let seed = 3000; seed < 3060; seed++) {
      const { history } = nodeOf(seed);
      const cluster = new Cluster(NODE);
      const ruleset = new NodeRuleset(cluster, undefined, { ...RULESET_LIMITS, looks: seed % 3, ranges: 0, handedOut: 1 });
      const replica = new Replica();
      const addresses = Array.from({ length: 6 }, (_, host) => [address(`10.244.1.${host + 2}`), address(`10.244.2.${host + 2}`)]).flat();
      const questions = addresses.flatMap((source) =>
        addresses.flatMap((destination) => [80, 81].map((port) => ({ source, destination, protocol: 'TCP' as const, port }))),
      );
      const allowed = (): boolean[] => questions.map((question) => evaluate(cluster, question).ingress.allowed);
      for (let step = 0; step < 25; step++) {
        // Kinds are watched apart: nobody knows what comes first of a policy and the labels that it is about.
        const { policies = [], others = [] } = Object.groupBy(history.batch(), (event) =>
          event.type !== 'synced' && event.kind === 'NetworkPolicy' ? 'policies' : 'others',
        );
        replica.apply(ruleset.update(cluster.apply(others)).changes, true);
        while (ruleset.preparing) replica.apply(ruleset.update(cluster.apply([])).changes, true);
        const before = allowed();
        replica.apply(ruleset.update(cluster.apply(policies)).changes, true);
        const after = allowed();
        for (; ; between++) {
          for (const [index, question] of questions.entries()) {
            if (cluster.podAt(question.destination)?.node !== NODE || replica.judges('ingress', question) !== 'admitted') continue;
            admitted++;
            assert.ok(before[index] === true || after[index] === true, `seed ${seed}, step ${step}: ${JSON.stringify(question)}`);
          }
          if (!ruleset.preparing) break;
          const { changes } = ruleset.update(cluster.apply([]));
          replica.apply(changes, ruleset.preparing);
        }
        assert.deepEqual(replica, Replica.of(ruleset));
      }
    }
    assert.ok(admitted > 10_000 && between > 500, `${admitted} ${between}`);
  });

  it('names an end of every flow that a change let go on or stops, modes included', () => {
    const questions = [
      ['TCP', 80],
      ['TCP', 81],
      ['UDP', 80],
      ['SCTP', 8080],
    ] as const;
    const verdicts = (node: TestNode, addresses: readonly Address[]): Map<string, boolean> => {
      const { cluster } = node;
      const all = new Map<string, boolean>();
      for (const source of addresses) {
        for (const destination of addresses) {
          if (familyOf(source) !== familyOf(destination)) continue;
          for (const [protocol, port] of questions) {
            const { egress, ingress } = evaluate(cluster, { source, destination, protocol, port });
            const refuses = (end: Address): boolean => {
              const pod = cluster.podAt(end);
              return pod?.node === NODE && !isLetThrough(node, pod.namespace);
            };
            all.set(
              `${source} ${destination} ${protocol} ${port}`,
              (!refuses(source) || egress.allowed) && (!refuses(destination) || ingress.allowed),
            );
          }
        }
      }
      return all;
    };
    const turned = { tightened: 0, loosened: 0 };
    for (let seed = 2000; seed < 2012; seed++) {
      const node = nodeOf(seed);
      // Every address that the generator gives to pods.
      const addresses = ['node-a', 'node-b'].flatMap((_, index) =>
        Array.from({ length: 6 }, (_, host) => [
          address(`10.244.${index + 1}.${host + 2}`),
          address(`fd00:244:${index + 1}::${host + 2}`),
        ]).flat(),
      );
      for (let step = 0; step < 30; step++) {
        const before = verdicts(node, addresses);
        const updates = advance(node);
        const [tightened, loosened] = (['tightened', 'loosened'] as const).map(
          (which) => new Set(updates.flatMap((update) => [...update[which]])),
        );
        assert.ok(tightened !== undefined && loosened !== undefined);
        for (const [flow, allowed] of verdicts(node, addresses)) {
          if (allowed === before.get(flow)) continue;
          const ends = flow.split(' ').slice(0, 2);
          const named = addresses.filter((end) => ends.includes(`${end}`));
          const where = `seed ${seed}, step ${step}: ${flow} is ${allowed ? 'allowed' : 'refused'} now`;
          if (allowed)
            assert.ok(
              named.some((end) => tightened.has(end) || loosened.has(end)),
              where,
            );
          else
            assert.ok(
              named.some((end) => tightened.has(end)),
              where,
            );
          turned[allowed ? 'loosened' : 'tightened']++;
        }
      }
    }
    assert.ok(turned.tightened > 1000 && turned.loosened > 1000, JSON.stringify(turned));
  });

  it('unites the blocks of a rule where there are very many, and keeps few apart', () => {
    const rulesOf = (count: number): { rules: number; sets: number; replica: Replica } => {
      const from = Array.from({ length: count }, (_, index) => ({
        ipBlock: { cidr: `192.0.${index >> 8}.${index & 255}/32`, ...(index === 7 ? { except: ['192.0.0.7/32'] } : {}) },
      }));
      const cluster = new Cluster(NODE);
      const ruleset = new NodeRuleset(cluster);
      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'a', namespace: 'x' },
        spec: { nodeName: NODE, containers: [] },
        status: { podIPs: [{ ip: '10.244.1.2' }] },
      } as const;
      const policy = {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'p', namespace: 'x' },
        spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {} }, ...from] }] },
      } as const;
      ruleset.update(cluster.apply([upsertOf(pod), upsertOf(policy)]));
      return { rules: ruleset.chains.get('policy/x/p/ingress')?.rules.length ?? 0, sets: ruleset.sets.size, replica: Replica.of(ruleset) };
    };
    const few = rulesOf(10);
    // The block that is excepted whole has no rule.
    assert.deepEqual([few.rules, few.sets], [10, 10]);
    const many = rulesOf(500);
    assert.deepEqual([many.rules, many.sets], [2, 2]);
    const asks = (source: string): boolean =>
      many.replica.judges('ingress', { source: address(source), destination: address('10.244.1.2'), protocol: 'TCP', port: 80 }) ===
      'admitted';
    assert.deepEqual(['192.0.0.6', '192.0.0.7', '192.0.0.8', '192.0.1.243', '192.0.1.244'].map(asks), [true, false, true, true, false]);
  });

  /** The rules of one policy of x that selects a pod of this node, beside pods of x with `labels`, one each and all of them elsewhere. */
  function largeRule(direction: 'ingress' | 'egress', peers: readonly unknown[], ports: readonly unknown[]) {
    const cluster = new Cluster(NODE);
    const ruleset = new NodeRuleset(cluster);
    const field = direction === 'ingress' ? 'from' : 'to';
    const spec = {
      podSelector: { matchLabels: { app: 'here' } },
      policyTypes: ['Ingress', 'Egress'],
      [direction]: [{ [field]: peers, ports }],
    };
    const pod = (name: string, node: string, ip: string, app: string, port: number) =>
      upsertOf({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: 'x', labels: { app } },
        spec: { nodeName: node, containers: [{ ports: [{ name: `n${port}`, containerPort: port }] }] },
        status: { podIPs: [{ ip }, { ip: `fd00::${ip.split('.').at(-1)}` }] },
      });
    ruleset.update(
      cluster.apply([
        pod('here', NODE, '10.244.1.2', 'here', 7),
        pod('a', 'node-b', '10.244.2.3', 'l3', 8),
        pod('b', 'node-b', '10.244.2.4', 'l400', 9),
        pod('c', 'node-b', '10.244.2.5', 'other', 8),
        upsertOf({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'p', namespace: 'x' }, spec }),
      ]),
    );
    return { ruleset, rules: ruleset.chains.get(`policy/x/p/${direction}`)?.rules.length ?? 0, replica: Replica.of(ruleset) };
  }

  const selectors = Array.from({ length: 260 }, (_, index) => ({ podSelector: { matchLabels: { app: `l${index}` } } }));
  const names = Array.from({ length: 260 }, (_, index) => ({ port: `n${index}`, protocol: index % 2 === 0 ? 'TCP' : 'UDP' }));
  const numbers = Array.from({ length: 260 }, (_, index) => ({ port: 1000 + index * 2, protocol: index % 2 === 0 ? 'TCP' : 'UDP' }));
  const blocks = Array.from({ length: 260 }, (_, index) => ({ ipBlock: { cidr: `192.0.${index % 256}.${index >> 8}/32` } }));
  for (const direction of ['ingress', 'egress'] as const) {
    for (const [what, peers, ports, most] of [
      ['selectors and named ports', selectors, names, 2],
      ['selectors and numbers', selectors, numbers, 4],
      ['selectors, blocks, names and numbers', [...selectors, ...blocks], [...names, ...numbers], 9],
      ['blocks and names', blocks, names, 1],
      ['as many selectors and names as are just not united', selectors.slice(0, 4), names.slice(0, 8), 64],
    ] as const) {
      it(`makes of an ${direction} rule of many ${what} sums, and no product`, () => {
        const { rules, ruleset } = largeRule(direction, peers, ports);
        assert.ok(rules > 0 && rules <= most, `${rules} rules`);
        assert.ok(ruleset.sets.size <= most * 2, `${ruleset.sets.size} sets`);
      });
    }
  }

  it('admits by a rule that was united exactly whom its peers and ports say', () => {
    const from = (last: number) => address(`10.244.2.${last}`);
    const here = address('10.244.1.2');
    const ingress = largeRule('ingress', selectors, [{ port: 'n7' }, ...names.slice(10)]).replica;
    // a is selected, b and c are not; the name is the number that the pod of this node has.
    assert.equal(ingress.judges('ingress', { source: from(3), destination: here, protocol: 'TCP', port: 7 }), 'admitted');
    assert.equal(ingress.judges('ingress', { source: from(3), destination: here, protocol: 'TCP', port: 8 }), 'refused');
    assert.equal(ingress.judges('ingress', { source: from(4), destination: here, protocol: 'TCP', port: 7 }), 'refused');
    const egress = largeRule('egress', selectors, names).replica;
    assert.equal(egress.judges('egress', { source: here, destination: from(3), protocol: 'TCP', port: 8 }), 'admitted');
    assert.equal(egress.judges('egress', { source: here, destination: from(3), protocol: 'TCP', port: 9 }), 'refused');
    assert.equal(
      egress.judges('egress', { source: here, destination: from(5), protocol: 'TCP', port: 8 }),
      'refused',
      'has the port, and is not selected',
    );
  });

  it('keeps an element of a set of several selectors as long as one of them selects its pod', () => {
    const cluster = new Cluster(NODE);
    const ruleset = new NodeRuleset(cluster, undefined, { ...RULESET_LIMITS, peers: 1, rules: 1 });
    const pod = (name: string, node: string, ip: string, labels: Readonly<Record<string, string>>) =>
      upsertOf({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: 'x', labels },
        spec: { nodeName: node, containers: [] },
        status: { podIPs: [{ ip }] },
      });
    const peers = [{ podSelector: { matchLabels: { a: '1' } } }, { podSelector: { matchLabels: { b: '1' } } }];
    const spec = { podSelector: {}, ingress: [{ from: peers }] };
    const replica = new Replica();
    const apply = (...events: Parameters<Cluster['apply']>[0] extends Iterable<infer E> ? E[] : never): void => {
      replica.apply(ruleset.update(cluster.apply(events)).changes);
      assert.deepEqual(replica, Replica.of(ruleset));
    };
    apply(
      pod('here', NODE, '10.244.1.2', {}),
      upsertOf({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'p', namespace: 'x' }, spec }),
    );
    const question = { source: address('10.244.2.3'), destination: address('10.244.1.2'), protocol: 'TCP', port: 80 } as const;
    for (const [labels, expected] of [
      [{ a: '1', b: '1' }, 'admitted'],
      [{ b: '1' }, 'admitted'],
      [{ a: '1' }, 'admitted'],
      [{}, 'refused'],
      [{ a: '1', b: '1' }, 'admitted'],
    ] as const) {
      apply(pod('other', 'node-b', '10.244.2.3', labels));
      assert.equal(replica.judges('ingress', question), expected, JSON.stringify(labels));
    }
    apply({ type: 'delete', kind: 'Pod', key: 'x/other' });
    assert.equal(replica.judges('ingress', question), 'refused');
  });

  it('changes nothing where nothing that policy is made of changed', () => {
    const { history, cluster, ruleset } = nodeOf(4);
    for (let step = 0; step < 40; step++) ruleset.update(cluster.apply(history.batch()));
    const again = [...history.state.values()].map((event) => ({ ...event, object: structuredClone(event.object) }) as typeof event);
    assert.ok(isEmpty(ruleset.update(cluster.apply(again)).changes));
  });

  /** Two isolated pods of namespace x and one of y on this node, one of x elsewhere. */
  function threePods(auditing: Auditing): { cluster: Cluster; ruleset: NodeRuleset } {
    const pod = (namespace: string, name: string, node: string, ip: string) =>
      upsertOf({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace },
        spec: { nodeName: node, containers: [] },
        status: { podIPs: [{ ip }] },
      });
    const policy = (namespace: string, name: string, policyTypes: readonly string[]) =>
      upsertOf({
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name, namespace },
        spec: { podSelector: {}, policyTypes, ingress: [{ from: [{ podSelector: {} }] }] },
      });
    const cluster = new Cluster(NODE);
    const ruleset = new NodeRuleset(cluster, auditing);
    const policies = [policy('x', 'p', ['Ingress', 'Egress']), policy('y', 'p', ['Ingress'])];
    const pods = [
      pod('x', 'a', NODE, '10.244.1.2'),
      pod('x', 'b', NODE, '10.244.1.3'),
      pod('y', 'c', NODE, '10.244.1.4'),
      pod('x', 'd', 'node-b', '10.244.2.2'),
    ];
    ruleset.update(cluster.apply([...policies, ...pods]));
    return { cluster, ruleset };
  }

  const namespaceX = (mode?: string) =>
    upsertOf({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'x', ...(mode === undefined ? {} : { annotations: { 'sluice.dev/mode': mode } }) },
    });

  it('changes the last rule of the chains of a namespace’s own local pods when its mode does, and nothing else', () => {
    const { cluster, ruleset } = threePods({ mode: 'enforce', namespaces: true });
    const ofX = ['egress/x/a', 'egress/x/b', 'ingress/x/a', 'ingress/x/b'];
    const local = new Set([address('10.244.1.2'), address('10.244.1.3')]);
    for (const [event, audited] of [
      [namespaceX('audit'), true],
      [namespaceX('enforce'), false],
      [namespaceX('audit'), true],
      [{ type: 'delete', kind: 'Namespace', key: 'x' } as const, false],
    ] as const) {
      const update = ruleset.update(cluster.apply([event]));
      const { changedChains, ...others } = update.changes;
      assert.deepEqual(changedChains.map(({ name }) => name).sort(), ofX);
      for (const chain of changedChains) assert.equal(chain.audited, audited);
      assert.ok(isEmpty({ ...others, changedChains: [] }));
      assert.deepEqual(update.tightened, local);
      assert.equal(ruleset.auditedPods, audited ? 2 : 0);
    }
    assert.ok(isEmpty(ruleset.update(cluster.apply([namespaceX('enforce')])).changes), 'which is what it was');
  });

  it('enforces whatever a namespace says where namespaces may not ask', () => {
    const { cluster, ruleset } = threePods({ mode: 'enforce', namespaces: false });
    assert.ok(isEmpty(ruleset.update(cluster.apply([namespaceX('audit')])).changes));
    assert.equal(ruleset.auditedPods, 0);
  });

  it('audits everything, whatever a namespace says, where the agent does', () => {
    const { cluster, ruleset } = threePods({ mode: 'audit', namespaces: false });
    assert.ok(isEmpty(ruleset.update(cluster.apply([namespaceX('enforce')])).changes));
    assert.equal(ruleset.auditedPods, 3);
    assert.ok([...ruleset.chains.values()].every(({ kind, audited }) => audited === (kind === 'pod')));
  });
});
