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

/** What the index needs to know of the store it belongs to. */
export interface GroupIndexHost {
  readonly labelSets: LabelSets;
  isLocal(pod: Pod): boolean;
  namespaces(): Iterable<NamespaceRecord>;
  /** Made where there is none: a group may name a namespace that is not there yet. */
  namespace(name: string): NamespaceRecord;
  /** No scope holds the namespace any more. */
  released(namespace: NamespaceRecord): void;
}

export class GroupIndex {
  readonly #host: GroupIndexHost;
  readonly #scopes = new Map<string, Scope>();
  readonly #groups = new Map<string, Group>();
  readonly #matches = new LRUCache<string, { readonly generation: number; readonly groups: readonly Group[] }>({ max: CACHED_MATCHES });
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
    for (const record of this.#population(scope, definition)) {
      if (record.member === undefined || (definition.local && !this.#host.isLocal(record.pod))) continue;
      if (!matches(definition.pods, record.labelSet.labels)) continue;
      group.members.add(record);
      record.groups = withGroup(record.groups, group);
    }
    return group;
  }

  release(group: Group): void {
    if (--group.references > 0) return;
    this.#groups.delete(group.key);
    for (const record of group.members) record.groups = withoutGroup(record.groups, group);
    group.scope.remove(group);
    if (group.scope.size > 0) return;
    this.#scopes.delete(group.scope.key);
    for (const namespace of group.scope.namespaces) {
      leave(group.scope, namespace);
      this.#host.released(namespace);
    }
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
    let inScope = 0;
    for (const namespace of scope.namespaces) inScope += (definition.local ? namespace.localPods : namespace.pods).size;
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
