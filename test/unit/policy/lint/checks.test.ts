/** Each check on what it is to find, and on what looks like it and is right. What is to be found is said by hand, from docs/semantics.md. */
import assert from 'node:assert/strict';
import type { LintCode } from '../../../../src/policy/lint/codes.ts';
import { isNearMiss } from '../../../../src/policy/lint/near-miss.ts';
import { brief, type Cluster, found, namespace, pod, service, SHOP } from './shop.ts';

type Case = readonly [title: string, text: string, expected: readonly string[], changes?: Cluster];

function check(codes: readonly LintCode[], cases: readonly Case[]): void {
  describe(codes.join(', '), () => {
    for (const [title, text, expected, changes] of cases) {
      it(title, () => assert.deepEqual(brief(found(text, codes, changes)), expected));
    }
  });
}

/** A directory of manifests: some of a cluster. */
const PART: Cluster = {
  isWhole: false,
  pods: SHOP.pods.filter(({ namespace }) => namespace === 'shop'),
  namespaces: SHOP.namespaces.filter(({ name }) => name === 'shop'),
};
const ONLY_WORKLOADS: Cluster = { isWhole: false, pods: [], templates: [pod('shop/web', 'app=web')], namespaces: [] };

check(
  ['POLICY_SELECTS_NOTHING', 'POLICY_SELECTS_HOST_NETWORK', 'POLICY_SELECTS_ENDED_PODS', 'NAMESPACE_WITHOUT_PODS'],
  [
    ['no pod has the labels', 'podSelector: {matchLabels: {app: cart}}', ['p1 spec.podSelector POLICY_SELECTS_NOTHING']],
    ['a pod of another namespace has them', 'podSelector: {matchLabels: {app: grafana}}', ['p1 spec.podSelector POLICY_SELECTS_NOTHING']],
    ['some pod has them', 'podSelector: {matchLabels: {app: web}}', []],
    ['a workload will have pods with them', 'podSelector: {matchLabels: {app: cart}}', [], { templates: [pod('shop/cart', 'app=cart')] }],
    ['only manifests of workloads are there', 'podSelector: {matchLabels: {app: web}}', [], ONLY_WORKLOADS],
    ['only policies are there', 'podSelector: {matchLabels: {app: web}}', [], { isWhole: false, pods: [], namespaces: [] }],
    ['of a namespace that is not in the directory nothing is said', '# namespace: other\npodSelector: {matchLabels: {app: web}}', [], PART],
    [
      'policies of an empty namespace are told once',
      '# namespace: empty\npodSelector: {}\n---\n# namespace: empty\npodSelector: {}',
      ['empty NAMESPACE_WITHOUT_PODS'],
    ],
    [
      'every selected pod is on the network of its node',
      'podSelector: {matchLabels: {app: agent}}',
      ['p1 spec.podSelector POLICY_SELECTS_HOST_NETWORK'],
    ],
    [
      'some are',
      'podSelector: {matchExpressions: [{key: app, operator: In, values: [agent, web]}]}',
      ['p1 spec.podSelector POLICY_SELECTS_HOST_NETWORK'],
    ],
    ['some are, of a policy for the whole namespace', 'podSelector: {}', []],
    ['all have ended', 'podSelector: {matchLabels: {app: migrate}}', ['p1 spec.podSelector POLICY_SELECTS_ENDED_PODS']],
    [
      'all have ended, and there will be more',
      'podSelector: {matchLabels: {app: migrate}}',
      [],
      { templates: [pod('shop/migrate', 'app=migrate')] },
    ],
  ],
);

const FROM = 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n';

