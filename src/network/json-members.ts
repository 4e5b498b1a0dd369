/**
 * JSON objects as Go's encoding/json reads them into a struct, which is how flanneld reads both its configuration and what other
 * nodes publish: a member belongs to a field whatever the case of its name, null leaves the field as it was, and of several
 * members for one field the last counts. JSON.parse alone cannot tell: it keeps the place of the first of two equal names.
 */
import { type Fields, isFields } from '../policy/problems.ts';

/** A member of an object. */
export interface Member {
  readonly name: string;
  readonly value: unknown;
  /** The value's own JSON. */
  readonly text: string;
}

/**
 * The members of the object that `text` holds in their order, those with equal names too; undefined where it holds no object.
 * @throws SyntaxError where it is no JSON
 */
export function readMembers(text: string): Member[] | undefined {
  if (!isFields(JSON.parse(text))) return undefined;
  const members: Member[] = [];
  let depth = 0;
  let name = '';
  let start = 0;
  // It is known to be JSON: names and values need only be found.
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]/g)) {
    if (depth === 1 && (token === ',' || token === '}') && start > 0) {
      const value = text.slice(start, index).trim();
      members.push({ name, value: JSON.parse(value), text: value });
      start = 0;
    }
    if (token === '{' || token === '[') depth++;
    else if (token === '}' || token === ']') depth--;
    else if (depth === 1 && token === ':') start = index + 1;
    else if (depth === 1 && start === 0 && token !== ',') name = JSON.parse(token) as string;
  }
  return members;
}

/**
 * Whether a member of this name is read into `field`, a word of ASCII letters and digits: equal under Unicode's simple case
 * folding, which is that of Go's and that of these regular expressions.
 */
export function belongsTo(field: string, name: string): boolean {
  return new RegExp(`^${field}$`, 'iu').test(name);
}

/** The value of the field in an object that has been parsed; undefined where it is null or absent. */
export function fieldOf(fields: Fields, field: string): unknown {
  let value: unknown;
  for (const [name, found] of Object.entries(fields)) if (found !== null && belongsTo(field, name)) value = found;
  return value;
}
