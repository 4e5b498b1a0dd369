/**
 * A large cluster as API objects, made one by one and the same every time.
 *
 * It is shaped like clusters that people run: twenty pods a namespace in workloads of ten; nine of ten workloads are Deployments,
 * whose pods share all labels, the others StatefulSets, whose pods each have a label of their own; two address families; two policies
 * a namespace, most of them about pods of their own namespace, and two pods on a node rarely of one workload.
 */
import { type Address, formatAddress, ipv4, ipv6 } from '../src/policy/address.ts';
import type { ObjectKind } from '../src/kubernetes/projections.ts';

export interface ClusterShape {
  readonly pods: number;
  readonly namespaces: number;
  readonly policies: number;
  /** How many of the pods run on {@link LOCAL_NODE}. */
  readonly localPods: number;
}

export interface ApiObject {
  readonly apiVersion: string;
  readonly kind: ObjectKind;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

export const LOCAL_NODE = 'node-0000';

const REPLICAS = 10;
const APPS = ['web', 'api', 'worker', 'cache', 'db', 'queue'] as const;
const TEAMS = 50;
const ENVIRONMENTS = ['prod', 'staging', 'dev'] as const;
/** Of a hundred workloads. */
const STATEFUL_PERCENT = 10;

/** The proportions of `pods`: twenty a namespace, and a policy for every ten. */
export function proportionalShape(pods: number, localPods: number): ClusterShape {
  return { pods, namespaces: Math.max(1, Math.round(pods / 20)), policies: Math.max(1, Math.round(pods / 10)), localPods };
}

/** Spreads numbers that follow each other, the same everywhere (the finalizer of murmur3). */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function padded(number: number, digits: number): string {
  return String(number).padStart(digits, '0');
}

export class SyntheticCluster {
  readonly shape: ClusterShape;
  /** Pods are dealt out to the nodes in turn, so that replicas are spread. */
  readonly nodes: number;
  /** Size of a node's block of IPv4 pod addresses. */
  readonly #blockBits: number;

  constructor(shape: ClusterShape) {
    this.shape = shape;
    this.nodes = Math.ceil(shape.pods / shape.localPods);
    this.#blockBits = shape.localPods <= 200 ? 8 : 14;
  }

  /** Everything, in an order that a source may use: kind by kind. */
  *objects(): Generator<ApiObject> {
    for (let index = 0; index < this.shape.namespaces; index++) yield this.namespace(index);
    for (let index = 0; index < this.nodes; index++) yield this.node(index);
    for (let index = 0; index < this.shape.policies; index++) yield this.policy(index);
    for (let index = 0; index < this.shape.pods; index++) yield this.pod(index);
  }

  namespaceName(index: number): string {
    return `team-${padded(index % TEAMS, 2)}-${padded(index, 4)}`;
  }

  /** The namespace that a workload is in. */
  namespaceOf(workload: number): number {
    return workload % this.shape.namespaces;
  }

  appOf(workload: number): string {
    return APPS[Math.floor(workload / this.shape.namespaces) % APPS.length] ?? APPS[0];
  }

  namespace(index: number): ApiObject {
    const name = this.namespaceName(index);
    return {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name,
        uid: uid('n', index),
        creationTimestamp: '2025-03-01T08:00:00Z',
        labels: {
          'kubernetes.io/metadata.name': name,
          team: `team-${padded(index % TEAMS, 2)}`,
          environment: environmentOf(index),
          ...(index === 0 ? { purpose: 'monitoring' } : {}),
        },
      },
      status: { phase: 'Active' },
    };
  }

  node(index: number): ApiObject {
    const block = formatAddress(this.#address(index, 0));
    const block6 = formatAddress(this.#address6(index, 0));
    return {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: `node-${padded(index, 4)}`, labels: { 'kubernetes.io/os': 'linux' } },
      spec: { podCIDRs: [`${block}/${32 - this.#blockBits}`, `${block6}/${128 - 16}`] },
      status: {
        addresses: [
          { type: 'InternalIP', address: formatAddress(ipv4(0x0a40_0000 + index + 1)) },
          { type: 'Hostname', address: `node-${padded(index, 4)}` },
        ],
      },
    };
  }

  #address(node: number, slot: number): Address {
    return ipv4(0x0a80_0000 + node * 2 ** this.#blockBits + slot);
  }

  #address6(node: number, slot: number): Address {
    return ipv6((0xfd00_0010_0244n << 80n) + BigInt(node) * 0x1_0000n + BigInt(slot));
  }