check(
  ['PEER_SELECTS_NOTHING', 'PEER_OWN_NAMESPACE_ONLY', 'PEER_MEANS_AND', 'PEERS_MEAN_OR', 'PEER_SELECTS_HOST_NETWORK'],
  [
    [
      'a podSelector of nobody',
      `${FROM}  - podSelector: {matchLabels: {app: cart}}`,
      ['p1 spec.ingress[0].from[0].podSelector PEER_SELECTS_NOTHING'],
    ],
    [
      'a podSelector of pods elsewhere',
      `${FROM}  - podSelector: {matchLabels: {app: grafana}}`,
      ['p1 spec.ingress[0].from[0].podSelector PEER_OWN_NAMESPACE_ONLY'],
    ],
    ['a podSelector of pods that have ended', `${FROM}  - podSelector: {matchLabels: {app: migrate}}`, []],
    [
      'a podSelector of a workload without pods',
      `${FROM}  - podSelector: {matchLabels: {app: cart}}`,
      [],
      { templates: [pod('shop/cart', 'app=cart')] },
    ],
    [
      'a namespaceSelector of no namespace',
      `${FROM}  - namespaceSelector: {matchLabels: {team: none}}`,
      ['p1 spec.ingress[0].from[0].namespaceSelector PEER_SELECTS_NOTHING'],
    ],
    ['the same where others may be', `${FROM}  - namespaceSelector: {matchLabels: {team: none}}`, [], PART],
    [
      'DNS, where kube-system is not in the directory',
      `${FROM}  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n    podSelector: {matchLabels: {k8s-app: kube-dns}}`,
      [],
      PART,
    ],
    [
      'pods of any namespace, where others may be',
      `${FROM}  - namespaceSelector: {}\n    podSelector: {matchLabels: {app: ingress}}`,
      [],
      PART,
    ],
    [
      'pods of a namespace that is in the directory, with its workloads',
      `${FROM}  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}\n    podSelector: {matchLabels: {app: cart}}`,
      ['p1 spec.ingress[0].from[0].podSelector PEER_SELECTS_NOTHING'],
      PART,
    ],
    ['a namespace that is empty as yet', `${FROM}  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: empty}}`, []],
    ['all pods of a namespace', `${FROM}  - podSelector: {}`, []],
    [
      'both selectors, of which the pods are at home',
      `${FROM}  - namespaceSelector: {matchLabels: {team: ops}}\n    podSelector: {matchLabels: {app: db}}`,
      ['p1 spec.ingress[0].from[0] PEER_MEANS_AND'],
    ],
    [
      'both selectors that match',
      `${FROM}  - namespaceSelector: {matchLabels: {team: ops}}\n    podSelector: {matchLabels: {app: grafana}}`,
      [],
    ],
    [
      'two peers, of which the pods are in the other namespaces',
      `${FROM}  - podSelector: {matchLabels: {app: grafana}}\n  - namespaceSelector: {matchLabels: {team: ops}}`,
      ['p1 spec.ingress[0].from[0] PEERS_MEAN_OR'],
    ],
    [
      'two peers, of which the namespaces have the own one among them',
      `${FROM}  - namespaceSelector: {}\n  - podSelector: {matchLabels: {app: web}}`,
      ['p1 spec.ingress[0].from[1] PEERS_MEAN_OR'],
    ],
    ['two peers that are two', `${FROM}  - namespaceSelector: {matchLabels: {team: ops}}\n  - podSelector: {matchLabels: {app: web}}`, []],
    [
      'two peers, whose pods are at home and in the other namespaces',
      `${FROM}  - namespaceSelector: {matchLabels: {team: ops}}\n  - podSelector: {matchLabels: {app: web}}`,
      [],
      { pods: [...SHOP.pods, pod('monitoring/web', 'app=web')] },
    ],
    ['the own namespace and another', `${FROM}  - podSelector: {}\n  - namespaceSelector: {matchLabels: {team: ops}}`, []],
    [
      'pods on the network of their node',
      `${FROM}  - podSelector: {matchLabels: {app: agent}}`,
      ['p1 spec.ingress[0].from[0] PEER_SELECTS_HOST_NETWORK'],
    ],
    ['some of them on it', `${FROM}  - podSelector: {}`, []],
  ],
);

check(
  ['SELECTOR_CONTRADICTS'],
  [
    [
      'a subject',
      'podSelector: {matchExpressions: [{key: a, operator: Exists}, {key: a, operator: DoesNotExist}]}',
      ['p1 spec.podSelector SELECTOR_CONTRADICTS'],
    ],
    [
      'namespaces of a peer',
      `${FROM}  - namespaceSelector: {matchExpressions: [{key: a, operator: In, values: [b]}, {key: a, operator: In, values: [c]}]}`,
      ['p1 spec.ingress[0].from[0].namespaceSelector SELECTOR_CONTRADICTS'],
    ],
    [
      'pods of a peer',
      `${FROM}  - podSelector: {matchExpressions: [{key: app, operator: In, values: [b]}, {key: app, operator: NotIn, values: [b]}]}`,
      ['p1 spec.ingress[0].from[0].podSelector SELECTOR_CONTRADICTS'],
    ],
    [
      'requirements that can hold',
      'podSelector: {matchExpressions: [{key: a, operator: Exists}, {key: a, operator: NotIn, values: [b]}]}',
      [],
    ],
  ],
);

check(
  ['NAMESPACE_BY_LOOSE_LABEL'],
  [
    [
      'by a label name that is the name',
      `${FROM}  - namespaceSelector: {matchLabels: {name: monitoring}}`,
      ['p1 spec.ingress[0].from[0].namespaceSelector NAMESPACE_BY_LOOSE_LABEL'],
    ],
    ['by the label of the API', `${FROM}  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}`, []],
    ['by what is no name', `${FROM}  - namespaceSelector: {matchLabels: {team: ops}}`, []],
    [
      'by a label name that says something else',
      `${FROM}  - namespaceSelector: {matchLabels: {name: production}}`,
      [],
      { namespaces: [...SHOP.namespaces, namespace('n1', 'name=production')] },
    ],
  ],
);

const NOT_IN = (values: string, more = ''): string =>
  `${FROM}  - podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [${values}]}${more}]}`;

