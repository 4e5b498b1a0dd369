/**
 * Which policies of one namespace its budget has room for: the lightest, as many as there is room for; of two as heavy the first by name. The
 * others are closed. So who writes one policy that is too large closes that one, and none of those that were there.
 */
import { closed, NAMESPACE_BUDGET, weightOf } from './budget.ts';
import type { Policy } from './objects.ts';

interface Weighed {
  readonly name: string;
  readonly weight: number;
}

export class NamespaceBudget {
  readonly #limit: number;
  readonly #weights = new Map<string, number>();
  /** Ordered only since the namespace has been beyond its budget for the first time: most never are. */
  #ordered: Weighed[] | undefined;
  #total = 0;
  /** So many of `#ordered` are within the budget. */
  #within = 0;

  /** @param limit as of {@link NAMESPACE_BUDGET}.entries */
  constructor(limit: number = NAMESPACE_BUDGET.entries) {
    this.#limit = limit;
  }

  /** What all policies weigh together. */
  get total(): number {
    return this.#total;
  }

  /** Zero: it is not there. */
  weightOf(name: string): number {
    return this.#weights.get(name) ?? 0;
  }

  isClosed(name: string): boolean {
    const weight = this.#weights.get(name);
    if (weight === undefined || this.#ordered === undefined) return false;
    return indexOf(this.#ordered, { name, weight }) >= this.#within;
  }

  /**
   * A policy weighs this now; undefined: it is gone. Costs what the number of policies is, where there are too many, and next to nothing where not.
   *
   * @returns other policies that are closed from now on, or no more
   */
  set(name: string, weight: number | undefined): readonly string[] {
    const before = this.#weights.get(name);
    if (before === weight) return [];
    this.#total += (weight ?? 0) - (before ?? 0);
    if (weight === undefined) this.#weights.delete(name);
    else this.#weights.set(name, weight);
    if (this.#ordered === undefined && this.#total <= this.#limit) return [];
    // The place of the first that is closed, in the order as it was without this policy.
    const had = this.#ordered === undefined ? undefined : this.#ordered[this.#within];
    this.#place(name, before, weight);
    const ordered = this.#ordered ?? [];
    const first = had === undefined ? ordered.length : indexOf(ordered, had);
    this.#within = this.#countWithin(ordered);
    const changed = ordered.slice(Math.min(first, this.#within), Math.max(first, this.#within)).map((each) => each.name);
    if (this.#within === ordered.length) this.#ordered = undefined;
    return changed.filter((other) => other !== name);
  }

  #place(name: string, before: number | undefined, weight: number | undefined): void {
    if (this.#ordered === undefined) {
      this.#ordered = [...this.#weights].map(([each, of]) => ({ name: each, weight: of })).sort(compare);
      return;
    }
    if (before !== undefined) this.#ordered.splice(indexOf(this.#ordered, { name, weight: before }), 1);
    if (weight !== undefined) this.#ordered.splice(indexOf(this.#ordered, { name, weight }), 0, { name, weight });
  }

  #countWithin(ordered: readonly Weighed[]): number {
    let sum = 0;
    // No iterator: it is walked with each change of a namespace that is beyond its budget.
    for (let index = 0; index < ordered.length; index++) {
      sum += ordered[index]?.weight ?? 0;
      if (sum > this.#limit) return index;
    }
    return ordered.length;
  }
}

function compare(a: Weighed, b: Weighed): number {
  return a.weight - b.weight || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/** Where it stands, or would. */
function indexOf(ordered: readonly Weighed[], weighed: Weighed): number {
  let [low, high] = [0, ordered.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const at = ordered[middle];
    if (at !== undefined && compare(at, weighed) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What becomes of a policy that the budget of its namespace has no room for. */
export function closedByNamespace(policy: Policy, weight: number): Policy {
  return closed(policy, { code: 'NAMESPACE_TOO_LARGE', reason: namespaceReason(policy.namespace, weight) });
}

/** Why. It does not say how much there is in all: it would be news with every change. */
export function namespaceReason(namespace: string, weight: number): string {
  const limit = NAMESPACE_BUDGET.entries;
  return `the policies of namespace ${namespace} have more than the ${limit} entries that are carried (peers, exceptions, ports, selectors and their values); this one has ${weight}, and is among those that there is no room for`;
}

/** The policies as their namespaces' budgets leave them, in their order. Each is there once. */
export function withinNamespaceBudgets(policies: readonly Policy[], limit: number = NAMESPACE_BUDGET.entries): readonly Policy[] {
  const budgets = new Map<string, NamespaceBudget>();
  const weights = new Map<Policy, number>();
  let isBeyond = false;
  for (const policy of policies) {
    const weight = weightOf(policy);
    weights.set(policy, weight);
    let budget = budgets.get(policy.namespace);
    if (budget === undefined) budgets.set(policy.namespace, (budget = new NamespaceBudget(limit)));
    budget.set(policy.name, weight);
    isBeyond ||= budget.total > limit;
  }
  if (!isBeyond) return policies;
  return policies.map((policy) =>
    budgets.get(policy.namespace)?.isClosed(policy.name) === true ? closedByNamespace(policy, weights.get(policy) ?? 0) : policy,
  );
}
