/**
 * Label selectors (metav1.LabelSelector): reading them as untrusted data, bringing them into canonical form, matching.
 *
 * The canonical form is complete: whatever is asked of one key is reduced to one of `in`, `notin` with or without "is there", or
 * "is not there". Selectors that match the same labels therefore have the same text, and share one set in the kernel; only what
 * can match nothing keeps the key that contradicts itself, for people to see.
 */
import { compact } from './compact.ts';
import { type Labels, TOO_MANY_LABELS } from './labels.ts';
import type { Problem } from './objects.ts';
import { inPath, isAbsent, isFields, problem, quote, typeName, unknownFields } from './problems.ts';

/** `values` is sorted and without repetition; empty for Exists and DoesNotExist. matchLabels are `In` with one value. */
export interface Requirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
}

/** All requirements have to hold; none: everything matches. */
export interface Selector {
  readonly requirements: readonly Requirement[];
  /** The same for selectors that mean the same: sorted, as `kubectl get -l` would take it. Empty for {@link EVERYTHING}. */
  readonly text: string;
}

/** The empty selector. */
export const EVERYTHING: Selector = { requirements: [], text: '' };

/** Either the selector, or why there is none. Then the caller fails closed: a peer matches nothing, a subject is everyone. */
export type SelectorReading =
  | { readonly selector: Selector; readonly problems?: undefined }
  | { readonly selector?: undefined; readonly problems: readonly Problem[] };

/** Whether the labels meet all requirements. `NotIn` and `DoesNotExist` hold for a key that is not there (row 8). */
export function matches(selector: Selector, labels: Labels): boolean {
  if (labels === TOO_MANY_LABELS) return false;
  for (const { key, operator, values } of selector.requirements) {
    const value = labels.get(key);
    switch (operator) {
      case 'In':
        // Row 10: an empty value has to be there; a key that is not there has none.
        if (value === undefined || !isAmong(values, value)) return false;
        break;
      case 'NotIn':
        if (value !== undefined && isAmong(values, value)) return false;
        break;
      case 'Exists':
        if (value === undefined) return false;
        break;
      case 'DoesNotExist':
        if (value !== undefined) return false;
        break;
    }
  }
  return true;
}

/** Whether a policy of this subject selects a pod of its namespace that has these labels; each does where there are too many of them. */
export function selects(subject: Selector, labels: Labels): boolean {
  return labels === TOO_MANY_LABELS || matches(subject, labels);
}

/** So few are looked at one after the other. */
const FEW_VALUES = 8;

/** @param values sorted: there may be thousands, and every pod is asked */
function isAmong(values: readonly string[], value: string): boolean {
  if (values.length <= FEW_VALUES) return values.includes(value);
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] ?? '') < value) low = middle + 1;
    else high = middle;
  }
  return values[low] === value;
}

/**
 * Reads a metav1.LabelSelector found at `path`, with the checks of apimachinery's ValidateLabelSelector: known operators, values
 * with In and NotIn and only there, keys and values of label syntax. One fault makes the whole selector unreadable, since a
 * selector with a requirement left out would match more than its author meant.
 */
export function readSelector(value: unknown, path: string): SelectorReading {
  if (!isFields(value)) {
    return { problems: [problem(path, 'SELECTOR_INVALID', `a selector is an object, not ${typeName(value)}; ${CONSEQUENCE}`)] };
  }
  const problems: Problem[] = unknownFields(value, path, ['matchLabels', 'matchExpressions'], CONSEQUENCE);
  const requirements = [
    ...readMatchLabels(value['matchLabels'], `${path}.matchLabels`, problems),
    ...readMatchExpressions(value['matchExpressions'], `${path}.matchExpressions`, problems),
  ];
  return problems.length > 0 ? { problems } : { selector: shared(selectorOf(requirements)) };
}

/**
 * Selectors that were read, by their text, which is as good as the selector where its syntax is right. Ten thousand policies have a
 * few hundred between them, and take a quarter less memory for it.
 */
const recent = new Map<string, Selector>();
/** When there are so many, all are forgotten: that costs sharing, and nothing else. */
const RECENT_SELECTORS = 4_096;
/** Characters. One that is longer is its author's alone, and would stay here when its policy is gone. */
const RECENT_TEXT = 1_000;

