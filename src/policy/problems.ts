/**
 * What can be wrong with a NetworkPolicy, one stable code each and how bad it is; and the small vocabulary with which untrusted
 * data is looked at, and written about. Field path and words of a problem come from whoever found it.
 */
import type { Problem } from './objects.ts';

/** `error`: that part is not in force as written, and matches nothing. `warning`: it is in force, but not quite as it reads. */
export const PROBLEMS = {
  /** Not of the type the API gives this field, where no more special code fits. */
  TYPE_INVALID: 'error',
  /** A field that the API does not have here: a slip of the pen, or a version newer than this program. */
  FIELD_UNKNOWN: 'error',
  POLICY_TYPE_UNKNOWN: 'error',
  POLICY_TYPES_TOO_MANY: 'warning',
  PEER_EMPTY: 'error',
  PEER_MIXED: 'error',
  CIDR_INVALID: 'error',
  CIDR_IPV4_MAPPED: 'error',
  CIDR_HOST_BITS: 'warning',
  CIDR_LEADING_ZEROS: 'warning',
  EXCEPT_INVALID: 'error',
  EXCEPT_OUTSIDE_BLOCK: 'warning',
  EXCEPT_COVERS_BLOCK: 'warning',
  PROTOCOL_UNKNOWN: 'error',
  PORT_INVALID: 'error',
  PORT_NAME_INVALID: 'error',
  END_PORT_INVALID: 'error',
  SELECTOR_INVALID: 'error',
  SELECTOR_OPERATOR_UNKNOWN: 'error',
  SELECTOR_VALUES_MISSING: 'error',
  SELECTOR_VALUES_FORBIDDEN: 'error',
  LABEL_KEY_INVALID: 'error',
  LABEL_VALUE_INVALID: 'error',
  /** Beyond what one policy may ask of every node (budget.ts). */
  POLICY_TOO_LARGE: 'error',
  /** There are more problems than are told of one object; those of each severity that came first are. */
  PROBLEMS_MORE: 'warning',
} as const satisfies Record<string, 'error' | 'warning'>;

export type ProblemCode = keyof typeof PROBLEMS;

const SEVERITIES: ReadonlyMap<string, 'error' | 'warning'> = new Map(Object.entries(PROBLEMS));

export function problem(path: string, code: ProblemCode, message: string): Problem {
  return { path, code, message };
}

/** `error` for codes that are not of {@link PROBLEMS}. */
export function problemSeverity(code: string): 'error' | 'warning' {
  return SEVERITIES.get(code) ?? 'error';
}

/** So many problems of each severity are kept of one object. What is wrong with thousands of entries is seen from these as well. */
const KEPT = 20;

/**
 * What is wrong with one object: a bounded number of problems, and how many there are. Whoever writes objects chooses how many faults they have, and
 * others pay for each that is logged, counted or remembered.
 */
export class Problems {
  readonly #kept: Problem[] = [];
  readonly #counts = { error: 0, warning: 0 };

  push(found: Problem): void {
    // A part of the object has counted its own already.
    if (found.code === 'PROBLEMS_MORE') {
      this.#kept.push(found);
      this.#counts.warning++;
      return;
    }
    const severity = problemSeverity(found.code);
    if (this.#counts[severity]++ < KEPT) this.#kept.push(found);
  }

  pushAll(found: Iterable<Problem>): void {
    for (const each of found) this.push(each);
  }

  /** The first of them; with more, the last one says how many more there are. */
  told(): Problem[] {
    const more = this.#counts.error + this.#counts.warning - this.#kept.length;
    if (more === 0) return this.#kept;
    return [
      ...this.#kept,
      problem('', 'PROBLEMS_MORE', `there are ${more} more problems with it; of each severity the first ${KEPT} are told`),
    ];
  }
}

/** A value as it may appear in a message: on one line, without control characters, and not at any length. */
export function quote(value: unknown): string {
  const text =
    typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? JSON.stringify(value) : typeName(value);
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}

/** A key of untrusted data as it may appear in a field path. */
export function inPath(key: string): string {
  return /^[-A-Za-z0-9_./]{1,80}$/.test(key) ? key : quote(key);
}

export function typeName(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/** An object as JSON and YAML have them, of whatever fields. */
export type Fields = Readonly<Record<string, unknown>>;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** JSON's null is as good as absent, as it is for the API. */
export function isAbsent(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}

/** One problem for each field that is not among those known. */
export function unknownFields(fields: Fields, path: string, known: readonly string[], consequence: string): Problem[] {
  return Object.keys(fields)
    .filter((field) => !known.includes(field))
    .map((field) =>
      problem(
        `${path}.${inPath(field)}`,
        'FIELD_UNKNOWN',
        `there is no field ${quote(field)} here; ${consequence}. Known: ${known.join(', ')}`,
      ),
    );
}
