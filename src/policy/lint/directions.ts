/** What the API accepts and quietly ignores, or fills in: directions that are not isolated, lists that are empty, selectors that are left out (rows 1 to 3). */
import type { Direction, Policy } from '../objects.ts';
import { type Fields, isAbsent, isFields } from '../problems.ts';
import { DIRECTIONS, finding, type Finding, sideOf } from './finding.ts';
import type { Check, LintCluster } from './input.ts';

export const directions: Check = {
  codes: ['RULES_WITHOUT_EFFECT', 'EMPTY_RULES_WITHOUT_EFFECT', 'INGRESS_DENIED_BY_DEFAULT', 'EMPTY_LIST_ADMITS_ALL', 'SUBJECT_MISSING'],
  *run(cluster): Iterable<Finding> {
    for (const policy of cluster.policies) {
      const written = cluster.spec(policy);
      const spec = isAbsent(written) ? {} : written;
      if (!isFields(spec)) continue;
      for (const direction of DIRECTIONS) yield* ignored(policy, spec, direction);
      yield* deniedByDefault(policy, spec, cluster);
      for (const direction of DIRECTIONS) yield* emptyLists(policy, spec, direction);
      if (isAbsent(spec['podSelector']) && written !== undefined) {
        const message = `there is no podSelector, which means every pod of namespace ${policy.namespace}`;
        yield finding(
          'SUBJECT_MISSING',
          policy,
          'spec',
          message,
          'write podSelector: {} if every pod is meant, or the labels of those that are',
        );
      }
    }
  },
};

function* ignored(policy: Policy, spec: Fields, direction: Direction): Iterable<Finding> {
  const rules = spec[direction];
  if (policy[direction] !== undefined || !Array.isArray(rules)) return;
  const path = `spec.${direction}`;
  const type = direction === 'ingress' ? 'Ingress' : 'Egress';
  const hasTypes = !isAbsent(spec['policyTypes']);
  if (rules.length > 0) {
    const message = `policyTypes does not name ${type}: these rules have no effect, and the pods are not isolated for ${direction} by this policy`;
    yield finding('RULES_WITHOUT_EFFECT', policy, path, message, `add ${type} to policyTypes, or leave the rules out`);
    return;
  }
  const why = hasTypes
    ? `policyTypes does not name ${type}`
    : 'without policyTypes a policy is about egress only where it has egress rules';
  const message = `an empty list denies nothing here: ${why}, so that the pods are not isolated for ${direction} by this policy`;
  const remedy = hasTypes
    ? `to deny all ${direction}, add ${type} to policyTypes; otherwise leave ${direction}: [] out`
    : `to deny all ${direction}, write policyTypes: [Ingress, Egress]; otherwise leave ${direction}: [] out`;
  yield finding('EMPTY_RULES_WITHOUT_EFFECT', policy, path, message, remedy);
}

/** Row 1: a policy of egress rules alone is about ingress as well, unless it says otherwise. */
function* deniedByDefault(policy: Policy, spec: Fields, { covering }: LintCluster): Iterable<Finding> {
  const types = spec['policyTypes'];
  const hasTypes = Array.isArray(types) ? types.length > 0 : !isAbsent(types);
  if (hasTypes || !isAbsent(spec['ingress']) || policy.egress === undefined || policy.egress.length === 0) return;
  // Where another policy isolates them for ingress anyway, this one changes nothing.
  for (const other of covering.supersets(policy)) if (other.ingress !== undefined) return;
  const message = 'without policyTypes a policy is about ingress too: it has egress rules alone, and so denies all ingress';
  const remedy = 'write policyTypes: [Egress], or policyTypes: [Ingress, Egress] if no ingress is meant';
  yield finding('INGRESS_DENIED_BY_DEFAULT', policy, 'spec', message, remedy);
}

/** Row 3: they restrict nothing, and look as if they admitted nobody. */
function* emptyLists(policy: Policy, spec: Fields, direction: Direction): Iterable<Finding> {
  const side = sideOf(direction);
  const rules = spec[direction];
  if (!Array.isArray(rules)) return;
  for (const rule of policy[direction] ?? []) {
    const written: unknown = rules[rule.index];
    if (!isFields(written)) continue;
    for (const [field, everything] of [
      [side, 'every peer is admitted, addresses outside of the cluster included'],
      ['ports', 'every protocol and port is admitted'],
    ] as const) {
      const value = written[field];
      if (value !== null && !(Array.isArray(value) && value.length === 0)) continue;
      const message = `an empty ${field} restricts nothing: ${everything}`;
      const remedy = `leave ${field} out if that is meant; to admit nothing, leave the whole rule out`;
      yield finding('EMPTY_LIST_ADMITS_ALL', policy, `spec.${direction}[${rule.index}].${field}`, message, remedy);
    }
  }
}
