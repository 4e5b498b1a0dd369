/** A policy as it was written: what the reading of it leaves behind, as it makes no difference to what is admitted. */
import type { Direction, Peer, Rule } from '../objects.ts';
import { type Fields, isFields } from '../problems.ts';
import { sideOf } from './finding.ts';

/** The `spec`; undefined where there is none that could be read. An absent one is empty, as it is for the API. */
export function writtenSpec(spec: unknown): Fields | undefined {
  return isFields(spec) ? spec : undefined;
}

export function writtenRule(spec: Fields, direction: Direction, index: number): Fields | undefined {
  const rules = spec[direction];
  const rule: unknown = Array.isArray(rules) ? rules[index] : undefined;
  return isFields(rule) ? rule : undefined;
}

export function writtenPeer(spec: Fields, direction: Direction, rule: Pick<Rule, 'index'>, peer: Pick<Peer, 'index'>): Fields | undefined {
  const peers = writtenRule(spec, direction, rule.index)?.[sideOf(direction)];
  const written: unknown = Array.isArray(peers) ? peers[peer.index] : undefined;
  return isFields(written) ? written : undefined;
}
