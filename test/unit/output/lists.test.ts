import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { wrapList } from '../../../src/output/lists.ts';

describe('a wrapped list', () => {
  it('fills each line, and breaks after commas', () => {
    assert.deepEqual(wrapList(['one', 'two', 'three'], 9), ['one, two,', 'three']);
    assert.deepEqual(wrapList(['one', 'two', 'three'], 8), ['one,', 'two,', 'three']);
    assert.deepEqual(wrapList(['one'], 2), ['one']);
    assert.deepEqual(wrapList([], 10), ['']);
  });

  it('loses nothing, and is as wide as it may be', () => {
    const item = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(fc.array(item), fc.integer({ min: 1, max: 30 }), (items, width) => {
        const lines = wrapList(items, width);
        assert.equal(lines.join(' '), items.join(', '));
        for (const [i, line] of lines.entries()) {
          assert.ok(line.length <= width || !line.includes(' '));
          const [next] = lines[i + 1]?.split(' ') ?? [];
          if (next !== undefined) assert.ok(line.length + 1 + next.length > width, 'the next would have fitted');
        }
      }),
    );
  });
});
