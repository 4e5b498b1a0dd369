/**
 * The two ends of a question, down to who sends and who receives: pods with their addresses, and the ports that are asked about. A Service
 * stands for its endpoints. Whoever cannot be asked about is named with the reason, and never guessed.
 */
import { SluiceError } from '../errors.ts';
import type { Service } from '../kubernetes/service.ts';
import { nearest } from '../output/nearest.ts';
import { type Address, familyOf, formatAddress, type Prefix } from '../policy/address.ts';
import type { Pod, PolicyProtocol } from '../policy/objects.ts';
import { ownsAddresses, type World } from '../policy/world.ts';
import { type Destination, type Endpoint, type PortQuestion, resolveEndpoint, type ServiceEndpoint } from './endpoints.ts';
import type { Inventory } from './inventory.ts';

/** A pod, or what is called by its address. */
export interface Member {
  /** `namespace/name`, or the address. */
  readonly name: string;
  /** Undefined: no pod that is known. */
  readonly pod: Pod | undefined;
  /** The first of each family; at least one. */
  readonly addresses: readonly Address[];
}

export interface AskedPort {
  readonly port: number;
  /** Where it is asked about through a Service: the Service's own port. */
  readonly servicePort?: number;
}

/** `ports` is empty for ICMP; undefined: nobody said which, and none is declared. */
export interface Ask {
  readonly protocol: PolicyProtocol | 'ICMP';
  readonly ports: readonly AskedPort[];
}

export interface Target {
  readonly member: Member;
  /** Undefined: it declares no port, and none was named. */
  readonly asks: readonly Ask[] | undefined;
}

export interface Unanswered {
  /** Who or what. */
  readonly name: string;
  /** Why nothing is said of it, as a sentence without its end. */
  readonly reason: string;
}

export interface Note {
  /** Stable: `SERVICE_TRANSLATED`. */
  readonly code: string;
  readonly message: string;
}

export interface Ends {
  readonly source: { readonly name: string; readonly members: readonly Member[]; readonly block: Prefix | undefined };
  /** What is asked of a block holds for all of it. */
  readonly destination: {
    readonly name: string;
    readonly targets: readonly Target[];
    readonly block: { readonly prefix: Prefix; readonly asks: readonly Ask[] | undefined } | undefined;
  };
  readonly unanswered: readonly Unanswered[];
  readonly notes: readonly Note[];
}

/** @throws SluiceError `PORT_UNKNOWN` where nobody at the destination has a port of that name, or the Service has no such port */
export async function endsOf(inventory: Inventory, source: Endpoint, destination: Endpoint, asked: Destination): Promise<Ends> {
  const ends = new EndsReader(inventory.world);
  const from = ends.membersOf(source);
  if (source.kind === 'service') {
    ends.note('SERVICE_AS_SOURCE', `a Service sends nothing; asked about are the pods behind ${source.name}`);
  }
  const { port } = asked;
  const service = destination.kind === 'address' ? await serviceAt(inventory, destination.address) : undefined;
  if (service !== undefined) ends.note('SERVICE_ADDRESS', `${destination.name} is an address of ${service.name}`);
  const to = service ?? destination;
  const targets = to.kind === 'service' ? ends.serviceTargets(to, port) : ends.targets(to, port);
  const nodePort = destination.kind === 'address' ? await nodePortAt(inventory, destination.address, port) : undefined;
  if (nodePort !== undefined) ends.note('NODE_PORT', nodePort);
  ends.noteHostNetwork();
  ends.noteMasquerade(from, to);
  return {
    source: { name: source.name, members: from, block: source.kind === 'block' ? source.prefix : undefined },
    destination: {
      name: to.name,
      targets,
      block: to.kind === 'block' ? { prefix: to.prefix, asks: asksOfBlock(to.name, port) } : undefined,
    },
    unanswered: ends.unanswered,
    notes: ends.notes,
  };
}

type AskedService = Extract<Endpoint, { kind: 'service' }>;

