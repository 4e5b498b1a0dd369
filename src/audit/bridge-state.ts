/**
 * Whether packets between pods of one node come within reach of policy: they meet on a bridge, and pass through the inet hooks only
 * with br_netfilter and both flags of the bridge (see src/enforcement/bridge-filter.ts, which keeps them so). Only read here.
 */
import { NETLINK_ROUTE, NetlinkSocket } from 'nftables-js';
import { bridgeFilteringAvailable, listLinks } from '../rtnetlink/links.ts';

export interface BridgeState {
  readonly name: string;
  /** Null: br_netfilter is not loaded, and nothing on the bridge is filtered. */
  readonly filtering: { readonly iptables: boolean; readonly ip6tables: boolean } | null;
}

/** Those of this network namespace that have one of these names; without names all of them. Needs no privilege. */
export function readBridges(names?: readonly string[]): readonly BridgeState[] {
  const socket = NetlinkSocket.open(NETLINK_ROUTE);
  try {
    const available = bridgeFilteringAvailable();
    return listLinks(socket).flatMap(({ name, kind, bridge }) =>
      kind === 'bridge' && names?.includes(name) !== false ? [{ name, filtering: bridge === undefined || !available ? null : bridge }] : [],
    );
  } finally {
    socket.close();
  }
}
