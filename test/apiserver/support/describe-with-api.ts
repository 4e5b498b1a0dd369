/** Tests that need a real API server: left out, and counted as skipped, where its programs are missing. */
import { findPrograms } from '../../../src/lab/api/api-server.ts';
import { LabError } from '../../../src/lab/errors.ts';

function missing(): string | undefined {
  try {
    findPrograms();
    return undefined;
  } catch (error) {
    if (error instanceof LabError) return error.message;
    throw error;
  }
}

export function describeWithApi(title: string, suite: (this: Mocha.Suite) => void): void {
  const reason = missing();
  if (reason === undefined) describe(title, suite);
  else if (process.env['SLUICE_REQUIRE_APISERVER'] === '1') throw new Error(reason);
  else describe.skip(`${title} (${reason})`, suite);
}
