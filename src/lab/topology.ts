/**
 * What a lab consists of, and the `ip` commands that make it: nodes on an underlay, pods behind each node's bridge cni0, and a host
 * outside the cluster. The bridge and the way to other nodes are the pod network's (networks.ts). Pure: addresses are given or assigned
 * here, nothing is run.
 *
 * Every address of the underlay is a /32 or /128 with an on-link route on every other host, so that nodes and outside hosts can
 * have any addresses at all. Nothing is masqueraded: the outside host has routes to every podCIDR, and sees pods' own addresses.
 */
import { createHash } from 'node:crypto';
import {
  type Address,
  type Family,
  type Prefix,
  familyOf,
  formatAddress,
  formatPrefix,
  ipv4,
  ipv6,
  parseAddress,
  parsePrefix,
  prefixRange,
} from '../policy/address.ts';
import { LabError } from './errors.ts';

export interface NodeSpec {
  readonly name: string;
  /** On the underlay: at most one of each family. Default: 172.18.0.2 on, fd00:172:18::2 on. */
  readonly addresses?: readonly string[];
  /** At most one of each family. Default: 10.244.0.0/24 on, fd00:10:244::/64 on. */
  readonly podCIDRs?: readonly string[];
}

export interface PodSpec {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** Default: the next free ones of the node's podCIDRs. With hostNetwork: the node's. */
  readonly addresses?: readonly string[];
  readonly hostNetwork?: boolean;
  /** What it listens on, TCP, UDP and SCTP alike. Default: 80 and 81. */
  readonly ports?: readonly number[];
}

export interface LabNode {
  readonly name: string;
  /** Its network namespace. */
  readonly netns: string;
  readonly index: number;
  /** On the underlay. */
  readonly addresses: readonly Address[];
  readonly podCIDRs: readonly Prefix[];
}

export interface LabPod {
  /** `namespace/name`. */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** Its network namespace; with hostNetwork the node's. */
  readonly netns: string;
  readonly addresses: readonly Address[];
  readonly hostNetwork: boolean;
  readonly ports: readonly number[];
  /** The node's end of its veth; empty with hostNetwork. */
  readonly interface: string;
}

/** Names and addresses outside the cluster; all of them belong to one host. */
export type OutsideHosts = ReadonlyMap<string, readonly Address[]>;

export const DEFAULT_PORTS: readonly number[] = [80, 81];
export const DEFAULT_OUTSIDE: Readonly<Record<string, readonly string[]>> = { outside: ['192.0.2.10', '2001:db8::10'] };

function wrong(message: string): LabError {
  return new LabError('LAB_TOPOLOGY', message);
}

function address(text: string, whose: string): Address {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw wrong(`${whose}: "${text}" is no IP address`);
  return parsed;
}

/** At most one of each family. */
function onePerFamily<T>(values: readonly T[], family: (value: T) => Family, what: string): readonly T[] {
  for (const each of [4, 6] as const) {
    if (values.filter((value) => family(value) === each).length > 1) throw wrong(`${what}: more than one of IPv${each}; the lab takes one`);
  }
  return values;
}

/** Fills in what a node's specification leaves open. `index` counts the nodes from 0. */
export function resolveNode(spec: NodeSpec, index: number, prefix: string): LabNode {
  const whose = `node ${spec.name}`;
  const addresses = (spec.addresses ?? [`172.18.0.${2 + index}`, `fd00:172:18::${(2 + index).toString(16)}`]).map((text) =>
    address(text, whose),
  );
  const podCIDRs = (spec.podCIDRs ?? [`10.244.${index}.0/24`, `fd00:10:244:${index.toString(16)}::/64`]).map((text) => {
    const parsed = parsePrefix(text);
    if (parsed === undefined) throw wrong(`${whose}: podCIDR "${text}" is no prefix (address/length, host bits zero)`);
    return parsed;
  });
  onePerFamily(addresses, familyOf, `addresses of ${whose}`);
  onePerFamily(podCIDRs, (cidr) => familyOf(cidr.address), `podCIDRs of ${whose}`);
  for (const cidr of podCIDRs) {
    const family = familyOf(cidr.address);
    if (!addresses.some((each) => familyOf(each) === family)) {
      throw wrong(`${whose} has the podCIDR ${formatPrefix(cidr)} but no IPv${family} address for the overlay`);
    }
  }
  return { name: spec.name, netns: prefix + spec.name, index, addresses, podCIDRs };
}

