/** What the agent is doing, for whoever waits for it: a file that always holds one whole JSON object. */
import { renameSync, writeFileSync } from 'node:fs';
import type { CommitReport } from '../enforcement/enforcement.ts';
import type { CommitCause } from '../enforcement/reconciler.ts';

export interface StatusDocument {
  readonly node: string;
  /** The source has been read, the rules are in force, and nothing stands in the way of policy. */
  readonly ready: boolean;
  /** Commits that were made or found nothing to do. */
  readonly commits: number;
  readonly lastCommit: { readonly cause: CommitCause; readonly operations: number; readonly durationMs: number } | null;
  /** Of the last commit, if it failed. */
  readonly error: string | null;
  /** Why packets may pass by policy. */
  readonly bridgeProblems: readonly string[];
  /** By file or object. */
  readonly sourceProblems: Readonly<Record<string, number>>;
  /** The state of the source that is in force (see SourceListener.revision). */
  readonly revision: string | null;
  /** Times that somebody else's change of the rules was noticed. */
  readonly drifts: number;
  /** Live flows that were cut, and that were let go on again. */
  readonly flowsCut: number;
  readonly flowsRestored: number;
}

export class AgentStatus {
  readonly #file: string | undefined;
  #document: StatusDocument;

  constructor(node: string, file: string | undefined) {
    this.#file = file;
    this.#document = {
      node,
      ready: false,
      commits: 0,
      lastCommit: null,
      error: null,
      bridgeProblems: [],
      sourceProblems: {},
      revision: null,
      drifts: 0,
      flowsCut: 0,
      flowsRestored: 0,
    };
  }

  get document(): StatusDocument {
    return this.#document;
  }

  committed({ cause, operations, durationMs }: CommitReport & { readonly cause: CommitCause }): void {
    this.#update({ commits: this.#document.commits + 1, lastCommit: { cause, operations, durationMs }, error: null });
  }

  failed(error: unknown): void {
    this.#update({ error: error instanceof Error ? error.message : String(error) });
  }

  swept(cut: number, restored: number): void {
    if (cut + restored > 0)
      this.#update({ flowsCut: this.#document.flowsCut + cut, flowsRestored: this.#document.flowsRestored + restored });
  }

  /** Everything up to this state of the source is in force. */
  inForce(revision: string): void {
    if (revision !== this.#document.revision) this.#update({ revision });
  }

  drifted(): void {
    this.#update({ drifts: this.#document.drifts + 1 });
  }

  bridges(problems: readonly string[]): void {
    this.#update({ bridgeProblems: problems });
  }

  problems(origin: string, count: number): void {
    const { [origin]: _, ...others } = this.#document.sourceProblems;
    this.#update({ sourceProblems: count === 0 ? others : { ...others, [origin]: count } });
  }

  #update(fields: Partial<StatusDocument>): void {
    const next = { ...this.#document, ...fields };
    this.#document = { ...next, ready: next.commits > 0 && next.error === null && next.bridgeProblems.length === 0 };
    if (this.#file === undefined) return;
    writeFileSync(`${this.#file}.new`, `${JSON.stringify(this.#document)}\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}
