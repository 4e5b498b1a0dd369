/**
 * Finds the policies that make the kernel refuse a transaction, so that the rest comes into force without them.
 *
 * A transaction is all or nothing: one policy that the kernel cannot take would keep everybody's changes out, for as long as it is there. So
 * when transactions fail twice in a row, the policies that were compiled since the last success are closed (they isolate, and admit nothing),
 * the costliest first, one, two, four, … at a time, until the kernel takes the rest. Then those that were closed are opened again, halving what
 * is refused, until only those are closed that it does not take. Both need a number of transactions that grows with the logarithm of the
 * number of policies, and with the number of those that are refused; after {@link TRIALS} what is closed stays closed.
 */
import { systemErrorCode } from '../errors.ts';
import type { NodeRuleset } from '../ruleset/node-ruleset.ts';

/** Transactions to find out which of the closed ones are refused. */
const TRIALS = 64;
/** What the kernel refused may have been for want of memory: then it is tried again, with some later change. */
const OPEN_AGAIN_MS = 300_000;
/** Failures that have nothing to do with what is written. */
const OF_THE_TABLE: ReadonlySet<string> = new Set([
  'TABLE_OWNED',
  'NOT_PERMITTED',
  'EPERM',
  'EACCES',
  'ENOBUFS',
  'EAGAIN',
  'EINTR',
  'EBUSY',
]);

export class RefusedPolicies {
  readonly #ruleset: NodeRuleset;
  readonly #now: () => number;
  /** Compiled since the kernel has last taken everything, and not closed. */
  readonly #suspects = new Set<string>();
  #failures = 0;
  /** Groups of closed policies that have not been tried yet. */
  #untried: (readonly string[])[] = [];
  /** The group that was opened for the transaction that is under way. */
  #trial: readonly string[] | undefined;
  #trials = 0;
  /** When each policy was closed for good. */
  readonly #closedAt = new Map<string, number>();

  /** @param now ms, of any beginning */
  constructor(ruleset: NodeRuleset, now: () => number = () => performance.now()) {
    this.#ruleset = ruleset;
    this.#now = now;
  }

  /** These have been compiled anew: where a transaction fails, it may be for one of them. */
  compiled(policies: Iterable<string>): void {
    for (const key of policies) if (!this.#ruleset.closed.has(key)) this.#suspects.add(key);
  }

  /** A transaction failed. Whether something else is desired now; the next one has to compare everything. */
  failed(error: unknown): boolean {
    const code = systemErrorCode(error);
    if (code !== undefined && OF_THE_TABLE.has(code)) return false;
    if (this.#trial !== undefined) {
      const refused = this.#trial;
      this.#trial = undefined;
      this.#close(refused);
      if (refused.length > 1 && this.#trials < TRIALS) {
        const half = Math.ceil(refused.length / 2);
        this.#untried.push(refused.slice(0, half), refused.slice(half));
      } else for (const key of refused) this.#closedAt.set(key, this.#now());
      return true;
    }
    this.#failures++;
    if (this.#failures < 2) return false;
    const count = 2 ** (this.#failures - 2);
    const costliest = [...this.#suspects]
      .map((key) => ({ key, cost: this.#ruleset.costOf(key) }))
      .sort((a, b) => b.cost - a.cost || (a.key < b.key ? -1 : 1))
      .slice(0, count)
      .map(({ key }) => key);
    if (costliest.length === 0) return false;
    for (const key of costliest) this.#suspects.delete(key);
    this.#close(costliest);
    this.#untried.push(costliest);
    return true;
  }

  /** A transaction was taken. Whether something is desired now that another one has to bring into force. */
  succeeded(): boolean {
    this.#suspects.clear();
    this.#failures = 0;
    this.#trial = undefined;
    for (const key of this.#closedAt.keys()) if (!this.#ruleset.closed.has(key)) this.#closedAt.delete(key);
    // The only one that was closed is the one.
    const [first, ...others] = this.#untried;
    const [only, ...more] = first ?? [];
    if (this.#trials === 0 && only !== undefined && others.length + more.length === 0) {
      this.#untried = [];
      this.#closedAt.set(only, this.#now());
    }
    this.#openLater();
    const next = this.#untried.shift();
    if (next === undefined) {
      this.#trials = 0;
      return false;
    }
    this.#trials++;
    this.#trial = next.filter((key) => this.#ruleset.closed.has(key));
    this.#ruleset.setClosed(this.#trial, undefined);
    return true;
  }

  #openLater(): void {
    const old = [...this.#closedAt].filter(([, at]) => this.#now() - at > OPEN_AGAIN_MS).map(([key]) => key);
    if (old.length === 0) return;
    for (const key of old) this.#closedAt.delete(key);
    this.#untried.push(old);
    this.#trials++;
  }

  #close(policies: readonly string[]): void {
    this.#ruleset.setClosed(policies, 'the kernel does not take its rules');
  }
}
