/**
 * mocha's `spec` reporter. With `SLUICE_TEST_RESULTS` it leaves its results in that file, for the runner, which sums them up; without, it
 * closes as the runner does: the slowest files, and a plain line.
 */
import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import Mocha from 'mocha';
import { type JobResults, closingLines } from './results.ts';
import { ROOT } from './tiers.ts';

export default class Reporter extends Mocha.reporters.Spec {
  readonly #files = new Map<string, number>();
  readonly #failed: { file: string; title: string }[] = [];
  readonly #skipped: { file: string; title: string }[] = [];

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    let startedAt = 0;
    const ofFile = (suite: Mocha.Suite): boolean => suite.parent?.root === true;
    runner.on('suite', (suite) => {
      if (ofFile(suite)) startedAt = performance.now();
    });
    runner.on('suite end', (suite) => {
      if (!ofFile(suite)) return;
      const file = fileOf(suite);
      this.#files.set(file, (this.#files.get(file) ?? 0) + performance.now() - startedAt);
    });
    runner.on('fail', (test) => this.#failed.push({ file: fileOf(test), title: test.fullTitle() }));
    runner.on('pending', (test) => this.#skipped.push({ file: fileOf(test), title: test.fullTitle() }));
  }

  override epilogue(): void {
    super.epilogue();
    const { passes, failures } = this.stats;
    const files = [...this.#files].map(([file, ms]) => ({ file, ms }));
    const results: JobResults = { passed: passes, failed: failures, files, failures: this.#failed, skipped: this.#skipped };
    const path = process.env['SLUICE_TEST_RESULTS'];
    if (path !== undefined) writeFileSync(path, JSON.stringify(results));
    else for (const line of closingLines(results)) Mocha.reporters.Base.consoleLog(line);
  }
}

function fileOf({ file }: Mocha.Suite | Mocha.Runnable): string {
  return file === undefined ? '' : relative(ROOT, file);
}
