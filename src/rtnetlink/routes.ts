/** The unicast IPv4 and IPv6 routes of a network namespace, as `ip route` has them: read, watched, asked for, made and deleted. */
import {
  type Attributes,
  KernelError,
  MalformedError,
  type Message,
  type MessageWriter,
  type NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  type Poller,
  readAttributes,
} from 'nftables-js';
import {
  type Address,
  addressBytes,
  type Family,
  familyOf,
  formatAddress,
  formatPrefix,
  ipv4,
  ipv6,
  networkAddress,
  type Prefix,
  widthOf,
} from '../policy/address.ts';
import { familyOfNumber, numberOfFamily, readIp } from './address-attributes.ts';
import { listTable, type Overrun, watchGroups } from './list-and-watch.ts';

/** linux/rtnetlink.h: RT_TABLE_*. Others are numbers of up to 32 bits. */
export const ROUTE_TABLE = { main: 254, local: 255 } as const;

/** Who made a route. linux/rtnetlink.h: RTPROT_*. */
export const ROUTE_PROTOCOL = { kernel: 2, boot: 3, static: 4 } as const;

/** How far the destination is. linux/rtnetlink.h: RT_SCOPE_*. */
export const ROUTE_SCOPE = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;

export type RouteType = 'unicast' | 'local' | 'broadcast' | 'multicast' | 'blackhole' | 'unreachable' | 'prohibit' | 'throw' | 'other';

export interface Route {
  readonly family: Family;
  readonly destination: Prefix;
  readonly type: RouteType;
  /** {@link ROUTE_TABLE} */
  readonly table: number;
  /** {@link ROUTE_PROTOCOL} */
  readonly protocol: number;
  /** {@link ROUTE_SCOPE}; IPv6 has `global` alone. */
  readonly scope: number;
  /** Of the other family where an IPv4 route has an IPv6 gateway. */
  readonly gateway: Address | undefined;
  /** The index of the link that packets go out through. */
  readonly link: number | undefined;
  /** The address that packets of this node have as source, unless they are bound to another (RTA_PREFSRC). */
  readonly source: Address | undefined;
  /** Of two routes to one destination the smaller one counts; undefined is 0. The kernel gives those of IPv6 1024. */
  readonly metric: number | undefined;
  /** The gateway is taken to be on the link, though no address of the link says so. */
  readonly onlink: boolean;
  /** 1, or of a multipath route more: gateway and link are those of the first. */
  readonly hops: number;
}

/** A route to make, or what tells the one to delete. */
export interface NewRoute {
  readonly destination: Prefix;
  /** Of the family of the destination. */
  readonly gateway?: Address;
  /** The index of a link. */
  readonly link?: number;
  readonly source?: Address;
  readonly onlink?: boolean;
  /** `unicast` unless given. */
  readonly type?: 'unicast' | 'blackhole';
  /** Unless given `link` where there is no gateway, else `global`. */
  readonly scope?: number;
  /** `boot` unless given. */
  readonly protocol?: number;
  /** Unless given 0 (IPv4), 1024 (IPv6). */
  readonly metric?: number;
  /** `main` unless given. */
  readonly table?: number;
}

export type RouteEvent =
  /** It is new, or stands where another was: the kernel does not tell that that one is gone. */
  { readonly event: 'route' | 'gone'; readonly route: Route } | Overrun;

/** linux/rtnetlink.h */
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTNLGRP_IPV4_ROUTE = 7;
const RTNLGRP_IPV6_ROUTE = 11;
const RTMSG_BYTES = 12;
const RTNEXTHOP_BYTES = 8;
const RTM_F_CLONED = 0x200;
const RTM_F_LOOKUP_TABLE = 0x1000;
const RTNH_F_ONLINK = 4;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTN_UNSPEC = 0;
const RTPROT_UNSPEC = 0;
const TYPES: ReadonlyMap<number, RouteType> = new Map([
  [1, 'unicast'],
  [2, 'local'],
  [3, 'broadcast'],
  [5, 'multicast'],
  [6, 'blackhole'],
  [7, 'unreachable'],
  [8, 'prohibit'],
  [9, 'throw'],
]);
const TYPE_NUMBERS = { unicast: 1, blackhole: 6 } as const;
const UNSPECIFIED = { 4: ipv4(0), 6: ipv6(0n) } as const;
/** What the kernel answers where a packet would get no further: no route, `unreachable`, `prohibit`, `blackhole`. */
const NO_WAY: ReadonlySet<string> = new Set(['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL']);

/**
 * Reads an RTM_NEWROUTE or RTM_DELROUTE message. Undefined for another family, and for what is no route of a table but learned for
 * one destination, as its MTU (RTM_F_CLONED).
 * @throws MalformedError
 */
export function readRoute(payload: Uint8Array): Route | undefined {
  const { flags, route } = readRouteMessage(payload) ?? {};
  return flags === undefined || (flags & RTM_F_CLONED) !== 0 ? undefined : route;
}

