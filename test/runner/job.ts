/** One mocha process in a sandbox of its own: what its files do, no other job sees. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JOB_RESULTS, type JobResults } from './results.ts';
import { ROOT } from './tiers.ts';

/** Nothing takes so long. A process that mocha's own time limits do not end is ended. */
const LONGEST_MS = (process.env['SLUICE_HOSTILE'] === 'all' ? 60 : 15) * 60_000;

export interface JobEnd {
  readonly results: JobResults;
  /** What it printed. Empty where it went to the terminal. */
  readonly output: string;
  readonly ms: number;
}

export interface JobOptions {
  /** Further arguments for mocha. */
  readonly mocha: readonly string[];
  /** What it prints is kept; otherwise it goes where the runner's own output goes. */
  readonly quiet: boolean;
  readonly signal: AbortSignal;
}

let started = 0;

/** Never rejects: what goes wrong is a failure in the results. */
export async function runJob(files: readonly string[], { mocha, quiet, signal }: JobOptions): Promise<JobEnd> {
  const resultsFile = join(tmpdir(), `sluice-results-${process.pid}-${++started}.json`);
  const startedAt = performance.now();
  const program = ['scripts/sandbox.sh', process.execPath, 'node_modules/mocha/bin/mocha.js', ...mocha, ...files];
  const child = spawn('sh', program, {
    cwd: ROOT,
    env: {
      ...process.env,
      SLUICE_TEST_RESULTS: resultsFile,
      // Types are stripped once, and not in each process.
      NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/tests'),
    },
    stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'],
    signal,
    killSignal: 'SIGTERM',
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const timer = setTimeout(() => child.kill(), LONGEST_MS);
  const ended = await new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, by) =>
      resolve(by === null && code !== null && code < 128 ? undefined : `ended by ${by ?? `status ${code}`}`),
    );
  });
  clearTimeout(timer);
  const ms = performance.now() - startedAt;
  const results = existsSync(resultsFile) ? JOB_RESULTS.parse(JSON.parse(readFileSync(resultsFile, 'utf8'))) : undefined;
  rmSync(resultsFile, { force: true });
  if (results !== undefined && (ended === undefined || results.failed > 0)) return { results, output, ms };
  // It ended before its tests did, or did not end after them.
  const title = `mocha ${ended ?? 'ended'} ${results === undefined ? 'before its tests were through' : 'after its tests'}`;
  const { passed = 0, failed = 0, files: times = [], skipped = [], failures = [] } = results ?? {};
  const failure = { file: files.join(' '), title };
  return { results: { passed, failed: failed + 1, files: times, skipped, failures: [...failures, failure] }, output, ms };
}
