/**
 * Rules that admit what the other end refuses (row 25): nobody of those whom an ingress rule admits may send, or nobody of those whom an
 * egress rule leads to lets it in. Only where that is certain for all of them, whatever
 * addresses they have.
 */
import type { Direction, Peer, Pod, Policy, PortMatch, Rule } from '../objects.ts';
import { count, DIRECTIONS, finding, type Finding, peerPath, policyObject, someOf } from './finding.ts';
import { isEmptyPeer } from './implication.ts';
import type { Check, LintCluster } from './input.ts';
import type { PodGroup, PodGroups } from './pods.ts';
import { matches } from '../selector.ts';

export const otherSide: Check = {
  codes: ['OTHER_SIDE_REFUSES'],
  needs: 'pods',
  *run(cluster): Iterable<Finding> {
    const known: Readonly<Record<Direction, KnownAnswers>> = { ingress: new Map(), egress: new Map() };
    for (const policy of cluster.policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          for (const peer of rule.peers ?? []) {
            if (peer.kind !== 'pods' || isEmptyPeer(peer)) continue;
            const refusing = refusingPolicies(policy, direction, rule, peer, cluster, known[direction]);
            if (refusing !== undefined) yield refused(policy, direction, rule, peer, refusing, cluster);
          }
        }
      }
    }
  },
};

function refused(
  policy: Policy,
  direction: Direction,
  rule: Rule,
  peer: Peer,
  refusing: readonly Policy[],
  { groups }: LintCluster,
): Finding {
  const pods = peer.kind === 'pods' ? groups.subjectsAmong(groups.peers(peer, policy.namespace)) : [];
  const number = pods.reduce((sum, group) => sum + (group.pods.length > 0 ? group.pods.length : group.templates.length), 0);
  const names = someOf(refusing.map(({ namespace, name }) => `${namespace}/${name}`));
  const other = opposite(direction);
  const whom = number === 1 ? 'the pod that this admits is' : `all ${count(number, 'pod')} that this admits are`;
  const message =
    direction === 'ingress'
      ? `${whom} isolated for egress by ${names}, which ${refusing.length === 1 ? 'does' : 'do'} not let ${number === 1 ? 'it' : 'them'} speak to these pods on these ports: both ends have to allow a flow`
      : `${number === 1 ? 'the pod that this leads to is' : `all ${number} pods that this leads to are`} isolated for ingress by ${names}, which ${refusing.length === 1 ? 'does' : 'do'} not let these pods in on these ports: both ends have to allow a flow`;
  const remedy = `add what is missing to the ${other} rules of ${names}, or leave the peer out`;
  const related = refusing.slice(0, 5).map((one) => ({ object: policyObject(one), path: `spec.${other}`, message: 'refuses it' }));
  return finding('OTHER_SIDE_REFUSES', policy, peerPath(direction, rule, peer), message, remedy, related);
}

function opposite(direction: Direction): Direction {
  return direction === 'ingress' ? 'egress' : 'ingress';
}

/** What policies of one direction come to for the pods of some groups together. */
interface Answers {
  /** Whether some policy isolates each of them. */
  readonly isIsolated: boolean;
  /** The policies that isolate any of them, those with rules first. */
  readonly policies: readonly Policy[];
}

/** By the groups that a peer selects, which are the same list for all peers that are the same (see {@link PodGroups.peers}). */
type KnownAnswers = Map<readonly PodGroup[], Answers>;

function answersOf(selected: readonly PodGroup[], direction: Direction, groups: PodGroups, known: KnownAnswers): Answers {
  const answers = known.get(selected);
  if (answers !== undefined) return answers;
  const subjects = groups.subjectsAmong(selected);
  const policies = new Set<Policy>();
  const isIsolated = subjects.length > 0 && subjects.every((group) => groups.isIsolated(group, direction));
  // Where one is not isolated nothing else is asked.
  if (isIsolated) {
    const blankets = [...new Set(subjects.map(({ namespace }) => namespace))].map((name) => groups.blanket(name, direction));
    for (const list of blankets) for (const policy of list) policies.add(policy);
    for (const group of subjects) for (const policy of groups.selecting(group, direction)) policies.add(policy);
  }
  const hasRules = (policy: Policy): number => Number((policy[direction]?.length ?? 0) > 0);
  const found = { isIsolated, policies: [...policies].sort((a, b) => hasRules(b) - hasRules(a)) };
  known.set(selected, found);
  return found;
}

