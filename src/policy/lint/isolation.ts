/** Pods that no policy isolates: whoever reaches their address may speak to them, and they to anybody. One finding a namespace. */
import { type Finding, someOf } from './finding.ts';
import type { Check } from './input.ts';
import { isSubject } from './pods.ts';

export const isolation: Check = {
  codes: ['PODS_NOT_ISOLATED'],
  needs: 'pods',
  *run({ groups }): Iterable<Finding> {
    for (const namespace of groups.namespaces.keys()) {
      const open: string[] = [];
      let [pods, templates] = [0, 0];
      for (const group of groups.ofNamespace(namespace)) {
        if (!isSubject(group)) continue;
        // A workload whose pods are there is not counted again.
        const subjects = group.pods.length > 0 ? group.pods : group.templates;
        pods += group.pods.length;
        if (group.pods.length === 0) templates += group.templates.length;
        if (groups.isIsolated(group, 'ingress') || groups.isIsolated(group, 'egress')) continue;
        for (const { name } of subjects) open.push(name);
      }
      if (open.length === 0) continue;
      const all = pods + templates;
      const nouns = templates === 0 ? 'pods' : pods === 0 ? 'workloads' : 'pods and workloads';
      const which =
        open.length < all ? `${open.length} of ${all} ${nouns}` : all === 1 ? `the only ${nouns.slice(0, -1)}` : `all ${all} ${nouns}`;
      const isOne = open.length === 1;
      const effect = isOne ? 'everybody may speak to it, and it to everybody' : 'everybody may speak to them, and they to everybody';
      yield {
        code: 'PODS_NOT_ISOLATED',
        object: { kind: 'Namespace', name: namespace },
        path: '',
        message: `${which} (${someOf(open.sort(), 5)}) ${isOne ? 'is' : 'are'} isolated by no policy: ${effect}`,
        remedy: 'begin with a policy {podSelector: {}, policyTypes: [Ingress, Egress]}, which denies everything, and add what is needed',
        related: [],
      };
    }
  },
};
