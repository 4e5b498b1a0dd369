/** What was wrong with policies when they were read (src/policy/problems.ts), as findings. */
import { PROBLEMS, type ProblemCode } from '../problems.ts';
import { isLintCode, isProblemCode, REMEDIES } from './codes.ts';
import { type Finding, finding } from './finding.ts';
import type { Check } from './input.ts';

export const interpretation: Check = {
  codes: Object.keys(PROBLEMS) as ProblemCode[],
  *run({ policies }): Iterable<Finding> {
    for (const policy of policies) {
      for (const { code, path, message } of policy.problems) {
        if (isLintCode(code) && isProblemCode(code)) yield finding(code, policy, path, message, REMEDIES[code]);
      }
    }
  },
};