function shared(selector: Selector): Selector {
  if (selector.text.length > RECENT_TEXT) return selector;
  const known = recent.get(selector.text);
  if (known !== undefined) return known;
  if (recent.size >= RECENT_SELECTORS) recent.clear();
  recent.set(selector.text, selector);
  return selector;
}

/** The selector of these requirements in canonical form. Their syntax is the caller's affair. */
export function selectorOf(requirements: readonly Requirement[]): Selector {
  const byKey = new Map<string, Requirement[]>();
  for (const requirement of requirements) {
    const others = byKey.get(requirement.key);
    if (others === undefined) byKey.set(requirement.key, [requirement]);
    else others.push(requirement);
  }
  const canonical: Requirement[] = [];
  for (const key of [...byKey.keys()].sort()) {
    const reduced = reduce(key, byKey.get(key) ?? []);
    if (reduced === 'contradiction') {
      const nothing: Requirement[] = [
        { key, operator: 'Exists', values: [] },
        { key, operator: 'DoesNotExist', values: [] },
      ];
      return { requirements: nothing, text: formatRequirements(nothing) };
    }
    for (const each of reduced) canonical.push(each);
  }
  return canonical.length === 0 ? EVERYTHING : { requirements: compact(canonical), text: formatRequirements(canonical) };
}

const CONSEQUENCE = 'the selector cannot be used';

