import assert from 'node:assert/strict';
import type { ApiCall } from '../../../src/kubernetes/api/client.ts';
import { PolicyEvents, speaker } from '../../../src/observability/policy-events.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { Pod } from '../../../src/policy/objects.ts';
import type { SourceEvent, SourceProblem } from '../../../src/sources/source.ts';
import { eventually } from '../../kernel/support/eventually.ts';

const NODE_HERE = {
  type: 'upsert',
  kind: 'Node',
  key: 'here',
  object: { name: 'here', addresses: [], podCIDRs: [] },
} satisfies SourceEvent;

function fault(path: string): SourceProblem {
  return { severity: 'error', origin: 'NetworkPolicy x/p', path, code: 'CIDR_INVALID', message: 'is no CIDR' };
}

describe('Events about policies', () => {
  it('have one speaker for each policy, who changes for few when a node comes', () => {
    const nodes = Array.from({ length: 20 }, (_, index) => `node-${index}`);
    const policies = Array.from({ length: 500 }, (_, index) => `shop/policy-${index}`);
    const before = policies.map((policy) => speaker(policy, nodes));
    assert.deepEqual(new Set(before), new Set(nodes), 'all of them speak for some');
    const after = policies.map((policy) => speaker(policy, [...nodes.toReversed(), 'node-20']));
    const moved = after.filter((node, index) => node !== before[index]);
    assert.ok(moved.length < 60 && moved.every((node) => node === 'node-20'), `${moved.length} of 500`);
  });

  it('tell of a named port that nobody declares, once it has been found twice', async () => {
    const calls: ApiCall[] = [];
    const events = new PolicyEvents({
      client: { call: async (call) => (calls.push(call), { status: 201, object: {} }) },
      node: 'here',
      reviewMs: 10,
      onError: (error) => assert.fail(String(error)),
    });
    events.events([NODE_HERE, { type: 'synced' }]);
    const policy = interpretPolicy('x', 'p', { podSelector: {}, ingress: [{ ports: [{ port: 'http' }] }] });
    const web: Pod = {
      namespace: 'x',
      name: 'web',
      uid: '',
      node: '',
      labels: new Map(),
      addresses: [],
      hostNetwork: false,
      terminal: false,
      createdAt: 0,
      ports: [],
      declaredPorts: [],
    };
    let looks = 0;
    events.review(() => {
      looks++;
      return [{ policy, pods: [web], podCount: 1 }];
    });
    await eventually(() => calls.length > 0, 'it is told');
    assert.ok(looks >= 2);
    await eventually(() => looks >= 6, 'some more looks');
    events.stop();
    assert.equal(calls.length, 1);
    const [call = assert.fail('nothing was told')] = calls;
    const { reason, type, message } = call.body as { reason: string; type: string; message: string };
    assert.deepEqual([reason, type], ['PortNameUndeclared', 'Warning']);
    assert.match(message, /^spec\.ingress\[0\]\.ports\[0\]\.port: no container of a pod that the policy selects declares/);
  });

  it('takes turns between namespaces once there are more than are told at once', async () => {
    const told: string[] = [];
    const events = new PolicyEvents({
      client: { call: async ({ path }) => (told.push(path.split('/')[4] ?? ''), { status: 201, object: {} }) },
      node: 'here',
      pauseMs: 5,
      onError: (error) => assert.fail(String(error)),
    });
    events.events([NODE_HERE, { type: 'synced' }]);
    for (let index = 0; index < 5_000; index++) events.problems(`NetworkPolicy loud/p${index}`, [fault(`spec.ingress[${index}]`)]);
    events.problems('NetworkPolicy quiet/p', [fault('spec.ingress[0]')]);
    await eventually(() => told.includes('quiet'), 'the quiet one is told');
    events.stop();
    assert.ok(told.length < 20, `${told.length} were told before`);
  });

  it('come ten at once, and then one after the other, each once', async () => {
    const calls: { readonly at: number; readonly call: ApiCall }[] = [];
    const events = new PolicyEvents({
      client: { call: async (call) => (calls.push({ at: performance.now(), call }), { status: 201, object: {} }) },
      node: 'here',
      pauseMs: 50,
      onError: (error) => assert.fail(String(error)),
    });
    events.problems(
      'NetworkPolicy x/p',
      Array.from({ length: 13 }, (_, index) => fault(`spec.ingress[${index}]`)),
    );
    events.problems('Pod x/p', [fault('status')]);
    assert.equal(calls.length, 0, 'nobody knows yet who speaks');
    events.events([NODE_HERE, { type: 'synced' }]);
    events.problems('NetworkPolicy x/p', [fault('spec.ingress[0]'), fault('spec.ingress[13]')]);
    await eventually(() => calls.length === 14, 'all are told');
    events.stop();
    const paths = calls.map(({ call }) => (call.body as { message: string }).message.split(':')[0]);
    assert.equal(new Set(paths).size, 14);
    assert.ok((calls[13]?.at ?? 0) - (calls[9]?.at ?? 0) >= 100, 'not all at once');
  });
});
