import assert from 'node:assert/strict';
import type { AtHand } from '../../../src/audit/at-hand.ts';
import { explain } from '../../../src/commands/explain.ts';
import { ExplainDocument } from '../../../src/commands/explain-document.ts';
import { explainTable } from '../../../src/commands/explain-table.ts';
import { SluiceError } from '../../../src/errors.ts';
import { plain } from '../../../src/output/colour.ts';
import { inventory } from '../audit/inventory-of.ts';

const OBJECTS = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { team: shop } }
---
apiVersion: v1
kind: Namespace
metadata: { name: ops, labels: { team: opps } }
---
apiVersion: v1
kind: Node
metadata: { name: node-a }
spec: { podCIDRs: [10.244.1.0/24] }
status: { addresses: [{ type: InternalIP, address: 192.168.0.1 }] }
---
apiVersion: v1
kind: Node
metadata: { name: node-b }
spec: { podCIDRs: [10.244.2.0/24] }
status: { addresses: [{ type: InternalIP, address: 192.168.0.2 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-1, namespace: shop, labels: { app: front-end } }
spec: { nodeName: node-a, containers: [{ ports: [{ name: http, containerPort: 8080 }] }] }
status: { phase: Running, podIPs: [{ ip: 10.244.1.5 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-2, namespace: shop, labels: { app: front-end } }
spec: { nodeName: node-b, containers: [{ ports: [{ name: http, containerPort: 8080 }] }] }
status: { phase: Running, podIPs: [{ ip: 10.244.2.5 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: db-0, namespace: shop, labels: { app: db } }
spec: { nodeName: node-b, containers: [{ ports: [{ name: pg, containerPort: 5432 }, { containerPort: 53, protocol: UDP }] }] }
status: { phase: Running, podIPs: [{ ip: 10.244.2.7 }, { ip: "fd00:2::7" }] }
---
apiVersion: v1
kind: Pod
metadata: { name: starting, namespace: shop, labels: { app: db } }
spec: { containers: [{}] }
---
apiVersion: v1
kind: Pod
metadata: { name: done, namespace: shop }
spec: { containers: [{}] }
status: { phase: Succeeded, podIPs: [{ ip: 10.244.2.99 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: probe, namespace: ops, labels: { app: probe } }
spec: { nodeName: node-a, containers: [{}] }
status: { phase: Running, podIPs: [{ ip: 10.244.1.9 }, { ip: "fd00:1::9" }] }
---
apiVersion: v1
kind: Pod
metadata: { name: agent, namespace: ops }
spec: { nodeName: node-a, hostNetwork: true, containers: [{}] }
status: { phase: Running, podIPs: [{ ip: 192.168.0.1 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: six, namespace: ops }
spec: { nodeName: node-a, containers: [{ ports: [{ containerPort: 80 }] }] }
status: { phase: Running, podIPs: [{ ip: "fd00:1::6" }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { clusterIP: 10.96.0.10, selector: { app: front-end }, ports: [{ name: http, port: 80, targetPort: http }] }
---
apiVersion: v1
kind: Service
metadata: { name: nobody, namespace: shop }
spec: { clusterIP: 10.96.0.11, selector: { app: nobody }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: elsewhere, namespace: shop }
spec: { type: ExternalName, externalName: db.example.com, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: headless, namespace: shop }
spec: { clusterIP: None, selector: { app: front-end }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec: { selector: { matchLabels: { app: front-end } }, template: { metadata: { labels: { app: front-end } }, spec: { containers: [{}] } } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: idle, namespace: shop }
spec: { selector: { matchLabels: { app: idle } }, template: { metadata: { labels: { app: idle } }, spec: { containers: [{}] } } }
`;

/** The first line of the policy is line 1 of what it is appended to. */
const LINES = OBJECTS.split('\n').length;

const DB = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: db-from-frontend, namespace: shop }
spec:
  podSelector: { matchLabels: { app: db } }
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app: frontend
        - ipBlock:
            cidr: 10.0.0.0/8
            except: [10.244.0.0/16]
      ports:
        - port: pg
`;
const DENY = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: default-deny, namespace: shop }
spec:
  podSelector: {}
`;
const WEB = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: shop }
spec:
  podSelector: { matchLabels: { app: front-end } }
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{ namespaceSelector: { matchLabels: { team: ops } } }]
      ports: [{ port: 8080 }]
    - from: [{ podSelector: {} }]
  egress:
    - to: [{ podSelector: { matchLabels: { app: db } } }]
`;

const NOWHERE: AtHand = {
  node: undefined,
  saidBy: 'nothing',
  status: undefined,
  readTable: () => undefined,
  readBridges: () => undefined,
  readBypasses: () => [],
};

async function document(policies: string, source: string, destination: string, suggest = false): Promise<ExplainDocument> {
  const flags = { namespace: 'shop', ...(suggest ? { suggest } : {}) };
  const answer = await explain(inventory(OBJECTS + policies), source, destination, flags, NOWHERE);
  // What is printed is what the schema says, with nothing beside it.
  assert.deepEqual(ExplainDocument.parse(answer), answer);
  return answer;
}

async function text(policies: string, source: string, destination: string, width = 100): Promise<string> {
  const lines = [...explainTable(await document(policies, source, destination), plain, width)];
  for (const line of lines) assert.equal(line, line.trimEnd());
  return `\n${lines.join('\n').trimEnd()}\n`;
}

describe('sluice explain, for people', () => {
  it('names every policy that isolates, and what comes nearest, with its line', async () => {
    assert.equal(
      await text(DB + DENY, 'shop/web-1', 'shop/db-0:5432'),
      `
shop/web-1 (10.244.1.5)  ->  shop/db-0 (10.244.2.7)  TCP 5432   refused
  egress   allowed  no policy isolates shop/web-1 for egress
  ingress  refused  isolated by shop/db-from-frontend, shop/default-deny
           nearest  shop/db-from-frontend ingress[0].from[0]: wants app=frontend; the source has
                    app=front-end (1 edit away)
                    cluster.yaml:${LINES + 8}
                      - podSelector:
                          matchLabels:
                            app: frontend
`,
    );
  });

  it('asks about each port that the destination declares, and unites what has the same answer', async () => {
    assert.equal(
      await text(DENY, 'web-1', 'db-0'),
      `
shop/web-1 (10.244.1.5)  ->  shop/db-0 (10.244.2.7)  TCP 5432   refused
  egress   allowed  no policy isolates shop/web-1 for egress
  ingress  refused  isolated by shop/default-deny
           nearest  shop/default-deny has no ingress rules: it admits nothing
                    cluster.yaml:${LINES + 4}

shop/web-1 (10.244.1.5)  ->  shop/db-0 (10.244.2.7)  UDP 53   refused
  egress   allowed  no policy isolates shop/web-1 for egress
  ingress  refused  isolated by shop/default-deny
           nearest  shop/default-deny has no ingress rules: it admits nothing
                    cluster.yaml:${LINES + 4}

2 kinds of flow: 0 allowed, 2 refused
`,
    );
  });

  it('names the rule that admits, in both directions, and of a Service the endpoints and their port', async () => {
    assert.equal(
      await text(WEB, 'deploy/web', 'svc/web'),
      `
shop/deployment/web: 2 pods (web-1, web-2)
  ->  shop/svc/web: 2 pods (web-1, web-2)
  TCP 80 (to 8080)   refused
  egress   refused  isolated by shop/web
           nearest  shop/web egress[0].to[0]: wants app=db; the destination has app=front-end
                    cluster.yaml:${LINES + 12}
                      - podSelector:
                          matchLabels:
                            app: db
  ingress  allowed  by shop/web ingress[1].from[0] (cluster.yaml:${LINES + 10})

shop/deployment/web: 2 pods (web-1, web-2)  ->  itself  TCP 80 (to 8080)   allowed
  egress   allowed  a pod always reaches itself
  ingress  allowed  a pod always reaches itself

note  policies judge what comes out of shop/svc/web: the address and the port of the endpoint, and
      never those of the Service (rows 18, 22).

2 kinds of flow: 1 allowed, 1 refused
`,
    );
  });

  it('says what of a namespace does not match, and all that is amiss', async () => {
    assert.equal(
      await text(WEB, 'ops/probe', 'web-1:8081'),
      `
ops/probe (10.244.1.9)  ->  shop/web-1 (10.244.1.5)  TCP 8081   refused
  egress   allowed  no policy isolates ops/probe for egress
  ingress  refused  isolated by shop/web
           nearest  shop/web ingress[1].from[0]: wants pods of its own namespace, shop, having no
                    namespaceSelector; the source is in ops
                    cluster.yaml:${LINES + 10}
                      - podSelector: {}

note  no container of shop/web-1 declares TCP 8081 (declared: TCP 8080); policy judges it all the
      same.
`,
    );
  });

  it('cuts a block where policies do, and takes the pods and nodes in it apart', async () => {
    assert.equal(
      await text(DB, '10.0.0.0/8', 'db-0:pg', 120),
      `
ops/probe (10.244.1.9)  ->  shop/db-0 (10.244.2.7)  TCP 5432   refused
  egress   allowed  no policy isolates ops/probe for egress
  ingress  refused  isolated by shop/db-from-frontend
           nearest  shop/db-from-frontend ingress[0].from[1]: admits 10.0.0.0/8 except 10.244.0.0/16; the source is in
                    what it leaves out
                    cluster.yaml:${LINES + 11}
                      - ipBlock:
                          cidr: 10.0.0.0/8
                          except:
                            - 10.244.0.0/16

shop/db-0 (10.244.2.7)  ->  itself  TCP 5432   allowed
  egress   allowed  a pod always reaches itself
  ingress  allowed  a pod always reaches itself

10.0.0.0/8: 2 pods in it (web-1, web-2)  ->  shop/db-0 (10.244.2.7)  TCP 5432   refused
  egress   allowed  no policy isolates them for egress
  ingress  refused  isolated by shop/db-from-frontend
           nearest  shop/db-from-frontend ingress[0].from[0]: wants app=frontend; the source has app=front-end (1 edit
                    away)
                    cluster.yaml:${LINES + 8}
                      - podSelector:
                          matchLabels:
                            app: frontend

10.0.0.0/8: 2 addresses of nodes in it (10.244.1.0, 10.244.1.1)  ->  shop/db-0 (10.244.2.7)  TCP 5432   refused
  egress   allowed  a node's address: policy is not asked
  ingress  refused  isolated by shop/db-from-frontend
           nearest  shop/db-from-frontend ingress[0].from[1]: admits 10.0.0.0/8 except 10.244.0.0/16; the source is in
                    what it leaves out
                    cluster.yaml:${LINES + 11}
                      - ipBlock:
                          cidr: 10.0.0.0/8
                          except:
                            - 10.244.0.0/16

10.0.0.0/8: 2 addresses of nodes in it (10.244.2.0, 10.244.2.1)  ->  shop/db-0 (10.244.2.7)  TCP 5432   allowed
  egress   allowed  a node's address: policy is not asked
  ingress  allowed  a pod and the node that it runs on always reach each other

10.0.0.0/8: 10.0.0.0/9, 10.128.0.0/10, 10.192.0.0/11, 10.224.0.0/12, 10.240.0.0/14, 10.245.0.0/16, 2 more blocks
  ->  shop/db-0 (10.244.2.7)
  TCP 5432   allowed
  egress   allowed  no pod: policy is not asked
  ingress  allowed  by shop/db-from-frontend ingress[0].from[1] (cluster.yaml:${LINES + 11})

10.0.0.0/8: 10.244.0.0/16  ->  shop/db-0 (10.244.2.7)  TCP 5432   refused
  egress   allowed  no pod: policy is not asked
  ingress  refused  isolated by shop/db-from-frontend
           nearest  shop/db-from-frontend ingress[0].from[1]: admits 10.0.0.0/8 except 10.244.0.0/16; the source is in
                    what it leaves out
                    cluster.yaml:${LINES + 11}
                      - ipBlock:
                          cidr: 10.0.0.0/8
                          except:
                            - 10.244.0.0/16

7 kinds of flow: 3 allowed, 4 refused
`,
    );
  });

  it('answers without a port where no policy is asked', async () => {
    assert.equal(
      await text('', 'web-1', '192.0.2.7'),
      `
shop/web-1 (10.244.1.5)  ->  192.0.2.7  any port   allowed
  egress   allowed  no policy isolates shop/web-1 for egress
  ingress  allowed  no pod: policy is not asked
`,
    );
  });

  it('tells a pod of the host network from others, and a pod and its own node from others', async () => {
    assert.equal(
      await text(DENY, 'ops/agent', 'svc/web:80'),
      `
ops/agent (192.168.0.1)  ->  shop/web-1 (10.244.1.5)  TCP 80 (to 8080)   allowed
  egress   allowed  a node's address: policy is not asked
  ingress  allowed  a pod and the node that it runs on always reach each other

ops/agent (192.168.0.1)  ->  shop/web-2 (10.244.2.5)  TCP 80 (to 8080)   refused
  egress   allowed  a node's address: policy is not asked
  ingress  refused  isolated by shop/default-deny
           nearest  shop/default-deny has no ingress rules: it admits nothing
                    cluster.yaml:${LINES + 4}

note  ops/agent is in the network of its node node-a: its address is the node's, no policy isolates
      it, and of peers only an ipBlock matches it (row 29).
note  policies judge what comes out of shop/svc/web: the address and the port of the endpoint, and
      never those of the Service (rows 18, 22).
note  what is no pod and connects to shop/svc/web may be masqueraded on the way: it then arrives
      with the address of a node, which only an ipBlock matches; ask about that address (row 31).

2 kinds of flow: 1 allowed, 1 refused
`,
    );
  });
});

describe('sluice explain, for programs', () => {
  it('has all of it', async () => {
    const end = { of: 1, count: 1, blocks: [] };
    const policy = { namespace: 'shop', name: 'web' };
    assert.deepEqual(await document(WEB, 'web-1', 'ops/probe:53/udp'), {
      apiVersion: 'sluice.dev/v1',
      kind: 'Explanation',
      origin: 'the directory shop',
      question: { source: 'web-1', destination: 'ops/probe:53/udp', namespace: 'shop' },
      allowed: false,
      flows: [
        {
          source: { ...end, name: 'shop/web-1', members: [{ name: 'shop/web-1', addresses: ['10.244.1.5'], node: 'node-a' }] },
          destination: {
            ...end,
            name: 'ops/probe',
            members: [{ name: 'ops/probe', addresses: ['10.244.1.9', 'fd00:1::9'], node: 'node-a' }],
          },
          itself: false,
          families: [4],
          protocol: 'UDP',
          ports: [{ port: 53 }],
          allowed: false,
          egress: {
            allowed: false,
            reason: 'refused',
            isolatedBy: [policy],
            misses: [
              {
                policy,
                path: 'spec.egress[0].to[0]',
                file: 'cluster.yaml',
                line: LINES + 12,
                yaml: '- podSelector:\n    matchLabels:\n      app: db',
                faults: [
                  {
                    kind: 'own-namespace',
                    text: 'wants pods of its own namespace, shop, having no namespaceSelector; the destination is in ops',
                  },
                  { kind: 'label', text: 'wants app=db; the destination has app=probe' },
                ],
              },
            ],
            missesLeftOut: 0,
          },
          ingress: { allowed: true, reason: 'not-isolated' },
        },
      ],
      unanswered: [],
      notes: [{ code: 'PORT_UNDECLARED', message: 'no container of ops/probe declares UDP 53; policy judges it all the same' }],
      missing: [],
    });
  });

  it('says by which rule and which entry of ports it is admitted', async () => {
    const { allowed, flows } = await document(DB, '10.1.2.3', 'db-0:pg');
    assert.equal(allowed, true);
    assert.deepEqual(flows[0]?.ingress, {
      allowed: true,
      reason: 'admitted',
      by: {
        policy: { namespace: 'shop', name: 'db-from-frontend' },
        path: 'spec.ingress[0].from[1]',
        file: 'cluster.yaml',
        line: LINES + 11,
        yaml: '- ipBlock:\n    cidr: 10.0.0.0/8\n    except:\n      - 10.244.0.0/16',
      },
      port: 0,
    });
  });

  it('suggests what would admit it, and nothing where it is allowed', async () => {
    const { flows } = await document(DENY, 'web-1', 'db-0:5432', true);
    const [suggestion] = flows[0]?.suggestions ?? [];
    assert.equal(suggestion?.direction, 'ingress');
    assert.deepEqual(suggestion.policy['spec'], {
      podSelector: { matchLabels: { app: 'db' } },
      policyTypes: ['Ingress'],
      ingress: [{ from: [{ podSelector: { matchLabels: { app: 'front-end' } } }], ports: [{ protocol: 'TCP', port: 5432 }] }],
    });
    assert.equal((await document('', 'web-1', 'db-0:5432', true)).flows[0]?.suggestions, undefined);
  });
});

describe('sluice explain gives no answer', () => {
  for (const [what, source, destination, name, reason] of [
    ['for a pod that has ended', 'done', 'db-0:5432', 'shop/done', /has ended/u],
    ['for a pod without an address', 'starting', 'db-0:5432', 'shop/starting', /no address yet/u],
    ['for a Deployment without pods', 'deploy/idle', 'db-0:5432', 'shop/deployment/idle', /no pod of it/u],
    ['for a Service without endpoints', 'web-1', 'svc/nobody', 'shop/svc/nobody', /no endpoints \(.*app=nobody/u],
    ['for a name in DNS', 'web-1', 'svc/elsewhere', 'shop/svc/elsewhere', /ExternalName.*db\.example\.com/u],
    ['for ends of different families', 'web-1', 'ops/six', 'shop/web-1 to ops/six', /IPv4 only, and the destination IPv6 only/u],
  ] as const) {
    it(`${what}, and says why`, async () => {
      const { allowed, flows, unanswered } = await document('', source, destination);
      assert.deepEqual([allowed, flows], [false, []]);
      assert.deepEqual(
        unanswered.map((one) => one.name),
        [name],
      );
      assert.match(unanswered[0]?.reason ?? '', reason);
      assert.match(await text('', source, destination, 1000), new RegExp(`^\n${name}: no answer: .*\\.\n`, 'u'));
    });
  }
});

describe('what sluice explain is asked wrongly', () => {
  for (const [what, destination, code, hint] of [
    ['a name that stands for nothing', 'starting-x', 'NAME_UNKNOWN', /starting/u],
    ['a port by a name that no container has', 'db-0:pgs', 'PORT_UNKNOWN', /Perhaps pg is meant/u],
    ['a port by name of what is no pod', '192.0.2.7:http', 'PORT_UNKNOWN', /number/u],
    ['a port that the Service does not have', 'svc/web:81', 'PORT_UNKNOWN', /It has 80\/TCP \(http\)/u],
    ['ICMP to a Service', 'svc/web:icmp', 'PORT_UNKNOWN', /pods behind it/u],
    ['a port of a block by name', '10.0.0.0/8:http', 'PORT_UNKNOWN', /number/u],
    ['a port that is none', 'db-0:99999', 'DESTINATION_INVALID', /1 to 65535/u],
  ] as const) {
    it(`is ${what}: exit status 2, and what would be right`, async () => {
      await assert.rejects(
        document(DENY, 'web-1', destination),
        (error) => error instanceof SluiceError && error.code === code && error.exitStatus === 2 && hint.test(error.hint ?? ''),
      );
    });
  }

  it('is no port, where the answer depends on it', async () => {
    const egress = WEB.replace('egress:\n', 'egress:\n    - ports: [{ port: 443 }]\n');
    await assert.rejects(document(egress, 'web-1', '192.0.2.7'), (error) => {
      assert.ok(error instanceof SluiceError);
      assert.deepEqual([error.code, error.exitStatus], ['PORT_MISSING', 2]);
      assert.equal(error.hint, 'Name one: 192.0.2.7:80, 192.0.2.7:53/UDP, 192.0.2.7:icmp.');
      return true;
    });
  });
});

describe('sluice explain', () => {
  it('says where a port is declared for another protocol', async () => {
    const { notes } = await document(DENY, 'web-1', 'db-0:53');
    assert.deepEqual(notes, [
      {
        code: 'PORT_UNDECLARED',
        message: 'no container of shop/db-0 declares TCP 53; declared for UDP: ask for :53/UDP; policy judges it all the same',
      },
    ]);
  });

  it('takes the address of a Service for the Service, and of a headless one the port as it is asked', async () => {
    const { flows, notes } = await document('', 'db-0', '10.96.0.10:80');
    assert.deepEqual(flows[0]?.ports, [{ port: 8080, servicePort: 80 }]);
    assert.deepEqual(
      notes.map(({ code }) => code),
      ['SERVICE_ADDRESS', 'SERVICE_TRANSLATED'],
    );
    const headless = await document('', 'db-0', 'svc/headless:8080');
    assert.deepEqual(headless.flows[0]?.ports, [{ port: 8080 }]);
    assert.deepEqual(
      headless.notes.map(({ code }) => code),
      ['SERVICE_HEADLESS'],
    );
  });

  it('asks a headless Service without ports for the port as it is said, and takes it for the pods behind it', async () => {
    const bare = `---
apiVersion: v1
kind: Service
metadata: { name: bare, namespace: shop }
spec: { clusterIP: None, selector: { app: front-end } }
`;
    const { flows } = await document(bare, 'db-0', 'svc/bare:8080');
    assert.deepEqual(
      flows.map(({ allowed, destination, ports }) => [allowed, destination.members.map(({ name }) => name), ports]),
      [[true, ['shop/web-1', 'shop/web-2'], [{ port: 8080 }]]],
    );
    const from = await document(bare, 'svc/bare', 'db-0:5432');
    assert.deepEqual(
      from.flows.map(({ source }) => source.members.map(({ name }) => name)),
      [['shop/web-1', 'shop/web-2']],
    );
    await assert.rejects(document(bare, 'db-0', 'svc/bare'), { code: 'PORT_UNKNOWN', message: 'shop/svc/bare declares no ports' });
  });

  it('says of a nodePort of a node that it leads to the endpoints of a Service', async () => {
    const exposed = `---
apiVersion: v1
kind: Service
metadata: { name: exposed, namespace: shop }
spec: { type: NodePort, clusterIP: 10.96.0.13, selector: { app: db }, ports: [{ port: 80, targetPort: 5432, nodePort: 30080 }] }
`;
    const { notes } = await document(exposed, '192.0.2.1', '192.168.0.1:30080');
    assert.deepEqual(notes, [
      {
        code: 'NODE_PORT',
        message:
          'TCP 30080 is the nodePort of shop/svc/exposed: what comes to a node there goes on to the endpoints of the Service, and policies judge it on its way to them; ask about shop/svc/exposed:80 (rows 18, 31)',
      },
    ]);
    for (const other of ['192.168.0.1:30080/UDP', '192.168.0.1:30081', '192.0.2.9:30080']) {
      assert.deepEqual((await document(exposed, '192.0.2.1', other)).notes, [], other);
    }
  });

  it('says why a Service that nobody is behind sends nothing', async () => {
    for (const [name, reason] of [
      ['nobody', /^it has no endpoints/u],
      ['elsewhere', /^it is of type ExternalName/u],
    ] as const) {
      const { allowed, flows, unanswered } = await document('', `svc/${name}`, 'db-0:5432');
      assert.deepEqual([allowed, flows.length, unanswered.length], [false, 0, 1]);
      assert.match(unanswered[0]?.reason ?? '', reason);
    }
  });

  it('goes by the address of an endpoint, where its EndpointSlice is older than the pods', async () => {
    const stale = `---
apiVersion: v1
kind: Service
metadata: { name: stale, namespace: shop }
spec: { clusterIP: 10.96.0.12, ports: [{ port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: stale-1, namespace: shop, labels: { kubernetes.io/service-name: stale } }
ports: [{ port: 5432 }]
endpoints:
  - { addresses: [10.244.2.7], targetRef: { kind: Pod, name: web-1 } }
  - { addresses: [10.244.2.99], targetRef: { kind: Pod, name: done } }
`;
    const { flows } = await document(stale + DB, 'web-1', 'svc/stale');
    assert.deepEqual(
      flows.map(({ allowed, itself, destination: { members } }) => [allowed, itself, members.map(({ name }) => name)]),
      [
        [false, false, ['shop/db-0']],
        [true, false, ['10.244.2.99']],
      ],
    );
  });

  it('says once that pods are in the network of their nodes, and of those whose node has no object that they are', async () => {
    const host = (name: string, address: string): string => `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ops }
spec: { nodeName: ${name}, hostNetwork: true, containers: [{}] }
status: { phase: Running, podIPs: [{ ip: ${address} }] }
`;
    const agents = host('agent-x', '192.168.0.7') + host('agent-y', '192.168.0.8');
    const answer = await document(agents, 'ns/ops', 'web-1:8080');
    assert.deepEqual(
      answer.notes.map(({ code }) => code),
      ['HOST_NETWORK'],
    );
    assert.match(answer.notes[0]?.message ?? '', /^ops\/agent and 2 more are in the network of their nodes: /u);
    assert.match(
      await text(agents, 'ops/agent-x', 'web-1:8080'),
      /^ {2}egress {3}allowed {2}in the network of its node: policy is not asked$/mu,
    );
  });

  it('does not say that a kernel without the table agrees with a refusal, and asks it nothing about what is allowed', async () => {
    const hand: AtHand = { ...NOWHERE, node: 'node-b', saidBy: '--node' };
    const ask = async (policies: string): Promise<ExplainDocument> => {
      const answer = await explain(inventory(OBJECTS + policies), 'web-1', 'db-0:5432', { namespace: 'shop' }, hand);
      return ExplainDocument.parse(answer);
    };
    const refused = await ask(DENY);
    const lines = [...explainTable(refused, plain, 100)];
    const at = lines.findIndex((line) => line.includes('does not agree'));
    assert.deepEqual(lines.slice(at, at + 2), [
      '           kernel   does not agree: no rule of chain ingress refuses it',
      '                    policy refuses it, and this kernel has no table inet sluice: nothing is refused',
    ]);
    assert.deepEqual(refused.kernel, { node: 'node-b', saidBy: '--node' });
    const allowed = await ask('');
    assert.deepEqual(allowed.kernel, { node: 'node-b', saidBy: '--node', unread: 'this kernel has no table inet sluice' });
    assert.deepEqual(allowed.flows[0]?.ingress.kernel, { judged: false, reason: 'this kernel has no table inet sluice' });
  });

  it('says that a namespace asks to be audited, where it is refused there', async () => {
    const audited = OBJECTS.replace('name: shop, labels', 'name: shop, annotations: { sluice.dev/mode: audit }, labels');
    const answer = await explain(inventory(audited + DENY), 'web-1', 'db-0:5432', { namespace: 'shop' }, NOWHERE);
    assert.deepEqual(answer.notes, [
      {
        code: 'AUDIT',
        message:
          'namespace shop asks to be audited: where the agent honours that, what is refused to pods there is let through and counted',
      },
    ]);
  });

  it('says of a policy that cannot be read what is wrong with it', async () => {
    const { flows } = await document(DB.replace('app: frontend', 'app: [frontend]'), 'web-1', 'db-0:5432');
    const { ingress } = flows[0] ?? assert.fail('no flow');
    const unread = ingress.misses?.flatMap(({ faults }) => faults) ?? [];
    assert.ok(unread.length > 0);
    assert.equal(ingress.allowed, false);
  });
});
