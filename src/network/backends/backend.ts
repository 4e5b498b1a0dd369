/**
 * What every backend says: the devices of this node, what a peer needs in the kernel, and what this node tells its peers. A backend
 * is data and pure functions; those whose packets or keys pass through this process (udp, wireguard) have a tunnel besides.
 */
import type { Address, Family, Prefix } from '../../policy/address.ts';
import type { Route } from '../../rtnetlink/routes.ts';
import type { OverlayDevice } from '../devices.ts';
import type { Entry } from '../entries.ts';
import type { ExternalInterface } from '../external-interface.ts';
import type { FamilyLease, Lease } from '../lease.ts';
import { familiesOf, type NetConf } from '../net-conf.ts';

/** What a backend has to know of its node. */
export interface NodeContext {
  readonly external: ExternalInterface;
  /** This node's, and the cluster's, of the families in use. */
  readonly families: readonly NodeFamily[];
}

export interface NodeFamily {
  readonly family: Family;
  /** This node's podCIDR. */
  readonly subnet: Prefix;
  /** The whole cluster's. */
  readonly network: Prefix;
  /** Of the external interface. */
  readonly own: Address;
  /** What peers reach this node by. */
  readonly public: Address;
  /** What packets to peers come from: the public address where the node has it, so that it is what peers expect; else its own. */
  readonly source: Address;
}

/**
 * The families that a node has: those of the configuration that it has a subnet of, and the interface an address.
 * @param addresses all that the node has
 */
export function nodeFamilies(
  conf: NetConf,
  subnets: Partial<Readonly<Record<'v4' | 'v6', Prefix | undefined>>>,
  external: ExternalInterface,
  addresses: readonly { readonly address: Address }[],
): NodeFamily[] {
  return familiesOf(conf).flatMap(({ family, key, network }) => {
    const [subnet, of] = [subnets[key], external[key]];
    if (subnet === undefined || of === undefined) return [];
    const source = addresses.some(({ address }) => address === of.public) ? of.public : of.own;
    return [{ family, subnet, network, own: of.own, public: of.public, source }];
  });
}

/** How packets to an address leave this node now, as `ip route get` says; undefined: they do not. */
export type RouteTo = (address: Address) => Route | undefined;

export interface PeerEntries {
  readonly entries: readonly Entry[];
  /** Why some or all of it could not be said: bad data, no way there. For people. */
  readonly problems: readonly string[];
}

export interface Backend {
  /** As in the annotation. */
  readonly type: string;
  readonly devices: readonly OverlayDevice[];
  /** The largest packet that a pod may send, bytes. */
  readonly mtu: number;
  /** What the node needs whatever peers there are. */
  readonly ownEntries: readonly Entry[];
  /** Whether {@link entriesFor} depends on the routes of the underlay. */
  readonly followsRoutes: boolean;
  entriesFor(lease: Lease, routeTo: RouteTo): PeerEntries;
  /** The backend-data annotation of this node, byte for byte; `null` where there is none. */
  data(family: Family): string;
  /** Where there is more to keep than the kernel's tables: packets that pass through this process, keys. */
  readonly tunnel?: Tunnel;
}

/** What a backend does besides entries of the kernel's tables. */
export interface Tunnel {
  /** Makes its device anew, which is missing; one at a time. Only of kind `tun`, which the kernel does not make by itself. */
  create?(): Promise<void>;
  /**
   * Gives a device that the kernel made what else it is made of: before it is set up, and whenever devices are compared. May throw.
   * @param cause `repair`: what differs is somebody else's doing
   */
  configure?(device: string, cause: 'wanted' | 'repair'): void;
  setPeer(lease: Lease): void;
  removePeer(lease: Lease): void;
  close(): Promise<void>;
}

/** The families of a lease that this node has too. */
export function* commonFamilies(families: readonly NodeFamily[], lease: Lease): Generator<[NodeFamily, FamilyLease]> {
  for (const family of families) {
    const of = family.family === 4 ? lease.v4 : lease.v6;
    if (of !== undefined) yield [family, of];
  }
}

/**
 * Whether an address is on a segment of this node's: one way there, and no router on it. Addresses of the node itself are not: a peer
 * that has one is an error.
 */
export function isDirect(route: Route | undefined): route is Route & { readonly link: number } {
  return route !== undefined && route.type === 'unicast' && route.gateway === undefined && route.hops === 1 && route.link !== undefined;
}
