/** Whether a change that `sluice diff` names is about a flow between two addresses. */
import type { Change, Comparison } from '../../../src/audit/difference.ts';
import { type Address, familyOf } from '../../../src/policy/address.ts';
import { isOwnNode, type Party } from '../../../src/policy/equivalence-parties.ts';
import type { Protocol } from '../../../src/policy/objects.ts';

export interface AskedFlow {
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: Protocol;
  /** Of no account with ICMP. */
  readonly port: number;
}

export function isAbout(comparison: Comparison, change: Change, { source, destination, protocol, port }: AskedFlow): boolean {
  if (!change.families.includes(familyOf(source))) return false;
  const hasPort = change.ports.some(
    (set) => set.protocol === protocol && (protocol === 'ICMP' || set.ranges.some(({ first, last }) => first <= port && port <= last)),
  );
  if (!hasPort) return false;
  const sources = change.sources.flatMap(({ parties }) => parties).filter((party) => stands(comparison, party, source));
  const destinations = change.destinations.flatMap(({ parties }) => parties).filter((party) => stands(comparison, party, destination));
  return sources.some((from) => destinations.some((to) => !isOwnNode(from, to)));
}

/** Whether a party is at this address: at its own, or at one of the class of addresses that it stands for. */
function stands({ before, after }: Comparison, party: Party, address: Address): boolean {
  if (party.kind !== 'outside') return party.addresses.includes(address);
  return party.addresses.some((own) => {
    if (familyOf(own) !== familyOf(address)) return false;
    return before.end(own).class === before.end(address).class && after.end(own).class === after.end(address).class;
  });
}
