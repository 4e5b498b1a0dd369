/**
 * The links (interfaces) of a network namespace, as `ip link` has them, and the two flags of a bridge that make bridged packets
 * pass through the inet hooks. The flags are set on the bridge itself: that needs CAP_NET_ADMIN and no sysctl.
 */
import { existsSync } from 'node:fs';
import {
  type Attributes,
  listen,
  MalformedError,
  type Message,
  type NetlinkError,
  type NetlinkSocket,
  NLM_F_DUMP,
  type Poller,
  readAttributes,
  required,
} from 'nftables-js';

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `bridge`, `veth`, `vxlan` …; empty for a link that was not made by a driver of this kind, as lo or a network card. */
  readonly kind: string;
  /** The index of the bridge (or bond …) it is a port of. */
  readonly master: number | undefined;
  /** Administratively up (IFF_UP). */
  readonly up: boolean;
  /** Only of a bridge; undefined too where the kernel has no bridge netfilter. */
  readonly bridge: BridgeFiltering | undefined;
}

/** Whether packets between two ports of a bridge pass through the hooks of IPv4 and IPv6. */
export interface BridgeFiltering {
  readonly iptables: boolean;
  readonly ip6tables: boolean;
}

export type LinkEvent =
  /** It is new, or something of it has changed. */
  | { readonly event: 'link'; readonly link: Link }
  | { readonly event: 'gone'; readonly index: number; readonly name: string }
  /** Events were lost: list the links again. */
  | { readonly event: 'overrun'; readonly cause: NetlinkError };

/** linux/rtnetlink.h, linux/if_link.h */
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTNLGRP_LINK = 1;
const AF_UNSPEC = 0;
const IFINFOMSG_BYTES = 16;
const IFF_UP = 1;
const IFLA_IFNAME = 3;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_BR_NF_CALL_IPTABLES = 36;
const IFLA_BR_NF_CALL_IP6TABLES = 37;

/** Reads an RTM_NEWLINK message. Undefined for one about a port as its bridge sees it. @throws MalformedError */
export function readLink(payload: Uint8Array): Link | undefined {
  const { index, flags, attributes } = readHeader(payload) ?? {};
  if (index === undefined || flags === undefined || attributes === undefined) return undefined;
  const info = attributes.get(IFLA_LINKINFO)?.nested();
  const kind = info?.get(IFLA_INFO_KIND)?.string() ?? '';
  return {
    index,
    name: required(attributes, IFLA_IFNAME, 'the name of a link').string(),
    kind,
    master: attributes.get(IFLA_MASTER)?.u32(),
    up: (flags & IFF_UP) !== 0,
    bridge: kind === 'bridge' ? readBridgeFiltering(info?.get(IFLA_INFO_DATA)?.nested()) : undefined,
  };
}

function readBridgeFiltering(data: Attributes | undefined): BridgeFiltering | undefined {
  const iptables = data?.get(IFLA_BR_NF_CALL_IPTABLES)?.u8();
  const ip6tables = data?.get(IFLA_BR_NF_CALL_IP6TABLES)?.u8();
  return iptables === undefined || ip6tables === undefined ? undefined : { iptables: iptables !== 0, ip6tables: ip6tables !== 0 };
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

/** All links of the namespace that the socket belongs to. */
export function listLinks(socket: NetlinkSocket): Link[] {
  let links: Link[] = [];
  socket.request(
    RTM_GETLINK,
    NLM_F_DUMP,
    (writer) => writer.raw(new Uint8Array(IFINFOMSG_BYTES)),
    (message) => {
      const link = message.type === RTM_NEWLINK ? readLink(message.payload) : undefined;
      if (link !== undefined) links.push(link);
    },
    'listing links',
    () => {
      links = [];
    },
  );
  return links;
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
      const header = new Uint8Array(IFINFOMSG_BYTES);
      new DataView(header.buffer).setInt32(4, bridge.index, true);
      writer.raw(header);
      const info = writer.beginNested(IFLA_LINKINFO);
      writer.string(IFLA_INFO_KIND, 'bridge');
      const data = writer.beginNested(IFLA_INFO_DATA);
      if (flags.iptables !== undefined) writer.u8(IFLA_BR_NF_CALL_IPTABLES, Number(flags.iptables));
      if (flags.ip6tables !== undefined) writer.u8(IFLA_BR_NF_CALL_IP6TABLES, Number(flags.ip6tables));
      writer.endNested(data);
      writer.endNested(info);
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
  socket.join(RTNLGRP_LINK);
  return listen(poller, socket, {
    message: (message) => {
      const event = readLinkEvent(message);
      if (event !== undefined) onEvent(event);
    },
    lost: (cause) => onEvent({ event: 'overrun', cause }),
  });
}
