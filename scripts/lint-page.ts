/** Writes docs/lint.md from the table of codes: `node scripts/lint-page.ts`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codesPage } from '../src/commands/lint-codes.ts';

writeFileSync(join(import.meta.dirname, '../docs/lint.md'), codesPage());