check(
  ['LABEL_NEAR_MISS', 'LABEL_VALUE_EMPTY', 'NOT_IN_ADMITS_UNLABELED'],
  [
    ['a slip in NotIn', NOT_IN('bakc', ', {key: tier, operator: Exists}'), ['p1 spec.ingress[0].from[0].podSelector LABEL_NEAR_MISS']],
    ['a value of NotIn that nobody has, and nobody has nearly', NOT_IN('test', ', {key: tier, operator: Exists}'), []],
    [
      'a slip in one of several values',
      `${FROM}  - podSelector: {matchExpressions: [{key: tier, operator: In, values: [front, bakc]}]}`,
      ['p1 spec.ingress[0].from[0].podSelector LABEL_NEAR_MISS'],
    ],
    ['a slip beside what was meant', 'podSelector: {matchExpressions: [{key: tier, operator: In, values: [back, bakc]}]}', []],
    [
      'a slip in a key of DoesNotExist',
      'podSelector: {matchExpressions: [{key: teir, operator: DoesNotExist}]}',
      ['p1 spec.podSelector LABEL_NEAR_MISS'],
    ],
    ['versions', 'podSelector: {matchExpressions: [{key: tier, operator: In, values: [front, front2]}]}', []],
    ['an empty value of a label that has one', 'podSelector: {matchLabels: {tier: ""}}', ['p1 spec.podSelector LABEL_VALUE_EMPTY']],
    ['an empty value that is there', 'podSelector: {matchLabels: {tier: ""}}', [], { pods: [...SHOP.pods, pod('shop/x', 'tier=')] }],
    ['NotIn of a label that some lack', NOT_IN('front'), ['p1 spec.ingress[0].from[0].podSelector NOT_IN_ADMITS_UNLABELED']],
    ['NotIn and Exists', NOT_IN('front', ', {key: tier, operator: Exists}'), []],
    ['NotIn of a label that none has', `${FROM}  - podSelector: {matchExpressions: [{key: zone, operator: NotIn, values: [a]}]}`, []],
    ['NotIn of a label that all have', `${FROM}  - podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}`, []],
  ],
);

describe('near misses', () => {
  it('are one edit, one exchange, or a difference of case', () => {
    for (const [a, b] of [
      ['frontend', 'fronted'],
      ['frontend', 'frontned'],
      ['FrontEnd', 'frontend'],
      ['k8s-app', 'k8s_app'],
      ['database', 'databases'],
    ] as const) {
      assert.ok(isNearMiss(a, b) && isNearMiss(b, a), `${a} ${b}`);
    }
  });

  it('are not what differs in digits, in more than that, or is short', () => {
    for (const [a, b] of [
      ['web-1', 'web-2'],
      ['v1alpha1', 'v1alpha2'],
      ['frontend', 'backend'],
      ['dev', 'des'],
      ['same', 'same'],
    ] as const) {
      assert.ok(!isNearMiss(a, b) && !isNearMiss(b, a), `${a} ${b}`);
    }
  });
});

const BLOCK = (block: string): string => `${FROM}  - ipBlock: ${block}`;
const EVERYWHERE6 = '  - ipBlock: {cidr: "::/0", except: ["fd00:244::/32"]}';

check(
  ['CIDR_IS_OF_PODS', 'CIDR_COVERS_PODS', 'ANYWHERE_COVERS_PODS', 'ANYWHERE_IN_ONE_FAMILY', 'CIDR_IS_OF_SERVICES'],
  [
    ['the address of a pod', BLOCK('{cidr: 10.244.1.13/32}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_IS_OF_PODS']],
    [
      'the address of a pod where nodes do not say what pods get',
      BLOCK('{cidr: 10.244.1.13/32}'),
      ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_IS_OF_PODS'],
      { nodes: [] },
    ],
    ['the pods of a node', BLOCK('{cidr: 10.244.1.0/24}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_IS_OF_PODS']],
    ['addresses that no pod has yet', BLOCK('{cidr: 10.244.1.128/25}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_IS_OF_PODS']],
    ['all pods', BLOCK('{cidr: 10.244.0.0/16}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_COVERS_PODS']],
    ['the networks of all nodes', BLOCK('{cidr: 10.244.0.0/23}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_COVERS_PODS']],
    ['a network with pods in it', BLOCK('{cidr: 10.0.0.0/8}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_COVERS_PODS']],
    ['a network without pods', BLOCK('{cidr: 192.0.2.0/24}'), []],
    ['a network with Services in it, and more', BLOCK('{cidr: 10.0.0.0/8, except: [10.244.0.0/16]}'), []],
    ['all pods beside a block that covers them', `${BLOCK('{cidr: 10.0.0.0/8}')}\n  - namespaceSelector: {}`, []],
    ['nodes', BLOCK('{cidr: 192.168.0.0/24}'), []],
    [
      'everywhere by IPv4',
      BLOCK('{cidr: 0.0.0.0/0}'),
      ['p1 spec.ingress[0].from[0].ipBlock.cidr ANYWHERE_IN_ONE_FAMILY', 'p1 spec.ingress[0].from[0].ipBlock.cidr ANYWHERE_COVERS_PODS'],
    ],
    ['everywhere but pods, in both families', `${BLOCK('{cidr: 0.0.0.0/0, except: [10.244.0.0/16]}')}\n${EVERYWHERE6}`, []],
    ['the other family in another rule', `${BLOCK('{cidr: 0.0.0.0/0, except: [10.244.0.0/16]}')}\n- from:\n${EVERYWHERE6}`, []],
    [
      'everywhere by IPv4, in a cluster of IPv4',
      BLOCK('{cidr: 0.0.0.0/0, except: [10.244.0.0/16]}'),
      [],
      { pods: [pod('shop/api-1', 'app=api', { ips: ['10.244.0.12'] })] },
    ],
    ['the network of Services', BLOCK('{cidr: 10.96.0.0/12}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_IS_OF_SERVICES']],
    ['one Service', BLOCK('{cidr: 10.96.0.10/32}'), ['p1 spec.ingress[0].from[0].ipBlock.cidr CIDR_IS_OF_SERVICES']],
    [
      'a network with a Service and a node',
      BLOCK('{cidr: 192.168.0.0/16}'),
      [],
      { services: [service('shop/x', '192.168.9.1', { app: 'web' }, [])] },
    ],
  ],
);