/** An address that no pod and no node has may be a Service's. Not being able to read Services says nothing of the address. */
async function serviceAt(inventory: Inventory, address: Address): Promise<AskedService | undefined> {
  const { world } = inventory;
  if (world.podAt(address) !== undefined || world.nodeAt(address) !== undefined) return undefined;
  const services = await servicesIfReadable(inventory);
  const service = services.find(({ addresses }) => addresses.includes(address));
  if (service === undefined) return undefined;
  const endpoint = await resolveEndpoint(inventory, `${service.namespace}/svc/${service.name}`, service.namespace);
  return endpoint.kind === 'service' ? endpoint : undefined;
}

/** What comes to a node's address on a nodePort does not stay there: it is translated before any policy judges it (row 18). */
async function nodePortAt(inventory: Inventory, address: Address, port: PortQuestion | undefined): Promise<string | undefined> {
  const { world } = inventory;
  if (port?.kind !== 'port' || world.podAt(address) !== undefined || world.nodeAt(address) === undefined) return undefined;
  const protocol = port.protocol ?? 'TCP';
  for (const { namespace, name, ports } of await servicesIfReadable(inventory)) {
    const of = ports.find((one) => one.nodePort === port.port && one.protocol === protocol);
    if (of === undefined) continue;
    const service = `${namespace}/svc/${name}`;
    return `${protocol} ${of.nodePort} is the nodePort of ${service}: what comes to a node there goes on to the endpoints of the Service, and policies judge it on its way to them; ask about ${service}:${of.port} (rows 18, 31)`;
  }
  return undefined;
}

async function servicesIfReadable(inventory: Pick<Inventory, 'services'>): Promise<readonly Service[]> {
  try {
    return (await inventory.services()).services;
  } catch (error) {
    if (error instanceof SluiceError) return [];
    throw error;
  }
}

class EndsReader {
  readonly unanswered: Unanswered[] = [];
  readonly notes: Note[] = [];
  readonly #world: World;
  readonly #hostNetwork = new Set<Pod>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Row 29. A node has a handful of such pods, and a namespace as many as nodes: one note for all. */
  noteHostNetwork(): void {
    const [first, ...others] = this.#hostNetwork;
    if (first === undefined) return;
    const one = `${keyOf(first)} is in the network of its node${first.node === '' ? '' : ` ${first.node}`}: its address is the node's, no policy isolates it, and of peers only an ipBlock matches it (row 29)`;
    const many = `${keyOf(first)} and ${others.length} more are in the network of their nodes: their addresses are the nodes', no policy isolates them, and of peers only an ipBlock matches them (row 29)`;
    // Who is asked about comes before what is.
    this.notes.unshift({ code: 'HOST_NETWORK', message: others.length === 0 ? one : many });
  }

  note(code: string, message: string): void {
    if (!this.notes.some((note) => note.code === code && note.message === message)) this.notes.push({ code, message });
  }

  leaveOut(name: string, reason: string): void {
    if (!this.unanswered.some((one) => one.name === name && one.reason === reason)) this.unanswered.push({ name, reason });
  }

  membersOf(endpoint: Endpoint): Member[] {
    switch (endpoint.kind) {
      case 'pod':
        return this.#podMembers([endpoint.pod]);
      case 'workload':
      case 'namespace': {
        // Pods that have ended are asked about by name alone (row 33).
        const living = endpoint.pods.filter(({ terminal }) => !terminal);
        if (living.length === 0) this.leaveOut(endpoint.name, 'no pod of it is there');
        return this.#podMembers(living);
      }
      case 'service':
        this.#leaveOutUnlessBehind(endpoint, endpoint.endpoints);
        return membersBehind(endpoint.endpoints).map(({ member }) => member);
      case 'address':
        return [this.#memberAt(endpoint.address)];
      case 'block':
        return [];
    }
  }

  #memberAt(address: Address): Member {
    const pod = this.#world.podAt(address);
    return { name: pod === undefined ? formatAddress(address) : keyOf(pod), pod, addresses: [address] };
  }

