/** Whoever claims the address of an isolated pod, from wherever and of whatever date, does not open it (row 40). */
import { formatAddress } from '../../../src/policy/address.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { policyObject } from '../support/objects.ts';

describe('the address of an isolated pod', function () {
  this.timeout(60_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'shop', name: 'client', node: 'n1' },
        { namespace: 'shop', name: 'victim', node: 'n1' },
      ],
      podLabels: { 'shop/victim': { app: 'victim' } },
      objects: [
        policyObject('shop', 'closed', { podSelector: { matchLabels: { app: 'victim' } } }),
        // What isolates the thief admits everybody.
        policyObject('tenant', 'open', { podSelector: {}, ingress: [{}] }),
      ],
    });
    await cluster.expect('denied', flow);
  });
  after(() => cluster.close());

  const flow = { from: 'shop/client', to: 'shop/victim' } as const;

  function thief(name: string, node: string) {
    const addresses = cluster.lab.addresses('shop/victim').map(formatAddress);
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'tenant', name, uid: `0-${name}`, creationTimestamp: '2099-01-01T00:00:00Z' },
      spec: { ...(node === '' ? {} : { nodeName: node }), containers: [] },
      status: { phase: 'Running', podIPs: addresses.map((ip) => ({ ip })) },
    };
  }

  for (const [what, node] of [
    ['a pod of another node', 'n2'],
    ['a pod of a node that nobody knows', 'n9'],
    ['a pod of no node', ''],
    ['a pod of its own node', 'n1'],
  ] as const) {
    it(`is not opened by ${what}`, async () => {
      await cluster.apply(thief('thief', node));
      await cluster.expect('denied', flow);
      await cluster.remove(thief('thief', node));
      await cluster.expect('denied', flow);
    });
  }
});
