/**
 * Drives a node: takes events from a source, keeps the desired rules up to date, and brings the kernel to them.
 *
 * Invariants:
 * - nothing is committed before the source is synced: what the kernel had stays in force until then;
 * - one commit at a time; what arrives meanwhile is taken together into the next, as far as it is not much: then namespaces take turns;
 * - after any failure, and after any change by somebody else, the next commit is a full comparison;
 * - policies that the kernel does not take are found and closed, and keep nobody else's changes out (refused-policies.ts);
 * - live flows are judged anew after every commit that may have changed their verdict, and once more shortly after it, because a
 *   packet may have been on its way past the old rules while the new ones came in.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '../cluster/cluster.ts';
import type { Address } from '../policy/address.ts';
import type { NodeRuleset } from '../ruleset/node-ruleset.ts';
import { isEmpty, type RulesetChanges } from '../ruleset/objects.ts';
import type { RulesetUpdate } from '../ruleset/update.ts';
import type { SourceEvent } from '../sources/source.ts';
import type { FlowSweep, SweepResult } from './conntrack/flow-sweep.ts';
import type { CommitReport, Enforcement } from './enforcement.ts';
import { EventQueue } from './event-queue.ts';
import { RefusedPolicies } from './refused-policies.ts';

/** Retries after a failure: at once would be a busy loop, a minute would leave a node open. */
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 5_000;
/** How long the first commit waits for policies that are being prepared. Then they isolate, and admit nothing, until they are ready. */
const LONGEST_START_MS = 5_000;
/** After a commit, for the packets that were past the old rules when it came. */
const SECOND_SWEEP_MS = 100;
/** Of the time, for sweeps while there is one commit after the other. */
const SWEEP_SHARE = 1 / 4;
/** What they may take beyond that: a few commits in a row are each followed by their sweep at once. */
const SWEEP_BURST_MS = 200;
/** However long the last sweep was, what is forbidden now goes on no longer than this before the next one. */
const LONGEST_PAUSE_MS = 250;

export type CommitCause = 'start' | 'change' | 'drift' | 'retry';

export interface ReconcilerReport extends CommitReport {
  readonly cause: CommitCause;
  /** Events of the source that it takes in. */
  readonly events: number;
  readonly computeMs: number;
  /** From the first of its events to the kernel's answer, ms; undefined where it has none. */
  readonly latencyMs: number | undefined;
}

export interface ReconcilerObserver {
  /** A commit, or a comparison that found nothing to do, has ended. */
  committed(report: ReconcilerReport): void;
  failed(error: unknown, retryMs: number): void;
  swept(result: SweepResult): void;
  /** Flows that should be cut may go on; all flows are judged again after `retryMs`. */
  sweepFailed(error: unknown, retryMs: number): void;
}

