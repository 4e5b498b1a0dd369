/**
 * How many elements the sets of one namespace's policies may have on a node together. A selector of forty bytes may match every pod of the cluster, and a
 * thousand of them would match each of them a thousand times: in the memory of the agent, and of the kernel, which counts it against the agent.
 */
import type { ObjectName } from './objects.ts';

/** About 50 MB in the agent, and as much in the kernel. */
export const NAMESPACE_ELEMENTS = 500_000;

/** What a set counts beside its elements: the kernel finds a set by walking through all of a table, with each rule that names one. */
export const SET_ELEMENTS = 100;

/** A policy, and how many elements each of its sets has. Sets of one name are one. */
export interface PolicyElements {
  readonly key: string;
  readonly sets: ReadonlyMap<ObjectName, number>;
}

/**
 * Which policies have to be closed for the rest to be within the limit: the costliest, as many as it takes; of two as costly the last by name.
 *
 * @returns with what each of them has
 */
export function beyondElements(policies: Iterable<PolicyElements>, limit: number): ReadonlyMap<string, number> {
  const users = new Map<ObjectName, number>();
  const costs: { readonly key: string; readonly sets: ReadonlyMap<ObjectName, number>; readonly cost: number }[] = [];
  let total = 0;
  for (const { key, sets } of policies) {
    let cost = 0;
    for (const [name, size] of sets) {
      const known = users.get(name) ?? 0;
      users.set(name, known + 1);
      if (known === 0) total += SET_ELEMENTS + size;
      cost += SET_ELEMENTS + size;
    }
    costs.push({ key, sets, cost });
  }
  const closed = new Map<string, number>();
  if (total <= limit) return closed;
  costs.sort((a, b) => b.cost - a.cost || (a.key < b.key ? 1 : -1));
  for (const { key, sets, cost } of costs) {
    if (total <= limit) break;
    closed.set(key, cost);
    for (const [name, size] of sets) {
      const left = (users.get(name) ?? 1) - 1;
      users.set(name, left);
      if (left === 0) total -= SET_ELEMENTS + size;
    }
  }
  return closed;
}

/** Why a policy is closed. */
export function elementsReason(namespace: string, elements: number, limit: number): string {
  return `on this node the policies of namespace ${namespace} have more than ${limit} addresses of pods and blocks in their sets together, of which each set counts ${SET_ELEMENTS}; this one has ${elements}, more than others`;
}
