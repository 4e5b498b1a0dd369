/**
 * The groups that are in use, and which of them a pod is in. Asked for a changed pod it looks at the scopes of its namespace and, in
 * each, at the groups that its labels lead to; asked for a new group it looks at whichever of its namespaces' pods and its labels'
 * pods are fewer.
 */
import { LRUCache } from 'lru-cache';
import type { Pod } from '../policy/objects.ts';
import { matches } from '../policy/selector.ts';
import { type Group, type GroupDefinition, groupKey, Scope, scopeKey } from './groups.ts';
import type { LabelSets } from './label-sets.ts';
import { type NamespaceRecord, NO_GROUPS, type PodRecord, withGroup, withoutGroup } from './records.ts';

/** Matches of (label set, scope) that are kept: 100,000 pods rarely have more distinct label sets. */
const CACHED_MATCHES = 50_000;
/** Of all of them together: a label set may be in thousands of groups, and who relabels a pod makes a new one each time. */
const CACHED_GROUPS = 1_000_000;

/** Of a group of so few, what remains of it is dropped at once. */
const FEW_MEMBERS = 200;

/** What the index needs to know of the store it belongs to. */
export interface GroupIndexHost {
  readonly labelSets: LabelSets;
  isLocal(pod: Pod): boolean;
  namespaces(): Iterable<NamespaceRecord>;
  /** Of one namespace, or of all. */
  podCount(namespace?: string): number;
  /** Made where there is none: a group may name a namespace that is not there yet. */
  namespace(name: string): NamespaceRecord;
  /** No scope holds the namespace any more. */
  released(namespace: NamespaceRecord): void;
}

