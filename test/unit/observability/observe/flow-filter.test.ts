import assert from 'node:assert/strict';
import { FlowFilter } from '../../../../src/observability/observe/flow-filter.ts';
import type { ObserveRequest } from '../../../../src/observability/observed-flow.ts';
import { deniedFlow } from './flows.ts';

function filter(fields: ObserveRequest['filter']): FlowFilter {
  const read = FlowFilter.read(fields);
  assert.ok(read instanceof FlowFilter);
  return read;
}

/** y/b (10.244.2.11) to TCP port 80 of x/a (10.244.1.10), refused for ingress. */
const flow = deniedFlow({ port: 80, at: 1 });

describe('a filter of flows', () => {
  const cases: readonly (readonly [ObserveRequest['filter'], boolean])[] = [
    [{}, true],
    [{ namespaces: ['x'] }, true],
    [{ namespaces: ['y'] }, true],
    [{ namespaces: ['z'] }, false],
    [{ namespaces: ['z', 'x'] }, true],
    [{ pods: ['x/a'] }, true],
    [{ pods: ['x/b'] }, false],
    [{ from: ['y/b'] }, true],
    [{ from: ['y'] }, true],
    [{ from: ['y/*'] }, true],
    [{ from: ['x'] }, false],
    [{ from: ['10.244.2.11'] }, true],
    [{ from: ['10.244.2.0/24'] }, true],
    [{ from: ['10.244.3.0/24'] }, false],
    [{ from: ['fd00::/8'] }, false],
    [{ from: ['z', '0.0.0.0/0'] }, true],
    [{ to: ['x/a'] }, true],
    [{ to: ['y/b'] }, false],
    [{ from: ['y'], to: ['x'] }, true],
    [{ from: ['y'], to: ['z'] }, false],
    [{ ports: [{ port: 80 }] }, true],
    [{ ports: [{ port: 80, protocol: 'TCP' }] }, true],
    [{ ports: [{ port: 80, protocol: 'UDP' }] }, false],
    [{ ports: [{ port: 81 }, { port: 80 }] }, true],
    [{ ports: [{ port: 40_000 }] }, false],
    [{ direction: 'ingress' }, true],
    [{ direction: 'egress' }, false],
  ];
  for (const [fields, wanted] of cases) {
    it(`${JSON.stringify(fields)} ${wanted ? 'wants' : 'does not want'} it`, () => assert.equal(filter(fields).wants(flow), wanted));
  }

  it('says what it names, and what cannot be a name', () => {
    assert.deepEqual(filter({ namespaces: ['a'], pods: ['b/c'], from: ['d/*', '10.0.0.1'], to: ['::/0', 'e'] }).names, [
      { kind: 'namespace', namespace: 'a' },
      { kind: 'pod', namespace: 'b', pod: 'c' },
      { kind: 'namespace', namespace: 'd' },
      { kind: 'namespace', namespace: 'e' },
    ]);
    for (const text of ['', 'a/b/c', '10.0.0.300', '10.0.0.1/8', 'A', '*', '/x'])
      assert.deepEqual(FlowFilter.read({ to: [text] }), { unreadable: text });
  });

  it('counts what was not shown for those it may be about', () => {
    const may = (fields: ObserveRequest['filter']): boolean[] => [
      filter(fields).mayWant('ingress', 'x/a'),
      filter(fields).mayWant('egress', 'x/a'),
    ];
    assert.deepEqual(may({}), [true, true]);
    assert.deepEqual(may({ direction: 'egress' }), [false, true]);
    assert.deepEqual(may({ namespaces: ['y'] }), [false, false]);
    assert.deepEqual(may({ pods: ['x/b'] }), [false, false]);
    assert.deepEqual(may({ to: ['x/a'] }), [true, true]);
    assert.deepEqual(may({ to: ['y'] }), [false, true]);
    assert.deepEqual(may({ from: ['y'] }), [true, false]);
    assert.deepEqual(may({ from: ['10.0.0.0/8'] }), [true, true]);
  });
});
