/** How test files are told apart and named, and what a run closes with. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { closingLines, together } from '../runner/results.ts';
import { filesNamed, ROOT, testFiles, tierOf } from '../runner/tiers.ts';

describe('the tier of a test file', () => {
  for (const [file, tier] of [
    ['test/unit/policy/ranges.test.ts', 'fast'],
    ['test/unit/sources/directory.slow.test.ts', 'unit'],
    ['packages/nftables-js/test/unit/nflog.test.ts', 'fast'],
    ['packages/nftables-js/test/kernel/nflog.test.ts', 'kernel'],
    ['test/kernel/agent/flows.test.ts', 'kernel'],
    ['test/apiserver/network/interop-backends.test.ts', 'apiserver'],
    ['test/hostile/policies.test.ts', 'hostile'],
    ['test/bench/sluice.test.ts', 'bench'],
  ] as const) {
    it(`of ${file} is ${tier}`, () => assert.equal(tierOf(file), tier));
  }

  it('is fast only where the file starts no program and sleeps no fixed time', () => {
    const slow = testFiles()
      .filter((file) => tierOf(file) === 'fast')
      .filter((file) => /from 'node:(?:child_process|timers\/promises|worker_threads)'/.test(readFileSync(join(ROOT, file), 'utf8')));
    assert.deepEqual(slow, []);
  });
});

describe('the arguments of a test run', () => {
  const files = ['test/kernel/agent/flows.test.ts', 'test/kernel/lab-flows.test.ts', 'test/unit/policy/ranges.test.ts'];

  it('are paths of files', () => {
    assert.deepEqual(filesNamed(['test/unit/policy/ranges.test.ts'], files), { named: [files[2]], unknown: [] });
  });

  it('are directories', () => assert.deepEqual(filesNamed(['test/kernel/', 'test/unit'], files), { named: files, unknown: [] }));

  it('are parts of names', () => assert.deepEqual(filesNamed(['flows'], files), { named: files.slice(0, 2), unknown: [] }));

  it('are unknown where nothing has such a name', () => {
    assert.deepEqual(filesNamed(['ranges', 'nothing'], files), { named: [files[2]], unknown: ['nothing'] });
  });
});

describe('a test run', () => {
  const of = (file: string, ms: number, failed = 0) => ({
    passed: 2,
    failed,
    files: [{ file, ms }],
    failures: failed > 0 ? [{ file, title: 'x' }] : [],
    skipped: [],
  });

  it('closes with its slowest files, and a plain line', () => {
    const results = together([of('a.test.ts', 1_250), of('b.test.ts', 61_000, 1)]);
    assert.deepEqual(closingLines(results), [
      'Slowest files, in seconds:',
      '   61.0  b.test.ts',
      '    1.3  a.test.ts',
      '',
      '4 passed, 1 failed',
    ]);
  });

  it('counts what was skipped', () => {
    assert.deepEqual(closingLines({ ...of('a.test.ts', 1), skipped: [{ file: 'a.test.ts', title: 'y' }] }), [
      '2 passed, 0 failed, 1 skipped',
    ]);
  });

  it('names ten files at most', () => {
    const lines = closingLines(together(Array.from({ length: 30 }, (_, index) => of(`${index}.test.ts`, index))));
    assert.equal(lines.filter((line) => line.endsWith('.test.ts')).length, 10);
    assert.equal(lines[1], '    0.0  29.test.ts');
  });
});
