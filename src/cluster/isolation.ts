/** The policies that select pods of one namespace and one set of labels, kept up to date one by one. */
import { type Budgets, withinPodBudget } from '../policy/budget.ts';
import type { Direction, Policy } from '../policy/objects.ts';

export class Isolation {
  readonly #budget: Budgets['pod'];
  readonly #selecting: Policy[];
  #carried: { ingress: readonly Policy[] | undefined; egress: readonly Policy[] | undefined } = { ingress: undefined, egress: undefined };

  /** @param selecting in no order */
  constructor(selecting: readonly Policy[], budget: Budgets['pod']) {
    this.#budget = budget;
    this.#selecting = selecting.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Ordered by name. */
  get selecting(): readonly Policy[] {
    return this.#selecting;
  }

  /** Those of them that isolate in a direction, and that the pod's budget has room for. The same list until one of `selecting` changes. */
  carried(direction: Direction): readonly Policy[] {
    return (this.#carried[direction] ??= withinPodBudget(this.#isolating(direction), direction, this.#budget));
  }

  /** The others that isolate in a direction. */
  leftOut(direction: Direction): readonly Policy[] {
    const carried = this.carried(direction).length;
    return this.#selecting.length === carried ? [] : this.#isolating(direction).slice(carried);
  }

  add(policy: Policy): void {
    this.#changed();
    this.#selecting.splice(this.#indexOf(policy.name), 0, policy);
  }

  remove(policy: Policy): void {
    this.#changed();
    const index = this.#indexOf(policy.name);
    if (this.#selecting[index]?.name === policy.name) this.#selecting.splice(index, 1);
  }

  #isolating(direction: Direction): readonly Policy[] {
    return this.#selecting.filter((policy) => policy[direction] !== undefined);
  }

  #changed(): void {
    this.#carried = { ingress: undefined, egress: undefined };
  }

  /** Where the name stands, or would. */
  #indexOf(name: string): number {
    let [low, high] = [0, this.#selecting.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#selecting[middle]?.name ?? '') < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
