/** Which policies make the kernel refuse a transaction is found out, and the others come into force. The kernel is a rule made up here. */
import assert from 'node:assert/strict';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { RefusedPolicies } from '../../../src/enforcement/refused-policies.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { upsertOf } from '../../random/events.ts';

const POD = upsertOf({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'a', namespace: 'x' },
  spec: { nodeName: 'n', containers: [] },
  status: { podIPs: [{ ip: '10.244.1.2' }] },
});

function policy(name: string, rules: number): SourceEvent {
  const ingress = Array.from({ length: rules }, (_, index) => ({ ports: [{ port: 1 + index }] }));
  return upsertOf({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'x' },
    spec: { podSelector: {}, ingress },
  });
}

class Node {
  readonly cluster = new Cluster('n');
  readonly ruleset = new NodeRuleset(this.cluster);
  nowMs = 0;
  readonly refused = new RefusedPolicies(this.ruleset, () => this.nowMs);
  transactions = 0;
  /** What the kernel does with a transaction in which these policies have rules; a message: it is refused. */
  kernel: (withRules: ReadonlySet<string>) => string | undefined = () => undefined;

  apply(...events: SourceEvent[]): void {
    this.refused.compiled(this.ruleset.update(this.cluster.apply(events)).compiled);
  }

  get withRules(): ReadonlySet<string> {
    return new Set(
      [...this.ruleset.chains.values()].filter(({ kind, rules }) => kind === 'policy' && rules.length > 0).map(({ of }) => of),
    );
  }

  /** As the reconciler does it: until everything that is desired is in force. At most so many transactions. */
  settle(most = 200): void {
    for (let count = 0; count < most; count++) {
      this.transactions++;
      const fault = this.kernel(this.withRules);
      if (fault !== undefined) this.refused.failed(Object.assign(new Error('refused'), { code: fault }));
      else if (!this.refused.succeeded()) return;
    }
    assert.fail(`not settled after ${most} transactions`);
  }

  get closed(): string[] {
    return [...this.ruleset.closed.keys()].sort();
  }
}

function refusing(...bad: readonly string[]): Node['kernel'] {
  return (withRules) => (bad.some((key) => withRules.has(key)) ? 'EINVAL' : undefined);
}