check(
  ['EXCEPT_READMITTED', 'EXCEPT_REPEATED', 'EXCEPT_COVERS_BLOCK'],
  [
    [
      'another peer',
      `${BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/32]}')}\n  - ipBlock: {cidr: 192.0.2.8/32}`,
      ['p1 spec.ingress[0].from[0].ipBlock.except[0] EXCEPT_READMITTED'],
    ],
    ['another peer admits a part', `${BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/29]}')}\n  - ipBlock: {cidr: 192.0.2.8/32}`, []],
    ['pods in it are admitted by their labels', `${BLOCK('{cidr: 10.0.0.0/8, except: [10.244.0.0/16]}')}\n  - namespaceSelector: {}`, []],
    [
      'another policy for the same pods',
      `${BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/32]}')}\n---\npodSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/28}}]`,
      ['p1 spec.ingress[0].from[0].ipBlock.except[0] EXCEPT_READMITTED'],
    ],
    [
      'another policy on other ports',
      `${BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/32]}')}\n---\npodSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/28}}]\n  ports: [{port: 80}]`,
      [],
    ],
    [
      'another policy for other pods',
      `${BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/32]}')}\n---\npodSelector: {matchLabels: {app: db}}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/28}}]`,
      [],
    ],
    [
      'the same twice: the second',
      BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/32, 192.0.2.8/32]}'),
      ['p1 spec.ingress[0].from[0].ipBlock.except[1] EXCEPT_REPEATED'],
    ],
    [
      'two halves',
      BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.0/25, 192.0.2.128/25]}'),
      ['p1 spec.ingress[0].from[0].ipBlock.except EXCEPT_COVERS_BLOCK'],
    ],
    [
      'one that covers all',
      BLOCK('{cidr: 192.0.2.0/24, except: [192.0.0.0/16]}'),
      ['p1 spec.ingress[0].from[0].ipBlock.except[0] EXCEPT_COVERS_BLOCK'],
    ],
    ['an except that takes something out', BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/29]}'), []],
  ],
);

const PORTS = (app: string, ports: string): string => `podSelector: {matchLabels: {app: ${app}}}\ningress:\n- ports: [${ports}]`;
const TO = (to: string, ports: string): string =>
  `podSelector: {matchLabels: {app: api}}\npolicyTypes: [Egress]\negress:\n- to: [${to}]\n  ports: [${ports}]`;

check(
  ['PORT_NAME_UNDECLARED', 'PORT_NAME_DIFFERS', 'PORT_NAME_PARTLY_DECLARED', 'PORT_NAME_TO_BLOCK'],
  [
    ['a name that nobody has', PORTS('web', '{port: grpc}'), ['p1 spec.ingress[0].ports[0].port PORT_NAME_UNDECLARED']],
    ['a name of another protocol', PORTS('web', '{port: http, protocol: UDP}'), ['p1 spec.ingress[0].ports[0].port PORT_NAME_UNDECLARED']],
    ['a name that is there', PORTS('web', '{port: http}'), []],
    [
      'a name that a workload will have',
      PORTS('cart', '{port: http}'),
      [],
      { templates: [pod('shop/cart', 'app=cart', { ports: 'http=80' })] },
    ],
    ['a name that some have, in a policy for all', 'podSelector: {}\ningress:\n- ports: [{port: grpc}]', []],
    [
      'a name that some have',
      'podSelector: {matchLabels: {tier: back}}\ningress:\n- ports: [{port: grpc}]',
      ['p1 spec.ingress[0].ports[0].port PORT_NAME_PARTLY_DECLARED'],
    ],
    ['egress by a name that the pods have', TO('{podSelector: {matchLabels: {app: db}}}', '{port: postgres}'), []],
    [
      'egress by a name that they have not',
      TO('{podSelector: {matchLabels: {app: db}}}', '{port: http}'),
      ['p1 spec.egress[0].ports[0].port PORT_NAME_UNDECLARED'],
    ],
    [
      'egress by a name to pods that are not all known',
      TO('{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}', '{port: http}'),
      [],
      PART,
    ],
    [
      'egress by a name to addresses outside',
      TO('{ipBlock: {cidr: 192.0.2.0/24}}', '{port: http}'),
      ['p1 spec.egress[0].ports[0].port PORT_NAME_TO_BLOCK'],
    ],
    ['egress by a name to a block with a pod that has it', TO('{ipBlock: {cidr: 10.244.1.13/32}}', '{port: postgres}'), []],
    ['egress by a name to everybody', 'podSelector: {}\npolicyTypes: [Egress]\negress:\n- ports: [{port: http}]', []],
  ],
);

