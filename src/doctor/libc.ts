/**
 * The calls of libc that looking at a path and at a device needs, and that Node has no function for. Numbers and layouts are those of
 * 64-bit Linux, the same on x86-64 and arm64.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { type Address, addressBytes } from '../policy/address.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const IPPROTO_IP = 0;
export const IPPROTO_ICMP = 1;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_ICMPV6 = 58;
export const POLLIN = 0x1;
export const POLLERR = 0x8;

/** Each returns what the C function does; -1 means that {@link Libc.errno} says why. */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number;
  getsockopt(fd: number, level: number, option: number, value: Uint8Array, length: Uint8Array): number;
  send(fd: number, data: Uint8Array, length: number, flags: number): number;
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number;
  poll(fds: Uint8Array, count: number, timeoutMs: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  close(fd: number): number;
  /** The error of this thread's last call that failed. */
  errno(): number;
}

let loaded: Libc | undefined;

/** The C library of this process, loaded when first asked for. */
export function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const lib = koffi.load(null);
  loaded = {
    socket: lib.func('int socket(int, int, int)'),
    connect: lib.func('int connect(int, void *, uint32_t)'),
    setsockopt: lib.func('int setsockopt(int, int, int, void *, uint32_t)'),
    getsockopt: lib.func('int getsockopt(int, int, int, void *, void *)'),
    send: lib.func('long send(int, void *, size_t, int)'),
    recv: lib.func('long recv(int, void *, size_t, int)'),
    poll: lib.func('int poll(void *, unsigned long, int)'),
    ioctl: lib.func('int ioctl(int, unsigned long, void *)'),
    close: lib.func('int close(int)'),
    errno: () => koffi.errno(),
  };
  return loaded;
}

/** `EACCES` for 13. */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno);
}

/** A C int, in host order. */
export function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: Address, port: number): Uint8Array {
  const isIPv4 = typeof address === 'number';
  const bytes = new Uint8Array(isIPv4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isIPv4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(addressBytes(address), isIPv4 ? 4 : 8);
  return bytes;
}
