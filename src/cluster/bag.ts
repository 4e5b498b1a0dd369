/**
 * A set that mostly has no member or one. An empty Set takes some 300 bytes and there would be as many as pods, so a single member
 * is held as it is.
 */
export class Bag<T extends object> implements Iterable<T> {
  #held: T | Set<T> | undefined;

  get size(): number {
    if (this.#held === undefined) return 0;
    return this.#held instanceof Set ? this.#held.size : 1;
  }

  has(member: T): boolean {
    return this.#held === member || (this.#held instanceof Set && this.#held.has(member));
  }

  add(member: T): void {
    if (this.#held === undefined) this.#held = member;
    else if (this.#held instanceof Set) this.#held.add(member);
    else if (this.#held !== member) this.#held = new Set([this.#held, member]);
  }

  /** Whether it was there. */
  delete(member: T): boolean {
    if (this.#held instanceof Set) return this.#held.delete(member);
    if (this.#held !== member) return false;
    this.#held = undefined;
    return true;
  }

  /** In the order they were added. Members that go meanwhile are passed over. */
  *[Symbol.iterator](): Generator<T, undefined> {
    if (this.#held instanceof Set) yield* this.#held;
    else if (this.#held !== undefined) yield this.#held;
  }
}
