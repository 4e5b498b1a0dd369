/**
 * How much one policy may ask of every node. Whatever the API takes arrives here, 1.5 MB an object, and others would pay for it: with time in which
 * their changes wait, and with memory of the kernel. What is beyond the budget admits nothing, from a place in the spec on, so that it does not
 * depend on the order in which objects arrive, and is the same for whoever enforces, explains or lints.
 *
 * Largest policies that are in use have some thousands of blocks (the address lists of clouds), and some dozens of rules.
 */
import { isFields } from './problems.ts';

export const POLICY_BUDGET = {
  /** Rules of one direction. */
  rules: 1_000,
  /** Peers, exceptions, ports, and keys and values of selectors, of all rules of one direction. */
  entries: 20_000,
} as const;

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
    count += entriesOfSelector(podSelector) + entriesOfSelector(namespaceSelector);
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
