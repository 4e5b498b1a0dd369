/** The rules of one node, made anew from an inventory, as its agent makes them. */
import { Cluster } from '../cluster/cluster.ts';
import { type Auditing, ENFORCING } from '../policy/mode.ts';
import { NodeRuleset } from '../ruleset/node-ruleset.ts';
import type { SourceEvent } from '../sources/source.ts';
import { SluiceError } from '../errors.ts';
import { nearest } from '../output/nearest.ts';
import type { Inventory } from './inventory.ts';

export type ClusterObjects = Pick<Inventory, 'pods' | 'namespaces' | 'nodes' | 'policies'>;

/** @param auditing what the agent of the node audits */
export function rulesOfNode(objects: ClusterObjects, node: string, auditing: Auditing = ENFORCING): NodeRuleset {
  const cluster = new Cluster(node);
  const ruleset = new NodeRuleset(cluster, auditing);
  ruleset.update(cluster.apply(eventsOf(objects)));
  // Large policies are prepared little by little, which an agent does between other things.
  while (ruleset.preparing) ruleset.update(cluster.apply([]));
  return ruleset;
}

function* eventsOf({ pods, namespaces, nodes, policies }: ClusterObjects): Generator<SourceEvent> {
  for (const object of namespaces) yield { type: 'upsert', kind: 'Namespace', key: object.name, object };
  for (const object of nodes) yield { type: 'upsert', kind: 'Node', key: object.name, object };
  for (const object of pods) yield { type: 'upsert', kind: 'Pod', key: `${object.namespace}/${object.name}`, object };
  for (const object of policies) yield { type: 'upsert', kind: 'NetworkPolicy', key: `${object.namespace}/${object.name}`, object };
}

/** Names of nodes: of Node objects, and those that pods run on; ordered. */
export function nodeNames({ nodes, pods }: Pick<ClusterObjects, 'nodes' | 'pods'>): string[] {
  const names = new Set([...nodes.map(({ name }) => name), ...pods.map(({ node }) => node)]);
  names.delete('');
  return [...names].sort();
}

/** @throws SluiceError `NODE_UNKNOWN` where nothing names this node, with the nearest name that something does */
export function requireNode(node: string, inventory: Pick<Inventory, 'nodes' | 'pods' | 'origin'>): void {
  const names = nodeNames(inventory);
  if (names.includes(node)) return;
  const near = nearest(node, names);
  throw new SluiceError('NODE_UNKNOWN', `no Node object and no pod in ${inventory.origin} names node ${node}`, {
    hint: near === undefined ? undefined : `Perhaps ${near} is meant.`,
    exitStatus: 2,
  });
}
