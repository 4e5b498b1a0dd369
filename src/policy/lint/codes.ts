/**
 * What the checks of policies can find, one entry a code: how bad it is, what it means, an example and the same mended. `sluice lint
 * --explain`, docs/lint.md and the rules of SARIF are made of this; a test lints every example, and what is to be written instead.
 *
 * Codes are stable: one that goes out of use is not used for anything else.
 */
import { NAMESPACE_BUDGET, POD_BUDGET, POLICY_BUDGET, SELECTOR_ENTRIES } from '../budget.ts';
import { PROBLEMS, type ProblemCode } from '../problems.ts';
import type { LintSeverity } from './finding.ts';

export interface CodeEntry {
  readonly severity: LintSeverity;
  /** A few words, for lists. */
  readonly summary: string;
  /** What is so, what it means in effect, and when it is found: a few sentences. */
  readonly meaning: string;
  /**
   * The spec of a policy of namespace shop, in YAML, in which it is found; several are apart by `---`. A first line `# namespace: x` puts
   * them elsewhere.
   */
  readonly example: string;
  /** What to write instead. */
  readonly instead: string;
}

/** A policy with so many peers in either direction. */
function manySelectors(count: number): string {
  const peers = `[${Array.from({ length: count }, () => '{podSelector: {}}').join(', ')}]`;
  return `podSelector: {}\ningress: [{from: ${peers}}]\negress: [{to: ${peers}}]`;
}

/** A policy with so many rules, each for 30 names of ports. */
function manyRules(count: number): string {
  const ports = Array.from({ length: 30 }, (_, index) => `{port: p${index}}`).join(', ');
  return `podSelector: {}\ningress: [${Array.from({ length: count }, () => `{ports: [${ports}]}`).join(', ')}]`;
}

