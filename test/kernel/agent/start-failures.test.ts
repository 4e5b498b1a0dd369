/** An agent that cannot start ends with a status, and closes what it had opened; it does not stay, alive and enforcing nothing. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentLab } from '../support/agent-lab.ts';
import { PROGRAM } from '../support/agent-process.ts';
import { policyObject } from '../support/objects.ts';

const HEALTH = '127.0.0.1:9499';

describe('an agent that cannot start', function () {
  this.timeout(60_000);
  let cluster: AgentLab;
  let directory: string;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-start-'));
    writeFileSync(join(directory, 'file'), '');
    writeFileSync(join(directory, 'broken.kubeconfig'), '{');
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      pods: ['client', 'server'].map((name) => ({ namespace: 'shop', name, node: 'n1' })),
      podLabels: { 'shop/server': { app: 'server' } },
      objects: [policyObject('shop', 'closed', { podSelector: { matchLabels: { app: 'server' } } })],
    });
    // What it has left is in force, and stays.
    await cluster.agent('n1').end('SIGKILL');
  });
  after(async () => {
    await cluster.close();
    rmSync(directory, { recursive: true });
  });

  for (const [what, args, status, says] of [
    ['a source that is not there', ['--source', '/nonexistent'], 1, /the source directory \/nonexistent does not exist\nCreate it/],
    ['a source that is a file', ['--source', 'DIRECTORY/file'], 1, /is not a directory/],
    ['a kubeconfig that is not there', ['--kubeconfig', '/nonexistent'], 2, /the kubeconfig \/nonexistent cannot be read/],
    ['a kubeconfig that is broken', ['--kubeconfig', 'DIRECTORY/broken.kubeconfig'], 2, /kubeconfig/],
  ] as const) {
    it(`ends and says so: ${what}`, async () => {
      const given = args.map((arg) => arg.replace('DIRECTORY', directory));
      const argv = [
        process.execPath,
        PROGRAM,
        'agent',
        '--node',
        'n1',
        '--health-address',
        HEALTH,
        '--observe-socket',
        '/run/start.sock',
        ...given,
      ];
      // Ends by itself: `timeout` would say 124.
      const ended = await cluster.lab.exec('node/n1', ['timeout', '30', ...argv], { check: false });
      assert.equal(ended.status, status, ended.stderr);
      assert.match(ended.stderr, says);
      assert.doesNotMatch(ended.stderr, /defect/);
      await cluster.expect('denied', { from: 'shop/client', to: 'shop/server' });
    });
  }

  it('leaves the node to one that can', async () => {
    cluster.start('n1');
    await cluster.settled();
    await cluster.expect('denied', { from: 'shop/client', to: 'shop/server' });
  });

  it('is none because of what a tenant’s file holds: thousands of lists in one another', async () => {
    const depth = 3_000;
    mkdirSync(join(cluster.directory, 'deep'), { recursive: true });
    const text = `${'{"apiVersion":"v1","kind":"List","items":['.repeat(depth)}${']}'.repeat(depth)}`;
    writeFileSync(join(cluster.directory, 'deep', 'lists.json'), text);
    await cluster.agent('n1').end('SIGKILL');
    cluster.start('n1');
    await cluster.settled();
    await cluster.remove(policyObject('shop', 'closed', {}));
    await cluster.expect('allowed', { from: 'shop/client', to: 'shop/server' });
    assert.ok(cluster.agent('n1').running);
  });
});
