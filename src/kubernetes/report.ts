/**
 * What is found wrong while one untrusted API object is read. A finding either leaves a part out (`leaveOut`), where the object
 * without that part admits no more than its author meant, or refuses the object (`refuse`), and then the caller keeps what it
 * knew of the object before. Paths are only put together once something is wrong: reading a sound object allocates none.
 */
import type { Problem } from '../policy/objects.ts';
import { type Fields, isAbsent, isFields, Problems, problemSeverity, quote, typeName } from '../policy/problems.ts';

/** How to name a place in an object; called only to report it. */
export type PathTo = string | (() => string);

function pathText(path: PathTo): string {
  return typeof path === 'string' ? path : path();
}

export class Report {
  readonly problems = new Problems();
  /** Set by {@link refuse}, and never cleared. */
  refused = false;

  /** A part that nothing can be made of; the object stands without it. `consequence` says what that means. */
  leaveOut(path: PathTo, code: string, fault: string, consequence: string): void {
    this.problems.push({ path: pathText(path), code, message: `${fault}; ${consequence}` });
  }

  /** The object cannot be judged without this. */
  refuse(path: PathTo, code: string, fault: string): void {
    this.refused = true;
    this.problems.push({ path: pathText(path), code, message: fault });
  }

  /** A text that the object cannot do without. Absent: `fallback`. */
  neededString(fields: Fields, field: string, path: string, fallback: string): string {
    const value = fields[field];
    if (typeof value === 'string') return value;
    if (isAbsent(value)) return fallback;
    this.refuse(path, 'TYPE_INVALID', noString(value));
    return fallback;
  }

  neededBoolean(fields: Fields, field: string, path: string): boolean {
    const value = fields[field];
    if (typeof value === 'boolean') return value;
    if (!isAbsent(value)) this.refuse(path, 'TYPE_INVALID', `expected true or false, not ${found(value)}`);
    return false;
  }

  /** An object that the object cannot do without where it is there: `{}` if absent. */
  neededFields(fields: Fields, field: string, path: string): Fields {
    const value = fields[field];
    if (isFields(value)) return value;
    if (!isAbsent(value)) this.refuse(path, 'TYPE_INVALID', `expected an object, not ${found(value)}`);
    return NO_FIELDS;
  }

  /** A list; if it is none it is left out. */
  list(fields: Fields, field: string, path: PathTo, consequence: string): readonly unknown[] {
    const value = fields[field];
    if (Array.isArray(value)) return value;
    if (!isAbsent(value)) this.leaveOut(path, 'TYPE_INVALID', `expected a list, not ${found(value)}`, consequence);
    return NO_LIST;
  }
}

const NO_FIELDS: Fields = {};
const NO_LIST: readonly unknown[] = [];

/** What a defect of Sluice is called that an object has found: it stays with that object. */
export function faultOf(error: unknown): string {
  return `reading it failed, which is a defect of Sluice (${error instanceof Error ? quote(error.message) : 'of no known kind'})`;
}

/** What stands where something else was expected. */
export function found(value: unknown): string {
  if (typeof value === 'boolean' || typeof value === 'number') return `the ${typeof value} ${value}`;
  return typeof value === 'string' ? quote(value) : typeName(value);
}

/** The same for a string. YAML's surprise is named: to Kubernetes an unquoted `y` or `on` is a boolean. */
export function noString(value: unknown): string {
  const hint =
    typeof value === 'boolean'
      ? ' (an unquoted yes, no, on, off, y or n is one in YAML: quote it)'
      : typeof value === 'number'
        ? ' (quote it)'
        : '';
  return `expected a string, not ${found(value)}${hint}`;
}

/** What is in force all the same, only not quite as written; everything else this directory finds is an error. */
const ADVISORY: ReadonlySet<string> = new Set(['TIMESTAMP_INVALID', 'LABEL_RESERVED']);

/** How bad a problem of any projected object is. */
export function severityOf(problem: Problem): 'error' | 'warning' {
  return ADVISORY.has(problem.code) ? 'warning' : problemSeverity(problem.code);
}
