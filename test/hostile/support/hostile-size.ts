/** How much of it: everything in `npm run test:hostile` (`SLUICE_HOSTILE=all`), a part of it in other runs. */

export const IS_ALL = process.env['SLUICE_HOSTILE'] === 'all';

/** What others’ changes may take until they are in force, the 99th of a hundred. Other tests run at the same time unless all of it is played. */
export const IN_FORCE_MS = IS_ALL ? 250 : 1_000;
/** The one in a hundred that is beyond it. */
export const SLOWEST_MS = 1_000;
/** What health may take to answer: as long as kubelet waits. */
export const HEALTH_MS = 1_000;
/** Of the agent, at its peak. */
export const RESIDENT_BYTES = 450e6;
/** What the manifests allow the agent. */
export const CGROUP_BYTES = 600 * 1024 * 1024;

export function size<T>(inAnyRun: T, all: T): T {
  return IS_ALL ? all : inAnyRun;
}
