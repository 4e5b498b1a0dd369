/**
 * Distinct label sets, each held once. Pods of one workload share theirs, so a selector is matched against label sets, not pods;
 * and the postings (which label sets have this pair, or this key) lead from a selector to its pods without looking at the others.
 */
import { hashOfLabels, type Labels, sameLabels } from '../policy/labels.ts';
import type { Selector } from '../policy/selector.ts';
import { Bag } from './bag.ts';
import { type Postings, post, unpost } from './postings.ts';
import type { PodRecord } from './records.ts';

export interface LabelSet {
  /** Small and unique among the sets that are held; for keys of caches. */
  readonly id: number;
  readonly labels: Labels;
  /** Who has it. A set that nobody has is dropped. */
  readonly pods: Bag<PodRecord>;
}

/** The index key of a label. Two labels may share one only where a key holds `=`, which the API refuses; candidates are verified. */
export function pairOf(key: string, value: string): string {
  return `${key}=${value}`;
}

export class LabelSets {
  /** By their hash: the few that share one are told apart by looking. */
  readonly #byHash: Postings<LabelSet, number> = new Map();
  readonly #byPair: Postings<LabelSet> = new Map();
  readonly #byKey: Postings<LabelSet> = new Map();
  #nextId = 1;

  /** Gives `pod` the set of these labels. */
  acquire(labels: Labels, pod: PodRecord): LabelSet {
    const hash = hashOfLabels(labels);
    let set = this.#find(hash, labels);
    if (set === undefined) {
      set = { id: this.#nextId++, labels, pods: new Bag() };
      post(this.#byHash, hash, set);
      for (const [key, value] of labels) {
        post(this.#byPair, pairOf(key, value), set);
        post(this.#byKey, key, set);
      }
    }
    set.pods.add(pod);
    return set;
  }

  release(set: LabelSet, pod: PodRecord): void {
    set.pods.delete(pod);
    if (set.pods.size > 0) return;
    unpost(this.#byHash, hashOfLabels(set.labels), set);
    for (const [key, value] of set.labels) {
      unpost(this.#byPair, pairOf(key, value), set);
      unpost(this.#byKey, key, set);
    }
  }

  #find(hash: number, labels: Labels): LabelSet | undefined {
    for (const set of this.#byHash.get(hash) ?? []) if (sameLabels(set.labels, labels)) return set;
    return undefined;
  }

  /**
   * The label sets that may match, by the requirement that leaves the fewest; undefined where none of them leaves fewer than
   * `limit`. Each still has to be matched. Costs what it returns, and not what the other requirements would leave.
   */
  candidates(selector: Selector, limit: number): readonly LabelSet[] | undefined {
    let fewest: readonly Bag<LabelSet>[] | undefined;
    let count = limit;
    for (const { key, operator, values } of selector.requirements) {
      let found: readonly (Bag<LabelSet> | undefined)[];
      if (operator === 'In') found = values.map((value) => this.#byPair.get(pairOf(key, value)));
      else if (operator === 'Exists') found = [this.#byKey.get(key)];
      else continue;
      const postings = found.filter((bag) => bag !== undefined);
      const size = postings.reduce((sum, bag) => sum + bag.size, 0);
      if (size >= count) continue;
      fewest = postings;
      count = size;
    }
    return fewest?.flatMap((bag) => [...bag]);
  }
}
