/**
 * The calls of libc that carry packets between a TUN device and a UDP socket, and that Node has no function for. Loaded once, when
 * first used. Numbers and layouts are those of 64-bit Linux, the same on x86-64 and arm64.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

export const AF_INET = 2;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const O_NONBLOCK = 0x800;
export const O_CLOEXEC = 0x80000;
export const IPPROTO_UDP = 17;
/** A raw socket of this protocol takes whole packets, IP header included, and never receives any. */
export const IPPROTO_RAW = 255;
export const SOL_SOCKET = 1;
export const SO_RCVBUF = 8;
export const SO_RCVBUFFORCE = 33;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLERR = 0x8;
export const POLLHUP = 0x10;
export const POLLNVAL = 0x20;
export const EPERM = 1;
export const EINTR = 4;
export const EIO = 5;
export const EAGAIN = 11;
export const EBUSY = 16;
export const EINVAL = 22;
export const EMSGSIZE = 90;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;

/** Each returns what the C function does; -1 means that {@link Libc.errno} says why. */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  /** Of this and the next ones: a number is the address of memory, as {@link addressOf} gives it. */
  read(fd: number, buffer: Uint8Array | number, length: number): number;
  write(fd: number, buffer: Uint8Array | number, length: number): number;
  sendto(fd: number, data: Uint8Array | number, length: number, flags: number, address: Uint8Array | number, addressLength: number): number;
  sendmmsg(fd: number, messages: number, count: number, flags: number): number;
  recvmmsg(fd: number, messages: number, count: number, flags: number, timeout: null): number;
  poll(fds: Uint8Array, count: number, timeoutMs: number): number;
  pipe2(fds: Uint8Array, flags: number): number;
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
    bind: lib.func('int bind(int, void *, uint32_t)'),
    setsockopt: lib.func('int setsockopt(int, int, int, void *, uint32_t)'),
    ioctl: lib.func('int ioctl(int, unsigned long, void *)'),
    read: lib.func('long read(int, void *, size_t)'),
    write: lib.func('long write(int, void *, size_t)'),
    sendto: lib.func('long sendto(int, void *, size_t, int, void *, uint32_t)'),
    sendmmsg: lib.func('int sendmmsg(int, void *, unsigned int, int)'),
    recvmmsg: lib.func('int recvmmsg(int, void *, unsigned int, int, void *)'),
    poll: lib.func('int poll(void *, unsigned long, int)'),
    pipe2: lib.func('int pipe2(void *, int)'),
    close: lib.func('int close(int)'),
    errno: () => koffi.errno(),
  };
  return loaded;
}

/** `ECONNREFUSED` for 111. */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno);
}

/**
 * Where a buffer is in memory. It stays there for as long as the buffer is reachable, for what an ArrayBuffer holds is outside of the
 * heap that V8 moves things about in. An address of user space has 47 bits, so a number holds it exactly.
 */
export function addressOf(buffer: ArrayBuffer): number {
  return Number(koffi.address(new Uint8Array(buffer)));
}

/** A C int, in host order. */
export function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** struct sockaddr_in. */
export function socketAddress(address: number, port: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  view.setUint32(4, address);
  return bytes;
}
