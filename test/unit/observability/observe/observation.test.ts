/** What an agent says to those who come to its socket with something else than a request that it can serve. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Poller } from 'nftables-js';
import { pino } from 'pino';
import { Observation } from '../../../../src/observability/observe/observation.ts';
import { type Failed, OBSERVED } from '../../../../src/observability/observed-flow.ts';
import { Cluster } from '../../../../src/cluster/cluster.ts';
import { eventually } from '../../../kernel/support/eventually.ts';
import { MODEL } from '../../policy/model.ts';

describe('the socket of an agent', () => {
  let directory: string;
  let path: string;
  let poller: Poller;
  let observation: Observation;
  let isSynced = true;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-observe-'));
    path = join(directory, 'deep', 'observe.sock');
    poller = new Poller();
    const world = new Cluster('n1');
    world.apply([
      ...MODEL.namespaces.map((object) => ({ type: 'upsert', kind: 'Namespace', key: object.name, object }) as const),
      ...MODEL.pods.map((object) => ({ type: 'upsert', kind: 'Pod', key: `${object.namespace}/${object.name}`, object }) as const),
    ]);
    observation = new Observation({
      node: 'n1',
      world,
      poller,
      log: pino({ level: 'silent' }),
      logGroup: undefined,
      socket: path,
      async *refused() {},
      isSynced: () => isSynced,
    });
    while (!statSync(path, { throwIfNoEntry: false })?.isSocket()) await new Promise(setImmediate);
  });
  after(() => {
    observation.close();
    poller.close();
    rmSync(directory, { recursive: true });
  });

  function reach(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path }, () => resolve(socket));
      socket.on('error', reject);
    });
  }

  /** What it answers until it ends. */
  async function answer(socket: Socket): Promise<Failed> {
    let text = '';
    for await (const chunk of socket.setEncoding('utf8')) text += String(chunk);
    const record = OBSERVED.parse(JSON.parse(text));
    assert.ok(record.kind === 'Failed');
    return record;
  }

  async function asked(text: string): Promise<Failed> {
    const socket = await reach();
    socket.write(text);
    return answer(socket);
  }

  const request = (fields: object): string => `${JSON.stringify({ kind: 'Observe', apiVersion: 'sluice.dev/v1', ...fields })}\n`;

  it('refuses what is no request, of another version, or too long', async () => {
    for (const text of [
      'hello\n',
      '{}\n',
      '[]\n',
      '\n',
      'GET / HTTP/1.1\n',
      request({ apiVersion: 'sluice.dev/v2' }),
      request({ since: 'yesterday' }),
      'x'.repeat(70_000),
    ])
      assert.equal((await asked(text)).code, 'REQUEST_UNREADABLE', text.slice(0, 40));
  });

  it('reads a request that comes in parts', async () => {
    const socket = await reach();
    const text = request({ filter: { pods: ['x/nobody'] } });
    for (const part of [text.slice(0, 10), text.slice(10, 11), text.slice(11)]) {
      socket.write(part);
      await new Promise(setImmediate);
    }
    assert.equal((await answer(socket)).code, 'NAME_UNKNOWN');
  });

  it('says which name there is not, and what there is', async () => {
    assert.deepEqual(await asked(request({ filter: { namespaces: ['w'] } })), {
      kind: 'Failed',
      apiVersion: 'sluice.dev/v1',
      code: 'NAME_UNKNOWN',
      message: 'there is no namespace w',
      name: 'w',
      known: ['x', 'y', 'z'],
    });
    const { message, name, known } = await asked(request({ filter: { to: ['y/q'] } }));
    assert.deepEqual([message, name, known], ['there is no pod q in namespace y', 'q', ['a', 'b', 'c']]);
    assert.equal((await asked(request({ filter: { from: ['10.0.0.300'] } }))).message, '10.0.0.300 is no name, address or CIDR');
  });

  it('takes no name for wrong before it knows all names', async () => {
    isSynced = false;
    const { code } = await asked(request({ filter: { namespaces: ['w'] } }));
    isSynced = true;
    assert.equal(code, 'LOG_GROUP_OFF');
  });

  it('says that it logs nothing, where only that was asked for', async () => {
    const { code, message } = await asked(request({ filter: { pods: ['x/a'] } }));
    assert.deepEqual([code, message], ['LOG_GROUP_OFF', 'this agent logs no refused packets (--log-group 0), and so sees none']);
  });

  it('serves 32 at a time, and the next when one has gone', async () => {
    const sockets = await Promise.all(Array.from({ length: 32 }, reach));
    assert.equal((await answer(await reach())).code, 'READERS_TOO_MANY');
    sockets.pop()?.destroy();
    for (let code = 'READERS_TOO_MANY'; code === 'READERS_TOO_MANY'; ) ({ code } = await asked(request({})));
    for (const socket of sockets) socket.destroy();
  });

  it('keeps nothing of those that it sends away', async () => {
    const sockets = await Promise.all(Array.from({ length: 32 }, reach));
    const open = (): number => readdirSync('/proc/self/fd').length;
    // All of them have been let in when the next is not.
    assert.equal((await asked(request({}))).code, 'READERS_TOO_MANY');
    const before = open();
    for (let count = 0; count < 20; count++) assert.equal((await asked(request({}))).code, 'READERS_TOO_MANY');
    await eventually(
      () => open() <= before,
      () => `${open()} descriptors, ${before} before`,
      { withinMs: 5_000 },
    );
    for (const socket of sockets) socket.destroy();
  });
});
