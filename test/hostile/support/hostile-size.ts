/** How much of it: everything in `npm run test:hostile` (`SLUICE_HOSTILE=all`), a part of it in other runs. */

export const IS_ALL = process.env['SLUICE_HOSTILE'] === 'all';

/** The size that this run is about. */
export function size<T>(inAnyRun: T, all: T): T {
  return IS_ALL ? all : inAnyRun;
}

/**
 * What others’ changes may take until they are in force, 99 of a hundred. Where all is played nothing else runs; in other runs some sandboxes share the
 * processors, and times are only bounds on what does not end by itself.
 */
export const IN_FORCE_MS = size(5_000, 250);
/** The one in a hundred that is beyond it. */
export const SLOWEST_MS = size(5_000, 1_000);
/** What health may take to answer: as long as kubelet waits. */
export const HEALTH_MS = size(5_000, 1_000);
/** Of the agent, at its peak. */
export const RESIDENT_BYTES = 450e6;
/** What the manifests allow the agent. */
export const CGROUP_BYTES = 600 * 1024 * 1024;
