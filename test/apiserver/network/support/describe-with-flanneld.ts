/** Tests that need flanneld and a real API server: left out, and counted as skipped, where a program is missing. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeWithApi } from '../../support/describe-with-api.ts';

const SCRIPT = fileURLToPath(new URL('../../../../scripts/build-flanneld.sh', import.meta.url));

/** Path of flanneld: in $SLUICE_FLANNELD, or where scripts/build-flanneld.sh keeps it. */
export function findFlanneld(): string | undefined {
  const built = spawnSync('sh', [SCRIPT, '--find'], { encoding: 'utf8', env: { HOME: homedir(), ...process.env } }).stdout.trim();
  return [process.env['SLUICE_FLANNELD'] ?? '', built]
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, 'flanneld'))
    .find(existsSync);
}

export function describeWithFlanneld(title: string, suite: (this: Mocha.Suite) => void): void {
  const reason = 'there is no flanneld here; build it with: sh scripts/build-flanneld.sh';
  if (findFlanneld() !== undefined) describeWithApi(title, suite);
  else if (process.env['SLUICE_REQUIRE_FLANNELD'] === '1') throw new Error(reason);
  else describe.skip(`${title} (${reason})`, suite);
}
