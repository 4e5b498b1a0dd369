/**
 * The pod network of a lab for people: of each node its devices, and of each other node the route, the neighbour and the forwarding
 * entry that lead there, in the words of `ip` and `bridge`. All of it is what the kernel has; what is missing there is said to be.
 */
import type { Paint } from '../output/colour.ts';
import { type Family, familyOf, formatPrefix, type Prefix } from '../policy/address.ts';
import type { Link } from '../rtnetlink/links.ts';
import type { Lab } from './lab.ts';
import { forwardingText, linkNamed, type NetworkState, neighbourText, readNetworkState, routeText, vxlanText } from './network-state.ts';
import type { LabNode } from './topology.ts';

/** More nodes than these, and only the first few are shown. */
const NODES_MAX = 5;
const NODES_SHOWN = 3;
/** With more nodes than these, only the first node's ways to the others are shown one by one. */
const NODES_WITH_ALL_PEERS = 3;
const PEERS_SHOWN = 4;
const NAME_WIDTH_MAX = 20;

/** The network as it is now, a line each. */
export function* networkView({ nodes }: Pick<Lab, 'nodes'>, paint: Paint): Generator<string> {
  yield 'Network, as the kernel of each node has it (ip route, ip neigh, bridge fdb):';
  const shown = nodes.length > NODES_MAX ? nodes.slice(0, NODES_SHOWN) : nodes;
  for (const [index, node] of shown.entries()) {
    const peers = nodes.filter((each) => each !== node);
    const peersShown = nodes.length <= NODES_WITH_ALL_PEERS ? peers.length : index === 0 ? PEERS_SHOWN : 1;
    yield paint('bold', node.name);
    yield* nodeLines(node, peers, peersShown, readNetworkState(node.netns), paint);
  }
  if (shown.length < nodes.length) yield `and ${counted(nodes.length - shown.length, 'more node', 'more nodes')}`;
}

/** What leads from a node to one of the others; undefined is missing. */
interface Way {
  readonly peer: string;
  readonly route: string | undefined;
  readonly neighbour: string | undefined;
  readonly forwarding: string | undefined;
  /** Of the route: it does not go through the overlay. */
  readonly isDirect: boolean;
}

/** @param state of the node's namespace */
export function* nodeLines(
  { podCIDRs }: Pick<LabNode, 'podCIDRs'>,
  peers: readonly Pick<LabNode, 'name' | 'podCIDRs'>[],
  peersShown: number,
  state: NetworkState,
  paint: Paint,
): Generator<string> {
  const plain = (podCIDRs.length === 0 ? ['eth0'] : ['eth0', 'cni0']).map((name) => [name, linkNamed(state, name)] as const);
  const overlays = podCIDRs.map((cidr) => [cidr, overlayOf(state, familyOf(cidr.address))] as const);
  const width = [...plain.map(([name]) => name), ...overlays.map(([, link]) => link?.name ?? '')].reduce(
    (most, name) => Math.max(most, name.length),
    0,
  );
  for (const [name, link] of plain) {
    if (link === undefined) yield paint('yellow', `  ${name.padEnd(width)}  is not there`);
    else yield `  ${name.padEnd(width)}  mtu ${link.mtu}  ${addressesOf(state, link)}`.trimEnd();
  }
  for (const [cidr, link] of overlays) {
    const family = familyOf(cidr.address);
    if (link === undefined) {
      yield paint('yellow', `  no overlay device for IPv${family}`);
      continue;
    }
    yield `  ${link.name.padEnd(width)}  mtu ${link.mtu}  ${vxlanText(link)}`;
    const ways = peers.flatMap((peer) =>
      peer.podCIDRs.filter((each) => familyOf(each.address) === family).map((to) => way(state, link, peer.name, to)),
    );
    yield* wayLines(ways, peersShown, paint);
  }
}

function overlayOf({ links }: NetworkState, family: Family): Link | undefined {
  return [...links.values()].find(({ vxlan }) => vxlan?.local !== undefined && familyOf(vxlan.local) === family);
}

function addressesOf({ addresses }: NetworkState, { index }: Link): string {
  return addresses
    .filter(({ link, scope }) => link === index && scope === 'global')
    .map(({ address, prefixLength }) => formatPrefix({ address, length: prefixLength }))
    .join(' ');
}

function way(state: NetworkState, overlay: Link, peer: string, to: Prefix): Way {
  const { index } = overlay;
  const route = state.routes.find(({ destination }) => destination.length === to.length && destination.address === to.address);
  const gateway = route?.gateway;
  const neighbour = state.neighbours.find(({ link, address }) => link === index && address === gateway);
  const forwarding = state.forwarding.filter(({ link, mac, self }) => link === index && self && mac === neighbour?.mac);
  return {
    peer,
    route: route === undefined ? undefined : routeText(state, route, index),
    neighbour: neighbour === undefined ? undefined : neighbourText(state, neighbour, index),
    forwarding: forwarding.length === 0 ? undefined : forwarding.map((entry) => forwardingText(state, entry, index)).join(', '),
    isDirect: route !== undefined && route.link !== index,
  };
}

function* wayLines(ways: readonly Way[], shown: number, paint: Paint): Generator<string> {
  const width = Math.min(
    NAME_WIDTH_MAX,
    ways.reduce((most, { peer }) => Math.max(most, peer.length), 0),
  );
  for (const { peer, route, neighbour, forwarding, isDirect } of ways.slice(0, shown)) {
    const name = peer.length <= width ? peer.padEnd(width) : `${peer.slice(0, width - 1)}…`;
    const indent = ' '.repeat(4 + width + 2);
    yield `    ${name}  ${route ?? paint('yellow', 'no route')}`;
    if (route === undefined || isDirect) continue;
    yield `${indent}${neighbour ?? paint('yellow', 'no neighbour')}`;
    if (neighbour !== undefined) yield `${indent}${forwarding ?? paint('yellow', 'no forwarding entry')}`;
  }
  const rest = ways.slice(shown);
  if (rest.length === 0) return;
  const some = (what: 'route' | 'neighbour' | 'forwarding'): number => rest.filter((each) => each[what] !== undefined).length;
  const routes = counted(some('route'), 'route', 'routes');
  const neighbours = counted(some('neighbour'), 'neighbour', 'neighbours');
  const entries = counted(some('forwarding'), 'forwarding entry', 'forwarding entries');
  yield `    and ${counted(rest.length, 'more node', 'more nodes')}: ${routes}, ${neighbours}, ${entries}`;
}

function counted(number: number, one: string, many: string): string {
  return `${number} ${number === 1 ? one : many}`;
}
