/**
 * A cluster's objects at one moment, from wherever they were read: what every audit command asks. The four kinds that policy is made of
 * are read at once; Services and workloads when a question names one.
 */
import type { EndpointSlice, Service } from '../kubernetes/service.ts';
import type { Workload } from '../kubernetes/workload.ts';
import type { Namespace, Node, Pod, Policy } from '../policy/objects.ts';
import type { World } from '../policy/world.ts';
import type { SourceProblem } from '../sources/source.ts';

export interface Inventory {
  readonly kind: 'cluster' | 'directory' | 'bundle';
  /** For people: `the directory shop`, `the cluster at https://10.0.0.1:6443`, `the bundle node-a.json.gz`. */
  readonly origin: string;
  /** Each list ordered by namespace and name. */
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly policies: readonly Policy[];
  /** What is wrong with the objects, by file or object and then by position. */
  readonly problems: readonly SourceProblem[];
  /** What could not be read; every answer lacks it. */
  readonly missing: readonly MissingKind[];
  readonly world: World;
  /** A policy as it was written; undefined where it is not among {@link policies}. */
  readonly written: (policy: { readonly namespace: string; readonly name: string }) => WrittenPolicy | undefined;
  /** Services and their EndpointSlices. Reads them when first asked. @throws SluiceError where they cannot be read */
  readonly services: () => Promise<ServiceInventory>;
  /** Deployments and the like. Reads them when first asked. @throws SluiceError where they cannot be read */
  readonly workloads: () => Promise<readonly Workload[]>;
}

export interface ServiceInventory {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
}

export interface PodName {
  readonly namespace: string;
  readonly name: string;
}

/** Told of each object as it was read, before anything of it is left out. Untrusted. */
export type Seen = (kind: string, value: unknown) => void;

/** Objects that may not be read. */
export interface MissingKind {
  /** `nodes`, `pods of other namespaces than shop`. */
  readonly what: string;
  /** What the server said. */
  readonly reason: string;
  /** What that means for answers, as a sentence. */
  readonly consequence: string;
}

export interface WrittenPolicy {
  /** Untrusted, as it was read. */
  readonly spec: unknown;
  /** Where a field of the policy stands: `spec.ingress[0].from[1]`. */
  readonly place: (path: string) => Place;
}

export interface Place {
  /** Below the directory; undefined where the policy is from no file. */
  readonly file?: string;
  /** 1-based. */
  readonly line?: number;
  /** Field path within the object. */
  readonly path: string;
}

/** `shop/manifests.yaml:12`, or the path where there is no file. */
export function formatPlace({ file, line, path }: Place): string {
  return file === undefined ? path : `${file}:${line}`;
}