check(
  ['PORT_PROTOCOL_DIFFERS', 'PORT_IS_OF_SERVICE'],
  [
    ['the port of the Service in front', PORTS('web', '{port: 80}'), ['p1 spec.ingress[0].ports[0] PORT_IS_OF_SERVICE']],
    ['that and the port of the pods', PORTS('web', '{port: 80}, {port: 8080}'), []],
    ['that and the port of the pods by name', PORTS('web', '{port: 80}, {port: http}'), []],
    ['that and the port of the pods in another rule', `${PORTS('web', '{port: 80}')}\n- ports: [{port: http}]`, []],
    [
      'egress to the port of the Service',
      TO('{podSelector: {matchLabels: {app: web}}}', '{port: 80}'),
      ['p1 spec.egress[0].ports[0] PORT_IS_OF_SERVICE'],
    ],
    ['a port that a Service for other pods has', PORTS('db', '{port: 80}'), []],
    [
      'the port of a headless Service',
      PORTS('web', '{port: 80}'),
      [],
      { services: [{ ...service('shop/web', '', { app: 'web' }, [{ protocol: 'TCP', port: 80, targetPort: 8080 }]) }] },
    ],
    ['a port that nobody declares', PORTS('web', '{port: 9999}'), []],
    [
      'pods that declare nothing',
      PORTS('tools', '{port: 80}'),
      [],
      { services: [service('shop/tools', '10.96.0.30', { app: 'tools' }, [{ protocol: 'TCP', port: 80, targetPort: 8080 }])] },
    ],
    [
      'a port that is of UDP',
      '# namespace: kube-system\npodSelector: {matchLabels: {app: resolver}}\ningress:\n- ports: [{port: 5300}]',
      ['p1 spec.ingress[0].ports[0] PORT_PROTOCOL_DIFFERS'],
    ],
    [
      'both protocols',
      '# namespace: kube-system\npodSelector: {matchLabels: {app: resolver}}\ningress:\n- ports: [{port: 5300}, {port: 5300, protocol: UDP}]',
      [],
    ],
  ],
);

check(
  ['PEER_REDUNDANT', 'PORT_REDUNDANT', 'PORT_RANGE_IS_EVERYTHING'],
  [
    [
      'a block in a block',
      `${BLOCK('{cidr: 192.0.2.0/24}')}\n  - ipBlock: {cidr: 192.0.2.8/32}`,
      ['p1 spec.ingress[0].from[1] PEER_REDUNDANT'],
    ],
    [
      'of two that are the same the second',
      `${FROM}  - podSelector: {}\n  - podSelector: {}`,
      ['p1 spec.ingress[0].from[1] PEER_REDUNDANT'],
    ],
    [
      'the own namespace by name',
      `${FROM}  - podSelector: {}\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}`,
      ['p1 spec.ingress[0].from[1] PEER_REDUNDANT'],
    ],
    ['the hole of one in the other', `${BLOCK('{cidr: 192.0.2.0/24, except: [192.0.2.8/32]}')}\n  - ipBlock: {cidr: 192.0.2.8/32}`, []],
    ['what PEERS_MEAN_OR says', `${FROM}  - namespaceSelector: {}\n  - podSelector: {matchLabels: {app: web}}`, []],
    ['pods and others', `${FROM}  - podSelector: {matchLabels: {app: web}}\n  - podSelector: {matchLabels: {tier: back}}`, []],
    ['the same port twice', PORTS('web', '{port: 80}, {port: 80, protocol: TCP}'), ['p1 spec.ingress[0].ports[1] PORT_REDUNDANT']],
    ['a port in every port', PORTS('web', '{port: http}, {protocol: TCP}'), ['p1 spec.ingress[0].ports[0] PORT_REDUNDANT']],
    ['two protocols', PORTS('web', '{port: 80}, {port: 80, protocol: UDP}'), []],
    ['a name and a number', PORTS('web', '{port: http}, {port: 8080}'), []],
    ['a range of all ports', PORTS('web', '{port: 1, endPort: 65535}'), ['p1 spec.ingress[0].ports[0] PORT_RANGE_IS_EVERYTHING']],
    ['a range of nearly all', PORTS('web', '{port: 1024, endPort: 65535}'), []],
    ['a protocol alone', PORTS('web', '{protocol: TCP}'), []],
  ],
);

