/** What the budgets of namespaces and pods have no room for (src/policy/budget.ts): who writes policies is told before they are applied. */
import { firstLeftOutReason, weightOf, withinPodBudget } from '../budget.ts';
import { closedByNamespace, withinNamespaceBudgets } from '../namespace-budget.ts';
import type { Direction, Policy } from '../objects.ts';
import { DIRECTIONS, type Finding, finding } from './finding.ts';
import type { Check, LintCluster } from './input.ts';

const REMEDY = 'write fewer policies, larger blocks and fewer selectors, or use several namespaces';

export const budgets: Check = {
  codes: ['NAMESPACE_TOO_LARGE', 'POD_POLICIES_TOO_MANY'],
  *run(cluster) {
    const carried = withinNamespaceBudgets(cluster.policies);
    for (const [index, policy] of cluster.policies.entries()) {
      if (carried[index] === policy) continue;
      const [fault] = closedByNamespace(policy, weightOf(policy)).problems;
      if (fault !== undefined) yield finding('NAMESPACE_TOO_LARGE', policy, fault.path, fault.message, REMEDY);
    }
    yield* leftOut(cluster);
  },
};

/** The first of those that a pod has no room for, once. */
function* leftOut({ pods, world, policies }: LintCluster): Generator<Finding> {
  const said = new Set<string>();
  const byNamespace = Map.groupBy(policies, ({ namespace }) => namespace);
  for (const direction of DIRECTIONS) {
    const suspects = new Set([...byNamespace].flatMap(([namespace, all]) => (mayBeTooMany(all, direction) ? [namespace] : [])));
    for (const pod of pods) {
      if (!suspects.has(pod.namespace)) continue;
      const [first] = world.leftOut(pod, direction);
      if (first === undefined || said.has(`${first.namespace}/${first.name} ${direction}`)) continue;
      said.add(`${first.namespace}/${first.name} ${direction}`);
      yield finding(
        'POD_POLICIES_TOO_MANY',
        first,
        'spec.podSelector',
        firstLeftOutReason(`${pod.namespace}/${pod.name}`, direction),
        REMEDY,
      );
    }
  }
}

/** Whether all policies of a namespace together are more than a pod has room for: few namespaces have so many. */
function mayBeTooMany(policies: readonly Policy[], direction: Direction): boolean {
  return withinPodBudget(policies, direction).length < policies.length;
}
