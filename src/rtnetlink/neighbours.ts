/**
 * The neighbours of a network namespace (`ip neighbour`: which hardware address an IP address on a link has) and its forwarding
 * entries (`bridge fdb`: where a bridge or VXLAN link sends what is meant for a hardware address). The kernel has both in messages of
 * one kind; a daemon that runs a VXLAN network keeps one of each for every other node.
 */
import {
  type Attributes,
  MalformedError,
  type Message,
  type MessageWriter,
  type NetlinkSocket,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  type Poller,
  readAttributes,
  required,
} from 'nftables-js';
import { type Address, addressBytes, familyOf, formatAddress } from '../policy/address.ts';
import {
  familyOfNumber,
  hardwareAddressBytes,
  numberOfFamily,
  readEthernetAddress,
  readHardwareAddress,
  readIp,
} from './address-attributes.ts';
import { listTable, type Overrun, watchGroups } from './list-and-watch.ts';

/** linux/neighbour.h: NUD_*. */
export const NEIGHBOUR_STATE = {
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  /** Nobody is asked: a multicast address, or a link without hardware addresses. */
  noArp: 0x40,
  permanent: 0x80,
} as const;

export interface Neighbour {
  /** The index of the link. */
  readonly link: number;
  readonly address: Address;
  /** Lower case. Undefined while it is not known, and of a link that has none. */
  readonly mac: string | undefined;
  /** {@link NEIGHBOUR_STATE} */
  readonly state: number;
  /** Somebody has set it; it never ages. */
  readonly permanent: boolean;
}

export interface NewNeighbour {
  readonly link: number;
  readonly address: Address;
  readonly mac: string;
}

/** Of a VXLAN link one for each destination of a hardware address. */
export interface ForwardingEntry {
  /** The index of the link: the VXLAN link, or the port of a bridge. */
  readonly link: number;
  /** Lower case; `00:00:00:00:00:00` of a VXLAN link is what every other address gets. */
  readonly mac: string;
  /** Only of a VXLAN link: the node that gets the packets. */
  readonly destination: Address | undefined;
  /** It was set, and does not age. */
  readonly permanent: boolean;
  /** It is the link's own, not that of the bridge it is a port of. */
  readonly self: boolean;
  /** The index of the bridge that it is of. */
  readonly master: number | undefined;
  /** Only where they are others than those of the VXLAN link: its UDP port and network identifier. */
  readonly port: number | undefined;
  readonly vni: number | undefined;
}

export interface NewForwardingEntry {
  /** The index of a VXLAN link. */
  readonly link: number;
  readonly mac: string;
  /** Of the family of the VXLAN link's `local`. */
  readonly destination: Address;
}

export type NeighbourEvent =
  /** It is new, or its hardware address or state has changed. */
  | { readonly event: 'neighbour' | 'gone'; readonly neighbour: Neighbour }
  | { readonly event: 'forwarding' | 'forwarding-gone'; readonly entry: ForwardingEntry }
  | Overrun;

/** linux/rtnetlink.h, linux/neighbour.h, linux/socket.h */
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const RTNLGRP_NEIGH = 3;
const AF_BRIDGE = 7;
const NDMSG_BYTES = 12;
const IFINFOMSG_BYTES = 16;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDA_PORT = 6;
const NDA_VNI = 7;
const NDA_IFINDEX = 8;
const NDA_MASTER = 9;
const NTF_SELF = 0x02;
const RTN_UNICAST = 1;

/** Reads an RTM_NEWNEIGH or RTM_DELNEIGH message of IPv4 or IPv6. Undefined for another family. @throws MalformedError */
export function readNeighbour(payload: Uint8Array): Neighbour | undefined {
  const { addressFamily, link, state } = readHeader(payload);
  const family = familyOfNumber(addressFamily);
  if (family === undefined) return undefined;
  const attributes = readAttributes(payload.subarray(NDMSG_BYTES));
  return {
    link,
    address: readIp(required(attributes, NDA_DST, 'the address of a neighbour'), family, 'the address of a neighbour'),
    mac: readHardwareAddress(attributes.get(NDA_LLADDR)),
    state,
    permanent: (state & NEIGHBOUR_STATE.permanent) !== 0,
  };
}