/** Fills in what a pod's specification leaves open. @param taken addresses that other pods have */
export function resolvePod(spec: PodSpec, node: LabNode, taken: ReadonlySet<Address>, prefix: string): LabPod {
  const key = `${spec.namespace}/${spec.name}`;
  const hostNetwork = spec.hostNetwork ?? false;
  const given = spec.addresses?.map((text) => address(text, `pod ${key}`));
  const ports = spec.ports === undefined || spec.ports.length === 0 ? DEFAULT_PORTS : spec.ports;
  const common = { key, namespace: spec.namespace, name: spec.name, node: node.name, hostNetwork, ports };
  if (hostNetwork) return { ...common, netns: node.netns, addresses: node.addresses, interface: '' };
  for (const each of given ?? []) {
    if (!node.podCIDRs.some((cidr) => contains(cidr, each))) {
      throw wrong(
        `pod ${key}: ${formatAddress(each)} is in no podCIDR of node ${node.name} (${node.podCIDRs.map(formatPrefix).join(', ')})`,
      );
    }
  }
  return {
    ...common,
    netns: `${prefix}${spec.namespace}.${spec.name}`,
    addresses: given ?? freeAddresses(node, taken),
    interface: `veth${createHash('sha1').update(key).digest('hex').slice(0, 8)}`,
  };
}

function contains(cidr: Prefix, each: Address): boolean {
  if (familyOf(each) !== familyOf(cidr.address)) return false;
  const { first, last } = prefixRange(cidr);
  return each >= first && each <= last;
}

/** One of each of its podCIDRs that nobody has. @throws LabError `LAB_TOPOLOGY` where there is none left */
export function freeAddresses(node: LabNode, taken: ReadonlySet<Address>): readonly Address[] {
  return node.podCIDRs.map((cidr) => nextFree(cidr, taken, node));
}

/** The first address is the overlay device's, the second the bridge's. */
function nextFree(cidr: Prefix, taken: ReadonlySet<Address>, node: LabNode): Address {
  const { last } = prefixRange(cidr);
  for (let at = plus(cidr.address, 2); at < last; at = plus(at, 1)) {
    if (!taken.has(at)) return at;
  }
  throw wrong(`node ${node.name}: no address is left in ${formatPrefix(cidr)}`);
}

function plus(to: Address, count: number): Address {
  return typeof to === 'number' ? ipv4(to + count) : ipv6(to + BigInt(count));
}

export function resolveOutside(hosts: Readonly<Record<string, readonly string[]>>): OutsideHosts {
  return new Map(Object.entries(hosts).map(([name, texts]) => [name, texts.map((text) => address(text, `outside host ${name}`))]));
}

/** Address of the bridge cni0 in a podCIDR: the second. The overlay device has the first. */
export function bridgeAddress(cidr: Prefix): Address {
  return plus(cidr.address, 1);
}

/** Every address that is local to a node, besides loopback: its own, the bridge's and the overlay device's. */
export function nodeLocalAddresses(node: LabNode): readonly Address[] {
  return [...node.addresses, ...node.podCIDRs.flatMap((cidr) => [bridgeAddress(cidr), cidr.address])];
}

// --- commands ---

export interface Commands {
  /** Lines for `ip -batch` in the namespace. */
  readonly ip: readonly string[];
  readonly sysctls?: Readonly<Record<string, string>>;
}

/**
 * Addresses are usable at once (no duplicate address detection), nothing is learnt from router advertisements, and what the
 * machine's own namespace is set to is not inherited.
 */
const HOST_SYSCTLS: Readonly<Record<string, string>> = {
  'net.ipv4.ip_forward': '0',
  'net.ipv4.conf.all.rp_filter': '0',
  'net.ipv4.conf.default.rp_filter': '0',
  'net.ipv6.conf.all.accept_dad': '0',
  'net.ipv6.conf.default.accept_dad': '0',
  'net.ipv6.conf.all.accept_ra': '0',
  'net.ipv6.conf.default.accept_ra': '0',
};
const ROUTER_SYSCTLS: Readonly<Record<string, string>> = {
  ...HOST_SYSCTLS,
  'net.ipv4.ip_forward': '1',
  'net.ipv6.conf.all.forwarding': '1',
};

