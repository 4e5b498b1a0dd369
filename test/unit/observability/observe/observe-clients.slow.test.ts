/** What clients can do to the socket that readers come to: nothing that the agent or another reader notices. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Poller } from 'nftables-js';
import { pino } from 'pino';
import { Cluster } from '../../../../src/cluster/cluster.ts';
import { Observation } from '../../../../src/observability/observe/observation.ts';
import { OBSERVED } from '../../../../src/observability/observed-flow.ts';
import { eventually } from '../../../kernel/support/eventually.ts';

describe('clients of the socket of an agent', function () {
  this.timeout(60_000);
  let directory: string;
  let path: string;
  let poller: Poller;
  let observation: Observation;
  const sockets: Socket[] = [];

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-observe-'));
    path = join(directory, 'observe.sock');
    poller = new Poller();
    observation = new Observation({
      node: 'n1',
      world: new Cluster('n1'),
      poller,
      log: pino({ level: 'silent' }),
      logGroup: undefined,
      socket: path,
      async *refused() {},
      isSynced: () => true,
    });
    await eventually(() => statSync(path, { throwIfNoEntry: false })?.isSocket() === true, 'it listens');
  });
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });
  after(() => {
    observation.close();
    poller.close();
    rmSync(directory, { recursive: true });
  });

  /** What has come of one that has come. */
  function reach(text: string | undefined): { readonly socket: Socket; received: string; ended: boolean } {
    const socket = connect({ path });
    sockets.push(socket);
    const client = { socket, received: '', ended: false };
    socket.on('data', (chunk) => {
      client.received += String(chunk);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      client.ended = true;
    });
    if (text !== undefined) socket.write(text);
    return client;
  }

  /** The code of the failure that a request is answered with; undefined: with none. */
  async function codeOf(text: string): Promise<string | undefined> {
    const client = reach(text);
    await eventually(() => client.ended, 'it has been answered');
    const [line = ''] = client.received.split('\n');
    const record = line === '' ? undefined : OBSERVED.parse(JSON.parse(line));
    return record?.kind === 'Failed' ? record.code : undefined;
  }

  const request = `${JSON.stringify({ kind: 'Observe', apiVersion: 'sluice.dev/v1' })}\n`;
  const descriptors = (): number => readdirSync('/proc/self/fd').length;

  it('may be a thousand that say nothing: few are kept, and who asks is answered', async () => {
    const before = descriptors();
    const silent = Array.from({ length: 1_000 }, () => reach(undefined));
    const open = (): number => silent.filter(({ ended }) => !ended).length;
    await eventually(
      () => open() <= 40,
      () => `${open()} are kept`,
    );
    await eventually(async () => (await codeOf(request)) === 'LOG_GROUP_OFF', 'who asks is answered', { withinMs: 5_000 });
    assert.ok(open() > 0, 'before their time is over');
    for (const { socket } of silent) socket.destroy();
    await eventually(() => descriptors() <= before, 'nothing is left of them');
  });

  it('are ended where a request has no end, is deep, or says more than a request', async () => {
    assert.equal(await codeOf('x'.repeat(1 << 20)), 'REQUEST_UNREADABLE');
    const deep = '['.repeat(60_000);
    assert.equal(await codeOf(`${deep}\n`), 'REQUEST_UNREADABLE');
    const nested = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;
    assert.equal(await codeOf(`${nested}\n`), 'REQUEST_UNREADABLE');
    const fields = '"kind":"Observe","apiVersion":"sluice.dev/v1"';
    assert.equal(await codeOf(`{${fields},"filter":{"pods":[${nested}]}}\n`), 'REQUEST_UNREADABLE');
    assert.equal(await codeOf(`{${fields},"more":${nested}}\n`), 'LOG_GROUP_OFF');
  });

  it('are ended where they go on talking', async () => {
    const allowed = `${JSON.stringify({ kind: 'Observe', apiVersion: 'sluice.dev/v1', allowed: true })}\n`;
    const client = reach(allowed);
    await eventually(() => client.received.includes('"Live"'), 'it is served');
    const talking = setInterval(() => client.socket.write('x'.repeat(10_000)), 1);
    await eventually(() => client.ended, 'it is ended');
    clearInterval(talking);
  });

  it('that have been told all, and stay, give way to who comes', async () => {
    const all = `${JSON.stringify({ kind: 'Observe', apiVersion: 'sluice.dev/v1', allowed: true, follow: false })}\n`;
    let told = 0;
    // As many as there are places; none of them ends its side.
    for (let index = 0; index < 32; index++) {
      const socket = connect({ path, allowHalfOpen: true });
      sockets.push(socket);
      socket.on('error', () => {});
      socket.on('end', () => told++);
      socket.resume();
      socket.write(all);
    }
    await eventually(() => told === 32, 'all places are taken');
    const clients = Array.from({ length: 4 }, () => reach(all));
    for (const client of clients) {
      await eventually(
        () => client.received.includes('"Live"'),
        () => `it is told ${client.received}`,
      );
    }
  });

  it('that have been sent away are ended, whether they read why or not', async () => {
    const before = descriptors();
    const rude = Array.from({ length: 8 }, () => {
      const socket = connect({ path, allowHalfOpen: true });
      sockets.push(socket);
      socket.on('error', () => {});
      socket.pause();
      socket.write('hello\n');
      return socket;
    });
    await eventually(() => descriptors() >= before + 16, 'both ends are there');
    await eventually(
      () => descriptors() <= before + rude.length,
      () => `${descriptors()} descriptors, ${before} before`,
      { withinMs: 10_000 },
    );
  });
});
