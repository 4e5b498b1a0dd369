/** A thread of the load: connects as often as it can while it is told to, or accepts for ever. */
import { closeSync, openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import {
  AF_INET,
  AF_INET6,
  CLONE_NEWNET,
  EPOLL_CTL_ADD,
  EPOLLIN,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  checked,
  int32,
  libc,
  syscallError,
} from '../../src/lab/libc.ts';
import { namespacePath } from '../../src/lab/namespaces.ts';
import { socketAddress } from '../../src/lab/prober/sockets.ts';
import { familyOf } from '../../src/policy/address.ts';
import type { ClientAnswer, ClientRequest, LoadWorkerData, Pair } from './load.ts';

const SO_LINGER = 13;
/** struct linger { on: 1, seconds: 0 }: closing sends a reset. */
const NO_LINGERING = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
const BACKLOG = 4096;
/** Connections between two looks at the clock. */
const AT_A_TIME = 32;
const OVERHEAD_CALLS = 20_000;
/** struct epoll_event of x86-64 is packed; that of other architectures is not. */
const EPOLL_EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const EPOLL_DATA_OFFSET = EPOLL_EVENT_BYTES - 8;

const { role, pairs, serverCpuMs } = workerData as LoadWorkerData;
const port = parentPort;
if (port === null) throw new Error('this is a worker');

if (role === 'server') {
  const epoll = checked(libc().epoll_create1(0), 'making an epoll');
  for (const pair of pairs) watch(epoll, listen(pair));
  port.postMessage('listening');
  accept(epoll);
} else {
  port.on('message', (request: ClientRequest) => {
    port.postMessage(request === 'overhead' ? overhead() : connectFor(pairs[request.pair], request.forMs));
  });
}

function enter(netns: string): void {
  const fd = openSync(namespacePath(netns), 'r');
  try {
    checked(libc().setns(fd, CLONE_NEWNET), `entering network namespace ${netns}`);
  } finally {
    closeSync(fd);
  }
}

function domain({ address }: Pair): number {
  return familyOf(address) === 4 ? AF_INET : AF_INET6;
}

/** What this thread has used so far, the kernel's work in it included. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

// --- server

function listen(pair: Pair): number {
  enter(pair.server);
  const doing = `listening on port ${pair.port} in ${pair.server}`;
  const fd = checked(libc().socket(domain(pair), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), doing);
  checked(libc().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, int32(1), 4), doing);
  const address = socketAddress(pair.address, pair.port);
  checked(libc().bind(fd, address, address.length), doing);
  checked(libc().listen(fd, BACKLOG), doing);
  return fd;
}

function watch(epoll: number, fd: number): void {
  const event = new Uint8Array(EPOLL_EVENT_BYTES);
  const view = new DataView(event.buffer);
  view.setUint32(0, EPOLLIN, true);
  view.setInt32(EPOLL_DATA_OFFSET, fd, true);
  checked(libc().epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event), 'watching a listening socket');
}

/** Until the thread is terminated, which happens between two calls. */
function accept(epoll: number): never {
  const c = libc();
  const events = new Uint8Array(EPOLL_EVENT_BYTES * pairs.length);
  const view = new DataView(events.buffer);
  const used = new Float64Array(serverCpuMs);
  for (;;) {
    used[0] = cpuMs();
    const ready = c.epoll_wait(epoll, events, pairs.length, 100);
    for (let index = 0; index < ready; index++) {
      const listener = view.getInt32(index * EPOLL_EVENT_BYTES + EPOLL_DATA_OFFSET, true);
      for (let fd = c.accept4(listener, null, null, SOCK_CLOEXEC); fd >= 0; fd = c.accept4(listener, null, null, SOCK_CLOEXEC)) c.close(fd);
    }
  }
}

// --- client

function connectFor(pair: Pair | undefined, forMs: number): ClientAnswer {
  if (pair === undefined) throw new Error('there is no such pair');
  enter(pair.client);
  const c = libc();
  const family = domain(pair);
  const address = socketAddress(pair.address, pair.port);
  const cpuBefore = cpuMs();
  const started = performance.now();
  let connections = 0;
  let failures = 0;
  let elapsedMs = 0;
  while (elapsedMs < forMs) {
    for (let count = 0; count < AT_A_TIME; count++) {
      const fd = c.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0) throw syscallError('making a socket');
      c.setsockopt(fd, SOL_SOCKET, SO_LINGER, NO_LINGERING, NO_LINGERING.length);
      if (c.connect(fd, address, address.length) === 0) connections++;
      else failures++;
      c.close(fd);
    }
    elapsedMs = performance.now() - started;
  }
  return { connections, failures, elapsedMs, cpuMs: cpuMs() - cpuBefore };
}

/** The same calls, of a descriptor that does not exist: what remains is the way into the kernel and back. */
function overhead(): ClientAnswer {
  const c = libc();
  const address = new Uint8Array(16);
  const cpuBefore = cpuMs();
  const started = performance.now();
  for (let count = 0; count < OVERHEAD_CALLS; count++) {
    c.socket(-1, 0, 0);
    c.setsockopt(-1, SOL_SOCKET, SO_LINGER, NO_LINGERING, NO_LINGERING.length);
    c.connect(-1, address, address.length);
    c.close(-1);
  }
  return { connections: OVERHEAD_CALLS, failures: 0, elapsedMs: performance.now() - started, cpuMs: cpuMs() - cpuBefore };
}
