/** Egress policies that leave their pods without names: nothing admits port 53 of the cluster's DNS. */
import type { Pod, Policy, PolicyProtocol, Rule } from '../objects.ts';
import { peerMatchesAs, peerSelects } from '../peers.ts';
import { portMatches } from '../ports.ts';
import { matches } from '../selector.ts';
import { finding, type Finding, policyObject, someOf } from './finding.ts';
import { isEmptyPeer, isEmptyRule } from './implication.ts';
import type { Check, LintCluster } from './input.ts';
import { isClosedSelector } from './knowledge.ts';
import { isSubject, type PodGroup } from './pods.ts';

export const dns: Check = {
  codes: ['DNS_FORGOTTEN', 'DNS_TCP_ONLY', 'DNS_UDP_ONLY'],
  *run(cluster): Iterable<Finding> {
    const servers = [...cluster.pods, ...cluster.templates].filter(isDnsServer);
    // On the network of a node: every pod reaches the one of its own node (row 28).
    if (servers.some(({ hostNetwork }) => hostNetwork)) return;
    const living = servers.filter(({ terminal }) => !terminal);
    // Their workload says nothing of its own where its pods are there.
    const placed = living.filter(({ addresses }) => addresses.length > 0);
    const asked = placed.length > 0 ? placed : living;
    const judged = new Map<string, DnsCode | undefined>();
    const found = new Map<DnsCode, Map<Policy, Unnamed>>();
    for (const group of subjectsOf(cluster)) {
      // Those without rules deny, and add nothing to what others admit.
      const policies = cluster.groups.isolating(group, 'egress').filter(({ egress = [] }) => egress.length > 0);
      const rules = policies.flatMap((policy) => (policy.egress ?? []).map((rule) => ({ policy, rule })));
      const [first] = rules.filter(({ rule }) => !isEmptyRule(rule));
      // Denied everything, on purpose; or not isolated.
      if (first === undefined) continue;
      // One that serves names may well not ask for any.
      const asking = (group.pods.length > 0 ? group.pods : group.templates).filter((pod) => !isDnsServer(pod));
      if (asking.length === 0) continue;
      const key = policies.map(({ namespace, name }) => `${namespace}/${name}`).join();
      if (!judged.has(key)) judged.set(key, judge(rules, asked, cluster));
      const code = judged.get(key);
      if (code === undefined) continue;
      const byPolicy = found.get(code) ?? new Map<Policy, Unnamed>();
      found.set(code, byPolicy);
      const entry = byPolicy.get(first.policy) ?? { pods: [], others: new Set<Policy>() };
      byPolicy.set(first.policy, entry);
      for (const { name } of asking) entry.pods.push(name);
      for (const policy of policies) if (policy !== first.policy) entry.others.add(policy);
    }
    for (const [code, byPolicy] of found) {
      for (const [policy, { pods, others }] of byPolicy) {
        const together = others.size === 0 ? '' : `, together with ${someOf([...others].map(({ name }) => name))}`;
        const message = `${someOf(pods)}, which it isolates for egress${together}, ${EFFECTS[code]}`;
        const related = [...others]
          .slice(0, 5)
          .map((other) => ({ object: policyObject(other), path: 'spec.egress', message: 'isolates them as well' }));
        yield finding(code, policy, 'spec.egress', message, REMEDY, related);
      }
    }
  },
};

/** Those that a policy leaves without names. */
interface Unnamed {
  readonly pods: string[];
  /** The other policies that isolate them. */
  readonly others: Set<Policy>;
}

type DnsCode = 'DNS_FORGOTTEN' | 'DNS_TCP_ONLY' | 'DNS_UDP_ONLY';

const EFFECTS: Readonly<Record<DnsCode, string>> = {
  DNS_FORGOTTEN: 'cannot ask for names: nothing admits port 53 of the cluster’s DNS, and connections by name will fail',
  DNS_TCP_ONLY: 'may ask for names by TCP only, and resolvers ask by UDP first: a port without a protocol is TCP',
  DNS_UDP_ONLY: 'may ask for names by UDP only: answers that do not fit into a packet are asked for again by TCP, and are lost',
};

const REMEDY =
  'add an egress rule to the pods of k8s-app=kube-dns in namespace kube-system, on ports 53/UDP and 53/TCP; sluice lint --explain DNS_FORGOTTEN shows one';

/** Groups that policy applies to, of all namespaces. */
function subjectsOf({ groups }: LintCluster): Iterable<PodGroup> {
  return [...groups.namespaces.keys()].flatMap((namespace) => groups.ofNamespace(namespace).filter(isSubject));
}

