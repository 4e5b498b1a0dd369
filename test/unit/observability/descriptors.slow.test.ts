/** An agent that may open few descriptors, and whose pages everybody connects to. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { eventually } from '../../kernel/support/eventually.ts';

const ROOT = join(import.meta.dirname, '../../..');

/** Serves a page, and opens files when it is told to: all that it may, or so many for a moment. Says what became of it. */
const PROGRAM = `
  import { closeSync, openSync } from 'node:fs';
  import { HttpServer, text } from '${ROOT}/src/observability/http-server.ts';
  const open = (count) => {
    const files = [];
    try { while (files.length < count) files.push(openSync('/dev/null')); } catch { /* all there are */ }
    return files;
  };
  let all = [];
  const server = new HttpServer({
    address: { host: '127.0.0.1', port: 0 },
    pages: { '/healthz': () => text(200, 'ok') },
    onFault: (error) => console.log('fault', error.code),
    onError: () => {},
  });
  process.stdin.on('data', (chunk) => {
    for (const word of String(chunk).trim().split('\\n')) {
      if (word === 'all') all = open(1e6);
      if (word === 'free') for (const file of all.splice(0)) closeSync(file);
      const files = word === 'some' ? open(20) : [];
      for (const file of files) closeSync(file);
      console.log(word, word === 'all' ? all.length : files.length);
    }
  });
  const told = setInterval(() => {
    if (server.port === undefined) return;
    clearInterval(told);
    console.log('port', server.port);
  }, 5);
`;

describe('an agent that may open 64 descriptors', function () {
  this.timeout(60_000);
  let child: ChildProcess;
  let output = '';
  let port = 0;
  const sockets: Socket[] = [];

  before(async () => {
    const command = 'ulimit -n 64 && exec "$0" --input-type=module -e "$1"';
    child = spawn('sh', ['-c', command, process.execPath, PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdout?.on('data', (chunk) => {
      output += String(chunk);
    });
    await eventually(() => /port \d+/.test(output), 'it listens');
    port = Number(/port (\d+)/.exec(output)?.[1]);
  });
  after(() => {
    for (const socket of sockets) socket.destroy();
    child.kill();
  });

  /** What it says to a word. */
  async function told(word: string): Promise<number> {
    const from = output.length;
    child.stdin?.write(`${word}\n`);
    const answer = (): RegExpExecArray | null => new RegExp(`${word} (\\d+)\\n`).exec(output.slice(from));
    await eventually(() => answer() !== null, word);
    return Number(answer()?.[1]);
  }

  function connectMany(count: number): void {
    for (let index = 0; index < count; index++) {
      const socket = connect({ port, host: '127.0.0.1' });
      socket.on('error', () => {});
      sockets.push(socket);
    }
  }

  function isAnswered(): Promise<boolean> {
    return new Promise((resolve) => {
      const asking = httpRequest({ port, host: '127.0.0.1', path: '/healthz', agent: false, timeout: 1_000 }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode === 200));
      });
      asking.on('timeout', () => asking.destroy());
      asking.on('error', () => resolve(false));
      asking.end();
    });
  }

  it('has some left for its work, and answers, while a hundred clients are connected', async () => {
    connectMany(100);
    await eventually(() => sockets.every((socket) => !socket.connecting), 'all have been let in or sent away');
    assert.equal(await isAnswered(), true);
    assert.equal(await told('some'), 20);
  });

  it('lives through having none left, rests meanwhile, and answers again afterwards', async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    assert.ok((await told('all')) > 10);
    connectMany(50);
    await eventually(() => sockets.every((socket) => socket.destroyed || !socket.connecting), 'all have been taken or refused');
    assert.equal(child.exitCode, null);
    const faults = output.match(/fault/g)?.length ?? 0;
    assert.ok(faults <= 1, `told ${faults} times`);
    await told('free');
    await eventually(isAnswered, 'it answers again');
    assert.equal(child.exitCode, null);
  });
});
