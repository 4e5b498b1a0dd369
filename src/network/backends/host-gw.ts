/** host-gw: a peer's subnet is routed to the peer itself, which therefore has to be on the same segment. There is no device. */
import { type Address, formatAddress, formatPrefix } from '../../policy/address.ts';
import { SluiceError } from '../../errors.ts';
import type { Entry } from '../entries.ts';
import type { Lease } from '../lease.ts';
import { type Backend, commonFamilies, isDirect, type NodeContext, type PeerEntries, type RouteTo } from './backend.ts';

export class HostGatewayBackend implements Backend {
  readonly type = 'host-gw';
  readonly devices = [];
  readonly mtu: number;
  readonly ownEntries: readonly Entry[] = [];
  readonly followsRoutes = true;
  readonly #node: NodeContext;

  /** @throws SluiceError `PUBLIC_ADDRESS_FOREIGN` where peers would be told an address that is not this node's own */
  constructor(node: NodeContext) {
    for (const { own, public: published } of node.families) {
      if (own !== published) {
        throw new SluiceError(
          'PUBLIC_ADDRESS_FOREIGN',
          `the public address ${formatAddress(published)} is not that of interface ${node.external.name} (${formatAddress(own)})`,
          { hint: 'host-gw routes packets to the address itself: leave --public-ip out, or use vxlan where there is address translation.' },
        );
      }
    }
    this.#node = node;
    this.mtu = node.external.mtu;
  }

  data(): string {
    return 'null';
  }

  entriesFor(lease: Lease, routeTo: RouteTo): PeerEntries {
    const { external, families } = this.#node;
    const entries: Entry[] = [];
    const problems: string[] = [];
    for (const [, { subnet, publicAddress }] of commonFamilies(families, lease)) {
      const problem = notDirect(publicAddress, routeTo, external.index, external.name);
      if (problem === undefined)
        entries.push({ kind: 'route', destination: subnet, gateway: publicAddress, device: external.name, onlink: false });
      else problems.push(`${formatPrefix(subnet)} cannot be reached: ${problem}`);
    }
    return { entries, problems };
  }
}

/** Why a peer's address is not on the segment of this interface; undefined: it is. */
function notDirect(address: Address, routeTo: RouteTo, index: number, name: string): string | undefined {
  const route = routeTo(address);
  if (isDirect(route) && route.link === index) return undefined;
  const text = formatAddress(address);
  if (route === undefined) return `there is no route to its address ${text}`;
  if (route.type === 'local') return `its address ${text} is this node's own`;
  if (route.gateway !== undefined)
    return `its address ${text} is behind the router ${formatAddress(route.gateway)}, and host-gw needs one segment (vxlan does not)`;
  return `its address ${text} is not on the segment of ${name}`;
}
