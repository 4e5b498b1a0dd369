/**
 * Peers (NetworkPolicyPeer): reading them as untrusted data, and matching them. A peer that cannot be read, or that says more
 * than one thing at once, becomes a peer that matches nothing (rows 4, 11): it is kept, so that it is seen that the rule is
 * restricted.
 */
import { type Address, familyOf, formatPrefix, isIPv4Mapped, type PrefixReading, prefixRange, type Range, readPrefix } from './address.ts';
import type { Peer, Pod, Policy } from './objects.ts';
import { isAbsent, isFields, problem, type Problems, quote, typeName, unknownFields } from './problems.ts';
import { contains, intersects, subtract } from './ranges.ts';
import { matches, readSelector, type Selector } from './selector.ts';
import type { World } from './world.ts';

/** Whether an address is among a peer's, as a policy means it. */
export function peerMatches(world: World, policy: Pick<Policy, 'namespace'>, peer: Peer, address: Address): boolean {
  return peerMatchesAs(world, policy, peer, address, peer.kind === 'pods' ? world.podAt(address) : undefined);
}

/** {@link peerMatches} for callers that know already whose address it is. */
export function peerMatchesAs(
  world: World,
  policy: Pick<Policy, 'namespace'>,
  peer: Peer,
  address: Address,
  pod: Pod | undefined,
): boolean {
  if (peer.kind === 'nothing') return false;
  // Row 21: pod addresses as well. Row 36: the ranges are of one family, and so match only that.
  if (peer.kind === 'block') return contains(peer.ranges, address);
  // Rows 6, 29, 31: an address that is no pod's (external, or a node's) is matched by no selector, {} included.
  return pod !== undefined && peerSelects(world, policy, peer, pod);
}

/** Whether a pod is among those that a peer selects. Whether it may be a peer at all (rows 29, 33) is for `World.podAt` to say. */
export function peerSelects(world: World, policy: Pick<Policy, 'namespace'>, peer: Extract<Peer, { kind: 'pods' }>, pod: Pod): boolean {
  // Row 5: without a namespaceSelector the policy's own namespace. Rows 7, 9: with one, both selectors have to hold, and pods of
  // the selected namespaces are looked at.
  const isInNamespace =
    peer.namespaces === undefined ? pod.namespace === policy.namespace : matches(peer.namespaces, world.namespaceLabels(pod.namespace));
  return isInNamespace && matches(peer.pods, pod.labels);
}

/** `from` or `to`. Undefined: every peer (row 3). */
export function readPeers(value: unknown, path: string, problems: Problems): Peer[] | undefined {
  if (isAbsent(value)) return undefined;
  if (!Array.isArray(value)) {
    problems.push(problem(path, 'TYPE_INVALID', `it is a list of peers, not ${typeName(value)}; the rule admits nothing`));
    return [];
  }
  if (value.length === 0) return undefined;
  return value.map((peer: unknown, index) => readPeer(peer, index, `${path}[${index}]`, problems));
}

const NOTHING = 'the peer matches nothing';

function readPeer(value: unknown, index: number, path: string, problems: Problems): Peer {
  const nothing: Peer = { kind: 'nothing', index };
  if (!isFields(value)) {
    problems.push(problem(path, 'TYPE_INVALID', `a peer is an object, not ${typeName(value)}; ${NOTHING}`));
    return nothing;
  }
  const unknown = unknownFields(value, path, ['podSelector', 'namespaceSelector', 'ipBlock'], NOTHING);
  problems.pushAll(unknown);
  const { podSelector, namespaceSelector, ipBlock } = value;
  const hasSelector = !isAbsent(podSelector) || !isAbsent(namespaceSelector);
  if (!hasSelector && isAbsent(ipBlock)) {
    // Row 4. Where a field is unknown, that was said already.
    if (unknown.length === 0) {
      problems.push(
        problem(path, 'PEER_EMPTY', `the peer names nobody; ${NOTHING}. For every pod of every namespace, write namespaceSelector: {}`),
      );
    }
    return nothing;
  }
  if (hasSelector && !isAbsent(ipBlock)) {
    problems.push(
      problem(path, 'PEER_MIXED', `a peer has an ipBlock or selectors, not both; ${NOTHING}. Write two peers, if either will do`),
    );
    return nothing;
  }
  const peer = hasSelector
    ? readPods(podSelector, namespaceSelector, index, path, problems)
    : readBlock(ipBlock, index, `${path}.ipBlock`, problems);
  return unknown.length > 0 || peer === undefined ? nothing : peer;
}

