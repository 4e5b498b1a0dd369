/**
 * The links (interfaces) of a network namespace, as `ip link` has them: read, watched, made, changed and deleted. Of bridges also
 * the two flags that make bridged packets pass through the inet hooks: set on the bridge itself they need CAP_NET_ADMIN and no sysctl.
 */
import { existsSync } from 'node:fs';
import {
  type Attributes,
  MalformedError,
  type Message,
  type MessageWriter,
  type NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  type Poller,
  readAttributes,
  required,
} from 'nftables-js';
import { type Address, addressBytes, familyOf } from '../policy/address.ts';
import { hardwareAddressBytes, readHardwareAddress, readIpOfEither } from './address-attributes.ts';
import { listTable, type Overrun, watchGroups } from './list-and-watch.ts';

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `bridge`, `veth`, `vxlan` …; empty for a link that was not made by a driver of this kind, as lo or a network card. */
  readonly kind: string;
  /** The index of the bridge (or bond …) it is a port of. */
  readonly master: number | undefined;
  /** Administratively up (IFF_UP). */
  readonly up: boolean;
  /** Up, and able to carry packets (IFF_RUNNING). */
  readonly running: boolean;
  /** Bytes. */
  readonly mtu: number;
  /** The hardware address, `02:00:5e:10:00:ff`. Undefined where it has none, as a WireGuard link or a tunnel over IP. */
  readonly address: string | undefined;
  /** Only of a bridge; undefined too where the kernel has no bridge netfilter. */
  readonly bridge: BridgeFiltering | undefined;
  /** Only of kind `vxlan`. */
  readonly vxlan: VxlanSettings | undefined;
  /** Only of kind `ipip`; undefined ends are any address. */
  readonly ipip: TunnelEnds | undefined;
}

/** What a VXLAN link was made with (RFC 7348). */
export interface VxlanSettings {
  /** VXLAN network identifier, 24 bits. */
  readonly vni: number;
  /** UDP port of the other ends, and the own one. */
  readonly port: number;
  /** The source of the outer packets; undefined: as routed. Its family is that of the tunnel. */
  readonly local: Address | undefined;
  /** Where packets without a forwarding entry go, a node or a multicast group; undefined: nowhere. */
  readonly remote: Address | undefined;
  /** The index of the link that the outer packets go through; undefined: as routed. */
  readonly underlay: number | undefined;
  /** Whether received packets make forwarding entries. */
  readonly learning: boolean;
  /** Whether packets carry the group policy extension (draft-smith-vxlan-group-policy). */
  readonly gbp: boolean;
}

export interface TunnelEnds {
  readonly local: Address | undefined;
  readonly remote: Address | undefined;
}

/** A link to make. */
export type NewLink = {
  readonly name: string;
  /** Bytes; unless given as the kernel chooses. */
  readonly mtu?: number;
  /** The hardware address. Without one the kernel rolls the dice, and udev may set another; one given here it leaves alone. */
  readonly address?: string;
  readonly up?: boolean;
} & (
  | {
      readonly kind: 'vxlan';
      /** Port 0: the kernel's, 8472. */
      readonly vxlan: Omit<VxlanSettings, 'remote'>;
    }
  | { readonly kind: 'bridge'; readonly bridge?: Partial<BridgeFiltering> }
  | {
      readonly kind: 'ipip';
      /** IPv4. The other end is any: routes with a gateway say which. */
      readonly local: Address;
    }
  | { readonly kind: 'wireguard' }
  | { readonly kind: 'dummy' }
);

/** What to change of a link; what is left out stays. */
export interface LinkChange {
  readonly mtu?: number;
  /** The hardware address. */
  readonly address?: string;
  readonly up?: boolean;
  /** Only of a link of kind `vxlan`. */
  readonly learning?: boolean;
}

/** Whether packets between two ports of a bridge pass through the hooks of IPv4 and IPv6. */
export interface BridgeFiltering {
  readonly iptables: boolean;
  readonly ip6tables: boolean;
}

export type LinkEvent =
  /** It is new, or something of it has changed. */
  { readonly event: 'link'; readonly link: Link } | { readonly event: 'gone'; readonly index: number; readonly name: string } | Overrun;