const width = (family: Family): number => (family === 4 ? 32 : 128);
const host = (each: Address): string => `${formatAddress(each)}/${width(familyOf(each))}`;
const nodad = (each: Address): string => (familyOf(each) === 6 ? ' nodad' : '');

/** Namespaces and cables: one batch, in the sandbox's first namespace. `hosts` are the namespaces on the underlay. */
export function underlayCables(underlay: string, hosts: readonly string[]): readonly string[] {
  return [
    ...[underlay, ...hosts].map((name) => `netns add ${name}`),
    `link add br0 netns ${underlay} type bridge`,
    ...hosts.map((name, index) => `link add eth0 netns ${name} type veth peer name port${index} netns ${underlay}`),
  ];
}

export function underlayCommands(hosts: readonly string[]): Commands {
  return {
    ip: ['link set br0 up', ...hosts.map((_, index) => `link set port${index} master br0 up`)],
    sysctls: { 'net.ipv6.conf.all.disable_ipv6': '1' },
  };
}

/** On-link routes to the other hosts of the underlay, from the own address of that family. */
function onLink(own: readonly Address[], others: readonly Address[]): string[] {
  return others.flatMap((other) => {
    const from = own.find((each) => familyOf(each) === familyOf(other));
    return from === undefined ? [] : [`route add ${host(other)} dev eth0 src ${formatAddress(from)}`];
  });
}

export function outsideCommands(outside: OutsideHosts, nodes: readonly LabNode[]): Commands {
  const own = [...outside.values()].flat();
  const ip = ['link set lo up', 'link set eth0 up', ...own.map((each) => `addr add ${host(each)} dev eth0${nodad(each)}`)];
  for (const node of nodes) {
    for (const each of onLink(own, node.addresses)) ip.push(each);
    for (const cidr of node.podCIDRs) {
      const via = node.addresses.find((each) => familyOf(each) === familyOf(cidr.address));
      if (via !== undefined && own.some((each) => familyOf(each) === familyOf(via))) {
        ip.push(`route add ${formatPrefix(cidr)} via ${formatAddress(via)} dev eth0 onlink`);
      }
    }
  }
  return { ip, sysctls: HOST_SYSCTLS };
}

/** A node without its pod network, which comes after. */
export function nodeCommands(node: LabNode, nodes: readonly LabNode[], outside: OutsideHosts): Commands {
  const peers = nodes.filter((each) => each !== node);
  const ip = [
    'link set lo up',
    'link set eth0 up',
    ...node.addresses.map((each) => `addr add ${host(each)} dev eth0${nodad(each)}`),
    ...onLink(node.addresses, [...peers.flatMap((peer) => peer.addresses), ...[...outside.values()].flat()]),
    // Where a node sends what it has no route for, a Service address before its translation among it.
    ...[...outside.values()]
      .flat()
      .filter((each, index, all) => all.findIndex((other) => familyOf(other) === familyOf(each)) === index)
      .map((each) => `route add default via ${formatAddress(each)} dev eth0 onlink`),
  ];
  return { ip, sysctls: ROUTER_SYSCTLS };
}

/** For the sandbox's first namespace. */
export function podCables(pod: LabPod, node: LabNode, mtu: number): readonly string[] {
  return [
    `netns add ${pod.netns}`,
    `link add eth0 netns ${pod.netns} mtu ${mtu} type veth peer name ${pod.interface} netns ${node.netns} mtu ${mtu}`,
  ];
}

/** For the node's namespace. Hairpin: a pod reaches itself through its own Service. */
export function podPortCommands(pod: LabPod): readonly string[] {
  return [`link set ${pod.interface} master cni0 up`, `link set ${pod.interface} type bridge_slave hairpin on`];
}

/** For the pod's own namespace. */
export function podCommands(pod: LabPod, node: LabNode): Commands {
  const ip = ['link set lo up', 'link set eth0 up'];
  for (const each of pod.addresses) {
    const cidr = node.podCIDRs.find((candidate) => contains(candidate, each));
    if (cidr === undefined) continue;
    ip.push(
      `addr add ${formatAddress(each)}/${cidr.length} dev eth0${nodad(each)}`,
      `route replace default via ${formatAddress(bridgeAddress(cidr))} dev eth0`,
    );
  }
  return { ip, sysctls: HOST_SYSCTLS };
}