/** Undefined for another family. @throws MalformedError */
function readRouteMessage(payload: Uint8Array): { flags: number; route: Route } | undefined {
  // struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags; }
  if (payload.length < RTMSG_BYTES) throw new MalformedError(`a message about a route of ${payload.length} bytes`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const family = familyOfNumber(view.getUint8(0));
  if (family === undefined) return undefined;
  const length = view.getUint8(1);
  if (length > widthOf(family)) throw new MalformedError(`a route to an IPv${family} prefix of ${length} bits`);
  const flags = view.getUint32(8, true);
  const attributes = readAttributes(payload.subarray(RTMSG_BYTES));
  const destination = attributes.get(RTA_DST);
  const address = destination === undefined ? UNSPECIFIED[family] : readIp(destination, family, 'the destination of a route');
  const source = attributes.get(RTA_PREFSRC);
  const route: Route = {
    family,
    destination: { address: networkAddress(address, length), length },
    type: TYPES.get(view.getUint8(7)) ?? 'other',
    table: attributes.get(RTA_TABLE)?.u32() ?? view.getUint8(4),
    protocol: view.getUint8(5),
    scope: view.getUint8(6),
    gateway: readGateway(attributes, family),
    link: attributes.get(RTA_OIF)?.u32(),
    source: source === undefined ? undefined : readIp(source, family, 'the source of a route'),
    metric: attributes.get(RTA_PRIORITY)?.u32(),
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    hops: 1,
  };
  const multipath = attributes.get(RTA_MULTIPATH);
  return { flags, route: multipath === undefined ? route : { ...route, ...readHops(multipath.data, family) } };
}

/** @throws MalformedError */
function readGateway(attributes: Attributes, family: Family): Address | undefined {
  const gateway = attributes.get(RTA_GATEWAY);
  if (gateway !== undefined) return readIp(gateway, family, 'the gateway of a route');
  // struct rtvia { u16 family; u8 address[]; }, for a gateway of the other family.
  const via = attributes.get(RTA_VIA);
  if (via === undefined) return undefined;
  const { data } = via;
  const other = data.length < 2 ? undefined : familyOfNumber(new DataView(data.buffer, data.byteOffset).getUint16(0, true));
  if (other === undefined) throw new MalformedError(`the gateway of a route is of no known family (${data.length} bytes)`);
  return readIp({ data: data.subarray(2) }, other, 'the gateway of a route');
}

/** Nexthops one after the other, each with its attributes. @throws MalformedError */
function readHops(data: Uint8Array, family: Family): Pick<Route, 'gateway' | 'link' | 'onlink' | 'hops'> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let first: Pick<Route, 'gateway' | 'link' | 'onlink'> | undefined;
  let hops = 0;
  for (let at = 0; at + RTNEXTHOP_BYTES <= data.length; hops++) {
    // struct rtnexthop { u16 len; u8 flags, hops; i32 ifindex; }
    const length = view.getUint16(at, true);
    if (length < RTNEXTHOP_BYTES || at + length > data.length)
      throw new MalformedError(`a nexthop of ${length} bytes at ${at} does not fit into ${data.length}`);
    first ??= {
      gateway: readGateway(readAttributes(data.subarray(at + RTNEXTHOP_BYTES, at + length)), family),
      link: view.getUint32(at + 4, true),
      onlink: (view.getUint8(at + 2) & RTNH_F_ONLINK) !== 0,
    };
    at += (length + 3) & ~3;
  }
  if (first === undefined) throw new MalformedError('a multipath route without a nexthop');
  return { ...first, hops };
}

/** The routes of one table. @param filter the table `main` and both families unless given */
export function listRoutes(socket: NetlinkSocket, filter: { readonly table?: number; readonly family?: Family } = {}): Route[] {
  const { table = ROUTE_TABLE.main, family } = filter;
  const header = new Uint8Array(RTMSG_BYTES);
  if (family !== undefined) header[0] = numberOfFamily(family);
  return listTable(
    socket,
    RTM_GETROUTE,
    (writer) => writer.raw(header),
    // The kernel gives all tables to a socket that has not asked for strict checking.
    (payload) => {
      const route = readRoute(payload);
      return route?.table === table ? route : undefined;
    },
    'listing routes',
  );
}

/**
 * Makes a route.
 * @throws KernelError EEXIST where there is one to this destination with this metric; ENETUNREACH, EHOSTUNREACH where the gateway is
 *   not on a link (without `onlink`); ENETDOWN, ENODEV where the link is down, gone; EINVAL for what contradicts itself, as a source
 *   that is no address of the node; EPERM without CAP_NET_ADMIN
 */
export function addRoute(socket: NetlinkSocket, route: NewRoute): void {
  requestRoute(socket, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, 'adding');
}

/**
 * Makes a route in place of that to the same destination with the same metric, whatever that one's gateway, link and type, or anew.
 * One with another metric stays. Where somebody has appended further ones with the same metric (`ip route append`), IPv4 replaces
 * the first alone; IPv6 all that have a gateway where this one has, else one of those without.
 * @throws KernelError as {@link addRoute} but for EEXIST
 */
