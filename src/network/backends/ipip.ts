/**
 * ipip: IPv4 in IPv4, without ports or keys. One device for all peers; the route of a peer's subnet names the peer's address as its
 * gateway, which the device takes as the outer destination.
 */
import { formatPrefix } from '../../policy/address.ts';
import type { IpipDevice } from '../devices.ts';
import type { Entry } from '../entries.ts';
import type { Lease } from '../lease.ts';
import { type Backend, commonFamilies, isDirect, type NodeContext, type PeerEntries, type RouteTo } from './backend.ts';

/** The outer IPv4 header, bytes. */
const OVERHEAD = 20;
export const IPIP_DEVICE = 'flannel.ipip';

export interface IpipBackendOptions {
  readonly directRouting: boolean;
  readonly node: NodeContext;
  readonly linkName: (index: number) => string | undefined;
}

export class IpipBackend implements Backend {
  readonly type = 'ipip';
  readonly devices: readonly IpipDevice[];
  readonly mtu: number;
  readonly ownEntries: readonly Entry[] = [];
  readonly followsRoutes: boolean;
  readonly #options: IpipBackendOptions;

  constructor(options: IpipBackendOptions) {
    this.#options = options;
    this.followsRoutes = options.directRouting;
    const { external, families } = options.node;
    this.mtu = external.mtu - OVERHEAD;
    this.devices = families
      .filter(({ family }) => family === 4)
      .map(({ subnet, network, source }) => ({
        kind: 'ipip',
        name: IPIP_DEVICE,
        mtu: this.mtu,
        addresses: [subnet.address],
        networks: [network],
        local: source,
      }));
  }

  data(): string {
    return 'null';
  }

  entriesFor(lease: Lease, routeTo: RouteTo): PeerEntries {
    const { directRouting, node, linkName } = this.#options;
    const entries: Entry[] = [];
    const problems: string[] = [];
    for (const [{ family }, { subnet, publicAddress }] of commonFamilies(node.families, lease)) {
      if (family !== 4) {
        problems.push(`ipip carries IPv4 alone: ${formatPrefix(subnet)} cannot be reached`);
        continue;
      }
      const route = directRouting ? routeTo(publicAddress) : undefined;
      const direct = isDirect(route) ? linkName(route.link) : undefined;
      entries.push({
        kind: 'route',
        destination: subnet,
        gateway: publicAddress,
        device: direct ?? IPIP_DEVICE,
        onlink: true,
      });
    }
    return { entries, problems };
  }
}
