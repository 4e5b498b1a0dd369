import assert from 'node:assert/strict';
import { plain } from '../../../src/output/colour.ts';
import { formatProblem } from '../../../src/output/problems.ts';

describe('a printed problem', () => {
  const problem = { severity: 'error', path: 'spec.ports[0]', code: 'PORT_INVALID', message: 'no port' } as const;

  it('begins with a place that editors can jump to', () => {
    assert.equal(
      formatProblem({ ...problem, origin: 'sub/a.yaml#2', line: 14, object: 'NetworkPolicy dev/p' }, plain),
      'sub/a.yaml:14: error: NetworkPolicy dev/p: spec.ports[0]: no port [PORT_INVALID]',
    );
  });

  it('does not let a terminal act on names of files and of fields', () => {
    assert.equal(
      formatProblem({ ...problem, origin: 'a\u001b[2J.yaml', path: 'metadata.labels[\u001b[31m]' }, plain),
      'a\\u001b[2J.yaml: error: metadata.labels[\\u001b[31m]: no port [PORT_INVALID]',
    );
  });

  it('leaves out what is not known', () => {
    assert.equal(formatProblem({ ...problem, origin: 'a.yaml#2', path: '' }, plain), 'a.yaml#2: error: no port [PORT_INVALID]');
  });
});
