/** The tiers of the tests, from the quickest to the slowest, and which file belongs to which. */
import { globSync } from 'node:fs';
import { relative, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../..');

/**
 * - `fast`: pure code; nothing is spawned, nobody waits
 * - `unit`: no namespaces either, but programs, a browser, file systems, clocks or long properties: `*.slow.test.ts`
 * - `kernel`: nf_tables, network namespaces, agents as processes, real packets
 * - `apiserver`: a real kube-apiserver, kubectl, Prometheus, flanneld
 * - `hostile`: objects and files of somebody who means ill, beside a bystander; all of it where `SLUICE_HOSTILE=all`
 * - `bench`: the benchmarks in their smallest form, so that they do not rot
 */
export const TIERS = ['fast', 'unit', 'kernel', 'apiserver', 'hostile', 'bench'] as const;
export type Tier = (typeof TIERS)[number];

/** @param file path of a test file from the root of the checkout */
export function tierOf(file: string): Tier {
  const [, first = ''] = file.replace(/^packages\/[^/]+\//, '').split('/');
  if (first === 'kernel' || first === 'apiserver' || first === 'hostile' || first === 'bench') return first;
  return file.endsWith('.slow.test.ts') ? 'unit' : 'fast';
}

/** Every test file of the checkout, by its path from the root, sorted. */
export function testFiles(): string[] {
  return globSync(['test/**/*.test.ts', 'packages/*/test/**/*.test.ts'], { cwd: ROOT }).sort();
}

/**
 * The files that arguments of a command line name: each is the path of a file or directory, or a part of the path of some test files.
 *
 * @returns `unknown`: the arguments that name no test file
 */
export function filesNamed(names: readonly string[], files: readonly string[]): { named: string[]; unknown: string[] } {
  const matching = (name: string): string[] => {
    const path = relative(ROOT, resolve(name));
    const exact = files.filter((file) => file === path || file.startsWith(`${path}/`));
    return exact.length > 0 ? exact : files.filter((file) => file.includes(name));
  };
  const found = new Set(names.flatMap(matching));
  return { named: files.filter((file) => found.has(file)), unknown: names.filter((name) => matching(name).length === 0) };
}