export interface ReconcilerOptions {
  readonly cluster: Cluster;
  readonly ruleset: NodeRuleset;
  readonly enforcement: Enforcement;
  readonly sweep: FlowSweep | undefined;
  readonly observer: ReconcilerObserver;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #events = new EventQueue();
  #synced = false;
  /** Undefined while the kernel is known to hold what the ruleset says, up to `#events`. */
  #resync: CommitCause | undefined = 'start';
  /** True from the first event taken to the last commit answered; `#running` is what to wait for meanwhile. */
  #busy = false;
  #running: Promise<void> = Promise.resolve();
  #retryMs = FIRST_RETRY_MS;
  /** The first commit is under way, or was. */
  #hasStarted = false;
  /** When everything had been read. */
  #startedAt: number | undefined;
  readonly #refused: RefusedPolicies;
  readonly #stopping = new AbortController();
  /** For the second sweep: the addresses of every commit since the last one; `all` where any would not do. */
  #sweepAgain: SweepScope | undefined;
  #sweepTimer: NodeJS.Timeout | undefined;
  /** Addresses that wait for their first sweep, because the last one was only just; with them a timer. */
  #sweepDue: SweepScope | undefined;
  #sweepDueTimer: NodeJS.Timeout | undefined;
  /** A look at all flows, while it goes on: no other sweep begins until it ends. */
  #sweeping: Promise<void> | undefined;
  /** Resolved when those that wait have been swept; undefined while none do. */
  #dueOver: PromiseWithResolvers<void> | undefined;
  /** What sweeps may still take, ms, as of the time beside it (performance.now). Negative: they have to wait. */
  #sweepBudgetMs = SWEEP_BURST_MS;
  #sweepBudgetAt = performance.now();
  #sweepRetryMs = SECOND_SWEEP_MS;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#refused = new RefusedPolicies(options.ruleset);
  }

  /** Everything that was handed in is in force. */
  get settled(): boolean {
    return this.#synced && !this.#busy && this.#events.size === 0 && this.#resync === undefined && !this.#options.ruleset.preparing;
  }

  /** Takes in what a source emits. A small change has been committed when this returns, if nothing else was going on. */
  push(events: readonly SourceEvent[]): void {
    this.#events.push(events);
    this.#wake();
  }

  /** Somebody else changed our rules, or may have. */
  drifted(): void {
    this.#resync ??= 'drift';
    this.#wake();
  }

  /** Waits until everything handed in so far is in force, live flows included, or the reconciler has been stopped. */
  async idle(): Promise<void> {
    while (this.#busy) await this.#running;
    await this.#sweeping;
    await this.#dueOver?.promise;
  }

  /** Ends after the commit that is going on. The rules stay in force. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    clearTimeout(this.#sweepTimer);
    clearTimeout(this.#sweepDueTimer);
    await this.#sweeping;
    this.#dueOver?.resolve();
    // A failure may have asked for another.
    clearTimeout(this.#sweepTimer);
  }

  #wake(): void {
    if (this.#busy || this.#stopping.signal.aborted) return;
    this.#running = this.#run();
  }

  /** Up to the first `await` this runs within {@link push}: a small commit needs none. */
  async #run(): Promise<void> {
    this.#busy = true;
    try {
      do {
        const pending = this.#step();
        if (pending !== undefined) await pending;
        // Who has much to do waits for whoever else wants the event loop, and changes of others pass.
        if (this.#events.size > 0 || this.#options.ruleset.preparing) await new Promise(setImmediate);
      } while (!this.#stopping.signal.aborted && this.#hasWork());
    } finally {
      this.#busy = false;
    }
  }

  #hasWork(): boolean {
    return this.#events.size > 0 || (this.#synced && (this.#resync !== undefined || this.#options.ruleset.preparing));
  }

  /** Takes what has arrived, and commits. Undefined: it is done already. */
  #step(): Promise<void> | undefined {
    const { events, firstAt } = this.#events.take();
    if (events.some(({ type }) => type === 'synced')) this.#synced = true;
    const started = performance.now();
    const update = this.#options.ruleset.update(this.#options.cluster.apply(events));
    this.#refused.compiled(update.compiled);
    const computeMs = performance.now() - started;
    if (!this.#synced) return undefined;
    // An agent that starts leaves in force what there was until it has all of what is wanted; but whoever writes large policies is not waited for.
    if (!this.#hasStarted && this.#options.ruleset.preparing) {
      this.#startedAt ??= started;
      if (started - this.#startedAt < LONGEST_START_MS) return undefined;
      this.#options.ruleset.isolatePrepared();
    }
    this.#hasStarted = true;
    const cause = this.#resync ?? 'change';
    if (cause === 'change' && isEmpty(update.changes)) return undefined;
    const done = (report: CommitReport): void => {
      this.#retryMs = FIRST_RETRY_MS;
      if (this.#refused.succeeded()) this.#resync ??= 'retry';
      const latencyMs = firstAt === undefined ? undefined : performance.now() - firstAt;
      this.#sweep(cause === 'change' ? update : undefined);
      this.#options.observer.committed({ ...report, cause, events: events.length, computeMs, latencyMs });
    };
    try {
      const pending = this.#commit(cause, update.changes);
      if (pending instanceof Promise) return pending.then(done).catch((error: unknown) => this.#failed(error));
      done(pending);
      return undefined;
    } catch (error) {
      return this.#failed(error);
    }
  }

  async #failed(error: unknown): Promise<void> {
    this.#resync = 'retry';
    // The same again is tried ever later, something else soon.
    if (this.#refused.failed(error)) this.#retryMs = FIRST_RETRY_MS;
    this.#options.observer.failed(error, this.#retryMs);
    await sleep(this.#retryMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
  }

  #commit(cause: CommitCause, changes: RulesetChanges): CommitReport | Promise<CommitReport> {
    const { enforcement, ruleset } = this.#options;
    if (cause === 'change') return enforcement.commit(changes);
    // Cleared first: what drifts while the comparison goes on asks for another.
    this.#resync = undefined;
    return enforcement.synchronize(ruleset);
  }

  // --- live flows

  /** Undefined: all flows. */
  #sweep(update: Pick<RulesetUpdate, 'tightened' | 'loosened'> | undefined): void {
    const { sweep } = this.#options;
    if (sweep === undefined) return;
    if (update === undefined) {
      this.#sweepSoon('all');
      this.#sweepLater('all');
      return;
    }
    const { tightened, loosened } = update;
    // What was only loosened matters to flows that are cut.
    const addresses = sweep.mayHaveCut && loosened.size > 0 ? tightened.union(loosened) : tightened;
    if (addresses.size > 0) this.#sweepSoon(addresses);
    if (tightened.size > 0) this.#sweepLater(tightened);
  }

  /**
   * At once, unless sweeps would then take more than their share: the kernel walks its whole table for each, and a hundred commits a
   * second would be a backlog of a second every second. Then the addresses wait together for the next one.
   */
  #sweepSoon(addresses: SweepScope): void {
    if (this.#sweeping === undefined && this.#sweepDue === undefined && this.#sweepWaitMs() <= 0) {
      this.#sweepNow(addresses);
      return;
    }
    this.#sweepDue = together(this.#sweepDue, addresses);
    this.#dueOver ??= Promise.withResolvers();
    this.#scheduleDue();
  }

  /** A look at all flows says itself when it is over. */
  #scheduleDue(): void {
    if (this.#sweepDue === undefined || this.#sweeping !== undefined) return;
    this.#sweepDueTimer ??= setTimeout(
      () => {
        const due = this.#sweepDue;
        this.#sweepDueTimer = undefined;
        this.#sweepDue = undefined;
        const over = this.#dueOver;
        this.#dueOver = undefined;
        if (due !== undefined && !this.#stopping.signal.aborted) this.#sweepNow(due);
        if (this.#sweeping === undefined) over?.resolve();
        else void this.#sweeping.then(() => over?.resolve());
      },
      Math.max(0, this.#sweepWaitMs()),
    );
  }

  /** How long the next sweep has to wait, ms. */
  #sweepWaitMs(): number {
    const now = performance.now();
    this.#sweepBudgetMs = Math.min(SWEEP_BURST_MS, this.#sweepBudgetMs + (now - this.#sweepBudgetAt) * SWEEP_SHARE);
    this.#sweepBudgetAt = now;
    return this.#sweepBudgetMs > 0 ? 0 : Math.min(LONGEST_PAUSE_MS, -this.#sweepBudgetMs / SWEEP_SHARE + 1);
  }

  #sweepLater(addresses: SweepScope, delayMs = SECOND_SWEEP_MS): void {
    this.#sweepAgain = together(this.#sweepAgain, addresses);
    this.#sweepTimer ??= setTimeout(() => {
      const again = this.#sweepAgain;
      this.#sweepTimer = undefined;
      this.#sweepAgain = undefined;
      if (again !== undefined && !this.#stopping.signal.aborted) this.#sweepSoon(again);
    }, delayMs);
  }

  #sweepNow(addresses: SweepScope): void {
    const { sweep } = this.#options;
    if (sweep === undefined) return;
    const startedAt = performance.now();
    if (addresses !== 'all') {
      try {
        this.#swept(sweep.sweep(addresses));
      } catch (error) {
        this.#sweepFailed(error);
      }
      this.#sweepEnded(startedAt);
      return;
    }
    this.#sweeping = sweep
      .sweepAll(this.#stopping.signal)
      .then((result) => this.#swept(result))
      .catch((error: unknown) => this.#sweepFailed(error))
      .then(() => {
        this.#sweeping = undefined;
        this.#sweepEnded(startedAt);
        this.#scheduleDue();
      });
  }

  #swept(result: SweepResult): void {
    const [failure] = result.failures;
    if (failure !== undefined) throw failure;
    this.#sweepRetryMs = SECOND_SWEEP_MS;
    this.#options.observer.swept(result);
  }

  #sweepFailed(error: unknown): void {
    this.#options.observer.sweepFailed(error, this.#sweepRetryMs);
    this.#sweepLater('all', this.#sweepRetryMs);
    this.#sweepRetryMs = Math.min(this.#sweepRetryMs * 2, LONGEST_RETRY_MS);
  }

  #sweepEnded(startedAt: number): void {
    this.#sweepBudgetMs = Math.max(-SWEEP_BURST_MS, this.#sweepBudgetMs - (performance.now() - startedAt));
  }
}

/** Whose flows are judged. */
type SweepScope = ReadonlySet<Address> | 'all';

function together(a: SweepScope | undefined, b: SweepScope): SweepScope {
  if (a === undefined) return b;
  return a === 'all' || b === 'all' ? 'all' : a.union(b);
}
