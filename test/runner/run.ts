/**
 * Runs tests in sandboxes, several side by side, and sums up what they found. Quick files share a sandbox in
 * groups; each of the others has one of its own.
 *
 *     node test/runner/run.ts                      every tier but `bench`; that one too where CI=true
 *     node test/runner/run.ts --tier fast          one tier
 *     node test/runner/run.ts flows test/unit      files, directories, or parts of names
 *
 * The exit status is 0 where every test passed, 1 where one failed, 2 where there was nothing to run.
 */
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type JobEnd, runJob } from './job.ts';
import { closingLines, type JobResults, seconds, together } from './results.ts';
import { filesNamed, ROOT, type Tier, testFiles, TIERS, tierOf } from './tiers.ts';

const HELP = `usage: node test/runner/run.ts [--tier TIER]... [--jobs N] [--grep TEXT] [FILE...]

FILE is a test file, a directory, or a part of the path of some test files. Tiers: ${TIERS.join(', ')}.

    npm run test:fast
    npm run test:fast -- --watch
    npm run test:kernel -- flows restarts
    npm test -- test/unit/policy --grep endPort
    npm test

  --tier TIER   only files of this tier; may be given several times
  --jobs N      how many sandboxes run side by side (default: one more than there are processors)
  --grep TEXT   only tests whose full title holds this
  --watch       run again whenever a file of the checkout changes, until Ctrl-C
  --list        print the files, and run nothing
`;

const WATCHED = ['src', 'packages', 'test', 'fixtures', 'docs', 'manifests'];

/** Files of a tier that is quick share a process, so many a job; of the others each has its own. */
const FILES_A_JOB: Partial<Record<Tier, number>> = { fast: 20 };
/** The longest first, so that the short ones fill the end. */
const ORDER: readonly Tier[] = ['hostile', 'apiserver', 'bench', 'kernel', 'unit', 'fast'];

interface Job {
  readonly tier: Tier;
  readonly files: readonly string[];
}

function jobsOf(files: readonly string[]): Job[] {
  return ORDER.flatMap((tier) => {
    const own = files.filter((file) => tierOf(file) === tier);
    const size = FILES_A_JOB[tier] ?? 1;
    const count = Math.ceil(own.length / size);
    // Dealt out, so that neighbours, which are often alike, are in different jobs.
    return Array.from({ length: count }, (_, job) => ({ tier, files: own.filter((__, index) => index % count === job) }));
  });
}

/** Builds what is not there yet of the programs that tests of an API server need; what cannot be built, their tests say. */
function build(): void {
  for (const [variable, required, script, what] of [
    ['SLUICE_APISERVER', 'SLUICE_REQUIRE_APISERVER', 'build-apiserver.sh', 'of an API server'],
    ['SLUICE_FLANNELD', 'SLUICE_REQUIRE_FLANNELD', 'build-flanneld.sh', 'beside flanneld'],
  ] as const) {
    if ((process.env[variable] ?? '') !== '') continue;
    const { status, stdout } = spawnSync('sh', [join(ROOT, 'scripts', script)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    if (status === 0) process.env[variable] = stdout.trim();
    else if (process.env[required] === '1') process.exit(1);
    else console.error(`test: the tests ${what} are skipped`);
  }
}

function say({ tier, files }: Job, { results, output, ms }: JobEnd): void {
  const { passed, failed, skipped } = results;
  const name = files.length === 1 ? files[0] : `${tier}: ${files.length} files`;
  if (failed > 0) console.log(output);
  const counts = [
    `${passed} passed`,
    ...(failed > 0 ? [`${failed} FAILED`] : []),
    ...(skipped.length > 0 ? [`${skipped.length} skipped`] : []),
  ];
  console.log(`${failed > 0 ? '✗' : '✓'} ${seconds(ms)} s  ${name}: ${counts.join(', ')}`);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      tier: { type: 'string', multiple: true },
      jobs: { type: 'string' },
      grep: { type: 'string' },
      list: { type: 'boolean' },
      watch: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
    allowPositionals: true,
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  if (values.watch === true) return watch();
  const tiers = values.tier ?? TIERS.filter((tier) => tier !== 'bench' || process.env['CI'] === 'true' || positionals.length > 0);
  const unknownTier = tiers.find((tier) => !TIERS.includes(tier as Tier));
  const width = Number(values.jobs ?? availableParallelism() + 1);
  if (unknownTier !== undefined || !Number.isInteger(width) || width < 1) {
    console.error(unknownTier === undefined ? `test: --jobs ${values.jobs}: wants a number` : `test: there is no tier ${unknownTier}`);
    return 2;
  }
  const inTiers = testFiles().filter((file) => tiers.includes(tierOf(file)));
  const { named, unknown } = positionals.length === 0 ? { named: inTiers, unknown: [] } : filesNamed(positionals, inTiers);
  if (unknown.length > 0 || named.length === 0) {
    console.error(
      `test: there is no test file ${unknown.join(', ')} in ${values.tier === undefined ? 'test or packages' : `the tier ${tiers.join(', ')}`}`,
    );
    return 2;
  }
  if (values.list === true) {
    console.log(named.join('\n'));
    return 0;
  }
  if (named.some((file) => ['apiserver', 'hostile', 'bench'].includes(tierOf(file)))) build();

  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const jobs = jobsOf(named);
  // One job alone shows what it does while it does it.
  const quiet = jobs.length > 1;
  const mocha = [...(quiet && process.stdout.isTTY ? ['--color'] : []), ...(values.grep === undefined ? [] : ['--fgrep', values.grep])];
  const waiting = [...jobs];
  const ended: { job: Job; end: JobEnd }[] = [];
  const startedAt = performance.now();
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let job = waiting.shift(); job !== undefined && !stop.signal.aborted; job = waiting.shift()) {
        const end = await runJob(job.files, { mocha, quiet, signal: stop.signal });
        if (stop.signal.aborted) return;
        ended.push({ job, end });
        if (quiet) say(job, end);
      }
    }),
  );
  if (stop.signal.aborted) {
    console.log('interrupted');
    return 130;
  }
  const results = together(ended.map(({ end }) => end.results));
  close(ended, results, performance.now() - startedAt);
  return results.failed > 0 ? 1 : 0;
}

/** Runs the same command again and again, as Node does it. */
function watch(): number {
  const paths = WATCHED.map((path) => `--watch-path=${join(ROOT, path)}`);
  const again = process.argv.slice(1).filter((arg) => arg !== '--watch');
  // Node's own Ctrl-C ends both.
  process.on('SIGINT', () => undefined);
  return spawnSync(process.execPath, ['--watch', '--watch-preserve-output', ...paths, ...again], { stdio: 'inherit' }).status ?? 130;
}

/** The closing lines of the run. */
function close(ended: readonly { readonly job: Job; readonly end: JobEnd }[], results: JobResults, tookMs: number): void {
  console.log('');
  for (const tier of TIERS) {
    const own = ended.filter(({ job }) => job.tier === tier);
    if (own.length === 0) continue;
    const ms = own.reduce((sum, { end }) => sum + end.ms, 0);
    const { passed, failed } = together(own.map(({ end }) => end.results));
    console.log(`${seconds(ms)} s  ${tier}: ${own.flatMap(({ job }) => job.files).length} files, ${passed + failed} tests`);
  }
  console.log(`${seconds(tookMs)} s  by the clock\n`);
  for (const { file, title } of results.failures) console.log(`failed: ${file}: ${title}`);
  for (const line of closingLines(results)) console.log(line);
}

process.exitCode = await main();
