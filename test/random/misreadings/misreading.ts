/** What a misreading is: one thing that engines get wrong about a row of the semantics. */
import type { World } from '../../../src/policy/world.ts';
import type { ApiObject } from '../cluster.ts';
import type { Expectation, Probe } from '../probes.ts';

export interface Misreading {
  readonly row: number;
  /** As a sentence about what is got wrong. */
  readonly reading: string;
  /** The objects as they are misread; the same list where nothing in it can be misread so. */
  readonly objects?: (objects: readonly ApiObject[], before: readonly ApiObject[] | undefined) => readonly ApiObject[];
  /** The world as it is misread; undefined where nothing in it can be misread so. */
  readonly world?: (world: World, before: readonly ApiObject[] | undefined) => World | undefined;
  /** It is about what was before: a change of this kind is needed for it to show. */
  readonly change?: 'labels' | 'pods';
  /** Whether the probe would be allowed. Default: what the evaluator says of the rewritten objects. */
  readonly allowed?: (world: World, probe: Probe, truth: Expectation) => boolean;
  /** Probes that it is about. Default: all. */
  readonly concerns?: (probe: Probe) => boolean;
}
