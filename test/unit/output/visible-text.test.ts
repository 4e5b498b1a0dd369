import assert from 'node:assert/strict';
import { visible, visibleDocument } from '../../../src/output/visible-text.ts';

describe('text of somebody else', () => {
  it('has escapes in place of what a terminal would act on, and is otherwise as it was', () => {
    assert.equal(visible('a\u001b[31mred\u009b0m\u007f\r\t\u202eb'), 'a\\u001b[31mred\\u009b0m\\u007f\\u000d\\u0009\\u202eb');
    assert.equal(visible('line\nline, Größe, 名前'), 'line\nline, Größe, 名前');
  });

  it('is so in every text of a document', () => {
    assert.deepEqual(visibleDocument({ a: ['\u001b', { b: '\u0007', c: 1, d: null, e: true }] }), {
      a: ['\\u001b', { b: '\\u0007', c: 1, d: null, e: true }],
    });
  });
});
