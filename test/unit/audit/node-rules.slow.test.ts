/** The rules of a node as the audit commands make them: all of those that its agent comes to, also of policies that it prepares little by little. */
import assert from 'node:assert/strict';
import { rulesOfNode } from '../../../src/audit/node-rules.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';

describe('the rules of a node', () => {
  it('have what large policies admit', () => {
    const sharing = new Sharing();
    const pod = project(
      'Pod',
      { metadata: { namespace: 'shop', name: 'web' }, spec: { nodeName: 'n' }, status: { podIP: '10.244.0.2' } },
      sharing,
    ).object;
    const except = Array.from({ length: 10_000 }, (_, i) => `11.${i >> 8}.${i & 255}.1/32`);
    const ingress = [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except } }] }];
    const policy = project(
      'NetworkPolicy',
      { metadata: { namespace: 'shop', name: 'large' }, spec: { podSelector: {}, ingress } },
      sharing,
    ).object;
    assert.ok(pod !== undefined && policy !== undefined);
    const rules = rulesOfNode({ pods: [pod], namespaces: [], nodes: [], policies: [policy] }, 'n');
    const chain = [...rules.chains].find(([name]) => name === 'policy/shop/large/ingress')?.[1];
    assert.deepEqual([chain?.rules.length, [...rules.sets.values()].map(({ size }) => size)], [1, [10_001]]);
  });
});
