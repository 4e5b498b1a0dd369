/** Labels of objects, and telling equal ones from others without building a text of them: there are as many as pods. */

/** A Map, so that no key is special. */
export type Labels = ReadonlyMap<string, string>;

/** So many labels of one object are carried: each costs every agent some hundred bytes, and the API takes tens of thousands. */
export const LABELS_MAX = 100;

/**
 * What an object has whose labels are more. No selector of a peer matches it, whatever the selector is about, and every policy of its namespace
 * selects it (`selects` in selector.ts): a part of its labels would make it what its author did not mean. No key is empty in the API, so that
 * these are nobody else's.
 */
export const TOO_MANY_LABELS: Labels = new Map([['', 'more labels than are carried']]);

/**
 * Equal for equal labels, whatever their order; a small integer, which V8 holds without an object. Labels that differ may share one:
 * {@link sameLabels} decides.
 */
export function hashOfLabels(labels: Labels): number {
  let sum = 0;
  // A sum, because the order of labels has no meaning.
  for (const [key, value] of labels) sum = (sum + hashOfText(value, hashOfText(key, FNV_OFFSET_BASIS))) | 0;
  // 31 bits: what is a small integer on every build of V8.
  return sum >>> 1;
}

export function sameLabels(a: Labels, b: Labels): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}

/**
 * FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/, of UTF-16 code units, as a signed integer; the length keeps `a`, `bc` and `ab`, `c`
 * apart. Not for what somebody may want to collide.
 */
export function hashOfText(text: string, seed: number): number {
  let hash = seed ^ text.length;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), FNV_PRIME);
  return hash;
}

const FNV_OFFSET_BASIS = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
