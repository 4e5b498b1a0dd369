/**
 * Drawing what is worth probing. A cluster has a theme: misreadings that it has to be able to show, and it is drawn until it can, so
 * that even rare corners are met in every run. Clusters of consecutive seeds go through all misreadings.
 */
import type { World } from '../../src/policy/world.ts';
import { type ApiObject, Dice } from './cluster.ts';
import { LabCluster } from './lab-cluster.ts';
import { type Misreading, MISREADINGS, MisreadCluster } from './misreadings.ts';
import { type Expectation, expectationOf, type Probe, PROBES } from './probes.ts';
import { worldFrom } from './world.ts';

/** Draws that are made for both themes of a cluster, and then for each: the rarest shows in one of about a hundred. */
const DRAWS_TOGETHER = 60;
const DRAWS_MAX = 2000;
/** Changes that are made, one after the other, until they make a difference. */
const CHANGES_TRIED = 6;
const PROBES_A_STATE = 260;
/** Of each misreading that a state can show. */
const PROBES_A_MISREADING = 5;
/** So many consecutive seeds have every misreading as their theme. */
export const SEEDS_FOR_ALL = Math.ceil(MISREADINGS.length / 2);

/** The misreadings that the cluster of a seed is to show: two, far from each other in the list, so that they are rarely both rare. */
export function themesOf(seed: number): readonly Misreading[] {
  const at = ((seed % SEEDS_FOR_ALL) + SEEDS_FOR_ALL) % SEEDS_FOR_ALL;
  return [MISREADINGS[at], MISREADINGS[at + SEEDS_FOR_ALL]].filter((theme) => theme !== undefined);
}

export interface PlannedProbe {
  readonly probe: Probe;
  readonly expectation: Expectation;
  readonly shows: readonly Misreading[];
}

/** Draws clusters that show the seed's themes: one that shows both, or, where that is rare, one for each. */
export function drawClusters(seed: number): readonly LabCluster[] {
  const themes = themesOf(seed);
  const together = drawUntil(seed, themes, DRAWS_TOGETHER);
  if (together !== undefined) return [together];
  return themes.flatMap((theme) => drawUntil(seed, [theme], DRAWS_MAX) ?? []);
}

function drawUntil(seed: number, themes: readonly Misreading[], draws: number): LabCluster | undefined {
  const ofChanges = themes.filter(({ change }) => change !== undefined);
  const ofStates = themes.filter(({ change }) => change === undefined);
  for (let draw = 0; draw < draws; draw++) {
    const clusterSeed = Math.imul(seed, 0x9e3779b1) + draw;
    const cluster = new LabCluster(clusterSeed);
    if (!shows(cluster.objects, ofStates)) continue;
    // A cluster of the same seed changes in the same way.
    if (ofChanges.length === 0 || changeUntilShown(new LabCluster(clusterSeed), ofChanges).shown) return cluster;
  }
  return undefined;
}

/** Whether there is a probe for each theme that would go the other way. */
function shows(objects: readonly ApiObject[], themes: readonly Misreading[], before?: readonly ApiObject[]): boolean {
  const misread = new MisreadCluster(objects, before, new Set(themes));
  const world = worldFrom(objects);
  const open = new Set(themes);
  for (const probe of PROBES) {
    if (open.size === 0) break;
    for (const misreading of misread.shownBy(probe, expectationOf(world, probe))) open.delete(misreading);
  }
  return open.size === 0;
}

/** Some of every misreading that the objects can show, and others at random. */
export function drawProbes(seed: number, objects: readonly ApiObject[], before: readonly ApiObject[] | undefined): readonly PlannedProbe[] {
  const dice = new Dice(seed);
  const misread = new MisreadCluster(objects, before);
  const world = worldFrom(objects);
  const wanted = new Map<Misreading, number>();
  const chosen: PlannedProbe[] = [];
  const others: PlannedProbe[] = [];
  for (const probe of dice.shuffle(PROBES)) {
    const expectation = expectationOf(world, probe);
    const shows = misread.shownBy(probe, expectation);
    const isWanted = shows.some((misreading) => (wanted.get(misreading) ?? 0) < PROBES_A_MISREADING);
    for (const misreading of shows) wanted.set(misreading, (wanted.get(misreading) ?? 0) + (isWanted ? 1 : 0));
    (isWanted ? chosen : others).push({ probe, expectation, shows });
  }
  return [...chosen, ...others.slice(0, Math.max(0, PROBES_A_STATE - chosen.length))];
}

/** Changes the cluster until its theme shows, if that is about changes, or until some verdict is another one. Says what was changed. */
export function drawChange(cluster: LabCluster, seed: number): readonly string[] {
  const themes = themesOf(seed).filter(({ change }) => change !== undefined);
  if (themes.length > 0) return changeUntilShown(cluster, themes).changes;
  const world = worldFrom(cluster.objects);
  const changes: string[] = [];
  for (let tried = 0; tried < CHANGES_TRIED; tried++) {
    // Half of the clusters change labels alone.
    changes.push(...cluster.change(seed % 2 === 0 ? 'labels' : undefined));
    if (isOtherwise(world, worldFrom(cluster.objects))) break;
  }
  return changes;
}

/** Changes what the themes are about until the themes show, or until enough has been tried. */
function changeUntilShown(
  cluster: LabCluster,
  themes: readonly Misreading[],
): { readonly changes: readonly string[]; readonly shown: boolean } {
  const before = cluster.objects;
  const changes: string[] = [];
  for (let tried = 0; tried < CHANGES_TRIED; tried++) {
    changes.push(...cluster.change(themes[tried % themes.length]?.change));
    if (shows(cluster.objects, themes, before)) return { changes, shown: true };
  }
  return { changes, shown: false };
}

function isOtherwise(before: World, after: World): boolean {
  return PROBES.some((probe) => expectationOf(before, probe).allowed !== expectationOf(after, probe).allowed);
}
