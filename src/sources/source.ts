/**
 * What every source of cluster objects emits: the Kubernetes API and a directory of YAML give the same stream, and nothing
 * downstream can tell them apart.
 */
import type { Namespace, Node, Pod, Policy, Problem } from '../policy/objects.ts';

/** `key` is `namespace/name`, or `name` of what has no namespace. */
export type SourceEvent =
  | { readonly type: 'upsert'; readonly kind: 'Pod'; readonly key: string; readonly object: Pod }
  | { readonly type: 'upsert'; readonly kind: 'Namespace'; readonly key: string; readonly object: Namespace }
  | { readonly type: 'upsert'; readonly kind: 'Node'; readonly key: string; readonly object: Node }
  | { readonly type: 'upsert'; readonly kind: 'NetworkPolicy'; readonly key: string; readonly object: Policy }
  | { readonly type: 'delete'; readonly kind: Kind; readonly key: string }
  /** Once: everything that was there at the start has been emitted. */
  | { readonly type: 'synced' };

export type Kind = 'Pod' | 'Namespace' | 'Node' | 'NetworkPolicy';

/** A problem with an object, and where it was read. */
export interface SourceProblem extends Problem {
  readonly severity: 'error' | 'warning' | 'notice';
  /** `file.yaml` or `file.yaml#2` (second document), or the object's address in the API. */
  readonly origin: string;
  /** 1-based line in the file, where known. */
  readonly line?: number;
  /** `NetworkPolicy dev/deny-all`, where it could be read. */
  readonly object?: string;
}

export interface SourceListener {
  /** What changed together arrives together, in order. */
  events(events: readonly SourceEvent[]): void;
  /** Everything known to be wrong with `origin` now, replacing what was said of it before; empty: it is mended. */
  problems(origin: string, problems: readonly SourceProblem[]): void;
  /**
   * Everything up to this state of the source has been emitted. What a revision looks like is the source's own affair; whoever
   * changes the source can learn it from there, and so wait until the change has been taken in.
   */
  revision?(revision: string): void;
}

export interface Source {
  /** Emits what is there, then `synced`, then changes until {@link stop}. */
  start(listener: SourceListener): Promise<void>;
  /**
   * Reads policies (`namespace/name`) once more, and emits those that are still there, changed or not. Resolves when they have been; rejects
   * where one could not be read.
   */
  reread?(policies: Iterable<string>): Promise<void>;
  stop(): Promise<void>;
}
