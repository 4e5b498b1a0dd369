/** What a backend does: bring the kernel to the desired state, by differences where its own knowledge suffices, by comparison where not. */
import type { Ruleset, RulesetChanges } from '../ruleset/objects.ts';

export interface CommitReport {
  /** Objects, rules and elements that the transaction wrote or removed; 0: nothing had to be done, and no transaction was made. */
  readonly operations: number;
  /** From the call to the kernel's answer, ms. */
  readonly durationMs: number;
}

export interface Enforcement {
  /**
   * Compares the kernel with `ruleset` and commits the difference in one transaction. What is equal keeps its handles and counters.
   * For the start, after a failure, and when somebody else changed something.
   */
  synchronize(ruleset: Ruleset): Promise<CommitReport>;
  /**
   * Commits changes to what {@link synchronize} or the last `commit` left, in one transaction.
   * Any error leaves the kernel as it was; `synchronize` has to follow.
   */
  commit(changes: RulesetChanges): CommitReport | Promise<CommitReport>;
  /** Releases what it holds; the rules stay in force. */
  close(): void;
}
