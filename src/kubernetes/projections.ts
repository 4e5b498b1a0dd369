/**
 * API objects, untrusted (`unknown`), to the few fields that policy is made of. Both sources read through here, so that an object
 * means the same whether it came from the API or from a file.
 *
 * A field of the wrong type is a problem with its path. Where the object without that field still admits no more than was meant,
 * it is left out; otherwise the object is refused, and the caller keeps its last good state (each kind's file says which is which).
 * Nothing of the parsed JSON is kept alive, and equal parts are shared.
 *
 * The fields are checked by hand and not by a schema, because what is wrong has to fail part by part: a schema takes or refuses
 * the whole. A pod of three containers takes some 10 us (a zod schema of its shape alone, 4), and some 430 bytes (two addresses).
 */
import type { Namespace, Node, Pod, Policy, Problem } from '../policy/objects.ts';
import { type Fields, isAbsent, isFields, typeName } from '../policy/problems.ts';
import { readMetadata, readName, readNamespace } from './metadata.ts';
import { projectNamespace } from './namespace.ts';
import { projectPolicy } from './network-policy.ts';
import { projectNode } from './node.ts';
import { projectPod } from './pod.ts';
import { faultOf, Report } from './report.ts';
import type { Sharing } from './sharing.ts';

/** What each kind is projected to. */
export interface ObjectOfKind {
  Pod: Pod;
  Namespace: Namespace;
  Node: Node;
  NetworkPolicy: Policy;
}
export type ObjectKind = keyof ObjectOfKind;

/** A projected object; `key` is `namespace/name`, or `name` of what has no namespace. */
export type ClusterObject = {
  readonly [K in ObjectKind]: { readonly kind: K; readonly key: string; readonly object: ObjectOfKind[K] };
}[ObjectKind];

export interface Projection<T> {
  /** Absent: refused. Whoever holds the object's last good state keeps it. */
  readonly object?: T;
  /** Which object it is, wherever that can be read, refused or not. */
  readonly key?: string;
  readonly problems: readonly Problem[];
}

interface KindOfObject<T> {
  /** As the API writes it: `v1`, `networking.k8s.io/v1`. */
  readonly apiVersion: string;
  readonly namespaced: boolean;
  /** Undefined only if the report is refused. */
  readonly project: (object: Readonly<Record<string, unknown>>, report: Report, sharing: Sharing) => T | undefined;
}

/** The kinds that are read. Another kind is one file beside these and one line here. */
export const KINDS: { readonly [K in ObjectKind]: KindOfObject<ObjectOfKind[K]> } = {
  Namespace: { apiVersion: 'v1', namespaced: false, project: projectNamespace },
  Node: { apiVersion: 'v1', namespaced: false, project: projectNode },
  Pod: { apiVersion: 'v1', namespaced: true, project: projectPod },
  NetworkPolicy: { apiVersion: 'networking.k8s.io/v1', namespaced: true, project: projectPolicy },
};

export function isObjectKind(kind: string): kind is ObjectKind {
  return Object.hasOwn(KINDS, kind);
}

/** Reads `value` as an object of this kind; its own `kind` and `apiVersion` are not looked at (items of a typed list have none). */
export function project<K extends ObjectKind>(kind: K, value: unknown, sharing: Sharing): Projection<ObjectOfKind[K]> {
  if (!isFields(value)) {
    const fault = isAbsent(value) ? 'there is nothing' : `expected an object, not ${typeName(value)}`;
    return { problems: [{ path: '', code: 'TYPE_INVALID', message: fault }] };
  }
  const report = new Report();
  const object = projectKind(kind, value, report, sharing);
  const problems = report.problems.told();
  if (object !== undefined && !report.refused) return { object, key: keyOf(kind, object), problems };
  const key = readKey(kind, value, sharing);
  return key === undefined ? { problems } : { key, problems };
}

/** What an object makes this code throw costs that object, and no other: it is refused. */
function projectKind<K extends ObjectKind>(kind: K, value: Fields, report: Report, sharing: Sharing): ObjectOfKind[K] | undefined {
  try {
    return KINDS[kind].project(value, report, sharing);
  } catch (error) {
    report.refuse('', 'OBJECT_FAULT', faultOf(error));
    return undefined;
  }
}

/** The key of a projected object: `namespace/name`, or `name` of what has no namespace. */
export function keyOf(kind: ObjectKind, object: Pod | Namespace | Node | Policy): string {
  return KINDS[kind].namespaced && 'namespace' in object ? `${object.namespace}/${object.name}` : object.name;
}

/** The key alone, of an object that may be unreadable otherwise. */
export function readKey(kind: ObjectKind, value: unknown, sharing: Sharing): string | undefined {
  if (!isFields(value)) return undefined;
  const report = new Report();
  const metadata = readMetadata(value, report);
  const name = readName(metadata, report);
  const key = KINDS[kind].namespaced ? `${readNamespace(metadata, report, sharing)}/${name}` : name;
  return report.refused ? undefined : key;
}
