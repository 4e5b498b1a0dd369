/**
 * What people call the ends of a connection, and who that is: a pod, the pods of a workload or a namespace, those behind a Service, an
 * address or a block of them. A name that stands for nothing, or for more than one thing, is an error that says what would be right.
 */
import { SluiceError } from '../errors.ts';
import type { EndpointSlice, Service, ServicePort } from '../kubernetes/service.ts';
import { WORKLOAD_KINDS, type Workload, type WorkloadKind } from '../kubernetes/workload.ts';
import { type Address, formatAddress, formatPrefix, parseAddress, type Prefix, readPrefix } from '../policy/address.ts';
import { nearest } from '../output/nearest.ts';
import type { Pod, PolicyProtocol } from '../policy/objects.ts';
import { PORT_MAX } from '../policy/ports.ts';
import { matches } from '../policy/selector.ts';
import type { Inventory } from './inventory.ts';

export type Endpoint =
  | { readonly kind: 'pod'; readonly name: string; readonly pod: Pod }
  | { readonly kind: 'workload'; readonly name: string; readonly workload: Workload; readonly pods: readonly Pod[] }
  | { readonly kind: 'namespace'; readonly name: string; readonly pods: readonly Pod[] }
  | {
      readonly kind: 'service';
      readonly name: string;
      readonly service: Service;
      /** All that is behind it, on whatever port. */
      readonly endpoints: readonly ServiceEndpoint[];
      /** The same for each of its ports. */
      readonly backends: readonly Backend[];
    }
  | { readonly kind: 'address'; readonly name: string; readonly address: Address }
  | { readonly kind: 'block'; readonly name: string; readonly prefix: Prefix };

export interface ServiceEndpoint {
  readonly address: Address;
  /** Undefined: no pod that is known. */
  readonly pod: Pod | undefined;
  readonly ready: boolean;
}

/** Where a connection to a Service's port ends up. */
export interface Backend extends ServiceEndpoint {
  readonly servicePort: ServicePort;
  /** After DNAT: what policy judges (row 18). */
  readonly port: number;
  readonly protocol: PolicyProtocol;
}

/** What is asked about at the destination. */
export type PortQuestion =
  | { readonly kind: 'port'; readonly port: number | string; readonly protocol: PolicyProtocol | undefined }
  | { readonly kind: 'icmp' };

export interface Destination {
  readonly name: string;
  /** Undefined: every port that it declares. */
  readonly port: PortQuestion | undefined;
}

const PROTOCOLS: readonly PolicyProtocol[] = ['TCP', 'UDP', 'SCTP'];

/**
 * Splits `NAME[:PORT[/PROTOCOL]]`. PORT is a number or the name of a port; `:icmp` asks about ICMP. IPv6 addresses with a port are in
 * brackets. @throws SluiceError `DESTINATION_INVALID`
 */
export function parseDestination(text: string): Destination {
  const [, bracketed, rest] = /^\[([^\]]*)\](?::(.*))?$/u.exec(text) ?? [];
  if (bracketed !== undefined) return { name: bracketed, port: rest === undefined ? undefined : parsePort(rest, text) };
  if (parseAddress(text) !== undefined || readPrefix(text) !== undefined) return { name: text, port: undefined };
  const colon = text.indexOf(':');
  if (colon < 0) return { name: text, port: undefined };
  return { name: text.slice(0, colon), port: parsePort(text.slice(colon + 1), text) };
}

