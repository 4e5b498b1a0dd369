/**
 * What one manifest file says: the text in, the objects it holds and everything wrong with them out. Pure; what the file said
 * before, and what other files say of the same objects, is {@link ManifestSet}'s concern.
 */
import { type ClusterObject, isObjectKind, KINDS, type ObjectKind, project } from '../kubernetes/projections.ts';
import { faultOf, found, noString, severityOf } from '../kubernetes/report.ts';
import type { Sharing } from '../kubernetes/sharing.ts';
import { type Fields, isAbsent, isFields, quote, typeName } from '../policy/problems.ts';
import { type ManifestDocument, readDocuments } from './documents.ts';
import { joinPaths } from './field-path.ts';
import type { SourceProblem } from './source.ts';

/** An object, and where the file says it. */
export interface Statement {
  readonly id: string;
  readonly object: ClusterObject;
  readonly origin: string;
  readonly line: () => number;
}

/** Something that could not be read, so that its last good state has to do. `id` is absent where nobody can tell which object it was. */
export interface Refusal {
  readonly id?: string;
  readonly problems: readonly SourceProblem[];
}

/** An object of a kind that is not read. */
export interface PassedOver {
  /** `Deployment (apps/v1)`. */
  readonly what: string;
  /** It has the name of a kind that is read, and may have been meant to count. */
  readonly alike: boolean;
  readonly origin: string;
  readonly line: number;
}

export interface Manifest {
  readonly statements: readonly Statement[];
  readonly refusals: readonly Refusal[];
  readonly passedOver: readonly PassedOver[];
  /** With objects that are in force, in the order of the text. */
  readonly problems: readonly SourceProblem[];
}

/** An object of a file as it is written there. */
export interface WrittenObject {
  readonly kind: string;
  /** Undefined where it is not said. */
  readonly apiVersion: string | undefined;
  /** Of a kind that is read. */
  readonly key?: string;
  readonly value: Fields;
  readonly origin: string;
  /** The 1-based line of a field of the object. */
  readonly line: (path: string) => number;
}

/** Told of the objects of a file, in their order, by whoever needs more of them than policy does. */
export interface ManifestVisitor {
  /** One that is read. */
  read(object: WrittenObject): void;
  /** One of another kind. Whether it is taken in all the same: then it is not reported as passed over. */
  other(object: WrittenObject): boolean;
  /** Whether a YAML document has to be read at all, by its text. Absent: all of them. */
  readonly matters?: ((text: string) => boolean) | undefined;
}

/** Unique among objects of all kinds: `Pod shop/web-0`. */
export function idOf(kind: ObjectKind, key: string): string {
  return `${kind} ${key}`;
}

/** Reads the text of the file at `path`; documents that cannot be read leave the others untouched. */
export function readManifest(path: string, text: string, sharing: Sharing, visitor?: ManifestVisitor): Manifest {
  const reader = new ManifestReader(sharing, visitor);
  const documents = readDocuments(text, visitor?.matters);
  for (const document of documents) {
    reader.read(document, documents.length > 1 ? `${path}#${document.number}` : path);
  }
  return reader;
}

/** What an item of a typed list may leave out. */
interface Inherited {
  readonly kind: string;
  readonly apiVersion: unknown;
}

/** Lists in lists are no more than a slip. What is deeper is not looked at: a text of 100 kB can hold thousands. */
const DEEPEST_LIST = 8;

class ManifestReader implements Manifest {
  readonly statements: Statement[] = [];
  readonly refusals: Refusal[] = [];
  readonly passedOver: PassedOver[] = [];
  readonly problems: SourceProblem[] = [];
  readonly #sharing: Sharing;
  readonly #visitor: ManifestVisitor | undefined;

  constructor(sharing: Sharing, visitor: ManifestVisitor | undefined) {
    this.#sharing = sharing;
    this.#visitor = visitor;
  }

  read(document: ManifestDocument, origin: string): void {
    if (document.errors.length > 0) {
      const problems = document.errors.map(
        ({ line, message }): SourceProblem => ({ severity: 'error', origin, line, path: '', code: 'SYNTAX_INVALID', message }),
      );
      this.refusals.push({ problems });
    } else if (document.value !== null) {
      try {
        this.#readObject(document.value, '', document, origin, undefined);
      } catch (error) {
        // What of the document was read before that stands; other documents and files do not hear of it.
        this.refusals.push({
          problems: [{ severity: 'error', origin, line: document.line(''), path: '', code: 'OBJECT_FAULT', message: faultOf(error) }],
        });
      }
    }
  }

  /** Whoever keeps manifests for as long as it runs has no visitor, and is not to keep their texts: the line is worked out now. */
  #lineOf(document: ManifestDocument, at: string): () => number {
    if (this.#visitor !== undefined) return () => document.line(at);
    const line = document.line(at);
    return () => line;
  }