/** Reads an RTM_NEWNEIGH or RTM_DELNEIGH message of AF_BRIDGE. Undefined for another family. @throws MalformedError */
export function readForwarding(payload: Uint8Array): ForwardingEntry | undefined {
  const { addressFamily, link, state, flags } = readHeader(payload);
  if (addressFamily !== AF_BRIDGE) return undefined;
  const attributes = readAttributes(payload.subarray(NDMSG_BYTES));
  const what = 'the hardware address of a forwarding entry';
  return {
    link,
    mac: readEthernetAddress(required(attributes, NDA_LLADDR, what), what),
    destination: readDestination(attributes),
    permanent: (state & NEIGHBOUR_STATE.permanent) !== 0,
    self: (flags & NTF_SELF) !== 0,
    master: attributes.get(NDA_MASTER)?.u32(),
    port: attributes.get(NDA_PORT)?.be16(),
    vni: attributes.get(NDA_VNI)?.u32(),
  };
}

/** The message does not say of which family it is; its length does. @throws MalformedError */
function readDestination(attributes: Attributes): Address | undefined {
  const attribute = attributes.get(NDA_DST);
  return attribute === undefined
    ? undefined
    : readIp(attribute, attribute.data.length === 4 ? 4 : 6, 'the destination of a forwarding entry');
}