export class GroupIndex {
  readonly #host: GroupIndexHost;
  readonly #scopes = new Map<string, Scope>();
  readonly #groups = new Map<string, Group>();
  readonly #matches = new LRUCache<string, { readonly generation: number; readonly groups: readonly Group[] }>({
    max: CACHED_MATCHES,
    maxSize: CACHED_GROUPS,
    sizeCalculation: ({ groups }) => 1 + groups.length,
  });
  /** Groups that do not have all of their members yet, and what remains to be done. */
  readonly #filling = new Map<Group, Generator<undefined, void>>();
  readonly #leftovers: Group[] = [];
  #nextScopeId = 1;

  constructor(host: GroupIndexHost) {
    this.#host = host;
  }

  /** Whether the namespace, new or with new labels, has come into a scope or left one. */
  placeNamespace(namespace: NamespaceRecord): boolean {
    let moved = false;
    for (const scope of this.#scopes.values()) {
      const holds = scope.holds(namespace);
      if (holds === namespace.scopes.has(scope)) continue;
      moved = true;
      if (holds) join(scope, namespace);
      else leave(scope, namespace);
    }
    return moved;
  }

  removeNamespace(namespace: NamespaceRecord): void {
    for (const scope of namespace.scopes) leave(scope, namespace);
  }

  /** The groups that a pod belongs into, as its labels and its namespace are now. */
  groupsOf(record: PodRecord): readonly Group[] {
    let groups = NO_GROUPS;
    /** Of several scopes. */
    let own: Group[] | undefined;
    for (const scope of record.namespace.scopes) {
      const found = this.#matching(scope, record);
      if (found.length === 0) continue;
      if (groups.length === 0) groups = found;
      else {
        groups = own ??= [...groups];
        for (const group of found) own.push(group);
      }
    }
    if (!groups.some(({ definition }) => definition.local)) return groups;
    return this.#host.isLocal(record.pod) ? groups : groups.filter(({ definition }) => !definition.local);
  }

  #matching(scope: Scope, { labelSet }: PodRecord): readonly Group[] {
    const key = `${labelSet.id}:${scope.id}`;
    const cached = this.#matches.get(key);
    if (cached?.generation === scope.generation) return cached.groups;
    const found = scope.matching(labelSet);
    const groups = found.length === 0 ? NO_GROUPS : found;
    this.#matches.set(key, { generation: scope.generation, groups });
    return groups;
  }

  /** The group of a definition, with its members; to be released as often as it was acquired. */
  acquire(definition: GroupDefinition): Group {
    const group = this.#begin(definition);
    const filling = this.#filling.get(group);
    while (filling?.next().done === false);
    this.#filling.delete(group);
    return group;
  }

  /** Known, or new and to be filled. */
  #begin(definition: GroupDefinition): Group {
    const key = groupKey(definition);
    const known = this.#groups.get(key);
    if (known !== undefined) {
      known.references++;
      return known;
    }
    const scope = this.#scope(definition.namespace);
    const group: Group = { key, definition, scope, members: new Set(), references: 1 };
    this.#groups.set(key, group);
    scope.add(group);
    this.#filling.set(group, this.#join(group));
    return group;
  }

  *#join(group: Group): Generator<undefined, void> {
    for (const record of this.#population(group.scope, group.definition)) {
      if (!group.members.has(record) && this.#belongs(record, group.definition)) {
        group.members.add(record);
        record.groups = withGroup(record.groups, group);
      }
      yield;
    }
  }

  #belongs(record: PodRecord, { local, pods }: GroupDefinition): boolean {
    return record.member !== undefined && (!local || this.#host.isLocal(record.pod)) && matches(pods, record.labelSet.labels);
  }

  /** How many pods are looked at to make the group of a definition, about; 0: it is there. */
  looksFor(definition: GroupDefinition): number {
    if (this.#groups.has(groupKey(definition))) return 0;
    const scope = this.#scopes.get(scopeKey(definition.namespace));
    if (scope !== undefined) return this.#podsOf(scope.namespaces, definition);
    // Of a scope that is not there yet it is not known which namespaces are in it.
    return this.#host.podCount(typeof definition.namespace === 'string' ? definition.namespace : undefined);
  }

  /** Counts who would be in the group of a definition, one pod between two yields, and keeps nothing of it. */
  *count(definition: GroupDefinition): Generator<undefined, number> {
    const known = this.#groups.get(groupKey(definition));
    if (known !== undefined && !this.#filling.has(known)) return known.members.size;
    const scope = this.#scope(definition.namespace);
    let count = 0;
    try {
      for (const record of this.#population(scope, definition)) {
        if (this.#belongs(record, definition)) count++;
        yield;
      }
    } finally {
      this.#dropIfEmpty(scope);
    }
    return count;
  }

  /** As {@link acquire}, one pod between two yields. Who does not let it come to its end has acquired nothing. */
  *fill(definition: GroupDefinition): Generator<undefined, Group> {
    const group = this.#begin(definition);
    let isFull = false;
    try {
      // What becomes of a pod meanwhile is followed as of every group; and somebody else may fill it, too.
      while (this.#filling.get(group)?.next().done === false) yield;
      this.#filling.delete(group);
      isFull = true;
    } finally {
      if (!isFull) this.release(group);
    }
    return group;
  }

  release(group: Group): void {
    if (--group.references > 0) return;
    this.#groups.delete(group.key);
    this.#filling.delete(group);
    group.scope.remove(group);
    if (group.members.size <= FEW_MEMBERS) for (const record of group.members) record.groups = withoutGroup(record.groups, group);
    else this.#leftovers.push(group);
    this.#dropIfEmpty(group.scope);
  }

  /** Groups that nobody has any more are still among those of pods. They change nothing, and need memory. */
  get hasLeftovers(): boolean {
    return this.#leftovers.length > 0;
  }

  /** Takes so many of them from the pods that were in them. */
  dropLeftovers(count: number): void {
    const group = this.#leftovers.at(-1);
    if (group === undefined) return;
    for (const record of group.members.values().take(count)) {
      record.groups = withoutGroup(record.groups, group);
      group.members.delete(record);
    }
    if (group.members.size === 0) this.#leftovers.pop();
  }

  #dropIfEmpty(scope: Scope): void {
    if (scope.size > 0 || this.#scopes.get(scope.key) !== scope) return;
    this.#scopes.delete(scope.key);
    for (const namespace of scope.namespaces) {
      leave(scope, namespace);
      this.#host.released(namespace);
    }
  }

  #podsOf(namespaces: Iterable<NamespaceRecord>, { local }: GroupDefinition): number {
    let count = 0;
    for (const namespace of namespaces) count += (local ? namespace.localPods : namespace.pods).size;
    return count;
  }

  #scope(namespace: GroupDefinition['namespace']): Scope {
    const key = scopeKey(namespace);
    const known = this.#scopes.get(key);
    if (known !== undefined) return known;
    const scope = new Scope(namespace, this.#nextScopeId++);
    if (typeof namespace === 'string') join(scope, this.#host.namespace(namespace));
    else for (const record of this.#host.namespaces()) if (scope.holds(record)) join(scope, record);
    this.#scopes.set(key, scope);
    return scope;
  }

  /** The pods that may be in a new group, by whichever way leads past fewer of the others. */
  *#population(scope: Scope, definition: GroupDefinition): Generator<PodRecord> {
    const inScope = this.#podsOf(scope.namespaces, definition);
    // A label set has a pod at least, so as many label sets as there are pods in scope lead past no fewer.
    const labelSets = definition.local ? undefined : this.#host.labelSets.candidates(definition.pods, inScope);
    let withLabels = 0;
    for (const { pods } of labelSets ?? []) withLabels += pods.size;
    if (labelSets !== undefined && withLabels < inScope) {
      for (const { pods } of labelSets) for (const record of pods) if (scope.namespaces.has(record.namespace)) yield record;
      return;
    }
    for (const namespace of scope.namespaces) yield* definition.local ? namespace.localPods : namespace.pods.values();
  }
}

function join(scope: Scope, namespace: NamespaceRecord): void {
  scope.namespaces.add(namespace);
  namespace.scopes.add(scope);
}

function leave(scope: Scope, namespace: NamespaceRecord): void {
  scope.namespaces.delete(namespace);
  namespace.scopes.delete(scope);
}
