/** Peers by selector: rows 4 to 11. */
import assert from 'node:assert/strict';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { allows, KEYS, labels, MODEL, namespace, only, pod, podsWith, policy } from './model.ts';

const EXTERNAL = '198.51.100.7';

/** The pods that x/a admits by these peers. */
function admitted(from: readonly unknown[], objects: Partial<typeof MODEL> = {}): string[] {
  const world = worldOf({ ...MODEL, ...objects, policies: [policy({ podSelector: only('a'), ingress: [{ from }] })] });
  assert.ok(!allows(world, EXTERNAL, 'x/a'), 'no selector matches an external address');
  assert.ok(!allows(world, '192.0.2.2', 'x/a'), 'no selector matches a node');
  return KEYS.filter((key) => key !== 'x/a' && allows(world, key, 'x/a'));
}

function codes(from: readonly unknown[]): string[][] {
  return policy({ podSelector: only('a'), ingress: [{ from }] }).problems.map(({ path, code }) => [path, code]);
}

function expression(key: string, operator: string, ...values: readonly string[]): object {
  return { matchExpressions: [values.length === 0 ? { key, operator } : { key, operator, values }] };
}

describe('peers', () => {
  it('row 4: an empty peer matches nothing', () => {
    for (const empty of [{}, { podSelector: null }, { podSelector: null, namespaceSelector: null, ipBlock: null }]) {
      assert.deepEqual(admitted([empty]), []);
      assert.deepEqual(codes([empty]), [['spec.ingress[0].from[0]', 'PEER_EMPTY']]);
    }
  });

  it('row 4: the peers beside an empty one still match', () => {
    assert.deepEqual(admitted([{}, { podSelector: only('b') }]), ['x/b']);
  });

  it('row 5: podSelector {} alone is the own namespace only', () => {
    assert.deepEqual(admitted([{ podSelector: {} }]), ['x/b', 'x/c']);
  });

  it('row 6: namespaceSelector {} is every pod of every namespace, and nothing external', () => {
    assert.deepEqual(
      admitted([{ namespaceSelector: {} }]),
      KEYS.filter((key) => key !== 'x/a'),
    );
  });

  it('row 7: both selectors in one peer have to match', () => {
    assert.deepEqual(admitted([{ namespaceSelector: { matchLabels: { ns: 'y' } }, podSelector: only('b') }]), ['y/b']);
  });

  it('row 7: of two peers either will do', () => {
    assert.deepEqual(admitted([{ namespaceSelector: { matchLabels: { ns: 'y' } } }, { podSelector: only('b') }]), [
      'x/b',
      'y/a',
      'y/b',
      'y/c',
    ]);
  });

  it('row 8: NotIn and DoesNotExist match what lacks the key', () => {
    const pods = podsWith(pod('x/b', { labels: labels({ tier: 'db' }) }), pod('x/c', { labels: labels({}) }));
    assert.deepEqual(admitted([{ podSelector: expression('tier', 'NotIn', 'db') }], { pods }), ['x/c']);
    assert.deepEqual(admitted([{ podSelector: expression('tier', 'DoesNotExist') }], { pods }), ['x/c']);
    assert.deepEqual(admitted([{ podSelector: expression('tier', 'Exists') }], { pods }), ['x/b']);
    const namespaces = [namespace('x'), namespace('y', { team: 'red' }), namespace('z')];
    assert.deepEqual(admitted([{ namespaceSelector: expression('team', 'NotIn', 'red'), podSelector: only('b') }], { namespaces }), [
      'x/b',
      'z/b',
    ]);
  });

  it('row 9: with a namespaceSelector, pods are looked for in the selected namespaces', () => {
    assert.deepEqual(admitted([{ namespaceSelector: { matchLabels: { ns: 'z' } }, podSelector: {} }]), ['z/a', 'z/b', 'z/c']);
  });

  it('row 10: an empty value needs the key to be there, and empty', () => {
    const pods = podsWith(
      pod('x/b', { labels: labels({ k: '' }) }),
      pod('x/c', { labels: labels({ k: 'v' }) }),
      pod('y/a', { labels: labels({}) }),
    );
    assert.deepEqual(admitted([{ namespaceSelector: {}, podSelector: { matchLabels: { k: '' } } }], { pods }), ['x/b']);
  });

  it('row 11: a selector that cannot be read matches nothing, and the pod stays isolated', () => {
    const broken = expression('pod', 'Like', 'b');
    const at = 'spec.ingress[0].from[0].podSelector.matchExpressions[0].operator';
    assert.deepEqual(admitted([{ podSelector: broken }]), []);
    assert.deepEqual(codes([{ podSelector: broken }]), [[at, 'SELECTOR_OPERATOR_UNKNOWN']]);
    assert.deepEqual(admitted([{ podSelector: broken }, { podSelector: only('c') }]), ['x/c']);
    assert.deepEqual(admitted([{ podSelector: broken, namespaceSelector: {} }]), []);
    assert.deepEqual(admitted([{ podSelector: {}, namespaceSelector: broken }]), []);
  });

  it('row 11: a CIDR that cannot be read matches nothing, and the pod stays isolated', () => {
    assert.deepEqual(admitted([{ ipBlock: { cidr: '10.0.0.0' } }]), []);
    assert.deepEqual(codes([{ ipBlock: { cidr: '10.0.0.0' } }]), [['spec.ingress[0].from[0].ipBlock.cidr', 'CIDR_INVALID']]);
    assert.deepEqual(admitted([{ ipBlock: { cidr: '10.0.0.0/33' } }, { podSelector: only('c') }]), ['x/c']);
  });

  it('a namespace without an object has its name as a label, and no other', () => {
    const named = { matchLabels: { 'kubernetes.io/metadata.name': 'z' } };
    const namespaces = [namespace('x'), namespace('y')];
    assert.deepEqual(admitted([{ namespaceSelector: named }], { namespaces }), ['z/a', 'z/b', 'z/c']);
    assert.deepEqual(admitted([{ namespaceSelector: { matchLabels: { ns: 'z' } } }], { namespaces }), []);
  });

  it('the admitting policy, rule, peer and port are named by their places', () => {
    const rules = [
      { from: [{ podSelector: only('c') }] },
      { from: [{}, { podSelector: only('b') }], ports: [{ protocol: 'x' }, { port: 80 }] },
    ];
    const deny = policy({ podSelector: {} }, 'a-deny');
    const allow = policy({ podSelector: only('a'), ingress: rules }, 'b-allow');
    const world = worldOf({ ...MODEL, policies: [allow, deny] });
    const question = { source: MODEL.pods[1]?.addresses[0] ?? assert.fail(), destination: MODEL.pods[0]?.addresses[0] ?? assert.fail() };
    const verdict = evaluate(world, { ...question, protocol: 'TCP', port: 80 });
    assert.deepEqual(verdict.ingress, { allowed: true, reason: 'admitted', policy: allow, rule: 1, peer: 1, port: 1 });
    const refused = evaluate(world, { ...question, protocol: 'TCP', port: 81 });
    assert.deepEqual(refused.ingress, { allowed: false, reason: 'refused', policies: [deny, allow] });
  });
});
