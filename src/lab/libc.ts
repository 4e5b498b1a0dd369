/**
 * The calls of libc that the lab needs and Node has no function for: entering a network namespace, and sockets that are made in
 * one. Node's own sockets cannot be used, since they would all be made in the namespace that the process started in.
 *
 * Numbers are Linux's, the same on x86-64 and arm64.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { LabError } from './errors.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_PACKET = 17;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const IPPROTO_ICMP = 1;
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_SCTP = 132;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_RCVBUF = 8;
/** SO_TIMESTAMPING_OLD: with 64-bit times wherever a C long has 64 bits. What it gives goes by the same number. */
export const SO_TIMESTAMPING = 37;
export const SOF_TIMESTAMPING_RX_SOFTWARE = 0x8;
export const SOF_TIMESTAMPING_SOFTWARE = 0x10;
export const SOL_PACKET = 263;
export const PACKET_STATISTICS = 6;
/** As the protocol of a packet socket, in network byte order: every frame, those that leave too. */
export const ETH_P_ALL = 0x0003;
export const IPV6_V6ONLY = 26;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const CLONE_NEWNET = 0x40000000;
export const EINTR = 4;
export const EAGAIN = 11;
export const EADDRINUSE = 98;
export const ECONNREFUSED = 111;
export const EINPROGRESS = 115;

/** Each returns what the C function does; -1 means that {@link Libc.errno} says why. */
export interface Libc {
  setns(fd: number, type: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  accept4(fd: number, address: Uint8Array | null, length: Uint8Array | null, flags: number): number;
  send(fd: number, data: Uint8Array, length: number, flags: number): number;
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number;
  sendto(fd: number, data: Uint8Array, length: number, flags: number, address: Uint8Array, addressLength: number): number;
  recvfrom(fd: number, buffer: Uint8Array, length: number, flags: number, address: Uint8Array, addressLength: Uint8Array): number;
  /** @param message struct msghdr, with addresses as {@link addressOf} gives them */
  recvmsg(fd: number, message: Uint8Array, flags: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number;
  getsockopt(fd: number, level: number, option: number, value: Uint8Array, length: Uint8Array): number;
  close(fd: number): number;
  pipe2(fds: Uint8Array, flags: number): number;
  read(fd: number, buffer: Uint8Array, length: number): number;
  write(fd: number, data: Uint8Array, length: number): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: Uint8Array): number;
  epoll_wait(epoll: number, events: Uint8Array, count: number, timeoutMs: number): number;
  /** The error of this thread's last call that failed. */
  errno(): number;
}

let loaded: Libc | undefined;

/** The C library of this process, loaded when first asked for. */
export function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const lib = koffi.load(null);
  loaded = {
    setns: lib.func('int setns(int, int)'),
    socket: lib.func('int socket(int, int, int)'),
    bind: lib.func('int bind(int, void *, uint32_t)'),
    listen: lib.func('int listen(int, int)'),
    connect: lib.func('int connect(int, void *, uint32_t)'),
    accept4: lib.func('int accept4(int, void *, void *, int)'),
    send: lib.func('long send(int, void *, size_t, int)'),
    recv: lib.func('long recv(int, void *, size_t, int)'),
    sendto: lib.func('long sendto(int, void *, size_t, int, void *, uint32_t)'),
    recvfrom: lib.func('long recvfrom(int, void *, size_t, int, void *, void *)'),
    recvmsg: lib.func('long recvmsg(int, void *, int)'),
    setsockopt: lib.func('int setsockopt(int, int, int, void *, uint32_t)'),
    getsockopt: lib.func('int getsockopt(int, int, int, void *, void *)'),
    close: lib.func('int close(int)'),
    pipe2: lib.func('int pipe2(void *, int)'),
    read: lib.func('long read(int, void *, size_t)'),
    write: lib.func('long write(int, void *, size_t)'),
    epoll_create1: lib.func('int epoll_create1(int)'),
    epoll_ctl: lib.func('int epoll_ctl(int, int, int, void *)'),
    epoll_wait: lib.func('int epoll_wait(int, void *, int, int)'),
    errno: () => koffi.errno(),
  };
  return loaded;
}

/** `ECONNREFUSED` for 111. */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno);
}

/** @param doing as in `binding to 10.244.1.5 port 80 in pod dev/web` */
export function syscallError(doing: string, errno = libc().errno()): LabError {
  return new LabError('LAB_SYSCALL', `${doing}: ${errnoName(errno)}`);
}

/** The result of a call that must not fail. @throws LabError `LAB_SYSCALL` */
export function checked(result: number, doing: string): number {
  if (result < 0) throw syscallError(doing);
  return result;
}

/**
 * Where a buffer is in memory. It stays there for as long as the buffer is reachable, for what an ArrayBuffer holds is outside of the
 * heap that V8 moves things about in.
 */
export function addressOf(buffer: ArrayBuffer): bigint {
  return koffi.address(new Uint8Array(buffer));
}

/** A C int, in host order. */
export function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}
