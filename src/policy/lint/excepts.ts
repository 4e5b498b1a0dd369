/** `except` that leaves nothing out: something else admits what it takes out (row 19), or it is taken out already. */
import { formatPrefix, prefixRange, type Range, readPrefix } from '../address.ts';
import type { Direction, Policy, Rule } from '../objects.ts';
import { type Fields, isFields } from '../problems.ts';
import { subtract } from '../ranges.ts';
import { finding, type Finding, type PlacedRule, peerPath, policyObject, rulePath, rulesOf } from './finding.ts';
import { addressesOf, isOpenRule, portsCover, rangesCover } from './implication.ts';
import type { Check, LintCluster } from './input.ts';
import { writtenPeer } from './written.ts';

export const excepts: Check = {
  codes: ['EXCEPT_READMITTED', 'EXCEPT_REPEATED', 'EXCEPT_COVERS_BLOCK'],
  *run(cluster): Iterable<Finding> {
    for (const policy of cluster.policies) {
      const spec = cluster.spec(policy);
      if (!isFields(spec)) continue;
      for (const placed of rulesOf(policy)) yield* judge(placed, spec, cluster);
    }
  },
};

interface Hole {
  readonly index: number;
  readonly text: string;
  /** Within the block. */
  readonly ranges: readonly Range[];
}

function* judge({ policy, direction, rule }: PlacedRule, spec: Fields, cluster: LintCluster): Iterable<Finding> {
  for (const peer of rule.peers ?? []) {
    if (peer.kind !== 'block') continue;
    const holes = holesOf(writtenPeer(spec, direction, rule, peer)?.['ipBlock']);
    const path = `${peerPath(direction, rule, peer)}.ipBlock.except`;
    if (peer.ranges.length === 0) {
      // Where one alone covers the block, that was found when the policy was read.
      if (policy.problems.some(({ code, path: at }) => code === 'EXCEPT_COVERS_BLOCK' && at.startsWith(path))) continue;
      const message = 'together they cover the whole cidr, and nothing is left of it: the peer matches nothing';
      yield finding('EXCEPT_COVERS_BLOCK', policy, path, message, 'leave the peer out, or name only what is to be left out of it');
      continue;
    }
    for (const hole of holes) {
      if (hole.ranges.length === 0) continue;
      const at = `${path}[${hole.index}]`;
      const twin = holes.find(
        (other) =>
          other !== hole && rangesCover(other.ranges, hole.ranges) && !(other.index > hole.index && rangesCover(hole.ranges, other.ranges)),
      );
      if (twin !== undefined) {
        yield finding('EXCEPT_REPEATED', policy, at, `${twin.text} takes ${hole.text} out already`, 'leave it out');
        continue;
      }
      const other = readmitting(policy, direction, rule, hole, cluster);
      if (other === undefined) continue;
      const where =
        other.rule === rule
          ? 'another peer of the same rule'
          : `${rulePath(direction, other.rule)}${other.policy === policy ? '' : ` of policy ${other.policy.name}`}`;
      const message = `${where} admits ${hole.text} all the same: an except only limits its own peer`;
      const remedy = `take ${hole.text} out there as well, or leave the except out`;
      const related = [{ object: policyObject(other.policy), path: rulePath(direction, other.rule), message: 'admits it' }];
      yield finding('EXCEPT_READMITTED', policy, at, message, remedy, related);
    }
  }
}

/** What the entries of `except` take out of a block; those that cannot be read, or lie outside of it, take nothing out. */
function holesOf(block: unknown): Hole[] {
  if (!isFields(block) || typeof block['cidr'] !== 'string' || !Array.isArray(block['except'])) return [];
  const cidr = readPrefix(block['cidr']);
  if (cidr === undefined) return [];
  const whole = prefixRange(cidr.prefix);
  return block['except'].flatMap((entry: unknown, index): Hole[] => {
    const reading = typeof entry === 'string' ? readPrefix(entry) : undefined;
    if (reading === undefined) return [];
    // What is in both: the whole, less what is left of it when the hole is taken out.
    const ranges = subtract(whole, subtract(whole, [prefixRange(reading.prefix)]));
    return [{ index, text: formatPrefix(reading.prefix), ranges }];
  });
}

/** A rule (the peer's own, by another peer, included) that admits every address of the hole, on at least the same ports and for at least the same pods. */
function readmitting(
  policy: Policy,
  direction: Direction,
  rule: Rule,
  { ranges }: Hole,
  { covering }: LintCluster,
): PlacedRule | undefined {
  const admits = (other: Rule): boolean => {
    // An allow-all overrides more than this, and is told at its own place.
    if (isOpenRule(other) || !portsCover(other.ports, rule.ports)) return false;
    if (other.peers === undefined) return true;
    return rangesCover(addressesOf(other.peers), ranges);
  };
  const rules = (of: Policy): PlacedRule[] => (of[direction] ?? []).map((rule) => ({ policy: of, direction, rule }));
  for (const placed of rules(policy)) if (admits(placed.rule)) return placed;
  for (const other of covering.supersets(policy)) {
    const found = rules(other).find(({ rule }) => admits(rule));
    if (found !== undefined) return found;
  }
  return undefined;
}
