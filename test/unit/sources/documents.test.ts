import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { readDocuments } from '../../../src/sources/documents.ts';

function values(text: string): unknown[] {
  return readDocuments(text).map(({ value, errors }) => (errors.length > 0 ? `line ${errors[0]?.line}` : value));
}

describe('the documents of a manifest file', () => {
  it('are none in a file of blanks and comments', () => {
    for (const text of ['', '\n\n', '# nothing here\n', '\uFEFF']) assert.deepEqual(values(text), []);
  });

  it('are split at ---, and those without content are null', () => {
    assert.deepEqual(values('---\na: 1\n---\n---\n# only this\n---\nb: 2\n...\n'), [{ a: 1 }, null, null, { b: 2 }]);
  });

  // What kubectl makes of each: its parser is YAML 1.1 without timestamps and sexagesimal numbers.
  const scalars: [string, unknown][] = [
    ['y', true],
    ['Yes', true],
    ['on', true],
    ['n', false],
    ['off', false],
    ['~', null],
    ['', null],
    ['0100', 64],
    ['0x10', 16],
    ['1_000', 1000],
    ['1:20', '1:20'],
    ['2024-01-01', '2024-01-01'],
    ['2024-01-01T00:00:00Z', '2024-01-01T00:00:00Z'],
    ['"y"', 'y'],
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['.nan', null],
  ];
  for (const [text, value] of scalars) {
    it(`read ${text === '' ? 'nothing' : text} as ${JSON.stringify(value)}, as Kubernetes does`, () => {
      assert.deepEqual(values(`a: ${text}\n`), [{ a: value }]);
    });
  }

  it('may use anchors, aliases and merge keys', () => {
    assert.deepEqual(values('a: &x {p: 1}\nb: *x\nc: {<<: *x, q: 2}\n'), [{ a: { p: 1 }, b: { p: 1 }, c: { p: 1, q: 2 } }]);
  });

  const broken: [string, string, number][] = [
    ['an unclosed list (noticed where it should have ended)', 'a: 1\nb: [1\n', 3],
    ['a key that stands twice', 'a: 1\nb: 1\na: 2\n', 3],
    ['an alias without anchor', 'a: *x\n', 1],
    ['an alias that contains itself', 'a: &x {b: *x}\n', 1],
    ['a tab as indentation', 'a:\n\tb: 1\n', 2],
  ];
  for (const [what, text, line] of broken) {
    it(`with ${what} are faulty at that line, and leave the others be`, () => {
      assert.deepEqual(values(`${text}---\nc: 3\n`), [`line ${line}`, { c: 3 }]);
    });
  }

  it('with aliases of aliases of aliases do not exhaust the memory', () => {
    const levels = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(', ')}]`);
    assert.deepEqual(values(`a0: &a0 [x]\n${levels.join('\n')}\n`), ['line 1']);
  });

  it('nested without end are faulty, and do not overflow the stack', () => {
    const [open, close] = ['['.repeat(20_000), ']'.repeat(20_000)];
    for (const text of [open, `{"a":${open}`, `a: ${open}${close}`]) {
      const [document] = readDocuments(text);
      assert.ok(document !== undefined && document.errors.length > 0);
    }
  });

  it('may be JSON, which says where it is broken as well', () => {
    assert.deepEqual(values('{"a": [1, 2, {"y": true}]}\n'), [{ a: [1, 2, { y: true }] }]);
    assert.deepEqual(values('{"a": 1,\n "b": [1\n}\n'), ['line 3']);
  });

  describe('know the line of a field', () => {
    const yaml =
      'metadata:\n  labels:\n    app.kubernetes.io/name: web\nspec:\n  ingress:\n    - from:\n        - podSelector: {}\n        -\n          ipBlock:\n            cidr: x\n';
    for (const [path, line] of Object.entries({
      '': 1,
      metadata: 1,
      'metadata.labels[app.kubernetes.io/name]': 3,
      'spec.ingress[0]': 6,
      'spec.ingress[0].from[1].ipBlock.cidr': 10,
      'spec.ingress[0].from[1].ipBlock.except[2]': 9,
      'spec.ingress[7].ports': 5,
    })) {
      it(`${path === '' ? '(the object itself)' : path}, or of the deepest part that is there`, () => {
        assert.equal(readDocuments(`# a comment\n---\n${yaml}`)[0]?.line(path), line + 2);
      });
    }

    it('in any JSON text, read as JSON or as YAML', () => {
      // Every leaf is a text of its own, on a line of its own: where it stands, the text itself tells.
      const key = fc.string({ unit: fc.constantFrom('a', '"', '\\', '{', ' ', ':', 'é'), minLength: 1, maxLength: 3 });
      const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
        tree: fc.oneof(
          { maxDepth: 4 },
          fc.constant('leaf'),
          fc.array(tie('tree'), { minLength: 1, maxLength: 3 }),
          fc.dictionary(key, tie('tree'), { minKeys: 1, maxKeys: 3 }),
        ),
      }));
      fc.assert(
        fc.property(fc.dictionary(key, tree, { minKeys: 1, maxKeys: 3 }), (object) => {
          const paths: string[] = [];
          const number = (value: unknown, path: string): unknown => {
            if (typeof value === 'string') return `leaf ${paths.push(path)};`;
            if (Array.isArray(value)) return value.map((item: unknown, i) => number(item, `${path}[${i}]`));
            return Object.fromEntries(Object.entries(value as object).map(([name, item]) => [name, number(item, `${path}[${name}]`)]));
          };
          const json = JSON.stringify(number(object, ''), null, 2);
          for (const text of [json, `# not JSON\n${json}`]) {
            const lines = text.split('\n');
            const [document] = readDocuments(text);
            for (const [i, path] of paths.entries()) {
              assert.equal(document?.line(path), lines.findIndex((line) => line.includes(`leaf ${i + 1};`)) + 1, path);
            }
          }
        }),
        { numRuns: 200 },
      );
    });
  });
});
