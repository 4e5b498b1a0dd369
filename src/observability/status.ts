/**
 * What the agent is doing, for whoever waits for it: a file that always holds one whole JSON object.
 *
 * Changes of one turn of the event loop are written together. That the file cannot be written is reported once, and never stands
 * in the way of policy.
 */
import { renameSync, writeFileSync } from 'node:fs';
import type { CommitReport } from '../enforcement/enforcement.ts';
import type { CommitCause } from '../enforcement/reconciler.ts';
import type { Mode } from '../policy/mode.ts';

/** What the rules depend on besides the objects: whoever makes the same table has to know it. */
export interface EnforcementDocument {
  /** What became of `auto`. */
  readonly ownership: 'owned' | 'shared';
  /** NFLOG group of refused packets; null: none. */
  readonly logGroup: number | null;
  /** Bit of the ct mark of flows that are cut. */
  readonly cutMark: number;
  /** Names of the bridges whose packets are filtered. */
  readonly bridges: readonly string[];
  /** Whether namespaces may ask to be audited. */
  readonly auditNamespaces: boolean;
}

export interface StatusDocument {
  readonly node: string;
  /** The process that wrote it: an agent that was killed cannot say so. */
  readonly pid: number;
  /** The source has been read, the rules are in force, and nothing stands in the way of policy. False once the agent has stopped. */
  readonly ready: boolean;
  /** Whether any object names this node; if none does, its name is probably wrong, and nothing is enforced. */
  readonly nodeKnown: boolean;
  /** The agent's own; with `audit` nothing is enforced. */
  readonly mode: Mode;
  /** Isolated pods of this node, as of the last commit, whose policies are not enforced: by the agent's mode or their namespace's. */
  readonly auditedPods: number;
  /** With what the rules are made; null until the agent has begun. */
  readonly enforcement: EnforcementDocument | null;
  /** Policies that are not in force as they are written, because their rules cannot be: they isolate, and admit nothing. The first twenty. */
  readonly closedPolicies: readonly string[];
  readonly closedPolicyCount: number;
  /** Commits that were made or found nothing to do. */
  readonly commits: number;
  readonly lastCommit: { readonly cause: CommitCause; readonly operations: number; readonly durationMs: number } | null;
  /** Of the last commit, if it failed. */
  readonly error: string | null;
  /** Of the last look at live flows, if it failed: some that should be cut may go on. */
  readonly flowError: string | null;
  /** Why packets may pass by policy. */
  readonly bridgeProblems: readonly string[];
  /** Why the source as a whole cannot be read any more: what it said last is in force. */
  readonly sourceError: string | null;
  /** By file or object, how many things are wrong: of the first two hundred. */
  readonly sourceProblems: Readonly<Record<string, number>>;
  /** Of all. */
  readonly sourceProblemCount: number;
  /** The state of the source that is in force (see SourceListener.revision). */
  readonly revision: string | null;
  /** Commits by somebody else to our table that were noticed. */
  readonly drifts: number;
  /** Live flows that were cut, and that were let go on again. */
  readonly flowsCut: number;
  readonly flowsRestored: number;
}

/** Of the policies that are closed so many are named. */
const CLOSED_NAMED = 20;

/** So many files or objects with problems are named. */
const PROBLEMS_NAMED = 200;

type Fields = Omit<StatusDocument, 'ready' | 'sourceProblems' | 'sourceProblemCount'>;

export class AgentStatus {
  readonly #file: string | undefined;
  readonly #onWriteFailed: (error: unknown) => void;
  readonly #sourceProblems = new Map<string, number>();
  #problemCount = 0;
  #fields: Fields;
  #stopped = false;
  /** Live flows have been judged since the start. */
  #judged = false;
  #pending: NodeJS.Immediate | undefined;
  #failed = false;

