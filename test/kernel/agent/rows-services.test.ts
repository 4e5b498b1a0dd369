/** The rows of the semantics that are about translated addresses, on packets: Services, hairpin, masquerade. */
import { AgentLab, type Expectation } from '../support/agent-lab.ts';
import { policyObject, tcpAndUdp } from '../support/objects.ts';

/** Ports 8080 and 8081 of each lead to ports 80 and 81 of shop/server. */
const SERVICES = ['10.96.0.1', 'fd00:10:96::1'] as const;

const through = (from: string, port: number): readonly Expectation[] =>
  SERVICES.map((to) => ({ from, to, port, answeredBy: 'shop/server' }));
const allowed = (expectation: Expectation): readonly ['allowed', Expectation] => ['allowed', expectation];
const denied = (expectation: Expectation): readonly ['denied', Expectation] => ['denied', expectation];

const egress = (rules: readonly unknown[]): ReturnType<typeof policyObject> =>
  policyObject('dev', 'egress', { podSelector: { matchLabels: { app: 'client' } }, policyTypes: ['Egress'], egress: rules });
const ingress = (rules: readonly unknown[]): ReturnType<typeof policyObject> => policyObject('shop', 'ingress', { ingress: rules });

describe('translated addresses', function () {
  this.timeout(60_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'near', node: 'n1' },
        { namespace: 'dev', name: 'far', node: 'n2' },
        { namespace: 'shop', name: 'server', node: 'n1' },
      ],
      podLabels: { 'dev/near': { app: 'client' }, 'dev/far': { app: 'client' } },
    });
    for (const address of SERVICES) {
      for (const protocol of ['TCP', 'UDP'] as const) {
        for (const port of [80, 81]) await cluster.lab.addService(address, port + 8000, [{ pod: 'shop/server', port }], protocol);
      }
    }
  });

  after(() => cluster.close());

  it("row 18: egress ports are the destination pod's, not the Service's", async () => {
    const clients = ['dev/near', 'dev/far'];
    await cluster.apply(egress([{ ports: tcpAndUdp(81) }]));
    await cluster.expectAll(clients.flatMap((from) => [...through(from, 8081).map(allowed), ...through(from, 8080).map(denied)]));
    await cluster.apply(egress([{ ports: tcpAndUdp(8081) }]));
    await cluster.expectAll(clients.flatMap((from) => through(from, 8081).map(denied)));
    await cluster.remove(egress([]));
  });

  it('row 22: an ipBlock is asked after the translation: the address of a Service in it matches nothing, that of the pod does', async () => {
    const clients = ['dev/near', 'dev/far'];
    await cluster.apply(egress([{ to: ['10.96.0.0/16', 'fd00:10:96::/112'].map((cidr) => ({ ipBlock: { cidr } })) }]));
    await cluster.expectAll(clients.flatMap((from) => through(from, 8080).map(denied)));
    await cluster.apply(egress([{ to: ['10.244.0.3/32', 'fd00:10:244::3/128'].map((cidr) => ({ ipBlock: { cidr } })) }]));
    await cluster.expectAll(clients.flatMap((from) => through(from, 8080).map(allowed)));
    await cluster.remove(egress([]));
  });

  it('row 30: a pod reaches itself, also through its own Service, whatever isolates it', async () => {
    const isolated = policyObject('shop', 'isolated', { policyTypes: ['Ingress', 'Egress'] });
    await cluster.apply(isolated);
    await cluster.expectAll([
      ...through('shop/server', 8080).map(allowed),
      allowed({ from: 'shop/server', to: 'shop/server' }),
      ...through('dev/near', 8080).map(denied),
    ]);
    await cluster.remove(isolated);
  });

  it("row 31: what is masqueraded arrives with a node's address, and only an ipBlock matches it", async () => {
    await cluster.lab.exec('node/n2', ['nft', '-f', '-'], {
      input: `table inet overlay-nat {
  chain postrouting { type nat hook postrouting priority 100; policy accept;
    oifname { "flannel.1", "flannel-v6.1" } masquerade
  }
}
`,
    });
    await cluster.apply(ingress([{ from: [{ namespaceSelector: {}, podSelector: {} }] }]));
    await cluster.expectAll([denied({ from: 'dev/far', to: 'shop/server' }), allowed({ from: 'dev/near', to: 'shop/server' })]);
    await cluster.apply(ingress([{ from: ['10.244.1.0/32', 'fd00:10:244:1::/128'].map((cidr) => ({ ipBlock: { cidr } })) }]));
    await cluster.expectAll([allowed({ from: 'dev/far', to: 'shop/server' }), denied({ from: 'dev/near', to: 'shop/server' })]);
    await cluster.remove(ingress([]));
    await cluster.lab.exec('node/n2', ['nft', 'delete', 'table', 'inet', 'overlay-nat']);
  });
});