  /** `at` is where in the document the object stands: `''`, or `items[3]` of a list. */
  #readObject(value: unknown, at: string, document: ManifestDocument, origin: string, inherited: Inherited | undefined, depth = 0): void {
    const refuse = (path: string, code: string, message: string): void => {
      const where = joinPaths(at, path);
      this.refusals.push({ problems: [{ severity: 'error', origin, line: document.line(where), path: where, code, message }] });
    };
    if (!isFields(value)) {
      refuse('', 'TYPE_INVALID', `expected an object with apiVersion, kind and metadata, not ${typeName(value)}`);
      return;
    }
    const kind = value['kind'] ?? inherited?.kind;
    const apiVersion = value['apiVersion'] ?? inherited?.apiVersion;
    if (isAbsent(kind) && isAbsent(apiVersion) && !('metadata' in value) && !('spec' in value)) {
      // Values of a chart, what a scenario expects: other files' own affair. Still a refusal, for it may have been an object before.
      const message = 'without apiVersion, kind, metadata and spec it is no Kubernetes object';
      this.refusals.push({ problems: [{ severity: 'notice', origin, line: document.line(at), path: at, code: 'NO_OBJECT', message }] });
    } else if (typeof kind !== 'string' || kind === '') {
      refuse('kind', 'KIND_MISSING', isAbsent(kind) || kind === '' ? 'the object has no kind' : noString(kind));
    } else if (kind.endsWith('List') && 'items' in value) {
      const items = value['items'];
      if (isAbsent(items)) return;
      if (!Array.isArray(items)) {
        refuse('items', 'TYPE_INVALID', `expected a list, not ${found(items)}`);
        return;
      }
      if (depth >= DEEPEST_LIST) {
        refuse('items', 'LIST_TOO_DEEP', `it is a list within ${depth} others, and what is in it is not read`);
        return;
      }
      const of = kind === 'List' ? undefined : { kind: kind.slice(0, -'List'.length), apiVersion };
      for (const [i, item] of items.entries()) this.#readObject(item, joinPaths(at, `items[${i}]`), document, origin, of, depth + 1);
    } else if (isObjectKind(kind) && !isOfAnotherGroup(apiVersion, KINDS[kind].apiVersion)) {
      this.#readKnown(kind, value, apiVersion, at, document, origin);
    } else {
      const other = { kind, apiVersion: typeof apiVersion === 'string' ? apiVersion : undefined, value, origin };
      if (this.#visitor?.other({ ...other, line: (path) => document.line(joinPaths(at, path)) }) === true) return;
      const what = typeof apiVersion === 'string' ? `${kind} (${apiVersion})` : kind;
      this.passedOver.push({ what, alike: isObjectKind(kind), origin, line: document.line(at) });
    }
  }

  #readKnown(kind: ObjectKind, value: Fields, apiVersion: unknown, at: string, document: ManifestDocument, origin: string): void {
    const { object, key, problems } = project(kind, value, this.#sharing);
    const name = key === undefined ? {} : { object: idOf(kind, key) };
    const placed = problems.map((problem): SourceProblem => {
      const path = joinPaths(at, problem.path);
      return { ...problem, ...name, severity: severityOf(problem), origin, path, line: document.line(path) };
    });
    const expected = KINDS[kind].apiVersion;
    if (apiVersion !== expected) {
      const path = joinPaths(at, 'apiVersion');
      const fault = isAbsent(apiVersion) ? 'there is no apiVersion' : `apiVersion is ${quote(apiVersion)}`;
      const message = `${fault}; the object is read as ${expected}, which is what to write`;
      placed.unshift({ ...name, severity: 'error', origin, path, line: document.line(path), code: 'API_VERSION_UNKNOWN', message });
    }
    if (object !== undefined && key !== undefined) {
      const projected = { kind, key, object } as ClusterObject; // kind and object come from one call of project
      this.statements.push({ id: idOf(kind, key), object: projected, origin, line: this.#lineOf(document, at) });
      for (const problem of placed) this.problems.push(problem);
      this.#visitor?.read({
        kind,
        apiVersion: expected,
        key,
        value,
        origin,
        line: (path) => document.line(joinPaths(at, path)),
      });
    } else {
      this.refusals.push(key === undefined ? { problems: placed } : { id: idOf(kind, key), problems: placed });
    }
  }
}

/**
 * `crd.projectcalico.org/v1` NetworkPolicy is another kind of thing, and so is `extensions/v1beta1`, which the API no longer
 * serves. Another version of the right group, or none at all, is a slip, and taking the object out of force for it would fail open.
 */
function isOfAnotherGroup(apiVersion: unknown, expected: string): boolean {
  return typeof apiVersion === 'string' && groupOf(apiVersion) !== groupOf(expected);
}

function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}
