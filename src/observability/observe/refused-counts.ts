/**
 * How many refused packets were not shown, exactly: the rules that refuse count every packet, logged or not, so what they have counted
 * less what was described is what nobody saw. Counters are looked at now and then; what was described between a look at the counters
 * and the moment that its packets have arrived is waited for, so that nothing is called missed that is only late.
 */
import type { Direction } from '../../policy/objects.ts';

/** What the counter of a pod's refusing rule says. */
export interface RefusedCount {
  /** Name of the chain; it may end, and come again with a counter that begins at zero. */
  readonly chain: string;
  readonly direction: Direction;
  /** `namespace/name` */
  readonly pod: string;
  readonly packets: number;
  /** Whether the rule lets them through: the one in its place that does not counts for itself. */
  readonly audited: boolean;
}

interface Tally {
  readonly direction: Direction;
  readonly pod: string;
  /** What the counter said last, and of which rule. */
  counter: number;
  audited: boolean;
  /** Counted, less described, since the first look. */
  missed: number;
  described: number;
}

/** Packets that one pod refused in one direction, and that nobody saw. */
export interface Missed {
  readonly direction: Direction;
  readonly pod: string;
  readonly count: number;
}

export class RefusedCounts {
  readonly #tallies = new Map<string, Tally>();
  /** When the first look was; undefined before it. */
  #beganAt: number | undefined;

  /**
   * Takes in what all counters say. Their sum at the first look is where it begins.
   *
   * @param now ms since the epoch
   */
  look(counts: Iterable<RefusedCount>, now: number): void {
    const seen = new Set<Tally>();
    for (const { direction, pod, packets, audited } of counts) {
      const tally = this.#tally(direction, pod);
      if (this.#beganAt === undefined) tally.counter = packets;
      // Less than before: another rule, which began at zero.
      else if (audited !== tally.audited || packets < tally.counter) tally.missed += packets;
      else tally.missed += packets - tally.counter;
      tally.counter = packets;
      tally.audited = audited;
      seen.add(tally);
    }
    for (const [key, tally] of this.#tallies) {
      if (seen.has(tally)) continue;
      tally.counter = 0;
      if (tally.missed <= tally.described) this.#tallies.delete(key);
    }
    this.#beganAt ??= now;
  }

  /** A packet that came at this time (ms since the epoch) was described: one from before the first look is not in question. */
  described(direction: Direction, pod: string, at: number): void {
    if (this.#beganAt !== undefined && at >= this.#beganAt) this.#tally(direction, pod).described++;
  }

  /** What was missed up to the last look and has not been told yet. To be asked once the packets of that time have arrived. */
  *takeMissed(): Generator<Missed> {
    for (const tally of this.#tallies.values()) {
      const { direction, pod, missed, described } = tally;
      const count = missed - described;
      // Fewer than none: what was described after the look is counted at the next one.
      if (count <= 0) continue;
      tally.missed = tally.described;
      yield { direction, pod, count };
    }
  }

  #tally(direction: Direction, pod: string): Tally {
    const key = `${direction} ${pod}`;
    let tally = this.#tallies.get(key);
    if (tally === undefined) {
      tally = { direction, pod, counter: 0, audited: false, missed: 0, described: 0 };
      this.#tallies.set(key, tally);
    }
    return tally;
  }
}