/** Name part and values: RFC 1123 letters and digits at both ends, dots, dashes and underscores between, 63 at most. */
const LABEL_NAME = /^(?=.{1,63}$)[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const DNS_SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** `name` or `prefix/name`, as apimachinery's IsQualifiedName has it. */
export function isLabelKey(text: string): boolean {
  const parts = text.split('/');
  const [first = '', second] = parts;
  if (second === undefined) return LABEL_NAME.test(first);
  return parts.length === 2 && DNS_SUBDOMAIN.test(first) && LABEL_NAME.test(second);
}

/** As apimachinery's IsValidLabelValue: empty, or like a name. */
export function isLabelValue(text: string): boolean {
  return text === '' || LABEL_NAME.test(text);
}

function readMatchLabels(value: unknown, path: string, problems: Problem[]): Requirement[] {
  if (isAbsent(value)) return [];
  if (!isFields(value)) {
    problems.push(problem(path, 'SELECTOR_INVALID', `matchLabels is an object of labels, not ${typeName(value)}; ${CONSEQUENCE}`));
    return [];
  }
  return Object.entries(value).flatMap(([key, label]) => {
    const at = `${path}[${inPath(key)}]`;
    checkKey(key, at, problems);
    return checkValue(label, at, problems) ? [{ key, operator: 'In' as const, values: [label] }] : [];
  });
}

function readMatchExpressions(value: unknown, path: string, problems: Problem[]): Requirement[] {
  if (isAbsent(value)) return [];
  if (!Array.isArray(value)) {
    problems.push(problem(path, 'SELECTOR_INVALID', `matchExpressions is a list, not ${typeName(value)}; ${CONSEQUENCE}`));
    return [];
  }
  return value.flatMap((expression: unknown, index) => readExpression(expression, `${path}[${index}]`, problems) ?? []);
}

function readExpression(value: unknown, path: string, problems: Problem[]): Requirement | undefined {
  if (!isFields(value)) {
    problems.push(
      problem(path, 'SELECTOR_INVALID', `an expression has key, operator and values; this is ${typeName(value)}; ${CONSEQUENCE}`),
    );
    return undefined;
  }
  for (const each of unknownFields(value, path, ['key', 'operator', 'values'], CONSEQUENCE)) problems.push(each);
  const { key, operator } = value;
  if (typeof key !== 'string') {
    problems.push(problem(`${path}.key`, 'LABEL_KEY_INVALID', `the key of a label is text, not ${typeName(key)}; ${CONSEQUENCE}`));
  } else {
    checkKey(key, `${path}.key`, problems);
  }
  const values = readValues(value['values'], `${path}.values`, problems);
  if (operator === 'In' || operator === 'NotIn') {
    if (values?.length === 0) {
      problems.push(problem(`${path}.values`, 'SELECTOR_VALUES_MISSING', `${operator} needs at least one value; ${CONSEQUENCE}`));
    }
  } else if (operator === 'Exists' || operator === 'DoesNotExist') {
    if (values !== undefined && values.length > 0) {
      problems.push(problem(`${path}.values`, 'SELECTOR_VALUES_FORBIDDEN', `${operator} takes no values; ${CONSEQUENCE}`));
    }
  } else {
    const known = 'In, NotIn, Exists and DoesNotExist';
    problems.push(
      problem(`${path}.operator`, 'SELECTOR_OPERATOR_UNKNOWN', `the operators are ${known}, not ${quote(operator)}; ${CONSEQUENCE}`),
    );
    return undefined;
  }
  return typeof key === 'string' && values !== undefined ? { key, operator, values } : undefined;
}

/** Undefined where there are values that cannot be read. */
function readValues(value: unknown, path: string, problems: Problem[]): string[] | undefined {
  if (isAbsent(value)) return [];
  if (!Array.isArray(value)) {
    problems.push(problem(path, 'SELECTOR_INVALID', `values is a list, not ${typeName(value)}; ${CONSEQUENCE}`));
    return undefined;
  }
  const values: string[] = [];
  for (const [index, item] of value.entries()) {
    if (checkValue(item, `${path}[${index}]`, problems)) values.push(item);
  }
  return values.length === value.length ? values : undefined;
}

function checkKey(key: string, path: string, problems: Problem[]): void {
  if (isLabelKey(key)) return;
  problems.push(
    problem(path, 'LABEL_KEY_INVALID', `${quote(key)} cannot be the key of a label; ${CONSEQUENCE}. Right are app and example.com/app`),
  );
}

function checkValue(value: unknown, path: string, problems: Problem[]): value is string {
  if (typeof value !== 'string') {
    const hint = typeof value === 'number' || typeof value === 'boolean' ? `: write it in quotes, as "${value}"` : '';
    problems.push(problem(path, 'LABEL_VALUE_INVALID', `the value of a label is text, not ${typeName(value)}${hint}; ${CONSEQUENCE}`));
    return false;
  }
  if (isLabelValue(value)) return true;
  const rule = 'letters, digits, "-", "_" and ".", at most 63, with a letter or digit at both ends, or empty';
  problems.push(problem(path, 'LABEL_VALUE_INVALID', `${quote(value)} cannot be the value of a label (${rule}); ${CONSEQUENCE}`));
  return false;
}

/** All that is asked of one key, in its shortest form. */
function reduce(key: string, requirements: readonly Requirement[]): Requirement[] | 'contradiction' {
  let allowed: Set<string> | undefined;
  const excluded = new Set<string>();
  let [present, absent] = [false, false];
  for (const { operator, values } of requirements) {
    switch (operator) {
      case 'In':
        allowed = allowed === undefined ? new Set(values) : allowed.intersection(new Set(values));
        break;
      case 'NotIn':
        for (const value of values) excluded.add(value);
        break;
      case 'Exists':
        present = true;
        break;
      case 'DoesNotExist':
        absent = true;
        break;
    }
  }
  if (allowed !== undefined) {
    const left = [...allowed.difference(excluded)].sort();
    return absent || left.length === 0 ? 'contradiction' : [{ key, operator: 'In', values: left }];
  }
  // NotIn holds where the key is not there, so DoesNotExist says it all.
  if (absent) return present ? 'contradiction' : [{ key, operator: 'DoesNotExist', values: [] }];
  const reduced: Requirement[] = present ? [{ key, operator: 'Exists', values: [] }] : [];
  if (excluded.size > 0) reduced.push({ key, operator: 'NotIn', values: [...excluded].sort() });
  return reduced;
}

function formatRequirements(requirements: readonly Requirement[]): string {
  return requirements.map(formatRequirement).join(',');
}

function formatRequirement({ key, operator, values }: Requirement): string {
  if (operator === 'Exists') return key;
  if (operator === 'DoesNotExist') return `!${key}`;
  const isIn = operator === 'In';
  const [only = ''] = values;
  return values.length === 1 ? `${key}${isIn ? '=' : '!='}${only}` : `${key} ${isIn ? 'in' : 'notin'} (${values.join(',')})`;
}
