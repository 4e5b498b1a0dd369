/**
 * vxlan: each node is a VTEP, with one device a family. For a peer there are a neighbour (its VTEP's hardware address), a forwarding
 * entry (the node behind it) and a route to its subnet through its VTEP; nothing is learnt, nothing is flooded.
 *
 * DirectRouting: a peer on the same segment gets a plain route instead, and no encapsulation.
 */
import { type Family, formatAddress, formatPrefix } from '../../policy/address.ts';
import type { VxlanDevice } from '../devices.ts';
import type { Entry } from '../entries.ts';
import { formatVxlanData, type FamilyLease, type Lease, vxlanData } from '../lease.ts';
import type { BackendConf } from '../net-conf.ts';
import { type Backend, commonFamilies, isDirect, type NodeContext, type NodeFamily, type PeerEntries, type RouteTo } from './backend.ts';

type VxlanConf = Extract<BackendConf, { type: 'vxlan' }>;

/** Outer Ethernet, IP, UDP and VXLAN headers, bytes (RFC 7348). */
const OVERHEAD: Readonly<Record<Family, number>> = { 4: 50, 6: 70 };

export interface VxlanBackendOptions {
  readonly conf: VxlanConf;
  readonly node: NodeContext;
  /** Hardware address of this node's VTEP of a family: fixed before the device is made, so that nobody else gives it one. */
  readonly mac: (family: Family) => string;
  /** The name of a link by its index, for routes that leave by it. */
  readonly linkName: (index: number) => string | undefined;
}

export function vxlanDeviceName(family: Family, vni: number): string {
  return family === 4 ? `flannel.${vni}` : `flannel-v6.${vni}`;
}

export class VxlanBackend implements Backend {
  readonly type = 'vxlan';
  readonly devices: readonly VxlanDevice[];
  readonly mtu: number;
  readonly ownEntries: readonly Entry[] = [];
  readonly followsRoutes: boolean;
  readonly #options: VxlanBackendOptions;

  constructor(options: VxlanBackendOptions) {
    this.#options = options;
    const { conf, node, mac } = options;
    this.followsRoutes = conf.directRouting;
    // The kernel would take no more than what fits, and the device would differ from what is wanted for ever.
    const outer = Math.min(conf.mtu ?? node.external.mtu, node.external.mtu);
    this.devices = node.families.map(({ family, subnet, network, source }) => ({
      kind: 'vxlan',
      name: vxlanDeviceName(family, conf.vni),
      mtu: outer - OVERHEAD[family],
      addresses: [subnet.address],
      networks: [network],
      mac: mac(family),
      vni: conf.vni,
      port: conf.port,
      local: source,
      underlay: node.external.index,
      learning: conf.learning,
      gbp: conf.gbp,
    }));
    // Pods have one MTU for both families: what fits into either. flanneld says what IPv4 has, and large IPv6 packets are lost.
    this.mtu = this.devices.reduce((least, device) => Math.min(least, device.mtu), Number.POSITIVE_INFINITY);
  }

  data(family: Family): string {
    const { conf, node, mac } = this.#options;
    return node.families.some((each) => each.family === family) ? formatVxlanData({ vni: conf.vni, mac: mac(family) }) : 'null';
  }

  entriesFor(lease: Lease, routeTo: RouteTo): PeerEntries {
    const entries: Entry[] = [];
    const problems: string[] = [];
    for (const [own, peer] of commonFamilies(this.#options.node.families, lease)) {
      const added = this.#entries(own, peer, routeTo);
      if (typeof added === 'string') problems.push(added);
      else for (const each of added) entries.push(each);
    }
    return { entries, problems };
  }

  #entries(own: NodeFamily, peer: FamilyLease, routeTo: RouteTo): readonly Entry[] | string {
    const { conf, linkName } = this.#options;
    const { subnet, publicAddress } = peer;
    if (conf.directRouting) {
      const route = routeTo(publicAddress);
      const device = isDirect(route) ? linkName(route.link) : undefined;
      if (device !== undefined) return [{ kind: 'route', destination: subnet, gateway: publicAddress, device, onlink: false }];
    }
    const data = vxlanData(peer.data);
    if (data === undefined) return `its backend data is no VTEP (${JSON.stringify(peer.data)}): ${formatPrefix(subnet)} cannot be reached`;
    if (data.vni !== conf.vni)
      return `its VNI is ${data.vni}, and this node's is ${conf.vni}: ${formatPrefix(subnet)} at ${formatAddress(publicAddress)} cannot be reached`;
    const device = vxlanDeviceName(own.family, conf.vni);
    return [
      { kind: 'neighbour', device, address: subnet.address, mac: data.mac },
      { kind: 'forwarding', device, mac: data.mac, destination: publicAddress },
      { kind: 'route', destination: subnet, gateway: subnet.address, device, onlink: true },
    ];
  }
}
