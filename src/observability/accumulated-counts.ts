/**
 * Counters of rules, added up by what they are about. A rule's own counter ends with it, and begins at zero when it is made anew; what
 * Prometheus is told must never fall. So each look adds what has been counted since the one before.
 *
 * Namespaces and policies come and go, and their names are somebody else's choice: what no rule is about any more is forgotten after a while. A
 * counter that comes back then begins at zero, which Prometheus takes for a restart.
 */

/** A rule's name, what it is about, and what its counter says. */
export interface RuleTotal {
  readonly rule: string;
  readonly about: string;
  readonly packets: number;
}

/** How long what no rule is about is still told, ms: longer than anybody leaves out a scrape. */
const FORGOTTEN_MS = 900_000;

interface Sum {
  packets: number;
  /** When a rule was last about it. */
  seenAt: number;
}

export class AccumulatedCounts {
  /** By rule: what its counter said last. */
  #last = new Map<string, number>();
  readonly #sums = new Map<string, Sum>();

  /**
   * Takes in what all rules say now. What a rule counted between the last look and its end is not known.
   *
   * @param counts of rules that share a name, the counters are one
   * @param now ms, of any beginning
   */
  look(counts: Iterable<RuleTotal>, now?: number): void {
    const look = this.begin(now);
    for (const total of counts) look.take(total);
    look.end();
  }

  /** The same for whoever reads the counters little by little. One look at a time. */
  begin(now: number = performance.now()): { take(total: RuleTotal): void; end(): void } {
    const latest = new Map<string, number>();
    const since = (packets: number, before: number): number => (packets >= before ? packets - before : packets);
    return {
      take: ({ rule, about, packets }) => {
        const before = this.#last.get(rule) ?? 0;
        const known = latest.get(rule);
        const counted = (known ?? 0) + packets;
        latest.set(rule, counted);
        const more = since(counted, before) - (known === undefined ? 0 : since(known, before));
        const sum = this.#sums.get(about);
        if (sum === undefined) this.#sums.set(about, { packets: more, seenAt: now });
        else {
          sum.packets += more;
          sum.seenAt = now;
        }
      },
      end: () => {
        this.#last = latest;
        for (const [about, { seenAt }] of this.#sums) if (now - seenAt > FORGOTTEN_MS) this.#sums.delete(about);
      },
    };
  }

  /** By what they are about. */
  *sums(): Generator<readonly [about: string, packets: number]> {
    for (const [about, { packets }] of this.#sums) yield [about, packets];
  }
}