/** CoreDNS as kubeadm, k3s and the Helm chart label it; OpenShift's; and whatever serves port 53 in kube-system. */
function isDnsServer({ namespace, labels, declaredPorts }: Pod): boolean {
  return (
    labels.get('k8s-app') === 'kube-dns' ||
    labels.get('app.kubernetes.io/name') === 'coredns' ||
    labels.has('dns.operator.openshift.io/daemonset-dns') ||
    (namespace === 'kube-system' && declaredPorts.some(({ protocol, port }) => protocol === 'UDP' && port === 53))
  );
}

interface EgressRule {
  readonly policy: Policy;
  readonly rule: Rule;
}

function judge(rules: readonly EgressRule[], servers: readonly Pod[], cluster: LintCluster): DnsCode | undefined {
  if (rules.every(({ rule }) => isOfSingleAddresses(rule))) return undefined;
  const may = (protocol: PolicyProtocol): boolean =>
    rules.some(
      ({ policy, rule }) =>
        servers.some((server) => admitsServer(rule, policy, protocol, server, cluster)) ||
        admitsElsewhere(rule, policy, protocol, servers.length > 0, cluster),
    );
  const [udp, tcp] = [may('UDP'), may('TCP')];
  if (udp && tcp) return undefined;
  if (udp) return 'DNS_UDP_ONLY';
  return tcp ? 'DNS_TCP_ONLY' : 'DNS_FORGOTTEN';
}

const DNS_PORT = 53;

/** 53, unless the pod names another number. */
function portOf({ ports }: Pod, wanted: PolicyProtocol): number {
  const named = ports.find(({ name, protocol }) => protocol === wanted && (name === 'dns' || name === 'dns-tcp'));
  return named?.port ?? DNS_PORT;
}

function admitsServer({ ports, peers }: Rule, policy: Policy, protocol: PolicyProtocol, server: Pod, { world }: LintCluster): boolean {
  if (ports?.some((match) => portMatches(match, protocol, portOf(server, protocol), server)) === false) return false;
  if (peers === undefined) return true;
  return peers.some((peer) => {
    if (peer.kind === 'pods') return peerSelects(world, policy, peer, server);
    // One that has no address yet may get one of these.
    if (server.addresses.length === 0) return peer.kind === 'block' && !isEmptyPeer(peer) && !isOneAddress(peer);
    return server.addresses.some((address) => peerMatchesAs(world, policy, peer, address, server));
  });
}

/**
 * Whether a rule admits port 53 of something else that may well serve names: a resolver outside of the cluster, or, where no DNS server
 * is known, one that is not seen.
 */
function admitsElsewhere(rule: Rule, policy: Policy, protocol: PolicyProtocol, known: boolean, { world, addresses }: LintCluster): boolean {
  const { ports, peers } = rule;
  const isNamed =
    ports?.some((match) =>
      match.kind === 'name'
        ? !known && match.protocol === protocol && /dns|domain/u.test(match.name)
        : isFewPorts(match) && portMatches(match, protocol, DNS_PORT, undefined),
    ) ?? false;
  const isAdmitted = isNamed || ports === undefined || ports.some((match) => portMatches(match, protocol, DNS_PORT, undefined));
  if (!isAdmitted || isEmptyRule(rule)) return false;
  if (peers === undefined) return !known;
  return peers.some((peer) => {
    if (isEmptyPeer(peer) || peer.kind === 'nothing') return false;
    // A Service's address is not what policy is asked about (row 22).
    if (peer.kind === 'block') return known ? isNamed && (addresses.servicesIn(peer.ranges).count === 0 || !isOneAddress(peer)) : true;
    if (known) return false;
    if (isNamed) return true;
    if (peer.namespaces === undefined) return policy.namespace === 'kube-system';
    return !isClosedSelector(peer.namespaces) || matches(peer.namespaces, world.namespaceLabels('kube-system'));
  });
}

/** A range that somebody wrote with port 53 in mind. */
function isFewPorts({ first, last }: { readonly first: number; readonly last: number }): boolean {
  return last - first < 100;
}

type Block = Extract<NonNullable<Rule['peers']>[number], { kind: 'block' }>;

function isOneAddress({ ranges: [only, ...more] }: Block): boolean {
  return only !== undefined && more.length === 0 && only.first === only.last;
}

/** Whoever writes nothing but single addresses may not need names. */
function isOfSingleAddresses({ peers }: Rule): boolean {
  return peers?.every((peer) => peer.kind === 'nothing' || (peer.kind === 'block' && isOneAddress(peer))) ?? false;
}
