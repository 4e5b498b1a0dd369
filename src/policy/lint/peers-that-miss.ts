/**
 * Peers that select no pod; and pairs of selectors that say "and" where "or" was meant, or the other way round, as far as what is
 * selected gives it away (rows 5, 7, 9).
 */
import type { Peer, Policy, Rule } from '../objects.ts';
import { formatSelector } from './selector-text.ts';
import { DIRECTIONS, finding, type Finding, peerPath, someOf } from './finding.ts';
import { isEmptyPeer } from './implication.ts';
import type { Check, LintCluster } from './input.ts';
import { isClosedSelector } from './knowledge.ts';
import { isEmptyValue, meantLabel } from './near-miss.ts';
import { isSubject, type PodGroup } from './pods.ts';
import { NAMESPACE_NAME_LABEL } from '../world.ts';
import { EVERYTHING, matches } from '../selector.ts';

type PodPeer = Extract<Peer, { kind: 'pods' }>;

export const peersThatMiss: Check = {
  codes: ['PEER_SELECTS_NOTHING', 'PEER_OWN_NAMESPACE_ONLY', 'PEER_MEANS_AND', 'PEER_SELECTS_HOST_NETWORK'],
  needs: 'pods',
  *run(cluster): Iterable<Finding> {
    for (const policy of cluster.policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          const united = unitedPeers(rule, policy, cluster);
          for (const peer of rule.peers ?? []) {
            if (peer.kind !== 'pods' || isEmptyPeer(peer)) continue;
            const path = peerPath(direction, rule, peer);
            if (peer !== united?.pods) yield* judge(policy, peer, path, cluster);
          }
        }
      }
    }
  },
};

export const unitedSelectors: Check = {
  codes: ['PEERS_MEAN_OR'],
  *run(cluster): Iterable<Finding> {
    for (const policy of cluster.policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          const united = unitedPeers(rule, policy, cluster);
          if (united !== undefined) yield meanOr(policy, peerPath(direction, rule, united.pods), united);
        }
      }
    }
  },
};

/** Two peers, one of namespaces and one of pods, that were probably meant as one. */
interface UnitedPeers {
  readonly namespaces: PodPeer;
  readonly pods: PodPeer;
  readonly why: string;
}

/**
 * Only where what they select gives it away: the pods are not to be found at home and are in the selected namespaces, or the
 * namespaces have the own one among them, so that the peer of pods adds nothing.
 */
function unitedPeers({ peers }: Rule, policy: Policy, cluster: LintCluster): UnitedPeers | undefined {
  if (peers?.length !== 2) return undefined;
  const selecting = peers.filter((peer): peer is PodPeer => peer.kind === 'pods' && !isEmptyPeer(peer));
  const namespaces = selecting.find((peer) => peer.namespaces !== undefined && peer.pods.requirements.length === 0);
  const pods = selecting.find((peer) => peer.namespaces === undefined && peer.pods.requirements.length > 0);
  if (namespaces?.namespaces === undefined || pods === undefined) return undefined;
  const home = cluster.groups.selected(policy.namespace, pods.pods);
  if (matches(namespaces.namespaces, cluster.world.namespaceLabels(policy.namespace))) {
    const why = `the peer of namespaces admits every pod of namespace ${policy.namespace} as well, so that the peer of pods adds nobody`;
    return { namespaces, pods, why };
  }
  if (home.length > 0) return undefined;
  const elsewhere = cluster.groups.peers({ ...pods, namespaces: namespaces.namespaces }, policy.namespace);
  if (elsewhere.length === 0) return undefined;
  return {
    namespaces,
    pods,
    why: `no pod of namespace ${policy.namespace} matches ${pods.pods.text}, and pods of ${namespaceNames(elsewhere)} do`,
  };
}

function meanOr(policy: Policy, path: string, { namespaces, pods, why }: UnitedPeers): Finding {
  const wide = formatSelector(namespaces.namespaces ?? EVERYTHING);
  const message = `two peers mean that either will do: every pod of namespaces of ${wide}, and pods of ${pods.pods.text} in namespace ${policy.namespace}; ${why}`;
  const remedy =
    'if both are to hold, write one peer: leave out the dash before the second selector. If either is meant, leave out the one that adds nobody';
  return finding('PEERS_MEAN_OR', policy, path, message, remedy);
}

function* judge(policy: Policy, peer: PodPeer, path: string, cluster: LintCluster): Iterable<Finding> {
  const selected = cluster.groups.peers(peer, policy.namespace);
  if (selected.length > 0) {
    // Ended pods come and go, as Jobs do.
    if (selected.some((group) => isSubject(group) || group.ended.length > 0)) return;
    const hosted = selected.flatMap(({ hostNetwork }) => hostNetwork.map(({ namespace, name }) => `${namespace}/${name}`));
    const message = `all pods that it selects (${someOf(hosted)}) are on the network of their node: their packets have the address of the node, which no selector matches`;
    yield finding('PEER_SELECTS_HOST_NETWORK', policy, path, message, 'write an ipBlock of the nodes’ addresses');
    return;
  }
  const vocabulary = peer.namespaces === undefined ? cluster.podLabels(policy.namespace) : cluster.podLabels();
  // LABEL_VALUE_EMPTY says more.
  if (peer.pods.requirements.some((requirement) => isEmptyValue(requirement, vocabulary))) return;
  yield* peer.namespaces === undefined ? atHome(policy, peer, path, cluster) : elsewhere(policy, peer, peer.namespaces, path, cluster);
}

