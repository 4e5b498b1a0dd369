/**
 * The line of a field in a JSON text. Problems are rare and JSON files may be large (a dump of a whole cluster), so nothing is
 * noted while parsing; the one field that has a problem is looked for in the text afterwards.
 */
import type { PathSegment } from './field-path.ts';

/** 1-based line of the field, or of the deepest part of the path that is there. `text` is valid JSON. */
export function lineInJson(text: string, path: readonly PathSegment[]): number {
  const offset = offsetInJson(text, path);
  let line = 1;
  for (let i = text.indexOf('\n'); i >= 0 && i < offset; i = text.indexOf('\n', i + 1)) line++;
  return line;
}

function offsetInJson(text: string, path: readonly PathSegment[]): number {
  let at = skipBlanks(text, 0);
  let found = at;
  for (const segment of path) {
    const child = text[at] === '{' ? memberOf(text, at, segment) : text[at] === '[' ? elementOf(text, at, Number(segment)) : undefined;
    if (child === undefined) return found;
    found = child.offset;
    at = child.value;
  }
  return found;
}

/** `offset`: where the key (of a list: the entry) begins. */
interface Child {
  readonly offset: number;
  readonly value: number;
}

/** Of a key that stands twice the last, as JSON.parse takes it. */
function memberOf(text: string, object: number, name: string): Child | undefined {
  let found: Child | undefined;
  let at = skipBlanks(text, object + 1);
  while (text[at] === '"') {
    const end = skipString(text, at);
    const value = skipBlanks(text, skipBlanks(text, end) + 1);
    if (JSON.parse(text.slice(at, end)) === name) found = { offset: at, value };
    at = skipBlanks(text, skipValue(text, value));
    if (text[at] === ',') at = skipBlanks(text, at + 1);
  }
  return found;
}

function elementOf(text: string, list: number, index: number): Child | undefined {
  let at = skipBlanks(text, list + 1);
  for (let i = 0; at < text.length && text[at] !== ']'; i++) {
    if (i === index) return { offset: at, value: at };
    at = skipBlanks(text, skipValue(text, at));
    if (text[at] === ',') at = skipBlanks(text, at + 1);
  }
  return undefined;
}

/** The offset after the value that begins at `at`. */
function skipValue(text: string, at: number): number {
  const first = text[at];
  if (first === '"') return skipString(text, at);
  if (first !== '{' && first !== '[') {
    while (at < text.length && !/[\s,\]}]/u.test(text.charAt(at))) at++;
    return at;
  }
  let depth = 0;
  while (at < text.length) {
    const character = text[at];
    if (character === '"') {
      at = skipString(text, at);
      continue;
    }
    if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    at++;
    if (depth === 0) break;
  }
  return at;
}

/** The offset after the string whose quote is at `at`. */
function skipString(text: string, at: number): number {
  for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === '\\') at++;
  return at + 1;
}

function skipBlanks(text: string, at: number): number {
  while (at < text.length && /\s/u.test(text.charAt(at))) at++;
  return at;
}
