/**
 * A file that others read, and that is kept as it should be: written whole or not at all, only where it differs, and again whenever it
 * vanishes or somebody else changes it. The directory is watched; where that fails, or a notice is lost, a slow look finds out.
 */
import { chmodSync, type FSWatcher, mkdirSync, readFileSync, renameSync, rmSync, statSync, watch, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { systemErrorCode } from '../errors.ts';

export interface KeptFileOptions {
  readonly path: string;
  /** It was not as it should be, and is again. As a sentence: `/run/flannel/subnet.env was missing; it is there again`. */
  readonly onRepair: (what: string) => void;
  /** It cannot be written, or not be watched. Told once for as long as it lasts; it is tried again. */
  readonly onProblem: (text: string) => void;
  /** How often it is looked at where nothing is heard. */
  readonly lookEveryMs?: number;
}

const LOOK_EVERY_MS = 5_000;
/** Others write in parts: truncated first, text later. */
const SETTLE_MS = 20;
/** Between two repairs, so that somebody who insists on something else costs little. */
const REPAIR_GAP_MS = 1_000;
/** Everybody may read it, for its readers run as whoever they like. */
const MODE = 0o644;

/**
 * Writes a file, unless that is its content already: nobody ever reads half of it, also after a crash. Its directory is made.
 * @returns what was there before: the same text, nothing, or something else
 * @throws the error of the system call that failed
 */
function writeIfDifferent(path: string, text: string): 'same' | 'missing' | 'different' {
  const before = readText(path);
  if (before === text) return 'same';
  mkdirSync(dirname(path), { recursive: true });
  const fresh = `${path}.new`;
  try {
    writeFileSync(fresh, text, { flush: true });
    // The mode of writeFileSync is subject to the umask, and counts only for a file that is new.
    chmodSync(fresh, MODE);
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
  return before === undefined ? 'missing' : 'different';
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

export class KeptFile {
  readonly #options: KeptFileOptions;
  readonly #directory: string;
  #text: string | undefined;
  /** The text has been there once: a difference is somebody else's doing. */
  #wasThere = false;
  #problem: string | undefined;
  #watcher: FSWatcher | undefined;
  /** Device and inode of the directory that is watched. */
  #watched: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #repairedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  /** Does nothing before {@link keep} is called. */
  constructor(options: KeptFileOptions) {
    this.#options = options;
    this.#directory = dirname(options.path);
  }

  /** Why the file is not as it should be, or is not watched; undefined: it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** What the file holds from now on. Written before this returns, unless there is a {@link problem}. */
  keep(text: string): void {
    if (this.#closed) return;
    if (text !== this.#text) this.#wasThere = false;
    this.#text = text;
    this.#look();
  }

  /** Leaves the file as it is. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#unwatch();
  }

  #look(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    const { path, onProblem, onRepair, lookEveryMs = LOOK_EVERY_MS } = this.#options;
    if (this.#text === undefined || this.#closed) return;
    let problem: string | undefined;
    try {
      mkdirSync(this.#directory, { recursive: true });
      // Watch first and read then, so that nothing is missed in between.
      problem = this.#watch();
      const before = writeIfDifferent(path, this.#text);
      if (before !== 'same' && this.#wasThere) {
        this.#repairedAt = performance.now();
        onRepair(`${path} ${before === 'missing' ? 'was missing' : 'had been changed'}; it is as it should be again`);
      }
      this.#wasThere = true;
    } catch (error) {
      problem = `${path} cannot be written: ${systemErrorCode(error) ?? String(error)}`;
    }
    if (problem !== undefined && problem !== this.#problem) onProblem(problem);
    this.#problem = problem;
    this.#lookIn(lookEveryMs);
  }

  /** Unless it looks sooner anyway. */
  #lookIn(delayMs: number): void {
    const now = performance.now();
    const at = Math.max(now + delayMs, this.#repairedAt + REPAIR_GAP_MS);
    if (this.#closed || at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#look(), at - now).unref();
  }

  /** Watches the directory that is there now; what is wrong with it where that cannot be done. */
  #watch(): string | undefined {
    const { dev, ino } = statSync(this.#directory, { bigint: true });
    const id = `${dev}:${ino}`;
    if (id === this.#watched) return undefined;
    this.#unwatch();
    const names = new Set([basename(this.#options.path), basename(this.#directory)]);
    try {
      this.#watcher = watch(this.#directory, { persistent: false }, (_event, name) => {
        if (name !== null && !names.has(name)) return;
        // With the directory's own name: it was moved or removed, and its inode may be another one's soon.
        if (name === basename(this.#directory)) this.#unwatch();
        this.#lookIn(SETTLE_MS);
      });
      this.#watcher.on('error', () => this.#unwatch());
      this.#watched = id;
      return undefined;
    } catch (error) {
      const every = (this.#options.lookEveryMs ?? LOOK_EVERY_MS) / 1000;
      return `${this.#directory} cannot be watched (${systemErrorCode(error) ?? String(error)}): it is looked at every ${every} s`;
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#watched = undefined;
  }
}