/** Row 5: a podSelector alone. */
function* atHome(policy: Policy, { pods }: PodPeer, path: string, cluster: LintCluster): Iterable<Finding> {
  if (cluster.groups.ofNamespace(policy.namespace).length === 0) return;
  const selector = `${path}.podSelector`;
  const message = `no pod and no workload of namespace ${policy.namespace} matches ${pods.text}, and a podSelector alone looks nowhere else: the peer matches nothing`;
  const meant = meantLabel(pods, cluster.podLabels(policy.namespace));
  if (meant !== undefined) {
    yield finding('PEER_SELECTS_NOTHING', policy, selector, message, `did you mean ${meant}? Pods of this namespace carry that`);
    return;
  }
  const everywhere = [...cluster.groups.namespaces.keys()].flatMap((name) => cluster.groups.selected(name, pods));
  if (everywhere.length > 0) {
    const names = namespaceNames(everywhere);
    const [first = ''] = new Set(everywhere.map(({ namespace }) => namespace));
    const remedy = `if those are meant, put a namespaceSelector beside it, in the same peer: {matchLabels: {${NAMESPACE_NAME_LABEL}: ${first}}}`;
    yield finding('PEER_OWN_NAMESPACE_ONLY', policy, selector, `${message}. Pods of ${names} match`, remedy);
    return;
  }
  yield finding('PEER_SELECTS_NOTHING', policy, selector, message, WRITE_LABELS);
}

const WRITE_LABELS = 'write the labels that the pods have (kubectl get pods --show-labels), or leave the peer out';

function* elsewhere(
  policy: Policy,
  peer: PodPeer,
  selector: NonNullable<PodPeer['namespaces']>,
  path: string,
  cluster: LintCluster,
): Iterable<Finding> {
  const { groups, isWhole } = cluster;
  const namespaces = groups.namespacesMatching(selector);
  if (namespaces.length === 0) {
    const meant = meantLabel(selector, cluster.namespaceLabels, isWhole) ?? meantName(selector, groups.namespaces);
    if (!isWhole && meant === undefined) return;
    const message = `no namespace matches ${selector.text}: the peer matches nothing`;
    const remedy =
      meant === undefined ? 'write a label that the namespaces have (kubectl get namespaces --show-labels)' : `did you mean ${meant}?`;
    yield finding('PEER_SELECTS_NOTHING', policy, `${path}.namespaceSelector`, message, remedy);
    return;
  }
  // There may be others that are not known, and those that are known may have pods that are not.
  if (!isWhole && (!isClosedSelector(selector) || namespaces.some((name) => groups.ofNamespace(name).length === 0))) return;
  // A namespace that is empty as yet is no slip of the pen.
  if (namespaces.every((name) => groups.ofNamespace(name).length === 0)) return;
  const where = someOf(namespaces);
  const message = `no pod and no workload in ${where}, which match ${formatSelector(selector)}, matches ${peer.pods.text}: the peer matches nothing`;
  const home = groups.selected(policy.namespace, peer.pods);
  if (home.length > 0) {
    const remedy =
      `if pods of namespace ${policy.namespace} are meant, leave the namespaceSelector out; ` +
      'if either is meant, write two peers: a dash before each selector';
    yield finding(
      'PEER_MEANS_AND',
      policy,
      path,
      `${message}. Both selectors of a peer have to hold; pods of namespace ${policy.namespace} match ${peer.pods.text}`,
      remedy,
    );
    return;
  }
  const meant = namespaces.map((name) => meantLabel(peer.pods, cluster.podLabels(name))).find((label) => label !== undefined);
  const remedy = meant === undefined ? WRITE_LABELS : `did you mean ${meant}? Pods of these namespaces carry that`;
  yield finding('PEER_SELECTS_NOTHING', policy, `${path}.podSelector`, message, remedy);
}

/** The name of a namespace that a selector asks for by some other label. */
function meantName({ requirements }: NonNullable<PodPeer['namespaces']>, namespaces: ReadonlyMap<string, unknown>): string | undefined {
  const named = requirements.flatMap(({ key, operator, values }) => (operator === 'In' && key !== NAMESPACE_NAME_LABEL ? values : []));
  const name = named.find((value) => namespaces.has(value));
  return name === undefined ? undefined : `${NAMESPACE_NAME_LABEL}=${name}`;
}

function namespaceNames(groups: readonly PodGroup[]): string {
  const names = [...new Set(groups.map(({ namespace }) => namespace))];
  return `${names.length === 1 ? 'namespace' : 'namespaces'} ${someOf(names)}`;
}
