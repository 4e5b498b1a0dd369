/**
 * Why a packet passed an interface: what in the kernel's tables led it there, in the words of `ip` and `bridge`. Found by what the frame
 * looks like; where nothing in the tables explains it, nothing is said.
 */
import { type Address, familyOf, formatAddress } from '../../policy/address.ts';
import type { Link } from '../../rtnetlink/links.ts';
import { NEIGHBOUR_STATE } from '../../rtnetlink/neighbours.ts';
import { forwardingText, type NetworkState, neighbourText, routeFor, routeText, vxlanText } from '../network-state.ts';
import type { Frame } from './frames.ts';

/** A packet at an interface. */
export interface Passage {
  readonly netns: string;
  readonly link: Link;
  readonly direction: 'in' | 'out';
  readonly frame: Frame;
}

/**
 * @param before where the packet passed last; undefined: it begins here
 * @param state of the namespace that `passage` is in
 */
export function decisionsFor(passage: Passage, before: Passage | undefined, state: NetworkState): string[] {
  const inside = before?.netns === passage.netns ? before : undefined;
  return (passage.direction === 'in' ? whyIn(passage, inside, state) : whyOut(passage, inside, state)).filter((text) => text !== undefined);
}

/** @param before in the same namespace; undefined: it came by cable */
function whyIn({ link, frame }: Passage, before: Passage | undefined, state: NetworkState): (string | undefined)[] {
  if (before === undefined) return [];
  if (link.vxlan !== undefined && before.frame.packet?.vxlan !== undefined) return [`link  ${link.name} ${vxlanText(link)}`];
  if (before.link.master !== link.index) return [];
  const own = state.forwarding.find((entry) => entry.master === link.index && entry.mac === frame.destination);
  return [own === undefined ? undefined : `fdb   ${forwardingText(state, own)}`];
}

function whyOut(passage: Passage, before: Passage | undefined, state: NetworkState): (string | undefined)[] {
  const { link, frame } = passage;
  const { packet } = frame;
  if (link.master !== undefined) return [forwarding(state, frame.destination, link)];
  if (packet === undefined) return [];
  const isTunnelled = before?.link.vxlan !== undefined && packet.vxlan !== undefined;
  const tunnel = isTunnelled ? forwarding(state, before.frame.destination, before.link) : undefined;
  return [tunnel, ...routed(state, packet.destination, link)];
}

function forwarding(state: NetworkState, mac: string, { index }: Link): string | undefined {
  const entry = state.forwarding.find((each) => each.link === index && each.mac === mac);
  return entry === undefined ? undefined : `fdb   ${forwardingText(state, entry)}`;
}

/** The route, and the neighbour that it goes to. */
function routed(state: NetworkState, destination: Address, { index, address: mac }: Link): (string | undefined)[] {
  const route = routeFor(state, destination);
  // Somebody else decided: another table, a rule, a socket that is bound to a link.
  if (route?.link !== index) return [];
  const text = `route ${routeText(state, route)}`;
  const next = route.gateway ?? destination;
  const neighbour = mac === undefined ? undefined : state.neighbours.find(({ link, address }) => link === index && address === next);
  return [text, neighbour === undefined ? undefined : `neigh ${neighbourText(state, neighbour)}`];
}

/** Whether an address is the namespace's own, on whatever interface. */
export function isLocal({ addresses }: NetworkState, wanted: Address): boolean {
  return addresses.some(({ address, family }) => family === familyOf(wanted) && address === wanted);
}

export interface Obstacle {
  /** A part of a sentence. */
  readonly text: string;
  /** The kernel is asking for a hardware address, and holds the packet meanwhile. */
  readonly isAsked: boolean;
}

/**
 * What the kernel lacks to send a packet on: a route, a neighbour, a forwarding entry. Undefined: nothing of these.
 *
 * @param destination of the packet
 * @param last where it passed last; undefined: nowhere yet
 * @param state of the namespace that it is in
 */
export function obstacle(destination: Address, last: Passage | undefined, state: NetworkState): Obstacle | undefined {
  const tunnel = last?.direction === 'out' && last.link.vxlan !== undefined ? last : undefined;
  if (tunnel === undefined) return silence(destination, state);
  const { link, frame } = tunnel;
  const entry = state.forwarding.find((each) => each.link === link.index && each.mac === frame.destination);
  if (entry?.destination !== undefined) return silence(entry.destination, state);
  return { text: `${link.name} has no forwarding entry (fdb) for ${frame.destination}`, isAsked: false };
}

function silence(destination: Address, state: NetworkState): Obstacle | undefined {
  if (isLocal(state, destination)) return undefined;
  const route = routeFor(state, destination);
  if (route === undefined) return { text: `there is no route to ${formatAddress(destination)}`, isAsked: false };
  const next = route.gateway ?? destination;
  const neighbour = state.neighbours.find(({ link, address }) => link === route.link && address === next);
  if (neighbour === undefined || (neighbour.state & (NEIGHBOUR_STATE.incomplete | NEIGHBOUR_STATE.failed)) === 0) return undefined;
  return {
    text: `nobody answers for ${formatAddress(next)} (neigh ${neighbourText(state, neighbour)})`,
    isAsked: (neighbour.state & NEIGHBOUR_STATE.incomplete) !== 0,
  };
}
