/** What test runs have found, and how a run closes. */
import { z } from 'zod';

const titled = z.object({ file: z.string(), title: z.string() });

/** Of one mocha process, or of several together. */
export const JOB_RESULTS = z.object({
  passed: z.number(),
  /** Tests, and hooks. */
  failed: z.number(),
  /** How long each file took, its hooks included, in ms. */
  files: z.array(z.object({ file: z.string(), ms: z.number() })),
  failures: z.array(titled),
  skipped: z.array(titled),
});
export type JobResults = z.infer<typeof JOB_RESULTS>;

const SLOWEST = 10;

export function together(results: readonly JobResults[]): JobResults {
  return {
    passed: results.reduce((sum, { passed }) => sum + passed, 0),
    failed: results.reduce((sum, { failed }) => sum + failed, 0),
    files: results.flatMap(({ files }) => files),
    failures: results.flatMap(({ failures }) => failures),
    skipped: results.flatMap(({ skipped }) => skipped),
  };
}

/** The slowest files, and one plain line that a script can read: `N passed, N failed`. */
export function closingLines({ passed, failed, files, skipped }: JobResults): string[] {
  const slowest = [...files].sort((a, b) => b.ms - a.ms).slice(0, SLOWEST);
  return [
    ...(slowest.length > 1 ? ['Slowest files, in seconds:', ...slowest.map(({ file, ms }) => `${seconds(ms)}  ${file}`), ''] : []),
    `${passed} passed, ${failed} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`,
  ];
}

/** Seconds to a tenth, aligned. */
export function seconds(ms: number): string {
  return (ms / 1000).toFixed(1).padStart(7);
}
