/** The objects of a change: read from files, and put in the place of those that are there, or taken away. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { DEFAULT_NAMESPACE } from '../kubernetes/metadata.ts';
import type { ClusterObject } from '../kubernetes/projections.ts';
import { Sharing } from '../kubernetes/sharing.ts';
import { isAbsent, isFields } from '../policy/problems.ts';
import type { Namespace, Node, Pod, Policy } from '../policy/objects.ts';
import { listTree } from '../sources/directory-tree.ts';
import { idOf, readManifest, type WrittenObject } from '../sources/manifest.ts';
import type { SourceProblem } from '../sources/source.ts';

/** What files say is to be applied, or deleted. */
export interface WrittenChange {
  /** Each once, in the order of the files. */
  readonly objects: readonly ClusterObject[];
  /** Errors are objects that the API would refuse. */
  readonly problems: readonly SourceProblem[];
  /** Objects whose namespace was not said, as `NetworkPolicy dev/deny-all`. */
  readonly defaulted: readonly string[];
}

/** The text of what is read from standard input (`-`) comes from here. */
export type ReadStandardInput = () => string;

/**
 * Reads files, and the manifests below directories.
 *
 * @param namespace of objects that do not say one
 * @throws SluiceError `CHANGE_UNREADABLE`, `CHANGE_EMPTY`, `CHANGE_REPEATED`
 */
export function readChange(paths: readonly string[], namespace: string, standardInput: ReadStandardInput): WrittenChange {
  const sharing = new Sharing();
  const objects = new Map<string, ClusterObject>();
  const problems: SourceProblem[] = [];
  const defaulted: string[] = [];
  const passedOver = new Set<string>();
  for (const { path, text } of textsOf(paths, standardInput)) {
    const withoutNamespace = new Set<string>();
    const visitor = {
      read: ({ kind, key = '', value }: WrittenObject): void => {
        const metadata = value['metadata'];
        if (isFields(metadata) && (isAbsent(metadata['namespace']) || metadata['namespace'] === '')) withoutNamespace.add(`${kind} ${key}`);
      },
      other: (): boolean => false,
    };
    const manifest = readManifest(path, text, sharing, visitor);
    for (const refusal of manifest.refusals) for (const problem of refusal.problems) problems.push(problem);
    for (const problem of manifest.problems) problems.push(problem);
    for (const { what, origin, line } of manifest.passedOver) {
      if (passedOver.has(what)) continue;
      passedOver.add(what);
      const message = `${what} changes nothing, here or in later files: only Pod, Namespace, Node and NetworkPolicy are looked at`;
      problems.push({ severity: 'notice', origin, line, path: '', code: 'KIND_PASSED_OVER', message });
    }
    for (const { object: written, id: writtenId, origin, line } of manifest.statements) {
      const isNamespaced = written.kind === 'Pod' || written.kind === 'NetworkPolicy';
      const lacks = isNamespaced && withoutNamespace.has(writtenId);
      const object = lacks ? inNamespace(written, namespace) : written;
      const id = idOf(object.kind, object.key);
      if (lacks) defaulted.push(id);
      if (objects.has(id)) {
        const message = 'the object is in the files more than once. Keep one of them';
        problems.push({ severity: 'error', origin, line: line(), object: id, path: '', code: 'OBJECT_REPEATED', message });
      } else objects.set(id, object);
    }
  }
  if (objects.size === 0 && !problems.some(({ severity }) => severity === 'error')) {
    throw new SluiceError('CHANGE_EMPTY', `there is no object in ${paths.join(', ')} that could change a connection`, {
      hint: 'Name files or directories with NetworkPolicies (.yaml, .yml or .json).',
      exitStatus: 2,
    });
  }
  return { objects: [...objects.values()], problems, defaulted };
}

/** `default` is what the projection gives an object that names no namespace. */
function inNamespace(object: ClusterObject, namespace: string): ClusterObject {
  if (namespace === DEFAULT_NAMESPACE || (object.kind !== 'Pod' && object.kind !== 'NetworkPolicy')) return object;
  const key = `${namespace}/${object.object.name}`;
  return object.kind === 'Pod'
    ? { kind: object.kind, key, object: { ...object.object, namespace } }
    : { kind: object.kind, key, object: { ...object.object, namespace } };
}

function* textsOf(paths: readonly string[], standardInput: ReadStandardInput): Generator<{ readonly path: string; readonly text: string }> {
  for (const path of paths) {
    if (path === '-') {
      yield { path: 'standard input', text: standardInput() };
      continue;
    }
    try {
      if (!statSync(path).isDirectory()) {
        yield { path, text: textOf(path) };
        continue;
      }
      const { files, unlisted } = listTree(path);
      const [fault] = unlisted;
      if (fault !== undefined) throw unreadable(join(path, fault.path), fault.message);
      for (const file of [...files.keys()].toSorted()) yield { path: join(path, file), text: textOf(join(path, file)) };
    } catch (error) {
      if (error instanceof SluiceError) throw error;
      const code = systemErrorCode(error);
      if (code === undefined) throw error;
      throw unreadable(path, code === 'ENOENT' ? 'there is no such file or directory' : code);
    }
  }
}