  /**
   * The pod of a number; also of one that is not in the cluster yet, whose address is free then. Numbers that {@link nodes} divides
   * are pods of {@link LOCAL_NODE}.
   */
  pod(index: number, workload = Math.floor(index / REPLICAS)): ApiObject {
    const node = index % this.nodes;
    const slot = Math.floor(index / this.nodes) + 2;
    const app = this.appOf(workload);
    const isStateful = mix(workload) % 100 < STATEFUL_PERCENT;
    const base = `${app}-${padded(workload, 5)}`;
    const hash = mix(workload + 1)
      .toString(36)
      .padStart(7, '0')
      .slice(0, 7);
    const name = flat(isStateful ? `${base}-${index}` : `${base}-${hash}-${mix(index).toString(36).slice(0, 5)}-${index}`);
    const addresses = [formatAddress(this.#address(node, slot)), formatAddress(this.#address6(node, slot))];
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace: this.namespaceName(this.namespaceOf(workload)),
        uid: uid('p', index),
        resourceVersion: String(1_000_000 + index),
        creationTimestamp: '2025-06-01T08:00:00Z',
        labels: {
          app,
          'app.kubernetes.io/name': app,
          'app.kubernetes.io/instance': base,
          ...(isStateful
            ? { 'controller-revision-hash': `${base}-${hash}`, 'statefulset.kubernetes.io/pod-name': name }
            : { 'pod-template-hash': hash }),
        },
        annotations: { 'prometheus.io/scrape': 'true', 'prometheus.io/port': '9090' },
        ownerReferences: [{ apiVersion: 'apps/v1', kind: isStateful ? 'StatefulSet' : 'ReplicaSet', name: base, controller: true }],
      },
      spec: {
        nodeName: `node-${padded(node, 4)}`,
        serviceAccountName: 'default',
        restartPolicy: 'Always',
        containers: [
          {
            name: app,
            image: `registry.invalid/${app}:1.${workload % 30}`,
            env: [{ name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
            ports: [
              { name: 'http', containerPort: 8080, protocol: 'TCP' },
              { name: 'metrics', containerPort: 9090, protocol: 'TCP' },
            ],
            resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
          },
        ],
        volumes: [{ name: 'token', projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } }],
      },
      status: {
        phase: 'Running',
        conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => ({ type, status: 'True' })),
        hostIP: formatAddress(ipv4(0x0a40_0000 + node + 1)),
        podIP: addresses[0],
        podIPs: addresses.map((ip) => ({ ip })),
      },
    };
  }

  /** The policy of a number. `variant` makes another spec of the same policy: odd ones admit another port. */
  policy(index: number, variant = 0): ApiObject {
    const namespace = index % this.shape.namespaces;
    const ordinal = Math.floor(index / this.shape.namespaces);
    const apps = Math.max(1, Math.round(this.shape.pods / this.shape.namespaces / REPLICAS));
    const app = APPS[ordinal % Math.min(apps, APPS.length)] ?? APPS[0];
    const other = APPS[(ordinal + 1) % Math.min(apps, APPS.length)] ?? APPS[0];
    const port = variant % 2 === 0 ? 8080 : 8081;
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: {
        name: `${app}-${ordinal}`,
        namespace: this.namespaceName(namespace),
        uid: uid('q', index),
        creationTimestamp: '2025-05-01T08:00:00Z',
      },
      spec: policySpec(mix(index) % 100, app, other, port, namespace),
    };
  }
}

/** `lot` is 0–99: how many of a hundred policies are of which kind. */
function policySpec(lot: number, app: string, other: string, port: number, namespace: number): unknown {
  const subject = { podSelector: { matchLabels: { app } } };
  const fromOther = { podSelector: { matchLabels: { app: other } } };
  // 45: this application is reached by another one of its namespace.
  if (lot < 45) return { ...subject, policyTypes: ['Ingress'], ingress: [{ from: [fromOther], ports: [{ protocol: 'TCP', port }] }] };
  // 15: the same, and it reaches nothing but that one and DNS.
  if (lot < 60) {
    return {
      ...subject,
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ from: [fromOther], ports: [{ port }] }],
      egress: [
        { to: [fromOther], ports: [{ port }] },
        {
          to: [{ namespaceSelector: { matchLabels: { team: 'team-00' } }, podSelector: { matchLabels: { app: 'cache' } } }],
          ports: [
            { protocol: 'UDP', port: 53 },
            { protocol: 'TCP', port: 53 },
          ],
        },
      ],
    };
  }
  // 10: a port by its name, and scraping from the namespace for monitoring.
  if (lot < 70) {
    return {
      ...subject,
      ingress: [
        { from: [fromOther], ports: [{ port: port === 8080 ? 'http' : 'metrics' }] },
        { from: [{ namespaceSelector: { matchLabels: { purpose: 'monitoring' } } }], ports: [{ port: 'metrics' }] },
      ],
    };
  }
  // 10: everyone of a team, some two thousand pods in a cluster of a hundred thousand.
  if (lot < 80) {
    const team = `team-${padded(namespace % TEAMS, 2)}`;
    return { ...subject, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team } } }], ports: [{ port }] }] };
  }
  // 10: addresses outside.
  if (lot < 90) {
    return {
      ...subject,
      policyTypes: ['Egress'],
      egress: [
        { to: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8', '169.254.169.254/32'] } }], ports: [{ port: 443 }, { port }] },
        { to: [fromOther], ports: [{ port, endPort: port + 10 }] },
      ],
    };
  }
  // 8: nobody reaches anything of the namespace, or its own pods do.
  if (lot < 98) return { podSelector: {}, ingress: lot < 94 ? [] : [{ from: [{ podSelector: {} }] }], policyTypes: ['Ingress'] };
  // 2: a whole environment, every third pod of the cluster.
  const environment = environmentOf(namespace);
  const expression = { key: 'app', operator: 'NotIn', values: ['db', 'queue'] };
  return {
    ...subject,
    ingress: [
      {
        from: [{ namespaceSelector: { matchLabels: { environment } }, podSelector: { matchExpressions: [expression] } }],
        ports: [{ port }],
      },
    ],
  };
}

/** Teams have all environments. */
function environmentOf(namespace: number): string {
  return ENVIRONMENTS[Math.floor(namespace / TEAMS) % ENVIRONMENTS.length] ?? ENVIRONMENTS[0];
}

/** One piece, as a parser's strings are: V8 keeps a concatenation as a tree of its parts, which takes three times the room. */
function flat(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function uid(kind: string, index: number): string {
  const low = mix(index).toString(16).padStart(8, '0');
  return flat(`${low}-0000-4000-8000-${kind.charCodeAt(0).toString(16)}${padded(index, 10)}`);
}
