/**
 * wireguard: what goes to another node is encrypted by the kernel. One device for each family of the underlay (Mode `separate`), or one
 * for all (`auto`, `ipv4`, `ipv6`: by which address a peer is reached). The whole network is routed into the device, and whose packet it
 * is, the device knows by itself: a peer has its subnets as allowed IPs.
 *
 * flanneld makes the device anew at its start, and removes it at its end. Here both it and its sessions are kept.
 */
import { type Address, type Family, formatPrefix, ipv4, ipv6, type Prefix } from '../../policy/address.ts';
import { contains, type WireguardDevice } from '../devices.ts';
import type { Entry } from '../entries.ts';
import { type FamilyLease, formatWireguardData, type Lease, wireguardData } from '../lease.ts';
import type { WireguardConf } from '../net-conf.ts';
import type { WireguardDevices } from '../wireguard/control.ts';
import { publicKeyOf, readOrMakePrivateKey, readSecretKey } from '../wireguard/keys.ts';
import type { WireguardPeer } from '../wireguard/messages.ts';
import { WireguardTunnel } from '../wireguard/tunnel.ts';
import { type Backend, commonFamilies, type NodeContext, type NodeFamily, type PeerEntries, type Tunnel } from './backend.ts';

/** Outer IPv6 and UDP headers, WireGuard's own, and its padding, bytes: flannel's number for both families. */
export const WIREGUARD_OVERHEAD = 80;
export const WIREGUARD_DEVICE = 'flannel-wg';
/** Mode `separate`, for IPv6. */
export const WIREGUARD_DEVICE_V6 = 'flannel-wg-v6';

export interface WireguardBackendOptions {
  readonly conf: WireguardConf;
  readonly node: NodeContext;
  /** Where this node's private key is, or will be. */
  readonly keyFile: string;
  /** Opens it in the node's network namespace. @throws SluiceError `MODULE_MISSING` */
  readonly openControl: () => WireguardDevices;
  /** A key, a port or a peer was set. */
  readonly onChange: (what: string, cause: 'wanted' | 'repair') => void;
  readonly onError: (error: unknown) => void;
}

/** What a lease comes to. */
interface Peers {
  /** What the node is on each device, by the device's name. */
  readonly peers: ReadonlyMap<string, WireguardPeer>;
  readonly problems: readonly string[];
}

export class WireguardBackend implements Backend {
  readonly type = 'wireguard';
  readonly devices: readonly WireguardDevice[];
  readonly mtu: number;
  readonly ownEntries: readonly Entry[];
  readonly followsRoutes = false;
  readonly tunnel: Tunnel;
  readonly #conf: WireguardConf;
  readonly #node: NodeContext;
  readonly #publicKey: string;
  /** What a peer is like in everything but its key, where it is and what it has. */
  readonly #common: Pick<WireguardPeer, 'presharedKey' | 'keepalive'>;

