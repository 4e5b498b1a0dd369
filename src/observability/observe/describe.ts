/** From a logged packet or a tracked flow to a record that names pods and policies, as they are at that moment. Pure. */
import { type Flow, type LoggedPacket, type PacketHeader, readPacket } from 'nftables-js';
import { logPrefix, LONGEST_LOG_PREFIX, readLogPrefix } from '../../enforcement/nftables/render.ts';
import { type Address, addressFromBytes, formatAddress } from '../../policy/address.ts';
import { type DirectionVerdict, evaluate, evaluateOne, type Question } from '../../policy/evaluate.ts';
import type { Direction, Pod, Policy, Protocol } from '../../policy/objects.ts';
import type { World } from '../../policy/world.ts';
import { podChainName } from '../../ruleset/names.ts';
import {
  type AllowedFlow,
  API_VERSION,
  type Denied,
  type FlowEnd,
  type FlowRecord,
  type FlowVerdict,
  NAMED_POLICIES,
} from '../observed-flow.ts';

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
  /** Whether the world is known as a whole: before that nobody can say what policy allows. */
  readonly isSynced: boolean;
}

/** linux/in.h */
const PROTOCOLS: Readonly<Record<number, Protocol>> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMP', 132: 'SCTP' };

/**
 * @param now ms since the epoch, for packets that do not say when they came
 * @returns undefined: not a packet of ours (another program logs to the same group), or one that is cut off or broken
 */
export function describeDenied({ world, node, isSynced }: Viewpoint, packet: LoggedPacket, now: number): ObservedFlow<Denied> | undefined {
  const { chain, audited } = readLogPrefix(packet.prefix);
  const direction = directionOf(chain);
  const header = headerOf(packet.payload);
  if (direction === undefined || header === undefined) return undefined;
  const source = addressFromBytes(header.source);
  const destination = addressFromBytes(header.destination);
  const protocol = protocolOf(header.protocol, header.destinationPort);
  const question: Question = { source, destination, protocol, port: header.destinationPort };
  const owner = world.podAt(direction === 'ingress' ? destination : source);
  // By the time that a packet is read its address may be another pod's: it was refused by the one whose chain this is.
  const subject = owner !== undefined && isLogOf(packet.prefix, owner, direction, audited) ? owner : undefined;
  const self = subject ?? podOfChain(chain, packet.prefix);
  const peer = world.podAt(direction === 'ingress' ? source : destination);
  const refusal = subject === undefined || !isSynced ? UNKNOWN : refusalOf(world, question, direction, subject);
  const at = packet.timestampUs === undefined ? now : Math.floor(packet.timestampUs / 1000);
  const record: Denied = {
    kind: 'Denied',
    apiVersion: API_VERSION,
    time: new Date(at).toISOString(),
    node,
    direction,
    source: endOf(world, source, direction === 'egress' ? self : peer, header.sourcePort),
    destination: endOf(world, destination, direction === 'ingress' ? self : peer, header.destinationPort),
    protocol,
    protocolNumber: header.protocol,
    ...(header.icmpType === undefined || header.icmpCode === undefined ? {} : { icmp: { type: header.icmpType, code: header.icmpCode } }),
    audited,
    ...refusal,
  };
  const pod = self === undefined ? chain.slice(direction.length + 1) : nameOf(self);
  return {
    record,
    question,
    at,
    refusedBy: { direction, pod },
    local: { source: direction === 'egress', destination: direction === 'ingress' },
  };
}

const UNKNOWN = { policies: [], reason: 'unknown' } as const satisfies Pick<Denied, 'policies' | 'reason'>;

function refusalOf(
  world: World,
  question: Question,
  direction: Direction,
  subject: Pod,
): Pick<Denied, 'policies' | 'morePolicies' | 'reason'> {
  const verdict = evaluateOne(world, question, direction);
  if (verdict.reason === 'refused') return { ...namesOf(verdict.policies), reason: 'refused' };
  return { ...namesOf(world.isolating(subject, direction)), reason: 'changed' };
}

/** The first policies by name, and how many others there are. */
function namesOf(policies: readonly Policy[]): Pick<Denied, 'policies' | 'morePolicies'> {
  const more = policies.length - NAMED_POLICIES;
  return { policies: policies.slice(0, NAMED_POLICIES).map(nameOf), ...(more > 0 ? { morePolicies: more } : {}) };
}

/** Objects, addresses and times of a record, without what is as long as a tenant makes it. */
const FIXED_BYTES = 1_500;
/** Of a string beside its characters, and of the place that points to it. */
const STRING_BYTES = 40;