function parsePort(text: string, whole: string): PortQuestion {
  if (/^icmp$/iu.test(text)) return { kind: 'icmp' };
  const [, port = '', name] = /^([^/]+)(?:\/(\w+))?$/u.exec(text) ?? [];
  const protocol = PROTOCOLS.find((known) => known === name?.toUpperCase());
  const number = Number(port);
  const isNumber = /^\d+$/u.test(port);
  const isName = /^(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*$/u.test(port);
  if ((isNumber ? number >= 1 && number <= PORT_MAX : isName) && (name === undefined || protocol !== undefined)) {
    return { kind: 'port', port: isNumber ? number : port, protocol };
  }
  throw new SluiceError('DESTINATION_INVALID', `${JSON.stringify(text)} in ${whole} is no port`, {
    hint: 'A port is a number from 1 to 65535 or a name, with TCP, UDP or SCTP behind a slash: db:5432, dns:53/UDP, web:http, [fd00::1]:80, db:icmp.',
    exitStatus: 2,
  });
}

type Kind = 'pod' | 'service' | 'namespace' | WorkloadKind;

/** As kubectl abbreviates them. */
const ALIASES: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ...(['pod', 'pods', 'po'] as const).map((alias) => [alias, 'pod'] as const),
  ...(['service', 'services', 'svc'] as const).map((alias) => [alias, 'service'] as const),
  ...(['namespace', 'namespaces', 'ns'] as const).map((alias) => [alias, 'namespace'] as const),
  ...WORKLOAD_KINDS.flatMap((kind) => [kind.toLowerCase(), `${kind.toLowerCase()}s`].map((alias) => [alias, kind] as const)),
  ...(
    [
      ['deploy', 'Deployment'],
      ['sts', 'StatefulSet'],
      ['ds', 'DaemonSet'],
      ['rs', 'ReplicaSet'],
      ['cj', 'CronJob'],
      ['rc', 'ReplicationController'],
    ] as const
  ).map(([alias, kind]) => [alias, kind] as const),
]);

/** What `KIND/` may be, for help texts. */
export const ENDPOINT_HELP =
  'pod, namespace/pod, or by kind: [namespace/]KIND/name with KIND pod, svc, deploy, sts, ds, rs, job, cronjob, or ns/name; or an address or a block of them';

interface Name {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
}

/**
 * Namespaces that a name may be about, without asking anybody: to read no more than needed.
 *
 * @param namespace where names without one are
 */
export function namespacesOf(text: string, namespace: string): string[] {
  if (parseAddress(text) !== undefined || readPrefix(text) !== undefined) return [];
  return [...new Set(readings(text, namespace).map((name) => (name.kind === 'namespace' ? name.name : name.namespace)))];
}

/** The pod that a name can only stand for; undefined: it is about something else, or may be. */
export function podNamed(text: string, namespace: string): { readonly namespace: string; readonly name: string } | undefined {
  if (parseAddress(text) !== undefined || readPrefix(text) !== undefined) return undefined;
  const [only, second] = readings(text, namespace);
  return only?.kind === 'pod' && second === undefined ? { namespace: only.namespace, name: only.name } : undefined;
}

/**
 * @param namespace where names without one are
 * @throws SluiceError `NAME_UNKNOWN`, `NAME_AMBIGUOUS`, `NAME_INVALID`
 */
export async function resolveEndpoint(inventory: Inventory, text: string, namespace: string): Promise<Endpoint> {
  const address = parseAddress(text);
  if (address !== undefined) return { kind: 'address', name: formatAddress(address), address };
  const block = readPrefix(text);
  if (block !== undefined) return { kind: 'block', name: formatPrefix(block.prefix), prefix: block.prefix };
  const names = readings(text, namespace);
  const found: Endpoint[] = [];
  for (const name of names) {
    const endpoint = await find(inventory, name);
    if (endpoint !== undefined) found.push(endpoint);
  }
  const [only, second] = found;
  if (only !== undefined && second !== undefined) {
    throw new SluiceError('NAME_AMBIGUOUS', `${JSON.stringify(text)} may be ${found.map(describe).join(' or ')}`, {
      hint: `Say which: ${found.map(unambiguous).join(' or ')}.`,
      exitStatus: 2,
    });
  }
  return only ?? unknown(inventory, text, names);
}