const OWN = {
  POLICY_SELECTS_NOTHING: {
    severity: 'warning',
    summary: 'a policy that selects no pod',
    meaning:
      'No pod and no workload of the namespace has the labels that spec.podSelector asks for. The policy isolates nobody; the pods that were meant are open. ' +
      'Pods that workloads will make (the templates of Deployments and the like) count. Where a label that is there is nearly the same, it is named.',
    example: 'podSelector: {matchLabels: {app: wbe}}',
    instead: 'podSelector: {matchLabels: {app: web}}',
  },
  POLICY_SELECTS_HOST_NETWORK: {
    severity: 'warning',
    summary: 'a policy that selects pods on the network of their node',
    meaning:
      'Pods with hostNetwork: true have the address of their node, and no policy applies to them. Found where all pods that a policy selects are such, and where a policy that does not select the whole namespace selects some.',
    example: 'podSelector: {matchLabels: {app: agent}}',
    instead: 'podSelector: {matchLabels: {app: web}}',
  },
  POLICY_SELECTS_ENDED_PODS: {
    severity: 'note',
    summary: 'a policy that selects only pods that have ended',
    meaning:
      'Every pod that it selects is Succeeded or Failed: it applies to nobody until there is another, as the next run of a Job may be.',
    example: 'podSelector: {matchLabels: {app: migrate}}',
    instead: 'podSelector: {matchLabels: {app: web}}',
  },
  NAMESPACE_WITHOUT_PODS: {
    severity: 'note',
    summary: 'policies in a namespace that has no pods',
    meaning:
      'The policies of the namespace apply to nobody as yet. One finding a namespace; not for a directory of manifests, which may hold only some of a cluster.',
    example: '# namespace: empty\npodSelector: {}',
    instead: 'podSelector: {}',
  },
  SELECTOR_CONTRADICTS: {
    severity: 'error',
    summary: 'a selector that nothing can ever match',
    meaning:
      'What it asks of one label cannot hold at once. As the subject of a policy it isolates nobody, as a peer it admits nobody, whatever the cluster holds.',
    example: 'podSelector:\n  matchLabels: {app: web}\n  matchExpressions: [{key: app, operator: NotIn, values: [web]}]',
    instead: 'podSelector: {matchLabels: {app: web}}',
  },
  PEER_SELECTS_NOTHING: {
    severity: 'warning',
    summary: 'a peer that matches nothing',
    meaning:
      'No namespace, or no pod and no workload of the namespaces, has the labels that the peer asks for: it admits nobody. ' +
      'Of a directory of manifests, which may hold only some of a cluster, this is said of the namespaces that have pods or workloads in it, and of labels that look like a slip of the pen.',
    example: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: frontend}}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: web}}',
  },
  PEER_OWN_NAMESPACE_ONLY: {
    severity: 'warning',
    summary: 'a podSelector whose pods are in other namespaces',
    meaning:
      'A podSelector without a namespaceSelector looks in the policy’s own namespace only. No pod there matches it, and pods of other namespaces do: they are not admitted.',
    example: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: prometheus}}',
    instead:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}\n    podSelector: {matchLabels: {app: prometheus}}',
  },
  PEERS_MEAN_OR: {
    severity: 'warning',
    summary: 'two peers where one with both selectors was probably meant',
    meaning:
      'Each dash begins a peer of its own, and of several peers either will do. Found where a rule has two peers, one of namespaces and one of pods, and what they select gives it away: ' +
      'the pods are not in the policy’s own namespace but in those selected, or the own namespace is among those selected, so that the peer of pods adds nobody. Every pod of the namespaces is admitted.',
    example:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {team: ops}}\n  - podSelector: {matchLabels: {app: prometheus}}',
    instead:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {team: ops}}\n    podSelector: {matchLabels: {app: prometheus}}',
  },
  PEER_MEANS_AND: {
    severity: 'warning',
    summary: 'a peer with both selectors where two peers were probably meant',
    meaning:
      'Both selectors of a peer have to hold. No pod of the selected namespaces matches the podSelector, and pods of the policy’s own namespace do: the peer admits nobody.',
    example:
      'podSelector: {matchLabels: {app: db}}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {team: ops}}\n    podSelector: {matchLabels: {app: api}}',
    instead:
      'podSelector: {matchLabels: {app: db}}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {team: ops}}\n  - podSelector: {matchLabels: {app: api}}',
  },
  PEER_SELECTS_HOST_NETWORK: {
    severity: 'warning',
    summary: 'a peer whose pods are all on the network of their node',
    meaning: 'What such pods send has the address of the node, and no selector matches it: the peer admits nobody. An ipBlock does.',
    example: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: agent}}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 192.168.0.0/24}',
  },
  PEER_REDUNDANT: {
    severity: 'note',
    summary: 'a peer that another of the same rule covers',
    meaning: 'All that it matches is matched by another peer of the rule, in every cluster. Often the other one is wider than was meant.',
    example:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {tier: front}}\n  - podSelector: {matchLabels: {tier: front, app: web}}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {tier: front}}',
  },
  NAMESPACE_BY_LOOSE_LABEL: {
    severity: 'note',
    summary: 'a namespace selected by a label that is not always its name',
    meaning:
      'The label name (or ns, namespace) is what somebody has written. Whoever may edit a namespace can give it to another, and one that is made anew lacks it. kubernetes.io/metadata.name is set by the API, on every namespace, and stays.',
    example: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {name: monitoring}}',
    instead:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}',
  },
  LABEL_NEAR_MISS: {
    severity: 'warning',
    summary: 'a label in a selector that looks like a slip of the pen',
    meaning:
      'The selector matches something, but one of the values or keys in it is on no object at all, while another is that differs in one character or in case. In NotIn and DoesNotExist such a slip admits what was to be left out.',
    example:
      'podSelector: {matchLabels: {app: db}}\ningress:\n- from:\n  - podSelector:\n      matchExpressions: [{key: tier, operator: NotIn, values: [frnt]}]',
    instead:
      'podSelector: {matchLabels: {app: db}}\ningress:\n- from:\n  - podSelector:\n      matchExpressions: [{key: tier, operator: NotIn, values: [front]}]',
  },
  LABEL_VALUE_EMPTY: {
    severity: 'warning',
    summary: 'an empty value, where the label always has one',
    meaning: 'An empty value matches labels whose value is empty, and not whatever has the label. Nothing has it with an empty value.',
    example: 'podSelector: {matchLabels: {tier: ""}}',
    instead: 'podSelector:\n  matchExpressions: [{key: tier, operator: Exists}]',
  },
  NOT_IN_ADMITS_UNLABELED: {
    severity: 'note',
    summary: 'NotIn in a peer, which admits what lacks the label as well',
    meaning: 'NotIn holds for a pod that does not have the label at all. Found where some of the peers have the label and others lack it.',
    example:
      'podSelector: {matchLabels: {app: db}}\ningress:\n- from:\n  - podSelector:\n      matchExpressions: [{key: tier, operator: NotIn, values: [front]}]',
    instead:
      'podSelector: {matchLabels: {app: db}}\ningress:\n- from:\n  - podSelector:\n      matchExpressions:\n      - {key: tier, operator: NotIn, values: [front]}\n      - {key: tier, operator: Exists}',
  },
  CIDR_IS_OF_PODS: {
    severity: 'warning',
    summary: 'a block of addresses that pods are given',
    meaning:
      'The block lies within a node’s podCIDR, or is the address of a pod. Pods come and go, and the next one at that address is admitted in its place. The block that is the network of all pods is CIDR_COVERS_PODS.',
    example: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 10.244.0.11/32}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: web}}',
  },
  CIDR_COVERS_PODS: {
    severity: 'warning',
    summary: 'a block that covers pods among others',
    meaning:
      'A block matches the addresses of pods as any other: they are admitted whatever their labels. Not found beside a peer that admits every pod anyway.',
    example: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 10.0.0.0/8}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 10.0.0.0/8, except: [10.244.0.0/16]}',
  },
  ANYWHERE_COVERS_PODS: {
    severity: 'note',
    summary: '0.0.0.0/0 or ::/0, which is every pod as well',
    meaning:
      'Often the world outside of the cluster is meant. The pods of all namespaces are in the block too, unless an except takes them out.',
    example:
      'podSelector: {matchLabels: {app: web}}\ningress:\n- from:\n  - ipBlock: {cidr: 0.0.0.0/0}\n  - ipBlock: {cidr: "::/0", except: ["fd00:244::/32"]}',
    instead:
      'podSelector: {matchLabels: {app: web}}\ningress:\n- from:\n  - ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}\n  - ipBlock: {cidr: "::/0", except: ["fd00:244::/32"]}',
  },
  ANYWHERE_IN_ONE_FAMILY: {
    severity: 'warning',
    summary: '0.0.0.0/0 without ::/0 in a cluster of both families',
    meaning:
      'A block of IPv4 is no address of IPv6, nor the other way round. Pods have addresses of both, and nothing is admitted by the other one. Found where the policy says nothing of the other family in that direction.',
    example: 'podSelector: {matchLabels: {app: web}}\ningress:\n- from:\n  - ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}',
    instead:
      'podSelector: {matchLabels: {app: web}}\ningress:\n- from:\n  - ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}\n  - ipBlock: {cidr: "::/0", except: ["fd00:244::/32"]}',
  },
  CIDR_IS_OF_SERVICES: {
    severity: 'warning',
    summary: 'a block of addresses of Services',
    meaning:
      'A connection to a Service is translated before policy is asked, which sees the address behind it; and nothing is ever sent from a Service’s address. The block admits nothing. Found where it covers no pod and no node.',
    example: 'podSelector: {matchLabels: {app: api}}\npolicyTypes: [Egress]\negress:\n- to:\n  - ipBlock: {cidr: 10.96.0.0/12}',
    instead:
      'podSelector: {matchLabels: {app: api}}\npolicyTypes: [Egress]\negress:\n- to:\n  - podSelector: {matchLabels: {app: web}}\n- to:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]',
  },
  EXCEPT_READMITTED: {
    severity: 'warning',
    summary: 'an except that something else admits all the same',
    meaning:
      'An except limits its own peer. Another peer, rule or policy, for the same pods and at least the same ports, admits all of what it takes out. Certain for every cluster.',
    example:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/32]}\n  - ipBlock: {cidr: 192.0.2.0/28}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/32]}',
  },
  EXCEPT_REPEATED: {
    severity: 'note',
    summary: 'an except that another one of the same block covers',
    meaning: 'It takes nothing out that the other one leaves in.',
    example:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/29, 192.0.2.8/32]}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/29]}',
  },
  PORT_NAME_UNDECLARED: {
    severity: 'warning',
    summary: 'a named port that nobody declares',
    meaning:
      'A name is the number that the destination pod gives it, for this protocol. No pod that the rule is about declares it: the entry admits nothing.',
    example: 'podSelector: {matchLabels: {app: db}}\ningress:\n- ports: [{port: http}]',
    instead: 'podSelector: {matchLabels: {app: db}}\ningress:\n- ports: [{port: postgres}]',
  },
  PORT_NAME_DIFFERS: {
    severity: 'note',
    summary: 'a named port with different numbers in different pods',
    meaning: 'Each pod is opened at its own number, and at no other’s. That is what names are for, and a surprise where it is not known.',
    example: 'podSelector: {matchExpressions: [{key: app, operator: In, values: [web, api]}]}\ningress:\n- ports: [{port: http}]',
    instead: 'podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: http}]',
  },
  PORT_NAME_PARTLY_DECLARED: {
    severity: 'note',
    summary: 'a named port that only some of the pods declare',
    meaning: 'For pods that do not declare it the entry admits nothing. Not found in policies that select a whole namespace.',
    example: 'podSelector: {matchLabels: {tier: back}}\ningress:\n- ports: [{port: grpc}]',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- ports: [{port: grpc}]',
  },
  PORT_NAME_TO_BLOCK: {
    severity: 'warning',
    summary: 'a named port to addresses outside of the cluster',
    meaning:
      'Only pods have names of ports. An egress rule to nothing but blocks, in which no pod declares the name, admits nothing by it.',
    example:
      'podSelector: {matchLabels: {app: api}}\npolicyTypes: [Egress]\negress:\n- to: [{ipBlock: {cidr: 192.0.2.7/32}}]\n  ports: [{port: https}]',
    instead:
      'podSelector: {matchLabels: {app: api}}\npolicyTypes: [Egress]\negress:\n- to: [{ipBlock: {cidr: 192.0.2.7/32}}]\n  ports: [{port: 443}]',
  },
  PORT_PROTOCOL_DIFFERS: {
    severity: 'warning',
    summary: 'a port that the pods declare for another protocol',
    meaning:
      'A port without a protocol is TCP. The pods that the rule is about declare the number for another protocol only, which the rule does not admit.',
    example: '# namespace: kube-system\npodSelector: {matchLabels: {app: resolver}}\ningress:\n- ports: [{port: 5300}]',
    instead: '# namespace: kube-system\npodSelector: {matchLabels: {app: resolver}}\ningress:\n- ports: [{protocol: UDP, port: 5300}]',
  },
  PORT_IS_OF_SERVICE: {
    severity: 'warning',
    summary: 'the port of a Service, where the pods have another',
    meaning:
      'Policy is asked after the translation of a Service: what counts is the port of the pod. No pod that the rule is about declares the number, a Service in front of them has it, and the port behind it is not admitted.',
    example: 'podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 80}]',
    instead: 'podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 8080}]',
  },
  PORT_REDUNDANT: {
    severity: 'note',
    summary: 'a port that other entries of the same rule cover',
    meaning: 'The others admit all that it does.',
    example: 'podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 8000, endPort: 8100}, {port: 8080}]',
    instead: 'podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 8000, endPort: 8100}]',
  },
  PORT_RANGE_IS_EVERYTHING: {
    severity: 'note',
    summary: 'a range that is every port',
    meaning: 'From 1 to 65535 there is nothing left to restrict; an entry with a protocol alone says the same.',
    example: 'podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 1, endPort: 65535}]',
    instead: 'podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{protocol: TCP}]',
  },
  RULES_WITHOUT_EFFECT: {
    severity: 'warning',
    summary: 'rules of a direction that policyTypes does not name',
    meaning:
      'policyTypes alone decides in which directions a policy isolates. Rules of another direction are accepted and have no effect: the pods are not restricted there.',
    example: 'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\ningress:\n- from:\n  - podSelector: {matchLabels: {app: api}}',
    instead:
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress, Egress]\ningress:\n- from:\n  - podSelector: {matchLabels: {app: api}}',
  },
  EMPTY_RULES_WITHOUT_EFFECT: {
    severity: 'warning',
    summary: 'an empty list of rules that denies nothing',
    meaning:
      'egress: [] isolates only where policyTypes names Egress; without policyTypes a policy is about egress only where it has egress rules. The same for ingress: [] where policyTypes leaves Ingress out.',
    example: 'podSelector: {matchLabels: {app: web}}\negress: []',
    instead: 'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress, Egress]\negress: []',
  },
  INGRESS_DENIED_BY_DEFAULT: {
    severity: 'warning',
    summary: 'a policy of egress rules that denies all ingress as well',
    meaning:
      'Without policyTypes a policy is always about ingress, and one without ingress rules denies all of it. Not found where another policy isolates the same pods for ingress anyway.',
    example: 'podSelector: {matchLabels: {app: web}}\negress:\n- to:\n  - podSelector: {matchLabels: {app: api}}',
    instead: 'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to:\n  - podSelector: {matchLabels: {app: api}}',
  },
  EMPTY_LIST_ADMITS_ALL: {
    severity: 'warning',
    summary: 'from, to or ports that is empty, and restricts nothing',
    meaning:
      'An empty list is as good as none: everybody, or every port, is admitted. It looks like the opposite. The same for a field without a value, as when all entries below it are commented out.',
    example: 'podSelector: {matchLabels: {app: web}}\ningress:\n- from: []',
    instead: 'podSelector: {matchLabels: {app: web}}\ningress: []',
  },
  SUBJECT_MISSING: {
    severity: 'warning',
    summary: 'a policy without a podSelector, which is for every pod',
    meaning: 'An absent podSelector is the empty one, and selects every pod of the namespace.',
    example: 'ingress:\n- from:\n  - podSelector: {matchLabels: {app: web}}',
    instead: 'podSelector: {matchLabels: {app: api}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: web}}',
  },
  DNS_FORGOTTEN: {
    severity: 'warning',
    summary: 'an egress policy without DNS',
    meaning:
      'The pods are isolated for egress, something is admitted, and nothing admits port 53 of the cluster’s DNS: connections by name fail. All policies that isolate the pods are taken together. ' +
      'Not found where pods may send nothing at all, where the rules name single addresses only, or where a resolver outside is admitted on port 53. Without DNS pods in the input it is judged by whether any rule may lead to some.',
    example: 'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to:\n  - podSelector: {matchLabels: {app: api}}',
    instead:
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to:\n  - podSelector: {matchLabels: {app: api}}\n- to:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n    podSelector: {matchLabels: {k8s-app: kube-dns}}\n  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]',
  },
  DNS_TCP_ONLY: {
    severity: 'warning',
    summary: 'an egress policy that admits DNS by TCP only',
    meaning: 'A port without a protocol is TCP, and resolvers ask by UDP: names are not found, or late.',
    example:
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n  ports: [{port: 53}]',
    instead:
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]',
  },
  DNS_UDP_ONLY: {
    severity: 'note',
    summary: 'an egress policy that admits DNS by UDP only',
    meaning: 'Answers that are too long for a packet are asked for again by TCP, and never come.',
    example:
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n  ports: [{protocol: UDP, port: 53}]',
    instead:
      'podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]',
  },
  RULE_SHADOWED: {
    severity: 'note',
    summary: 'a rule that another rule covers',
    meaning:
      'Another rule, of this policy or of one that selects the same pods and more, admits everything that it does. Certain for every cluster: selectors, blocks and ports are compared, not pods.',
    example:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from: [{podSelector: {}}]\n- from: [{podSelector: {matchLabels: {app: web}}}]\n  ports: [{port: 8081}]',
    instead:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from: [{podSelector: {matchLabels: {app: web}}}]\n  ports: [{port: 8081}]',
  },
  ALLOW_ALL_OVERRIDES: {
    severity: 'warning',
    summary: 'an empty rule, beside rules that are meant to restrict',
    meaning:
      'The empty rule admits everybody on every port. Policies only ever add to one another, so that all other rules for the same pods and direction restrict nothing.',
    example:
      'podSelector: {}\ningress: [{}]\n---\npodSelector: {matchLabels: {app: db}}\ningress:\n- from: [{podSelector: {matchLabels: {app: api}}}]',
    instead: 'podSelector: {matchLabels: {app: db}}\ningress:\n- from: [{podSelector: {matchLabels: {app: api}}}]',
  },
  POLICY_REDUNDANT: {
    severity: 'note',
    summary: 'a policy without which nothing would change',
    meaning:
      'Other policies isolate the same pods in the same directions, and their rules admit all that its own do. Certain for every cluster. Of two that are the same the second is found. A policy that denies everything in its namespace is left alone where those that cover it admit something.',
    example: 'podSelector: {}\n---\npodSelector: {matchLabels: {app: db}}',
    instead: 'podSelector: {}',
  },
  OTHER_SIDE_REFUSES: {
    severity: 'warning',
    summary: 'a rule that the pods at the other end contradict',
    meaning:
      'A flow needs both: egress of the one end, and ingress of the other. Every pod that the peer selects is isolated in the opposite direction by policies none of whose rules can admit any of this policy’s pods on these ports. One of the two sides forgot.',
    example:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from: [{podSelector: {matchLabels: {app: web}}}]\n---\npodSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress: []',
    instead:
      'podSelector: {matchLabels: {app: api}}\ningress:\n- from: [{podSelector: {matchLabels: {app: web}}}]\n---\npodSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to: [{podSelector: {matchLabels: {app: api}}}]',
  },
  PODS_NOT_ISOLATED: {
    severity: 'note',
    summary: 'pods that no policy isolates',
    meaning:
      'No policy selects them, in either direction: everybody may speak to them, and they to everybody. One finding a namespace. Pods on the network of their node, and those that have ended, do not count.',
    example: 'podSelector: {matchLabels: {app: web}}',
    instead: 'podSelector: {}',
  },
  NAMESPACE_TOO_LARGE: {
    severity: 'error',
    summary: 'more policy in a namespace than a node carries',
    meaning: `The policies of a namespace have room for ${NAMESPACE_BUDGET.entries.toLocaleString('en')} peers, exceptions, ports and values of selectors together, and a selector counts ${SELECTOR_ENTRIES}. The largest policies, for which there is no room, isolate the pods that they select, and admit nothing.`,
    example: Array.from({ length: 6 }, () => manySelectors(900)).join('\n---\n'),
    instead: manySelectors(1),
  },
  POD_POLICIES_TOO_MANY: {
    severity: 'error',
    summary: 'more policies on a pod than a node carries',
    meaning: `Every new connection may have to pass all policies of its pod. For each direction a pod has room for ${POD_BUDGET.policies.toLocaleString('en')} policies, in order of their names, and ${POD_BUDGET.rules.toLocaleString('en')} rules of the kernel (a pair of a peer and a port each). The others isolate the pod, and admit nothing to it.`,
    example: `${manyRules(170)}\n---\n${manyRules(170)}`,
    instead: manyRules(1),
  },
} as const satisfies Readonly<Record<string, CodeEntry>>;