describe('policies that the kernel does not take', () => {
  let node: Node;
  beforeEach(() => {
    node = new Node();
    node.apply(POD);
  });

  it('are none where a transaction fails once', () => {
    node.apply(policy('p', 1));
    let isFirst = true;
    node.kernel = () => {
      const fault = isFirst ? 'EINVAL' : undefined;
      isFirst = false;
      return fault;
    };
    node.settle();
    assert.deepEqual([node.closed, node.transactions], [[], 2]);
  });

  it('are closed, isolate, and admit nothing, and are told with a reason', () => {
    node.apply(policy('good', 3), policy('bad', 5));
    node.kernel = refusing('x/bad');
    node.settle();
    assert.deepEqual([...node.ruleset.closed], [['x/bad', 'the kernel does not take its rules']]);
    assert.deepEqual([...node.withRules], ['x/good']);
    const jumps = node.ruleset.chainOfPod('x/a', 'ingress')?.rules.flatMap((rule) => (rule.kind === 'jump' ? [rule.chain] : []));
    assert.deepEqual(jumps, ['policy/x/bad/ingress', 'policy/x/good/ingress']);
    assert.ok(node.transactions <= 4, `${node.transactions} transactions`);
  });

  for (const [count, bad, most] of [
    [1_000, ['x/p7'], 50],
    [1_000, ['x/p0', 'x/p500', 'x/p999'], 110],
    [20, Array.from({ length: 20 }, (_, index) => `x/p${index}`), 90],
  ] as const) {
    it(`are found among ${count}, ${bad.length} of them, in at most ${most} transactions, and no other stays closed`, () => {
      node.apply(...Array.from({ length: count }, (_, index) => policy(`p${index}`, 1 + (index % 7))));
      node.kernel = refusing(...bad);
      node.settle();
      assert.deepEqual(node.closed, [...bad].sort());
      assert.ok(node.transactions <= most, `${node.transactions} transactions`);
    });
  }

  it('are looked for among what has changed, and not among what the kernel has taken', () => {
    node.apply(...Array.from({ length: 100 }, (_, index) => policy(`old${index}`, 9)));
    node.settle();
    node.apply(policy('new', 1));
    node.transactions = 0;
    node.kernel = (withRules) => {
      assert.equal([...withRules].filter((key) => key.startsWith('x/old')).length, 100, 'none of the others is ever closed');
      return withRules.has('x/new') ? 'EINVAL' : undefined;
    };
    node.settle();
    assert.deepEqual([node.closed, node.transactions], [['x/new'], 3]);
  });

  it('are opened when they change, and closed again where that is no better', () => {
    node.apply(policy('bad', 5));
    node.kernel = refusing('x/bad');
    node.settle();
    node.apply(policy('bad', 4));
    assert.deepEqual(node.closed, []);
    node.settle();
    assert.deepEqual(node.closed, ['x/bad']);
    node.kernel = () => undefined;
    node.apply(policy('bad', 3));
    node.settle();
    assert.deepEqual([node.closed, [...node.withRules]], [[], ['x/bad']]);
  });

  it('are forgotten when they are deleted', () => {
    node.apply(policy('bad', 5));
    node.kernel = refusing('x/bad');
    node.settle();
    node.apply({ type: 'delete', kind: 'NetworkPolicy', key: 'x/bad' });
    node.settle();
    assert.deepEqual(node.closed, []);
  });

  it('are tried again after some minutes, when something else is committed', () => {
    node.apply(policy('bad', 5));
    node.kernel = refusing('x/bad');
    node.settle();
    node.kernel = () => undefined;
    node.nowMs += 100_000;
    node.settle();
    assert.deepEqual(node.closed, ['x/bad']);
    node.nowMs += 300_000;
    node.settle();
    assert.deepEqual(node.closed, []);
  });

  for (const code of ['EPERM', 'TABLE_OWNED', 'ENOBUFS']) {
    it(`are none where what fails is ${code}`, () => {
      node.apply(policy('p', 1));
      let left = 10;
      node.kernel = () => (left-- > 0 ? code : undefined);
      node.settle();
      assert.deepEqual(node.closed, []);
    });
  }

  it('are too many together only where each is taken alone: as many as fit are carried', () => {
    node.apply(...Array.from({ length: 64 }, (_, index) => policy(`p${index}`, 1)));
    node.kernel = (withRules) => (withRules.size > 40 ? 'ENOMEM' : undefined);
    node.settle();
    assert.ok(node.withRules.size >= 32 && node.withRules.size <= 40, `${node.withRules.size} are carried`);
  });
});

describe('a policy whose rules cannot be made', () => {
  it('is closed, and the others are as they are', () => {
    const node = new Node();
    node.apply(POD, policy('good', 1));
    const event = policy('broken', 1);
    assert.ok(event.type === 'upsert' && event.kind === 'NetworkPolicy');
    const broken = Object.defineProperty({ ...event.object }, 'ingress', {
      enumerable: true,
      value: [
        {
          index: 0,
          peers: undefined,
          // Where its rules are made, and nowhere else.
          get ports(): undefined {
            if (new Error('where').stack?.includes('compilePolicy') === true) throw new RangeError('Invalid array length');
            return undefined;
          },
        },
      ],
    });
    node.apply({ ...event, object: broken });
    assert.deepEqual(
      [...node.ruleset.closed],
      [['x/broken', 'making its rules failed, which is a defect of Sluice: Invalid array length']],
    );
    assert.deepEqual([...node.withRules], ['x/good']);
    assert.ok(node.ruleset.chains.has('policy/x/broken/ingress'));
  });
});
