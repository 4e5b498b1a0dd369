/**
 * May one address reach another, and why: the one implementation of NetworkPolicy's verdicts, which tests, audit commands and
 * the flow sweep ask, and which the kernel's rules have to agree with. Pure, and it never guesses: an address that nobody is
 * known to own is external.
 *
 * A question is about the first packet of a flow, after DNAT (rows 18, 22): what follows belongs to the flow (row 26).
 */
import { type Address, familyOf, formatAddress } from './address.ts';
import { PolicyError } from './errors.ts';
import type { Direction, Pod, Policy, PortMatch, Protocol, Rule } from './objects.ts';
import { peerMatchesAs } from './peers.ts';
import { PORT_MAX, portMatches } from './ports.ts';
import type { World } from './world.ts';

/** `port` is the destination's: needed for TCP, UDP and SCTP, and of no account otherwise. */
export interface Question {
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: Protocol;
  readonly port?: number | undefined;
}

export interface Verdict {
  /** Whether egress of the source and ingress of the destination both allow it (row 25). */
  readonly allowed: boolean;
  readonly egress: DirectionVerdict;
  readonly ingress: DirectionVerdict;
}

export type DirectionVerdict = Allowed | Admitted | Refused;

export interface Allowed {
  readonly allowed: true;
  /**
   * Why no policy is asked. Of the end that the direction is about: `external`: it is no pod and no node; `node`: it is a node's
   * address, and so may be a hostNetwork pod (row 29); `not-isolated`: a pod that no policy isolates. Of both ends: `same-pod`
   * (row 30); `own-node` (row 28).
   */
  readonly reason: 'external' | 'node' | 'not-isolated' | 'same-pod' | 'own-node';
}

/** By the first rule, in order of policy names, that admits it. Others may as well: policies unite (row 25). */
export interface Admitted {
  readonly allowed: true;
  readonly reason: 'admitted';
  readonly policy: Policy;
  /** Index in spec.ingress or spec.egress. */
  readonly rule: number;
  /** Index in `from` or `to`; undefined where the rule is open to every peer. */
  readonly peer: number | undefined;
  /** Index in `ports`; undefined where the rule is open to every protocol and port. */
  readonly port: number | undefined;
}

export interface Refused {
  readonly allowed: false;
  readonly reason: 'refused';
  /** Every policy that isolates the pod in this direction; none of them admits it. */
  readonly policies: readonly Policy[];
}

/**
 * The verdict on one flow. Throws {@link PolicyError} `MIXED_FAMILIES` where source and destination are not of one family, and
 * `PORT_INVALID` where TCP, UDP or SCTP are without a port from 0 to 65535.
 */
export function evaluate(world: World, question: Question): Verdict {
  check(question);
  const source = world.podAt(question.source);
  const destination = world.podAt(question.destination);
  const flow: Flow = { ...question, sourcePod: source, destinationPod: destination };
  const egress = evaluateDirection(world, flow, 'egress');
  const ingress = evaluateDirection(world, flow, 'ingress');
  return verdictOf(egress, ingress);
}

/**
 * One direction's part of the verdict: what the other's policies cost is not paid.
 *
 * @throws PolicyError as {@link evaluate} does
 */
export function evaluateOne(world: World, question: Question, direction: Direction): DirectionVerdict {
  check(question);
  const [sourcePod, destinationPod] = [world.podAt(question.source), world.podAt(question.destination)];
  return evaluateDirection(world, { ...question, sourcePod, destinationPod }, direction);
}

/** What both directions come to together (row 25). */
export function verdictOf(egress: DirectionVerdict, ingress: DirectionVerdict): Verdict {
  return { allowed: egress.allowed && ingress.allowed, egress, ingress };
}

/** A question, and whose its addresses are. */
interface Flow extends Question {
  readonly sourcePod: Pod | undefined;
  readonly destinationPod: Pod | undefined;
}

const EXTERNAL: Allowed = { allowed: true, reason: 'external' };
const NODE: Allowed = { allowed: true, reason: 'node' };
const NOT_ISOLATED: Allowed = { allowed: true, reason: 'not-isolated' };
const SAME_POD: Allowed = { allowed: true, reason: 'same-pod' };
const OWN_NODE: Allowed = { allowed: true, reason: 'own-node' };

function evaluateDirection(world: World, flow: Flow, direction: Direction): DirectionVerdict {
  const isEgress = direction === 'egress';
  const subject = isEgress ? flow.sourcePod : flow.destinationPod;
  const subjectAddress = isEgress ? flow.source : flow.destination;
  const other = isEgress ? flow.destinationPod : flow.sourcePod;
  const otherAddress = isEgress ? flow.destination : flow.source;

  // Rows 29, 33: only a pod that lives and has a network of its own is ever subject to policy.
  if (subject === undefined) return world.nodeAt(subjectAddress) === undefined ? EXTERNAL : NODE;
  // Row 30.
  if (other !== undefined && isSamePod(subject, other)) return SAME_POD;
  const isolating = world.isolating(subject, direction);
  if (isolating.length === 0) return NOT_ISOLATED;
  // Row 28: its own node, and no other. An address that a pod owns is that pod's.
  if (other === undefined && subject.node !== '' && world.nodeAt(otherAddress)?.name === subject.node) return OWN_NODE;

  // Row 25: policies unite; the first rule that admits decides.
  for (const policy of isolating) {
    for (const rule of policy[direction] ?? []) {
      const admitted = ruleAdmits(world, policy, rule, flow, otherAddress, other);
      if (admitted !== undefined) return admitted;
    }
  }
  return { allowed: false, reason: 'refused', policies: isolating };
}

/** Undefined: it does not. */
function ruleAdmits(world: World, policy: Policy, rule: Rule, flow: Flow, address: Address, pod: Pod | undefined): Admitted | undefined {
  let port: PortMatch | undefined;
  // Rows 3, 32: without ports, every protocol. Ports first: they are cheaper to look at.
  if (rule.ports !== undefined) {
    port = rule.ports.find((match) => portMatches(match, flow.protocol, flow.port, flow.destinationPod));
    if (port === undefined) return undefined;
  }
  // Row 3: without peers, everyone, external addresses included.
  if (rule.peers === undefined) return { allowed: true, reason: 'admitted', policy, rule: rule.index, peer: undefined, port: port?.index };
  const peer = rule.peers.find((peer) => peerMatchesAs(world, policy, peer, address, pod));
  return peer && { allowed: true, reason: 'admitted', policy, rule: rule.index, peer: peer.index, port: port?.index };
}

/** By name and uid, since a world may hold a pod as several equal values. */
function isSamePod(a: Pod, b: Pod): boolean {
  return a === b || (a.name === b.name && a.namespace === b.namespace && a.uid === b.uid);
}

function check({ source, destination, protocol, port }: Question): void {
  if (familyOf(source) !== familyOf(destination)) {
    const ends = `${formatAddress(source)} and ${formatAddress(destination)}`;
    throw new PolicyError('MIXED_FAMILIES', `no packet goes between ${ends}: ask about two addresses of one family`);
  }
  if (protocol === 'ICMP' || protocol === 'other') return;
  if (port === undefined || !Number.isInteger(port) || port < 0 || port > PORT_MAX) {
    throw new PolicyError('PORT_INVALID', `${protocol} to ${formatAddress(destination)} needs a port from 0 to ${PORT_MAX}, not ${port}`);
  }
}
