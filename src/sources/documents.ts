/**
 * The text of a manifest file, split into documents: plain JSON values, and where in the text each field stands.
 *
 * YAML is read as Kubernetes reads it, which is YAML 1.1: `yes`, `on` and `y` are booleans, `0644` is octal, and a key may not
 * stand twice. Timestamps stay strings. JSON is read as JSON (some hundred times faster): of a key that stands twice the last counts.
 */
import { isNode, isPair, isScalar, isSeq, isMap, LineCounter, parseAllDocuments } from 'yaml';
import type { Document, Node, ParsedNode, ScalarTag, CollectionTag, Tags } from 'yaml';
import { JsonLines } from './json-lines.ts';
import { type PathSegment, parsePath } from './field-path.ts';

export interface ManifestDocument {
  /** From 1. */
  readonly number: number;
  /** A JSON value; nothing in it refers to the text it was read from. Null: the document is empty. */
  readonly value: unknown;
  /** Syntax errors: then `value` is not to be used. */
  readonly errors: readonly SyntaxFault[];
  /** The 1-based line of the field at a path as the API writes it (`spec.ingress[0].from`), or of the deepest part of it that is there. */
  line(path: string): number;
}

export interface SyntaxFault {
  readonly line: number;
  readonly message: string;
}

/**
 * Never throws: what is wrong with a document is in its errors.
 *
 * @param matters whether a YAML document has to be read at all, by its text; others are left out of the result
 */
export function readDocuments(text: string, matters?: (text: string) => boolean): ManifestDocument[] {
  const json = readJson(text);
  if (json !== undefined) return json;
  const pieces = matters === undefined ? undefined : splitYaml(text);
  if (matters === undefined || pieces === undefined) return readYaml(text);
  return pieces.flatMap(({ text: piece, line, number }) => {
    if (!matters(piece)) return [];
    return readYaml(piece).map((document) => ({
      ...document,
      number,
      errors: document.errors.map((error) => ({ ...error, line: error.line + line - 1 })),
      line: (path: string) => document.line(path) + line - 1,
    }));
  });
}

interface Piece {
  readonly text: string;
  /** The 1-based line that it begins at. */
  readonly line: number;
  readonly number: number;
}

/**
 * The documents of a YAML text, each by itself: `---` at the beginning of a line separates them, and can be nothing else there (YAML 1.2,
 * c-forbidden). Undefined where they share directives or end before the next begins.
 */
function splitYaml(text: string): Piece[] | undefined {
  if (/^(?:%|\.\.\.(?:\s|$))/mu.test(text)) return undefined;
  const starts = [...text.matchAll(/^---(?=\s|$)/gmu)].map(({ index }) => index);
  const [first = text.length] = starts;
  // What is ahead of the first separator is a document if it says anything.
  const isDocument = /^[^\S\n]*[^\s#]/mu.test(text.slice(0, first));
  const pieces: Piece[] = [];
  let [line, at] = [1, 0];
  for (const [index, start] of (isDocument ? [0, ...starts] : starts).entries()) {
    for (let feed = text.indexOf('\n', at); feed >= 0 && feed < start; feed = text.indexOf('\n', at)) [line, at] = [line + 1, feed + 1];
    const end = starts[isDocument ? index : index + 1] ?? text.length;
    pieces.push({ text: text.slice(start, end), line, number: index + 1 });
  }
  return pieces;
}

function readJson(text: string): ManifestDocument[] | undefined {
  if (!/^\s*[{[]/u.test(text)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    const lines = new JsonLines(text);
    return [{ number: 1, value, errors: [], line: (path) => lines.line(parsePath(path)) }];
  } catch {
    // YAML's flow style, or JSON with a mistake: the YAML parser says where it is.
    return undefined;
  }
}

/** Tags of YAML 1.1 that Kubernetes' parser does not resolve, or resolves to strings. */
const UNRESOLVED_TAGS: ReadonlySet<string> = new Set(
  ['timestamp', 'binary', 'set', 'omap', 'pairs'].map((name) => `tag:yaml.org,2002:${name}`),
);

function kubernetesTags(tags: Tags): Tags {
  // Format TIME: sexagesimal numbers (1:20), which Kubernetes' parser leaves out on purpose.
  const isResolved = (tag: ScalarTag | CollectionTag): boolean =>
    !UNRESOLVED_TAGS.has(tag.tag) && !('format' in tag && tag.format === 'TIME');
  return tags.filter((tag) => typeof tag === 'string' || isResolved(tag));
}

function readYaml(text: string): ManifestDocument[] {
  const lines = new LineCounter();
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  let parsed;
  try {
    parsed = parseAllDocuments(text, { version: '1.1', customTags: kubernetesTags, prettyErrors: false, lineCounter: lines });
  } catch (error) {
    // The parser recurses, and runs out of stack where lists are nested thousands deep.
    return [{ number: 1, value: null, errors: [{ line: 1, message: messageOf(error) }], line: () => 1 }];
  }
  // Nothing but blanks and comments.
  if ('empty' in parsed) return [];
  return parsed.map((document, i) => {
    const read = document.errors.length > 0 ? faulty(document, lineAt) : toJson(document, lineAt);
    return { ...read, number: i + 1 };
  });
}

type Numberless = Omit<ManifestDocument, 'number'>;

function faulty(document: Pick<Document.Parsed, 'errors' | 'range'>, lineAt: (offset: number) => number): Numberless {
  const errors = document.errors.map(({ pos, message }) => ({ line: lineAt(pos[0]), message }));
  return { value: null, errors, line: () => errors[0]?.line ?? lineAt(document.range[0]) };
}

function toJson(document: Document.Parsed, lineAt: (offset: number) => number): Numberless {
  const start = lineAt(document.contents?.range[0] ?? document.range[0]);
  try {
    // Through JSON text: values become plain (no NaN, no cycles), and strings are copies instead of slices that keep the file alive.
    const value: unknown = JSON.parse(JSON.stringify(document.toJS()) ?? 'null');
    return { value, errors: [], line: (path) => lineAt(offsetOf(document.contents, parsePath(path)) ?? document.range[0]) };
  } catch (error) {
    // An alias without anchor, one that contains itself, or so many that they are an attack (yaml's maxAliasCount).
    return { value: null, errors: [{ line: start, message: messageOf(error) }], line: () => start };
  }
}

function messageOf(error: unknown): string {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n', 1);
  return line;
}

/** Where the field's key stands (a list's entry: where it begins), as deep as the path can be followed. */
function offsetOf(root: ParsedNode | null, path: readonly PathSegment[]): number | undefined {
  let node: Node | null = root;
  let offset = root?.range[0];
  for (const segment of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === segment);
      if (!isPair(pair) || !isNode(pair.key)) return offset;
      offset = pair.key.range?.[0] ?? offset;
      node = isNode(pair.value) ? pair.value : null;
    } else if (isSeq(node)) {
      const item: unknown = node.items[Number(segment)];
      if (!isNode(item)) return offset;
      offset = item.range?.[0] ?? offset;
      node = item;
    } else return offset;
  }
  return offset;
}
