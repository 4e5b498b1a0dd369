/**
 * What all files of a directory say together, kept up to date by differences: which file's word counts for an object, what has
 * changed since the last {@link ManifestSet.commit}, and everything that is wrong now.
 *
 * - The same object said twice is reported; the first counts, by path and then by position. When that goes, the next takes over.
 * - An object that can no longer be read keeps its last good state, as long as its file is there and does not say otherwise.
 *   Where nobody can tell which object a broken document held, every object its file spoke of before, and does not now, keeps its
 *   state: nothing goes out of force for a slip of the pen. Mending the file settles it; then the set equals a fresh one.
 * - An object counts as changed only if what policy sees of it differs.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ObjectKind } from '../kubernetes/projections.ts';
import type { Manifest, PassedOver, Statement } from './manifest.ts';
import type { SourceEvent, SourceProblem } from './source.ts';

/** What changed since the last commit. */
export interface Changes {
  /** Upserts in the order namespaces, nodes, pods, policies, then deletions in the opposite order. */
  readonly events: readonly SourceEvent[];
  /** By origin, everything known to be wrong with it now; an empty list: it is mended. */
  readonly problems: ReadonlyMap<string, readonly SourceProblem[]>;
}

interface FileEntry {
  readonly statements: ReadonlyMap<string, Statement>;
  /** Further statements of an object in this file. */
  readonly repeated: readonly Statement[];
  readonly passedOver: readonly PassedOver[];
  readonly problems: readonly SourceProblem[];
}

const KIND_ORDER: readonly ObjectKind[] = ['Namespace', 'Node', 'Pod', 'NetworkPolicy'];

export class ManifestSet {
  readonly #files = new Map<string, FileEntry>();
  /** Which files speak of an object. An object is here exactly as long as one does. */
  readonly #holders = new Map<string, Set<string>>();
  /** Objects whose statements may have changed since the last commit. */
  readonly #touched = new Set<string>();
  readonly #inForce = new Map<string, Statement>();
  /** Of what is no file: directories that cannot be listed. */
  readonly #notes = new Map<string, readonly SourceProblem[]>();
  #said = new Map<string, readonly SourceProblem[]>();

  /** Files that have been put or failed, and not been removed. */
  paths(): MapIterator<string> {
    return this.#files.keys();
  }

  /** The file now says this. */
  put(path: string, manifest: Manifest): void {
    const before = this.#files.get(path);
    const statements = new Map<string, Statement>();
    const repeated: Statement[] = [];
    for (const statement of manifest.statements) {
      if (statements.has(statement.id)) repeated.push(statement);
      else statements.set(statement.id, statement);
    }
    const problems = [...manifest.problems];
    for (const { id, problems: faults } of manifest.refusals) {
      const kept = id === undefined ? [...(before?.statements.keys() ?? [])] : before?.statements.has(id) ? [id] : [];
      const missing = kept.filter((id) => !statements.has(id));
      for (const fault of faults) problems.push({ ...fault, message: `${fault.message}; ${consequence(id, missing, statements)}` });
    }
    for (const { id } of manifest.refusals) {
      for (const [known, statement] of before?.statements ?? []) {
        if ((id === undefined || id === known) && !statements.has(known)) statements.set(known, statement);
      }
    }
    this.#replace(path, { statements, repeated, passedOver: manifest.passedOver, problems });
  }

  /** The file is there and cannot be read: what it said stays. */
  fail(path: string, code: string, message: string): void {
    const statements = this.#files.get(path)?.statements ?? new Map<string, Statement>();
    const effect = consequence(undefined, [...statements.keys()], new Map());
    const problem: SourceProblem = { severity: 'error', origin: path, path: '', code, message: `${message}; ${effect}` };
    this.#replace(path, { statements, repeated: [], passedOver: [], problems: [problem] });
  }

  /** The file is gone. */
  remove(path: string): void {
    this.#replace(path, undefined);
  }

  /** Problems of what is no file; empty: none. */
  note(origin: string, problems: readonly SourceProblem[]): void {
    if (problems.length > 0) this.#notes.set(origin, problems);
    else this.#notes.delete(origin);
  }

  /** What was last said of an object; undefined: it is not there. */
  inForce(kind: ObjectKind, key: string): SourceEvent | undefined {
    const statement = this.#inForce.get(`${kind} ${key}`);
    return statement && { type: 'upsert', ...statement.object };
  }

