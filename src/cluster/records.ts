/** What the store holds of each object, beside the object itself. Only the store changes these; everyone else reads. */
import type { Address } from '../policy/address.ts';
import type { Namespace, Pod, Policy } from '../policy/objects.ts';
import type { Labels } from '../policy/selector.ts';
import type { Bag } from './bag.ts';
import type { Group, Scope } from './groups.ts';
import type { LabelSet } from './label-sets.ts';

/** A pod as groups see it: replaced, never changed, when the pod or what it owns changes. */
export interface Member {
  readonly pod: Pod;
  /** Those of its addresses that no newer live pod claims (rows 33, 40). */
  readonly addresses: readonly Address[];
}

export interface PodRecord {
  /** `namespace/name` */
  readonly key: string;
  readonly namespace: NamespaceRecord;
  pod: Pod;
  labelSet: LabelSet;
  /** Undefined while the pod is in no set: terminal, hostNetwork, or deleted. */
  member: Member | undefined;
  /** The groups it is in; the same as asking each group. */
  groups: readonly Group[];
}

export interface NamespaceRecord {
  readonly name: string;
  /** Undefined while there is no object: pods, policies or scopes name a namespace that is not there (yet). */
  object: Namespace | undefined;
  labels: Labels;
  readonly pods: Set<PodRecord>;
  /** Those of this node, whether or not they are in any set. */
  readonly localPods: Bag<PodRecord>;
  readonly policies: Map<string, Policy>;
  /** The scopes that hold this namespace. */
  readonly scopes: Bag<Scope>;
  /** Which policies select whom, by label set, as far as it was asked for since a policy of the namespace changed. */
  isolation: WeakMap<LabelSet, Readonly<Record<'ingress' | 'egress', readonly Policy[]>>> | undefined;
}