/** Everything that the text may mean; more than one only where a namespace is called like a kind. */
function readings(text: string, namespace: string): Name[] {
  const parts = text.split('/');
  if (/^[\d.]+\/\d+$/u.test(text)) {
    throw new SluiceError('NAME_INVALID', `${JSON.stringify(text)} is no block of addresses`, {
      hint: 'Right are 10.0.0.0/8 and fd00::/8.',
      exitStatus: 2,
    });
  }
  if (parts.length > 3 || parts.some((part) => !/^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/u.test(part))) {
    throw new SluiceError('NAME_INVALID', `${JSON.stringify(text)} is no name, address or block of addresses`, {
      // A destination has lost its port by now.
      hint: /^[^:]+:[^:]+$/u.test(text) ? 'Only a destination has a port.' : `Right are ${ENDPOINT_HELP}.`,
      exitStatus: 2,
    });
  }
  const [first = '', second, third] = parts;
  if (second === undefined) return [{ kind: 'pod', namespace, name: first }];
  if (third !== undefined) {
    const kind = ALIASES.get(second.toLowerCase());
    if (kind !== undefined && kind !== 'namespace') return [{ kind, namespace: first, name: third }];
    throw new SluiceError('NAME_INVALID', `${JSON.stringify(second)} in ${text} is no kind`, {
      hint: `Right are ${ENDPOINT_HELP}.`,
      exitStatus: 2,
    });
  }
  const kind = ALIASES.get(first.toLowerCase());
  const asPod: Name = { kind: 'pod', namespace: first, name: second };
  return kind === undefined ? [asPod] : [{ kind, namespace, name: second }, asPod];
}

async function find(inventory: Inventory, { kind, namespace, name }: Name): Promise<Endpoint | undefined> {
  const { pods } = inventory;
  const isNamed = (one: { readonly namespace: string; readonly name: string }): boolean => one.namespace === namespace && one.name === name;
  if (kind === 'pod') {
    const pod = pods.find(isNamed);
    return pod && { kind, name: `${namespace}/${name}`, pod };
  }
  if (kind === 'namespace') {
    const own = pods.filter((pod) => pod.namespace === name);
    const isKnown = own.length > 0 || inventory.namespaces.some((one) => one.name === name);
    return isKnown ? { kind, name, pods: own } : undefined;
  }
  if (kind === 'service') {
    const { services, slices } = await inventory.services();
    const service = services.find(isNamed);
    if (service === undefined) return undefined;
    const own = slices.filter((slice) => slice.namespace === namespace && slice.service === name);
    return { kind, name: `${namespace}/svc/${name}`, service, ...behind(service, own, inventory) };
  }
  const workload = (await inventory.workloads()).find((one) => one.kind === kind && isNamed(one));
  if (workload === undefined) return undefined;
  return { kind: 'workload', name: `${namespace}/${kind.toLowerCase()}/${name}`, workload, pods: podsOf(workload, pods) };
}

function podsOf({ namespace, selector }: Workload, pods: readonly Pod[]): Pod[] {
  if (selector === undefined) return [];
  return pods.filter((pod) => pod.namespace === namespace && !pod.terminal && matches(selector, pod.labels));
}

/** As its EndpointSlices say; where it has none (a directory need not have them) as its selector does. */
function behind(
  service: Service,
  slices: readonly EndpointSlice[],
  inventory: Inventory,
): { readonly endpoints: readonly ServiceEndpoint[]; readonly backends: readonly Backend[] } {
  if (slices.length > 0) {
    const podOf = podReader(inventory);
    const ofSlices = slices.map(({ ports, endpoints }) => ({
      ports,
      endpoints: endpoints.flatMap(({ addresses, pod, ready }) =>
        addresses.map((address) => ({ address, pod: podOf(address, pod), ready })),
      ),
    }));
    const backends = service.ports.flatMap((servicePort) =>
      ofSlices.flatMap(({ ports, endpoints }) =>
        ports
          .filter(({ name, protocol }) => name === servicePort.name && protocol === servicePort.protocol)
          .flatMap(({ port = servicePort.port, protocol }) => endpoints.map((endpoint) => ({ servicePort, port, protocol, ...endpoint }))),
      ),
    );
    return { endpoints: ofSlices.flatMap(({ endpoints }) => endpoints), backends };
  }
  const { selector } = service;
  if (selector === undefined) return { endpoints: [], backends: [] };
  const chosen = inventory.pods.filter(
    (pod) =>
      pod.namespace === service.namespace &&
      !pod.terminal &&
      Object.entries(selector).every(([key, value]) => pod.labels.get(key) === value),
  );
  const endpointsOf = (pod: Pod): ServiceEndpoint[] => pod.addresses.map((address) => ({ address, pod, ready: true }));
  const backends = service.ports.flatMap((servicePort) =>
    chosen.flatMap((pod) =>
      targetsOf(servicePort, pod).flatMap((port) =>
        endpointsOf(pod).map((endpoint) => ({ servicePort, port, protocol: servicePort.protocol, ...endpoint })),
      ),
    ),
  );
  return { endpoints: chosen.flatMap(endpointsOf), backends };
}

