/** The overlay devices of a node, as they should be, and what is wrong with one that is there. */
import { type Address, type Family, familyOf, formatAddress, type Prefix, prefixRange, widthOf } from '../policy/address.ts';
import type { Link } from '../rtnetlink/links.ts';

interface DeviceBase {
  readonly name: string;
  readonly mtu: number;
  /** At most one of each family; the prefix is the whole address: no route to a subnet follows from it. */
  readonly addresses: readonly Address[];
  /** The cluster's networks: any other address of these on the device is left over, and is removed. */
  readonly networks: readonly Prefix[];
}

export interface VxlanDevice extends DeviceBase {
  readonly kind: 'vxlan';
  /** Hardware address of the VTEP. */
  readonly mac: string;
  readonly vni: number;
  readonly port: number;
  readonly local: Address;
  /** Index of the interface that the outer packets leave by. */
  readonly underlay: number;
  readonly learning: boolean;
  readonly gbp: boolean;
}

export interface IpipDevice extends DeviceBase {
  readonly kind: 'ipip';
  readonly local: Address;
}

export interface WireguardDevice extends DeviceBase {
  readonly kind: 'wireguard';
}

/** Is there as long as a process holds it open: whoever does makes it again. */
export interface TunDevice extends DeviceBase {
  readonly kind: 'tun';
}

export type OverlayDevice = VxlanDevice | IpipDevice | WireguardDevice | TunDevice;

/** What cannot be changed on a device that is there: it has to be made anew. Undefined: nothing. */
export function incompatibility(wanted: OverlayDevice, link: Link): string | undefined {
  if (link.kind !== wanted.kind) return `it is of kind ${link.kind === '' ? 'none' : link.kind}, not ${wanted.kind}`;
  if (wanted.kind === 'vxlan') {
    const { vxlan } = link;
    if (vxlan === undefined) return 'its parameters cannot be read';
    if (vxlan.vni !== wanted.vni) return `its VNI is ${vxlan.vni}, not ${wanted.vni}`;
    if (vxlan.port !== wanted.port) return `its port is ${vxlan.port}, not ${wanted.port}`;
    if (vxlan.local !== wanted.local) return `its local address is ${show(vxlan.local)}, not ${show(wanted.local)}`;
    if (vxlan.underlay !== wanted.underlay) return `its interface is number ${vxlan.underlay ?? 'none'}, not ${wanted.underlay}`;
    if (vxlan.gbp !== wanted.gbp) return `its group policy extension is ${onOff(vxlan.gbp)}, not ${onOff(wanted.gbp)}`;
    if (vxlan.remote !== undefined) return `it has a remote address (${show(vxlan.remote)})`;
  }
  if (wanted.kind === 'ipip') {
    if (link.ipip?.local !== wanted.local) return `its local address is ${show(link.ipip?.local)}, not ${show(wanted.local)}`;
    if (link.ipip.remote !== undefined) return `it has a remote address (${show(link.ipip.remote)})`;
  }
  return undefined;
}

export interface LinkChange {
  mtu?: number;
  address?: string;
  up?: boolean;
  learning?: boolean;
}

/** What has to be changed on a compatible device; undefined: nothing. */
export function linkChange(wanted: OverlayDevice, link: Link): LinkChange | undefined {
  const change: LinkChange = {};
  if (link.mtu !== wanted.mtu) change.mtu = wanted.mtu;
  if (!link.up) change.up = true;
  if (wanted.kind === 'vxlan') {
    if (link.address !== wanted.mac) change.address = wanted.mac;
    if (link.vxlan?.learning !== wanted.learning) change.learning = wanted.learning;
  }
  return Object.keys(change).length === 0 ? undefined : change;
}

/** The names that overlay devices of the kinds that flannel has go by. */
export function isOverlayName(name: string): boolean {
  return /^flannel(\.\d+|-v6\.\d+|\.ipip|-wg|-wg-v6|\d+)$/.test(name);
}

/** As a prefix of the whole width. */
export function hostPrefix(address: Address): Prefix {
  return { address, length: widthOf(familyOf(address)) };
}

export function contains(prefix: Prefix, address: Address): boolean {
  if (familyOf(prefix.address) !== familyOf(address)) return false;
  const { first, last } = prefixRange(prefix);
  return address >= first && address <= last;
}

/** Whether all of `inner` lies in `outer`, and is not the same. */
export function strictlyInside(outer: Prefix, inner: Prefix): boolean {
  return inner.length > outer.length && contains(outer, inner.address);
}

export function ofFamily<T extends { readonly address: Address }>(values: readonly T[], family: Family): readonly T[] {
  return values.filter((value) => familyOf(value.address) === family);
}

function show(address: Address | undefined): string {
  return address === undefined ? 'none' : formatAddress(address);
}

function onOff(flag: boolean): string {
  return flag ? 'on' : 'off';
}
