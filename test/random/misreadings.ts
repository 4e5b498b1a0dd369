/**
 * What engines get wrong, row by row: each is another reading of the same cluster. A probe whose verdict would be another one under
 * a misreading shows the row: the packet went as the row says, and not as the misreading would have it. So coverage is counted in
 * packets that could have gone the other way, and not in objects that happened to be drawn.
 *
 * A misreading rewrites the objects or the world (and then the true evaluator judges what they say), or the verdict.
 */
import type { World } from '../../src/policy/world.ts';
import type { ApiObject } from './cluster.ts';
import { BLOCKS } from './misreadings/blocks.ts';
import type { Misreading } from './misreadings/misreading.ts';
import { PODS_AND_PATHS } from './misreadings/pods-and-paths.ts';
import { POLICIES_AND_PEERS } from './misreadings/policies-and-peers.ts';
import { PORTS_AND_PROTOCOLS } from './misreadings/ports-and-protocols.ts';
import { type Expectation, expectationOf, type Probe } from './probes.ts';
import { worldFrom } from './world.ts';

export type { Misreading } from './misreadings/misreading.ts';

/** By row. */
export const MISREADINGS: readonly Misreading[] = [...POLICIES_AND_PEERS, ...PORTS_AND_PROTOCOLS, ...BLOCKS, ...PODS_AND_PATHS].sort(
  (a, b) => a.row - b.row,
);

/** Worlds of one cluster as each misreading has it; made once, asked for every probe. */
export class MisreadCluster {
  readonly #world: World;
  readonly #worlds: readonly (readonly [misreading: Misreading, world: World])[];

  /** @param before the objects of the state before, where only some things have changed since */
  constructor(objects: readonly ApiObject[], before: readonly ApiObject[] | undefined, only?: ReadonlySet<Misreading>) {
    this.#world = worldFrom(objects);
    this.#worlds = MISREADINGS.flatMap((misreading) => {
      if (only !== undefined && !only.has(misreading)) return [];
      if (misreading.world !== undefined) {
        const world = misreading.world(this.#world, before);
        return world === undefined ? [] : [[misreading, world] as const];
      }
      if (misreading.objects === undefined) return [[misreading, this.#world] as const];
      const misread = misreading.objects(objects, before);
      return misread === objects ? [] : [[misreading, worldFrom(misread)] as const];
    });
  }

  /** The misreadings under which the probe would go the other way. */
  shownBy(probe: Probe, truth: Expectation): Misreading[] {
    return this.#worlds.flatMap(([misreading, world]) => {
      if (misreading.concerns !== undefined && !misreading.concerns(probe)) return [];
      return allowedBy(misreading, world, probe, truth) === truth.allowed ? [] : [misreading];
    });
  }
}

function allowedBy(misreading: Misreading, world: World, probe: Probe, truth: Expectation): boolean {
  if (misreading.allowed !== undefined) return misreading.allowed(world, probe, truth);
  const { egress, ingress } = expectationOf(world, probe);
  // Nobody enforces anything on nodes and outside, whatever pods are taken to be there.
  return (!probe.from.startsWith('slot/') || egress.allowed) && (!probe.to.startsWith('slot/') || ingress.allowed);
}
