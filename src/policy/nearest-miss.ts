/**
 * Why a refused flow is refused, and what would have admitted it: for every peer of every rule of every policy that isolates the pod,
 * what did not match. The nearest comes first: the one that the fewest things keep from admitting, and of these the one whose text is
 * most alike, for a slip of the pen is what people look for at night.
 *
 * There is a miss exactly where {@link evaluate} refuses, and putting right all the faults of any one of them makes it admit. What a
 * fault is, is data; {@link describeFault} makes the sentence.
 */
import { type Address, familyOf, prefixRange } from './address.ts';
import { editDistance } from './edit-distance.ts';
import { evaluate, type Question } from './evaluate.ts';
import type { Labels } from './labels.ts';
import type { Direction, NamedPort, Peer, Pod, Policy, PortMatch, Problem, Protocol, Rule } from './objects.ts';
import { peerMatchesAs } from './peers.ts';
import { PORT_MAX, portMatches } from './ports.ts';
import { contains } from './ranges.ts';
import { matches, type Requirement, type Selector } from './selector.ts';
import { NAMESPACE_NAME_LABEL, type World } from './world.ts';

/** One peer of a rule, or a rule without peers, or a policy without rules, that does not admit the flow. */
export interface Miss {
  readonly policy: Policy;
  /** Index in spec.ingress or spec.egress; undefined: the policy has no rule that could be read. */
  readonly rule: number | undefined;
  /** Index in `from` or `to`; undefined: the rule is open to every peer, or none could be read. */
  readonly peer: number | undefined;
  /** All that is amiss; at least one. */
  readonly faults: readonly Fault[];
}

/** "The other" is the end that the direction is not about: the source for ingress, the destination for egress. */
export type Fault =
  /** The policy isolates and has no rules (row 2), or none that can be read: then `problems` say why. */
  | { readonly kind: 'no-rules'; readonly problems: readonly Problem[] }
  | PortFault
  /** The rule names ports, and the protocol has none (row 32). */
  | { readonly kind: 'portless'; readonly protocol: Protocol }
  /** No entry of `ports` can be read, so that none admits anything. */
  | { readonly kind: 'ports-unreadable'; readonly problems: readonly Problem[] }
  | LabelFault
  /** The selector wants what cannot be: it matches nothing. */
  | { readonly kind: 'contradiction'; readonly of: 'pod' | 'namespace'; readonly key: string }
  /** There is no namespaceSelector, so that only pods of the policy's own namespace are meant (row 5). */
  | { readonly kind: 'own-namespace'; readonly wanted: string; readonly actual: string }
  /** The peer selects pods, and the other is none (rows 6, 29, 31): `node` is whose address it is, where it is a node's. */
  | { readonly kind: 'no-pod'; readonly node: string | undefined }
  /** The other's address is outside of the ipBlock, in its `except`, or of the other family (row 36). */
  | { readonly kind: 'block'; readonly where: 'outside' | 'excepted' | 'other-family'; readonly block: string }
  /** The peer, or `from` and `to` as a whole, cannot be read, or says what it may not (rows 4, 11). */
  | { readonly kind: 'peer-unreadable'; readonly problems: readonly Problem[] };

export interface PortFault {
  readonly kind: 'port';
  readonly protocol: Protocol;
  readonly port: number;
  /** The entry that comes nearest. */
  readonly entry: PortMatch;
  /** How many other entries the rule has; none of them admits the port either. */
  readonly others: number;
  /** What the destination declares under the name of the entry (row 15), for whatever protocol; undefined: it is no pod (row 17). */
  readonly declared: readonly NamedPort[] | undefined;
}

export interface LabelFault {
  readonly kind: 'label';
  /** Whose labels: the other pod's, or those of its namespace. */
  readonly of: 'pod' | 'namespace';
  readonly namespace: string;
  readonly requirement: Requirement;
  /** Undefined: it has no such label. */
  readonly actual: string | undefined;
  /** Of `In`: the value that is most like what it has; the first, where it has none. */
  readonly wanted: string | undefined;
  /** A label that it has, and that may have been meant: its key is very much alike. */
  readonly alike: { readonly key: string; readonly value: string } | undefined;
}

/**
 * Everything that comes short of admitting a flow in a direction, the nearest first; empty exactly where {@link evaluate} does not
 * refuse it there. Each peer of each rule of each isolating policy is one; so is each rule without peers and each policy without rules.
 * Throws as `evaluate` does.
 */
