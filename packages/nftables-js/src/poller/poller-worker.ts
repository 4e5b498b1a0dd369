/**
 * The thread that waits for netlink sockets in poll(2), so that no thread of libuv's pool does. It reads nothing from them: it
 * tells the main thread which are readable and leaves each of those out of the wait until the main thread has read and asks for
 * it again. So a slow main thread costs one wake-up, not a busy loop.
 *
 * Commands come through a pipe, which is also what wakes the wait; the end of the pipe ends the thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { KernelError } from '../netlink/errors.ts';
import { libc } from '../netlink/libc.ts';
import { COMMAND_BYTES, FORGET, type PollerReport, type PollerWorkerData } from './protocol.ts';

const POLLIN = 0x1;
const POLLNVAL = 0x20;
const EINTR = 4;
const POLLFD_BYTES = 8;

/** Waits until the pipe ends. */
function run(wakeFd: number, report: (report: PollerReport) => void): void {
  const c = libc();
  /** Descriptors to wait for, by token; those reported are left out until they are commanded again. */
  const waiting = new Map<number, number>();
  // A multiple of the size of a command, and not more than PIPE_BUF: no read cuts a command in two.
  const commands = new DataView(new ArrayBuffer(4096));
  const commandBytes = new Uint8Array(commands.buffer);
  for (;;) {
    // struct pollfd { int fd; short events; short revents; }
    const fds = new DataView(new ArrayBuffer((waiting.size + 1) * POLLFD_BYTES));
    const tokens = [...waiting.keys()];
    fds.setInt32(0, wakeFd, true);
    fds.setInt16(4, POLLIN, true);
    let at = POLLFD_BYTES;
    for (const fd of waiting.values()) {
      fds.setInt32(at, fd, true);
      fds.setInt16(at + 4, POLLIN, true);
      at += POLLFD_BYTES;
    }
    if (c.poll(new Uint8Array(fds.buffer), waiting.size + 1, -1) < 0) {
      const errno = c.errno();
      if (errno === EINTR) continue;
      throw new KernelError(errno, `polling ${waiting.size} netlink sockets`);
    }
    const ready: number[] = [];
    const invalid: number[] = [];
    for (const [index, token] of tokens.entries()) {
      const events = fds.getInt16((index + 1) * POLLFD_BYTES + 6, true);
      if (events === 0) continue;
      waiting.delete(token);
      ((events & POLLNVAL) === 0 ? ready : invalid).push(token);
    }
    if (ready.length > 0 || invalid.length > 0) report({ ready, invalid });
    if (fds.getInt16(6, true) === 0) continue;
    const length = c.read(wakeFd, commandBytes, commandBytes.length);
    if (length < 0 && c.errno() === EINTR) continue;
    if (length <= 0) break;
    for (let at = 0; at < length; at += COMMAND_BYTES) {
      const token = commands.getUint32(at, true);
      const fd = commands.getInt32(at + 4, true);
      if (fd === FORGET) waiting.delete(token);
      else waiting.set(token, fd);
    }
  }
  c.close(wakeFd);
}

if (parentPort === null || !isPollerWorkerData(workerData)) throw new Error('poller-worker runs only as the thread of a Poller');
const port = parentPort;
run(workerData.wakeFd, (report) => port.postMessage(report));

function isPollerWorkerData(data: unknown): data is PollerWorkerData {
  return typeof data === 'object' && data !== null && 'wakeFd' in data && typeof data.wakeFd === 'number';
}
