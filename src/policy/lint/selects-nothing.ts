/** Policies that apply to no pod: none matches, those that match are on their node's network, or have ended. */
import { finding, type Finding } from './finding.ts';
import { count, someOf } from './finding.ts';
import { isContradiction } from './implication.ts';
import { type Check, type LintCluster } from './input.ts';
import { isEmptyValue, meantLabel } from './near-miss.ts';
import { isSubject, type PodGroup } from './pods.ts';
import type { Policy } from '../objects.ts';

const PATH = 'spec.podSelector';

export const selectsNothing: Check = {
  codes: ['POLICY_SELECTS_NOTHING', 'POLICY_SELECTS_HOST_NETWORK', 'POLICY_SELECTS_ENDED_PODS', 'NAMESPACE_WITHOUT_PODS'],
  needs: 'pods',
  *run(cluster): Iterable<Finding> {
    const empty = new Map<string, Policy[]>();
    for (const policy of cluster.policies) {
      if (cluster.groups.ofNamespace(policy.namespace).length > 0) yield* judge(policy, cluster);
      else if (cluster.isWhole) empty.set(policy.namespace, [...(empty.get(policy.namespace) ?? []), policy]);
    }
    for (const [namespace, policies] of empty) {
      const names = someOf(policies.map(({ name }) => name));
      yield {
        code: 'NAMESPACE_WITHOUT_PODS',
        object: { kind: 'Namespace', name: namespace },
        path: '',
        message: `the namespace has no pods and no workloads; ${policies.length === 1 ? `its policy ${names} applies` : `its ${policies.length} policies (${names}) apply`} to nobody yet`,
        remedy: 'nothing, if pods are still to come; otherwise delete the policies, or move them to the namespace that was meant',
        related: [],
      };
    }
  },
};

function* judge(policy: Policy, cluster: LintCluster): Iterable<Finding> {
  if (isContradiction(policy.subject)) return;
  const selected = cluster.groups.selected(policy.namespace, policy.subject);
  const hostNetwork = selected.flatMap((group) => group.hostNetwork);
  if (selected.some(isSubject)) {
    if (hostNetwork.length > 0 && policy.subject.requirements.length > 0) {
      const message = `${count(hostNetwork.length, 'pod')} that it selects (${namesOf(hostNetwork)}) ${hostNetwork.length === 1 ? 'is' : 'are'} on the network of the node, where no policy applies`;
      yield finding('POLICY_SELECTS_HOST_NETWORK', policy, PATH, message, HOST_NETWORK_REMEDY);
    }
    return;
  }
  if (hostNetwork.length > 0) {
    const message = `all pods that it selects (${namesOf(hostNetwork)}) are on the network of their node, where no policy applies; it has no effect`;
    yield finding('POLICY_SELECTS_HOST_NETWORK', policy, PATH, message, HOST_NETWORK_REMEDY);
    return;
  }
  const ended = selected.flatMap((group: PodGroup) => group.ended);
  if (ended.length > 0) {
    const message = `all pods that it selects (${namesOf(ended)}) have ended; it applies to nobody now`;
    const remedy = 'nothing, if more such pods are to come; otherwise delete the policy, or mend its selector';
    yield finding('POLICY_SELECTS_ENDED_PODS', policy, PATH, message, remedy);
    return;
  }
  const vocabulary = cluster.podLabels(policy.namespace);
  // LABEL_VALUE_EMPTY says more.
  if (policy.subject.requirements.some((requirement) => isEmptyValue(requirement, vocabulary))) return;
  const meant = meantLabel(policy.subject, vocabulary);
  const message = `no pod and no workload of namespace ${policy.namespace} matches ${policy.subject.text}; the policy applies to nobody, and isolates nobody`;
  const remedy =
    meant === undefined
      ? 'write the labels that the pods have (kubectl get pods --show-labels), or delete the policy'
      : `did you mean ${meant}? Pods of this namespace carry that`;
  yield finding('POLICY_SELECTS_NOTHING', policy, PATH, message, remedy);
}

const HOST_NETWORK_REMEDY = 'give the pods a network of their own (hostNetwork: false), or guard their node with a firewall of its own';

function namesOf(pods: readonly { readonly name: string }[]): string {
  return someOf(pods.map(({ name }) => name));
}
