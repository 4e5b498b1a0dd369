import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { nearest } from '../../../src/output/nearest.ts';
import { editDistance } from '../../../src/policy/edit-distance.ts';

describe('the nearest name', () => {
  it('is the one with the fewest edits', () => {
    assert.equal(nearest('dev/wbe-0', ['dev/web-1', 'dev/web-0', 'prod/web-0']), 'dev/web-0');
    assert.equal(nearest('prd', ['dev', 'prod', 'test']), 'prod');
  });

  it('is none where all are something else', () => {
    assert.equal(nearest('billing', ['dev', 'prod', 'monitoring-stack']), undefined);
    assert.equal(nearest('dev', []), undefined);
  });

  it('counts insertions, deletions and replacements', () => {
    for (const [a, b, edits] of [
      ['', 'abc', 3],
      ['kitten', 'sitting', 3],
      ['flaw', 'lawn', 2],
      ['same', 'same', 0],
    ] as const) {
      assert.equal(editDistance(a, b), edits);
      assert.equal(editDistance(b, a), edits);
    }
  });

  it('is never further than by way of a third', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '-'), maxLength: 8 });
    fc.assert(
      fc.property(text, text, text, (a, b, c) => {
        assert.ok(editDistance(a, c) <= editDistance(a, b) + editDistance(b, c));
        assert.equal(editDistance(a, b) === 0, a === b);
      }),
    );
  });
});
