/**
 * What covers what in every possible cluster: selectors that imply one another, peers within peers, ports within ports, rules within
 * rules. A yes is certain; a no only means that it could not be shown this way.
 */
import type { Range } from '../address.ts';
import type { Peer, Policy, PolicyProtocol, PortMatch, Rule } from '../objects.ts';
import { numericRanges, PORT_MAX } from '../ports.ts';
import { subtract, union } from '../ranges.ts';
import { type Requirement, type Selector, selectorOf } from '../selector.ts';
import { NAMESPACE_NAME_LABEL } from '../world.ts';

/** Whether nothing whatever can match it. Canonical selectors say so by asking that one key is there, and is not. */
export function isContradiction({ requirements: [first, second] }: Selector): boolean {
  return first !== undefined && first.key === second?.key && first.operator === 'Exists' && second.operator === 'DoesNotExist';
}

/** Whether everything that `narrow` matches is matched by `wide`. */
export function implies(narrow: Selector, wide: Selector): boolean {
  if (narrow === wide || isContradiction(narrow)) return true;
  return wide.requirements.every((wanted) => {
    const known = narrow.requirements.filter(({ key }) => key === wanted.key);
    return known.some((requirement) => requirementImplies(requirement, wanted));
  });
}

/** Of one key. */
function requirementImplies(known: Requirement, wanted: Requirement): boolean {
  switch (wanted.operator) {
    case 'In':
      return known.operator === 'In' && known.values.every((value) => wanted.values.includes(value));
    case 'NotIn':
      if (known.operator === 'In') return !known.values.some((value) => wanted.values.includes(value));
      // Row 8: what lacks the key meets NotIn.
      if (known.operator === 'DoesNotExist') return true;
      return known.operator === 'NotIn' && wanted.values.every((value) => known.values.includes(value));
    case 'Exists':
      return known.operator === 'In' || known.operator === 'Exists';
    case 'DoesNotExist':
      return known.operator === 'DoesNotExist';
  }
}

/** The namespaces of a peer as a selector; its own namespace (row 5) is the one of that name, which every namespace has as a label. */
export function namespacesOf(peer: Extract<Peer, { kind: 'pods' }>, namespace: string): Selector {
  return peer.namespaces ?? selectorOf([{ key: NAMESPACE_NAME_LABEL, operator: 'In', values: [namespace] }]);
}

/** Whether a peer can match anything, in whatever cluster. */
export function isEmptyPeer(peer: Peer): boolean {
  switch (peer.kind) {
    case 'nothing':
      return true;
    case 'block':
      return peer.ranges.length === 0;
    case 'pods':
      return isContradiction(peer.pods) || (peer.namespaces !== undefined && isContradiction(peer.namespaces));
  }
}

/** Whether a rule can admit anything, in whatever cluster. */
export function isEmptyRule({ peers, ports }: Rule): boolean {
  return ports?.length === 0 || (peers?.every(isEmptyPeer) ?? false);
}

/** Whether `narrow` matches nothing that `wide` does not; both are peers of policies of this namespace. */
export function peerCovers(wide: Peer, narrow: Peer, namespace: string): boolean {
  if (isEmptyPeer(narrow)) return true;
  if (wide.kind === 'pods' && narrow.kind === 'pods') {
    return implies(namespacesOf(narrow, namespace), namespacesOf(wide, namespace)) && implies(narrow.pods, wide.pods);
  }
  return wide.kind === 'block' && narrow.kind === 'block' && rangesCover(wide.ranges, narrow.ranges);
}

/** Whether every address of `narrow` is in `wide`, a normal list (see ranges.ts). */
export function rangesCover(wide: readonly Range[], narrow: readonly Range[]): boolean {
  return narrow.every((range) => subtract(range, wide).length === 0);
}

/** All addresses that the blocks among these peers match. */
export function addressesOf(peers: readonly Peer[]): Range[] {
  return union(peers.flatMap((peer) => (peer.kind === 'block' ? peer.ranges : [])));
}

export function peersCover(wide: Rule['peers'], narrow: Rule['peers'], namespace: string): boolean {
  if (wide === undefined) return true;
  if (narrow === undefined) return false;
  let addresses: Range[] | undefined;
  return narrow.every((peer) => {
    if (wide.some((other) => peerCovers(other, peer, namespace))) return true;
    if (peer.kind !== 'block') return false;
    addresses ??= addressesOf(wide);
    return rangesCover(addresses, peer.ranges);
  });
}

export function portsCover(wide: Rule['ports'], narrow: Rule['ports']): boolean {
  if (wide === undefined) return true;
  // Row 32: a rule without ports admits ICMP as well, which no entry of `ports` does.
  if (narrow === undefined) return false;
  return narrow.every((port) => portCovered(port, wide));
}

/** Whether `port` is within what the others admit together. */
export function portCovered(port: PortMatch, others: readonly PortMatch[]): boolean {
  if (port.kind === 'name') {
    const named = others.some((other) => other.kind === 'name' && other.name === port.name && other.protocol === port.protocol);
    return named || hasEveryPort(others, port.protocol);
  }
  return numericRanges(others, port.protocol).some(({ first, last }) => first <= port.first && port.last <= last);
}

/** Pods declare ports from 1 on. */
export function hasEveryPort(ports: readonly PortMatch[], protocol: PolicyProtocol): boolean {
  return numericRanges(ports, protocol).some(({ first, last }) => first <= 1 && last === PORT_MAX);
}

/** Whether `wide` admits, to whomever, all that `narrow` does; both are rules of one direction and of policies of this namespace. */
export function ruleCovers(wide: Rule, narrow: Rule, namespace: string): boolean {
  return portsCover(wide.ports, narrow.ports) && peersCover(wide.peers, narrow.peers, namespace);
}

/** Whether a rule admits everybody, whatever the protocol. */
export function isOpenRule({ peers, ports }: Rule): boolean {
  return peers === undefined && ports === undefined;
}

/** Whether `wide` selects every pod that `narrow` does. */
export function subjectCovers(wide: Policy, narrow: Policy): boolean {
  return wide.namespace === narrow.namespace && implies(narrow.subject, wide.subject);
}
