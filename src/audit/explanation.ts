/**
 * Why a flow is allowed or refused, as data: of each direction the rule that admits it, or every policy that isolates and what comes
 * nearest to admitting it, with the place where that is written. Pure but for what the inventory has read already.
 */
import { stringify } from 'yaml';
import { podReason } from '../policy/budget.ts';
import { type DirectionVerdict, evaluate, type Question } from '../policy/evaluate.ts';
import { describeFault, type Fault, type Miss, missesOf } from '../policy/nearest-miss.ts';
import type { Direction, Policy } from '../policy/objects.ts';
import { isFields } from '../policy/problems.ts';
import type { World } from '../policy/world.ts';
import { parsePath } from '../sources/field-path.ts';
import type { Inventory, WrittenPolicy } from './inventory.ts';

/** What an explanation needs of an {@link Inventory}. */
export type Explained = Pick<Inventory, 'world' | 'written'>;

export interface FlowExplanation {
  readonly allowed: boolean;
  readonly egress: DirectionExplanation;
  readonly ingress: DirectionExplanation;
}

export type DirectionExplanation =
  | { readonly allowed: true; readonly reason: Exclude<DirectionVerdict['reason'], 'admitted' | 'refused'> }
  | {
      readonly allowed: true;
      readonly reason: 'admitted';
      /** The peer that admits it, or the rule where it is open to everybody. Others may as well. */
      readonly by: PartOfPolicy;
      /** Index in `ports`; absent: the rule is open to every port. */
      readonly port?: number;
    }
  | {
      readonly allowed: false;
      readonly reason: 'refused';
      /** All policies that isolate the pod; none admits it. */
      readonly isolatedBy: readonly PolicyName[];
      /** Of each isolating policy what comes nearest to admitting it; the nearest of all first. */
      readonly misses: readonly MissExplanation[];
      /** Policies whose nearest miss is not among {@link misses}, since they are too many. */
      readonly missesLeftOut: number;
      /** What the budgets of policies, pods and namespaces have no room for, a sentence each: it isolates, and admits nothing. */
      readonly beyondBudget: readonly string[];
      /** The explanation stands for flows that differ in their misses; those of the flow that has the nearest are given. */
      readonly missesVary?: true;
    };

export interface PolicyName {
  readonly namespace: string;
  readonly name: string;
}

/** A part of a policy, and where it is written. */
export interface PartOfPolicy {
  readonly policy: PolicyName;
  /** As the API writes it: `spec.ingress[0].from[1]`; `spec` where the policy has no rule. */
  readonly path: string;
  readonly file?: string;
  /** 1-based. */
  readonly line?: number;
  /** What stands there, as YAML; absent where there is nothing to show. */
  readonly yaml?: string;
}

export interface MissExplanation extends PartOfPolicy {
  /** All that is amiss, a sentence each. */
  readonly faults: readonly { readonly kind: Fault['kind']; readonly text: string }[];
}

/** More are not read by anybody; `missesLeftOut` counts the rest. */
const MISSES_MAX = 10;
/** Budgets that are named; there may be as many as policies. */
const BEYOND_MAX = 5;
/** Lines of YAML that are shown of a part. */
const YAML_LINES_MAX = 14;

/** Both directions of one flow; throws as {@link evaluate} does. */
export function explainFlow(inventory: Explained, question: Question): FlowExplanation {
  const { allowed, egress, ingress } = evaluate(inventory.world, question);
  return {
    allowed,
    egress: explainDirection(inventory, question, 'egress', egress),
    ingress: explainDirection(inventory, question, 'ingress', ingress),
  };
}

function explainDirection(inventory: Explained, question: Question, direction: Direction, verdict: DirectionVerdict): DirectionExplanation {
  switch (verdict.reason) {
    case 'admitted': {
      const { policy, rule, peer, port } = verdict;
      const by = partOf(inventory, policy, pathOf(direction, rule, peer));
      return { allowed: true, reason: 'admitted', by, ...(port === undefined ? {} : { port }) };
    }
    case 'refused': {
      const nearest = nearestOfEach(inventory.world, question, direction);
      return {
        allowed: false,
        reason: 'refused',
        isolatedBy: verdict.policies.map(nameOf),
        misses: nearest.slice(0, MISSES_MAX).map((miss) => explainMiss(inventory, miss, direction)),
        missesLeftOut: Math.max(0, nearest.length - MISSES_MAX),
        beyondBudget: beyondBudget(inventory.world, question, direction, verdict.policies),
      };
    }
    case 'external':
    case 'node':
    case 'not-isolated':
    case 'same-pod':
    case 'own-node':
      return { allowed: true, reason: verdict.reason };
  }
}

