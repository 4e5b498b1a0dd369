import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SCHEMA_DIRECTORY, schemaFiles } from '../../scripts/schemas.ts';

describe('docs/schema', () => {
  it('has the schema of everything that is printed for programs, as it is now (node scripts/schemas.ts writes them)', async () => {
    const files = await schemaFiles();
    assert.ok(files.size >= 6);
    assert.deepEqual(readdirSync(SCHEMA_DIRECTORY).toSorted(), [...files.keys()]);
    for (const [name, text] of files) assert.equal(readFileSync(join(SCHEMA_DIRECTORY, name), 'utf8'), text, name);
  });
});
