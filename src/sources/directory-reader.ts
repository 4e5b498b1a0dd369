/** A directory's files into a {@link ManifestSet}: which have changed since the last time, read and put; once or again and again. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { SluiceError, systemErrorCode } from '../errors.ts';
import type { Sharing } from '../kubernetes/sharing.ts';
import type { Tree, TreeFile, Unlisted } from './directory-tree.ts';
import { type ManifestVisitor, readManifest } from './manifest.ts';
import type { ManifestSet } from './manifest-set.ts';

/** Reading gives way to whatever else the process has to do at least this often. */
const TURN_MS = 10;

/** A List of 20,000 pods as JSON is some 30 MB. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

/** How the files differ from what has been read. */
export interface TreeChanges {
  readonly changed: readonly TreeFile[];
  readonly missing: readonly string[];
}

export class DirectoryReader {
  readonly #root: string;
  readonly #set: ManifestSet;
  readonly #sharing: Sharing;
  /** Of each file as it was read. */
  readonly #signatures = new Map<string, string>();
  readonly #visitor: ManifestVisitor | undefined;
  #noted = new Set<string>();

  constructor(root: string, set: ManifestSet, sharing: Sharing, visitor?: ManifestVisitor) {
    this.#root = root;
    this.#set = set;
    this.#sharing = sharing;
    this.#visitor = visitor;
  }

  compare({ files, unlisted }: Tree): TreeChanges {
    const changed = [...files.values()].filter(({ path, signature }) => this.#signatures.get(path) !== signature);
    const hidden = (path: string): boolean => unlisted.some((entry) => covers(entry, path));
    const missing = [...this.#set.paths()].filter((path) => !files.has(path) && !hidden(path));
    return { changed, missing };
  }

  /** Reads the changed files, in the order of their paths, and takes note of what cannot be looked at. */
  async apply({ changed, missing }: TreeChanges, unlisted: readonly Unlisted[]): Promise<void> {
    let turnEnds = performance.now() + TURN_MS;
    for (const file of changed.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
      this.#read(file);
      if (performance.now() < turnEnds) continue;
      await setImmediate();
      turnEnds = performance.now() + TURN_MS;
    }
    for (const path of missing) {
      this.#signatures.delete(path);
      this.#set.remove(path);
    }
    this.#note(unlisted);
  }

  #read({ path, signature }: TreeFile): void {
    let text: string;
    try {
      // A BOM is taken off; what is not UTF-8 is refused instead of being read as something else.
      text = new TextDecoder('utf-8', { fatal: true }).decode(readBounded(join(this.#root, path)));
    } catch (error) {
      // Gone since it was listed: the next look shows it.
      if (systemErrorCode(error) === 'ENOENT') return;
      if (error instanceof TooLargeError) {
        this.#signatures.set(path, signature);
        this.#set.fail(path, 'FILE_TOO_LARGE', error.message);
      } else if (systemErrorCode(error) === 'ERR_ENCODING_INVALID_ENCODED_DATA') {
        this.#signatures.set(path, signature);
        this.#set.fail(path, 'ENCODING_INVALID', 'the file is not UTF-8 text');
      } else {
        // Without a signature it is tried again at every look.
        this.#signatures.delete(path);
        this.#set.fail(path, 'FILE_UNREADABLE', `the file cannot be read (${messageOf(error)})`);
      }
      return;
    }
    this.#signatures.set(path, signature);
    this.#set.put(path, readManifest(path, text, this.#sharing, this.#visitor));
  }

  #note(unlisted: readonly Unlisted[]): void {
    const noted = new Set<string>();
    for (const { path, kind, code, message } of unlisted) {
      if (kind === 'file') {
        this.#signatures.delete(path);
        this.#set.fail(path, 'FILE_UNREADABLE', `the file cannot be read (${message})`);
        continue;
      }
      // A link that leads nowhere is only of interest if it led somewhere.
      if (code === 'ENOENT' && path !== '' && !this.#isKnownBelow(path)) continue;
      const origin = path === '' ? this.#root : path;
      noted.add(origin);
      const fault = `the directory cannot be listed (${message}); what its files said stays in force`;
      const lost = path === '' ? 'SOURCE_LOST' : 'DIRECTORY_UNREADABLE';
      this.#set.note(origin, [{ severity: 'error', origin, path: '', code: lost, message: fault }]);
    }
    for (const origin of this.#noted) if (!noted.has(origin)) this.#set.note(origin, []);
    this.#noted = noted;
  }

  #isKnownBelow(directory: string): boolean {
    return this.#set.paths().some((path) => path.startsWith(`${directory}/`));
  }
}

class TooLargeError extends Error {}

/** The bytes of a regular file, as far as they are not too many. Looks before it reads, and never waits: what was a file when it was listed may be a pipe. */
function readBounded(path: string): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error('it is no file');
    if (stat.size > FILE_BYTES_MAX) throw new TooLargeError(`the file has ${stat.size} bytes, and ${FILE_BYTES_MAX} are read`);
    const parts: Buffer[] = [];
    // To its end, wherever that is by now: it may be growing.
    for (let length = 0; length <= FILE_BYTES_MAX; ) {
      const part = Buffer.allocUnsafe(parts.length === 0 ? stat.size + 1 : 1 << 16);
      const count = readSync(fd, part, 0, part.length, null);
      if (count === 0) return parts.length === 1 ? (parts[0] ?? part) : Buffer.concat(parts);
      parts.push(part.subarray(0, count));
      length += count;
    }
    throw new TooLargeError(`the file has more bytes than the ${FILE_BYTES_MAX} that are read`);
  } finally {
    closeSync(fd);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether `path` may be there although the listing does not have it. */
function covers(entry: Unlisted, path: string): boolean {
  if (entry.kind === 'file') return entry.path === path;
  return entry.path === '' || path.startsWith(`${entry.path}/`);
}

/** For a directory that was named by a person and cannot be used. */
export function directoryError(directory: string, { code, message }: Pick<Unlisted, 'code' | 'message'>): SluiceError {
  if (code === 'ENOENT') {
    return new SluiceError('SOURCE_DIRECTORY_MISSING', `the source directory ${directory} does not exist`, {
      hint: 'Create it, or name the directory that holds the manifests with --source.',
    });
  }
  if (code === 'ENOTDIR') {
    return new SluiceError('SOURCE_NOT_A_DIRECTORY', `the source ${directory} is not a directory`, {
      hint: 'Name the directory that holds the manifests, not a file in it.',
    });
  }
  return new SluiceError('SOURCE_DIRECTORY_UNREADABLE', `the source directory ${directory} cannot be listed (${message})`, {
    hint: 'Let the user that runs sluice read it and its files.',
  });
}