check(
  ['RULES_WITHOUT_EFFECT', 'EMPTY_RULES_WITHOUT_EFFECT', 'INGRESS_DENIED_BY_DEFAULT', 'EMPTY_LIST_ADMITS_ALL', 'SUBJECT_MISSING'],
  [
    [
      'ingress: [{}] of a policy about egress',
      'podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]',
      ['p1 spec.ingress RULES_WITHOUT_EFFECT'],
    ],
    [
      'egress rules of a policy about ingress',
      'podSelector: {}\npolicyTypes: [Ingress]\negress: [{}]',
      ['p1 spec.egress RULES_WITHOUT_EFFECT'],
    ],
    ['egress: [] without policyTypes', 'podSelector: {}\negress: []', ['p1 spec.egress EMPTY_RULES_WITHOUT_EFFECT']],
    ['egress: [] with both', 'podSelector: {}\npolicyTypes: [Ingress, Egress]\negress: []', []],
    [
      'ingress: [] of a policy about egress',
      'podSelector: {}\npolicyTypes: [Egress]\ningress: []',
      ['p1 spec.ingress EMPTY_RULES_WITHOUT_EFFECT'],
    ],
    ['ingress: [] without policyTypes', 'podSelector: {}\ningress: []', []],
    ['egress rules without policyTypes', 'podSelector: {}\negress: [{}]', ['p1 spec INGRESS_DENIED_BY_DEFAULT']],
    [
      'the same beside a policy that isolates for ingress anyway',
      'podSelector: {matchLabels: {app: web}}\negress: [{}]\n---\npodSelector: {}',
      [],
    ],
    ['egress and ingress rules', 'podSelector: {}\ningress: []\negress: [{}]', []],
    ['from: []', 'podSelector: {}\ningress: [{from: []}]', ['p1 spec.ingress[0].from EMPTY_LIST_ADMITS_ALL']],
    [
      'from without a value',
      'podSelector: {}\ningress:\n- from:\n  ports: [{port: 80}]',
      ['p1 spec.ingress[0].from EMPTY_LIST_ADMITS_ALL'],
    ],
    ['ports: []', 'podSelector: {}\ningress: [{from: [{podSelector: {}}], ports: []}]', ['p1 spec.ingress[0].ports EMPTY_LIST_ADMITS_ALL']],
    ['an empty rule', 'podSelector: {}\ningress: [{}]', []],
    ['no podSelector', 'ingress: []', ['p1 spec SUBJECT_MISSING']],
  ],
);

const EGRESS = (rules: string, app = 'web'): string =>
  `podSelector: {matchLabels: {app: ${app}}}\npolicyTypes: [Egress]\negress:\n${rules}`;
const TO_API = '- to: [{podSelector: {matchLabels: {app: api}}}]\n';
const DNS = (ports: string): string =>
  `- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]\n  ports: [${ports}]\n`;
const FORGOTTEN = ['p1 spec.egress DNS_FORGOTTEN'];
/** As in a checkout. */
const PLACELESS = { pods: SHOP.pods.map((one) => (one.name === 'coredns-1' ? { ...one, addresses: [] } : one)) };

check(
  ['DNS_FORGOTTEN', 'DNS_TCP_ONLY', 'DNS_UDP_ONLY'],
  [
    ['nothing leads to DNS', EGRESS(TO_API), FORGOTTEN],
    ['a rule leads to DNS', EGRESS(TO_API + DNS('{port: 53, protocol: UDP}, {port: 53}')), []],
    ['a rule leads there by the names of the ports', EGRESS(TO_API + DNS('{port: dns, protocol: UDP}, {port: dns-tcp}')), []],
    ['a rule leads there by every port', EGRESS(`${TO_API}- to: [{namespaceSelector: {}}]\n`), []],
    ['a rule leads there by TCP', EGRESS(TO_API + DNS('{port: 53}')), ['p1 spec.egress DNS_TCP_ONLY']],
    ['a rule leads there by UDP', EGRESS(TO_API + DNS('{port: 53, protocol: UDP}')), ['p1 spec.egress DNS_UDP_ONLY']],
    [
      'another policy leads there',
      `${EGRESS(TO_API)}\n---\npodSelector: {}\npolicyTypes: [Egress]\negress:\n${DNS('{port: 53, protocol: UDP}, {port: 53}')}`,
      [],
    ],
    ['another policy denies everything', `${EGRESS(TO_API)}\n---\npodSelector: {}\npolicyTypes: [Egress]`, FORGOTTEN],
    ['everything is denied', 'podSelector: {}\npolicyTypes: [Egress]', []],
    ['the rules name single addresses', EGRESS('- to: [{ipBlock: {cidr: 192.0.2.7/32}}]\n'), []],
    ['the rules lead outside of the cluster', EGRESS('- to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]\n'), FORGOTTEN],
    [
      'a resolver outside is named',
      EGRESS(`${TO_API}- to: [{ipBlock: {cidr: 192.0.2.53/32}}]\n  ports: [{port: 53, protocol: UDP}, {port: 53}]\n`),
      [],
    ],
    [
      'the Service of DNS is named by its address',
      EGRESS(`${TO_API}- to: [{ipBlock: {cidr: 10.96.0.10/32}}]\n  ports: [{port: 53, protocol: UDP}, {port: 53}]\n`),
      FORGOTTEN,
    ],
    ['port 53 of everybody', EGRESS(`${TO_API}- ports: [{port: 53, protocol: UDP}, {port: 53}]\n`), []],
    [
      'DNS itself asks nobody',
      '# namespace: kube-system\npodSelector: {matchLabels: {k8s-app: kube-dns}}\npolicyTypes: [Egress]\negress:\n- to: [{podSelector: {matchLabels: {app: resolver}}}]',
      [],
    ],
    [
      'DNS runs on the network of nodes',
      EGRESS(TO_API),
      [],
      { pods: SHOP.pods.map((one) => (one.name === 'coredns-1' ? { ...one, hostNetwork: true } : one)) },
    ],
    ['DNS has no address yet, and may get one of the block', EGRESS('- to: [{ipBlock: {cidr: 0.0.0.0/0}}]\n'), [], PLACELESS],
    [
      'DNS has no address yet, and other ports of the block are open',
      EGRESS('- to: [{ipBlock: {cidr: 0.0.0.0/0}}]\n  ports: [{port: 443}]\n'),
      FORGOTTEN,
      PLACELESS,
    ],
    ['no DNS is known, and nothing may lead to it', EGRESS(TO_API), FORGOTTEN, PART],
    ['no DNS is known, and a name of a port has nothing to do with it', EGRESS('- ports: [{port: http}]\n'), FORGOTTEN, PART],
    ['no DNS is known, and a name of a port is of it', EGRESS('- ports: [{port: dns, protocol: UDP}, {port: dns-tcp}]\n'), [], PART],
    ['no DNS is known, and a rule leads to kube-system', EGRESS(TO_API + DNS('{port: 53, protocol: UDP}, {port: 53}')), [], PART],
    ['no DNS is known, and a rule leads to all namespaces', EGRESS('- to: [{namespaceSelector: {}}]\n'), [], PART],
    [
      'no DNS is known, and a rule leads to another namespace',
      EGRESS('- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: data}}}]\n'),
      FORGOTTEN,
      PART,
    ],
    [
      'no DNS is known, and a rule of labels may lead to it',
      EGRESS('- to: [{namespaceSelector: {matchLabels: {team: infra}}}]\n'),
      [],
      PART,
    ],
  ],
);

