/**
 * What a NetworkPolicy means: reads an untrusted spec once, applies the API's defaults, checks it as the API's validation does,
 * and fails closed part by part. What it promises: a part that cannot be read never admits anything and never un-isolates
 * anyone, and each such part is among the policy's problems, with the path of its field.
 *
 * Peers are read in peers.ts, ports in ports.ts, selectors in selector.ts.
 */
import { entriesOfRule, entriesOfSelector, kernelRulesOfRule, POD_BUDGET, POLICY_BUDGET } from './budget.ts';
import { compact } from './compact.ts';
import { SpecUnreadableError } from './errors.ts';
import type { Direction, Policy, Rule } from './objects.ts';
import { readPeers } from './peers.ts';
import { readPorts } from './ports.ts';
import { type Fields, isAbsent, isFields, problem, Problems, quote, typeName, unknownFields } from './problems.ts';
import { EVERYTHING, readSelector } from './selector.ts';

/**
 * Reads `spec` of the NetworkPolicy `namespace`/`name`. An absent spec is an empty one, as it is for the API: it isolates every
 * pod of its namespace for ingress. Throws {@link SpecUnreadableError}, and nothing else, where the spec is no object at all;
 * the caller then leaves the last good version of the policy in force and reports the error's problem.
 */
export function interpretPolicy(namespace: string, name: string, spec: unknown): Policy {
  const fields = isAbsent(spec) ? {} : spec;
  if (!isFields(fields)) {
    const message = `a spec is an object, not ${typeName(spec)}; the last version that could be read stays in force`;
    throw new SpecUnreadableError(problem('spec', 'TYPE_INVALID', message));
  }
  const known = ['podSelector', 'policyTypes', 'ingress', 'egress'];
  const problems = new Problems();
  problems.pushAll(unknownFields(fields, 'spec', known, 'it has no effect'));
  const subject = readSubject(fields['podSelector'], problems);
  const types = readPolicyTypes(fields, problems);
  // Rules of a direction that is not isolated have no effect, but their author hears of their faults.
  const rules = { ingress: readRules('ingress', fields['ingress'], problems), egress: readRules('egress', fields['egress'], problems) };
  const inForce = (direction: Direction): readonly Rule[] | undefined => {
    if (types[direction] === 'open') return undefined;
    return types[direction] === 'closed' ? [] : rules[direction];
  };
  return { namespace, name, subject, ingress: inForce('ingress'), egress: inForce('egress'), problems: problems.told() };
}

/** Absent: every pod of the namespace. One that cannot be read as well, so that nobody is left open who was meant. */
function readSubject(value: unknown, problems: Problems): Policy['subject'] {
  if (isAbsent(value)) return EVERYTHING;
  const entries = entriesOfSelector(value);
  if (entries > POLICY_BUDGET.entries) {
    const message = `there are ${entries} keys and values, and ${POLICY_BUDGET.entries} are carried; the policy isolates every pod of its namespace`;
    problems.push(problem('spec.podSelector', 'POLICY_TOO_LARGE', message));
    return EVERYTHING;
  }
  const reading = readSelector(value, 'spec.podSelector');
  if (reading.selector !== undefined) return reading.selector;
  problems.pushAll(
    reading.problems.map((found) => ({
      ...found,
      message: `${found.message}; until then the policy isolates every pod of its namespace`,
    })),
  );
  return EVERYTHING;
}

/** `ruled`: isolated, and the rules admit. `closed`: isolated by an entry that cannot be read, and nothing is admitted. */
type Isolation = 'open' | 'ruled' | 'closed';

