/** Sockets of the prober: addresses in the kernel's form, and making a socket in a given network namespace. */
import { closeSync, openSync } from 'node:fs';
import { type Address, addressBytes, addressFromBytes, familyOf, formatAddress } from '../../policy/address.ts';
import {
  AF_INET,
  AF_INET6,
  CLONE_NEWNET,
  EADDRINUSE,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  checked,
  int32,
  libc,
  syscallError,
} from '../libc.ts';
import { namespacePath } from '../namespaces.ts';

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: Address, port: number): Uint8Array {
  const v4 = familyOf(address) === 4;
  const bytes = new Uint8Array(v4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(addressBytes(address), v4 ? 4 : 8);
  return bytes;
}

export function readSocketAddress(bytes: Uint8Array): { readonly address: Address; readonly port: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const v4 = view.getUint16(0, true) === AF_INET;
  return { address: addressFromBytes(bytes.slice(v4 ? 4 : 8, v4 ? 8 : 24)), port: view.getUint16(2) };
}

/** Who sent a datagram, as {@link receiveFrom} found it. */
export interface Datagram {
  readonly data: Uint8Array;
  /** struct sockaddr, to answer to. */
  readonly sender: Uint8Array;
}

const BUFFER = new Uint8Array(65536);

/** The next datagram, or undefined when none is waiting. `data` is valid until the next call. */
export function receiveFrom(fd: number): Datagram | undefined {
  const sender = new Uint8Array(28);
  const length = libc().recvfrom(fd, BUFFER, BUFFER.length, 0, sender, int32(28));
  return length < 0 ? undefined : { data: BUFFER.subarray(0, length), sender };
}

/** What is waiting, at the end of the stream an empty array, otherwise an errno. Valid until the next call. */
export function receive(fd: number): Uint8Array | number {
  const length = libc().recv(fd, BUFFER, BUFFER.length, 0);
  return length < 0 ? libc().errno() : BUFFER.subarray(0, length);
}

/** Length of a struct sockaddr, by its family. */
export function addressLength(address: Uint8Array): number {
  return new DataView(address.buffer, address.byteOffset).getUint16(0, true) === AF_INET ? 16 : 28;
}

/** The network namespaces that this thread makes sockets in. */
export class Namespaces {
  readonly #own = openSync('/proc/thread-self/ns/net', 'r');
  readonly #open = new Map<string, number>();
  #current: string | undefined;

  enter(name: string): void {
    if (this.#current === name) return;
    let fd = this.#open.get(name);
    if (fd === undefined) {
      fd = openSync(namespacePath(name), 'r');
      this.#open.set(name, fd);
    }
    checked(libc().setns(fd, CLONE_NEWNET), `entering network namespace ${name}`);
    this.#current = name;
  }

  /** Forgets a namespace: a thread inside it and a descriptor on it would keep it alive. */
  release(name: string): void {
    if (this.#current === name) {
      checked(libc().setns(this.#own, CLONE_NEWNET), 'returning to the own network namespace');
      this.#current = undefined;
    }
    const fd = this.#open.get(name);
    if (fd !== undefined) closeSync(fd);
    this.#open.delete(name);
  }

  /** A socket that does not block, made in the namespace. */
  socket(netns: string, address: Address, type: number, protocol: number): number {
    this.enter(netns);
    const family = familyOf(address) === 4 ? AF_INET : AF_INET6;
    const fd = checked(libc().socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol), `making a socket in ${netns}`);
    if (family === AF_INET6) libc().setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, int32(1), 4);
    return fd;
  }

  /** @throws LabError `LAB_SYSCALL`, with the socket closed */
  bind(fd: number, address: Address, port: number, netns: string): void {
    const bytes = socketAddress(address, port);
    if (libc().bind(fd, bytes, bytes.length) === 0) return;
    const error = syscallError(`binding to ${formatAddress(address)} port ${port} in ${netns}`);
    libc().close(fd);
    throw error;
  }

  close(): void {
    for (const name of this.#open.keys()) this.release(name);
    closeSync(this.#own);
  }
}

const PORTS_FIRST = 10_000;
const PORTS_LAST = 59_999;

/** Source ports, each used once in fifty thousand times: what an earlier probe left in connection tracking never meets a later one. */
export class SourcePorts {
  readonly #next = new Map<string, number>();

  /** @param owner netns and source address */
  take(owner: string): number {
    const port = this.#next.get(owner) ?? PORTS_FIRST + Math.floor(Math.random() * (PORTS_LAST - PORTS_FIRST));
    this.#next.set(owner, port >= PORTS_LAST ? PORTS_FIRST : port + 1);
    return port;
  }

  /** Binds to the next one that is free. */
  bind(fd: number, owner: string, address: Address, doing: string): void {
    for (let attempt = 0; ; attempt++) {
      const bytes = socketAddress(address, this.take(owner));
      if (libc().bind(fd, bytes, bytes.length) === 0) return;
      const errno = libc().errno();
      if (errno !== EADDRINUSE || attempt > 100) throw syscallError(`binding to ${formatAddress(address)} ${doing}`, errno);
    }
  }
}

/** Empties a pipe that only says that something has happened. */
export function receivePipe(fd: number): void {
  libc().read(fd, BUFFER, 4096);
}
