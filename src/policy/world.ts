/**
 * What the evaluator asks of a cluster. The incremental store answers it from its indexes; {@link worldOf} answers it by
 * looking at everything, and is what the store is tested against.
 */
import type { Address } from './address.ts';
import type { Direction, Node, Pod, Policy } from './objects.ts';
import type { Labels } from './selector.ts';

export interface World {
  /** The pod that an address belongs to: of those that claim it the newest that lives; never a hostNetwork or terminal pod (rows 29, 33, 40). */
  podAt(address: Address): Pod | undefined;
  /** The node that an address is local to: its own addresses, and the first two of each podCIDR (overlay device and bridge; row 28). */
  nodeAt(address: Address): Node | undefined;
  /** A namespace without an object has only its kubernetes.io/metadata.name label. */
  namespaceLabels(namespace: string): Labels;
  /** The policies that isolate this pod in this direction, ordered by name. Empty for pods that no policy selects. */
  isolating(pod: Pod, direction: Direction): readonly Policy[];
}
