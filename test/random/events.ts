/** Random histories of a cluster: what a source would emit while pods, namespaces, labels and policies come, change and go. */
import { type ObjectKind, project } from '../../src/kubernetes/projections.ts';
import { Sharing } from '../../src/kubernetes/sharing.ts';
import type { SourceEvent } from '../../src/sources/source.ts';
import { MODE_ANNOTATION } from '../../src/policy/mode.ts';
import { type ApiObject, type ClusterGenerator, Dice, NAMESPACES, NODES } from './cluster.ts';

const sharing = new Sharing();

/** The event that tells of this object. */
export function upsertOf(object: ApiObject): SourceEvent {
  const kind: ObjectKind = object.kind;
  const projection = project(kind, object, sharing);
  if (projection.object === undefined) throw new Error(`not readable: ${JSON.stringify(projection.problems)}`);
  // The kind and the object's type belong together by construction; TypeScript cannot follow that through the union.
  return { type: 'upsert', kind, key: projection.key, object: projection.object } as SourceEvent;
}

/** A cluster's objects by kind and key, and the events that change it. */
export class History {
  readonly generator: ClusterGenerator;
  readonly state = new Map<string, Extract<SourceEvent, { type: 'upsert' }>>();
  /** Of their own, so that a seed gives the same cluster with modes and without. */
  readonly #modes: Dice | undefined;

  /** @param modes the seed of what namespaces say of their mode; undefined: nothing */
  constructor(generator: ClusterGenerator, modes?: number) {
    this.generator = generator;
    this.#modes = modes === undefined ? undefined : new Dice(modes);
  }

  /** One batch of one to four changes, and of some modes. */
  batch(): SourceEvent[] {
    const modes = this.#modes;
    return Array.from({ length: 1 + this.generator.dice.roll(4) }, () => [
      ...(modes?.chance(12) === true ? [this.#changeOfMode(modes)] : []),
      this.#change(),
    ]).flat();
  }

  /** A namespace that is there says something else, one that is not comes to be. */
  #changeOfMode(dice: Dice): SourceEvent {
    const name = dice.pick(NAMESPACES);
    const mode = dice.pick(['audit', 'audit', 'enforce', undefined]);
    const annotations = mode === undefined ? {} : { [MODE_ANNOTATION]: mode };
    const known = this.state.get(`Namespace ${name}`);
    const labels = known?.kind === 'Namespace' ? Object.fromEntries(known.object.labels) : {};
    const event = upsertOf({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels, annotations } });
    if (event.type === 'upsert') this.state.set(`Namespace ${name}`, event);
    return event;
  }

  #change(): SourceEvent {
    const { dice } = this.generator;
    const keys = [...this.state.keys()];
    if (keys.length > 0 && dice.chance(20)) {
      const key = dice.pick(keys);
      const known = this.state.get(key);
      this.state.delete(key);
      if (known !== undefined) return { type: 'delete', kind: known.kind, key: known.key };
    }
    const event = upsertOf(this.#object());
    if (event.type === 'upsert') this.state.set(`${event.kind} ${event.key}`, event);
    return event;
  }

  #object(): ApiObject {
    const { generator } = this;
    const { dice } = generator;
    const namespace = dice.pick(NAMESPACES);
    switch (dice.roll(10)) {
      case 0:
        return generator.namespace(namespace);
      case 1:
        return dice.pick(generator.nodes());
      case 2:
      case 3:
      case 4:
        return generator.policy(namespace, dice.pick(['p', 'q', 'r']));
      default:
        // Few addresses for many pods: they are reused, by pods that live and pods that have ended.
        return generator.pod(
          namespace,
          dice.pick(['a', 'b', 'c', 'd']),
          dice.pick(NODES),
          2 + dice.roll(6),
          dice.pick([[4, 6], [4, 6], [4], [6]] as const),
        );
    }
  }
}