/** linux/rtnetlink.h, linux/if.h, linux/if_link.h, linux/if_tunnel.h */
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTNLGRP_LINK = 1;
const AF_UNSPEC = 0;
const IFINFOMSG_BYTES = 16;
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_BR_NF_CALL_IPTABLES = 36;
const IFLA_BR_NF_CALL_IP6TABLES = 37;
const IFLA_VXLAN_ID = 1;
const IFLA_VXLAN_GROUP = 2;
const IFLA_VXLAN_LINK = 3;
const IFLA_VXLAN_LOCAL = 4;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_GROUP6 = 16;
const IFLA_VXLAN_LOCAL6 = 17;
const IFLA_VXLAN_GBP = 23;
const IFLA_IPTUN_LOCAL = 2;
const IFLA_IPTUN_REMOTE = 3;
const IFLA_IPTUN_PMTUDISC = 10;

/** Reads an RTM_NEWLINK message. Undefined for one about a port as its bridge sees it. @throws MalformedError */
export function readLink(payload: Uint8Array): Link | undefined {
  const { index, flags, attributes } = readHeader(payload) ?? {};
  if (index === undefined || flags === undefined || attributes === undefined) return undefined;
  const info = attributes.get(IFLA_LINKINFO)?.nested();
  const kind = info?.get(IFLA_INFO_KIND)?.string() ?? '';
  const data = kind === 'bridge' || kind === 'vxlan' || kind === 'ipip' ? info?.get(IFLA_INFO_DATA)?.nested() : undefined;
  return {
    index,
    name: required(attributes, IFLA_IFNAME, 'the name of a link').string(),
    kind,
    master: attributes.get(IFLA_MASTER)?.u32(),
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    mtu: required(attributes, IFLA_MTU, 'the MTU of a link').u32(),
    address: readHardwareAddress(attributes.get(IFLA_ADDRESS)),
    bridge: kind === 'bridge' ? readBridgeFiltering(data) : undefined,
    vxlan: kind === 'vxlan' && data !== undefined ? readVxlan(data) : undefined,
    ipip: kind === 'ipip' && data !== undefined ? readTunnelEnds(data) : undefined,
  };
}

function readBridgeFiltering(data: Attributes | undefined): BridgeFiltering | undefined {
  const iptables = data?.get(IFLA_BR_NF_CALL_IPTABLES)?.u8();
  const ip6tables = data?.get(IFLA_BR_NF_CALL_IP6TABLES)?.u8();
  return iptables === undefined || ip6tables === undefined ? undefined : { iptables: iptables !== 0, ip6tables: ip6tables !== 0 };
}

function readVxlan(data: Attributes): VxlanSettings {
  return {
    vni: required(data, IFLA_VXLAN_ID, 'the network identifier of a VXLAN link').u32(),
    port: required(data, IFLA_VXLAN_PORT, 'the port of a VXLAN link').be16(),
    local: readIpOfEither(data, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6, 'the local end of a VXLAN link'),
    remote: readIpOfEither(data, IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6, 'the remote end of a VXLAN link'),
    underlay: data.get(IFLA_VXLAN_LINK)?.u32(),
    learning: (data.get(IFLA_VXLAN_LEARNING)?.u8() ?? 0) !== 0,
    gbp: data.has(IFLA_VXLAN_GBP),
  };
}

function readTunnelEnds(data: Attributes): TunnelEnds {
  return {
    local: readIpOfEither(data, IFLA_IPTUN_LOCAL, undefined, 'the local end of a tunnel'),
    remote: readIpOfEither(data, IFLA_IPTUN_REMOTE, undefined, 'the remote end of a tunnel'),
  };
}

/**
 * struct ifinfomsg { u8 family; u8 pad; u16 type; i32 index; u32 flags; u32 change; }, and the attributes after it. A bridge tells
 * of its ports in messages of the same type and of family AF_BRIDGE: that a port was taken out of its bridge then looks like the
 * end of a link. Undefined for those.
 */
