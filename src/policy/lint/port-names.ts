/** Named ports that lead nowhere, or not everywhere to the same number (rows 15 to 17). */
import type { Peer, Pod, Policy, PortMatch, Rule } from '../objects.ts';
import { undeclaredPorts } from '../undeclared-ports.ts';
import { count, finding, type Finding, rulePath, someOf } from './finding.ts';
import type { Check, LintCluster } from './input.ts';
import { isClosedSelector } from './knowledge.ts';

type NamedMatch = Extract<PortMatch, { kind: 'name' }>;

export const portNames: Check = {
  codes: ['PORT_NAME_UNDECLARED', 'PORT_NAME_DIFFERS', 'PORT_NAME_PARTLY_DECLARED', 'PORT_NAME_TO_BLOCK'],
  needs: 'pods',
  *run(cluster): Iterable<Finding> {
    for (const policy of cluster.policies) {
      yield* ingress(policy, cluster);
      yield* egress(policy, cluster);
    }
  },
};

const WRITE_NUMBER = 'write the name that the container gives the port, or its number';

function namesOf({ ports = [] }: Rule): NamedMatch[] {
  return ports.filter((port) => port.kind === 'name');
}

function* ingress(policy: Policy, { groups }: LintCluster): Iterable<Finding> {
  const rules = (policy.ingress ?? []).filter((rule) => namesOf(rule).length > 0);
  if (rules.length === 0) return;
  const subjects = groups.subjects(policy).flatMap(({ pods, templates }) => [...pods, ...templates]);
  const undeclared = undeclaredPorts(policy, subjects);
  for (const { path, message } of undeclared) yield finding('PORT_NAME_UNDECLARED', policy, path, message, WRITE_NUMBER);
  for (const rule of rules) {
    for (const port of namesOf(rule)) {
      const path = `${rulePath('ingress', rule)}.ports[${port.index}].port`;
      if (undeclared.some((found) => found.path === path)) continue;
      yield* unevenly(policy, port, path, subjects);
    }
  }
}

/** Different numbers of one name, and pods without it. */
function* unevenly(policy: Policy, port: NamedMatch, path: string, subjects: readonly Pod[]): Iterable<Finding> {
  const numbers = new Map<string, string>();
  const without: string[] = [];
  for (const pod of subjects) {
    const own = pod.ports.filter(({ name, protocol }) => name === port.name && protocol === port.protocol).map(({ port }) => port);
    if (own.length === 0) without.push(pod.name);
    else numbers.set([...own].sort((a, b) => a - b).join(' and '), pod.name);
  }
  if (numbers.size > 1) {
    const which = [...numbers].map(([number, pod]) => `${number} in ${pod}`);
    const message = `the port ${port.name} is ${someOf(which)}: each pod is opened at its own number, and at no other's`;
    yield finding('PORT_NAME_DIFFERS', policy, path, message, 'nothing, if that is meant; to open one number everywhere, write the number');
  }
  // A policy for every pod of a namespace is written for those that have the port.
  if (without.length > 0 && policy.subject.requirements.length > 0) {
    const message = `${count(without.length, 'pod')} of ${subjects.length} that the policy selects (${someOf(without)}) ${without.length === 1 ? 'declares' : 'declare'} no port ${port.name} for ${port.protocol}; for ${without.length === 1 ? 'it' : 'them'} the entry admits nothing`;
    yield finding('PORT_NAME_PARTLY_DECLARED', policy, path, message, WRITE_NUMBER);
  }
}

function* egress(policy: Policy, cluster: LintCluster): Iterable<Finding> {
  for (const rule of policy.egress ?? []) {
    const names = namesOf(rule);
    if (names.length === 0) continue;
    const destinations = destinationsOf(rule, policy, cluster);
    const isBlocks = rule.peers?.every(({ kind }) => kind === 'block') ?? false;
    for (const port of names) {
      const path = `${rulePath('egress', rule)}.ports[${port.index}].port`;
      const declares = (pod: Pod): boolean => pod.ports.some(({ name, protocol }) => name === port.name && protocol === port.protocol);
      if (isBlocks) {
        if (blocksHave(rule.peers ?? [], cluster, declares)) continue;
        const message = `a name is the number that the destination pod gives it, and no pod in these blocks declares a port ${port.name} for ${port.protocol}; addresses outside of the cluster have no names of ports, and the entry admits nothing`;
        yield finding('PORT_NAME_TO_BLOCK', policy, path, message, 'write the number of the port');
      } else if (destinations !== undefined && destinations.length > 0 && !destinations.some(declares)) {
        const message = `no pod that the rule leads to declares a port ${port.name} for ${port.protocol}; the entry admits nothing`;
        yield finding('PORT_NAME_UNDECLARED', policy, path, message, WRITE_NUMBER);
      }
    }
  }
}

/** Undefined: there may be others that are not known. */
function destinationsOf({ peers }: Rule, policy: Policy, { groups, isWhole }: LintCluster): readonly Pod[] | undefined {
  const selecting = (peers ?? []).filter((peer) => peer.kind === 'pods');
  // Blocks may have any pod in them.
  if (peers === undefined || selecting.length < peers.length) return undefined;
  if (!isWhole && selecting.some(({ namespaces }) => namespaces !== undefined && !isClosedSelector(namespaces))) return undefined;
  return selecting.flatMap((peer) => groups.peers(peer, policy.namespace)).flatMap(({ pods, templates }) => [...pods, ...templates]);
}

/** Whether a pod whose address is in a block has the port; where there are more than a few such pods it is taken to be so. */
function blocksHave(peers: readonly Peer[], { addresses }: LintCluster, declares: (pod: Pod) => boolean): boolean {
  return peers.some((peer) => {
    if (peer.kind !== 'block') return false;
    const { count, some } = addresses.podsIn(peer.ranges);
    return count > some.length || some.some(declares);
  });
}
