/** Blocks of addresses that cover what has better names than addresses: pods and Services; and blocks of one family only. */
import type { Direction, Peer, Policy, Rule } from '../objects.ts';
import { familyOf } from '../address.ts';
import { rangesCover } from './implication.ts';
import { count, DIRECTIONS, finding, type Finding, peerPath, rulePath, sideOf, someOf } from './finding.ts';
import type { Check, LintCluster } from './input.ts';

type Block = Extract<Peer, { kind: 'block' }>;

export const blocks: Check = {
  codes: ['CIDR_IS_OF_PODS', 'CIDR_COVERS_PODS', 'ANYWHERE_COVERS_PODS', 'CIDR_IS_OF_SERVICES', 'ANYWHERE_IN_ONE_FAMILY'],
  *run(cluster): Iterable<Finding> {
    for (const policy of cluster.policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          for (const peer of rule.peers ?? []) {
            if (peer.kind === 'block' && peer.ranges.length > 0) yield* judge(policy, direction, rule, peer, cluster);
          }
        }
        yield* families(policy, direction, cluster);
      }
    }
  },
};

function* judge(policy: Policy, direction: Direction, rule: Rule, block: Block, cluster: LintCluster): Iterable<Finding> {
  const path = `${peerPath(direction, rule, block)}.ipBlock.cidr`;
  const { addresses } = cluster;
  const pods = addresses.podsIn(block.ranges);
  const isOfPods = addresses.isWithinPodNetworks(block.ranges) && !isEveryPodNetwork(block, cluster);
  if (isOfPods || (pods.count > 0 && isOneAddress(block))) {
    const now = pods.count === 0 ? 'no pod has one of them now' : `now of ${names(pods.some)}`;
    const message = `${block.text} is of addresses that pods are given (${now}); pods come and go, and their addresses are given to others`;
    yield finding('CIDR_IS_OF_PODS', policy, path, message, SELECT_PODS);
    return;
  }
  if (pods.count > 0) {
    if (admitsEveryPod(rule)) return;
    const which = `${count(pods.count, 'pod')} (${names(pods.some)}${pods.count > pods.some.length ? ', …' : ''})`;
    if (isAnywhere(block)) {
      const message = `${block.text} is also every pod of the cluster that it does not leave out: ${which}`;
      const remedy = 'if only what is outside of the cluster is meant, take the networks of pods out with except';
      yield finding('ANYWHERE_COVERS_PODS', policy, path, message, remedy);
    } else {
      const message = `${block.text} covers ${which}; ${direction === 'ingress' ? 'they are admitted' : 'they can be reached'} whatever their labels`;
      yield finding(
        'CIDR_COVERS_PODS',
        policy,
        path,
        message,
        `take the networks of pods out with except; if pods are meant, ${SELECT_PODS}`,
      );
    }
    return;
  }
  const services = addresses.servicesIn(block.ranges);
  // Where nodes are covered, what is behind the Service may be on them.
  if (services.count === 0 || isWide(block) || addresses.nodesIn(block.ranges).count > 0 || addresses.touchesPodNetworks(block.ranges))
    return;
  const which = someOf(services.some.map(({ namespace, name }) => `${namespace}/${name}`));
  const message = `${block.text} is of addresses of Services (${which}): they are translated before policy is asked, which sees the address of the pod or host behind them`;
  yield finding(
    'CIDR_IS_OF_SERVICES',
    policy,
    path,
    message,
    'select the pods behind the Service, or write the addresses of the hosts behind it',
  );
}

const SELECT_PODS = 'select the pods by their labels (podSelector, namespaceSelector)';

function names(pods: readonly { readonly namespace: string; readonly name: string }[]): string {
  return pods.map(({ namespace, name }) => `${namespace}/${name}`).join(', ');
}

/** Wider than the networks that Services have their addresses from (a /12 of IPv4 or a /108 of IPv6 by default): others are meant. */
function isWide({ family, text }: Block): boolean {
  const length = Number(/\/(\d+)/u.exec(text)?.[1] ?? 0);
  return length < (family === 4 ? 12 : 108);
}

/** `0.0.0.0/0` or `::/0`, less what is excepted. */
function isAnywhere({ text }: Block): boolean {
  return /^(?:0\.0\.0\.0|::)\/0(?: |$)/u.test(text);
}

/** The network of all pods: of nobody in particular. */
function isEveryPodNetwork({ ranges, family }: Block, { addresses }: LintCluster): boolean {
  return rangesCover(
    ranges,
    addresses.podNetworks.filter(({ first }) => familyOf(first) === family),
  );
}

/** Whether the rule admits every pod anyway. */
function admitsEveryPod({ peers = [] }: Rule): boolean {
  return peers.some((peer) => peer.kind === 'pods' && peer.namespaces?.requirements.length === 0 && peer.pods.requirements.length === 0);
}

function isOneAddress({ ranges: [only, ...more] }: Block): boolean {
  return only !== undefined && more.length === 0 && only.first === only.last;
}

/** Row 36. */
function* families(policy: Policy, direction: Direction, { addresses }: LintCluster): Iterable<Finding> {
  if (addresses.podFamilies.size < 2) return;
  const rules = policy[direction] ?? [];
  for (const rule of rules) {
    const anywhere = (rule.peers ?? []).find((peer): peer is Block => peer.kind === 'block' && isAnywhere(peer));
    if (anywhere === undefined) continue;
    // Where the policy says anything of the other family, its author has thought of it.
    const other = rules.some(
      ({ peers }) => peers === undefined || peers.some((peer) => peer.kind === 'block' && peer.family !== anywhere.family),
    );
    if (other) continue;
    const missing = anywhere.family === 4 ? 'IPv6' : 'IPv4';
    const message = `${anywhere.text} is no address of ${missing}, and pods have addresses of both families: nothing is admitted by ${missing}`;
    const remedy = `add {ipBlock: {cidr: ${anywhere.family === 4 ? '"::/0"' : '0.0.0.0/0'}}} to ${rulePath(direction, rule)}.${sideOf(direction)}, or write no peers at all`;
    yield finding('ANYWHERE_IN_ONE_FAMILY', policy, `${peerPath(direction, rule, anywhere)}.ipBlock.cidr`, message, remedy);
  }
}