function readHeader(payload: Uint8Array): { index: number; flags: number; attributes: Attributes } | undefined {
  if (payload.length < IFINFOMSG_BYTES) throw new MalformedError(`a message about a link of ${payload.length} bytes`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (view.getUint8(0) !== AF_UNSPEC) return undefined;
  return {
    index: view.getInt32(4, true),
    flags: view.getUint32(8, true),
    attributes: readAttributes(payload.subarray(IFINFOMSG_BYTES)),
  };
}

/** struct ifinfomsg as a request has it. @param up undefined: as it is */
function linkHeader(index: number, up?: boolean): Uint8Array {
  const header = new Uint8Array(IFINFOMSG_BYTES);
  const view = new DataView(header.buffer);
  view.setInt32(4, index, true);
  if (up !== undefined) {
    view.setUint32(8, up ? IFF_UP : 0, true);
    view.setUint32(12, IFF_UP, true);
  }
  return header;
}

/** All links of the namespace that the socket belongs to. */
export function listLinks(socket: NetlinkSocket): Link[] {
  return listTable(socket, RTM_GETLINK, (writer) => writer.raw(linkHeader(0)), readLink, 'listing links');
}

/**
 * Makes a link. Everything of it is set before anybody else can see it.
 * @throws KernelError EEXIST where there is one of this name, or a VXLAN link of this VNI and port; EOPNOTSUPP where the kernel
 *   lacks the kind (its module); EINVAL, ERANGE for what the kernel does not take, as an MTU that is too small; EPERM without
 *   CAP_NET_ADMIN
 * @throws NetlinkError ERR_INVALID for a hardware address that is none
 */
export function addLink(socket: NetlinkSocket, link: NewLink): void {
  const doing = `adding ${link.kind} link ${link.name}`;
  socket.request(
    RTM_NEWLINK,
    NLM_F_CREATE | NLM_F_EXCL,
    (writer) => {
      writer.raw(linkHeader(0, link.up));
      writer.string(IFLA_IFNAME, link.name);
      if (link.mtu !== undefined) writer.u32(IFLA_MTU, link.mtu);
      if (link.address !== undefined) writer.data(IFLA_ADDRESS, hardwareAddressBytes(link.address, doing));
      writeLinkInfo(writer, link.kind, () => writeLinkData(writer, link));
    },
    () => {},
    doing,
  );
}

function writeLinkInfo(writer: MessageWriter, kind: string, writeData: () => void): void {
  const info = writer.beginNested(IFLA_LINKINFO);
  writer.string(IFLA_INFO_KIND, kind);
  const data = writer.beginNested(IFLA_INFO_DATA);
  writeData();
  writer.endNested(data);
  writer.endNested(info);
}

function writeLinkData(writer: MessageWriter, link: NewLink): void {
  if (link.kind === 'vxlan') writeVxlan(writer, link.vxlan);
  else if (link.kind === 'bridge') writeBridgeFiltering(writer, link.bridge ?? {});
  else if (link.kind === 'ipip') {
    writer.data(IFLA_IPTUN_LOCAL, addressBytes(link.local));
    // As flannel has it: the outer packet may be fragmented unless the inner one may not.
    writer.u8(IFLA_IPTUN_PMTUDISC, 0);
  }
}

function writeVxlan(writer: MessageWriter, { vni, port, local, underlay, learning, gbp }: Omit<VxlanSettings, 'remote'>): void {
  writer.u32(IFLA_VXLAN_ID, vni);
  if (underlay !== undefined) writer.u32(IFLA_VXLAN_LINK, underlay);
  if (local !== undefined) writer.data(familyOf(local) === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, addressBytes(local));
  // Left out, it would be on.
  writer.u8(IFLA_VXLAN_LEARNING, Number(learning));
  if (port !== 0) writer.be16(IFLA_VXLAN_PORT, port);
  if (gbp) writer.flag(IFLA_VXLAN_GBP);
}

function writeBridgeFiltering(writer: MessageWriter, flags: Partial<BridgeFiltering>): void {
  if (flags.iptables !== undefined) writer.u8(IFLA_BR_NF_CALL_IPTABLES, Number(flags.iptables));
  if (flags.ip6tables !== undefined) writer.u8(IFLA_BR_NF_CALL_IP6TABLES, Number(flags.ip6tables));
}

/**
 * Changes what is given of a link. The kernel does one after the other (learning, hardware address, MTU, up or down): of those before
 * the one that fails nothing is taken back.
 * @throws KernelError ENODEV where the link is gone; EOPNOTSUPP for learning of a link that is no VXLAN; EINVAL, EBUSY … for what the
 *   kernel does not take; EPERM without CAP_NET_ADMIN
 * @throws NetlinkError ERR_INVALID for a hardware address that is none
 */
export function changeLink(socket: NetlinkSocket, link: Pick<Link, 'index' | 'name' | 'kind'>, change: LinkChange): void {
  const { mtu, address, up, learning } = change;
  const doing = `changing link ${link.name}`;
  const request = (write: (writer: MessageWriter) => void): void => socket.request(RTM_NEWLINK, 0, write, () => {}, doing);
  if (learning !== undefined) {
    // By itself: beside settings of its own a VXLAN link refuses a new MTU.
    request((writer) => {
      writer.raw(linkHeader(link.index));
      writeLinkInfo(writer, 'vxlan', () => writer.u8(IFLA_VXLAN_LEARNING, Number(learning)));
    });
  }
  if (mtu === undefined && address === undefined && up === undefined) return;
  request((writer) => {
    writer.raw(linkHeader(link.index, up));
    if (mtu !== undefined) writer.u32(IFLA_MTU, mtu);
    if (address !== undefined) writer.data(IFLA_ADDRESS, hardwareAddressBytes(address, doing));
  });
}

/**
 * Makes a link a port of a bridge, undefined: of none.
 * @throws KernelError ENODEV where the link is gone; EINVAL where the bridge is; EOPNOTSUPP for one that has no ports; EPERM without
 *   CAP_NET_ADMIN
 */
export function setMaster(socket: NetlinkSocket, link: Pick<Link, 'index' | 'name'>, master: number | undefined): void {
  socket.request(
    RTM_NEWLINK,
    0,
    (writer) => {
      writer.raw(linkHeader(link.index));
      writer.u32(IFLA_MASTER, master ?? 0);
    },
    () => {},
    `making link ${link.name} a port of ${master === undefined ? 'no link' : `link ${master}`}`,
  );
}

/**
 * Deletes a link, with its addresses, routes, neighbours and forwarding entries.
 * @throws KernelError ENODEV where it is gone; EOPNOTSUPP for one that cannot be deleted, as lo; EPERM without CAP_NET_ADMIN
 */
export function deleteLink(socket: NetlinkSocket, link: Pick<Link, 'index' | 'name'>): void {
  socket.request(
    RTM_DELLINK,
    0,
    (writer) => writer.raw(linkHeader(link.index)),
    () => {},
    `deleting link ${link.name}`,
  );
}

/**
 * Sets the flags of a bridge that are given, and leaves the other.
 * @throws KernelError ENODEV where the bridge is gone; EOPNOTSUPP where the link is no bridge; EPERM without CAP_NET_ADMIN
 */
export function setBridgeFiltering(socket: NetlinkSocket, bridge: Pick<Link, 'index' | 'name'>, flags: Partial<BridgeFiltering>): void {
  socket.request(
    RTM_NEWLINK,
    0,
    (writer) => {
      writer.raw(linkHeader(bridge.index));
      writeLinkInfo(writer, 'bridge', () => writeBridgeFiltering(writer, flags));
    },
    () => {},
    `setting nf_call_iptables and nf_call_ip6tables of bridge ${bridge.name}`,
  );
}

/**
 * Whether br_netfilter is there: without it the flags of a bridge can be set and do nothing.
 * @param sysctlDirectory where /proc/sys is mounted
 */
export function bridgeFilteringAvailable(sysctlDirectory = '/proc/sys'): boolean {
  return existsSync(`${sysctlDirectory}/net/bridge`);
}

/** Reads one message of the group RTNLGRP_LINK. @throws MalformedError */
export function readLinkEvent(message: Message): LinkEvent | undefined {
  if (message.type === RTM_NEWLINK) {
    const link = readLink(message.payload);
    return link === undefined ? undefined : { event: 'link', link };
  }
  if (message.type !== RTM_DELLINK) return undefined;
  const header = readHeader(message.payload);
  if (header === undefined) return undefined;
  return { event: 'gone', index: header.index, name: required(header.attributes, IFLA_IFNAME, 'the name of a link').string() };
}

/**
 * Tells of every change of a link. To miss nothing, watch first and list then. Of a bridge that is down the kernel may tell a
 * changed flag only when it is set up again; until then nothing passes through it.
 *
 * @param socket an open rtnetlink socket, used for nothing else
 * @returns ends it; the socket stays open
 */
export function watchLinks(poller: Poller, socket: NetlinkSocket, onEvent: (event: LinkEvent) => void): () => void {
  return watchGroups<LinkEvent>(poller, socket, [RTNLGRP_LINK], readLinkEvent, onEvent);
}