const RULE = (rule: string): string => `podSelector: {matchLabels: {app: api}}\ningress:\n- ${rule}`;

check(
  ['RULE_SHADOWED', 'ALLOW_ALL_OVERRIDES', 'POLICY_REDUNDANT'],
  [
    [
      'a rule in another',
      `${RULE('from: [{podSelector: {}}]')}\n- from: [{podSelector: {matchLabels: {app: web}}}]\n  ports: [{port: 80}]`,
      ['p1 spec.ingress[1] RULE_SHADOWED'],
    ],
    [
      'a rule with more ports',
      `${RULE('from: [{podSelector: {}}]\n  ports: [{port: 80}]')}\n- from: [{podSelector: {matchLabels: {app: web}}}]`,
      [],
    ],
    [
      'a rule in one of a policy for more pods',
      `${RULE('from: [{podSelector: {matchLabels: {app: web}}}]')}\n- from: [{podSelector: {matchLabels: {app: db}}}]\n---\npodSelector: {}\ningress:\n- from: [{podSelector: {matchLabels: {app: web}}}]`,
      ['p1 spec.ingress[0] RULE_SHADOWED'],
    ],
    [
      'a rule in one of a policy for fewer pods',
      `podSelector: {}\ningress:\n- from: [{podSelector: {matchLabels: {app: web}}}]\n---\n${RULE('from: [{podSelector: {}}]')}`,
      [],
    ],
    [
      'a rule in one of a policy whose selector begins alike',
      `${RULE('from: [{podSelector: {matchLabels: {app: web}}}]')}\n---\npodSelector: {matchLabels: {app: api, tier: back}}\ningress:\n- from: [{podSelector: {}}]`,
      [],
    ],
    [
      'the same rule twice: the second',
      `${RULE('from: [{podSelector: {}}]')}\n- from: [{podSelector: {}}]`,
      ['p1 spec.ingress[1] RULE_SHADOWED'],
    ],
    ['port 80 and every port', `${RULE('ports: [{port: 80}]')}\n- ports: [{protocol: TCP}]`, ['p1 spec.ingress[0] RULE_SHADOWED']],
    [
      'a rule in one of another direction',
      'podSelector: {}\ningress: [{from: [{podSelector: {}}]}]\negress: [{to: [{podSelector: {}}]}]',
      [],
    ],
    [
      'a rule in one of another namespace',
      '# namespace: shop\npodSelector: {}\ningress: [{from: [{podSelector: {}}]}]\n---\n# namespace: monitoring\npodSelector: {}\ningress: [{from: [{podSelector: {}}]}]',
      [],
    ],
    ['an empty rule over others', `${RULE('{}')}\n- from: [{podSelector: {}}]`, ['p1 spec.ingress[0] ALLOW_ALL_OVERRIDES']],
    ['an empty rule alone', RULE('{}'), []],
    [
      'an empty rule for other pods',
      'podSelector: {matchLabels: {app: web}}\ningress: [{}]\n---\npodSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {}}]}]',
      [],
    ],
    ['an empty rule for all ports of TCP alone', `${RULE('ports: [{protocol: TCP}]')}\n- from: [{podSelector: {}}]`, []],
    ['the same policy twice: the second', 'podSelector: {}\n---\npodSelector: {}', ['p2 POLICY_REDUNDANT']],
    [
      'a deny-all, and a policy for all that admits something: the one is the ground that the other stands on',
      'podSelector: {}\n---\npodSelector: {}\ningress: [{from: [{podSelector: {}}]}]',
      [],
    ],
    ['a deny-all for some, within one for all', 'podSelector: {matchLabels: {app: db}}\n---\npodSelector: {}', ['p1 POLICY_REDUNDANT']],
    [
      'a deny-all, and a policy for some',
      'podSelector: {}\n---\npodSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {}}]}]',
      [],
    ],
    ['deny-alls of different directions', 'podSelector: {}\npolicyTypes: [Ingress]\n---\npodSelector: {}\npolicyTypes: [Egress]', []],
    ['one that is broken', 'podSelector: {}\n---\npodSelector: {}\ningress: [{from: [{}]}]', []],
  ],
);

