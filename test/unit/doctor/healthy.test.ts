import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CHECKS, examine } from '../../../src/doctor/checks.ts';
import type { Evidence } from '../../../src/doctor/evidence.ts';
import { FINDING_CODES, isInOrder } from '../../../src/doctor/report.ts';
import { HEALTHY } from './healthy-node.ts';

const ROOT = join(import.meta.dirname, '../../..');

describe('the doctor on a healthy node', () => {
  it('finds nothing, and could look at everything', () => {
    const report = examine(HEALTHY);
    assert.deepEqual(report.findings, []);
    assert.deepEqual(
      report.checks.filter(({ result }) => result !== 'ok'),
      [
        { name: 'path-probe', result: 'skipped', reason: 'not asked for: --probe sends each peer a few packets' },
        { name: 'checksum-offload', result: 'skipped', reason: 'Linux 6.1.0-13-amd64 does not have the fault' },
      ],
    );
    assert.ok(isInOrder(report));
  });

  const parts: readonly (keyof Evidence)[] = ['tables', 'sysctls', 'leases', 'subnetFile', 'cni', 'rules', 'modules', 'linkFiles', 'paths'];
  for (const part of parts) {
    it(`does not take for in order what it could not look at: ${part}`, () => {
      const evidence: Evidence = { ...HEALTHY, [part]: { blind: 'for a reason' } };
      // Some are looked at only where something else is wrong already.
      if (part === 'modules' || part === 'linkFiles') Object.assign(evidence, { tables: { blind: 'for a reason' } });
      const report = examine(evidence);
      assert.deepEqual(report.findings, []);
      const skipped = report.checks.filter(({ blind }) => blind === true);
      assert.ok(skipped.length > 0 && skipped.every(({ result, reason }) => result === 'skipped' && /for a reason/.test(reason ?? '')));
      assert.ok(!isInOrder(report));
    });
  }
});

describe('docs/cli/doctor.md', () => {
  const page = readFileSync(join(ROOT, 'docs/cli/doctor.md'), 'utf8');

  it('has every check, with every code of its findings, and no others', () => {
    const sections = page.split(/^### /m).slice(1);
    const documented = sections.map((section) => {
      const codes = [...section.matchAll(/^\| `([A-Z][A-Z_]+)`/gm)].map((match) => match[1] ?? '');
      return [section.split('\n')[0], new Set(codes)] as const;
    });
    const known = Object.entries(FINDING_CODES).map(([name, codes]) => [name, new Set<string>(codes)] as const);
    assert.deepEqual(Object.fromEntries(documented), Object.fromEntries(known));
    assert.deepEqual(Object.keys(CHECKS), Object.keys(FINDING_CODES));
  });

  it('has the flags as the program has them', async () => {
    const { command } = await import('../../../src/commands/doctor.ts');
    const [, usage = ''] = /^## Flags\n(.*?)^## /ms.exec(page) ?? [];
    assert.deepEqual(
      [...usage.matchAll(/^ {6}(?:-\w, )?(--[\w-]+)/gm)].map((match) => match[1]).filter((flag) => flag !== '--help'),
      command().options.map(({ long }) => long),
    );
  });
});
