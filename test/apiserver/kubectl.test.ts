import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { applyRoles } from '../../src/lab/api/manifests.ts';
import { run } from '../../src/lab/namespaces.ts';
import { AgentLab } from '../kernel/support/agent-lab.ts';
import { describeWithApi } from './support/describe-with-api.ts';

const STEPS = resolve(import.meta.dirname, '../../fixtures/scenarios/dev-and-prod');

/** The policies of the steps, as their files are. */
function policyFile(step: string): string {
  const directory = readdirSync(STEPS).find((name) => name.startsWith(step)) ?? assert.fail(step);
  const file = readdirSync(join(STEPS, directory)).find((name) => !/^(delete|expect)\./.test(name)) ?? assert.fail(directory);
  return join(STEPS, directory, file);
}

for (const [servers, flags] of [
  ['streams lists', []],
  ['does not (WatchList off)', ['--feature-gates=WatchList=false']],
] as const) {
  describeWithApi(`kubectl, with an API server that ${servers}`, function () {
    this.timeout(120_000);
    let state: string;
    let api: ApiServer;
    let cluster: AgentLab;

    before(async () => {
      state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
      api = await ApiServer.start({ state, flags });
      await applyRoles(api.admin);
      // As the scenario has them: myapp, a client and an intruder in dev, an application in prod; two nodes.
      cluster = await AgentLab.create({
        nodes: [{ name: 'node-a' }, { name: 'node-b' }],
        pods: [
          { namespace: 'dev', name: 'myapp', node: 'node-a', addresses: ['10.244.0.2', 'fd00:10:244::2'] },
          { namespace: 'dev', name: 'intruder', node: 'node-a', addresses: ['10.244.0.3', 'fd00:10:244::3'] },
          { namespace: 'dev', name: 'client', node: 'node-b', addresses: ['10.244.1.2', 'fd00:10:244:1::2'] },
          { namespace: 'prod', name: 'api', node: 'node-b', addresses: ['10.244.1.3', 'fd00:10:244:1::3'] },
        ],
        podLabels: { 'dev/myapp': { app: 'myapp' } },
        api,
      });
    });

    after(async () => {
      await cluster?.close();
      await api?.close();
      rmSync(state, { recursive: true, force: true });
    });

    async function kubectl(...args: readonly string[]): Promise<string> {
      const { stdout } = await run(undefined, [api.kubectl, '--kubeconfig', api.kubeconfig('admin'), ...args]);
      await cluster.settled();
      return stdout;
    }

    it('apply of each policy of dev-and-prod, and delete, change what packets do', async () => {
      const others = ['dev/client', 'dev/intruder', 'prod/api', 'outside'];
      await cluster.expect('allowed', ...others.map((from) => ({ from, to: 'dev/myapp' })));

      assert.match(await kubectl('apply', '-f', policyFile('01')), /created/);
      await cluster.expect('denied', ...others.map((from) => ({ from, to: 'dev/myapp' })));
      await cluster.expect('allowed', { from: 'dev/myapp', to: 'prod/api' }, { from: 'dev/myapp', to: 'outside' });
      await kubectl('delete', '-f', policyFile('01'));

      assert.match(await kubectl('apply', '-f', policyFile('02')), /created/);
      await cluster.expect('allowed', ...others.map((from) => ({ from, to: 'dev/myapp' })));
      await kubectl('delete', '-f', policyFile('02'));

      // 10.244.0.0/16 but for the intruder's address, TCP 80.
      assert.match(await kubectl('apply', '-f', policyFile('03')), /created/);
      const overTcp = { to: 'dev/myapp', protocols: ['TCP'], families: [4] } as const;
      await cluster.expect('allowed', { from: 'dev/client', ...overTcp }, { from: 'prod/api', ...overTcp });
      await cluster.expect(
        'denied',
        { from: 'dev/intruder', ...overTcp },
        { from: 'outside', ...overTcp },
        { from: 'dev/client', ...overTcp, port: 81 },
        { from: 'dev/client', to: 'dev/myapp', protocols: ['UDP'] },
        { from: 'dev/client', to: 'dev/myapp', families: [6] },
      );

      assert.match(await kubectl('apply', '-f', policyFile('04')), /created/);
      await cluster.expect(
        'denied',
        { from: 'prod/api', ...overTcp },
        { from: 'prod/api', to: 'outside' },
        { from: 'prod/api', to: 'dev/client' },
      );
      await cluster.expect('allowed', { from: 'dev/client', to: 'prod/api' }, { from: 'outside', to: 'prod/api' });
      await kubectl('delete', '-f', policyFile('04'));

      assert.match(await kubectl('apply', '-f', policyFile('05')), /created/);
      await cluster.expect('allowed', { from: 'prod/api', ...overTcp }, { from: 'prod/api', to: 'outside' });
    });

    it('edits of labels take effect without any change of the policy', async () => {
      await cluster.expect('denied', { from: 'outside', to: 'dev/myapp', protocols: ['TCP'], families: [4] });
      await kubectl('label', 'pod', '-n', 'dev', 'myapp', 'app=other', '--overwrite');
      await cluster.expect('allowed', { from: 'outside', to: 'dev/myapp' });
      await kubectl('label', 'pod', '-n', 'dev', 'myapp', 'app=myapp', '--overwrite');
      await cluster.expect('denied', { from: 'outside', to: 'dev/myapp' });
    });

    it('the agent may do nothing but list and watch what it reads', async () => {
      const can = async (...what: readonly string[]): Promise<string> =>
        (
          await run(undefined, [api.kubectl, '--kubeconfig', api.kubeconfig('agent'), 'auth', 'can-i', ...what], { check: false })
        ).stdout.trim();
      assert.equal(await can('watch', 'pods', '--all-namespaces'), 'yes');
      for (const verb of ['get', 'create', 'delete', 'patch']) assert.equal(await can(verb, 'pods', '-n', 'dev'), 'no', verb);
      assert.equal(await can('list', 'secrets', '--all-namespaces'), 'no');
      assert.equal(await can('patch', 'nodes'), 'no');
    });
  });
}