  /** @param onWriteFailed called when the file can no longer be written, and not again until it could */
  constructor(node: string, mode: Mode, file: string | undefined, onWriteFailed: (error: unknown) => void) {
    this.#file = file;
    this.#onWriteFailed = onWriteFailed;
    this.#fields = {
      node,
      pid: process.pid,
      nodeKnown: false,
      mode,
      auditedPods: 0,
      enforcement: null,
      closedPolicies: [],
      closedPolicyCount: 0,
      commits: 0,
      lastCommit: null,
      error: null,
      flowError: null,
      bridgeProblems: [],
      sourceError: null,
      revision: null,
      drifts: 0,
      flowsCut: 0,
      flowsRestored: 0,
    };
  }

  get document(): StatusDocument {
    return {
      ...this.#fields,
      ready: this.unready.length === 0,
      sourceProblems: Object.fromEntries(this.#sourceProblems.entries().take(PROBLEMS_NAMED)),
      sourceProblemCount: this.#problemCount,
    };
  }

  get mode(): Mode {
    return this.#fields.mode;
  }

  /** How many things are wrong with all files and objects. */
  get problemCount(): number {
    return this.#problemCount;
  }

  /** Why the agent is not ready, a sentence a reason; empty: it is. */
  get unready(): readonly string[] {
    const { commits, error, flowError, bridgeProblems } = this.#fields;
    return [
      ...(this.#stopped ? ['the agent is stopping'] : []),
      ...(commits === 0 && error === null ? ['the source has not been read as a whole, and nothing has been committed'] : []),
      ...(error === null ? [] : [`the last commit failed: ${error}`]),
      ...(commits > 0 && !this.#judged && flowError === null ? ['live flows are being judged for the first time'] : []),
      ...(flowError === null ? [] : [`live flows could not be judged: ${flowError}`]),
      ...bridgeProblems,
    ];
  }

  /** What is not as it should be though the agent is ready, a sentence each. */
  get degraded(): readonly string[] {
    const { closedPolicies, closedPolicyCount, sourceError } = this.#fields;
    const lost = sourceError === null ? [] : [`degraded: the source cannot be read: ${sourceError}`];
    if (closedPolicyCount === 0) return lost;
    const more = closedPolicyCount > closedPolicies.length ? ` and ${closedPolicyCount - closedPolicies.length} more` : '';
    return [...lost, `degraded: policies that cannot be brought into force isolate and admit nothing: ${closedPolicies.join(', ')}${more}`];
  }

  /** Why nothing of the source can be read; undefined: it can. */
  sourceLost(error: string | undefined): void {
    if ((error ?? null) !== this.#fields.sourceError) this.#update({ sourceError: error ?? null });
  }

  /** Keys of the policies that are closed now. */
  closedPolicies(keys: readonly string[]): void {
    const first = keys.toSorted().slice(0, CLOSED_NAMED);
    const before = this.#fields;
    if (before.closedPolicyCount === keys.length && before.closedPolicies.join() === first.join()) return;
    this.#update({ closedPolicies: first, closedPolicyCount: keys.length });
  }

  enforcing(enforcement: EnforcementDocument): void {
    this.#update({ enforcement });
  }

  committed(
    { cause, operations, durationMs }: CommitReport & { readonly cause: CommitCause },
    { nodeKnown, auditedPods }: Pick<StatusDocument, 'nodeKnown' | 'auditedPods'>,
  ): void {
    const rounded = Math.round(durationMs * 1000) / 1000;
    const lastCommit = { cause, operations, durationMs: rounded };
    this.#update({ commits: this.#fields.commits + 1, lastCommit, error: null, nodeKnown, auditedPods });
  }

  failed(error: unknown): void {
    this.#update({ error: messageOf(error) });
  }

  swept(cut: number, restored: number): void {
    const { flowsCut, flowsRestored, flowError } = this.#fields;
    const isFirst = !this.#judged;
    this.#judged = true;
    if (isFirst || cut + restored > 0 || flowError !== null)
      this.#update({ flowsCut: flowsCut + cut, flowsRestored: flowsRestored + restored, flowError: null });
  }

  sweepFailed(error: unknown): void {
    this.#update({ flowError: messageOf(error) });
  }

  /** Everything up to this state of the source is in force. */
  inForce(revision: string): void {
    if (revision !== this.#fields.revision) this.#update({ revision });
  }

  drifted(): void {
    this.#update({ drifts: this.#fields.drifts + 1 });
  }

  bridges(problems: readonly string[]): void {
    this.#update({ bridgeProblems: problems });
  }

  problems(origin: string, count: number): void {
    this.#problemCount += count - (this.#sourceProblems.get(origin) ?? 0);
    if (count === 0) this.#sourceProblems.delete(origin);
    else this.#sourceProblems.set(origin, count);
    this.#update({});
  }

  /** The last word: written at once. */
  stopped(): void {
    this.#stopped = true;
    clearImmediate(this.#pending);
    this.#write();
  }

  #update(fields: Partial<Fields>): void {
    this.#fields = { ...this.#fields, ...fields };
    if (this.#file === undefined || this.#stopped) return;
    this.#pending ??= setImmediate(() => {
      this.#pending = undefined;
      this.#write();
    });
  }

  #write(): void {
    if (this.#file === undefined) return;
    try {
      writeFileSync(`${this.#file}.new`, `${JSON.stringify(this.document)}\n`);
      renameSync(`${this.#file}.new`, this.#file);
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#onWriteFailed(error);
      this.#failed = true;
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
