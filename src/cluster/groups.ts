/**
 * Groups: the pods that a distinct peer selects, kept up to date from pod to pod. Rules that name equal selectors share one group.
 *
 * Two steps lead from a changed pod to its groups without looking at the others: its namespace knows the *scopes* that hold it
 * (one a distinct namespaceSelector, and one a namespace that is named), and each scope finds by label the groups that may match.
 */
import type { Selector } from '../policy/selector.ts';
import { matches } from '../policy/selector.ts';
import type { LabelSet } from './label-sets.ts';
import { pairOf } from './label-sets.ts';
import { type Postings, post, unpost } from './postings.ts';
import type { NamespaceRecord, PodRecord } from './records.ts';

/** Which pods: of one namespace (by name) or of the namespaces a selector matches; `local`: only those of this node. */
export interface GroupDefinition {
  readonly namespace: string | Selector;
  readonly pods: Selector;
  readonly local: boolean;
}

export interface Group {
  /** Equal for definitions that mean the same. */
  readonly key: string;
  readonly definition: GroupDefinition;
  readonly scope: Scope;
  readonly members: Set<PodRecord>;
  /** Who acquired it; without any it is dropped. */
  references: number;
}

export function scopeKey(namespace: string | Selector): string {
  return typeof namespace === 'string' ? `=${namespace}` : `~${namespace.text}`;
}

export function groupKey(definition: GroupDefinition): string {
  return JSON.stringify([scopeKey(definition.namespace), definition.pods.text, definition.local]);
}

/** A set of namespaces, and the groups that look for pods in them. */
export class Scope {
  readonly key: string;
  readonly namespace: string | Selector;
  readonly namespaces = new Set<NamespaceRecord>();
  readonly id: number;
  /** Changes whenever a group comes or goes; a cached answer of an older generation is stale. */
  generation = 0;
  #size = 0;
  /** Each group under one requirement that its pods must meet: a label pair, a label key, or none. */
  readonly #byPair: Postings<Group> = new Map();
  readonly #byKey: Postings<Group> = new Map();
  readonly #others = new Set<Group>();

  constructor(namespace: string | Selector, id: number) {
    this.key = scopeKey(namespace);
    this.namespace = namespace;
    this.id = id;
  }

  get size(): number {
    return this.#size;
  }

  holds(namespace: NamespaceRecord): boolean {
    return typeof this.namespace === 'string' ? this.namespace === namespace.name : matches(this.namespace, namespace.labels);
  }

  add(group: Group): void {
    this.#place(group, post, (others) => others.add(group));
    this.#size++;
  }

  remove(group: Group): void {
    this.#place(group, unpost, (others) => others.delete(group));
    this.#size--;
  }

  #place(group: Group, post: (index: Postings<Group>, key: string, group: Group) => void, other: (others: Set<Group>) => void): void {
    const { requirements } = group.definition.pods;
    const pair = requirements.find(({ operator }) => operator === 'In');
    const exists = requirements.find(({ operator }) => operator === 'Exists');
    if (pair !== undefined) for (const value of pair.values) post(this.#byPair, pairOf(pair.key, value), group);
    else if (exists !== undefined) post(this.#byKey, exists.key, group);
    else other(this.#others);
    this.generation++;
  }

  /** The groups whose pod selector matches these labels; `local` ones are for the caller to leave out. */
  matching({ labels }: LabelSet): readonly Group[] {
    const found: Group[] = [];
    const collect = (groups: Iterable<Group> | undefined): void => {
      if (groups !== undefined) for (const group of groups) if (matches(group.definition.pods, labels)) found.push(group);
    };
    for (const [key, value] of labels) {
      collect(this.#byPair.get(pairOf(key, value)));
      collect(this.#byKey.get(key));
    }
    collect(this.#others);
    return found;
  }
}
