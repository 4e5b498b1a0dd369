/**
 * Leases: which node has which subnet, and where and how the others reach it. What a backend says of itself in its lease
 * (`backend-data`) is read here too, and written in the very bytes of flanneld: an older flanneld that takes over a node finds its
 * own MAC address by splitting that text.
 */
import { isDeepStrictEqual } from 'node:util';
import { type Address, type Family, familyOf, isIPv4Mapped, networkAddress, parseAddress, type Prefix } from '../policy/address.ts';
import { isFields } from '../policy/problems.ts';
import { fieldOf } from './json-members.ts';
import type { BackendConf } from './net-conf.ts';

/** What a node has in one address family. */
export interface FamilyLease {
  /** The block that its pods have their addresses of. */
  readonly subnet: Prefix;
  /** Where packets for it are sent to; of the same family. */
  readonly publicAddress: Address;
  /** What its backend says of itself: parsed JSON, untrusted; null or undefined where it says nothing. */
  readonly data: unknown;
}

/** At least one family is there. */
export interface Lease {
  readonly node: string;
  /** `vxlan`, `host-gw` …; of udp and alloc the empty text, as flanneld publishes it. */
  readonly backendType: string;
  readonly v4: FamilyLease | undefined;
  readonly v6: FamilyLease | undefined;
}

/** Who is told of the leases of the other nodes, and of what is wrong with one of any node. */
export interface LeaseListener {
  /** A node has come, or something of its lease has changed: never twice the same in a row. */
  upsert(lease: Lease): void;
  /** It has left, or has no lease any more. Only after an {@link upsert}. */
  remove(node: string): void;
  /** All leases that there were at the start have been told of. Called once. */
  synced(): void;
  /** What is wrong with the node's lease, which is kept as it was; empty: nothing any more. */
  problems(node: string, problems: readonly string[]): void;
}

/** What the daemon has to know of the node that it runs on. */
export interface OwnNode {
  /** Whether there is such a node. */
  readonly exists: boolean;
  /** At most one of each family. */
  readonly podCIDRs: readonly Prefix[];
  /** flannel's annotations by their names without the prefix (`public-ip`). Addresses that cannot be read are left out. */
  readonly annotations: ReadonlyMap<string, string>;
  /** What could not be read, with the field's name. */
  readonly problems: readonly string[];
}

/** What a node's backend vxlan says of itself. */
export interface VxlanData {
  /** 0 where it does not say. */
  readonly vni: number;
  /** Of its device: lower case, with colons. */
  readonly mac: string;
}

/** What a node's backend wireguard says of itself. */
export interface WireguardData {
  /** 32 bytes in base64. */
  readonly publicKey: string;
  /** Undefined: the same as one's own, for flannel before 0.18 did not say. */
  readonly port: number | undefined;
}

/** Whether two leases are one and the same in everything that a backend could go by. */
export function sameLease(a: Lease | undefined, b: Lease | undefined): boolean {
  return isDeepStrictEqual(a, b);
}

/** Whether the whole of `subnet` is of `network`. */
export function liesWithin(subnet: Prefix, network: Prefix): boolean {
  return (
    familyOf(subnet.address) === familyOf(network.address) &&
    subnet.length >= network.length &&
    networkAddress(subnet.address, network.length) === network.address
  );
}

/**
 * Reads the data of a backend vxlan, with names in any case, as flanneld does. Undefined where it has no MAC address of one
 * interface: a multicast address, or none but zeros, would make the forwarding table flood this node with what is for others.
 */
export function vxlanData(data: unknown): VxlanData | undefined {
  if (!isFields(data)) return undefined;
  const mac = readMac(fieldOf(data, 'VtepMAC'));
  const vni = fieldOf(data, 'VNI') ?? 0;
  return mac !== undefined && isWholeNumber(vni, 0xffff_ffff) ? { vni, mac } : undefined;
}

/** `{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}` */
export function formatVxlanData({ vni, mac }: VxlanData): string {
  return JSON.stringify({ VNI: vni, VtepMAC: mac });
}

/** Reads the data of a backend wireguard, with names in any case, as flanneld does. Undefined where it has no key. */
export function wireguardData(data: unknown): WireguardData | undefined {
  if (!isFields(data)) return undefined;
  const publicKey = fieldOf(data, 'PublicKey');
  const port = fieldOf(data, 'Port') ?? 0;
  if (!isWireguardKey(publicKey) || !isWholeNumber(port, 0xffff)) return undefined;
  return { publicKey, port: port === 0 ? undefined : port };
}

/** `{"PublicKey":"…","Port":51820}` */
export function formatWireguardData({ publicKey, port }: { readonly publicKey: string; readonly port: number }): string {
  return JSON.stringify({ PublicKey: publicKey, Port: port });
}

/**
 * What the data of a backend has to look like, for messages, where it does not look like it; undefined where it does. All but vxlan and
 * wireguard say nothing of themselves, and nobody looks at what they say.
 */
export function expectedData(backendType: string, data: unknown): string | undefined {
  if (backendType === 'vxlan' && vxlanData(data) === undefined) return '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}';
  if (backendType === 'wireguard' && wireguardData(data) === undefined) return '{"PublicKey":"…","Port":51820}';
  return undefined;
}

/** The type as a lease has it: udp and alloc have never told theirs, for the others go by their own configuration. */
export function publishedType(backend: BackendConf['type']): string {
  return backend === 'udp' || backend === 'alloc' ? '' : backend;
}

/** An address that packets for one node can be sent to: neither unspecified, nor loopback, multicast or reserved (RFC 6890). */
export function readHostAddress(text: string, family: Family): Address | undefined {
  const address = parseAddress(text);
  if (address === undefined || familyOf(address) !== family) return undefined;
  if (typeof address === 'number') return address >>> 24 !== 0 && address >>> 24 !== 127 && address < 0xe000_0000 ? address : undefined;
  return address > 1n && address >> 120n !== 0xffn && !isIPv4Mapped({ address, length: 128 }) ? address : undefined;
}

/** Whether it is a key of WireGuard: 32 bytes in base64, in the one form that `wg` prints and accepts. */
export function isWireguardKey(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(value);
}

/** As Go's net.ParseMAC for 48 bits: with colons, with hyphens, or in three groups with dots. */
function readMac(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  const isMac = /^[\da-f]{2}(?:([:-])[\da-f]{2})(?:\1[\da-f]{2}){4}$|^[\da-f]{4}\.[\da-f]{4}\.[\da-f]{4}$/i.test(value);
  const octets = value.toLowerCase().match(/[\da-f]{2}/g);
  if (!isMac || octets === null) return undefined;
  const isMulticast = (Number.parseInt(octets[0] ?? '', 16) & 1) !== 0;
  return isMulticast || octets.every((octet) => octet === '00') ? undefined : octets.join(':');
}

function isWholeNumber(value: unknown, largest: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= largest;
}