export function missesOf(world: World, question: Question, direction: Direction): readonly Miss[] {
  const verdict = evaluate(world, question)[direction];
  if (verdict.reason !== 'refused') return [];
  const otherAddress = direction === 'egress' ? question.destination : question.source;
  const flow: Flow = {
    world,
    question,
    direction,
    destination: world.podAt(question.destination),
    address: otherAddress,
    other: world.podAt(otherAddress),
  };
  const misses = verdict.policies.flatMap((policy) => missesOfPolicy(flow, policy));
  const costs = new Map(misses.map((miss) => [miss, costOf(miss)]));
  // Sorting is stable: of equals the first in order of names, rules and peers.
  return misses.toSorted((a, b) => compareCosts(costs.get(a) ?? FARTHEST, costs.get(b) ?? FARTHEST));
}

interface Flow {
  readonly world: World;
  readonly question: Question;
  readonly direction: Direction;
  /** Whose port it is. */
  readonly destination: Pod | undefined;
  /** The other's. */
  readonly address: Address;
  readonly other: Pod | undefined;
}

function missesOfPolicy(flow: Flow, policy: Policy): Miss[] {
  const { direction } = flow;
  const rules = policy[direction] ?? [];
  if (rules.length === 0) {
    const problems = policy.problems.filter(({ path }) => isWithin(path, `spec.${direction}`) || isWithin(path, 'spec.policyTypes'));
    return [{ policy, rule: undefined, peer: undefined, faults: [{ kind: 'no-rules', problems }] }];
  }
  return rules.flatMap((rule) => missesOfRule(flow, policy, rule));
}

function missesOfRule(flow: Flow, policy: Policy, rule: Rule): Miss[] {
  const { world, direction, address, other } = flow;
  const port = portFault(flow, policy, rule);
  const ports = port === undefined ? [] : [port];
  const side = `spec.${direction}[${rule.index}].${direction === 'ingress' ? 'from' : 'to'}`;
  const miss = (peer: number | undefined, faults: readonly Fault[]): Miss => ({ policy, rule: rule.index, peer, faults });
  if (rule.peers === undefined) return [miss(undefined, ports)];
  if (rule.peers.length === 0) {
    return [miss(undefined, [{ kind: 'peer-unreadable', problems: problemsWithin(policy, side) }, ...ports])];
  }
  return rule.peers.map((peer) => {
    const isMatch = peerMatchesAs(world, policy, peer, address, other);
    return miss(peer.index, [...(isMatch ? [] : peerFaults(flow, policy, peer, `${side}[${peer.index}]`)), ...ports]);
  });
}

// --- ports

function portFault({ question, direction, destination }: Flow, policy: Policy, rule: Rule): Fault | undefined {
  const { protocol, port } = question;
  const { ports } = rule;
  if (ports === undefined || ports.some((match) => portMatches(match, protocol, port, destination))) return undefined;
  const [first, ...more] = ports;
  if (first === undefined) {
    return { kind: 'ports-unreadable', problems: problemsWithin(policy, `spec.${direction}[${rule.index}].ports`) };
  }
  if (port === undefined || protocol === 'ICMP' || protocol === 'other') return { kind: 'portless', protocol };
  const faultOf = (entry: PortMatch): PortFault => {
    const declared = entry.kind === 'name' ? destination?.ports.filter(({ name }) => name === entry.name) : [];
    return { kind: 'port', protocol, port, entry, others: more.length, declared };
  };
  let nearest = faultOf(first);
  for (const fault of more.map(faultOf)) if (costOfPort(fault) < costOfPort(nearest)) nearest = fault;
  return nearest;
}

// --- peers

function peerFaults(flow: Flow, policy: Policy, peer: Peer, path: string): Fault[] {
  const { world, address, other } = flow;
  switch (peer.kind) {
    case 'nothing':
      return [{ kind: 'peer-unreadable', problems: problemsWithin(policy, path) }];
    case 'block': {
      if (peer.family !== familyOf(address)) return [{ kind: 'block', where: 'other-family', block: peer.text }];
      const where = contains([prefixRange(peer.cidr)], address) ? 'excepted' : 'outside';
      return [{ kind: 'block', where, block: peer.text }];
    }
    case 'pods': {
      if (other === undefined) return [{ kind: 'no-pod', node: world.nodeAt(address)?.name }];
      const { namespace } = other;
      const faults: Fault[] = [];
      if (peer.namespaces === undefined) {
        if (namespace !== policy.namespace) faults.push({ kind: 'own-namespace', wanted: policy.namespace, actual: namespace });
      } else
        for (const each of selectorFaults(peer.namespaces, world.namespaceLabels(namespace), 'namespace', namespace)) faults.push(each);
      return [...faults, ...selectorFaults(peer.pods, other.labels, 'pod', namespace)];
    }
  }
}

