/** Whose addresses blocks cover: pods, Services, the networks of pods. By binary search, as there may be many of each. */
import { type Address, compareAddresses, type Family, familyOf, prefixRange, type Range } from '../address.ts';
import type { Pod } from '../objects.ts';
import { intersects, subtract, union } from '../ranges.ts';
import type { LintInput, LintService } from './input.ts';

interface Owned<T> {
  readonly address: Address;
  readonly owner: T;
}

/** Who has addresses in some ranges. */
export interface Owners<T> {
  /** Addresses; ranges are of few families, so that this is mostly how many owners there are. */
  readonly count: number;
  /** The first few by address, each once. */
  readonly some: readonly T[];
}

export class Addresses {
  readonly #pods: readonly Owned<Pod>[];
  readonly #services: readonly Owned<LintService>[];
  readonly #nodes: readonly Owned<string>[];
  /** The networks that pods have their addresses from (podCIDRs); empty where nodes do not say. */
  readonly podNetworks: readonly Range[];
  /** Families that pods have addresses of. */
  readonly podFamilies: ReadonlySet<Family>;

  constructor({ pods, nodes, services, world }: Pick<LintInput, 'pods' | 'nodes' | 'services' | 'world'>) {
    this.#pods = sorted(
      pods.flatMap((pod) => pod.addresses.flatMap((address) => (world.podAt(address) === pod ? [{ address, owner: pod }] : []))),
    );
    this.#services = sorted(services.flatMap((service) => service.addresses.map((address) => ({ address, owner: service }))));
    this.#nodes = sorted(nodes.flatMap(({ name, addresses }) => addresses.map((address) => ({ address, owner: name }))));
    this.podNetworks = union(nodes.flatMap(({ podCIDRs }) => podCIDRs.map(prefixRange)));
    this.podFamilies = new Set(this.#pods.map(({ address }) => familyOf(address)));
  }

  podsIn(ranges: readonly Range[]): Owners<Pod> {
    return ownersIn(this.#pods, ranges);
  }

  servicesIn(ranges: readonly Range[]): Owners<LintService> {
    return ownersIn(this.#services, ranges);
  }

  /** Nodes that have an address of their own in these ranges, by name. */
  nodesIn(ranges: readonly Range[]): Owners<string> {
    return ownersIn(this.#nodes, ranges);
  }

  /** Whether every address of the ranges is one that pods get. */
  isWithinPodNetworks(ranges: readonly Range[]): boolean {
    return ranges.length > 0 && ranges.every((range) => subtract(range, this.podNetworks).length === 0);
  }

  /** Whether any address of the ranges is one that pods get, whether a pod has it now or not. */
  touchesPodNetworks(ranges: readonly Range[]): boolean {
    return this.podNetworks.some((network) => intersects(ranges, network));
  }
}

function sorted<T>(owned: Owned<T>[]): readonly Owned<T>[] {
  return owned.sort((a, b) => compareAddresses(a.address, b.address));
}

/** As many are shown of those who are many. */
const SHOWN = 3;

function ownersIn<T>(owned: readonly Owned<T>[], ranges: readonly Range[]): Owners<T> {
  const some = new Set<T>();
  let count = 0;
  for (const { first, last } of ranges) {
    const start = firstFrom(owned, (address) => compareAddresses(address, first) >= 0);
    const end = firstFrom(owned, (address) => compareAddresses(address, last) > 0);
    count += end - start;
    for (let i = start; i < end && some.size < SHOWN; i++) {
      const entry = owned[i];
      if (entry !== undefined) some.add(entry.owner);
    }
  }
  return { count, some: [...some] };
}

/** Index of the first for which it holds, as it does for all after it. */
function firstFrom<T>(owned: readonly Owned<T>[], holds: (address: Address) => boolean): number {
  let low = 0;
  let high = owned.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = owned[middle];
    if (entry !== undefined && !holds(entry.address)) low = middle + 1;
    else high = middle;
  }
  return low;
}
