/** What one policy may ask of every node, and that what is beyond admits nothing. */
import assert from 'node:assert/strict';
import { POLICY_BUDGET } from '../../../src/policy/budget.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import { EVERYTHING } from '../../../src/policy/selector.ts';

const { rules, entries } = POLICY_BUDGET;
const times = <T>(count: number, of: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => of(index));
const block = (index: number) => ({ ipBlock: { cidr: `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}/32` } });

function policy(spec: Readonly<Record<string, unknown>>) {
  return interpretPolicy('tenant', 'large', { podSelector: {}, ...spec });
}

function codes(spec: Readonly<Record<string, unknown>>): string[] {
  return policy(spec).problems.map(({ path, code }) => `${path} ${code}`);
}

describe('the budget of a policy', () => {
  it('carries the largest policies that people have: the address list of a cloud, a rule for each of some hundred services', () => {
    assert.deepEqual(codes({ ingress: [{ from: times(9_000, block), ports: [{ port: 443 }] }] }), []);
    assert.deepEqual(codes({ ingress: times(500, (index) => ({ from: [block(index)], ports: [{ port: 1 + index }] })) }), []);
  });

  it(`is ${rules} rules in a direction: the first ones hold, and the others admit nothing`, () => {
    const spec = { policyTypes: ['Ingress', 'Egress'], ingress: times(rules + 1, () => ({})), egress: times(rules, () => ({})) };
    const { ingress, egress, problems } = policy(spec);
    assert.deepEqual([ingress?.length, egress?.length], [rules, rules]);
    assert.deepEqual(problems, [
      {
        path: `spec.ingress[${rules}]`,
        code: 'POLICY_TOO_LARGE',
        message: `it has ${rules + 1} rules, and ${rules} are carried; from this rule on nothing is admitted by spec.ingress`,
      },
    ]);
  });

  for (const [what, rule] of [
    ['peers', { from: times(entries, block) }],
    ['exceptions', { from: [{ ipBlock: { cidr: '0.0.0.0/0', except: times(entries, (index) => block(index).ipBlock.cidr) } }] }],
    ['ports', { ports: times(entries, (index) => ({ port: 1 + index })) }],
    ['labels', { from: [{ podSelector: { matchLabels: Object.fromEntries(times(entries, (index) => [`k${index}`, 'v'])) } }] }],
    [
      'values',
      {
        from: [{ namespaceSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: times(entries, (index) => `v${index}`) }] } }],
      },
    ],
  ] as const) {
    it(`is ${entries} entries in a direction, ${what} among them: a rule with more admits nothing, nor does one after it`, () => {
      const small = { ports: [{ port: 80 }] };
      const { ingress, problems } = policy({ ingress: [small, rule, small] });
      assert.deepEqual(
        ingress?.map(({ index }) => index),
        [0],
      );
      assert.deepEqual(
        problems.map(({ path, code }) => [path, code]),
        [['spec.ingress[1]', 'POLICY_TOO_LARGE']],
      );
      assert.match(problems[0]?.message ?? '', /there are 2\d{4} peers, exceptions, ports and values of selectors, and 20000 are carried/);
    });
  }

  it('is a sum over the rules of a direction, each direction by itself', () => {
    const half = { from: times(entries / 2 - 10, block) };
    const { ingress, egress } = policy({ policyTypes: ['Ingress', 'Egress'], ingress: [half, half, half], egress: [{ to: half.from }] });
    assert.deepEqual([ingress?.length, egress?.length], [2, 1]);
  });

  it('makes a policy whose own selector is beyond it isolate every pod of its namespace', () => {
    const podSelector = { matchExpressions: [{ key: 'a', operator: 'NotIn', values: times(entries + 1, (index) => `v${index}`) }] };
    const { subject, problems } = policy({ podSelector, ingress: [] });
    assert.equal(subject, EVERYTHING);
    assert.deepEqual(
      problems.map(({ path, code }) => [path, code]),
      [['spec.podSelector', 'POLICY_TOO_LARGE']],
    );
  });
});
