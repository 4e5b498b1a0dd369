/** Waiting in tests: for a condition, never for a time. */
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * The first value of `probe` that is neither undefined nor false; asked for until then.
 * @throws after `timeoutMs`, with `what` and how it looked last
 */
export async function eventually<T>(what: string, probe: () => T | undefined | false, timeoutMs = 10_000): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = probe();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(2);
  }
}

/** For `before` hooks of tests that change the network: skips them outside of scripts/sandbox.sh. */
export function onlyInSandbox(context: Mocha.Context): void {
  if (process.env['SLUICE_SANDBOX'] === undefined) {
    console.error('      skipped: changes the network, so it runs only under scripts/sandbox.sh');
    context.skip();
  }
}
