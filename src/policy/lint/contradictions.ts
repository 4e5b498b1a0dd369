/** Selectors that contradict themselves: nothing can ever match them. */
import { DIRECTIONS, finding, type Finding, peerPath } from './finding.ts';
import { isContradiction } from './implication.ts';
import type { Check } from './input.ts';
import type { Selector } from '../selector.ts';

export const contradictions: Check = {
  codes: ['SELECTOR_CONTRADICTS'],
  *run({ policies }): Iterable<Finding> {
    for (const policy of policies) {
      const contradicts = (selector: Selector, path: string, consequence: string): Finding[] => {
        if (!isContradiction(selector)) return [];
        const key = selector.requirements[0]?.key ?? '';
        const message = `what it asks of the label ${key} cannot hold at once: nothing can ever match it, and ${consequence}`;
        return [finding('SELECTOR_CONTRADICTS', policy, path, message, `leave one of the requirements on ${key} out`)];
      };
      yield* contradicts(policy.subject, 'spec.podSelector', 'the policy isolates nobody');
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          for (const peer of rule.peers ?? []) {
            if (peer.kind !== 'pods') continue;
            const path = peerPath(direction, rule, peer);
            yield* contradicts(peer.pods, `${path}.podSelector`, 'the peer admits nobody');
            if (peer.namespaces !== undefined) yield* contradicts(peer.namespaces, `${path}.namespaceSelector`, 'the peer admits nobody');
          }
        }
      }
    }
  },
};
