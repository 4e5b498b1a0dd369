/**
 * Counters of rules, added up by what they are about. A rule's own counter ends with it, and begins at zero when it is made anew; what
 * Prometheus is told must never fall. So each look adds what has been counted since the one before.
 */

/** A rule's name, what it is about, and what its counter says. */
export interface RuleTotal {
  readonly rule: string;
  readonly about: string;
  readonly packets: number;
}

export class AccumulatedCounts {
  /** By rule: what its counter said last. */
  #last = new Map<string, number>();
  readonly #sums = new Map<string, number>();

  /**
   * Takes in what all rules say now. What a rule counted between the last look and its end is not known.
   *
   * @param counts of rules that share a name, the counters are one
   */
  look(counts: Iterable<RuleTotal>): void {
    const now = new Map<string, number>();
    const abouts = new Map<string, string>();
    for (const { rule, about, packets } of counts) {
      now.set(rule, (now.get(rule) ?? 0) + packets);
      abouts.set(rule, about);
    }
    for (const [rule, packets] of now) {
      const before = this.#last.get(rule) ?? 0;
      const more = packets >= before ? packets - before : packets;
      const about = abouts.get(rule) ?? '';
      this.#sums.set(about, (this.#sums.get(about) ?? 0) + more);
    }
    this.#last = now;
  }

  /** By what they are about. */
  get sums(): ReadonlyMap<string, number> {
    return this.#sums;
  }
}
