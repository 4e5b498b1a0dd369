/**
 * A directory of manifests as a source of cluster objects: read at the start, and followed from then on.
 *
 * Any notice of the watch leads to a new listing of the whole tree, and only files whose stat differs are read again. Since a file
 * can be caught half written or between its removal and its return, a difference counts once it has been left alone for
 * {@link QUIET_MS}; changes made together are thus also taken together. A look every {@link REGULAR_LOOK_MS} makes up for lost
 * notices and for file systems that give none.
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Sharing } from '../kubernetes/sharing.ts';
import { DirectoryReader, directoryError } from './directory-reader.ts';
import { listTree, type Tree } from './directory-tree.ts';
import { DirectoryWatch } from './directory-watch.ts';
import { ManifestSet } from './manifest-set.ts';
import type { Source, SourceListener } from './source.ts';

/** How long a file has to be left alone before it is read, and to be missing before it counts as removed. */
export const QUIET_MS = 20;
/**
 * A file that is empty has to be left alone for so many quiet times. Who writes it in place empties it first, and on a busy machine may be kept from
 * going on for a while: taken at its word, it would take out of force what it said, and what it is about to say again.
 */
const EMPTY_QUIET = 50;
/** Files that are never left alone do not hold up the others for longer than this many quiet times. */
const UNSETTLED_LOOKS_MAX = 10;
export const REGULAR_LOOK_MS = 10_000;

export class DirectorySource implements Source {
  readonly #directory: string;
  readonly #quietMs: number;
  readonly #set = new ManifestSet();
  readonly #reader: DirectoryReader;
  readonly #watch: DirectoryWatch;
  /** When a file that is gone was first missed (performance.now). */
  readonly #missedAt = new Map<string, number>();
  readonly #wake = new Wakeup();
  #listener: SourceListener | undefined;
  #following: Promise<void> | undefined;
  /** Of the tree as it was last taken in whole. */
  #revision: string | undefined;

  /** `quietMs` is for whatever writes files more slowly than {@link QUIET_MS} allows for. */
  constructor(directory: string, { quietMs = QUIET_MS }: { readonly quietMs?: number } = {}) {
    this.#directory = directory;
    this.#quietMs = quietMs;
    this.#reader = new DirectoryReader(directory, this.#set, new Sharing());
    this.#watch = new DirectoryWatch(directory, () => this.#wake.up());
  }

  /** Resolves once everything that is there has been emitted. Throws a SluiceError where there is no such directory. */
  async start(listener: SourceListener): Promise<void> {
    if (this.#listener !== undefined) throw new Error('a DirectorySource is started once');
    this.#listener = listener;
    try {
      const tree = this.#list();
      const root = tree.unlisted.find(({ path }) => path === '');
      if (root !== undefined) throw directoryError(this.#directory, root);
      await this.#settle(true);
      if (this.#wake.stopped) return;
      this.#emit(true);
    } catch (error) {
      this.#watch.close();
      throw error;
    }
    this.#following = this.#follow();
  }

  async reread(policies: Iterable<string>): Promise<void> {
    const events = [...policies].flatMap((key) => this.#set.inForce('NetworkPolicy', key) ?? []);
    if (events.length > 0) this.#listener?.events(events);
  }

  /** Nothing is emitted once it resolves. */
  async stop(): Promise<void> {
    this.#wake.stop();
    this.#watch.close();
    await this.#following;
  }

  async #follow(): Promise<void> {
    while (!this.#wake.stopped) {
      await this.#wake.wait(REGULAR_LOOK_MS);
      // What is being changed together is best seen together.
      await sleep(this.#quietMs);
      await this.#settle(false);
      if (!this.#wake.stopped) this.#emit(false);
    }
  }

  /** Looks until all differences have been left alone for the quiet time, and takes them. */
  async #settle(isFirst: boolean): Promise<void> {
    for (let looks = 1; !this.#wake.stopped; looks++) {
      const tree = this.#list();
      const { changed, missing } = this.#reader.compare(tree);
      const fresh = changed.filter(({ changedAt, isEmpty }) => this.#isRecent(Date.now() - changedAt, isEmpty ? EMPTY_QUIET : 1));
      const leaving = this.#justMissed(missing);
      const unsettled = fresh.length + leaving.size;
      if (unsettled > 0 && looks < UNSETTLED_LOOKS_MAX) {
        await sleep(this.#quietMs);
        continue;
      }
      // At the start a file that is never left alone is better read than passed over.
      const settled = isFirst ? changed : changed.filter((file) => !fresh.includes(file));
      await this.#reader.apply({ changed: settled, missing: missing.filter((path) => !leaving.has(path)) }, tree.unlisted);
      if (unsettled > 0) this.#wake.up();
      else this.#revision = revisionOf(tree);
      return;
    }
  }

  #list(): Tree {
    this.#watch.beginListing();
    const tree = listTree(this.#directory, (directory) => this.#watch.visit(directory));
    this.#watch.endListing();
    return tree;
  }

  /** Those of the missing files that may be about to come back: removed and written anew. */
  #justMissed(missing: readonly string[]): Set<string> {
    const now = performance.now();
    for (const path of this.#missedAt.keys()) if (!missing.includes(path)) this.#missedAt.delete(path);
    for (const path of missing) if (!this.#missedAt.has(path)) this.#missedAt.set(path, now);
    return new Set(missing.filter((path) => this.#isRecent(now - (this.#missedAt.get(path) ?? now))));
  }

  /** Less than so many quiet times ago. Times to come (another machine's clock) are not: nobody could wait for them. */
  #isRecent(ageMs: number, quiets = 1): boolean {
    return ageMs >= 0 && ageMs < this.#quietMs * quiets;
  }

  #emit(isFirst: boolean): void {
    const { fault } = this.#watch;
    const message = `changes cannot be watched (${fault}), and are only seen every ${REGULAR_LOOK_MS / 1000} seconds`;
    const origin = this.#directory;
    // '' is no directory's name.
    this.#set.note('', fault === undefined ? [] : [{ severity: 'warning', origin, path: '', code: 'WATCH_FAILED', message }]);
    const { events, problems } = this.#set.commit();
    for (const [of, list] of problems) this.#listener?.problems(of, list);
    if (isFirst) this.#listener?.events([...events, { type: 'synced' }]);
    else if (events.length > 0) this.#listener?.events(events);
    if (this.#revision !== undefined) this.#listener?.revision?.(this.#revision);
  }
}

/** The revision that a {@link DirectorySource} will tell of once it has taken in the directory as it is now. */
export function directoryRevision(directory: string): string {
  return revisionOf(listTree(directory, () => undefined));
}

function revisionOf({ files }: Tree): string {
  const hash = createHash('sha256');
  for (const { path, signature } of [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1))) hash.update(`${path}\0${signature}\n`);
  return hash.digest('hex').slice(0, 16);
}

/** A sleep that ends early when there is something to do, also if that was said before it began. */
class Wakeup {
  stopped = false;
  #isPending = false;
  #resolve: (() => void) | undefined;

  up(): void {
    this.#isPending = true;
    this.#resolve?.();
  }

  stop(): void {
    this.stopped = true;
    this.up();
  }

  async wait(ms: number): Promise<void> {
    if (!this.#isPending) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#resolve = resolve;
      const timer = setTimeout(resolve, ms);
      await promise;
      clearTimeout(timer);
      this.#resolve = undefined;
    }
    this.#isPending = false;
  }
}