type OwnCode = keyof typeof OWN;
export type LintCode = OwnCode | ProblemCode;

/** Of what is found when a policy is read; how bad it is says {@link PROBLEMS}. */
const READ: Readonly<Record<ProblemCode, Omit<CodeEntry, 'severity'> & { readonly remedy: string }>> = {
  TYPE_INVALID: {
    summary: 'a field of the wrong type',
    meaning: 'The API would refuse it. What cannot be read admits nothing, and the rest is in force.',
    example: 'podSelector: {}\ningress: everybody',
    instead: 'podSelector: {}\ningress: [{}]',
    remedy: 'write what the API has here (kubectl explain networkpolicy.spec)',
  },
  FIELD_UNKNOWN: {
    summary: 'a field that is not there',
    meaning:
      'A slip of the pen, or a later version of the API. Left out, the rule would admit more than was meant, and so it admits nothing.',
    example: 'podSelector: {}\ningress:\n- form: [{podSelector: {}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{podSelector: {}}]',
    remedy: 'write the name of the field that was meant, or leave it out',
  },
  POLICY_TYPE_UNKNOWN: {
    summary: 'an entry of policyTypes that is neither Ingress nor Egress',
    meaning: 'It isolates in both directions, and admits nothing for itself. Case counts.',
    example: 'podSelector: {}\npolicyTypes: [ingress]',
    instead: 'podSelector: {}\npolicyTypes: [Ingress]',
    remedy: 'write Ingress or Egress',
  },
  POLICY_TYPES_TOO_MANY: {
    summary: 'policyTypes with more than two entries',
    meaning: 'There are two. The API refuses more.',
    example: 'podSelector: {}\npolicyTypes: [Ingress, Egress, Ingress]',
    instead: 'podSelector: {}\npolicyTypes: [Ingress, Egress]',
    remedy: 'name each direction once',
  },
  PEER_EMPTY: {
    summary: 'a peer that names nobody',
    meaning: 'It matches nothing. The API refuses it.',
    example: 'podSelector: {}\ningress:\n- from: [{}]',
    instead: 'podSelector: {}\ningress:\n- from: [{namespaceSelector: {}}]',
    remedy: 'write namespaceSelector: {} for every pod, or leave from (to) out for everybody',
  },
  PEER_MIXED: {
    summary: 'a peer with an ipBlock and selectors',
    meaning: 'A peer is one or the other. It matches nothing.',
    example: 'podSelector: {}\ningress:\n- from: [{podSelector: {}, ipBlock: {cidr: 192.0.2.0/24}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{podSelector: {}}, {ipBlock: {cidr: 192.0.2.0/24}}]',
    remedy: 'write two peers, if either will do; both at once cannot be said',
  },
  CIDR_INVALID: {
    summary: 'a CIDR that cannot be read',
    meaning: 'The peer matches nothing.',
    example: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24}}]',
    remedy: 'write an address and a length, as in 10.0.0.0/8 or fd00::/8',
  },
  CIDR_IPV4_MAPPED: {
    summary: 'IPv4 written as IPv6',
    meaning: 'No packet carries such an address, and the peer matches nothing.',
    example: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: "::ffff:192.0.2.0/120"}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24}}]',
    remedy: 'write the block as IPv4',
  },
  CIDR_HOST_BITS: {
    summary: 'a CIDR with bits set beyond its length',
    meaning: 'They are masked: 10.0.0.5/24 is 10.0.0.0/24, and not the one address.',
    example: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.7/24}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.7/32}}]',
    remedy: 'write the network as it is read, or /32 (/128) if the one address is meant',
  },
  CIDR_LEADING_ZEROS: {
    summary: 'a CIDR with leading zeros',
    meaning: 'They are read as decimal, as Kubernetes does; other programs take them for octal.',
    example: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.000.002.0/24}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24}}]',
    remedy: 'leave the zeros out',
  },
  EXCEPT_INVALID: {
    summary: 'an except that cannot be read',
    meaning: 'Without it the peer would match more than was meant, and so it matches nothing.',
    example: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8]}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/32]}}]',
    remedy: 'write a list of CIDRs',
  },
  EXCEPT_OUTSIDE_BLOCK: {
    summary: 'an except outside of its block',
    meaning: 'It takes nothing out. The API refuses it.',
    example: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [198.51.100.0/24]}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]',
    remedy: 'leave it out, or write a part of the cidr',
  },
  EXCEPT_COVERS_BLOCK: {
    summary: 'except that leaves nothing of its block',
    meaning: 'One entry covers the whole cidr, or several do together: the peer matches nothing.',
    example: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25, 192.0.2.128/25]}}]',
    instead: 'podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25]}}]',
    remedy: 'leave the peer out, or name only what is to be left out of it',
  },
  PROTOCOL_UNKNOWN: {
    summary: 'a protocol that is none of TCP, UDP and SCTP',
    meaning: 'The entry admits nothing. ICMP cannot be named: a rule without ports admits it.',
    example: 'podSelector: {}\ningress:\n- ports: [{protocol: tcp, port: 80}]',
    instead: 'podSelector: {}\ningress:\n- ports: [{protocol: TCP, port: 80}]',
    remedy: 'write TCP, UDP or SCTP',
  },
  PORT_INVALID: {
    summary: 'a port that is neither a number from 1 to 65535 nor a name',
    meaning: 'The entry admits nothing.',
    example: 'podSelector: {}\ningress:\n- ports: [{port: 80000}]',
    instead: 'podSelector: {}\ningress:\n- ports: [{port: 8000}]',
    remedy: 'write a number from 1 to 65535, or the name of a port',
  },
  PORT_NAME_INVALID: {
    summary: 'a name that no port can have',
    meaning: 'The entry admits nothing. A number in quotes is such a name.',
    example: 'podSelector: {}\ningress:\n- ports: [{port: "8080"}]',
    instead: 'podSelector: {}\ningress:\n- ports: [{port: 8080}]',
    remedy: 'write a number without quotes, or a name as in http or metrics-2',
  },
  END_PORT_INVALID: {
    summary: 'an endPort that makes no range',
    meaning: 'It needs a numeric port, and may not be below it. The entry admits nothing.',
    example: 'podSelector: {}\ningress:\n- ports: [{port: 8080, endPort: 8000}]',
    instead: 'podSelector: {}\ningress:\n- ports: [{port: 8000, endPort: 8080}]',
    remedy: 'write the lower number as port, and the higher as endPort',
  },
  SELECTOR_INVALID: {
    summary: 'a selector of the wrong form',
    meaning:
      'A peer with it matches nothing. A policy with it isolates every pod of its namespace, so that nobody is left open who was meant.',
    example: 'podSelector: {matchLabels: [app]}',
    instead: 'podSelector: {matchLabels: {app: web}}',
    remedy: 'write matchLabels as an object and matchExpressions as a list',
  },
  SELECTOR_OPERATOR_UNKNOWN: {
    summary: 'an operator that selectors do not have',
    meaning: 'The whole selector cannot be used: with a requirement left out it would match more than was meant.',
    example: 'podSelector: {matchExpressions: [{key: app, operator: Equals, values: [web]}]}',
    instead: 'podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}',
    remedy: 'write In, NotIn, Exists or DoesNotExist',
  },
  SELECTOR_VALUES_MISSING: {
    summary: 'In or NotIn without values',
    meaning: 'The whole selector cannot be used.',
    example: 'podSelector: {matchExpressions: [{key: app, operator: In}]}',
    instead: 'podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}',
    remedy: 'write the values, or Exists or DoesNotExist',
  },
  SELECTOR_VALUES_FORBIDDEN: {
    summary: 'Exists or DoesNotExist with values',
    meaning: 'The whole selector cannot be used.',
    example: 'podSelector: {matchExpressions: [{key: tier, operator: Exists, values: [front]}]}',
    instead: 'podSelector: {matchExpressions: [{key: tier, operator: Exists}]}',
    remedy: 'leave the values out, or write In or NotIn',
  },
  LABEL_KEY_INVALID: {
    summary: 'a key that no label can have',
    meaning: 'The whole selector cannot be used.',
    example: 'podSelector: {matchLabels: {"app name": web}}',
    instead: 'podSelector: {matchLabels: {app: web}}',
    remedy: 'write a key as in app or example.com/app',
  },
  LABEL_VALUE_INVALID: {
    summary: 'a value that no label can have',
    meaning: 'The whole selector cannot be used. Numbers and booleans have to be in quotes.',
    example: 'podSelector: {matchExpressions: [{key: app, operator: In, values: [web, 1]}]}',
    instead: 'podSelector: {matchExpressions: [{key: app, operator: In, values: [web, "1"]}]}',
    remedy: 'write text of at most 63 letters, digits, dashes, dots and underscores, numbers in quotes',
  },
  POLICY_TOO_LARGE: {
    summary: 'a policy larger than what a node carries',
    meaning: `Of one direction ${POLICY_BUDGET.rules.toLocaleString('en')} rules are carried, and ${POLICY_BUDGET.entries.toLocaleString('en')} peers, exceptions, ports and values of selectors (a selector counts ${SELECTOR_ENTRIES}): others would pay for more with their time and memory. What is beyond admits nothing.`,
    example: `podSelector: {}\ningress: [${Array.from({ length: POLICY_BUDGET.rules + 1 }, () => '{}').join(', ')}]`,
    instead: 'podSelector: {}\ningress: [{}]',
    remedy: 'write several policies, or larger blocks and fewer selectors',
  },
  PROBLEMS_MORE: {
    summary: 'more problems than are told',
    meaning: 'Of each severity the first twenty problems of an object are told, and how many more there are.',
    example: `podSelector: {}\ningress:\n- ports: [${Array.from({ length: 21 }, () => '{port: 0}').join(', ')}]`,
    instead: 'podSelector: {}\ningress:\n- ports: [{port: 80}]',
    remedy: 'mend what is told, and look again',
  },
};

/** Every code, in the order of the documentation. */
export const CODES: Readonly<Record<LintCode, CodeEntry>> = {
  ...OWN,
  ...(Object.fromEntries(
    Object.entries(PROBLEMS).map(([code, severity]) => [code, { severity, ...READ[code as ProblemCode] }]),
  ) as unknown as Readonly<Record<ProblemCode, CodeEntry>>),
};

/** What to write instead of what could not be read as it stands. */
export const REMEDIES: Readonly<Record<ProblemCode, string>> = Object.fromEntries(
  Object.entries(READ).map(([code, { remedy }]) => [code, remedy]),
) as Readonly<Record<ProblemCode, string>>;

export const LINT_CODES = Object.keys(CODES) as readonly LintCode[];

export function isLintCode(text: string): text is LintCode {
  return Object.hasOwn(CODES, text);
}

export function isProblemCode(code: LintCode): code is ProblemCode {
  return Object.hasOwn(PROBLEMS, code);
}