function selectorFaults({ requirements }: Selector, labels: Labels, of: 'pod' | 'namespace', namespace: string): Fault[] {
  // A selector that was reduced asks for a key twice only where it excludes values of a key that has to be there, or contradicts itself.
  const impossible = requirements.find(
    ({ key, operator }) =>
      operator === 'DoesNotExist' && requirements.some((requirement) => requirement.key === key && requirement.operator === 'Exists'),
  );
  if (impossible !== undefined) return [{ kind: 'contradiction', of, key: impossible.key }];
  return requirements
    .filter((requirement) => !matches({ requirements: [requirement], text: '' }, labels))
    .map((requirement): LabelFault => {
      const actual = labels.get(requirement.key);
      const wanted = requirement.operator === 'In' ? mostLike(actual, requirement.values) : undefined;
      return {
        kind: 'label',
        of,
        namespace,
        requirement,
        actual,
        wanted,
        alike: actual === undefined ? alikeOf(requirement.key, labels) : undefined,
      };
    });
}

function mostLike(actual: string | undefined, values: readonly string[]): string | undefined {
  let [best] = values;
  if (actual === undefined || best === undefined) return best;
  for (const value of values) if (editDistance(actual, value, CAP) < editDistance(actual, best, CAP)) best = value;
  return best;
}

function alikeOf(key: string, labels: Labels): LabelFault['alike'] {
  for (const [candidate, value] of labels) {
    if (isAlikeKey(key, candidate)) return { key: candidate, value };
  }
  return undefined;
}

/** Whether somebody who wrote one key of a label may have meant the other. */
export function isAlikeKey(wanted: string, actual: string): boolean {
  return isSlip(wanted, actual) || wanted.toLowerCase() === actual.toLowerCase();
}

/** Few edits for their length: probably the same word was meant. Not where only digits differ: web-1 and web-2 are two things. */
function isSlip(wanted: string, actual: string): boolean {
  const withoutDigits = (text: string): string => text.replace(/[0-9]+/gu, '');
  const edits = Math.min(SLIP_EDITS, Math.floor(Math.max(wanted.length, actual.length) / 3));
  return editDistance(wanted, actual, SLIP_EDITS + 1) <= edits && withoutDigits(wanted) !== withoutDigits(actual);
}

const SLIP_EDITS = 2;

function problemsWithin({ problems }: Policy, path: string): readonly Problem[] {
  return problems.filter((problem) => isWithin(problem.path, path));
}

