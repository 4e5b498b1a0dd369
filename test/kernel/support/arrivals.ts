/** When the last message of a live flow arrived: how long after a commit a flow was really cut. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabFlow } from '../../../src/lab/flows.ts';

export interface Arrivals {
  /** ms since the epoch, as the agent's log has it; the time of the first look where nothing has arrived since. */
  readonly lastAt: number;
  /** False: messages still arrived when time was up. */
  readonly silent: boolean;
}

/** Looks at the flows until nothing has arrived on any for `quietMs`, or `withinMs` is over; one result a flow. */
export async function lastArrivals(flows: readonly LabFlow[], { quietMs = 250, withinMs = 5000 } = {}): Promise<readonly Arrivals[]> {
  const startedAt = Date.now();
  const seen = flows.map(() => ({ received: -1, lastAt: startedAt }));
  for (;;) {
    const counts = await Promise.all(flows.map((flow) => flow.counts()));
    const now = Date.now();
    for (const [index, { client, server }] of counts.entries()) {
      const state = seen[index];
      const received = client.received + server.received;
      if (state === undefined || received === state.received) continue;
      if (state.received >= 0) state.lastAt = now;
      state.received = received;
    }
    const quiet = seen.map(({ lastAt }) => now - lastAt >= quietMs);
    if (quiet.every(Boolean) || now - startedAt > withinMs) {
      return seen.map(({ lastAt }, index) => ({ lastAt, silent: quiet[index] === true }));
    }
    await sleep(1);
  }
}
