/**
 * The few calls of libc that Node has no function for. Loaded once, when first used, so that importing the package costs nothing.
 */
import koffi from 'koffi';

/** Errors of the C library by number, for the numbers that netlink answers with. Linux, all architectures that Node runs on. */
export const ERRNO: Readonly<Record<number, string>> = {
  1: 'EPERM',
  2: 'ENOENT',
  3: 'ESRCH',
  4: 'EINTR',
  5: 'EIO',
  7: 'E2BIG',
  9: 'EBADF',
  11: 'EAGAIN',
  12: 'ENOMEM',
  13: 'EACCES',
  14: 'EFAULT',
  16: 'EBUSY',
  17: 'EEXIST',
  19: 'ENODEV',
  20: 'ENOTDIR',
  22: 'EINVAL',
  23: 'ENFILE',
  24: 'EMFILE',
  28: 'ENOSPC',
  31: 'EMLINK',
  34: 'ERANGE',
  36: 'ENAMETOOLONG',
  40: 'ELOOP',
  74: 'EBADMSG',
  75: 'EOVERFLOW',
  85: 'ERESTART',
  90: 'EMSGSIZE',
  93: 'EPROTONOSUPPORT',
  95: 'EOPNOTSUPP',
  97: 'EAFNOSUPPORT',
  98: 'EADDRINUSE',
  99: 'EADDRNOTAVAIL',
  100: 'ENETDOWN',
  101: 'ENETUNREACH',
  105: 'ENOBUFS',
  110: 'ETIMEDOUT',
  111: 'ECONNREFUSED',
  113: 'EHOSTUNREACH',
};

/** `EPERM` for 1; `E<number>` for one without a name here. */
export function errnoName(errno: number): string {
  return ERRNO[errno] ?? `E${errno}`;
}

export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  getsockname(fd: number, address: Uint8Array, length: Uint8Array): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number;
  send(fd: number, data: Uint8Array, length: number, flags: number): number;
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number;
  poll(fds: Uint8Array, count: number, timeoutMs: number): number;
  pipe2(fds: Uint8Array, flags: number): number;
  write(fd: number, data: Uint8Array, length: number): number;
  read(fd: number, buffer: Uint8Array, length: number): number;
  close(fd: number): number;
  setns(fd: number, type: number): number;
  /** The error of the last call of this thread that failed. */
  errno(): number;
}

let loaded: Libc | undefined;

/** The C library of this process. */
export function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const lib = koffi.load(null);
  loaded = {
    socket: lib.func('int socket(int, int, int)'),
    bind: lib.func('int bind(int, void *, uint32_t)'),
    getsockname: lib.func('int getsockname(int, void *, void *)'),
    setsockopt: lib.func('int setsockopt(int, int, int, void *, uint32_t)'),
    send: lib.func('long send(int, void *, size_t, int)'),
    recv: lib.func('long recv(int, void *, size_t, int)'),
    poll: lib.func('int poll(void *, unsigned long, int)'),
    pipe2: lib.func('int pipe2(void *, int)'),
    write: lib.func('long write(int, void *, size_t)'),
    read: lib.func('long read(int, void *, size_t)'),
    close: lib.func('int close(int)'),
    setns: lib.func('int setns(int, int)'),
    errno: () => koffi.errno(),
  };
  return loaded;
}