function isWithin(path: string, parent: string): boolean {
  return path.startsWith(parent) && /^(?:$|[.[])/u.test(path.slice(parent.length));
}

// --- which is the nearest

/** How many things are amiss, and how unlike they are to what would match. */
interface Cost {
  readonly faults: number;
  readonly unlikeness: number;
}

const FARTHEST: Cost = { faults: Number.POSITIVE_INFINITY, unlikeness: 0 };
/** Labels that have less in common than this are as good as unrelated. */
const CAP = 7;

function costOf({ faults }: Miss): Cost {
  // A policy without rules admits nobody on purpose: nothing of it is near.
  if (faults.some(({ kind }) => kind === 'no-rules')) return FARTHEST;
  return { faults: faults.length, unlikeness: faults.reduce((sum, fault) => sum + unlikeness(fault), 0) };
}

function compareCosts(a: Cost, b: Cost): number {
  return a.faults === b.faults ? a.unlikeness - b.unlikeness : a.faults < b.faults ? -1 : 1;
}

/** A label that is one edit away is 1; all else is measured by that. */
function unlikeness(fault: Fault): number {
  switch (fault.kind) {
    case 'label': {
      const { actual, wanted, alike, requirement } = fault;
      if (actual !== undefined && wanted !== undefined) return editDistance(actual, wanted, CAP);
      if (actual !== undefined) return 4;
      return alike === undefined ? CAP + 1 : editDistance(alike.key, requirement.key, CAP) + 1;
    }
    case 'port':
      return costOfPort(fault);
    case 'own-namespace':
    case 'portless':
      return 6;
    case 'block':
      return { excepted: 7, outside: 9, 'other-family': 12 }[fault.where];
    case 'no-pod':
      return 10;
    case 'contradiction':
    case 'peer-unreadable':
    case 'ports-unreadable':
    case 'no-rules':
      return 20;
  }
}

function costOfPort({ entry, protocol, port, declared }: PortFault): number {
  const ofProtocol = entry.protocol === protocol ? 0 : 3;
  if (entry.kind === 'name') return ofProtocol + (declared === undefined ? 6 : declared.length > 0 ? 3 : 5);
  // The right number and the wrong protocol is nearer than the wrong number.
  if (entry.first <= port && port <= entry.last) return ofProtocol;
  return ofProtocol + 2 + Math.min(3, editDistance(String(port), String(port < entry.first ? entry.first : entry.last)));
}

// --- for people

/** What is amiss, as the end of a sentence that begins with the place in the policy: `wants app=api; the source has app=web`. */
export function describeFault(fault: Fault, direction: Direction): string {
  const other = direction === 'ingress' ? 'the source' : 'the destination';
  switch (fault.kind) {
    case 'no-rules':
      return fault.problems.length > 0
        ? `admits nothing, since it cannot be read: ${messages(fault.problems)}`
        : `has no ${direction} rules: it admits nothing`;
    case 'port':
      return describePort(fault);
    case 'portless':
      return `admits ports only, and ${fault.protocol === 'ICMP' ? 'ICMP has none' : 'the protocol has none'}: a rule without ports would admit it`;
    case 'ports-unreadable':
      return `has ports that cannot be read: ${messages(fault.problems)}`;
    case 'label':
      return describeLabel(fault, other);
    case 'contradiction':
      return `wants a label ${fault.key} of the ${fault.of} that is there and is not, or has no value that is left: it matches nothing`;
    case 'own-namespace':
      return `wants pods of its own namespace, ${fault.wanted}, having no namespaceSelector; ${other} is in ${fault.actual}`;
    case 'no-pod':
      return `wants a pod; ${other} is ${fault.node === undefined ? 'an address of no pod' : "a node's address"}, which only an ipBlock matches`;
    case 'block':
      if (fault.where === 'other-family') return `admits ${fault.block}; ${other} is of the other address family`;
      return `admits ${fault.block}; ${other} is ${fault.where === 'excepted' ? 'in what it leaves out' : 'outside of it'}`;
    case 'peer-unreadable':
      return `matches nothing, since it cannot be read: ${messages(fault.problems)}`;
  }
}

function messages(problems: readonly Problem[]): string {
  return problems.length === 0 ? 'no reason is known' : problems.map(({ path, message }) => `${path}: ${message}`).join('; ');
}

/** `TCP 80`, `UDP 1-1024`, `every SCTP port`, `TCP http`. */
export function describePortMatch(entry: PortMatch): string {
  const { protocol } = entry;
  if (entry.kind === 'name') return `${protocol} ${entry.name}`;
  const { first, last } = entry;
  if (first === 0 && last === PORT_MAX) return `every ${protocol} port`;
  return `${protocol} ${first}${first === last ? '' : `-${last}`}`;
}

function describePort({ entry, others, protocol, port, declared }: PortFault): string {
  const admits = `admits ${describePortMatch(entry)}${others === 0 ? '' : ` and ${others} more`}`;
  const asked = `asked is ${protocol} ${port}`;
  if (entry.kind === 'numbers') return `${admits}; ${asked}`;
  if (declared === undefined) return `${admits}, and what is no pod has no named ports; ${asked}`;
  if (declared.length === 0) return `${admits}, which no container of the destination declares; ${asked}`;
  const numbers = declared.map((of) => (of.protocol === entry.protocol ? `${of.port}` : `${of.protocol} ${of.port}`)).join(' and ');
  return `${admits}, which the destination declares as ${numbers}; ${asked}`;
}

function describeLabel({ of, namespace, requirement, actual, wanted, alike }: LabelFault, other: string): string {
  const { key, operator, values } = requirement;
  const whose = of === 'pod' ? other : `${other}'s namespace ${namespace}`;
  if (of === 'namespace' && key === NAMESPACE_NAME_LABEL && operator === 'In') {
    return `wants namespace ${values.join(' or ')}; ${other} is in ${namespace}${slip(actual, wanted)}`;
  }
  const wants = {
    In: values.length === 1 ? `${key}=${values[0]}` : `${key} in (${values.join(', ')})`,
    NotIn: values.length === 1 ? `${key}!=${values[0]}` : `${key} notin (${values.join(', ')})`,
    Exists: `a label ${key}`,
    DoesNotExist: `no label ${key}`,
  }[operator];
  const has =
    actual === undefined ? `no label ${key}${alike === undefined ? '' : `, but ${alike.key}=${alike.value}`}` : `${key}=${actual}`;
  return `wants ${of === 'namespace' ? 'a namespace with ' : ''}${wants}; ${whose} has ${has}${slip(actual, wanted)}`;
}

function slip(actual: string | undefined, wanted: string | undefined): string {
  if (actual === undefined || wanted === undefined || !isSlip(wanted, actual)) return '';
  const edits = editDistance(wanted, actual);
  return ` (${edits} ${edits === 1 ? 'edit' : 'edits'} away)`;
}
