/**
 * Kubernetes objects as a scenario's files say them: each with the place it stands at and its own text, comments included, so that
 * it can be written to the directory that agents watch as its author wrote it. Which objects they are is all that is read here.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Document, type LineCounter as Lines, LineCounter, isMap, parseAllDocuments } from 'yaml';
import { systemErrorCode } from '../errors.ts';
import { LabError } from './errors.ts';

/** Where something was said. */
export interface Place {
  /** As a person would name it: relative to where the program was started, where that is shorter. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

export interface ScenarioObject {
  readonly kind: string;
  /** Empty for what has none. */
  readonly namespace: string;
  readonly name: string;
  /** `NetworkPolicy dev/deny-all`, `Namespace dev`: the same for objects that are the same one. */
  readonly id: string;
  readonly place: Place;
  /** A JSON value. */
  readonly value: Readonly<Record<string, unknown>>;
  readonly text: string;
}

const CLUSTER_SCOPED: ReadonlySet<string> = new Set(['Namespace', 'Node']);

/** `file:line: what`. @param code `SCENARIO_…` */
export function scenarioError(code: string, place: Place, message: string, hint?: string): LabError {
  return new LabError(code, `${place.file}:${place.line}: ${message}`, { exitStatus: 2, hint });
}

export function objectId(kind: string, namespace: string, name: string): string {
  return namespace === '' ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

/**
 * Reads a reference such as `NetworkPolicy dev/deny-all` or `Namespace dev` as the id of an object; undefined where it is none.
 * An object of a kind with namespaces that is given without one is in `default`, as everywhere.
 */
export function readReference(text: string): string | undefined {
  const [, kind, namespace, name] = /^([A-Z][A-Za-z]*)\s+(?:([^\s/]+)\/)?([^\s/]+)$/u.exec(text.trim()) ?? [];
  if (kind === undefined || name === undefined) return undefined;
  if (CLUSTER_SCOPED.has(kind)) return namespace === undefined ? objectId(kind, '', name) : undefined;
  return objectId(kind, namespace ?? 'default', name);
}

/** Files below a directory that hold YAML or JSON, in the order of their paths. @throws LabError `SCENARIO_UNREADABLE` */
export function manifestFiles(directory: string): readonly string[] {
  try {
    return readdirSync(directory, { withFileTypes: true, recursive: true })
      .filter((entry) => !entry.isDirectory() && /\.(ya?ml|json)$/u.test(entry.name) && !entry.name.startsWith('.'))
      .map((entry) => join(entry.parentPath, entry.name))
      .toSorted();
  } catch (cause) {
    throw new LabError('SCENARIO_UNREADABLE', `${shown(directory)} cannot be listed: ${systemErrorCode(cause) ?? String(cause)}`, {
      cause,
    });
  }
}

export function shown(file: string): string {
  const path = relative(process.cwd(), file);
  return path === '' ? '.' : path.length < file.length ? path : file;
}

/** @throws LabError `SCENARIO_UNREADABLE` */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new LabError('SCENARIO_UNREADABLE', `${shown(file)} cannot be read: ${systemErrorCode(cause) ?? String(cause)}`, { cause });
  }
}

/** @throws LabError `SCENARIO_SYNTAX` with file and line */
export function parseYaml(file: string, text: string): { readonly documents: readonly Document.Parsed[]; readonly lines: Lines } {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { version: '1.1', prettyErrors: false, lineCounter: lines });
  if ('empty' in documents) return { documents: [], lines };
  for (const { errors } of documents) {
    for (const { pos, message } of errors) {
      throw scenarioError('SCENARIO_SYNTAX', { file: shown(file), line: lines.linePos(pos[0]).line }, message);
    }
  }
  return { documents, lines };
}

/** Every object of a file; lists are taken apart. @throws LabError `SCENARIO_SYNTAX`, `SCENARIO_OBJECT` */
export function readObjects(file: string, text = readText(file)): readonly ScenarioObject[] {
  const { documents, lines } = parseYaml(file, text);
  let start = 0;
  return documents.flatMap((document) => {
    const end = document.range[2];
    // Without the line that separates it from the one before.
    const own = text.slice(start, end).replace(/^\s*---[^\n]*\n/u, '');
    start = end;
    const place = { file: shown(file), line: lines.linePos(document.contents?.range[0] ?? document.range[0]).line };
    const value: unknown = document.toJS();
    if (value === null || value === undefined) return [];
    return expand(value, place, own);
  });
}

function expand(value: unknown, place: Place, text: string): readonly ScenarioObject[] {
  if (!isRecord(value)) throw scenarioError('SCENARIO_OBJECT', place, 'expected a Kubernetes object (a mapping with kind and metadata)');
  const { kind, items, metadata } = value;
  if (typeof kind !== 'string' || kind === '') throw scenarioError('SCENARIO_OBJECT', place, 'the object has no kind');
  if (kind.endsWith('List') && Array.isArray(items)) {
    return items.flatMap((item: unknown) => {
      const whole = isRecord(item) && item['kind'] === undefined && kind !== 'List' ? { kind: kind.slice(0, -4), ...item } : item;
      return expand(whole, place, new Document(whole).toString());
    });
  }
  const name = isRecord(metadata) ? metadata['name'] : undefined;
  if (typeof name !== 'string' || name === '') {
    const fault = name === undefined || name === null ? `the ${kind} has no metadata.name` : `the ${kind}'s metadata.name is not text`;
    throw scenarioError(
      'SCENARIO_OBJECT',
      place,
      fault,
      typeof name === 'boolean'
        ? 'YAML as Kubernetes reads it takes y, n, yes, no, on and off for booleans: put the name in quotes.'
        : undefined,
    );
  }
  const given = isRecord(metadata) ? metadata['namespace'] : undefined;
  if (given !== undefined && given !== null && typeof given !== 'string') {
    throw scenarioError('SCENARIO_OBJECT', place, `metadata.namespace of ${kind} ${name} is not text`, 'Put it in quotes.');
  }
  const namespace = CLUSTER_SCOPED.has(kind) ? '' : typeof given === 'string' && given !== '' ? given : 'default';
  return [{ kind, namespace, name, id: objectId(kind, namespace, name), place, value, text }];
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object with fields set, comments kept. */
export function withFields(
  object: ScenarioObject,
  fields: readonly (readonly [path: readonly (string | number)[], value: unknown])[],
): ScenarioObject {
  if (fields.length === 0) return object;
  const [document] = parseAllDocuments(object.text, { version: '1.1' }).filter((each) => each.contents !== null);
  if (document === undefined) return object;
  for (const [path, value] of fields) {
    const parent = path.slice(0, -1);
    // setIn would make an !!omap of a parent that is not there.
    if (parent.length > 0 && !isMap(document.getIn(parent))) document.setIn(parent, document.createNode({}));
    document.setIn(path, document.createNode(value));
  }
  const text = document.toString();
  return { ...object, text, value: document.toJS() as Record<string, unknown> };
}
