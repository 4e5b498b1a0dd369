/** From a logged packet or a tracked flow to a record that names pods and policies, as they are at that moment. Pure. */
import { type Flow, type LoggedPacket, type PacketHeader, readPacket } from 'nftables-js';
import { readLogPrefix } from '../../enforcement/nftables/render.ts';
import { type Address, addressFromBytes, formatAddress } from '../../policy/address.ts';
import { type DirectionVerdict, evaluate, type Question } from '../../policy/evaluate.ts';
import type { Direction, Policy, Protocol } from '../../policy/objects.ts';
import type { World } from '../../policy/world.ts';
import { type AllowedFlow, API_VERSION, type Denied, type FlowEnd, type FlowRecord, type FlowVerdict } from '../observed-flow.ts';

/** A record with what it was made of. */
export interface ObservedFlow<R extends FlowRecord = FlowRecord> {
  readonly record: R;
  readonly question: Question;
  /** ms since the epoch. */
  readonly at: number;
  /** Of what was refused: the pod (`namespace/name`) whose side did, and the direction: what counters are kept by. */
  readonly refusedBy: RefusedBy | undefined;
  /** Which ends are pods of this node. */
  readonly local: { readonly source: boolean; readonly destination: boolean };
}

export interface RefusedBy {
  readonly direction: Direction;
  readonly pod: string;
}

/** Whose view it is. */
export interface Viewpoint {
  readonly world: World;
  readonly node: string;
}

/** linux/in.h */
const PROTOCOLS: Readonly<Record<number, Protocol>> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMP', 132: 'SCTP' };

/**
 * @param now ms since the epoch, for packets that do not say when they came
 * @returns undefined: not a packet of ours (another program logs to the same group), or one that is cut off or broken
 */
export function describeDenied({ world, node }: Viewpoint, packet: LoggedPacket, now: number): ObservedFlow<Denied> | undefined {
  const { chain, audited } = readLogPrefix(packet.prefix);
  const direction = directionOf(chain);
  const header = headerOf(packet.payload);
  if (direction === undefined || header === undefined) return undefined;
  const source = addressFromBytes(header.source);
  const destination = addressFromBytes(header.destination);
  const protocol = protocolOf(header.protocol, header.destinationPort);
  const question: Question = { source, destination, protocol, port: header.destinationPort };
  const verdict = evaluate(world, question)[direction];
  const subject = world.podAt(direction === 'ingress' ? destination : source);
  const at = packet.timestampUs === undefined ? now : Math.floor(packet.timestampUs / 1000);
  const record: Denied = {
    kind: 'Denied',
    apiVersion: API_VERSION,
    time: new Date(at).toISOString(),
    node,
    direction,
    source: endOf(world, source, header.sourcePort),
    destination: endOf(world, destination, header.destinationPort),
    protocol,
    protocolNumber: header.protocol,
    ...(header.icmpType === undefined || header.icmpCode === undefined ? {} : { icmp: { type: header.icmpType, code: header.icmpCode } }),
    audited,
    policies: (verdict.reason === 'refused' ? verdict.policies : subject === undefined ? [] : world.isolating(subject, direction)).map(
      nameOf,
    ),
    reason: verdict.reason === 'refused' ? 'refused' : 'changed',
  };
  // Of a pod that is gone by now the chain still tells the name; a long one is cut off.
  const pod = subject === undefined ? chain.slice(direction.length + 1) : nameOf(subject);
  return {
    record,
    question,
    at,
    refusedBy: { direction, pod },
    local: { source: direction === 'egress', destination: direction === 'ingress' },
  };
}

/** Undefined: no pod of this node is an end of it. */
export function describeAllowed(
  { world, node }: Viewpoint,
  { original, reply }: Pick<Flow, 'original' | 'reply'>,
  at: number,
): ObservedFlow<AllowedFlow> | undefined {
  const source = addressFromBytes(original.source);
  // Who really answers: behind a Service's address, the pod.
  const destination = addressFromBytes(reply.source);
  const local = { source: world.podAt(source)?.node === node, destination: world.podAt(destination)?.node === node };
  if (!local.source && !local.destination) return undefined;
  const protocol = protocolOf(original.protocol, reply.sourcePort);
  const question: Question = { source, destination, protocol, port: reply.sourcePort };
  const { egress, ingress } = evaluate(world, question);
  const record: AllowedFlow = {
    kind: 'Allowed',
    apiVersion: API_VERSION,
    time: new Date(at).toISOString(),
    node,
    source: endOf(world, source, original.sourcePort),
    destination: endOf(world, destination, reply.sourcePort),
    protocol,
    protocolNumber: original.protocol,
    ...(original.icmp === undefined ? {} : { icmp: { type: original.icmp.type, code: original.icmp.code } }),
    egress: verdictOf(egress, 'egress'),
    ingress: verdictOf(ingress, 'ingress'),
  };
  return { record, question, at, refusedBy: undefined, local };
}

function headerOf(payload: Uint8Array): PacketHeader | undefined {
  try {
    return readPacket(payload);
  } catch {
    // Whoever may log to the group may log anything; it is not this agent's packet then.
    return undefined;
  }
}

/** Undefined: the prefix is of no chain of a pod (see podChainName). */
function directionOf(chain: string): Direction | undefined {
  if (chain.startsWith('ingress/')) return 'ingress';
  return chain.startsWith('egress/') ? 'egress' : undefined;
}

/** A packet without its ports is judged as what has none. */
function protocolOf(number: number, port: number | undefined): Protocol {
  const protocol = PROTOCOLS[number] ?? 'other';
  return protocol !== 'ICMP' && port === undefined ? 'other' : protocol;
}

function endOf(world: World, address: Address, port: number | undefined): FlowEnd {
  const pod = world.podAt(address);
  const node = pod === undefined ? world.nodeAt(address) : undefined;
  return {
    address: formatAddress(address),
    ...(pod === undefined ? {} : { namespace: pod.namespace, pod: pod.name }),
    ...(node === undefined ? {} : { node: node.name }),
    ...(port === undefined ? {} : { port }),
  };
}

function verdictOf(verdict: DirectionVerdict, direction: Direction): FlowVerdict {
  const { allowed, reason } = verdict;
  if (verdict.reason === 'refused') return { allowed, reason, policies: verdict.policies.map(nameOf) };
  if (verdict.reason !== 'admitted') return { allowed, reason, policies: [] };
  const { policy, rule, peer } = verdict;
  const list = direction === 'ingress' ? 'from' : 'to';
  return { allowed, reason, policies: [nameOf(policy)], place: `${direction}[${rule}]${peer === undefined ? '' : `.${list}[${peer}]`}` };
}

function nameOf({ namespace, name }: Pick<Policy, 'namespace' | 'name'>): string {
  return `${namespace}/${name}`;
}
