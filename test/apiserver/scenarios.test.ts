import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { readCluster } from '../../src/audit/cluster-inventory.ts';
import { readDirectory } from '../../src/audit/manifest-inventory.ts';
import { ApiClient } from '../../src/kubernetes/api/client.ts';
import { playScenario } from '../../src/lab/run-scenario.ts';
import { readScenario } from '../../src/lab/scenario.ts';
import { isAsExpected } from '../../src/lab/verdicts.ts';
import { plain } from '../../src/output/colour.ts';
import { explainedOtherwise, type Measured, samePods, tabledOtherwise, turnedOtherwise } from './support/audit-answers.ts';
import { describeWithApi } from './support/describe-with-api.ts';

const SCENARIOS = resolve(import.meta.dirname, '../../fixtures/scenarios');

describeWithApi('scenarios through an API server', function () {
  this.timeout(180_000);

  for (const name of readdirSync(SCENARIOS)) {
    it(`${name}: what agents enforce of the API's objects is what people expect, and what the audit commands say`, async () => {
      const state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
      const saidOtherwise: string[] = [];
      let before: Measured | undefined;
      let compared = 0;
      const stage = await playScenario(readScenario(join(SCENARIOS, name)), {
        state,
        agents: true,
        api: true,
        stepDone: async ({ step, records }, { lab, directory }) => {
          const client = await ApiClient.open({ file: join(state, 'api/admin.kubeconfig'), userAgent: 'sluice-test' });
          const inventories = [await readDirectory(directory), await readCluster({ client, server: 'here', namespaces: [] })];
          client.close();
          for (const inventory of inventories) {
            const wrong = [...(await explainedOtherwise(inventory, lab, records)), ...tabledOtherwise(inventory, lab, records)];
            if (before !== undefined && samePods(before.inventory, inventory)) {
              wrong.push(...turnedOtherwise(lab, before, { inventory, records }));
              compared++;
            }
            saidOtherwise.push(...wrong.map((line) => `${step}, ${inventory.origin}: ${line}`));
          }
          const [inventory] = inventories;
          before = inventory && { inventory, records };
        },
        progress: () => undefined,
        paint: plain,
      });
      try {
        const records = stage.reports.flatMap((report) => report.records);
        assert.ok(records.length > 0);
        assert.deepEqual(
          records.filter((record) => !isAsExpected(record)),
          [],
        );
        assert.deepEqual(saidOtherwise, []);
        // Of the steps of ended-pods few leave the pods as they are.
        assert.ok(compared > 0 || name === 'ended-pods');
      } finally {
        await stage.close();
        rmSync(state, { recursive: true, force: true });
      }
    });
  }
});
