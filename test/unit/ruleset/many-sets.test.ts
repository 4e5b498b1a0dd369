/** How many sets a policy has in the kernel, which walks through all of a table's for each rule that names one. */
import assert from 'node:assert/strict';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { beyondElements, SET_ELEMENTS } from '../../../src/ruleset/element-budget.ts';
import { compilePolicy } from '../../../src/ruleset/compile.ts';

function setsOf(rules: number): number {
  const ingress = Array.from({ length: rules }, (_, rule) => ({
    from: Array.from({ length: 16 }, (_, i) => ({ ipBlock: { cidr: `10.${Math.floor(rule / 100)}.${rule % 100}.${i * 8}/30` } })),
  }));
  const { object } = project('NetworkPolicy', { metadata: { name: 'x' }, spec: { podSelector: {}, ingress } }, new Sharing());
  assert.ok(object !== undefined);
  return compilePolicy(object, 'ingress', [4, 6]).sets.size;
}

describe('sets of a policy', () => {
  it('are one a block where there are few rules, and one a rule where there are many', () => {
    assert.deepEqual([setsOf(1), setsOf(64), setsOf(65), setsOf(600)], [16, 1_024, 65, 600]);
  });

  it('count beside their elements', () => {
    const sets = (policy: number, count: number) => new Map(Array.from({ length: count }, (_, i) => [`${policy} ${i}`, 1] as const));
    const policies = [1, 2, 3].map((policy) => ({ key: `p${policy}`, sets: sets(policy, policy * 10) }));
    assert.deepEqual([...beyondElements(policies, 60 * (SET_ELEMENTS + 1))], []);
    assert.deepEqual([...beyondElements(policies, 60 * (SET_ELEMENTS + 1) - 1)], [['p3', 30 * (SET_ELEMENTS + 1)]]);
  });
});
