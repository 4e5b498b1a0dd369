/** Rules and policies that make no difference, because others admit all that they do. Certain for every cluster, not only for this one. */
import type { Policy } from '../objects.ts';
import { problemSeverity } from '../problems.ts';
import {
  count,
  DIRECTIONS,
  finding,
  type Finding,
  type PlacedRule,
  policyObject,
  type RelatedPlace,
  rulePath,
  rulesOf,
  someOf,
} from './finding.ts';
import { isEmptyRule, isOpenRule, subjectCovers } from './implication.ts';
import type { Check, LintCluster } from './input.ts';

export const shadowed: Check = {
  codes: ['POLICY_REDUNDANT', 'RULE_SHADOWED', 'ALLOW_ALL_OVERRIDES'],
  *run(cluster): Iterable<Finding> {
    const overridden = new Map<PlacedRule['rule'], { readonly open: PlacedRule; readonly rules: PlacedRule[] }>();
    for (const policy of cluster.policies) {
      const others = redundantBecauseOf(policy, cluster);
      if (others !== undefined) {
        const names = [...new Set(others.map(({ name }) => name))];
        const message = `${names.length === 1 ? `policy ${names[0]} isolates` : `policies ${someOf(names)} isolate`} at least the same pods, and admit${names.length === 1 ? 's' : ''} all that this one does: without it nothing would change, in this cluster or any other`;
        const related = names
          .slice(0, SHOWN)
          .map((name) => ({ object: policyObject({ ...policy, name }), path: '', message: 'makes it redundant' }));
        yield finding('POLICY_REDUNDANT', policy, '', message, 'delete it, or change what it was meant to add', related);
        continue;
      }
      for (const placed of rulesOf(policy)) {
        if (isEmptyRule(placed.rule)) continue;
        const covers = coversOf(placed, cluster);
        const open = covers.find(({ rule }) => isOpenRule(rule));
        if (open !== undefined && !isOpenRule(placed.rule)) {
          const entry = overridden.get(open.rule);
          if (entry === undefined) overridden.set(open.rule, { open, rules: [placed] });
          else entry.rules.push(placed);
          continue;
        }
        const [first] = covers;
        if (first === undefined) continue;
        const own = first.policy === policy;
        const where = own
          ? `${rulePath(first.direction, first.rule)} of this policy`
          : `${rulePath(first.direction, first.rule)} of policy ${first.policy.name}`;
        const message = `${where} admits all that this rule does: without it nothing would change, in this cluster or any other`;
        const remedy = 'leave the rule out, or narrow the other one if it is too wide';
        yield finding('RULE_SHADOWED', policy, rulePath(placed.direction, placed.rule), message, remedy, [
          relatedTo(first, 'admits all of it'),
        ]);
      }
    }
    for (const { open, rules } of overridden.values()) yield overriding(open, rules);
  },
};

const SHOWN = 5;

function overriding(open: PlacedRule, rules: readonly PlacedRule[]): Finding {
  const names = [...new Set(rules.map(({ policy }) => policy).filter((policy) => policy !== open.policy))].map(({ name }) => name);
  const of =
    names.length === 0
      ? 'of this policy'
      : `of ${someOf(names)}${names.length < new Set(rules.map(({ policy }) => policy)).size ? ' and of this policy' : ''}`;
  const message = `the empty rule admits everybody on every port, so that ${count(rules.length, 'other rule')} ${of} for the same pods ${rules.length === 1 ? 'restricts' : 'restrict'} nothing`;
  const remedy = 'leave the empty rule out if the others are meant to restrict; policies only ever add to one another';
  const related = rules.slice(0, SHOWN).map((rule) => relatedTo(rule, 'restricts nothing'));
  return finding('ALLOW_ALL_OVERRIDES', open.policy, rulePath(open.direction, open.rule), message, remedy, related);
}

function relatedTo({ policy, direction, rule }: PlacedRule, message: string): RelatedPlace {
  return { object: policyObject(policy), path: rulePath(direction, rule), message };
}

/** Rules that cover it; of two that cover one another only the first counts as covering. Open ones first. */
function coversOf(placed: PlacedRule, { covering }: LintCluster): PlacedRule[] {
  let first: PlacedRule | undefined;
  for (const other of covering.covering(placed)) {
    if (covering.isTwinAfter(other, placed)) continue;
    if (isOpenRule(other.rule)) return [other];
    first ??= other;
  }
  return first === undefined ? [] : [first];
}

/** Policies without which it would make a difference; undefined: it makes one. */
function redundantBecauseOf(policy: Policy, cluster: LintCluster): readonly Policy[] | undefined {
  // What is broken has findings of its own, and is to be mended first.
  if (policy.problems.some(({ code }) => problemSeverity(code) === 'error')) return undefined;
  const { covering } = cluster;
  // What denies everything in a namespace is the ground that the others stand on: only another such makes it one too many.
  const isGround = policy.subject.requirements.length === 0 && rulesOf(policy).length === 0;
  const because: Policy[] = [];
  for (const direction of DIRECTIONS) {
    if (policy[direction] === undefined) continue;
    const isolating = firstOf(
      covering.supersets(policy),
      (other) =>
        other[direction] !== undefined &&
        !(isGround && rulesOf(other).length > 0) &&
        !(covering.isBefore(policy, other) && subjectCovers(policy, other)),
    );
    if (isolating === undefined) return undefined;
    because.push(isolating);
  }
  for (const placed of rulesOf(policy)) {
    if (isEmptyRule(placed.rule)) continue;
    const cover = firstOf(covering.covering(placed), (other) => other.policy !== policy && !covering.isTwinAfter(other, placed));
    // An allow-all that overrides it is told at its own place.
    if (cover === undefined || (isOpenRule(cover.rule) && !isOpenRule(placed.rule))) return undefined;
    because.push(cover.policy);
  }
  return because;
}

function firstOf<T>(items: Iterable<T>, holds: (item: T) => boolean): T | undefined {
  for (const item of items) if (holds(item)) return item;
  return undefined;
}
