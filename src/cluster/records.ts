/** What the store holds of each object, beside the object itself. Only the store changes these; everyone else reads. */
import type { Address } from '../policy/address.ts';
import type { Namespace, Pod, Policy } from '../policy/objects.ts';
import type { Labels } from '../policy/labels.ts';
import type { NamespaceBudget } from '../policy/namespace-budget.ts';
import type { Bag } from './bag.ts';
import type { Group, Scope } from './groups.ts';
import type { Isolation } from './isolation.ts';
import type { LabelSet } from './label-sets.ts';

/** A pod as groups see it: replaced, never changed, when the pod or what it owns changes. */
export interface Member {
  readonly pod: Pod;
  /** Those of its addresses that no newer live pod claims (rows 33, 40). */
  readonly addresses: readonly Address[];
}

/** A few groups are a list, which pods with equal labels share; many are a set, so that none of them costs a look at the others. */
export type Groups = readonly Group[] | Set<Group>;

export const NO_GROUPS: readonly Group[] = [];

const FEW_GROUPS = 16;

export function withGroup(groups: Groups, group: Group): Groups {
  if (groups instanceof Set) return groups.add(group);
  return groups.length < FEW_GROUPS ? [...groups, group] : new Set(groups).add(group);
}

export function withoutGroup(groups: Groups, group: Group): Groups {
  if (!(groups instanceof Set)) {
    if (groups.length > FEW_GROUPS) return withoutGroup(new Set(groups), group);
    const rest = groups.filter((other) => other !== group);
    return rest.length === 0 ? NO_GROUPS : rest;
  }
  groups.delete(group);
  return groups.size === 0 ? NO_GROUPS : groups;
}

/** Whether a group is among these, for whoever asks about many. */
export function membershipOf(groups: Groups): (group: Group) => boolean {
  if (!(groups instanceof Set) && groups.length <= FEW_GROUPS) return (group) => groups.includes(group);
  const set = groups instanceof Set ? groups : new Set(groups);
  return (group) => set.has(group);
}

export class PodRecord {
  readonly namespace: NamespaceRecord;
  pod: Pod;
  labelSet: LabelSet;
  /** Undefined while the pod is in no set: terminal, hostNetwork, or deleted. */
  member: Member | undefined;
  /** The groups it is in; the same as asking each group. */
  groups: Groups;

  /** @param labels gives the pod its label set, which knows who has it */
  constructor(namespace: NamespaceRecord, pod: Pod, labels: (record: PodRecord) => LabelSet) {
    this.namespace = namespace;
    this.pod = pod;
    this.member = undefined;
    this.groups = NO_GROUPS;
    this.labelSet = labels(this);
  }

  /** `namespace/name`. Not held: it is asked for of local pods only. */
  get key(): string {
    return `${this.pod.namespace}/${this.pod.name}`;
  }
}

export interface NamespaceRecord {
  readonly name: string;
  /** Undefined while there is no object: pods, policies or scopes name a namespace that is not there (yet). */
  object: Namespace | undefined;
  labels: Labels;
  /** By name: the one place where a pod is looked up. */
  readonly pods: Map<string, PodRecord>;
  /** Those of this node, whether or not they are in any set. */
  readonly localPods: Bag<PodRecord>;
  /** By `namespace/name`. One that the namespace's budget has no room for is here as it is carried: closed. */
  readonly policies: Map<string, Policy>;
  readonly budget: NamespaceBudget;
  /** The scopes that hold this namespace. */
  readonly scopes: Bag<Scope>;
  /** Which policies select whom, by label set, as far as it was asked for. */
  readonly isolation: Map<LabelSet, Isolation>;
  /** Policies and labels that are in it, about. */
  isolationParts: number;
}
