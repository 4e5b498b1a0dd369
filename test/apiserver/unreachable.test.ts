import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentLab } from '../kernel/support/agent-lab.ts';
import { AgentProcess } from '../kernel/support/agent-process.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { policyObject } from '../kernel/support/objects.ts';

/** Nobody listens there. */
const KUBECONFIG = {
  apiVersion: 'v1',
  kind: 'Config',
  clusters: [{ name: 'c', cluster: { server: 'http://127.0.0.1:1' } }],
  users: [{ name: 'u', user: { token: 't' } }],
  contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
  'current-context': 'x',
};

describe('an agent whose API server has never been there', function () {
  this.timeout(60_000);

  it('leaves in force what the kernel has, is alive and not ready, says why, and ends when it is told to', async () => {
    const state = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    const kubeconfig = join(state, 'kubeconfig');
    writeFileSync(kubeconfig, JSON.stringify(KUBECONFIG));
    const cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      pods: ['web', 'client'].map((name) => ({ namespace: 'shop', name, node: 'n1' })),
      objects: [policyObject('shop', 'closed', { ingress: [] })],
    });
    try {
      await cluster.expect('denied', { from: 'shop/client', to: 'shop/web' });
      await cluster.agent('n1').end();
      const agent = new AgentProcess(cluster.lab, 'n1', { source: ['--kubeconfig', kubeconfig], state, name: 'unreachable', args: [] });
      const get = async (path: string): Promise<{ status: number; stdout: string }> =>
        await cluster.lab.exec(
          'node/n1',
          [
            process.execPath,
            '-e',
            `fetch('http://127.0.0.1:9478${path}').then(async (a) => { process.stdout.write(await a.text()); process.exit(a.ok ? 0 : 3); }, () => process.exit(4))`,
          ],
          { check: false },
        );
      await eventually(async () => (await get('/healthz')).status === 0, 'it is alive', { everyMs: 100 });
      const { status, stdout } = await get('/readyz');
      assert.equal(status, 3);
      assert.match(stdout, /the source has not been read as a whole/);
      const failures = agent.log().filter(({ code }) => code === 'API_UNREACHABLE');
      // Each kind once, and not at every try.
      assert.deepEqual(failures.map(({ resource }) => String(resource)).sort(), ['Namespace', 'NetworkPolicy', 'Node', 'Pod']);
      await cluster.expect('denied', { from: 'shop/client', to: 'shop/web' });
      assert.deepEqual(await agent.end('SIGTERM'), { code: 0, signal: null });
    } finally {
      await cluster.close();
      rmSync(state, { recursive: true, force: true });
    }
  });
});