const WEB_TO = (to: string): string => `podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to: [${to}]`;
const API_FROM_WEB =
  'podSelector: {matchLabels: {app: api}}\ningress:\n- from: [{podSelector: {matchLabels: {app: web}}}]\n  ports: [{port: 8081}]\n---\n';
const REFUSED = ['p1 spec.ingress[0].from[0] OTHER_SIDE_REFUSES'];

check(
  ['OTHER_SIDE_REFUSES'],
  [
    ['the client may not send at all', `${API_FROM_WEB}podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]`, REFUSED],
    ['the client may send elsewhere', `${API_FROM_WEB}${WEB_TO('{podSelector: {matchLabels: {app: db}}}')}`, REFUSED],
    ['the client may send there', `${API_FROM_WEB}${WEB_TO('{podSelector: {matchLabels: {tier: back}}}')}`, []],
    [
      'the client may send there on other ports',
      `${API_FROM_WEB}${WEB_TO('{podSelector: {matchLabels: {app: api}}}')}\n  ports: [{port: 443}]`,
      [...REFUSED, 'p2 spec.egress[0].to[0] OTHER_SIDE_REFUSES'],
    ],
    [
      'the client may send there by a name',
      `${API_FROM_WEB}${WEB_TO('{podSelector: {matchLabels: {app: api}}}')}\n  ports: [{port: http}]`,
      [],
    ],
    ['the client may send to a block with it', `${API_FROM_WEB}${WEB_TO('{ipBlock: {cidr: 10.244.0.0/24}}')}`, []],
    ['the client may send to a block without it', `${API_FROM_WEB}${WEB_TO('{ipBlock: {cidr: 192.0.2.0/24}}')}`, REFUSED],
    ['nobody isolates the client', `${API_FROM_WEB}podSelector: {matchLabels: {app: web}}`, []],
    [
      'one of two clients may send',
      `${API_FROM_WEB}podSelector: {matchLabels: {tier: front}}\npolicyTypes: [Egress]`,
      [],
      { pods: [...SHOP.pods, pod('shop/web-2', 'app=web')] },
    ],
    [
      'the server lets others in',
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to: [{podSelector: {matchLabels: {app: db}}}]\n---\npodSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]',
      ['p1 spec.egress[0].to[0] OTHER_SIDE_REFUSES'],
    ],
    [
      'a pod and itself',
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress, Egress]\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
      [],
    ],
  ],
);

check(
  ['PODS_NOT_ISOLATED'],
  [
    [
      'a namespace each',
      'podSelector: {matchLabels: {app: web}}',
      ['kube-system PODS_NOT_ISOLATED', 'monitoring PODS_NOT_ISOLATED', 'shop PODS_NOT_ISOLATED'],
    ],
    [
      'none where a policy is for every pod',
      'podSelector: {}\npolicyTypes: [Egress]',
      ['kube-system PODS_NOT_ISOLATED', 'monitoring PODS_NOT_ISOLATED'],
    ],
  ],
);

describe('what findings say', () => {
  const message = (text: string, code: LintCode, changes?: Cluster): string => found(text, [code], changes)[0]?.message ?? '';
  const remedy = (text: string, code: LintCode, changes?: Cluster): string => found(text, [code], changes)[0]?.remedy ?? '';

  it('names the label that was probably meant', () => {
    assert.match(remedy('podSelector: {matchLabels: {app: wbe}}', 'POLICY_SELECTS_NOTHING'), /did you mean app=web\?/u);
    assert.match(remedy('podSelector: {matchLabels: {app.kubernetes.io/name: web}}', 'POLICY_SELECTS_NOTHING'), /did you mean app=web\?/u);
    assert.match(
      remedy(`${FROM}  - namespaceSelector: {matchLabels: {name: shop}}`, 'PEER_SELECTS_NOTHING'),
      /did you mean kubernetes\.io\/metadata\.name=shop\?/u,
    );
  });

  it('counts pods that nobody isolates, without those on the network of their node and those that ended', () => {
    const [, , shop] = found('podSelector: {matchLabels: {app: web}}', ['PODS_NOT_ISOLATED']);
    assert.match(shop?.message ?? '', /^3 of 4 pods \(api-1, db-0, tools\) are isolated by no policy/u);
  });

  it('counts a workload once, whether it has pods or not', () => {
    const templates = ['web', 'api', 'cart'].map((name) => pod(`shop/${name}`, `app=${name}`));
    const text = 'podSelector: {matchLabels: {app: web}}\n---\npodSelector: {matchLabels: {app: cart}}';
    const [, , shop] = found(text, ['PODS_NOT_ISOLATED'], { templates });
    assert.match(shop?.message ?? '', /^3 of 5 pods and workloads /u);
  });

  it('names the pods that DNS was forgotten for, and the other policies that isolate them', () => {
    const text = `${EGRESS(TO_API)}\n---\npodSelector: {matchLabels: {tier: front}}\npolicyTypes: [Egress]\negress:\n- to: [{podSelector: {matchLabels: {app: db}}}]`;
    assert.match(message(text, 'DNS_FORGOTTEN'), /^web-1, which it isolates for egress, together with p2, cannot ask for names/u);
  });
});