  #podMembers(pods: readonly Pod[]): Member[] {
    return pods.flatMap((pod) => {
      const name = keyOf(pod);
      if (pod.terminal) {
        this.leaveOut(name, 'it has ended (phase Succeeded or Failed), and has no address any more');
        return [];
      }
      if (pod.addresses.length === 0) {
        this.leaveOut(name, 'it has no address yet (status.podIPs)');
        return [];
      }
      // Row 40: an address that was reused belongs to the newer pod.
      const own = ownsAddresses(pod) ? pod.addresses.filter((address) => isPod(this.#world.podAt(address), pod)) : pod.addresses;
      if (own.length === 0) {
        const newer = pod.addresses.map((address) => this.#world.podAt(address)).find((owner) => owner !== undefined);
        this.leaveOut(name, `its address belongs to ${newer === undefined ? 'another pod' : keyOf(newer)}, which is newer`);
        return [];
      }
      if (pod.hostNetwork) this.#hostNetwork.add(pod);
      return [{ name, pod, addresses: firstOfEachFamily(own) }];
    });
  }

  targets(endpoint: Exclude<Endpoint, { kind: 'service' }>, port: PortQuestion | undefined): Target[] {
    const members = this.membersOf(endpoint);
    if (port === undefined) return members.map((member) => ({ member, asks: declaredAsks(member) }));
    if (port.kind === 'icmp') return members.map((member) => ({ member, asks: [{ protocol: 'ICMP', ports: [] }] }));
    if (typeof port.port === 'string') return this.#namedTargets(endpoint, members, port.port, port.protocol);
    const protocol = port.protocol ?? 'TCP';
    this.#noteUndeclared(endpoint.name, members, port.port, protocol, port.protocol === undefined);
    return members.map((member) => ({ member, asks: [{ protocol, ports: [{ port: Number(port.port) }] }] }));
  }

  #namedTargets(endpoint: Endpoint, members: readonly Member[], name: string, protocol: PolicyProtocol | undefined): Target[] {
    const declared = members.map((member) => ({
      member,
      ports: (member.pod?.ports ?? []).filter((port) => port.name === name && (protocol === undefined || port.protocol === protocol)),
    }));
    const without = declared.filter(({ ports }) => ports.length === 0);
    if (without.length === declared.length && declared.length + Number(endpoint.kind === 'block') > 0) {
      const names = members.flatMap(({ pod }) => pod?.ports ?? []);
      const near = nearest(name, new Set(names.map((port) => port.name)));
      const what = `${protocol === undefined ? '' : `${protocol} `}port ${name}`;
      const isPod = members.some(({ pod }) => pod !== undefined);
      throw new SluiceError(
        'PORT_UNKNOWN',
        isPod ? `no container of ${endpoint.name} declares a ${what}` : `${endpoint.name} is no pod, and has no port by name`,
        {
          hint:
            near !== undefined
              ? `Perhaps ${near} is meant.`
              : names.length > 0
                ? `Declared: ${[...new Set(names.map((port) => `${port.name} (${port.protocol} ${port.port})`))].join(', ')}.`
                : 'Ask for a number.',
          exitStatus: 2,
        },
      );
    }
    for (const { member } of without) this.leaveOut(member.name, `it declares no port named ${name}`);
    return declared
      .filter(({ ports }) => ports.length > 0)
      .map(({ member, ports }) => ({ member, asks: asksFor(ports.map(({ protocol: of, port }) => ({ protocol: of, port }))) }));
  }

  #noteUndeclared(name: string, members: readonly Member[], port: number, protocol: PolicyProtocol, byDefault: boolean): void {
    const pods = members.flatMap(({ pod }) => pod ?? []);
    const without = pods.filter(({ declaredPorts }) => !declaredPorts.some((one) => one.port === port && one.protocol === protocol));
    const [first] = without;
    if (first === undefined) return;
    const who =
      pods.length === 1
        ? keyOf(first)
        : without.length === pods.length
          ? `the pods of ${name}`
          : `${without.length} of ${pods.length} pods of ${name}`;
    const others = first.declaredPorts.filter((one) => one.port === port).map((one) => one.protocol);
    const declared = first.declaredPorts.map((one) => `${one.protocol} ${one.port}`);
    const hint =
      byDefault && others.length > 0
        ? `; declared for ${others.join(' and ')}: ask for :${port}/${others[0]}`
        : declared.length === 0
          ? ''
          : ` (declared: ${declared.join(', ')})`;
    this.note('PORT_UNDECLARED', `no container of ${who} declares ${protocol} ${port}${hint}; policy judges it all the same`);
  }

