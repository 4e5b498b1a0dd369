/** From API objects to the world that the evaluator asks, by the projections that every source reads through. */
import { type ObjectKind, project } from '../../src/kubernetes/projections.ts';
import { Sharing } from '../../src/kubernetes/sharing.ts';
import type { Namespace, Node, Pod, Policy } from '../../src/policy/objects.ts';
import { type World, worldOf } from '../../src/policy/world.ts';
import type { ApiObject } from './cluster.ts';

const sharing = new Sharing();
/** Projected once: most objects of a misread cluster are those of the true one. */
const projected = new WeakMap<ApiObject, unknown>();

function projectionOf(object: ApiObject): unknown {
  const known = projected.get(object);
  if (known !== undefined) return known;
  const kind: ObjectKind = object.kind;
  const projection = project(kind, object, sharing);
  if (projection.object === undefined) throw new Error(`not readable: ${JSON.stringify(projection.problems)}`);
  projected.set(object, projection.object);
  return projection.object;
}

export function worldFrom(objects: readonly ApiObject[]): World {
  const of = (kind: ObjectKind): unknown[] => objects.filter((object) => object.kind === kind).map(projectionOf);
  return worldOf({
    pods: of('Pod') as Pod[],
    namespaces: of('Namespace') as Namespace[],
    nodes: of('Node') as Node[],
    policies: of('NetworkPolicy') as Policy[],
  });
}

/** Every number that a pod declares under this port name, whatever the protocol. */
export function declaredNumbers(objects: readonly ApiObject[], name: string): number[] {
  const pods = objects.filter(({ kind }) => kind === 'Pod').map((object) => projectionOf(object) as Pod);
  return [...new Set(pods.flatMap((pod) => pod.ports.flatMap((port) => (port.name === name ? [port.port] : []))))];
}