  commit(): Changes {
    const upserts: SourceEvent[] = [];
    const deletions: SourceEvent[] = [];
    for (const id of this.#touched) {
      const [now] = this.#statementsOf(id);
      const before = this.#inForce.get(id);
      if (now !== undefined) {
        this.#inForce.set(id, now);
        if (before === undefined || !isDeepStrictEqual(before.object, now.object)) upserts.push({ type: 'upsert', ...now.object });
      } else if (before !== undefined) {
        this.#inForce.delete(id);
        deletions.push({ type: 'delete', kind: before.object.kind, key: before.object.key });
      }
    }
    this.#touched.clear();
    return { events: [...inKindOrder(upserts), ...inKindOrder(deletions).toReversed()], problems: this.#changedProblems() };
  }

  #replace(path: string, entry: FileEntry | undefined): void {
    for (const id of this.#files.get(path)?.statements.keys() ?? []) {
      this.#touched.add(id);
      const holders = this.#holders.get(id);
      holders?.delete(path);
      if (holders?.size === 0) this.#holders.delete(id);
    }
    if (entry === undefined) {
      this.#files.delete(path);
      return;
    }
    this.#files.set(path, entry);
    for (const id of entry.statements.keys()) {
      this.#touched.add(id);
      const holders = this.#holders.get(id);
      if (holders === undefined) this.#holders.set(id, new Set([path]));
      else holders.add(path);
    }
  }

  /** What the files say of an object, the first file by path first. */
  #statementsOf(id: string): Statement[] {
    const paths = [...(this.#holders.get(id) ?? [])];
    if (paths.length > 1) paths.sort();
    return paths.flatMap((path) => this.#files.get(path)?.statements.get(id) ?? []);
  }

  #changedProblems(): Map<string, readonly SourceProblem[]> {
    const now = this.#allProblems();
    const changed = new Map<string, readonly SourceProblem[]>();
    for (const [origin, problems] of now) {
      if (!isDeepStrictEqual(problems, this.#said.get(origin))) changed.set(origin, problems);
    }
    for (const origin of this.#said.keys()) if (!now.has(origin)) changed.set(origin, []);
    this.#said = now;
    return changed;
  }

  #allProblems(): Map<string, SourceProblem[]> {
    const byOrigin = new Map<string, SourceProblem[]>();
    const add = (problem: SourceProblem): void => {
      const known = byOrigin.get(problem.origin);
      if (known === undefined) byOrigin.set(problem.origin, [problem]);
      else known.push(problem);
    };
    for (const problems of this.#notes.values()) problems.forEach(add);
    const passedOver = new Set<string>();
    for (const path of [...this.#files.keys()].toSorted()) {
      const file = this.#files.get(path);
      if (file === undefined) continue;
      file.problems.forEach(add);
      for (const statement of file.repeated) {
        const first = this.#inForce.get(statement.id);
        if (first !== undefined) add(saidTwice(statement, first));
      }
      for (const one of file.passedOver) {
        if (passedOver.has(one.what)) continue;
        passedOver.add(one.what);
        add(notRead(one));
      }
    }
    for (const [id, holders] of this.#holders) {
      if (holders.size < 2) continue;
      const [first, ...others] = this.#statementsOf(id);
      if (first !== undefined) for (const other of others) add(saidTwice(other, first));
    }
    return byOrigin;
  }
}

/** What becomes of objects whose document or file cannot be read. */
function consequence(id: string | undefined, kept: readonly string[], statements: ReadonlyMap<string, Statement>): string {
  if (id !== undefined && statements.has(id)) return 'what this file says of the object elsewhere is in force';
  if (kept.length === 0) return 'nothing of it is in force';
  if (id !== undefined) return 'its last good state stays in force';
  const names = kept.length > 3 ? `${kept.slice(0, 3).join(', ')} and ${kept.length - 3} more` : kept.join(', ');
  return `the last good state stays in force (${names})`;
}

function saidTwice(statement: Statement, first: Statement): SourceProblem {
  const { origin, id } = statement;
  const line = statement.line();
  const same = isDeepStrictEqual(statement.object, first.object);
  const message = `also in ${first.origin}:${first.line()}, which counts${same ? '' : '; here it says something else'}. Keep one of the two`;
  return { severity: same ? 'warning' : 'error', origin, line, object: id, path: '', code: 'OBJECT_REPEATED', message };
}

function notRead({ what, alike, origin, line }: PassedOver): SourceProblem {
  const meant = alike ? '. If it is meant to count, write apiVersion v1 (of a NetworkPolicy networking.k8s.io/v1)' : '';
  const message = `${what} is not read, here or in later files: only Pod, Namespace, Node and NetworkPolicy are${meant}`;
  return { severity: alike ? 'warning' : 'notice', origin, line, path: '', code: 'KIND_PASSED_OVER', message };
}

function inKindOrder(events: SourceEvent[]): SourceEvent[] {
  const rank = (event: SourceEvent): number => (event.type === 'synced' ? KIND_ORDER.length : KIND_ORDER.indexOf(event.kind));
  const key = (event: SourceEvent): string => (event.type === 'synced' ? '' : event.key);
  return events.sort((a, b) => rank(a) - rank(b) || (key(a) < key(b) ? -1 : 1));
}