function readPolicyTypes(fields: Fields, problems: Problems): Record<Direction, Isolation> {
  const { policyTypes, egress } = fields;
  // Row 1. An `egress` that is no list is written there all the same, and so isolates.
  if (isAbsent(policyTypes) || (Array.isArray(policyTypes) && policyTypes.length === 0)) {
    const hasEgress = Array.isArray(egress) ? egress.length > 0 : !isAbsent(egress);
    return { ingress: 'ruled', egress: hasEgress ? 'ruled' : 'open' };
  }
  const path = 'spec.policyTypes';
  const isolation: Record<Direction, Isolation> = { ingress: 'open', egress: 'open' };
  let isUnknown = false;
  if (!Array.isArray(policyTypes)) {
    isUnknown = true;
    problems.push(problem(path, 'TYPE_INVALID', `policyTypes is a list, not ${typeName(policyTypes)}; ${CLOSED}`));
  } else {
    for (const [index, entry] of policyTypes.entries()) {
      if (entry === 'Ingress') isolation.ingress = 'ruled';
      else if (entry === 'Egress') isolation.egress = 'ruled';
      else {
        isUnknown = true;
        const message = `the policy types are Ingress and Egress, not ${quote(entry)}; ${CLOSED}`;
        problems.push(problem(`${path}[${index}]`, 'POLICY_TYPE_UNKNOWN', message));
      }
    }
    if (policyTypes.length > 2) {
      problems.push(
        problem(path, 'POLICY_TYPES_TOO_MANY', `there are two policy types, and ${policyTypes.length} entries: name each once`),
      );
    }
  }
  // Row 39: it isolates both directions, and admits nothing in one that is not named as well.
  if (isUnknown) {
    if (isolation.ingress === 'open') isolation.ingress = 'closed';
    if (isolation.egress === 'open') isolation.egress = 'closed';
  }
  return isolation;
}

const CLOSED = 'it isolates in both directions, and admits nothing';

function readRules(direction: Direction, value: unknown, problems: Problems): Rule[] {
  // Row 2: no rules admit nothing.
  if (isAbsent(value)) return [];
  const path = `spec.${direction}`;
  if (!Array.isArray(value)) {
    problems.push(problem(path, 'TYPE_INVALID', `${direction} is a list of rules, not ${typeName(value)}; it admits nothing`));
    return [];
  }
  const rules: Rule[] = [];
  let entries = 0;
  let kernelRules = 0;
  for (const [index, rule] of (value as readonly unknown[]).entries()) {
    const at = `${path}[${index}]`;
    entries += entriesOfRule(rule, direction === 'ingress' ? 'from' : 'to');
    const over = overBudget(value.length, index, entries);
    if (over !== undefined) {
      problems.push(problem(at, 'POLICY_TOO_LARGE', `${over}; from this rule on nothing is admitted by ${path}`));
      break;
    }
    const read = readRule(direction, rule, index, at, problems);
    if (read === undefined) continue;
    kernelRules += kernelRulesOfRule(read);
    if (kernelRules > POD_BUDGET.rules) {
      const message = `with this rule there are more than the ${POD_BUDGET.rules} pairs of peers and ports that are carried; from this rule on nothing is admitted by ${path}`;
      problems.push(problem(at, 'POLICY_TOO_LARGE', message));
      break;
    }
    rules.push(read);
  }
  return compact(rules);
}

/** What is too much, and by how much; undefined: nothing is. */
function overBudget(rules: number, index: number, entries: number): string | undefined {
  if (index >= POLICY_BUDGET.rules) return `it has ${rules} rules, and ${POLICY_BUDGET.rules} are carried`;
  if (entries <= POLICY_BUDGET.entries) return undefined;
  return `with this rule there are ${entries} peers, exceptions, ports and values of selectors, and ${POLICY_BUDGET.entries} are carried`;
}

/** Undefined: a rule that cannot be read, which admits nothing. */
function readRule(direction: Direction, value: unknown, index: number, path: string, problems: Problems): Rule | undefined {
  if (!isFields(value)) {
    const hint = isAbsent(value) ? `. To admit everything, write {}` : '';
    problems.push(problem(path, 'TYPE_INVALID', `a rule is an object, not ${typeName(value)}; it admits nothing${hint}`));
    return undefined;
  }
  const peersField = direction === 'ingress' ? 'from' : 'to';
  // `to` in an ingress rule, or `form` for `from`: left out, the rule would admit everyone.
  const unknown = unknownFields(value, path, [peersField, 'ports'], 'the rule admits nothing');
  problems.pushAll(unknown);
  const peers = readPeers(value[peersField], `${path}.${peersField}`, problems);
  const ports = readPorts(value['ports'], `${path}.ports`, problems);
  return unknown.length > 0 ? undefined : { index, peers, ports };
}
