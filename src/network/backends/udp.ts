/**
 * udp: packets leave through a TUN device, and go to the peer in UDP datagrams, all through this process. For kernels without
 * VXLAN, and for looking on: it is the slowest by far.
 */
import { formatPrefix, type IPv4, networkAddress } from '../../policy/address.ts';
import type { TunDevice } from '../devices.ts';
import type { Entry } from '../entries.ts';
import type { Lease } from '../lease.ts';
import type { Backend, NodeContext, PeerEntries, Tunnel } from './backend.ts';
import { UdpTunnel } from '../udp/udp-tunnel.ts';

/** Outer IPv4 and UDP headers, bytes. */
const OVERHEAD = 28;
export const UDP_DEVICE = 'flannel0';

export class UdpBackend implements Backend {
  /** flanneld leaves it empty. */
  readonly type = '';
  readonly devices: readonly TunDevice[];
  readonly mtu: number;
  readonly ownEntries: readonly Entry[];
  readonly followsRoutes = false;
  readonly tunnel: Tunnel;

  /**
   * @param onError what goes wrong while packets are carried
   * @param inNode calls it with this thread in the node's network namespace
   */
  constructor(node: NodeContext, port: number, onError: (error: unknown) => void, inNode: <T>(action: () => T) => T) {
    const { external, families } = node;
    this.mtu = external.mtu - OVERHEAD;
    const of4 = families.filter(({ family }) => family === 4);
    this.devices = of4.map(({ subnet, network }) => ({
      kind: 'tun',
      name: UDP_DEVICE,
      mtu: this.mtu,
      addresses: [subnet.address],
      networks: [network],
    }));
    // The whole network goes through the tunnel: who is where is known in here alone.
    this.ownEntries = of4.map(({ subnet, network }) => ({
      kind: 'route',
      destination: { address: networkAddress(subnet.address, network.length), length: network.length },
      gateway: undefined,
      device: UDP_DEVICE,
      onlink: false,
    }));
    const [own] = of4;
    this.tunnel = new UdpTunnel({
      device: UDP_DEVICE,
      // Without IPv4 there is nothing to carry; settings are checked before.
      address: (own?.own ?? 0) as IPv4,
      tunAddress: (own?.subnet.address ?? 0) as IPv4,
      port,
      mtu: this.mtu,
      onError,
      inNode,
    });
  }

  data(): string {
    return 'null';
  }

  entriesFor(lease: Lease): PeerEntries {
    const problems = lease.v6 === undefined ? [] : [`udp carries IPv4 alone: ${formatPrefix(lease.v6.subnet)} cannot be reached`];
    return { entries: [], problems };
  }
}
