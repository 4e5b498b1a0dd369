/** A set of a node's ruleset, with its elements of now: those that the members of its groups put into it, or what its description says. */
import type { Change } from '../cluster/cluster.ts';
import type { Group } from '../cluster/groups.ts';
import type { Member, PodRecord } from '../cluster/records.ts';
import type { Address } from '../policy/address.ts';
import { elementKey, elementsOf } from './elements.ts';
import type { DesiredSet, ElementChanges, SetDescription, SetElement } from './objects.ts';

export class SetState implements DesiredSet {
  readonly description: SetDescription;
  /** Whose members it holds. */
  readonly groups: Group[] = [];
  /** Chains of policies that name it, and preparations that will. */
  references = 0;
  /** It is being filled little by little: not all of its groups are in it, or not all of its elements have been handed out. */
  isPartial = false;
  /** Of the first: how many are of policies of each namespace. */
  readonly namespaces = new Map<string, number>();
  /** Of several groups: how many of them have each element. */
  readonly #counts = new Map<Address | string, { readonly element: SetElement; count: number }>();
  /** Elements that have not been handed out yet, of a set that is filled little by little. */
  #size = 0;
  #pending: Map<Address | string, SetElement> | undefined;

  /** @param groups all of its groups; further ones are added by {@link include} */
  constructor(description: SetDescription, groups: Iterable<Group> = []) {
    this.description = description;
    for (const group of groups) this.#take(group);
  }

  /** Holds what the members of one more group put into it, and hands that out by {@link takePending}. */
  include(group: Group): void {
    this.#pending ??= new Map();
    for (const element of this.#take(group)) this.#pending.set(elementKey(element), element);
  }

  get pending(): number {
    return this.#pending?.size ?? 0;
  }

  /** The next elements that have not been handed out. */
  takePending(count: number): SetElement[] {
    const taken: SetElement[] = [];
    for (const [key, element] of this.#pending ?? []) {
      if (taken.length === count) break;
      this.#pending?.delete(key);
      taken.push(element);
    }
    return taken;
  }

  /** How many elements, or ranges, it has. */
  get size(): number {
    const { description } = this;
    return description.kind === 'block' || description.kind === 'ports' ? description.ranges.length : this.#size;
  }

  *elements(): Generator<SetElement> {
    if (this.#isUnion) for (const { element } of this.#counts.values()) yield element;
    else for (const { member } of this.groups[0]?.members ?? []) yield* this.#elementsOf(member);
  }

  /** Follows what became of members of its groups. What one lost and another (or the same) has now stays where it is. */
  follow(changes: Iterable<ReadonlyMap<PodRecord, Change<Member>>>): ElementChanges {
    const add = new Map<Address | string, SetElement>();
    const remove = new Map<Address | string, SetElement>();
    const gone: SetElement[] = [];
    const come: SetElement[] = [];
    for (const members of changes) {
      for (const { before, after } of members.values()) {
        for (const element of this.#elementsOf(before)) gone.push(element);
        for (const element of this.#elementsOf(after)) come.push(element);
      }
    }
    for (const element of gone) if (this.#count(element, -1)) remove.set(elementKey(element), element);
    for (const element of come) if (this.#count(element, 1)) add.set(elementKey(element), element);
    for (const key of add.keys()) if (remove.delete(key)) add.delete(key);
    this.#size += add.size - remove.size;
    // What has not been handed out is not there to be removed.
    if (this.#pending !== undefined) for (const key of remove.keys()) if (this.#pending.delete(key)) remove.delete(key);
    return { add: [...add.values()], remove: [...remove.values()] };
  }

  get #isUnion(): boolean {
    return 'groups' in this.description && this.description.groups.length > 1;
  }

  /** What is new. */
  #take(group: Group): SetElement[] {
    this.groups.push(group);
    const taken: SetElement[] = [];
    for (const { member } of group.members) {
      for (const element of this.#elementsOf(member)) if (this.#count(element, 1)) taken.push(element);
    }
    this.#size += taken.length;
    return taken;
  }

  #elementsOf(member: Member | undefined): readonly SetElement[] {
    return member === undefined ? [] : elementsOf(this.description, member);
  }

  /** Whether the set has it now and had not, or the other way round. An element of one group is of one member. */
  #count(element: SetElement, by: 1 | -1): boolean {
    if (!this.#isUnion) return true;
    const key = elementKey(element);
    const known = this.#counts.get(key);
    if (known === undefined) {
      if (by === 1) this.#counts.set(key, { element, count: 1 });
      return by === 1;
    }
    known.count += by;
    if (known.count === 0) this.#counts.delete(key);
    return known.count === 0;
  }
}
