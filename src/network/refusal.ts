/** Which peers' leases are not followed: the same rule for the daemon, and for whoever explains what it does. */
import { formatAddress, formatPrefix, type Prefix } from '../policy/address.ts';
import type { NodeFamily } from './backends/backend.ts';
import { contains, strictlyInside } from './devices.ts';
import type { Lease } from './lease.ts';

export interface LeaseRefusal {
  readonly code: 'PEER_BACKEND_DIFFERS' | 'PEER_ADDRESS_IS_OWN' | 'PEER_SUBNET_IS_OWN' | 'PEER_OUTSIDE_NETWORK';
  /** About the peer: `its subnet …`. */
  readonly message: string;
}

/**
 * Why a peer's lease is not followed; undefined: it is.
 * @param backendType this node's, as it stands in its annotation
 * @param families this node's
 */
export function refusalOf(lease: Lease, backendType: string, families: readonly NodeFamily[]): LeaseRefusal | undefined {
  if (lease.backendType !== backendType) {
    const message = `its backend is ${lease.backendType || 'none'}, and this node's is ${backendType || 'none'}: they cannot reach each other`;
    return { code: 'PEER_BACKEND_DIFFERS', message };
  }
  for (const { family, subnet, network, public: own } of families) {
    const of = family === 4 ? lease.v4 : lease.v6;
    if (of === undefined) continue;
    if (of.publicAddress === own) {
      return { code: 'PEER_ADDRESS_IS_OWN', message: `its public address ${formatAddress(own)} is this node's own` };
    }
    if (overlap(of.subnet, subnet)) {
      const message = `its subnet ${formatPrefix(of.subnet)} is (part of) this node's own, ${formatPrefix(subnet)}`;
      return { code: 'PEER_SUBNET_IS_OWN', message };
    }
    if (!strictlyInside(network, of.subnet)) {
      const message = `its subnet ${formatPrefix(of.subnet)} is not in the network ${formatPrefix(network)}`;
      return { code: 'PEER_OUTSIDE_NETWORK', message };
    }
  }
  return undefined;
}

/** Whether two blocks have an address in common. */
export function overlap(a: Prefix, b: Prefix): boolean {
  return contains(a, b.address) || contains(b, a.address);
}
