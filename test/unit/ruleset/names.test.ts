import assert from 'node:assert/strict';
import { podChainName, policyChainName } from '../../../src/ruleset/names.ts';

describe('names of chains', () => {
  it('say whose they are', () => {
    assert.equal(podChainName('ingress', 'shop', 'web-7d9f'), 'ingress/shop/web-7d9f');
    assert.equal(policyChainName('shop', 'allow-web.v1', 'egress'), 'policy/shop/allow-web.v1/egress');
  });

  it('are of each object alone, however long, and however named to look like another’s', () => {
    const long = podChainName('ingress', 'team', 'a'.repeat(240));
    assert.ok(long.length <= 200);
    const lookalike = long.slice('ingress/team/'.length);
    const names = [
      long,
      podChainName('ingress', 'team', lookalike),
      podChainName('ingress', 'team', lookalike.replace('_', '.')),
      podChainName('ingress', 'team', 'a'.repeat(241)),
      podChainName('ingress', 'team', 'a_b'),
      podChainName('ingress', 'team', 'a.b'),
      podChainName('ingress', 'team', 'ä'),
      podChainName('ingress', 'team', 'ö'),
    ];
    assert.equal(new Set(names).size, names.length);
    for (const name of names) assert.match(name, /^[A-Za-z0-9_./-]{1,200}$/);
  });
});
