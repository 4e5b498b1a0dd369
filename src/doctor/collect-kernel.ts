/** What the kernel says of this network namespace: the tables of rtnetlink, settings below /proc/sys, and modules. Nothing is changed. */
import { readdirSync, readFileSync } from 'node:fs';
import { KernelError, NETLINK_ROUTE, NetlinkSocket } from 'nftables-js';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { addressAfter } from '../policy/ranges.ts';
import { type Address, familyOf, parseAddress, type Prefix, widthOf } from '../policy/address.ts';
import { listAddresses } from '../rtnetlink/addresses.ts';
import { listLinks } from '../rtnetlink/links.ts';
import { listForwarding, listNeighbours } from '../rtnetlink/neighbours.ts';
import { listRoutes, type Route, routeTo } from '../rtnetlink/routes.ts';
import type { InterfaceOptions } from '../network/external-interface.ts';
import type { Lease } from '../network/lease.ts';
import type { KernelTables, Modules, Reading } from './evidence.ts';
import { familiesOfLease } from './plan.ts';

/** @param peers whose addresses, and whose pods, are asked the way to */
export function readTables(peers: readonly Lease[], { ifaceCanReach }: InterfaceOptions): Reading<KernelTables> {
  let socket: NetlinkSocket | undefined;
  try {
    const requests = NetlinkSocket.open(NETLINK_ROUTE);
    socket = requests;
    const routesTo = new Map<Address, Route | undefined>();
    const ask = (address: Address | undefined): void => {
      if (address !== undefined && !routesTo.has(address)) routesTo.set(address, routeTo(requests, address));
    };
    for (const lease of peers) {
      for (const [, { publicAddress, subnet }] of familiesOfLease(lease)) {
        ask(publicAddress);
        ask(podAddress(subnet));
      }
    }
    ask(parseAddress(ifaceCanReach ?? ''));
    return {
      seen: {
        links: listLinks(requests),
        addresses: listAddresses(requests),
        routes: listRoutes(requests),
        neighbours: listNeighbours(requests),
        forwarding: listForwarding(requests),
        routesTo,
      },
    };
  } catch (error) {
    if (error instanceof KernelError) return { blind: `the kernel does not tell its links and routes: ${error.message}` };
    throw error;
  } finally {
    socket?.close();
  }
}

/** An address that a pod of a subnet may have: the first two are those of the tunnel and of the bridge. */
export function podAddress({ address, length }: Prefix): Address {
  return widthOf(familyOf(address)) - length < 2 ? address : addressAfter(addressAfter(address));
}

/** Of all interfaces that are no ports of a bridge, for those are many. */
const OF_INTERFACES = [
  ['ipv4', 'forwarding'],
  ['ipv4', 'rp_filter'],
  ['ipv6', 'forwarding'],
  ['ipv6', 'force_forwarding'],
] as const;
const SINGLE = [
  'net/ipv4/ip_forward',
  'net/bridge/bridge-nf-call-iptables',
  'net/bridge/bridge-nf-call-ip6tables',
  'net/netfilter/nf_conntrack_count',
  'net/netfilter/nf_conntrack_max',
];

/** @param interfaces their names */
export function readSysctls(interfaces: readonly string[], directory = '/proc/sys'): Reading<ReadonlyMap<string, string>> {
  const values = new Map<string, string>();
  const read = (key: string): void => {
    try {
      values.set(key, readFileSync(`${directory}/${key}`, 'utf8').trim());
    } catch (error) {
      // No such interface, family or module.
      const code = systemErrorCode(error);
      if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
    }
  };
  try {
    readdirSync(`${directory}/net`);
    for (const key of SINGLE) read(key);
    for (const name of ['all', ...interfaces]) for (const [family, setting] of OF_INTERFACES) read(`net/${family}/conf/${name}/${setting}`);
    return { seen: values };
  } catch (error) {
    return { blind: `${directory}/net cannot be read: ${systemErrorCode(error) ?? String(error)}` };
  }
}

/** Those that matter to a pod network. */
const MODULES = ['vxlan', 'ipip', 'wireguard', 'tun', 'br_netfilter'];

/** @param root for tests: what stands before /sys and /lib */
export function readModules(release: string, root = ''): Reading<Modules> {
  const present = new Set<string>();
  try {
    const names = new Set(readdirSync(`${root}/sys/module`));
    for (const name of MODULES) if (names.has(name)) present.add(name);
  } catch (error) {
    return { blind: `${root}/sys/module cannot be read: ${systemErrorCode(error) ?? String(error)}` };
  }
  return { seen: { present, available: readAvailable(`${root}/lib/modules/${release}`) } };
}

function readAvailable(directory: string): Reading<ReadonlySet<string>> {
  const available = new Set<string>();
  try {
    for (const file of ['modules.dep', 'modules.builtin']) {
      // `kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz …`
      for (const [, name = ''] of readFileSync(`${directory}/${file}`, 'utf8').matchAll(/^[^:\n]*?([^/:\n]+)\.ko[^:\n]*:?/gm))
        available.add(name.replaceAll('-', '_'));
    }
    return { seen: available };
  } catch (error) {
    return { blind: `${directory} cannot be read: ${systemErrorCode(error) ?? String(error)}` };
  }
}

/** Of this kernel. @throws SluiceError where /proc is not mounted */
export function readKernelRelease(): string {
  try {
    return readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
  } catch (cause) {
    throw new SluiceError('PROC_MISSING', 'looking at this node: /proc/sys/kernel/osrelease cannot be read', {
      hint: 'Mount /proc.',
      cause,
    });
  }
}
