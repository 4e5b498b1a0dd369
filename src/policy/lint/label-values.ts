/** Requirements of selectors that do match something, and still hardly mean what was meant: slips of the pen, empty values, NotIn. */
import type { Policy } from '../objects.ts';
import type { Requirement, Selector } from '../selector.ts';
import { count, DIRECTIONS, finding, type Finding, peerPath } from './finding.ts';
import { isContradiction } from './implication.ts';
import type { Check, LintCluster } from './input.ts';
import { isEmptyValue, nearIn, unmet, type Vocabulary } from './near-miss.ts';

interface PlacedSelector {
  readonly policy: Policy;
  readonly selector: Selector;
  readonly path: string;
  /** What it looks at. */
  readonly of: 'pods' | 'namespaces';
  /** `pods of namespace shop`, `pods`, `namespaces`. */
  readonly where: string;
  readonly vocabulary: Vocabulary;
}

export const labelValues: Check = {
  codes: ['LABEL_NEAR_MISS', 'LABEL_VALUE_EMPTY'],
  needs: 'pods',
  *run(cluster): Iterable<Finding> {
    for (const placed of selectorsOf(cluster)) {
      for (const requirement of placed.selector.requirements) {
        yield* nearMisses(placed, requirement);
        yield* emptyValue(placed, requirement);
      }
    }
  },
};

/** NotIn and DoesNotExist of peers, which admit what lacks the key (row 8). */
export const absentKeys: Check = {
  codes: ['NOT_IN_ADMITS_UNLABELED'],
  needs: 'pods',
  *run(cluster): Iterable<Finding> {
    for (const policy of cluster.policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          for (const peer of rule.peers ?? []) {
            if (peer.kind !== 'pods' || isContradiction(peer.pods)) continue;
            const selected = cluster.groups.peers(peer, policy.namespace);
            for (const { key, operator, values } of peer.pods.requirements) {
              if (operator !== 'NotIn') continue;
              const lacking = selected.filter(({ labels }) => !labels.has(key));
              const having = selected.filter(({ labels }) => labels.has(key));
              // Where none has the key, or all have, nothing is mixed up.
              if (lacking.length === 0 || having.length === 0) continue;
              const pods = lacking.reduce((sum, group) => sum + group.pods.length + group.templates.length, 0);
              if (pods === 0) continue;
              const message = `${key} NotIn (${values.join(', ')}) matches what has no label ${key} as well: ${count(pods, 'pod')} or workload${pods === 1 ? '' : 's'} of these peers`;
              const remedy = `if only those that have ${key} are meant, add {key: ${key}, operator: Exists}`;
              yield finding('NOT_IN_ADMITS_UNLABELED', policy, `${peerPath(direction, rule, peer)}.podSelector`, message, remedy);
            }
          }
        }
      }
    }
  },
};

function* selectorsOf(cluster: LintCluster): Iterable<PlacedSelector> {
  for (const policy of cluster.policies) {
    if (policy.subject.requirements.length > 0) {
      const { namespace } = policy;
      const vocabulary = cluster.podLabels(namespace);
      yield { policy, selector: policy.subject, path: 'spec.podSelector', of: 'pods', where: `pod of namespace ${namespace}`, vocabulary };
    }
    for (const direction of DIRECTIONS) {
      for (const rule of policy[direction] ?? []) {
        for (const peer of rule.peers ?? []) {
          if (peer.kind !== 'pods') continue;
          const path = peerPath(direction, rule, peer);
          if (peer.pods.requirements.length > 0) {
            const own = peer.namespaces === undefined;
            const vocabulary = own ? cluster.podLabels(policy.namespace) : cluster.podLabels();
            const where = own ? `pod of namespace ${policy.namespace}` : 'pod';
            yield { policy, selector: peer.pods, path: `${path}.podSelector`, of: 'pods', where, vocabulary };
          }
          if (peer.namespaces !== undefined && peer.namespaces.requirements.length > 0) {
            const vocabulary = cluster.namespaceLabels;
            yield {
              policy,
              selector: peer.namespaces,
              path: `${path}.namespaceSelector`,
              of: 'namespaces',
              where: 'namespace',
              vocabulary,
            };
          }
        }
      }
    }
  }
}

/** What stands beside something that does match; where nothing matches at all, the checks of what selects nothing say so. */
function* nearMisses(
  { policy, selector, path, where, vocabulary }: PlacedSelector,
  { key, operator, values }: Requirement,
): Iterable<Finding> {
  if (operator === 'Exists' || unmet(selector, vocabulary).length > 0) return;
  const known = vocabulary.get(key);
  if (known === undefined) {
    // Only NotIn and DoesNotExist get here: they hold for whatever lacks the key, and so for everything.
    const used = selector.requirements.map(({ key }) => key);
    const near = nearIn(
      key,
      vocabulary.keys().filter((other) => !used.includes(other)),
    );
    if (near === undefined) return;
    const message = `no ${where} has a label ${key}, so that ${key} ${operator} holds for everything; there is a label ${near}`;
    yield finding('LABEL_NEAR_MISS', policy, path, message, `did you mean ${near}?`);
    return;
  }
  for (const value of values) {
    if (known.has(value)) continue;
    const near = nearIn(
      value,
      known.values().filter((other) => !values.includes(other)),
    );
    if (near === undefined) continue;
    const effect = operator === 'In' ? 'the value selects nothing' : 'the value leaves nothing out';
    const message = `no ${where} has ${key}=${value}: ${effect}; there is ${key}=${near}`;
    yield finding('LABEL_NEAR_MISS', policy, path, message, `did you mean ${key}=${near}?`);
  }
}

function* emptyValue({ policy, path, where, vocabulary }: PlacedSelector, requirement: Requirement): Iterable<Finding> {
  if (!isEmptyValue(requirement, vocabulary)) return;
  const { key } = requirement;
  // Row 10.
  const message = `${key}: "" wants the label to be there and its value to be empty; every ${where} that has it has a value, so that nothing matches`;
  yield finding(
    'LABEL_VALUE_EMPTY',
    policy,
    path,
    message,
    `to ask for the label alone, write {key: ${key}, operator: Exists} in matchExpressions`,
  );
}
