import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { ApiClient } from '../../src/kubernetes/api/client.ts';
import { ApiError } from '../../src/kubernetes/api/errors.ts';
import { SluiceError } from '../../src/errors.ts';
import { describeWithApi } from './support/describe-with-api.ts';

const GOOD = 'lab-admin';

describeWithApi('credentials', function () {
  this.timeout(60_000);
  let state: string;
  let api: ApiServer;
  let client: ApiClient | undefined;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
  });
  afterEach(() => client?.close());
  after(async () => {
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  /** The kubeconfig of the administrator, with another user. */
  function kubeconfig(user: object): string {
    const config = JSON.parse(readFileSync(api.kubeconfig('admin'), 'utf8')) as { users: { user: object }[] };
    for (const each of config.users) each.user = user;
    const file = join(state, 'other.kubeconfig');
    writeFileSync(file, JSON.stringify(config));
    return file;
  }

  async function status(): Promise<number> {
    const path = '/api/v1/namespaces';
    return await (client ?? assert.fail()).call({ method: 'GET', path }).then(
      (answer) => answer.status,
      (error: unknown) => (error instanceof ApiError ? (error.status ?? 0) : Promise.reject(error)),
    );
  }

  it('that the server no longer accepts are read again from the kubeconfig', async () => {
    const file = kubeconfig({ token: 'expired' });
    client = await ApiClient.open({ file, userAgent: 'test' });
    assert.equal(await status(), 401);
    assert.equal(await status(), 401);
    kubeconfig({ token: GOOD });
    // The refusal that comes now is what has it read.
    assert.equal(await status(), 401);
    assert.equal(await status(), 200);
  });

  it('of an exec plugin are asked for again when they have expired, or are refused', async () => {
    const token = join(state, 'token');
    const credential = (text: string): void => {
      const soon = new Date(Date.now() + 300).toISOString();
      const status = { token: text, expirationTimestamp: soon };
      writeFileSync(token, JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status }));
    };
    credential(GOOD);
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'cat', args: [token], interactiveMode: 'Never' };
    client = await ApiClient.open({ file: kubeconfig({ exec }), userAgent: 'test' });
    assert.equal(await status(), 200);
    credential('expired');
    // What is at hand is good until its time has come.
    while ((await status()) === 200);
    credential(GOOD);
    await status();
    assert.equal(await status(), 200);
  });

  it('may be a service account’s token in a file, as in a pod', async () => {
    const tokenFile = join(state, 'token');
    writeFileSync(tokenFile, GOOD);
    client = await ApiClient.open({
      file: kubeconfig({ 'auth-provider': { name: 'tokenFile', config: { tokenFile } } }),
      userAgent: 'test',
    });
    assert.equal(await status(), 200);
  });

  it('that cannot be read are told with the file, and what to do', async () => {
    const refused = async (file: string, context?: string): Promise<SluiceError> =>
      await ApiClient.open({ file, context, userAgent: 'test' }).then(
        () => assert.fail('it was read'),
        (error: unknown) => (error instanceof SluiceError ? error : Promise.reject(error)),
      );
    const missing = await refused('/nowhere/config');
    assert.equal(missing.code, 'KUBECONFIG_UNREADABLE');
    assert.match(missing.message, /^the kubeconfig \/nowhere\/config cannot be read: ENOENT$/);
    const other = await refused(kubeconfig({ token: GOOD }), 'staging');
    assert.equal(other.code, 'KUBECONFIG_CONTEXT');
    assert.match(other.hint ?? '', /It has: lab\./);
    const empty = join(state, 'empty');
    writeFileSync(empty, '{}');
    assert.equal((await refused(empty)).exitStatus, 2);
    writeFileSync(empty, '{');
    assert.equal((await refused(empty)).code, 'KUBECONFIG_UNREADABLE');
  });
});