function readPods(podSelector: unknown, namespaceSelector: unknown, index: number, path: string, problems: Problems): Peer | undefined {
  const read = (value: unknown, at: string): Selector | undefined => {
    const reading = readSelector(value, at);
    if (reading.selector !== undefined) return reading.selector;
    problems.pushAll(reading.problems.map((found) => ({ ...found, message: `${found.message}; ${NOTHING}` })));
    return undefined;
  };
  // Row 6: without a podSelector, all pods of the namespaces.
  const pods = read(podSelector ?? {}, `${path}.podSelector`);
  const namespaces = isAbsent(namespaceSelector) ? undefined : read(namespaceSelector, `${path}.namespaceSelector`);
  if (pods === undefined || (namespaces === undefined && !isAbsent(namespaceSelector))) return undefined;
  return { kind: 'pods', index, namespaces, pods };
}

function readBlock(value: unknown, index: number, path: string, problems: Problems): Peer | undefined {
  if (!isFields(value)) {
    problems.push(problem(path, 'TYPE_INVALID', `an ipBlock has cidr and except; this is ${typeName(value)}; ${NOTHING}`));
    return undefined;
  }
  const unknown = unknownFields(value, path, ['cidr', 'except'], NOTHING);
  problems.pushAll(unknown);
  const cidr = readCIDR(value['cidr'], `${path}.cidr`, 'CIDR_INVALID', problems);
  const block = cidr && prefixRange(cidr.prefix);
  const holes = readExcept(value['except'], block, `${path}.except`, problems);
  if (cidr === undefined || block === undefined || holes === undefined || unknown.length > 0) return undefined;
  // Row 19: the holes are this peer's own.
  const ranges = subtract(
    block,
    holes.map((hole) => prefixRange(hole.prefix)),
  );
  const except = holes.length === 0 ? '' : ` except ${holes.map((hole) => formatPrefix(hole.prefix)).join(', ')}`;
  const text = `${formatPrefix(cidr.prefix)}${except}`;
  return { kind: 'block', index, family: familyOf(block.first), cidr: cidr.prefix, ranges, text };
}

/** Undefined where one cannot be read: without it the peer would match more than its author meant. */
function readExcept(value: unknown, block: Range | undefined, path: string, problems: Problems): PrefixReading[] | undefined {
  if (isAbsent(value)) return [];
  if (!Array.isArray(value)) {
    problems.push(problem(path, 'EXCEPT_INVALID', `except is a list of CIDRs, not ${typeName(value)}; ${NOTHING}`));
    return undefined;
  }
  const holes: PrefixReading[] = [];
  for (const [index, entry] of value.entries()) {
    const at = `${path}[${index}]`;
    const hole = readCIDR(entry, at, 'EXCEPT_INVALID', problems);
    if (hole === undefined) continue;
    holes.push(hole);
    if (block === undefined) continue;
    const range = prefixRange(hole.prefix);
    if (!intersects([block], range)) {
      problems.push(
        problem(at, 'EXCEPT_OUTSIDE_BLOCK', `${formatPrefix(hole.prefix)} is outside of the cidr, and takes nothing out of it`),
      );
    } else if (subtract(block, [range]).length === 0) {
      // Row 20.
      problems.push(problem(at, 'EXCEPT_COVERS_BLOCK', `${formatPrefix(hole.prefix)} covers the whole cidr, and nothing is left of it`));
    }
  }
  return holes.length === value.length ? holes : undefined;
}

/** Row 20: what stored objects can hold is read as Kubernetes reads it, and reported. */
function readCIDR(value: unknown, path: string, code: 'CIDR_INVALID' | 'EXCEPT_INVALID', problems: Problems): PrefixReading | undefined {
  const reading = typeof value === 'string' ? readPrefix(value) : undefined;
  if (reading === undefined) {
    problems.push(problem(path, code, `${quote(value)} is no CIDR; ${NOTHING}. Right are 10.0.0.0/8 and fd00::/8`));
    return undefined;
  }
  const text = formatPrefix(reading.prefix);
  if (isIPv4Mapped(reading.prefix)) {
    problems.push(
      problem(path, 'CIDR_IPV4_MAPPED', `${text} is IPv4 written as IPv6, which no packet carries; ${NOTHING}. Write it as IPv4`),
    );
    return undefined;
  }
  if (reading.leadingZeros) {
    problems.push(problem(path, 'CIDR_LEADING_ZEROS', `${quote(value)} has leading zeros, and is read as ${text}: write that`));
  }
  if (reading.hostBits) {
    problems.push(problem(path, 'CIDR_HOST_BITS', `${quote(value)} has bits set beyond its length, and is read as ${text}: write that`));
  }
  return reading;
}
