/** The poller against real sockets, and processes that end while it waits. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { NetlinkError, NETLINK_ROUTE, NetlinkSocket, Poller } from 'nftables-js';
import { eventually, onlyInSandbox } from '../eventually.ts';

const RTNLGRP_LINK = 1;

/** Sockets that hear of links, closed after each test. */
const sockets: NetlinkSocket[] = [];
let poller = new Poller();

function linkSocket(): NetlinkSocket {
  const socket = NetlinkSocket.open(NETLINK_ROUTE);
  socket.join(RTNLGRP_LINK);
  sockets.push(socket);
  return socket;
}

function drain(socket: NetlinkSocket): number {
  let count = 0;
  while (socket.receive() !== undefined) count++;
  return count;
}

/** Something for them to hear of. */
function changeLink(): void {
  execFileSync('ip', ['link', 'set', 'dev', 'polled0', 'alias', `at ${performance.now()}`]);
}

/** Runs a program of its own that has `poller`, `socket` and `ready()`; tells how it ended, and how long after `ready()`. */
async function run(
  body: string,
  signal?: NodeJS.Signals,
): Promise<{ code: number | null; signal: string | null; ms: number; stderr: string }> {
  const index = new URL('../../src/index.ts', import.meta.url).href;
  const program = `
    import { NETLINK_ROUTE, NetlinkSocket, Poller } from ${JSON.stringify(index)};
    const poller = new Poller();
    const socket = NetlinkSocket.open(NETLINK_ROUTE);
    let stop = poller.watch(socket, () => {});
    const ready = () => process.stdout.write('ready');
    // The thread is there when it has delivered something.
    const probe = NetlinkSocket.open(NETLINK_ROUTE);
    await new Promise((resolve) => {
      const alive = setInterval(() => {}, 1000);
      const end = poller.watch(probe, () => { while (probe.receive() !== undefined); end(); clearInterval(alive); resolve(); });
      const dump = new Uint8Array(32); // RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP
      new DataView(dump.buffer).setUint32(0, 32, true);
      new DataView(dump.buffer).setUint16(4, 18, true);
      new DataView(dump.buffer).setUint16(6, 0x301, true);
      probe.send(dump, 'asking');
    });
    ${body}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (text) => (stderr += text));
  const closed = once(child, 'close');
  await Promise.race([once(child.stdout, 'data'), closed]);
  const start = performance.now();
  if (signal !== undefined) child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  const [code, by] = await closed;
  clearTimeout(timer);
  return { code, signal: by, ms: performance.now() - start, stderr };
}

describe('poller', () => {
  before(function () {
    onlyInSandbox(this);
    execFileSync('ip', ['link', 'add', 'polled0', 'type', 'bridge']);
    // The kernel tells of a new alias only while the link is up.
    execFileSync('ip', ['link', 'set', 'dev', 'polled0', 'up']);
  });
  after(() => {
    if (process.env['SLUICE_SANDBOX'] !== undefined) execFileSync('ip', ['link', 'del', 'polled0']);
  });
  beforeEach(() => {
    poller = new Poller();
  });
  afterEach(() => {
    poller.close();
    for (const socket of sockets.splice(0)) socket.close();
  });

  it('calls the watcher of the socket that has something, and no other', async () => {
    const hears = linkSocket();
    const silent = NetlinkSocket.open(NETLINK_ROUTE);
    sockets.push(silent);
    let heard = 0;
    let falselyHeard = 0;
    poller.watch(silent, () => falselyHeard++);
    poller.watch(hears, () => (heard += drain(hears)));
    for (let round = 1; round <= 3; round++) {
      changeLink();
      await eventually(`round ${round} heard`, () => heard >= round);
    }
    assert.equal(falselyHeard, 0);
  });

  it('calls again as long as something is left to read', async () => {
    const socket = linkSocket();
    let datagrams = 0;
    poller.watch(socket, () => {
      if (socket.receive() !== undefined) datagrams++;
    });
    for (let change = 0; change < 5; change++) changeLink();
    await eventually('all five datagrams, one a call', () => datagrams >= 5);
  });

  it('uses no processor time while the main thread is busy and does not read', async () => {
    const socket = linkSocket();
    let heard = 0;
    poller.watch(socket, () => (heard += drain(socket)));
    changeLink();
    await eventually('the thread runs', () => heard > 0);
    changeLink();
    const before = process.cpuUsage();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
    const { user, system } = process.cpuUsage(before);
    assert.ok(user + system < 300_000, `${user + system} µs of processor time in a second of waiting`);
    await eventually('the second change', () => heard > 1);
  });

  it('calls no watcher whose watch has ended', async () => {
    const ended = linkSocket();
    const witness = linkSocket();
    let calls = 0;
    let heard = 0;
    const stop = poller.watch(ended, () => {
      calls++;
      drain(ended);
    });
    poller.watch(witness, () => (heard += drain(witness)));
    changeLink();
    await eventually('both heard', () => calls > 0 && heard > 0);
    stop();
    const before = calls;
    const heardBefore = heard;
    changeLink();
    await eventually('the witness heard', () => heard > heardBefore);
    assert.equal(calls, before);
    assert.notEqual(drain(ended), 0, 'it was readable, and nobody was called');
  });

  it('forgets a socket that was closed while it was watched, and serves the others', async () => {
    // Lower numbers for all that starting `ip` opens: the number of the closed socket must not become something else that is readable.
    const lower = Array.from({ length: 64 }, () => openSync('/dev/null', 'r'));
    const closed = linkSocket();
    const other = linkSocket();
    for (const fd of lower) closeSync(fd);
    let calls = 0;
    let heard = 0;
    poller.watch(closed, () => calls++);
    poller.watch(other, () => (heard += drain(other)));
    closed.close();
    for (let round = 1; round <= 3; round++) {
      changeLink();
      await eventually('the other heard', () => heard >= round);
    }
    assert.ok(calls <= 1, `${calls} calls for a closed socket`);
  });

  it('refuses to watch when it is closed', () => {
    poller.close();
    assert.throws(
      () => poller.watch(linkSocket(), () => {}),
      (error) => error instanceof NetlinkError && error.code === 'ERR_CLOSED',
    );
  });

  it('adds one listener of the end of the process for all pollers', () => {
    const pollers = Array.from({ length: 3 }, () => new Poller());
    const counts = pollers.map((poller) => {
      poller.watch(linkSocket(), () => {});
      const count = process.listenerCount('exit');
      poller.close();
      return count;
    });
    assert.deepEqual(new Set(counts).size, 1);
  });

  it('gives its thread and its descriptors back when it is closed', async () => {
    const threads = () => readdirSync('/proc/self/task').length;
    const descriptors = () => readdirSync('/proc/self/fd').length;
    const socket = linkSocket();
    // Whatever the process starts on its first thread (inspector, watchdog) it has started then.
    const first = new Poller();
    let heard = 0;
    first.watch(socket, () => (heard += drain(socket)));
    changeLink();
    await eventually('the first poller works', () => heard > 0);
    first.close();
    const withOne = { threads: threads(), descriptors: descriptors() };
    poller.watch(socket, () => (heard += drain(socket)));
    const before = heard;
    changeLink();
    await eventually('the second poller works', () => heard > before);
    poller.close();
    await eventually(
      'no thread or descriptor more than before',
      () => threads() <= withOne.threads && descriptors() <= withOne.descriptors,
    );
  });

  describe('in a process that ends', () => {
    it('does not keep it from ending when nothing else is left to do', async () => {
      const { code, ms } = await run('ready();');
      assert.equal(code, 0);
      assert.ok(ms < 2000, `${ms} ms`);
    });

    it('lets process.exit() end it at once', async () => {
      const { code, ms } = await run('setInterval(() => {}, 1000); ready(); process.exit(7);');
      assert.equal(code, 7);
      assert.ok(ms < 2000, `${ms} ms`);
    });

    it('lets process.exit() end it before the thread has started', async () => {
      const { code, ms } = await run('new Poller().watch(socket, () => {}); ready(); process.exit(7);');
      assert.equal(code, 7);
      assert.ok(ms < 2000, `${ms} ms`);
    });

    it('lets an uncaught error end it', async () => {
      const { code, stderr } = await run("setInterval(() => {}, 1000); ready(); throw new Error('on purpose');");
      assert.equal(code, 1);
      assert.match(stderr, /on purpose/);
    });

    it('lets SIGTERM end it', async () => {
      const { signal, ms } = await run('setInterval(() => {}, 1000); ready();', 'SIGTERM');
      assert.equal(signal, 'SIGTERM');
      assert.ok(ms < 2000, `${ms} ms`);
    });

    it('lets a handler of SIGTERM end it', async () => {
      const { code, ms } = await run("process.on('SIGTERM', () => process.exit(3)); setInterval(() => {}, 1000); ready();", 'SIGTERM');
      assert.equal(code, 3);
      assert.ok(ms < 2000, `${ms} ms`);
    });

    it('fails loudly where the file of its thread is missing', async () => {
      const body =
        "new Poller({ workerEntry: new URL('file:///nowhere/poller-worker.js') }).watch(socket, () => {}); setInterval(() => {}, 1000); ready();";
      const { code, stderr } = await run(body);
      assert.equal(code, 1);
      assert.match(stderr, /nowhere\/poller-worker\.js/);
    });
  });

  it('shows what a watcher throws, and goes on watching', async () => {
    const { code, stderr } = await run(`
      socket.join(1);
      stop();
      let calls = 0;
      process.on('uncaughtException', (error) => console.error('caught', error.message));
      poller.watch(socket, () => { while (socket.receive() !== undefined); if (++calls === 2) process.exit(5); change(); throw new Error('on purpose'); });
      setInterval(() => {}, 1000);
      const { execFileSync } = await import('node:child_process');
      const change = () => execFileSync('ip', ['link', 'set', 'dev', 'polled0', 'alias', 'at ' + performance.now()]);
      ready();
      change();`);
    assert.equal(code, 5);
    assert.match(stderr, /caught on purpose/);
  });
});
