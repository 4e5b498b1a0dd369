/**
 * Tells that something below a directory may have changed, and never what: whoever listens lists the tree again. So a lost, a
 * doubled or a misleading notice does no harm, and no notice has to be interpreted, which is what makes watching fragile
 * (renames, links that are swapped, directories that go and come back).
 */
import { type FSWatcher, statSync, watch } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { systemErrorCode } from '../errors.ts';

export class DirectoryWatch {
  /** By device and inode: a directory of the same name may be another one. */
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #visited = new Set<string>();
  readonly #onChange: () => void;
  readonly #root: string;
  #parent: FSWatcher | undefined;
  /** Why watching does not work, and changes are only seen at the next regular look; undefined while it does. */
  fault: string | undefined;

  constructor(root: string, onChange: () => void) {
    this.#root = resolve(root);
    this.#onChange = onChange;
  }

  /** To be called before the directories of a listing are visited. */
  beginListing(): void {
    this.#visited.clear();
    this.fault = undefined;
    // The root itself: replaced, removed, made again, or a link that is swapped.
    this.#parent ??= this.#watch(dirname(this.#root), (name) => name === basename(this.#root));
  }

  /** Watches `directory` from now on, if it is not watched already. */
  visit(directory: string): void {
    const { dev, ino } = statSync(directory, { bigint: true });
    const id = `${dev}:${ino}`;
    this.#visited.add(id);
    if (this.#watchers.has(id)) return;
    const own = basename(directory);
    const watcher = this.#watch(directory, (name) => {
      // A notice with the directory's own name says that it was moved or removed. Its inode may be used for another one, so the
      // watch ends here, and begins again if the next listing still comes by.
      if (name === own) this.#drop(id);
      return true;
    });
    if (watcher === undefined) return;
    this.#watchers.set(id, watcher);
    watcher.on('error', () => {
      this.#drop(id);
      this.#onChange();
    });
  }

  /** Leaves the directories alone that the listing did not come by. */
  endListing(): void {
    for (const id of this.#watchers.keys()) if (!this.#visited.has(id)) this.#drop(id);
  }

  close(): void {
    for (const id of this.#watchers.keys()) this.#drop(id);
    this.#parent?.close();
    this.#parent = undefined;
  }

  #watch(directory: string, isRelevant: (name: string | null) => boolean): FSWatcher | undefined {
    try {
      const watcher = watch(directory, { persistent: true }, (_event, name) => {
        if (isRelevant(name)) this.#onChange();
      });
      watcher.on('error', () => {});
      return watcher;
    } catch (error) {
      // Gone again: the next listing shows it. Anything else (no inotify watches left: ENOSPC) leaves the regular look.
      if (systemErrorCode(error) !== 'ENOENT') this.fault = error instanceof Error ? error.message : String(error);
      return undefined;
    }
  }

  #drop(id: string): void {
    this.#watchers.get(id)?.close();
    this.#watchers.delete(id);
  }
}
