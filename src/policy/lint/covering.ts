/**
 * Which policies select all that another does, and which rules admit all that another does, whatever the cluster holds (see
 * implication.ts): found by index, since comparing each with each would take ten thousand policies a hundred million steps.
 */
import type { Direction, Peer, Policy } from '../objects.ts';
import type { Selector } from '../selector.ts';
import { type PlacedRule, rulesOf } from './finding.ts';
import { isEmptyPeer, isEmptyRule, namespacesOf, ruleCovers, subjectCovers } from './implication.ts';

export class Covering {
  /** By namespace and token of the subject. */
  readonly #policies = new Map<string, Policy[]>();
  /** By direction, namespace, token of the subject and token of a peer. */
  readonly #rules = new Map<string, PlacedRule[]>();
  /** Position of each policy: of those that cover one another the first counts. */
  readonly #order = new Map<Policy, number>();

  constructor(policies: readonly Policy[]) {
    for (const [index, policy] of policies.entries()) {
      this.#order.set(policy, index);
      const subjects = indexTokens(policy.subject);
      for (const subject of subjects) append(this.#policies, `${policy.namespace} ${subject}`, policy);
      for (const placed of rulesOf(policy)) {
        if (isEmptyRule(placed.rule)) continue;
        const tokens = new Set(placed.rule.peers?.flatMap((peer) => peerIndexTokens(peer, policy.namespace)) ?? ['*']);
        for (const subject of subjects)
          for (const token of tokens) append(this.#rules, key(placed.direction, policy, subject, token), placed);
      }
    }
  }

  isBefore(a: Policy, b: Policy): boolean {
    return (this.#order.get(a) ?? 0) < (this.#order.get(b) ?? 0);
  }

  /** Other policies that select all pods that this one does. */
  *supersets(policy: Policy): Iterable<Policy> {
    for (const token of lookupTokens(policy.subject)) {
      for (const other of this.#policies.get(`${policy.namespace} ${token}`) ?? []) {
        if (other !== policy && subjectCovers(other, policy)) yield other;
      }
    }
  }

  /** Other rules that admit, to all pods that the rule's policy selects, all that the rule does. A rule may come more than once. */
  *covering(placed: PlacedRule): Iterable<PlacedRule> {
    const { policy, direction, rule } = placed;
    const peer = rule.peers?.find((peer) => !isEmptyPeer(peer));
    const peers = peer === undefined ? ['*'] : ['*', ...peerLookupTokens(peer, policy.namespace)];
    for (const subject of lookupTokens(policy.subject)) {
      for (const token of peers) {
        for (const other of this.#rules.get(key(direction, policy, subject, token)) ?? []) {
          if (other.rule === rule || !subjectCovers(other.policy, policy)) continue;
          if (ruleCovers(other.rule, rule, policy.namespace)) yield other;
        }
      }
    }
  }

  /** Whether `other`, which covers `placed`, is covered by it in turn and comes after it: then it is the other that is one too many. */
  isTwinAfter(other: PlacedRule, placed: PlacedRule): boolean {
    const isAfter = other.policy === placed.policy ? other.rule.index > placed.rule.index : this.isBefore(placed.policy, other.policy);
    return isAfter && subjectCovers(placed.policy, other.policy) && ruleCovers(placed.rule, other.rule, placed.policy.namespace);
  }
}

function key(direction: Direction, { namespace }: Policy, subject: string, peer: string): string {
  return `${direction} ${namespace} ${subject} ${peer}`;
}

/** Under which texts a selector is found by those that may imply it. */
function indexTokens({ requirements: [first] }: Selector): readonly string[] {
  if (first === undefined) return ['*'];
  if (first.operator === 'In') return first.values.map((value) => `${first.key}=${value}`);
  return [`${first.key} ${first.operator}`];
}

/** The texts of what a selector may imply: it has a requirement on each key of that. */
function lookupTokens({ requirements }: Selector): ReadonlySet<string> {
  const tokens = new Set(['*']);
  for (const { key, operator, values } of requirements) {
    if (operator === 'In') tokens.add(`${key}=${values[0]}`);
    for (const other of ['NotIn', 'Exists', 'DoesNotExist']) tokens.add(`${key} ${other}`);
  }
  return tokens;
}

function peerIndexTokens(peer: Peer, namespace: string): readonly string[] {
  if (peer.kind === 'nothing') return [];
  if (peer.kind === 'block') {
    const tokens = new Set<string>();
    for (const { first, last } of peer.ranges) {
      for (let part = partOf(first); part <= partOf(last); part++) {
        if (tokens.size > MOST_PARTS) return [`block ${typeof first}`];
        tokens.add(`block ${typeof first} ${part}`);
      }
    }
    return [...tokens];
  }
  if (peer.pods.requirements.length > 0) return indexTokens(peer.pods).map((token) => `pods ${token}`);
  return indexTokens(namespacesOf(peer, namespace)).map((token) => `namespaces ${token}`);
}

function peerLookupTokens(peer: Peer, namespace: string): readonly string[] {
  if (peer.kind === 'nothing') return [];
  if (peer.kind === 'block') {
    const [range] = peer.ranges;
    return range === undefined ? [] : [`block ${typeof range.first}`, `block ${typeof range.first} ${partOf(range.first)}`];
  }
  const namespaces = lookupTokens(namespacesOf(peer, namespace));
  return [...[...lookupTokens(peer.pods)].map((token) => `pods ${token}`), ...[...namespaces].map((token) => `namespaces ${token}`)];
}

/** A block of more of them is among those that every address is asked about. */
const MOST_PARTS = 16;

/** The first 8 bits of an IPv4 address, the first 16 of an IPv6 address. */
function partOf(address: number | bigint): number {
  return typeof address === 'number' ? address >>> 24 : Number(address >> 112n);
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
