/**
 * TCP through a tunnel, by the calls of libc directly: a bulk stream, and requests of some bytes that are answered one after the
 * other. A process is either the server of all tunnels or their client, and is told what to do over its IPC channel.
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import {
  AF_INET,
  CLONE_NEWNET,
  MSG_NOSIGNAL,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
  checked,
  int32,
  libc,
} from '../../src/lab/libc.ts';
import { namespacePath } from '../../src/lab/namespaces.ts';
import { socketAddress } from '../../src/lab/prober/sockets.ts';
import { parseAddress } from '../../src/policy/address.ts';

export type LoadKind = 'bulk' | 'requests';

/** The two ends of a tunnel. */
export interface LoadPair {
  readonly client: string;
  readonly server: string;
  /** The server's. */
  readonly address: string;
}

export interface LoadRequest {
  readonly pair: LoadPair;
  readonly kind: LoadKind;
  readonly forMs: number;
}

/** Bytes, or requests, that have arrived in so long. */
export interface LoadAnswer {
  readonly amount: number;
  readonly elapsedMs: number;
}

export const REQUEST_BYTES = 64;
const PORTS: Readonly<Record<LoadKind, number>> = { bulk: 9001, requests: 9002 };
const CHUNK = 256 << 10;
const MSG_TRUNC = 0x20;
const MSG_WAITALL = 0x100;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SHUT_WR = 1;
const POLLIN = 1;

const lib = koffi.load(null);
const shutdown = lib.func('int shutdown(int, int)') as (fd: number, how: number) => number;
const poll = lib.func('int poll(void *, unsigned long, int)') as (fds: Uint8Array, count: number, timeoutMs: number) => number;
const chunk = new Uint8Array(CHUNK);

const [role, ...pairs] = process.argv.slice(2);
if (role === 'server') serve(pairs);
else if (role === 'client') process.on('message', (request: LoadRequest) => process.send?.(measure(request)));

function enter(netns: string): void {
  const fd = openSync(namespacePath(netns), 'r');
  try {
    checked(libc().setns(fd, CLONE_NEWNET), `entering network namespace ${netns}`);
  } finally {
    closeSync(fd);
  }
}

// --- server

/** @param netns of all servers */
function serve(netns: readonly string[]): void {
  const kinds: readonly LoadKind[] = ['bulk', 'requests'];
  const listeners = netns.flatMap((name) => kinds.map((kind) => ({ kind, fd: listen(name, PORTS[kind]) })));
  // struct pollfd { int fd; short events; short revents; }
  const fds = new DataView(new ArrayBuffer(8 * listeners.length));
  for (const [index, { fd }] of listeners.entries()) {
    fds.setInt32(index * 8, fd, true);
    fds.setInt16(index * 8 + 4, POLLIN, true);
  }
  process.send?.('listening', () => {
    for (;;) {
      poll(new Uint8Array(fds.buffer), listeners.length, -1);
      for (const [index, { kind, fd }] of listeners.entries()) {
        if (fds.getInt16(index * 8 + 6, true) === 0) continue;
        const connection = checked(libc().accept4(fd, null, null, SOCK_CLOEXEC), 'accepting');
        if (kind === 'bulk') sink(connection);
        else echo(connection);
        libc().close(connection);
      }
    }
  });
}

function listen(netns: string, port: number): number {
  enter(netns);
  const doing = `listening on port ${port} in ${netns}`;
  const fd = checked(libc().socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), doing);
  checked(libc().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, int32(1), 4), doing);
  const address = addressOf('0.0.0.0', port);
  checked(libc().bind(fd, address, address.length), doing);
  checked(libc().listen(fd, 8), doing);
  return fd;
}

/** Answers one byte when everything has come in. */
function sink(connection: number): void {
  // MSG_TRUNC: what has come in is thrown away, not copied.
  while (libc().recv(connection, chunk, CHUNK, MSG_TRUNC) > 0);
  libc().send(connection, chunk, 1, MSG_NOSIGNAL);
}

function echo(connection: number): void {
  while (libc().recv(connection, chunk, REQUEST_BYTES, MSG_WAITALL) === REQUEST_BYTES) {
    libc().send(connection, chunk, REQUEST_BYTES, MSG_NOSIGNAL);
  }
}

// --- client

function measure({ pair, kind, forMs }: LoadRequest): LoadAnswer {
  enter(pair.client);
  const c = libc();
  const doing = `connecting to ${pair.address}`;
  const fd = checked(c.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), doing);
  const address = addressOf(pair.address, PORTS[kind]);
  checked(c.connect(fd, address, address.length), doing);
  checked(c.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, int32(1), 4), doing);
  const started = performance.now();
  const end = started + forMs;
  let amount = 0;
  if (kind === 'bulk') {
    while (performance.now() < end) amount += checked(c.send(fd, chunk, CHUNK, MSG_NOSIGNAL), 'sending');
    shutdown(fd, SHUT_WR);
    checked(c.recv(fd, chunk, 1, MSG_WAITALL) - 1, 'waiting for the end');
  } else {
    while (performance.now() < end) {
      checked(c.send(fd, chunk, REQUEST_BYTES, MSG_NOSIGNAL), 'asking');
      checked(c.recv(fd, chunk, REQUEST_BYTES, MSG_WAITALL) - REQUEST_BYTES, 'waiting for an answer');
      amount++;
    }
  }
  const elapsedMs = performance.now() - started;
  c.close(fd);
  return { amount, elapsedMs };
}

function addressOf(text: string, port: number): Uint8Array {
  const address = parseAddress(text);
  if (typeof address !== 'number') throw new Error(`${text} is no IPv4 address`);
  return socketAddress(address, port);
}
