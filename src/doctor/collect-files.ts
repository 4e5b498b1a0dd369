/** The files that others read: subnet.env, the runtime's network configurations and plugins, and systemd's .link files. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemErrorCode } from '../errors.ts';
import type { CniFiles, FileText, LinkFile, Reading } from './evidence.ts';

export function readText(path: string): Reading<FileText> {
  try {
    return { seen: readFileSync(path, 'utf8') };
  } catch (error) {
    return isMissing(error) ? { seen: undefined } : { blind: unreadable(path, error) };
  }
}

/** What a runtime takes for a configuration (libcni's ConfFiles), sorted as it sorts them. */
const CONFIGURATION = /\.(conf|conflist|json)$/;

/** @param binDirs where plugins are looked for */
export function readCniFiles(directory: string, binDirs: readonly string[]): Reading<CniFiles> {
  try {
    const files = namesIn(directory)
      .filter((name) => CONFIGURATION.test(name))
      .toSorted(byBytes)
      .flatMap((name) => {
        const text = readText(join(directory, name));
        if ('blind' in text) throw new Error(text.blind);
        return text.seen === undefined ? [] : [{ name, text: text.seen }];
      });
    const plugins = new Map<string, readonly string[]>();
    for (const each of binDirs) {
      try {
        plugins.set(each, readdirSync(each));
      } catch (error) {
        if (!isMissing(error)) return { blind: unreadable(each, error) };
      }
    }
    return { seen: { directory, files, plugins } };
  } catch (error) {
    return { blind: systemErrorCode(error) === undefined && error instanceof Error ? error.message : unreadable(directory, error) };
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** As Go and the C locale sort, and no language does. */
function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Where systemd.link(5) looks: of files with one name that of the first directory counts. */
export const LINK_DIRECTORIES = [
  '/etc/systemd/network',
  '/run/systemd/network',
  '/usr/local/lib/systemd/network',
  '/usr/lib/systemd/network',
];

/** Sorted by name, as udev asks them. An empty file, or a link to /dev/null, masks those of its name. */
export function readLinkFiles(directories: readonly string[] = LINK_DIRECTORIES): Reading<readonly LinkFile[]> {
  const found = new Map<string, LinkFile>();
  try {
    for (const directory of directories) {
      for (const name of namesIn(directory)) {
        if (!name.endsWith('.link') || found.has(name)) continue;
        const path = join(directory, name);
        found.set(name, { path, text: readFileSync(path, 'utf8') });
      }
    }
  } catch (error) {
    return { blind: unreadable('the .link files of systemd', error) };
  }
  return { seen: [...found].toSorted(([a], [b]) => byBytes(a, b)).map(([, file]) => file) };
}

function isMissing(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

function unreadable(what: string, error: unknown): string {
  return `${what} cannot be read: ${systemErrorCode(error) ?? String(error)}`;
}
