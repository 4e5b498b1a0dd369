import assert from 'node:assert/strict';
import { CODES, LINT_CODES } from '../../../../src/policy/lint/codes.ts';
import { CHECKS, lint } from '../../../../src/policy/lint/lint.ts';
import { inputOf, policies } from './shop.ts';

describe('the codes of lint', () => {
  for (const code of LINT_CODES) {
    const { example, instead } = CODES[code];

    it(`${code} is found in its example, and not in what is to be written instead`, () => {
      const of = (text: string): string[] =>
        lint(inputOf(policies(text))).findings.map(({ code, path, message }) => `${code} ${path} ${message}`);
      assert.ok(
        of(example).some((line) => line.startsWith(`${code} `)),
        `not in the example, where there is\n${of(example).join('\n')}`,
      );
      // Others of shop are left open on purpose.
      const left = of(instead).filter((line) => line.startsWith(`${code} `) && !/^PODS_NOT_ISOLATED .*(?:prometheus|coredns)/u.test(line));
      assert.deepEqual(left, []);
    });
  }

  it('are all found by some check, and checks find no others', () => {
    assert.deepEqual([...new Set(CHECKS.flatMap(({ codes }) => codes))].sort(), [...LINT_CODES].sort());
  });

  it('are explained in sentences, in a line where it is a list', () => {
    for (const code of LINT_CODES) {
      const { summary, meaning } = CODES[code];
      assert.match(summary, /^[^\n]{8,80}[^\n.]$/u, code);
      assert.match(meaning, /^\S.*\.$/u, code);
    }
  });
});
