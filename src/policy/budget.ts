/**
 * How much policy one namespace may ask of every node. Whatever the API takes arrives here, 1.5 MB an object and as many objects as there is room
 * for, and others would pay for it: with time in which their changes wait, with memory of agent and kernel, and with time for every packet.
 *
 * What is beyond a budget admits nothing, and what it isolates stays isolated. Which part that is follows from the objects alone, never from the
 * order in which they arrive, so that it is the same for whoever enforces, explains or lints.
 *
 * Largest policies that are in use have some thousands of blocks (the address lists of clouds), and some dozens of rules.
 */
import type { Direction, Peer, Policy, PortMatch, Rule } from './objects.ts';
import { isFields } from './problems.ts';

/** Of one policy. */
export const POLICY_BUDGET = {
  /** Rules of one direction. */
  rules: 1_000,
  /** Peers, exceptions, ports, and keys and values of selectors, of all rules of one direction. A selector of peers counts {@link SELECTOR_ENTRIES} more. */
  entries: 20_000,
} as const;

/** A selector is compared with every pod there is. */
export const SELECTOR_ENTRIES = 20;

/** Of all policies that isolate one pod in one direction, in order of their names: what every new connection may have to pass. */
export const POD_BUDGET = {
  policies: 1_000,
  /** Rules as the kernel has them, about: a pair of peer and port is one, up to {@link RULES_OF_A_RULE}. */
  rules: 10_000,
} as const;

/** Of all policies of one namespace. */
export const NAMESPACE_BUDGET = {
  /** As of {@link weightOf}. */
  entries: 200_000,
} as const;

/** What is the same for whoever judges; others than these are for tests. */
export interface Budgets {
  readonly pod: { readonly policies: number; readonly rules: number };
  readonly namespace: { readonly entries: number };
}

export const BUDGETS: Budgets = { pod: POD_BUDGET, namespace: NAMESPACE_BUDGET };

/** What one rule of a policy is at most in the kernel, about (see CompileLimits). */
const RULES_OF_A_RULE = 32;
/** What a policy weighs that says nothing. */
const POLICY_ENTRIES = 10;

/** What a rule costs of {@link POLICY_BUDGET}.entries, looked at before anything of it is read. @param peersField `from` or `to` */
export function entriesOfRule(rule: unknown, peersField: string): number {
  if (!isFields(rule)) return 1;
  let count = 1 + lengthOf(rule['ports']);
  const peers = rule[peersField];
  if (!Array.isArray(peers)) return count;
  for (const peer of peers as readonly unknown[]) {
    count++;
    if (!isFields(peer)) continue;
    const { ipBlock, podSelector, namespaceSelector } = peer;
    if (isFields(ipBlock)) count += lengthOf(ipBlock['except']);
    for (const selector of [podSelector, namespaceSelector])
      if (isFields(selector)) count += SELECTOR_ENTRIES + entriesOfSelector(selector);
  }
  return count;
}

/** Keys and values. */
export function entriesOfSelector(selector: unknown): number {
  if (!isFields(selector)) return 0;
  const { matchLabels, matchExpressions } = selector;
  let count = isFields(matchLabels) ? Object.keys(matchLabels).length : 0;
  if (!Array.isArray(matchExpressions)) return count;
  for (const expression of matchExpressions as readonly unknown[]) count += 1 + (isFields(expression) ? lengthOf(expression['values']) : 0);
  return count;
}

function lengthOf(list: unknown): number {
  return Array.isArray(list) ? list.length : 0;
}

/** What a policy costs of {@link NAMESPACE_BUDGET}: its rules, peers, ranges, ports and selectors, as they have been read. */
export function weightOf(policy: Policy): number {
  let weight = POLICY_ENTRIES;
  for (const rule of [...(policy.ingress ?? []), ...(policy.egress ?? [])]) {
    weight += 1 + (rule.ports?.length ?? 0);
    for (const peer of rule.peers ?? []) weight += weightOfPeer(peer);
  }
  return weight;
}

function weightOfPeer(peer: Peer): number {
  switch (peer.kind) {
    case 'nothing':
      return 1;
    case 'block':
      return Math.max(1, peer.ranges.length);
    case 'pods': {
      let weight = 1;
      for (const selector of [peer.pods, ...(peer.namespaces === undefined ? [] : [peer.namespaces])]) {
        weight += SELECTOR_ENTRIES;
        for (const { values } of selector.requirements) weight += 1 + values.length;
      }
      return weight;
    }
  }
}

/** Rules of the kernel that a policy has in a direction, about. */
export function kernelRulesOf(policy: Policy, direction: Direction): number {
  let count = 0;
  for (const rule of policy[direction] ?? []) count += kernelRulesOfRule(rule);
  return count;
}

/** Rules of the kernel that a rule is, about. */
export function kernelRulesOfRule({ peers, ports }: Rule): number {
  return Math.min(RULES_OF_A_RULE, (peers?.length ?? 1) * (ports === undefined ? 1 : portMatchesOf(ports)));
}

/** Numbers of one protocol are one match together, however many; names are one each. */
function portMatchesOf(ports: readonly PortMatch[]): number {
  const numbered = new Set<string>();
  let names = 0;
  for (const port of ports) {
    if (port.kind === 'name') names++;
    else numbered.add(port.protocol);
  }
  return names + numbered.size;
}

/**
 * The policies that are asked about a pod: of those that isolate it in a direction, as many as its budget has room for. The others isolate it, as
 * these do, and admit nothing.
 *
 * @param policies ordered by name
 */
export function withinPodBudget(
  policies: readonly Policy[],
  direction: Direction,
  budget: Budgets['pod'] = BUDGETS.pod,
): readonly Policy[] {
  let rules = 0;
  for (const [index, policy] of policies.entries()) {
    rules += kernelRulesOf(policy, direction);
    if (index < budget.policies && rules <= budget.rules) continue;
    // Never none: whoever is asked about nobody's policies takes the pod for open. One policy alone is not beyond (see meaning.ts).
    return policies.slice(0, Math.max(1, index));
  }
  return policies;
}

/** What is said of policies that {@link withinPodBudget} leaves out. */
export function podReason(leftOut: number): string {
  const { policies, rules } = POD_BUDGET;
  return `${leftOut} more ${leftOut === 1 ? 'policy isolates' : 'policies isolate'} the pod and ${leftOut === 1 ? 'admits' : 'admit'} nothing: a pod has room for ${policies} policies, in order of their names, and ${rules} rules in a direction`;
}

/** What the first of them is told. It does not say how many there are: it would be news with every policy. */
export function firstLeftOutReason(pod: string, direction: Direction): string {
  const { policies, rules } = POD_BUDGET;
  return `pod ${pod} has room for ${policies} policies, in order of their names, and ${rules} rules for ${direction}; this policy and those after it isolate the pod, and admit nothing to it`;
}

/** A policy that isolates whom it selects and admits nothing, for a reason that is said of it. */
export function closed(policy: Policy, { code, reason }: { readonly code: string; readonly reason: string }): Policy {
  const fault = {
    path: 'spec',
    code,
    message: `${reason}; it isolates the pods that it selects, and admits nothing`,
  };
  return {
    namespace: policy.namespace,
    name: policy.name,
    subject: policy.subject,
    ingress: policy.ingress && [],
    egress: policy.egress && [],
    problems: [fault, ...policy.problems],
  };
}
