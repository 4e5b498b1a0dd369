/** What a check of policies finds: one thing, where it stands, what comes of it and what to write instead. */
import type { LintCode } from './codes.ts';
import type { Direction, Peer, Policy, Rule } from '../objects.ts';

/**
 * `error`: a part is not in force as it is written, whatever the cluster holds. `warning`: it is in force, and most likely not what
 * was meant. `note`: good to know.
 */
export type LintSeverity = 'error' | 'warning' | 'note';

/** The worst first. */
export const LINT_SEVERITIES = ['error', 'warning', 'note'] as const satisfies readonly LintSeverity[];

/** What a finding is about. A Namespace has no namespace. */
export interface LintObject {
  readonly kind: 'NetworkPolicy' | 'Namespace';
  readonly namespace?: string;
  readonly name: string;
}

/** Somewhere else that has to do with it: the rule that covers this one, the policy of the other side. */
export interface RelatedPlace {
  readonly object: LintObject;
  /** As in {@link Finding.path}. */
  readonly path: string;
  /** What is there, in a few words: `admits the same`. */
  readonly message: string;
}

export interface Finding {
  readonly code: LintCode;
  readonly object: LintObject;
  /** A field path as the API writes it: `spec.ingress[0].from[1].ipBlock.cidr`. Empty: the object as a whole. */
  readonly path: string;
  /** What is there, and what it means in effect: a sentence or two, without a capital at the start or a full stop at the end. */
  readonly message: string;
  /** What to write instead, or to make sure of: in the same form. */
  readonly remedy: string;
  readonly related: readonly RelatedPlace[];
}

export function policyObject({ namespace, name }: { readonly namespace: string; readonly name: string }): LintObject {
  return { kind: 'NetworkPolicy', namespace, name };
}

export function finding(
  code: LintCode,
  policy: Policy,
  path: string,
  message: string,
  remedy: string,
  related: readonly RelatedPlace[] = [],
): Finding {
  return { code, object: policyObject(policy), path, message, remedy, related };
}

export const DIRECTIONS = ['ingress', 'egress'] as const satisfies readonly Direction[];

/** `from` or `to`. */
export function sideOf(direction: Direction): 'from' | 'to' {
  return direction === 'ingress' ? 'from' : 'to';
}

export function rulePath(direction: Direction, rule: Pick<Rule, 'index'>): string {
  return `spec.${direction}[${rule.index}]`;
}

export function peerPath(direction: Direction, rule: Pick<Rule, 'index'>, peer: Pick<Peer, 'index'>): string {
  return `${rulePath(direction, rule)}.${sideOf(direction)}[${peer.index}]`;
}

/** A rule that is in force, and where it stands. */
export interface PlacedRule {
  readonly policy: Policy;
  readonly direction: Direction;
  readonly rule: Rule;
}

export function rulesOf(policy: Policy): PlacedRule[] {
  return DIRECTIONS.flatMap((direction) => (policy[direction] ?? []).map((rule) => ({ policy, direction, rule })));
}

/** `1 pod`, `3 pods`. */
export function count(number: number, noun: string): string {
  if (number === 1) return `1 ${noun}`;
  return noun.endsWith('y') ? `${number} ${noun.slice(0, -1)}ies` : `${number} ${noun}s`;
}

/** The first few of many, so that a message stays readable: `a, b, c and 9 more`. */
export function someOf(names: readonly string[], limit = 3): string {
  const shown = names.slice(0, limit).join(', ');
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
