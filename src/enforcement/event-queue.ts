/**
 * What a source has emitted and nobody has taken in yet. Whoever has few changes does not wait for who has many: namespaces take turns, and a turn
 * is as long as its changes are large. Kinds are watched apart, and namespaces have no order among each other, so none is lost by that; of one
 * object only the last change is kept, at the place of the first.
 */
import { weightOf } from '../policy/budget.ts';
import type { SourceEvent } from '../sources/source.ts';

/** What one {@link EventQueue.take} hands out, and of each namespace at once; a change costs one, and a policy of a hundred entries one more. */
const TAKEN_AT_ONCE = 256;
const OF_A_NAMESPACE = 16;
const ENTRIES_OF_ONE = 100;
/** Before everything has been read nobody's change is waited for: only the event loop is. */
const READ_AT_ONCE = 1_000;

export interface Taken {
  readonly events: readonly SourceEvent[];
  /** When the first of them came (performance.now); undefined: there are none. */
  readonly firstAt: number | undefined;
}

interface Waiting {
  event: SourceEvent;
  readonly at: number;
}

export class EventQueue {
  /** Up to `synced`, in their order. */
  #first: SourceEvent[] = [];
  #firstTaken = 0;
  #firstAt = 0;
  #synced = false;
  /** By namespace, then by kind and key; the first namespace is the next. */
  readonly #waiting = new Map<string, Map<string, Waiting>>();
  #size = 0;

  get size(): number {
    return this.#first.length - this.#firstTaken + this.#size;
  }

  push(events: readonly SourceEvent[]): void {
    const at = performance.now();
    if (!this.#synced && this.#first.length === 0) this.#firstAt = at;
    for (const event of events) {
      if (!this.#synced) this.#first.push(event);
      else if (event.type !== 'synced') this.#put(event, at);
      this.#synced ||= event.type === 'synced';
    }
  }

  take(): Taken {
    if (this.#first.length > 0) return this.#takeFirst();
    const events: SourceEvent[] = [];
    let firstAt: number | undefined;
    let room = TAKEN_AT_ONCE;
    while (room > 0) {
      const [namespace, changes] = this.#waiting.entries().next().value ?? [];
      if (namespace === undefined || changes === undefined) break;
      this.#waiting.delete(namespace);
      let turn = Math.min(room, OF_A_NAMESPACE);
      for (const [key, { event, at }] of changes) {
        if (turn <= 0) break;
        changes.delete(key);
        this.#size--;
        events.push(event);
        firstAt = Math.min(firstAt ?? at, at);
        const cost = costOf(event);
        turn -= cost;
        room -= cost;
      }
      if (changes.size > 0) this.#waiting.set(namespace, changes);
    }
    return { events, firstAt };
  }

  #takeFirst(): Taken {
    const events = this.#first.slice(this.#firstTaken, this.#firstTaken + READ_AT_ONCE);
    this.#firstTaken += events.length;
    if (this.#firstTaken === this.#first.length) {
      this.#first = [];
      this.#firstTaken = 0;
    }
    return { events, firstAt: this.#firstAt };
  }

  #put(event: Exclude<SourceEvent, { type: 'synced' }>, at: number): void {
    const namespace = event.kind === 'Namespace' || event.kind === 'Node' ? event.key : event.key.slice(0, event.key.indexOf('/'));
    let changes = this.#waiting.get(namespace);
    if (changes === undefined) this.#waiting.set(namespace, (changes = new Map()));
    const key = `${event.kind} ${event.key}`;
    const known = changes.get(key);
    if (known !== undefined) {
      known.event = event;
      return;
    }
    changes.set(key, { event, at });
    this.#size++;
  }
}

function costOf(event: SourceEvent): number {
  return event.type === 'upsert' && event.kind === 'NetworkPolicy' ? 1 + Math.floor(weightOf(event.object) / ENTRIES_OF_ONE) : 1;
}