  /** @throws SluiceError `MODULE_MISSING` where the kernel has no WireGuard; `WIREGUARD_KEY` */
  constructor(options: WireguardBackendOptions) {
    const { conf, node, keyFile, openControl, onChange, onError } = options;
    this.#conf = conf;
    this.#node = node;
    this.mtu = (conf.mtu ?? node.external.mtu) - WIREGUARD_OVERHEAD;
    this.#common = {
      presharedKey: conf.psk === undefined ? undefined : readSecretKey(conf.psk),
      keepalive: conf.persistentKeepaliveInterval,
    };
    const groups = conf.mode === 'separate' ? node.families.map((family) => [family]) : [node.families];
    this.devices = groups.map((families) => ({
      kind: 'wireguard',
      name: this.#deviceOf(families[0]?.family ?? 4),
      mtu: this.mtu,
      addresses: families.map(({ subnet }) => subnet.address),
      networks: families.map(({ network }) => network),
    }));
    this.ownEntries = node.families.map(({ family, network }) => ({
      kind: 'route',
      destination: network,
      gateway: undefined,
      device: this.#deviceOf(family),
      onlink: false,
    }));
    // Asked for first: without it a key is of no use.
    const control = openControl();
    try {
      const privateKey = readOrMakePrivateKey(keyFile);
      this.#publicKey = publicKeyOf(privateKey);
      const settings = ({ name }: WireguardDevice) => ({
        privateKey,
        listenPort: name === WIREGUARD_DEVICE ? conf.listenPort : conf.listenPortV6,
      });
      this.tunnel = new WireguardTunnel({
        devices: new Map(this.devices.map((device) => [device.name, settings(device)])),
        control,
        peersOf: (lease) => this.#peersOf(lease).peers,
        onChange,
        onError,
      });
    } catch (error) {
      control.close();
      throw error;
    }
  }

  /**
   * As flanneld has it: both families tell a port of their own, also where one device has both. Nobody listens on the second then, and
   * peers do not go by it.
   */
  data(family: Family): string {
    const { listenPort, listenPortV6 } = this.#conf;
    if (!this.#node.families.some((each) => each.family === family)) return 'null';
    return formatWireguardData({ publicKey: this.#publicKey, port: family === 4 ? listenPort : listenPortV6 });
  }

  /** A peer needs nothing in the kernel's tables. */
  entriesFor(lease: Lease): PeerEntries {
    return { entries: [], problems: this.#peersOf(lease).problems };
  }

  #deviceOf(family: Family): string {
    return family === 6 && this.#conf.mode === 'separate' ? WIREGUARD_DEVICE_V6 : WIREGUARD_DEVICE;
  }

  #peersOf(lease: Lease): Peers {
    const peers = new Map<string, WireguardPeer>();
    const problems: string[] = [];
    const common = [...commonFamilies(this.#node.families, lease)];
    for (const group of this.#conf.mode === 'separate' ? common.map((each) => [each]) : [common]) {
      const [first] = group;
      if (first === undefined) continue;
      const peer = this.#peer(group);
      if (typeof peer !== 'string') peers.set(this.#deviceOf(first[0].family), peer);
      else problems.push(`${peer}: ${group.map(([, { subnet }]) => formatPrefix(subnet)).join(' and ')} cannot be reached`);
    }
    return { peers, problems };
  }

  /** What a node is on one device; a text says why it is nothing. */
  #peer(group: readonly (readonly [NodeFamily, FamilyLease])[]): WireguardPeer | string {
    const via = this.#chooseUnderlay(group);
    if (via === undefined)
      return `it has no address of IPv${this.#conf.mode === 'ipv6' ? 6 : 4}, by which peers are reached (Mode ${this.#conf.mode})`;
    let publicKey = '';
    for (const [, of] of group) {
      const data = wireguardData(of.data);
      if (data === undefined) return `its backend data has no key of WireGuard (${JSON.stringify(of.data)})`;
      // The same in both families. Where it is not, flanneld takes that of IPv6.
      publicKey = data.publicKey;
    }
    if (publicKey === this.#publicKey) return 'its key is this node’s own (has the key file been copied?)';
    const port = this.#portOf(group);
    return {
      ...this.#common,
      publicKey,
      endpoint: { address: via[1].publicAddress, port },
      allowed: group.map(([, { subnet }]) => subnet),
    };
  }

  /** Where there is one device for both families it is the port of IPv4 that it listens on, whatever IPv6 says. */
  #portOf(group: readonly (readonly [NodeFamily, FamilyLease])[]): number {
    const { mode, listenPort, listenPortV6 } = this.#conf;
    const [[, of] = []] = mode === 'separate' ? group : group.filter(([{ family }]) => family === 4);
    const own = mode === 'separate' && group[0]?.[0].family === 6 ? listenPortV6 : listenPort;
    return wireguardData(of?.data)?.port ?? own;
  }

  /** The family by which a node is reached: selectMode of flannel, but that one that is the only one is always taken. */
  #chooseUnderlay(group: readonly (readonly [NodeFamily, FamilyLease])[]): readonly [NodeFamily, FamilyLease] | undefined {
    const { mode } = this.#conf;
    if (mode === 'separate') return group[0];
    const [v4, v6] = ([4, 6] as const).map((wanted) => group.find(([{ family }]) => family === wanted));
    if (mode === 'ipv4') return v4;
    if (mode === 'ipv6') return v6;
    if (v4 === undefined || v6 === undefined) return v4 ?? v6;
    // Who has a public IPv4 address can be reached by it; with public IPv6 addresses on both ends nobody translates in between.
    if (!isPrivate(v4[1].publicAddress)) return v4;
    return isPrivate(v6[1].publicAddress) || isPrivate(v6[0].public) ? v4 : v6;
  }
}

/** RFC 1918 section 3, RFC 4193 section 3.1. */
const PRIVATE: readonly Prefix[] = [
  { address: ipv4(0x0a00_0000), length: 8 },
  { address: ipv4(0xac10_0000), length: 12 },
  { address: ipv4(0xc0a8_0000), length: 16 },
  { address: ipv6(0xfcn << 120n), length: 7 },
];

function isPrivate(address: Address): boolean {
  return PRIVATE.some((prefix) => contains(prefix, address));
}