/** struct ndmsg { u8 family, pad; u16 pad; i32 ifindex; u16 state; u8 flags, type; }. @throws MalformedError */
function readHeader(payload: Uint8Array): { addressFamily: number; link: number; state: number; flags: number } {
  if (payload.length < NDMSG_BYTES) throw new MalformedError(`a message about a neighbour of ${payload.length} bytes`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  return { addressFamily: view.getUint8(0), link: view.getInt32(4, true), state: view.getUint16(8, true), flags: view.getUint8(10) };
}

function header(family: number, link: number, state: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(NDMSG_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, family);
  view.setInt32(4, link, true);
  view.setUint16(8, state, true);
  view.setUint8(10, flags);
  view.setUint8(11, RTN_UNICAST);
  return bytes;
}

/** The neighbours of one link, or of all, IPv4 and IPv6, in every state, those that are sought or were not found too. */
export function listNeighbours(socket: NetlinkSocket, filter: { readonly link?: number } = {}): Neighbour[] {
  const { link } = filter;
  return listTable(
    socket,
    RTM_GETNEIGH,
    (writer) => {
      writer.raw(new Uint8Array(NDMSG_BYTES));
      if (link !== undefined) writer.u32(NDA_IFINDEX, link);
    },
    readNeighbour,
    'listing neighbours',
  );
}

/**
 * Sets the hardware address of a neighbour for good, whether it was known or not.
 * @throws KernelError ENODEV where the link is gone; EINVAL for an IPv6 address on a link without IPv6; EPERM without CAP_NET_ADMIN
 * @throws NetlinkError ERR_INVALID for a hardware address that is none
 */
export function replaceNeighbour(socket: NetlinkSocket, { link, address, mac }: NewNeighbour): void {
  const doing = `setting neighbour ${formatAddress(address)} of link ${link} to ${mac}`;
  socket.request(
    RTM_NEWNEIGH,
    NLM_F_CREATE | NLM_F_REPLACE,
    (writer) => {
      writer.raw(header(numberOfFamily(familyOf(address)), link, NEIGHBOUR_STATE.permanent, 0));
      writer.data(NDA_DST, addressBytes(address));
      writer.data(NDA_LLADDR, hardwareAddressBytes(mac, doing));
    },
    () => {},
    doing,
  );
}

/** Forgets a neighbour. @throws KernelError ENOENT where there is none; ENODEV where the link is gone */
export function deleteNeighbour(socket: NetlinkSocket, { link, address }: Pick<Neighbour, 'link' | 'address'>): void {
  socket.request(
    RTM_DELNEIGH,
    0,
    (writer) => {
      writer.raw(header(numberOfFamily(familyOf(address)), link, 0, 0));
      writer.data(NDA_DST, addressBytes(address));
    },
    () => {},
    `deleting neighbour ${formatAddress(address)} of link ${link}`,
  );
}

/** The forwarding entries of one link, or of all links of the namespace. Those of a bridge's ports are of the port. */
export function listForwarding(socket: NetlinkSocket, filter: { readonly link?: number } = {}): ForwardingEntry[] {
  const { link } = filter;
  return listTable(
    socket,
    RTM_GETNEIGH,
    (writer) => {
      // As `bridge fdb` asks: a struct ifinfomsg, for of the shorter ndmsg the kernel does not look at the index.
      const bytes = new Uint8Array(IFINFOMSG_BYTES);
      bytes[0] = AF_BRIDGE;
      if (link !== undefined) new DataView(bytes.buffer).setInt32(4, link, true);
      writer.raw(bytes);
    },
    readForwarding,
    'listing forwarding entries',
  );
}

/**
 * Makes what a VXLAN link has for a hardware address go to this destination alone, for good.
 * @throws KernelError EOPNOTSUPP for `00:00:00:00:00:00` and multicast, which have lists of destinations: {@link appendForwarding};
 *   EAFNOSUPPORT for a destination of the other family; ENODEV where the link is gone; EPERM without CAP_NET_ADMIN
 * @throws NetlinkError ERR_INVALID for a hardware address that is none
 */
export function replaceForwarding(socket: NetlinkSocket, entry: NewForwardingEntry): void {
  requestForwarding(socket, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entry, 'setting');
}

/**
 * Adds a destination to those of `00:00:00:00:00:00` or a multicast address. Another address that has one keeps it, and no other.
 * @throws KernelError as {@link replaceForwarding} but for EOPNOTSUPP
 */
export function appendForwarding(socket: NetlinkSocket, entry: NewForwardingEntry): void {
  requestForwarding(socket, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, entry, 'adding');
}

/**
 * Forgets a destination of a hardware address, without one all. Where the address has others alone, the kernel leaves them and says
 * nothing.
 * @throws KernelError ENOENT where the address has none; ENODEV where the link is gone; EPERM without CAP_NET_ADMIN
 */
export function deleteForwarding(socket: NetlinkSocket, entry: Pick<ForwardingEntry, 'link' | 'mac' | 'destination'>): void {
  requestForwarding(socket, RTM_DELNEIGH, 0, entry, 'deleting');
}

function requestForwarding(
  socket: NetlinkSocket,
  request: number,
  flags: number,
  { link, mac, destination }: Pick<ForwardingEntry, 'link' | 'mac' | 'destination'>,
  verb: string,
): void {
  const to = destination === undefined ? '' : ` to ${formatAddress(destination)}`;
  const doing = `${verb} the forwarding of ${mac}${to} on link ${link}`;
  const write = (writer: MessageWriter): void => {
    writer.raw(header(AF_BRIDGE, link, NEIGHBOUR_STATE.permanent, NTF_SELF));
    writer.data(NDA_LLADDR, hardwareAddressBytes(mac, doing));
    if (destination !== undefined) writer.data(NDA_DST, addressBytes(destination));
  };
  socket.request(request, flags, write, () => {}, doing);
}

/** Reads one message of the group RTNLGRP_NEIGH. Undefined for one of neither kind, as that an address is sought. @throws MalformedError */
export function readNeighbourEvent(message: Message): NeighbourEvent | undefined {
  if (message.type !== RTM_NEWNEIGH && message.type !== RTM_DELNEIGH) return undefined;
  const isNew = message.type === RTM_NEWNEIGH;
  const entry = readForwarding(message.payload);
  if (entry !== undefined) return { event: isNew ? 'forwarding' : 'forwarding-gone', entry };
  const neighbour = readNeighbour(message.payload);
  return neighbour === undefined ? undefined : { event: isNew ? 'neighbour' : 'gone', neighbour };
}

/**
 * Tells of neighbours and forwarding entries of all links that come, change or go. To miss nothing, watch first and list then.
 *
 * @param socket an open rtnetlink socket, used for nothing else
 * @returns ends it; the socket stays open
 */
export function watchNeighbours(poller: Poller, socket: NetlinkSocket, onEvent: (event: NeighbourEvent) => void): () => void {
  return watchGroups<NeighbourEvent>(poller, socket, [RTNLGRP_NEIGH], readNeighbourEvent, onEvent);
}
