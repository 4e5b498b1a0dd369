/**
 * The manifest files below a directory, as they are at one moment: a listing with stat, and no content.
 *
 * Files are .yaml, .yml and .json in the directory and its sub-directories. Names that begin with a dot or `#`, or end in `~`, are
 * editors' and tools' own (and the hidden half of a ConfigMap mount); symbolic links are followed, and each directory is listed once, wherever links
 * lead to it from: eight directories that link to one another are 100,000 ways to get around. Synchronous, since a thousand files take some ten
 * milliseconds, and asynchronous stat takes many times that.
 */
import { lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { systemErrorCode } from '../errors.ts';

export interface TreeFile {
  /** Below the root, with slashes. */
  readonly path: string;
  /** Differs where the file may have been written, replaced or pointed elsewhere. */
  readonly signature: string;
  /** Last change of the file (ctime), ms since the epoch: not settable by who writes it, unlike mtime. */
  readonly changedAt: number;
  readonly isEmpty: boolean;
}

export interface Unlisted {
  /** Below the root; `''` is the root itself. A link that leads nowhere counts as a file if it has the name of a manifest. */
  readonly path: string;
  readonly kind: 'directory' | 'file';
  readonly code: string;
  readonly message: string;
}

export interface Tree {
  readonly files: ReadonlyMap<string, TreeFile>;
  /** What is there but cannot be looked at; what was known of it is not to be forgotten. */
  readonly unlisted: readonly Unlisted[];
}

/** Beyond this a directory is not listed: nobody has so many, or so deep ones, on purpose. */
const DIRECTORIES_MAX = 10_000;
const DEPTH_MAX = 64;

const MANIFEST_NAME = /^[^.#].*\.(?:ya?ml|json)$/iu;
const PASSED_DIRECTORY = /^[.#]|~$/u;

/**
 * Lists the tree. `visit` is called with every directory before it is listed, links' target directories included: who watches
 * from then on misses nothing.
 */
export function listTree(root: string, visit: (directory: string) => void = () => {}): Tree {
  const files = new Map<string, TreeFile>();
  const unlisted: Unlisted[] = [];
  const give = (path: string, kind: Unlisted['kind'], error: unknown): void => {
    const message = error instanceof Error ? error.message : String(error);
    unlisted.push({ path, kind, code: systemErrorCode(error) ?? 'UNKNOWN', message });
  };

  /** Real paths of the directories that have been listed. */
  const listed = new Set<string>();
  const list = (path: string, depth: number): void => {
    const directory = join(root, path);
    let entries;
    let real: string;
    try {
      real = realpathSync(directory);
      if (listed.has(real)) return;
      if (depth > DEPTH_MAX) throw new TreeError('TOO_DEEP', `it is more than ${DEPTH_MAX} directories deep`);
      if (listed.size >= DIRECTORIES_MAX) throw new TreeError('TOO_MANY', `there are more than ${DIRECTORIES_MAX} directories`);
      listed.add(real);
      visit(directory);
      entries = readdirSync(directory, { withFileTypes: true });
    } catch (error) {
      // A sub-directory that has gone since its parent was listed took its files with it; the root was promised to be there.
      if (path === '' || !isGone(directory, error)) give(path, 'directory', error);
      return;
    }
    // Links last: a directory is known by its own name where it has one here.
    for (const entry of entries.toSorted((a, b) => Number(a.isSymbolicLink()) - Number(b.isSymbolicLink()))) {
      const below = path === '' ? entry.name : `${path}/${entry.name}`;
      const isLink = entry.isSymbolicLink();
      const isManifest = MANIFEST_NAME.test(entry.name);
      if (PASSED_DIRECTORY.test(entry.name) || (!isManifest && !isLink && !entry.isDirectory())) continue;
      const absolute = join(root, below);
      try {
        const stat = statSync(absolute, { bigint: true });
        if (stat.isDirectory()) list(below, depth + 1);
        else if (isManifest && stat.isFile()) {
          if (isLink) visit(dirname(realpathSync(absolute)));
          const signature = `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
          files.set(below, { path: below, signature, changedAt: Number(stat.ctimeNs / 1_000_000n), isEmpty: stat.size === 0n });
        }
      } catch (error) {
        if (!isGone(absolute, error)) give(below, isManifest ? 'file' : 'directory', error);
      }
    }
  };
  list('', 0);
  return { files, unlisted };
}

class TreeError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Nothing is there any more, not even a link that leads nowhere. */
function isGone(path: string, error: unknown): boolean {
  return systemErrorCode(error) === 'ENOENT' && lstatSync(path, { throwIfNoEntry: false }) === undefined;
}
