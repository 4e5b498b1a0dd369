/**
 * Standard output, written so that nobody is waited for: what does not fit now is refused with EAGAIN, whatever it leads to.
 *
 * O_NONBLOCK belongs to what a descriptor stands for, which other processes may share (a shell, the program at our standard error), and
 * would surprise them. So a pipe or a terminal is opened anew, a socket is told with each call, and a pipe that may not be opened anew is
 * asked first. A file takes everything.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

/** PIPE_BUF: so much is written to a pipe as a whole, and others' lines come before or after it. */
export const WHOLE_BYTES = 4_096;

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const POLLOUT = 0x4;

export interface Output {
  /** How many of the bytes were written. @throws a system error: EAGAIN where it would have to wait */
  write(bytes: Uint8Array): number;
}

/** What file descriptor 1 leads to, or another. */
export function openOutput(fd = 1): Output {
  const stat = fstatSync(fd);
  if (stat.isSocket()) return socketOutput(fd);
  if (!stat.isFIFO() && !isatty(fd)) return { write: (bytes) => writeSync(fd, bytes) };
  try {
    const own = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    return { write: (bytes) => writeSync(own, bytes) };
  } catch {
    // Somebody else's pipe (EACCES), or no /proc.
    return askedOutput(fd);
  }
}

/** Of systemd and others who start programs with a socket in place of a pipe: it cannot be opened anew. */
function socketOutput(fd: number): Output {
  const send = koffi.load(null).func('long send(int, void *, size_t, int)') as (
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
  ) => number;
  return {
    write(bytes) {
      const sent = send(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0) throw systemError('send', koffi.errno());
      return sent;
    },
  };
}

/** Where poll(2) says that there is room in a pipe, there is room for {@link WHOLE_BYTES}. */
function askedOutput(fd: number): Output {
  const poll = koffi.load(null).func('int poll(void *, unsigned long, int)') as (
    fds: Uint8Array,
    count: number,
    timeoutMs: number,
  ) => number;
  return {
    write(bytes) {
      // struct pollfd
      const asked = new Uint8Array(8);
      const view = new DataView(asked.buffer);
      view.setInt32(0, fd, true);
      view.setInt16(4, POLLOUT, true);
      if (poll(asked, 1, 0) === 0) throw systemError('poll', 11);
      return writeSync(fd, bytes.subarray(0, WHOLE_BYTES));
    },
  };
}

function systemError(call: string, errno: number): Error {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${code}: ${call}`), { code, errno, syscall: call });
}
