/** An agent that may open few descriptors, and whose pages everybody connects to. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { request as httpRequest } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { systemErrorCode } from '../../../src/errors.ts';
import { eventually } from '../../kernel/support/eventually.ts';

const ROOT = join(import.meta.dirname, '../../..');

/** Serves a page, and opens files for a moment when it is told to. Says what became of it, and each second how many ms of CPU it has used. */
const PROGRAM = `
  import { closeSync, openSync } from 'node:fs';
  import { HttpServer, text } from '${ROOT}/src/observability/http-server.ts';
  const open = (count) => {
    const files = [];
    try { while (files.length < count) files.push(openSync('/dev/null')); } catch { /* all there are */ }
    return files;
  };
  const server = new HttpServer({
    address: { host: '127.0.0.1', port: Number(process.argv[1]) },
    pages: { '/healthz': () => text(200, 'ok') },
    onFault: (error) => console.log('fault', error.code),
    onError: () => {},
  });
  process.stdin.on('data', (chunk) => {
    for (const word of String(chunk).trim().split('\\n')) {
      const files = open(Number(word));
      for (const file of files) closeSync(file);
      console.log(word, files.length);
    }
  });
  setInterval(() => {
    const { user, system } = process.cpuUsage();
    console.log('second', Math.round((user + system) / 1_000));
  }, 1_000);
`;

describe('an agent that may open 64 descriptors', function () {
  this.timeout(60_000);
  let child: ChildProcess;
  let output = '';
  let port = 0;
  const sockets: Socket[] = [];

  before(async () => {
    const command = 'ulimit -n 64 && exec "$0" --input-type=module -e "$1" "$2"';
    port = await freePort();
    child = spawn('sh', ['-c', command, process.execPath, PROGRAM, String(port)], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdout?.on('data', (chunk) => {
      output += String(chunk);
    });
    await eventually(isAnswered, 'it listens');
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
    assert.equal(await told('20'), 20);
  });

  it('lives through having none left, rests meanwhile, and answers again afterwards', async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    // Fewer than are open: the event loop keeps one to take connections with and end them, and gets none of its own either.
    limit(3);
    connectMany(50);
    await eventually(() => /fault EMFILE/.test(output), 'it has been told');
    await eventually(() => sockets.every((socket) => socket.destroyed || !socket.connecting), 'all have been taken or refused');
    // It tries to listen again, and must not die of it, nor tell it each time.
    await eventually(isRefused, 'it rests');
    const from = output.length;
    const seconds = (): number[] => Array.from(output.slice(from).matchAll(/second (\d+)\n/g), ([, cpu]) => Number(cpu));
    await eventually(() => seconds().length >= 4, 'it has tried again');
    const [first = 0, last = 0] = [seconds()[0], seconds()[3]];
    assert.ok(last - first < 1_000, `${last - first} ms of CPU in three seconds`);
    assert.equal(child.exitCode, null);
    assert.equal(output.match(/fault/g)?.length, 1);
    limit(64);
    await eventually(isAnswered, 'it answers again');
    assert.equal(child.exitCode, null);
  });

  /** How many it may open from now on. */
  function limit(descriptors: number): void {
    execFileSync('prlimit', ['--pid', String(child.pid), `--nofile=${descriptors}:64`]);
  }

  function isRefused(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect({ port, host: '127.0.0.1' }, () => {
        socket.destroy();
        resolve(false);
      });
      socket.on('error', (error) => resolve(systemErrorCode(error) === 'ECONNREFUSED'));
    });
  }
});

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