  /** Why nobody is behind a Service, where that is so. */
  #leaveOutUnlessBehind({ name, service }: AskedService, found: readonly unknown[]): void {
    if (service.externalName !== undefined) {
      this.leaveOut(name, `it is of type ExternalName, a name in DNS for ${service.externalName}: ask about the addresses that this has`);
    } else if (found.length === 0) {
      this.leaveOut(name, `it has no endpoints (${noEndpoints(service)}): whoever connects to it reaches nobody, whatever policies say`);
    }
  }

  serviceTargets(endpoint: AskedService, port: PortQuestion | undefined): Target[] {
    const { name, service, endpoints, backends } = endpoint;
    if (service.externalName !== undefined) {
      this.#leaveOutUnlessBehind(endpoint, []);
      return [];
    }
    if (port?.kind === 'icmp') {
      throw new SluiceError('PORT_UNKNOWN', `${name} is a Service, and translates ports: ICMP to it reaches no pod`, {
        hint: 'Ask about the pods behind it.',
        exitStatus: 2,
      });
    }
    const direct = service.headless && typeof port?.port === 'number' ? port.port : undefined;
    const wanted = service.ports.filter(
      (of) => port === undefined || ((port.port === of.port || port.port === of.name) && (port.protocol ?? of.protocol) === of.protocol),
    );
    if (wanted.length === 0 && direct === undefined) {
      const has = service.ports.map((of) => `${of.port}/${of.protocol}${of.name === '' ? '' : ` (${of.name})`}`);
      const what = port === undefined ? 'declares no ports' : `has no port ${describePort(port)}`;
      const number = service.headless ? `${name}:80` : 'its pods';
      throw new SluiceError('PORT_UNKNOWN', `${name} ${what}`, {
        hint: has.length === 0 ? `It has none at all: ask about ${number}.` : `It has ${has.join(', ')}.`,
        exitStatus: 2,
      });
    }
    this.#leaveOutUnlessBehind(endpoint, direct === undefined ? backends : endpoints);
    if ((direct === undefined ? backends : endpoints).length === 0) return [];
    if (service.headless) {
      this.note(
        'SERVICE_HEADLESS',
        `${name} is headless: its name in DNS stands for the addresses of its endpoints, and no port is translated`,
      );
      if (direct !== undefined) {
        const protocol = port?.kind === 'port' ? (port.protocol ?? 'TCP') : 'TCP';
        return membersBehind(endpoints).map(({ member }) => ({ member, asks: [{ protocol, ports: [{ port: direct }] }] }));
      }
    } else {
      this.note(
        'SERVICE_TRANSLATED',
        `policies judge what comes out of ${name}: the address and the port of the endpoint, and never those of the Service (rows 18, 22)`,
      );
    }
    const chosen = backends.filter(({ servicePort }) => wanted.includes(servicePort));
    if (chosen.length === 0) {
      this.leaveOut(
        name,
        `none of its endpoints has the port that ${describePort(port)} leads to (targetPort ${wanted.map(({ targetPort }) => targetPort).join(', ')})`,
      );
      return [];
    }
    const unready = [
      ...new Set(chosen.filter(({ ready }) => !ready).map(({ pod, address }) => (pod ? keyOf(pod) : formatAddress(address)))),
    ];
    if (unready.length > 0) {
      this.note('ENDPOINT_NOT_READY', `${unready.join(', ')}: not ready, so that ${name} sends nothing there now`);
    }
    return membersBehind(chosen).map(({ member, endpoints: of }) => ({
      member,
      asks: asksFor(
        of.map(({ protocol, port: target, servicePort }) => ({
          protocol,
          port: target,
          ...(service.headless ? {} : { servicePort: servicePort.port }),
        })),
      ),
    }));
  }

  /** Row 31. */
  noteMasquerade(sources: readonly Member[], to: Endpoint): void {
    if (to.kind !== 'service' || to.service.headless || sources.every(({ pod }) => pod !== undefined && ownsAddresses(pod))) return;
    if (sources.length === 0) return;
    this.note(
      'MASQUERADED',
      `what is no pod and connects to ${to.name} may be masqueraded on the way: it then arrives with the address of a node, which only an ipBlock matches; ask about that address (row 31)`,
    );
  }
}

