import assert from 'node:assert/strict';
import { isAudited } from '../../../src/policy/mode.ts';

describe('the mode of a pod', () => {
  it('is the agent’s where that audits, and its namespace’s only where namespaces may ask', () => {
    const asked = [undefined, 'enforce', 'audit'] as const;
    const answers = (mode: 'enforce' | 'audit', namespaces: boolean): boolean[] =>
      asked.map((each) => isAudited({ mode, namespaces }, each));
    assert.deepEqual(answers('enforce', false), [false, false, false]);
    assert.deepEqual(answers('enforce', true), [false, false, true]);
    assert.deepEqual(answers('audit', false), [true, true, true]);
    assert.deepEqual(answers('audit', true), [true, true, true]);
  });
});
