/** Labels that were probably meant: what selectors ask for and nothing carries, beside what is nearly the same and is there. */
import type { Labels } from '../labels.ts';
import type { Requirement, Selector } from '../selector.ts';

/** Which labels the objects of some scope carry: of each key the values. */
export type Vocabulary = ReadonlyMap<string, ReadonlySet<string>>;

export function vocabularyOf(all: Iterable<Labels>): Vocabulary {
  const vocabulary = new Map<string, Set<string>>();
  for (const labels of all) {
    for (const [key, value] of labels) {
      const values = vocabulary.get(key);
      if (values === undefined) vocabulary.set(key, new Set([value]));
      else values.add(value);
    }
  }
  return vocabulary;
}

/** Shorter texts are one edit away from too many others. */
const MINIMUM = 4;
/** Where nothing matches at all, a guess may be bolder. */
const BOLD = 3;

/**
 * Whether one text looks like a slip of the pen for the other: one character inserted, left out, replaced or exchanged with the next,
 * or a difference of case alone. Not where only digits differ (`web-1`, `web-2`), and not for short texts (`dev`, `des`).
 */
export function isNearMiss(a: string, b: string, minimum = MINIMUM): boolean {
  if (a === b || Math.min(a.length, b.length) < minimum) return false;
  if (a.toLowerCase() === b.toLowerCase()) return true;
  const withoutDigits = (text: string): string => text.replace(/[0-9]+/gu, '');
  return withoutDigits(a) !== withoutDigits(b) && isOneEdit(a, b);
}

function isOneEdit(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false;
  let start = 0;
  while (start < a.length && a[start] === b[start]) start++;
  const rest = (text: string, skipped: number): string => text.slice(start + skipped);
  if (a.length !== b.length) return a.length > b.length ? rest(a, 1) === rest(b, 0) : rest(a, 0) === rest(b, 1);
  return rest(a, 1) === rest(b, 1) || (a[start] === b[start + 1] && a[start + 1] === b[start] && rest(a, 2) === rest(b, 2));
}

/** Keys that people use for one and the same thing. */
const NAME_KEYS = ['app.kubernetes.io/name', 'app', 'k8s-app', 'name', 'run', 'app.kubernetes.io/component', 'app.kubernetes.io/instance'];

/** The label that was probably meant by `key=value`, which nothing carries. */
function nearLabel(key: string, value: string, vocabulary: Vocabulary, minimum: number): string | undefined {
  const values = vocabulary.get(key);
  if (values !== undefined) {
    const near = nearIn(value, values, minimum);
    if (near !== undefined) return `${key}=${near}`;
  } else {
    for (const [other, values] of vocabulary) {
      if (isNearMiss(key, other) && values.has(value)) return `${other}=${value}`;
    }
  }
  if (!NAME_KEYS.includes(key)) return undefined;
  const other = NAME_KEYS.find((other) => other !== key && vocabulary.get(other)?.has(value) === true);
  return other === undefined ? undefined : `${other}=${value}`;
}

/** The first by name, so that the answer does not depend on the order of objects. */
export function nearIn(text: string, known: Iterable<string>, minimum = MINIMUM): string | undefined {
  let best: string | undefined;
  for (const candidate of known) {
    if ((best === undefined || candidate < best) && isNearMiss(text, candidate, minimum)) best = candidate;
  }
  return best;
}

/** Requirements that nothing of the vocabulary meets, were they the only ones. */
export function unmet(selector: Selector, vocabulary: Vocabulary): Requirement[] {
  return selector.requirements.filter(({ key, operator, values }) => {
    const known = vocabulary.get(key);
    if (operator === 'In') return !values.some((value) => known?.has(value) === true);
    return operator === 'Exists' && known === undefined;
  });
}

/** Whether a selector asks for an empty value of a label that always has one (row 10); then that is what is to be said of it. */
export function isEmptyValue({ operator, values, key }: Requirement, vocabulary: Vocabulary): boolean {
  const known = vocabulary.get(key);
  return operator === 'In' && values.length === 1 && values[0] === '' && known !== undefined && !known.has('');
}

/**
 * The label that a selector, which matches nothing, was probably meant to ask for: `app=frontend`. Undefined: nothing is near.
 * @param bold whether to guess where texts are short; it is certain that nothing matches
 */
export function meantLabel(selector: Selector, vocabulary: Vocabulary, bold = true): string | undefined {
  for (const { key, operator, values } of unmet(selector, vocabulary)) {
    if (operator === 'Exists') {
      const near = nearIn(key, vocabulary.keys());
      if (near !== undefined) return near;
    }
    for (const value of values) {
      const near = nearLabel(key, value, vocabulary, bold ? BOLD : MINIMUM);
      if (near !== undefined) return near;
    }
  }
  return undefined;
}
