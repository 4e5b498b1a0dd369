import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { LineSplitter } from '../../../../src/kubernetes/api/lines.ts';

describe('a stream of bytes', () => {
  it('gives the same lines wherever it is cut, also within a character', () => {
    const line = fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', ''));
    fc.assert(
      fc.property(fc.array(line), fc.infiniteStream(fc.integer({ min: 1, max: 7 })), (lines, cuts) => {
        const bytes = Buffer.from(lines.map((each) => `${each}\n`).join(''));
        const splitter = new LineSplitter();
        const found: string[] = [];
        for (let start = 0; start < bytes.length; ) {
          const end = start + (cuts.next().value ?? 1);
          found.push(...splitter.push(bytes.subarray(start, end)));
          start = end;
        }
        // What is no text (half a surrogate pair) is the same after going through bytes.
        const wanted = Buffer.from(lines.filter((each) => each !== '').join('\n')).toString();
        assert.equal(found.join('\n'), wanted);
        assert.equal(splitter.pending, 0);
      }),
    );
  });

  it('that ends within a line has it pending', () => {
    const splitter = new LineSplitter();
    assert.deepEqual([...splitter.push(Buffer.from('one\ntw'))], ['one']);
    assert.equal(splitter.pending, 2);
    assert.deepEqual([...splitter.push(Buffer.from('o\n'))], ['two']);
  });
});