/** What a described flow holds of memory at most, about: what the log that remembers it is bounded by. */
export function bytesOf({ record, refusedBy }: ObservedFlow): number {
  let bytes = FIXED_BYTES + (refusedBy?.pod.length ?? 0);
  for (const { namespace = '', pod = '', node = '' } of [record.source, record.destination])
    bytes += namespace.length + pod.length + node.length;
  const named = record.kind === 'Denied' ? [record.policies] : [record.egress.policies, record.ingress.policies];
  for (const policies of named) for (const policy of policies) bytes += STRING_BYTES + policy.length;
  return bytes;
}

/** The namespace of the pod whose chain logged a packet: whose account it is described on. Empty: not a packet of ours. */
export function namespaceOfPrefix(prefix: string): string {
  const [, namespace = ''] = /^(?:\w+ )?(?:ingress|egress)\/([a-z0-9.-]+)/.exec(prefix) ?? [];
  return namespace;
}

/** Whether packets with this prefix are logged by the chain of this pod. */
function isLogOf(prefix: string, { namespace, name }: Pod, direction: Direction, audited: boolean): boolean {
  return prefix === logPrefix({ name: podChainName(direction, namespace, name), audited });
}

/** Of a pod that is gone by now the chain still tells the name. Undefined: a part of it. */
function podOfChain(chain: string, prefix: string): NamedPod | undefined {
  const [, namespace, name] = /^\w+\/([a-z0-9.-]+)\/([a-z0-9.-]+)$/.exec(chain) ?? [];
  return namespace === undefined || name === undefined || prefix.length >= LONGEST_LOG_PREFIX ? undefined : { namespace, name };
}

/** Undefined: no pod of this node is an end of it, or nobody can say yet. */
export function describeAllowed(
  { world, node, isSynced }: Viewpoint,
  { original, reply }: Pick<Flow, 'original' | 'reply'>,
  at: number,
): ObservedFlow<AllowedFlow> | undefined {
  const source = addressFromBytes(original.source);
  // Who really answers: behind a Service's address, the pod.
  const destination = addressFromBytes(reply.source);
  const [sourcePod, destinationPod] = [world.podAt(source), world.podAt(destination)];
  const local = { source: sourcePod?.node === node, destination: destinationPod?.node === node };
  if (!isSynced || (!local.source && !local.destination)) return undefined;
  const protocol = protocolOf(original.protocol, reply.sourcePort);
  const question: Question = { source, destination, protocol, port: reply.sourcePort };
  const { egress, ingress } = evaluate(world, question);
  const record: AllowedFlow = {
    kind: 'Allowed',
    apiVersion: API_VERSION,
    time: new Date(at).toISOString(),
    node,
    source: endOf(world, source, sourcePod, original.sourcePort),
    destination: endOf(world, destination, destinationPod, reply.sourcePort),
    protocol,
    protocolNumber: original.protocol,
    ...(original.icmp === undefined ? {} : { icmp: { type: original.icmp.type, code: original.icmp.code } }),
    egress: { ...verdictOf(egress, 'egress'), ...judgeOf(sourcePod, node) },
    ingress: { ...verdictOf(ingress, 'ingress'), ...judgeOf(destinationPod, node) },
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

type NamedPod = Pick<Pod, 'namespace' | 'name'>;

function endOf(world: World, address: Address, pod: NamedPod | undefined, port: number | undefined): FlowEnd {
  const node = pod === undefined ? world.nodeAt(address) : undefined;
  return {
    address: formatAddress(address),
    ...(pod === undefined ? {} : { namespace: pod.namespace, pod: pod.name }),
    ...(node === undefined ? {} : { node: node.name }),
    ...(port === undefined ? {} : { port }),
  };
}

/** The node that judges in a pod's stead, where that is another. */
function judgeOf(pod: Pod | undefined, node: string): Pick<FlowVerdict, 'node'> {
  return pod === undefined || pod.node === node || pod.node === '' ? {} : { node: pod.node };
}

function verdictOf(verdict: DirectionVerdict, direction: Direction): FlowVerdict {
  const { allowed, reason } = verdict;
  if (verdict.reason === 'refused') return { allowed, reason, ...namesOf(verdict.policies) };
  if (verdict.reason !== 'admitted') return { allowed, reason, policies: [] };
  const { policy, rule, peer } = verdict;
  const list = direction === 'ingress' ? 'from' : 'to';
  return { allowed, reason, policies: [nameOf(policy)], place: `${direction}[${rule}]${peer === undefined ? '' : `.${list}[${peer}]`}` };
}

function nameOf({ namespace, name }: Pick<Policy, 'namespace' | 'name'>): string {
  return `${namespace}/${name}`;
}