function textOf(path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    if (systemErrorCode(error) === 'ERR_ENCODING_INVALID_ENCODED_DATA') throw unreadable(path, 'it is not UTF-8 text');
    throw error;
  }
}

function unreadable(path: string, fault: string): SluiceError {
  return new SluiceError('CHANGE_UNREADABLE', `${path} cannot be read: ${fault}`, {
    hint: 'Name a file, a directory of manifests, or - for standard input.',
    exitStatus: 2,
  });
}

/** A cluster's objects. */
export interface ObjectLists {
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly policies: readonly Policy[];
}

export interface AppliedObject {
  /** `absent`: it was to be deleted, and is not there. */
  readonly change: 'created' | 'configured' | 'unchanged' | 'deleted' | 'absent';
  readonly kind: ClusterObject['kind'];
  /** `namespace/name`, or `name` of what has no namespace. */
  readonly name: string;
}

export interface Applied {
  readonly objects: ObjectLists;
  readonly done: readonly AppliedObject[];
  /** Whether nothing but policies is another object than before. */
  readonly onlyPolicies: boolean;
}

/** The objects after these have been applied: in the place of those of the same name, or beside the others. What is unchanged stays the same object. */
export function apply(before: ObjectLists, written: readonly ClusterObject[]): Applied {
  const change = new ObjectChange(before);
  const done = written.map((each): AppliedObject => {
    const { kind, key: name } = each;
    const known = change.get(kind, name);
    const object = known === undefined ? each : withStateOf(known, each);
    if (known !== undefined && isDeepStrictEqual(meaningOf(known), meaningOf(object.object))) return { change: 'unchanged', kind, name };
    change.set(object);
    return { change: known === undefined ? 'created' : 'configured', kind, name };
  });
  return { objects: change.lists(), done, onlyPolicies: done.every((one) => one.change === 'unchanged' || one.kind === 'NetworkPolicy') };
}

/** The objects after policies of these names have been deleted. Throws a SluiceError `DELETION_UNSUPPORTED` for any other kind. */
export function remove(before: ObjectLists, written: readonly ClusterObject[]): Applied {
  const change = new ObjectChange(before);
  const done = written.map(({ kind, key: name }): AppliedObject => {
    if (kind !== 'NetworkPolicy') {
      throw new SluiceError('DELETION_UNSUPPORTED', `${kind} ${name} is to be deleted, and only policies can be`, {
        hint: 'Leave other objects out of what is named with --delete.',
        exitStatus: 2,
      });
    }
    return { change: change.delete(kind, name) ? 'deleted' : 'absent', kind, name };
  });
  return { objects: change.lists(), done, onlyPolicies: true };
}

/** Where a pod runs, what addresses it and a node have, and what has become of it is the cluster's affair: whoever applies one says nothing of it. */
function withStateOf(known: Pod | Namespace | Node | Policy, written: ClusterObject): ClusterObject {
  if (written.kind === 'Pod') {
    // Of the same kind.
    const { uid, node, addresses, terminal, createdAt } = known as Pod;
    return { ...written, object: { ...written.object, uid, node, addresses, terminal, createdAt } };
  }
  return written.kind === 'Node' ? { ...written, object: known as Node } : written;
}

/** A policy's problems are no part of what it does. */
function meaningOf(object: Pod | Namespace | Node | Policy): unknown {
  return 'problems' in object ? { ...object, problems: [] } : object;
}

class ObjectChange {
  readonly #kinds: Readonly<Record<ClusterObject['kind'], Map<string, Pod | Namespace | Node | Policy>>>;

  constructor({ pods, namespaces, nodes, policies }: ObjectLists) {
    const keyed = <T extends { readonly name: string; readonly namespace?: string }>(objects: readonly T[]): Map<string, T> =>
      new Map(objects.map((object) => [object.namespace === undefined ? object.name : `${object.namespace}/${object.name}`, object]));
    this.#kinds = { Pod: keyed(pods), Namespace: keyed(namespaces), Node: keyed(nodes), NetworkPolicy: keyed(policies) };
  }

  get(kind: ClusterObject['kind'], key: string): Pod | Namespace | Node | Policy | undefined {
    return this.#kinds[kind].get(key);
  }

  set({ kind, key, object }: ClusterObject): void {
    this.#kinds[kind].set(key, object);
  }

  delete(kind: ClusterObject['kind'], key: string): boolean {
    return this.#kinds[kind].delete(key);
  }

  lists(): ObjectLists {
    // Each map holds objects of its kind alone.
    return {
      pods: [...this.#kinds.Pod.values()] as Pod[],
      namespaces: [...this.#kinds.Namespace.values()] as Namespace[],
      nodes: [...this.#kinds.Node.values()] as Node[],
      policies: [...this.#kinds.NetworkPolicy.values()] as Policy[],
    };
  }
}
