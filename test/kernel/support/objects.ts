/** Kubernetes objects as a test writes them into the directory that agents watch. */
import { formatAddress } from '../../../src/policy/address.ts';
import type { LabPod } from '../../../src/lab/topology.ts';

export interface KubernetesObject {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Labels; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

export type Labels = Readonly<Record<string, string>>;

export function namespaceObject(name: string, labels: Labels = {}, annotations?: Labels): KubernetesObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels, ...(annotations === undefined ? {} : { annotations }) } };
}

export interface PodFields {
  readonly labels?: Labels;
  readonly uid?: string;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  /** Default: Running. */
  readonly phase?: string;
  /** Instead of the lab pod's. */
  readonly addresses?: readonly string[];
  /** Container ports by name; numbers alone decide nothing. */
  readonly ports?: readonly { readonly name: string; readonly containerPort: number; readonly protocol?: string }[];
  /** Init containers that have not ended, no container that is ready. */
  readonly initialising?: boolean;
}

/** The object of a pod that is (or was) in the lab. */
export function podObject(
  pod: Pick<LabPod, 'namespace' | 'name' | 'node' | 'addresses' | 'hostNetwork'>,
  fields: PodFields = {},
): KubernetesObject {
  const { labels = {}, phase = 'Running', ports = [], uid, creationTimestamp = '2026-01-01T00:00:00Z', deletionTimestamp } = fields;
  const addresses = fields.addresses ?? pod.addresses.map(formatAddress);
  const { namespace, name } = pod;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace,
      name,
      labels,
      uid: uid ?? `${namespace}/${name}`,
      creationTimestamp,
      ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
    },
    spec: { nodeName: pod.node, hostNetwork: pod.hostNetwork, containers: [{ name: 'main', ports }] },
    status: {
      phase,
      podIPs: addresses.map((ip) => ({ ip })),
      ...(addresses[0] === undefined ? {} : { podIP: addresses[0] }),
      ...(fields.initialising === true
        ? {
            conditions: [
              { type: 'Ready', status: 'False' },
              { type: 'Initialized', status: 'False' },
            ],
          }
        : {}),
    },
  };
}

/** `spec` as in NetworkPolicy v1; podSelector defaults to every pod. */
export function policyObject(namespace: string, name: string, spec: Readonly<Record<string, unknown>>): KubernetesObject {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace, name },
    spec: { podSelector: {}, ...spec },
  };
}

/** A peer: pods with these labels in namespaces with those. */
export function peer(pods: Labels, namespaces: Labels): Readonly<Record<string, unknown>> {
  return { podSelector: { matchLabels: pods }, namespaceSelector: { matchLabels: namespaces } };
}

export function tcp(...ports: readonly number[]): readonly Readonly<Record<string, unknown>>[] {
  return ports.map((port) => ({ protocol: 'TCP', port }));
}

export function tcpAndUdp(...ports: readonly number[]): readonly Readonly<Record<string, unknown>>[] {
  return ['TCP', 'UDP'].flatMap((protocol) => ports.map((port) => ({ protocol, port })));
}
