/**
 * The lines of fields in a JSON text. Nothing is noted while parsing, and a field is looked for in the text when it is asked for. JSON files
 * may be large (a dump of a whole cluster): where the members of the text's object and the entries of its lists begin is remembered, so that
 * asking for each object of a list costs what the text is long, and not that for every object.
 */
import type { PathSegment } from './field-path.ts';

/** `offset`: where the key (of a list: the entry) begins. */
interface Child {
  readonly offset: number;
  readonly value: number;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const BRACE_OPEN = 0x7b;
const BRACE_CLOSE = 0x7d;
const BRACKET_OPEN = 0x5b;
const BRACKET_CLOSE = 0x5d;

/** How deep in the text children are remembered: those of the object itself, and of its lists. */
const REMEMBERED_DEPTH = 2;

export class JsonLines {
  readonly #text: string;
  /** By where their object begins. */
  readonly #members = new Map<number, ReadonlyMap<string, Child>>();
  /** By where their list begins. */
  readonly #entries = new Map<number, readonly number[]>();
  /** Offsets of the line feeds. */
  #feeds: readonly number[] | undefined;

  /** @param text valid JSON */
  constructor(text: string) {
    this.#text = text;
  }

  /** 1-based line of the field, or of the deepest part of the path that is there. */
  line(path: readonly PathSegment[]): number {
    const offset = this.#offset(path);
    this.#feeds ??= feedsOf(this.#text);
    return 1 + countBelow(this.#feeds, offset);
  }

  #offset(path: readonly PathSegment[]): number {
    let at = skipBlanks(this.#text, 0);
    let found = at;
    for (const [depth, segment] of path.entries()) {
      const child = this.#child(at, segment, depth < REMEMBERED_DEPTH);
      if (child === undefined) return found;
      found = child.offset;
      at = child.value;
    }
    return found;
  }

  #child(at: number, segment: PathSegment, remember: boolean): Child | undefined {
    const first = this.#text.charCodeAt(at);
    if (first === BRACE_OPEN) {
      const members = this.#members.get(at) ?? membersOf(this.#text, at);
      if (remember) this.#members.set(at, members);
      return members.get(segment);
    }
    if (first !== BRACKET_OPEN) return undefined;
    const entries = this.#entries.get(at) ?? entriesOf(this.#text, at);
    if (remember) this.#entries.set(at, entries);
    const offset = entries[Number(segment)];
    return offset === undefined ? undefined : { offset, value: offset };
  }
}

function feedsOf(text: string): number[] {
  const feeds: number[] = [];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) feeds.push(at);
  return feeds;
}

/** How many of the ascending numbers are below `limit`. */
function countBelow(numbers: readonly number[], limit: number): number {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((numbers[middle] ?? 0) < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Of a key that stands twice the last, as JSON.parse takes it. */
function membersOf(text: string, object: number): Map<string, Child> {
  const members = new Map<string, Child>();
  let at = skipBlanks(text, object + 1);
  while (text.charCodeAt(at) === QUOTE) {
    const end = skipString(text, at);
    const value = skipBlanks(text, skipBlanks(text, end) + 1);
    const key: unknown = JSON.parse(text.slice(at, end));
    if (typeof key === 'string') members.set(key, { offset: at, value });
    at = skipBlanks(text, skipValue(text, value));
    if (text.charCodeAt(at) === COMMA) at = skipBlanks(text, at + 1);
  }
  return members;
}

function entriesOf(text: string, list: number): number[] {
  const entries: number[] = [];
  let at = skipBlanks(text, list + 1);
  while (at < text.length && text.charCodeAt(at) !== BRACKET_CLOSE) {
    entries.push(at);
    at = skipBlanks(text, skipValue(text, at));
    if (text.charCodeAt(at) === COMMA) at = skipBlanks(text, at + 1);
  }
  return entries;
}

/** The offset after the value that begins at `at`. */
function skipValue(text: string, at: number): number {
  const first = text.charCodeAt(at);
  if (first === QUOTE) return skipString(text, at);
  if (first !== BRACE_OPEN && first !== BRACKET_OPEN) {
    while (at < text.length && !endsValue(text.charCodeAt(at))) at++;
    return at;
  }
  let depth = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = skipString(text, at);
      continue;
    }
    at++;
    if (code === BRACE_OPEN || code === BRACKET_OPEN) depth++;
    else if ((code === BRACE_CLOSE || code === BRACKET_CLOSE) && --depth === 0) break;
  }
  return at;
}

function endsValue(code: number): boolean {
  return code === COMMA || code === BRACE_CLOSE || code === BRACKET_CLOSE || isBlank(code);
}

/** The offset after the string whose quote is at `at`. */
function skipString(text: string, at: number): number {
  for (at++; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) break;
    if (code === BACKSLASH) at++;
  }
  return at + 1;
}

function skipBlanks(text: string, at: number): number {
  while (isBlank(text.charCodeAt(at))) at++;
  return at;
}

/** As RFC 8259 has it; NaN, behind the end, is none. */
function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}
