/**
 * What the kernel of one network namespace has of its network, read once: links, addresses, routes, neighbours, forwarding entries; and
 * the words for each that `ip` and `bridge` have.
 */
import { NETLINK_ROUTE, NetlinkSocket } from 'nftables-js';
import { contains } from '../network/devices.ts';
import { type Address, familyOf, formatAddress, formatPrefix, widthOf } from '../policy/address.ts';
import { type InterfaceAddress, listAddresses } from '../rtnetlink/addresses.ts';
import { type Link, listLinks } from '../rtnetlink/links.ts';
import { type ForwardingEntry, listForwarding, listNeighbours, type Neighbour, NEIGHBOUR_STATE } from '../rtnetlink/neighbours.ts';
import { listRoutes, type Route, ROUTE_PROTOCOL, ROUTE_SCOPE } from '../rtnetlink/routes.ts';
import { inNamespace } from './namespaces.ts';

export interface NetworkState {
  /** By index. */
  readonly links: ReadonlyMap<number, Link>;
  readonly addresses: readonly InterfaceAddress[];
  /** Of the table `main`. */
  readonly routes: readonly Route[];
  readonly neighbours: readonly Neighbour[];
  readonly forwarding: readonly ForwardingEntry[];
}

/** @throws LabError `LAB_SYSCALL` where the namespace is not there */
export function readNetworkState(netns: string): NetworkState {
  const socket = inNamespace(netns, () => NetlinkSocket.open(NETLINK_ROUTE));
  try {
    return {
      links: new Map(listLinks(socket).map((link) => [link.index, link])),
      addresses: listAddresses(socket),
      routes: listRoutes(socket),
      neighbours: listNeighbours(socket),
      forwarding: listForwarding(socket),
    };
  } finally {
    socket.close();
  }
}

export function linkNamed({ links }: NetworkState, name: string): Link | undefined {
  return [...links.values()].find((link) => link.name === name);
}

/** The route of the table `main` that packets to an address take: the longest prefix, of equals the smallest metric. */
export function routeFor({ routes }: Pick<NetworkState, 'routes'>, destination: Address): Route | undefined {
  const better = (a: Route, b: Route): number => b.destination.length - a.destination.length || (a.metric ?? 0) - (b.metric ?? 0);
  return routes.filter((route) => contains(route.destination, destination)).sort(better)[0];
}

const nameOf = ({ links }: Pick<NetworkState, 'links'>, index: number): string => links.get(index)?.name ?? `if${index}`;

/** ` dev NAME`; of the device that it is said to be of, nothing. */
function device(state: Pick<NetworkState, 'links'>, index: number, of: number | undefined): string {
  return index === of ? '' : ` dev ${nameOf(state, index)}`;
}

/** As `ip route show` has it; `of`: as `ip route show dev OF`. */
export function routeText(state: Pick<NetworkState, 'links'>, route: Route, of?: number): string {
  const { family, destination, type, protocol, scope, gateway, link, source, metric, onlink, hops } = route;
  const host = destination.length === widthOf(family);
  const to = destination.length === 0 ? 'default' : host ? formatAddress(destination.address) : formatPrefix(destination);
  const via = gateway === undefined ? '' : ` via ${familyOf(gateway) === family ? '' : 'inet6 '}${formatAddress(gateway)}`;
  const by = protocol === ROUTE_PROTOCOL.boot ? '' : ` proto ${PROTOCOLS.get(protocol) ?? protocol}`;
  // Of a route that leads nowhere there is none to tell.
  const reach = scope === ROUTE_SCOPE.global || type !== 'unicast' ? '' : ` scope ${SCOPES.get(scope) ?? scope}`;
  return [
    type === 'unicast' ? to : `${type} ${to}`,
    via,
    link === undefined ? '' : device(state, link, of),
    by,
    reach,
    source === undefined ? '' : ` src ${formatAddress(source)}`,
    metric === undefined ? '' : ` metric ${metric}`,
    onlink ? ' onlink' : '',
    hops > 1 ? ` (the first of ${hops} nexthops)` : '',
  ].join('');
}

const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [ROUTE_PROTOCOL.kernel, 'kernel'],
  [ROUTE_PROTOCOL.static, 'static'],
]);
const SCOPES: ReadonlyMap<number, string> = new Map([
  [ROUTE_SCOPE.site, 'site'],
  [ROUTE_SCOPE.link, 'link'],
  [ROUTE_SCOPE.host, 'host'],
  [ROUTE_SCOPE.nowhere, 'nowhere'],
]);

/** As `ip neigh show` has it; `of`: as `ip neigh show dev OF`. */
export function neighbourText(state: Pick<NetworkState, 'links'>, { link, address, mac, state: known }: Neighbour, of?: number): string {
  const lladdr = mac === undefined ? '' : ` lladdr ${mac}`;
  const states = [...NEIGHBOUR_STATES].filter(([bit]) => (known & bit) !== 0).map(([, name]) => name);
  return `${formatAddress(address)}${device(state, link, of)}${lladdr} ${states.join(',') || 'NONE'}`;
}

const NEIGHBOUR_STATES: ReadonlyMap<number, string> = new Map([
  [NEIGHBOUR_STATE.incomplete, 'INCOMPLETE'],
  [NEIGHBOUR_STATE.reachable, 'REACHABLE'],
  [NEIGHBOUR_STATE.stale, 'STALE'],
  [NEIGHBOUR_STATE.delay, 'DELAY'],
  [NEIGHBOUR_STATE.probe, 'PROBE'],
  [NEIGHBOUR_STATE.failed, 'FAILED'],
  [NEIGHBOUR_STATE.noArp, 'NOARP'],
  [NEIGHBOUR_STATE.permanent, 'PERMANENT'],
]);

/** As `bridge fdb show` has it; `of`: as `bridge fdb show dev OF`. */
export function forwardingText(state: Pick<NetworkState, 'links'>, entry: ForwardingEntry, of?: number): string {
  const { link, mac, destination, port, vni, self, master, permanent } = entry;
  return [
    mac,
    device(state, link, of),
    destination === undefined ? '' : ` dst ${formatAddress(destination)}`,
    port === undefined ? '' : ` port ${port}`,
    vni === undefined ? '' : ` vni ${vni}`,
    self ? ' self' : '',
    master === undefined ? '' : ` master ${nameOf(state, master)}`,
    permanent ? ' permanent' : '',
  ].join('');
}

/** As `ip -d link show` has the settings of a VXLAN link; empty for another. */
export function vxlanText({ vxlan }: Link): string {
  if (vxlan === undefined) return '';
  const local = vxlan.local === undefined ? '' : ` local ${formatAddress(vxlan.local)}`;
  return `vxlan id ${vxlan.vni}${local} dstport ${vxlan.port}`;
}