/**
 * Whose an address of an EndpointSlice is. The slice may be older than the pods: the name that it has counts only where the address is
 * nobody else's now, and the pod's (a hostNetwork pod's is its node's as well).
 */
function podReader({ pods, world }: Inventory): (address: Address, named: string | undefined) => Pod | undefined {
  const byName = new Map(pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod]));
  return (address, named) => {
    const owner = world.podAt(address);
    if (owner !== undefined || named === undefined) return owner;
    const pod = byName.get(named);
    return pod !== undefined && !pod.terminal && pod.addresses.includes(address) ? pod : undefined;
  };
}

/** A pod's own number of a port that a Service names: of several the first, as the EndpointSlice controller takes it. */
function targetsOf({ targetPort, protocol }: ServicePort, pod: Pod): number[] {
  if (typeof targetPort === 'number') return [targetPort];
  const named = pod.ports.find((port) => port.name === targetPort && port.protocol === protocol);
  return named === undefined ? [] : [named.port];
}

function describe(endpoint: Endpoint): string {
  return endpoint.kind === 'workload' ? `the ${endpoint.workload.kind} ${endpoint.name}` : `the ${endpoint.kind} ${endpoint.name}`;
}

function unambiguous(endpoint: Endpoint): string {
  if (endpoint.kind === 'pod') return `${endpoint.pod.namespace}/pod/${endpoint.pod.name}`;
  return endpoint.name;
}

async function unknown(inventory: Inventory, text: string, names: readonly Name[]): Promise<never> {
  const [name = { kind: 'pod', namespace: '', name: text } satisfies Name] = names;
  const { kind, namespace } = name;
  const where = kind === 'namespace' ? '' : ` in namespace ${namespace}`;
  throw new SluiceError('NAME_UNKNOWN', `there is no ${kind === 'pod' ? 'pod' : kind} ${name.name}${where} (${inventory.origin})`, {
    hint: (await hintFor(inventory, name)) ?? `Right are ${ENDPOINT_HELP}.`,
    exitStatus: 2,
  });
}

async function hintFor(inventory: Inventory, { kind, namespace, name }: Name): Promise<string | undefined> {
  const namespaces = new Set([...inventory.namespaces.map((one) => one.name), ...inventory.pods.map((pod) => pod.namespace)]);
  const wanted = kind === 'namespace' ? name : namespace;
  if (!namespaces.has(wanted)) {
    const near = nearest(wanted, namespaces);
    return near === undefined ? `There is no namespace ${wanted}.` : `There is no namespace ${wanted}; perhaps ${near} is meant.`;
  }
  if (kind === 'pod') return hintForPod(inventory.pods, namespace, name);
  const all = kind === 'service' ? (await inventory.services()).services : (await inventory.workloads()).filter((one) => one.kind === kind);
  const near = nearest(
    name,
    all.filter((one) => one.namespace === namespace).map((one) => one.name),
  );
  if (near !== undefined) return `Perhaps ${near} is meant.`;
  const elsewhere = all.find((one) => one.name === name);
  return elsewhere && `There is one in namespace ${elsewhere.namespace}.`;
}

/** How many names a hint lists. */
const LISTED = 3;

function hintForPod(pods: readonly Pod[], namespace: string, name: string): string | undefined {
  const own = pods.filter((pod) => pod.namespace === namespace).map((pod) => pod.name);
  // The name of a workload, whose pods have theirs from it.
  const begun = own.filter((other) => other.startsWith(`${name}-`));
  if (begun.length > 0) {
    const more = begun.length > LISTED ? ` and ${begun.length - LISTED} more` : '';
    return `Pods that begin so: ${begun.slice(0, LISTED).join(', ')}${more}. All pods of a Deployment are ${namespace}/deploy/${name}.`;
  }
  const near = nearest(name, own);
  if (near !== undefined) return `Perhaps ${namespace}/${near} is meant.`;
  const elsewhere = pods.find((pod) => pod.name === name);
  return elsewhere && `There is ${elsewhere.namespace}/${elsewhere.name}.`;
}
