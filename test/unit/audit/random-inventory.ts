/** Inventories of random clusters, from a seed. */
import type { Inventory } from '../../../src/audit/inventory.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import type { Namespace, Node, Pod, Policy } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { type ApiObject, ClusterGenerator, NAMESPACES, NODES, ORPHAN } from '../../random/cluster.ts';

/** Pods of four namespaces on two nodes, each with a twin that differs from it in nothing but its node and its addresses; eight policies. */
export function randomInventory(seed: number): Inventory {
  const generator = new ClusterGenerator(seed);
  const objects: ApiObject[] = [...generator.nodes(), ...NAMESPACES.map((name) => generator.namespace(name))];
  let host = 2;
  for (const name of [...NAMESPACES, ORPHAN]) {
    for (let index = 0; index < 3; index++) {
      // Some of one family only.
      const families = generator.dice.pick([[4, 6], [4, 6], [4], [6]] as const);
      const pod = generator.pod(name, `p${index}`, generator.dice.pick(NODES), host++, families);
      // Nobody can tell it from the other, but by its node and its addresses.
      const twin = generator.pod(name, `p${index}-twin`, generator.dice.pick(NODES), host++, families, { hostNetwork: false });
      const { metadata, spec } = twin as ApiObject & { readonly spec: object };
      const { containers, initContainers } = pod['spec'] as Record<string, unknown>;
      const { labels } = pod.metadata;
      objects.push(pod, { ...twin, metadata: { ...metadata, labels }, spec: { ...spec, containers, initContainers } });
    }
    for (const index of [0, 1]) objects.push(generator.policy(name, `policy-${index}`));
  }
  const sharing = new Sharing();
  const of = (kind: ApiObject['kind']): unknown[] =>
    objects.filter((object) => object.kind === kind).map((object) => project(object.kind, object, sharing).object);
  const cluster = {
    pods: of('Pod') as Pod[],
    namespaces: of('Namespace') as Namespace[],
    nodes: of('Node') as Node[],
    policies: of('NetworkPolicy') as Policy[],
  };
  return {
    ...cluster,
    kind: 'directory',
    origin: 'the test',
    problems: [],
    missing: [],
    world: worldOf(cluster),
    written: () => undefined,
    services: () => Promise.resolve({ services: [], slices: [] }),
    workloads: () => Promise.resolve([]),
  };
}
