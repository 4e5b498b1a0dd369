/** Waiting for a condition, never for a time. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Patience {
  readonly withinMs?: number;
  readonly everyMs?: number;
}

/** Resolves as soon as the condition holds; fails, saying what was waited for, where it does not within the time (default: 15 s). */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string | (() => string),
  { withinMs = 15_000, everyMs = 5 }: Patience = {},
): Promise<void> {
  const until = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > until) assert.fail(`waited ${withinMs} ms in vain: ${typeof what === 'string' ? what : what()}`);
    await sleep(everyMs);
  }
}
