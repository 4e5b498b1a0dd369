/** Namespaces selected by a label that somebody has to set, where there is one that is always there. */
import { NAMESPACE_NAME_LABEL } from '../world.ts';
import { DIRECTIONS, finding, type Finding, peerPath } from './finding.ts';
import type { Check } from './input.ts';

/** Keys that people give the name of a namespace. */
const NAME_KEYS: ReadonlySet<string> = new Set(['name', 'ns', 'namespace', 'kubernetes.io/name']);

export const namespaceLabels: Check = {
  codes: ['NAMESPACE_BY_LOOSE_LABEL'],
  *run({ policies, groups }): Iterable<Finding> {
    for (const policy of policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          for (const peer of rule.peers ?? []) {
            if (peer.kind !== 'pods' || peer.namespaces === undefined) continue;
            const [only, ...more] = peer.namespaces.requirements;
            if (only?.operator !== 'In' || more.length > 0 || !NAME_KEYS.has(only.key)) continue;
            // Only where the values are names: a label `name` may say something else.
            const matching = groups.namespacesMatching(peer.namespaces);
            if (matching.length === 0 || !only.values.every((value) => groups.namespaces.has(value))) continue;
            const path = `${peerPath(direction, rule, peer)}.namespaceSelector`;
            const others = matching.filter((name) => !only.values.includes(name));
            const also = others.length === 0 ? '' : `; now it matches ${others.join(', ')} as well`;
            const message = `the label ${only.key} is what somebody has written: whoever may edit a namespace can give it, and a namespace made anew lacks it${also}`;
            const remedy = `write ${NAMESPACE_NAME_LABEL}: ${only.values.join(', ')}, which the API sets on every namespace and nobody can change`;
            yield finding('NAMESPACE_BY_LOOSE_LABEL', policy, path, message, remedy);
          }
        }
      }
    }
  },
};