/** Pods of so many policies are taken to be let through by one of them: to ask all for each rule would take long, and hardly find any. */
const MOST_ANSWERS = 500;

/** The policies of the peer's pods, all of which refuse it; undefined: somebody may get through, or nobody is there. */
function refusingPolicies(
  policy: Policy,
  direction: Direction,
  rule: Rule,
  peer: Extract<Peer, { kind: 'pods' }>,
  cluster: LintCluster,
  known: KnownAnswers,
): readonly Policy[] | undefined {
  const { groups } = cluster;
  const other = opposite(direction);
  const selected = groups.peers(peer, policy.namespace);
  const { isIsolated, policies } = answersOf(selected, other, groups, known);
  if (!isIsolated || policies.length > MOST_ANSWERS) return undefined;
  const subjects = groups.subjects(policy);
  if (subjects.length === 0 || isOneAndTheSame(groups.subjectsAmong(selected), subjects)) return undefined;
  for (const theirs of policies) {
    const answers = theirs[other] ?? [];
    // Those without rules come last, and admit nobody.
    if (answers.length === 0) break;
    if (answers.some((answer) => mayMeet(theirs, answer, rule, subjects, cluster))) return undefined;
  }
  return policies;
}

/** A pod and itself: that is always allowed (row 30). */
function isOneAndTheSame([peer, ...peers]: readonly PodGroup[], [subject, ...subjects]: readonly PodGroup[]): boolean {
  return peer === subject && peers.length === 0 && subjects.length === 0 && (peer?.pods.length ?? 0) <= 1;
}

/** Whether a rule of the other end may admit any of the subjects on any of the ports; where that is not certain, it may. */
function mayMeet(theirs: Policy, answer: Rule, rule: Rule, subjects: readonly PodGroup[], { groups }: LintCluster): boolean {
  if (!portsMayMeet(answer.ports, rule.ports)) return false;
  if (answer.peers === undefined) return true;
  return answer.peers.some((peer) => {
    if (isEmptyPeer(peer)) return false;
    if (peer.kind === 'pods') return subjects.some((group) => peerSelectsGroup(peer, theirs.namespace, group, groups));
    return peer.kind === 'block' && subjects.some((group) => group.pods.length === 0 || group.pods.some((pod) => isWithin(pod, peer)));
  });
}

function peerSelectsGroup(
  { namespaces, pods }: Extract<Peer, { kind: 'pods' }>,
  own: string,
  { namespace, labels }: PodGroup,
  groups: PodGroups,
): boolean {
  const isThere = namespaces === undefined ? namespace === own : matches(namespaces, groups.namespaces.get(namespace) ?? labels);
  return isThere && matches(pods, labels);
}

function isWithin({ addresses }: Pod, { ranges }: Extract<Peer, { kind: 'block' }>): boolean {
  // A pod that has no address yet may get one of these.
  if (addresses.length === 0) return true;
  return addresses.some((address) =>
    ranges.some(({ first, last }) => typeof first === typeof address && first <= address && address <= last),
  );
}

function portsMayMeet(a: Rule['ports'], b: Rule['ports']): boolean {
  if (a === undefined || b === undefined) return a?.length !== 0 && b?.length !== 0;
  return a.some((one) => b.some((other) => portMayMeet(one, other)));
}

function portMayMeet(a: PortMatch, b: PortMatch): boolean {
  if (a.protocol !== b.protocol) return false;
  // What number a name has is the destination's affair.
  if (a.kind === 'name' || b.kind === 'name') return true;
  return a.first <= b.last && b.first <= a.last;
}