function describePort(port: PortQuestion | undefined): string {
  if (port?.kind !== 'port') return 'that';
  return `${port.port}${port.protocol === undefined ? '' : `/${port.protocol}`}`;
}

function noEndpoints({ selector }: AskedService['service']): string {
  if (selector === undefined) return 'it selects no pods, and has no EndpointSlice with addresses';
  const labels = Object.entries(selector).map(([key, value]) => `${key}=${value}`);
  return labels.length === 0 ? 'its selector is empty' : `no pod that is ready for it has ${labels.join(',')}, or declares its targetPort`;
}

/** A number of a block is a number of all of it; it has no ports of its own, nor names of them. */
function asksOfBlock(name: string, port: PortQuestion | undefined): readonly Ask[] | undefined {
  if (port === undefined) return undefined;
  if (port.kind === 'icmp') return [{ protocol: 'ICMP', ports: [] }];
  if (typeof port.port === 'number') return [{ protocol: port.protocol ?? 'TCP', ports: [{ port: port.port }] }];
  throw new SluiceError('PORT_UNKNOWN', `${name} is a block of addresses, and has no port by name`, {
    hint: 'Ask for a number.',
    exitStatus: 2,
  });
}

/** Of what is no pod, and of pods that declare none: undefined. */
export function declaredAsks({ pod }: Member): readonly Ask[] | undefined {
  if (pod === undefined || pod.declaredPorts.length === 0) return undefined;
  return asksFor(pod.declaredPorts.map(({ protocol, port }) => ({ protocol, port })));
}

/** One for each protocol, its ports ascending and once. */
function asksFor(ports: readonly (AskedPort & { readonly protocol: PolicyProtocol })[]): Ask[] {
  return [...Map.groupBy(ports, ({ protocol }) => protocol)].map(([protocol, of]) => {
    const distinct = new Map(of.map(({ protocol: _protocol, ...port }) => [`${port.port} ${port.servicePort ?? ''}`, port]));
    return { protocol, ports: [...distinct.values()].sort((a, b) => a.port - b.port || (a.servicePort ?? 0) - (b.servicePort ?? 0)) };
  });
}

/** Endpoints are of an address each, and perhaps a port; here they are pods again, with an address of each family. */
function membersBehind<E extends ServiceEndpoint>(
  endpoints: readonly E[],
): { readonly member: Member; readonly endpoints: readonly E[] }[] {
  const groups = Map.groupBy(endpoints, ({ pod, address }) => (pod === undefined ? formatAddress(address) : keyOf(pod)));
  return [...groups].map(([name, of]) => ({
    member: { name, pod: of[0]?.pod, addresses: firstOfEachFamily(of.map(({ address }) => address)) },
    endpoints: of,
  }));
}

function firstOfEachFamily(addresses: readonly Address[]): Address[] {
  return addresses.filter((address, index) => addresses.findIndex((other) => familyOf(other) === familyOf(address)) === index);
}

export function keyOf({ namespace, name }: Pick<Pod, 'namespace' | 'name'>): string {
  return `${namespace}/${name}`;
}

function isPod(a: Pod | undefined, b: Pod): boolean {
  return a !== undefined && a.namespace === b.namespace && a.name === b.name;
}
