/**
 * What a bundle keeps of an object: the fields that are read, and nothing else. No environment, no commands, no volumes, no images, and of
 * annotations only the one that has a meaning here.
 */
import { MODE_ANNOTATION } from '../policy/mode.ts';
import { type Fields, isFields } from '../policy/problems.ts';
import { WORKLOAD_KINDS } from '../kubernetes/workload.ts';

/**
 * What to keep: `true` all of it, an object these fields of it, a list of one that of each entry. What is not of that form is kept where
 * it is a text, a number or a truth value: somebody is told what is wrong with it.
 */
type Kept = true | { readonly [field: string]: Kept } | readonly [Kept];

const METADATA: Kept = { name: true, namespace: true, uid: true, labels: true, creationTimestamp: true };
const PORTS: Kept = [{ name: true, containerPort: true, protocol: true }];
const POD_SPEC: Kept = {
  nodeName: true,
  hostNetwork: true,
  containers: [{ ports: PORTS }],
  initContainers: [{ restartPolicy: true, ports: PORTS }],
};
const TEMPLATE: Kept = { metadata: { labels: true }, spec: POD_SPEC };
const WORKLOAD: Kept = { metadata: METADATA, spec: { selector: true, template: TEMPLATE } };

/** By kind, with the version that the API serves it in. */
const KINDS: Readonly<Record<string, { readonly apiVersion: string; readonly kept: Kept }>> = {
  Namespace: { apiVersion: 'v1', kept: { metadata: { ...METADATA, annotations: { [MODE_ANNOTATION]: true } } } },
  Node: {
    apiVersion: 'v1',
    kept: { metadata: METADATA, spec: { podCIDR: true, podCIDRs: true }, status: { addresses: [{ type: true, address: true }] } },
  },
  Pod: { apiVersion: 'v1', kept: { metadata: METADATA, spec: POD_SPEC, status: { phase: true, podIP: true, podIPs: [{ ip: true }] } } },
  NetworkPolicy: { apiVersion: 'networking.k8s.io/v1', kept: { metadata: METADATA, spec: true } },
  Service: {
    apiVersion: 'v1',
    kept: {
      metadata: METADATA,
      spec: {
        type: true,
        clusterIP: true,
        clusterIPs: true,
        externalIPs: true,
        externalName: true,
        selector: true,
        ports: [{ name: true, protocol: true, port: true, targetPort: true, nodePort: true }],
      },
      status: { loadBalancer: { ingress: [{ ip: true }] } },
    },
  },
  EndpointSlice: {
    apiVersion: 'discovery.k8s.io/v1',
    kept: {
      metadata: METADATA,
      ports: [{ name: true, protocol: true, port: true }],
      endpoints: [{ addresses: true, conditions: { ready: true }, targetRef: { kind: true, name: true, namespace: true } }],
    },
  },
  ...Object.fromEntries(WORKLOAD_KINDS.map((kind) => [kind, { apiVersion: versionOf(kind), kept: WORKLOAD }])),
  CronJob: { apiVersion: 'batch/v1', kept: { metadata: METADATA, spec: { jobTemplate: { spec: { template: TEMPLATE } } } } },
};

function versionOf(kind: (typeof WORKLOAD_KINDS)[number]): string {
  if (kind === 'ReplicationController') return 'v1';
  return kind === 'Job' || kind === 'CronJob' ? 'batch/v1' : 'apps/v1';
}

/** Undefined: of a kind that nothing reads. */
export function keptFields(kind: string, value: unknown): Fields | undefined {
  const known = KINDS[kind];
  if (known === undefined || !isFields(value)) return undefined;
  const kept = keep(value, known.kept);
  return { apiVersion: known.apiVersion, kind, ...(isFields(kept) ? kept : {}) };
}

function keep(value: unknown, kept: Kept): unknown {
  if (kept === true || typeof value !== 'object' || value === null) return value;
  const [each] = Array.isArray(kept) ? (kept as readonly [Kept]) : [];
  if (each !== undefined) return Array.isArray(value) ? value.map((item: unknown) => keep(item, each)) : undefined;
  if (!isFields(value)) return undefined;
  const fields: Record<string, unknown> = {};
  for (const [name, of] of Object.entries(kept)) {
    if (!Object.hasOwn(value, name)) continue;
    const part = keep(value[name], of);
    if (part !== undefined) fields[name] = part;
  }
  return fields;
}
