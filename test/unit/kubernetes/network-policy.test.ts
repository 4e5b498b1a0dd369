import assert from 'node:assert/strict';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';

describe('a NetworkPolicy of the API', () => {
  it('is read by what its spec means, under its own name', () => {
    const { object, key } = project('NetworkPolicy', { metadata: { name: 'deny', namespace: 'dev' }, spec: {} }, new Sharing());
    assert.equal(key, 'dev/deny');
    assert.deepEqual([object?.namespace, object?.name, object?.ingress, object?.egress], ['dev', 'deny', [], undefined]);
  });

  it('stands with the parts that can be read, and says what is wrong with the others', () => {
    const spec = { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/40' } }] }] };
    const { object, problems } = project('NetworkPolicy', { metadata: { name: 'p' }, spec }, new Sharing());
    assert.deepEqual(object?.ingress?.[0]?.peers?.[0]?.kind, 'nothing');
    assert.deepEqual(
      problems.map(({ path, code }) => `${path} ${code}`),
      ['spec.ingress[0].from[0].ipBlock.cidr CIDR_INVALID'],
    );
  });

  it('is refused, and known by its name, where its spec is no object', () => {
    const { object, key, problems } = project('NetworkPolicy', { metadata: { name: 'p' }, spec: 'deny' }, new Sharing());
    assert.deepEqual([object, key, problems[0]?.path, problems[0]?.code], [undefined, 'default/p', 'spec', 'TYPE_INVALID']);
  });
});
