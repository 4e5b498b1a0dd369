/**
 * v1 Service and discovery.k8s.io/v1 EndpointSlice, projected: what a question about a Service is answered by. Policy itself never asks
 * for them (rows 18, 22: it judges after DNAT), so an object that cannot be read is left out as a whole, and said.
 */
import * as z from 'zod';
import { type Address, parseAddress } from '../policy/address.ts';
import type { PolicyProtocol } from '../policy/objects.ts';

export interface ServicePort {
  /** Empty where a Service has a single port without a name. */
  readonly name: string;
  readonly protocol: PolicyProtocol;
  readonly port: number;
  /** A number, or the name of a container port of each pod behind it. */
  readonly targetPort: number | string;
  readonly nodePort: number | undefined;
}

export interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly type: string;
  /** clusterIPs, externalIPs and the load balancer's, each once; none of a headless one. */
  readonly addresses: readonly Address[];
  /** clusterIP: None. DNS gives the addresses of the endpoints, and ports are not translated. */
  readonly headless: boolean;
  /** Of type ExternalName. */
  readonly externalName: string | undefined;
  /** Undefined: somebody else makes its EndpointSlices. */
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly ports: readonly ServicePort[];
}

export interface Endpoint {
  readonly addresses: readonly Address[];
  /** `namespace/name` of the pod that it is, where it is one. */
  readonly pod: string | undefined;
  /** conditions.ready; what is not said counts as ready. */
  readonly ready: boolean;
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** Of its namespace; undefined: it belongs to none. */
  readonly service: string | undefined;
  /** `port` is undefined where every port is meant. */
  readonly ports: readonly { readonly name: string; readonly protocol: PolicyProtocol; readonly port: number | undefined }[];
  readonly endpoints: readonly Endpoint[];
}

const METADATA = z.object({
  name: z.string().min(1),
  namespace: z.string().min(1).default('default'),
  labels: z.record(z.string(), z.string()).nullish(),
});
const PROTOCOL = z.enum(['TCP', 'UDP', 'SCTP']).nullish();
const PORT = z.int().min(0).max(65_535);
const TEXTS = z.array(z.string()).nullish();

const SERVICE = z.object({
  metadata: METADATA,
  spec: z
    .object({
      type: z.string().nullish(),
      clusterIP: z.string().nullish(),
      clusterIPs: TEXTS,
      externalIPs: TEXTS,
      externalName: z.string().nullish(),
      selector: z.record(z.string(), z.string()).nullish(),
      ports: z
        .array(
          z.object({
            name: z.string().nullish(),
            protocol: PROTOCOL,
            port: PORT,
            targetPort: z.union([PORT, z.string()]).nullish(),
            nodePort: PORT.nullish(),
          }),
        )
        .nullish(),
    })
    .default({}),
  status: z.object({ loadBalancer: z.object({ ingress: z.array(z.object({ ip: z.string().nullish() })).nullish() }).nullish() }).nullish(),
});

const SLICE = z.object({
  metadata: METADATA,
  ports: z.array(z.object({ name: z.string().nullish(), protocol: PROTOCOL, port: PORT.nullish() })).nullish(),
  endpoints: z
    .array(
      z.object({
        addresses: z.array(z.string()).default([]),
        conditions: z.object({ ready: z.boolean().nullish() }).nullish(),
        targetRef: z.object({ kind: z.string().nullish(), name: z.string().nullish(), namespace: z.string().nullish() }).nullish(),
      }),
    )
    .nullish(),
});

/** Set by whoever makes an EndpointSlice. https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetesioservice-name */
const SERVICE_NAME = 'kubernetes.io/service-name';

/** A text: what is wrong with it. */
export function projectService(value: unknown): Service | string {
  const { data, error } = SERVICE.safeParse(value);
  if (data === undefined) return z.prettifyError(error);
  const { metadata, spec, status } = data;
  const clusterIPs = [...(spec.clusterIPs ?? []), spec.clusterIP ?? ''];
  const balancers = (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip ?? '');
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    type: spec.type ?? 'ClusterIP',
    addresses: addressesOf([...clusterIPs, ...(spec.externalIPs ?? []), ...balancers]),
    headless: clusterIPs.includes('None'),
    externalName: spec.type === 'ExternalName' ? (spec.externalName ?? undefined) : undefined,
    selector: spec.selector ?? undefined,
    ports: (spec.ports ?? []).map(({ name, protocol, port, targetPort, nodePort }) => ({
      name: name ?? '',
      protocol: protocol ?? 'TCP',
      port,
      targetPort: targetPort ?? port,
      nodePort: nodePort ?? undefined,
    })),
  };
}

/** A text: what is wrong with it. */
export function projectEndpointSlice(value: unknown): EndpointSlice | string {
  const { data, error } = SLICE.safeParse(value);
  if (data === undefined) return z.prettifyError(error);
  const { metadata, ports, endpoints } = data;
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    service: metadata.labels?.[SERVICE_NAME],
    ports: (ports ?? []).map(({ name, protocol, port }) => ({ name: name ?? '', protocol: protocol ?? 'TCP', port: port ?? undefined })),
    endpoints: (endpoints ?? []).map(({ addresses, conditions, targetRef }) => ({
      addresses: addressesOf(addresses),
      pod:
        targetRef?.kind === 'Pod' && typeof targetRef.name === 'string'
          ? `${targetRef.namespace ?? metadata.namespace}/${targetRef.name}`
          : undefined,
      ready: conditions?.ready !== false,
    })),
  };
}

function addressesOf(texts: readonly string[]): Address[] {
  return [...new Set(texts.flatMap((text) => parseAddress(text) ?? []))];
}