export function replaceRoute(socket: NetlinkSocket, route: NewRoute): void {
  requestRoute(socket, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, 'replacing');
}

/**
 * Deletes the route to this destination that has everything else that is given; `onlink` tells no two apart. What is not given may
 * be anything, but for the table.
 * @throws KernelError ESRCH where there is none, also where its link is gone; EPERM without CAP_NET_ADMIN
 */
export function deleteRoute(socket: NetlinkSocket, route: NewRoute): void {
  requestRoute(socket, RTM_DELROUTE, 0, route, 'deleting');
}

function requestRoute(socket: NetlinkSocket, request: number, flags: number, route: NewRoute, doing: string): void {
  socket.request(
    request,
    flags,
    (writer) => writeRoute(writer, route, request === RTM_DELROUTE),
    () => {},
    `${doing} route ${describe(route)}`,
  );
}

function writeRoute(writer: MessageWriter, route: NewRoute, deleting: boolean): void {
  const { destination, gateway, link, source, onlink = false, type, scope, protocol, metric, table = ROUTE_TABLE.main } = route;
  const header = new Uint8Array(RTMSG_BYTES);
  header[0] = numberOfFamily(familyOf(destination.address));
  header[1] = destination.length;
  // In a request to delete these numbers stand for any.
  header[5] = protocol ?? (deleting ? RTPROT_UNSPEC : ROUTE_PROTOCOL.boot);
  header[6] = scope ?? (deleting ? ROUTE_SCOPE.nowhere : scopeOf(route));
  header[7] = type === undefined && deleting ? RTN_UNSPEC : TYPE_NUMBERS[type ?? 'unicast'];
  if (onlink && !deleting) new DataView(header.buffer).setUint32(8, RTNH_F_ONLINK, true);
  writer.raw(header);
  writer.data(RTA_DST, addressBytes(destination.address));
  writer.u32(RTA_TABLE, table);
  if (gateway !== undefined) writer.data(RTA_GATEWAY, addressBytes(gateway));
  if (link !== undefined) writer.u32(RTA_OIF, link);
  if (source !== undefined) writer.data(RTA_PREFSRC, addressBytes(source));
  if (metric !== undefined) writer.u32(RTA_PRIORITY, metric);
}

/** As `ip route` chooses it: what needs no gateway is on the link. */
function scopeOf({ gateway, type }: NewRoute): number {
  return gateway === undefined && type !== 'blackhole' ? ROUTE_SCOPE.link : ROUTE_SCOPE.global;
}

function describe({ destination, gateway, link }: NewRoute): string {
  const via = gateway === undefined ? '' : ` via ${formatAddress(gateway)}`;
  return `${formatPrefix(destination)}${via}${link === undefined ? '' : ` through link ${link}`}`;
}

/**
 * The way that a packet of this node to an address goes now, over all tables and rules, as `ip route get` says it; its destination is
 * the address alone, its source the one the packet would have. Undefined where it would get no further: there is no route, or one of
 * a type that ends there.
 */
export function routeTo(socket: NetlinkSocket, address: Address): Route | undefined {
  const family = familyOf(address);
  let found: Route | undefined;
  try {
    socket.request(
      RTM_GETROUTE,
      0,
      (writer) => {
        const header = new Uint8Array(RTMSG_BYTES);
        header[0] = numberOfFamily(family);
        header[1] = widthOf(family);
        // Without it the answer has `main`, whatever table it was.
        new DataView(header.buffer).setUint32(8, RTM_F_LOOKUP_TABLE, true);
        writer.raw(header);
        writer.data(RTA_DST, addressBytes(address));
      },
      (message) => {
        if (message.type === RTM_NEWROUTE) found = readRouteMessage(message.payload)?.route;
      },
      `asking for the route to ${formatAddress(address)}`,
    );
  } catch (error) {
    if (error instanceof KernelError && NO_WAY.has(error.code)) return undefined;
    throw error;
  }
  return found;
}

/** Reads one message of the groups RTNLGRP_IPV4_ROUTE and RTNLGRP_IPV6_ROUTE. @throws MalformedError */
export function readRouteEvent(message: Message): RouteEvent | undefined {
  if (message.type !== RTM_NEWROUTE && message.type !== RTM_DELROUTE) return undefined;
  const route = readRoute(message.payload);
  return route === undefined ? undefined : { event: message.type === RTM_NEWROUTE ? 'route' : 'gone', route };
}

/**
 * Tells of the routes of all tables that come, change or go. To miss nothing, watch first and list then. Of the IPv4 routes that go
 * because their link went down or was deleted, the kernel says nothing; nor do older kernels of those whose source address went.
 * Watch links and addresses too.
 *
 * @param socket an open rtnetlink socket, used for nothing else
 * @returns ends it; the socket stays open
 */
export function watchRoutes(poller: Poller, socket: NetlinkSocket, onEvent: (event: RouteEvent) => void): () => void {
  return watchGroups<RouteEvent>(poller, socket, [RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE], readRouteEvent, onEvent);
}