function beyondBudget(world: World, question: Question, direction: Direction, policies: readonly Policy[]): string[] {
  const pod = world.podAt(direction === 'egress' ? question.source : question.destination);
  const leftOut = pod === undefined ? 0 : world.leftOut(pod, direction).length;
  const found = leftOut === 0 ? [] : [podReason(leftOut)];
  for (const { namespace, name, problems } of policies) {
    const fault = problems.find(({ code, path }) => isBudgetCode(code) && (path === 'spec' || path.startsWith(`spec.${direction}`)));
    if (fault === undefined) continue;
    if (found.length >= BEYOND_MAX) return [...found, 'and more'];
    found.push(`${namespace}/${name}: ${fault.message}`);
  }
  return found;
}

function isBudgetCode(code: string): boolean {
  return code === 'NAMESPACE_TOO_LARGE' || code === 'POLICY_TOO_LARGE' || code === 'ADDRESS_DISPUTED';
}

/** Equal for explanations that differ in nothing but what comes near to admitting. */
export function coarseKey({ egress, ingress }: FlowExplanation): string {
  const withoutMisses = (of: DirectionExplanation): unknown =>
    of.reason === 'refused' ? { reason: of.reason, isolatedBy: of.isolatedBy } : of;
  return JSON.stringify([withoutMisses(egress), withoutMisses(ingress)]);
}

/** One explanation for two that have the same {@link coarseKey}. */
export function uniteExplanations(a: FlowExplanation, b: FlowExplanation): FlowExplanation {
  return { allowed: a.allowed, egress: uniteDirections(a.egress, b.egress), ingress: uniteDirections(a.ingress, b.ingress) };
}

function uniteDirections(a: DirectionExplanation, b: DirectionExplanation): DirectionExplanation {
  if (a.reason !== 'refused' || b.reason !== 'refused' || a === b) return a;
  const faults = ({ misses }: typeof a): number => misses[0]?.faults.length ?? 0;
  return { ...(faults(b) < faults(a) ? b : a), missesVary: true };
}

/** Of each policy the first, which is the nearest. */
function nearestOfEach(world: World, question: Question, direction: Direction): Miss[] {
  const seen = new Set<Policy>();
  return missesOf(world, question, direction).filter(({ policy }) => !seen.has(policy) && seen.add(policy));
}

function explainMiss(inventory: Explained, { policy, rule, peer, faults }: Miss, direction: Direction): MissExplanation {
  // Where nothing but the port is amiss, the ports are what to look at.
  const isAboutPorts = faults.every(({ kind }) => kind === 'port' || kind === 'portless' || kind === 'ports-unreadable');
  const path = rule !== undefined && isAboutPorts ? `spec.${direction}[${rule}].ports` : pathOf(direction, rule, peer);
  return {
    ...partOf(inventory, policy, path),
    faults: faults.map((fault) => ({ kind: fault.kind, text: describeFault(fault, direction) })),
  };
}

function pathOf(direction: Direction, rule: number | undefined, peer: number | undefined): string {
  if (rule === undefined) return 'spec';
  const side = direction === 'ingress' ? 'from' : 'to';
  return peer === undefined ? `spec.${direction}[${rule}]` : `spec.${direction}[${rule}].${side}[${peer}]`;
}

function nameOf({ namespace, name }: Policy): PolicyName {
  return { namespace, name };
}

/** Finding the line costs a look at the whole file, and many flows end at the same parts. */
const parts = new WeakMap<Explained, Map<Policy, Map<string, PartOfPolicy>>>();

function partOf(inventory: Explained, policy: Policy, path: string): PartOfPolicy {
  const ofInventory = ensure(parts, inventory, () => new Map<Policy, Map<string, PartOfPolicy>>());
  const ofPolicy = ensure(ofInventory, policy, () => new Map<string, PartOfPolicy>());
  return ensure(ofPolicy, path, () => readPart(inventory, policy, path));
}

function ensure<K extends object | string, V>(
  map: { get(key: K): V | undefined; set(key: K, value: V): unknown },
  key: K,
  make: () => V,
): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

function readPart(inventory: Explained, policy: Policy, path: string): PartOfPolicy {
  const written = inventory.written(policy);
  const { file, line } = written?.place(path) ?? {};
  const yaml = written && yamlAt(written, path);
  return {
    policy: nameOf(policy),
    path,
    ...(file === undefined ? {} : { file }),
    ...(line === undefined ? {} : { line }),
    ...(yaml === undefined ? {} : { yaml }),
  };
}

/** An item of a list with its dash, a field with its name. */
function yamlAt({ spec }: WrittenPolicy, path: string): string | undefined {
  if (path === 'spec') return undefined;
  let value: unknown = { spec };
  let key = '';
  let isItem = false;
  for (key of parsePath(path)) {
    isItem = Array.isArray(value);
    value = Array.isArray(value) ? (value[Number(key)] as unknown) : isFields(value) ? value[key] : undefined;
  }
  if (value === undefined) return undefined;
  const lines = stringify(isItem ? [value] : { [key]: value }, { lineWidth: 0, aliasDuplicateObjects: false })
    .trimEnd()
    .split('\n');
  if (lines.length <= YAML_LINES_MAX) return lines.join('\n');
  return [...lines.slice(0, YAML_LINES_MAX), `# … and ${lines.length - YAML_LINES_MAX} lines more`].join('\n');
}
