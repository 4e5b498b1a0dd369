/** The example of the README runs and does what it says. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { nft, withConnection } from '../nft.ts';

/** Inside of the package, so that it finds the package by name. */
const SCRIPT = fileURLToPath(new URL(`readme-example-${process.pid}.ts`, import.meta.url));

describe('README', () => {
  withConnection();

  afterEach(() => {
    rmSync(SCRIPT, { force: true });
  });

  it('has an example that runs, and makes the table that is shown', () => {
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
    const example = /```ts\n(.*?)```/s.exec(readme)?.[1];
    const listing = /```\n(table inet example .*?)```/s.exec(readme)?.[1];
    assert.ok(example !== undefined && listing !== undefined);
    writeFileSync(SCRIPT, example);
    assert.equal(execFileSync(process.execPath, [SCRIPT], { encoding: 'utf8' }), ' 4\nssh 10\n');
    assert.equal(nft('list table inet example'), listing);
  });
});
