/**
 * Tells when netlink sockets become readable, without a busy loop and without a thread for each: one worker thread waits in
 * poll(2) for all of them. Reading is done on the main thread by the socket's own non-blocking `receive`.
 *
 * A poller never keeps the process alive, and never keeps it from ending: the thread sits in a system call that nothing but its
 * pipe ends, so the pipe is closed when the process exits.
 */
import { Worker } from 'node:worker_threads';
import { KernelError, NetlinkError } from '../netlink/errors.ts';
import { libc } from '../netlink/libc.ts';
import type { NetlinkSocket } from '../netlink/socket.ts';
import { COMMAND_BYTES, FORGET, type PollerReport, type PollerWorkerData } from './protocol.ts';

const O_CLOEXEC = 0x80000;

/**
 * The worker's file lies next to this one and has its extension. Where the program is bundled into one file `dir/app.js`, bundle
 * `poller-worker.ts` as a second entry `dir/poller-worker.js`, and it is found; anywhere else, give {@link PollerOptions.workerEntry}.
 */
function defaultWorkerEntry(): URL {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`./poller-worker.${extension}`, import.meta.url);
}

export interface PollerOptions {
  /** The file of the worker thread. */
  readonly workerEntry?: URL;
}

interface Watch {
  readonly fd: number;
  readonly onReadable: () => void;
}

/** What is to be closed when the process exits: the thread would otherwise be waited for without end. */
const openPipes = new Set<number>();

function closePipe(fd: number): void {
  if (openPipes.delete(fd)) libc().close(fd);
}

/** One listener serves all pollers of the process. */
let closesPipesAtExit = false;

function closePipesAtExit(): void {
  if (closesPipesAtExit) return;
  closesPipesAtExit = true;
  process.on('exit', () => {
    for (const fd of openPipes) closePipe(fd);
  });
}

export class Poller {
  readonly #workerEntry: URL;
  readonly #watches = new Map<number, Watch>();
  #nextToken = 1;
  /** The write end of the pipe to the thread; undefined until the first watch. */
  #pipe: number | undefined;
  #closed = false;

  constructor(options: PollerOptions = {}) {
    this.#workerEntry = options.workerEntry ?? defaultWorkerEntry();
  }

  /**
   * Calls `onReadable` on the main thread whenever the socket has something to read (or an error: a lost message), again and
   * again until it has been read. What `onReadable` throws surfaces as an uncaught exception; the watch goes on.
   *
   * @returns ends the watch. Call it before the socket is closed: its descriptor may soon be that of something else.
   * @throws NetlinkError ERR_CLOSED
   */
  watch(socket: NetlinkSocket, onReadable: () => void): () => void {
    if (this.#closed) throw new NetlinkError('ERR_CLOSED', 'watching a netlink socket: the poller is closed');
    const pipe = (this.#pipe ??= this.#start());
    const token = this.#nextToken++;
    const watch: Watch = { fd: socket.fd, onReadable };
    this.#watches.set(token, watch);
    command(pipe, [[token, watch.fd]]);
    return () => {
      if (this.#watches.delete(token)) command(pipe, [[token, FORGET]]);
    };
  }

  /** Ends all watches and the thread. */
  close(): void {
    this.#closed = true;
    this.#watches.clear();
    if (this.#pipe !== undefined) closePipe(this.#pipe);
  }

  #start(): number {
    const ends = new Int32Array(2);
    if (libc().pipe2(new Uint8Array(ends.buffer), O_CLOEXEC) < 0) throw new KernelError(libc().errno(), 'making the pipe of a poller');
    const [wakeFd = -1, pipe = -1] = ends;
    closePipesAtExit();
    openPipes.add(pipe);
    const workerData: PollerWorkerData = { wakeFd };
    // Flags of the program are not the thread's: some of them (--input-type, --test) make a thread refuse to start.
    const worker = new Worker(this.#workerEntry, { workerData, name: 'netlink-poller', execArgv: [] });
    // No listener for `error`: a thread that cannot start or fails is an uncaught exception, not silence.
    worker.on('message', (report: PollerReport) => this.#deliver(pipe, report));
    worker.unref();
    return pipe;
  }

  #deliver(pipe: number, report: PollerReport): void {
    for (const token of report.invalid) this.#watches.delete(token);
    const again: [number, number][] = [];
    const failures: unknown[] = [];
    for (const token of report.ready) {
      const watch = this.#watches.get(token);
      if (watch === undefined) continue;
      try {
        watch.onReadable();
      } catch (error) {
        failures.push(error);
      }
      if (this.#watches.has(token)) again.push([token, watch.fd]);
    }
    command(pipe, again);
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, `${failures.length} watchers of netlink sockets failed`);
  }
}

/** Gives the thread commands, in one write. Does nothing once the pipe is closed. */
function command(pipe: number, commands: readonly (readonly [token: number, fd: number])[]): void {
  if (commands.length === 0 || !openPipes.has(pipe)) return;
  const bytes = new DataView(new ArrayBuffer(commands.length * COMMAND_BYTES));
  for (const [index, [token, fd]] of commands.entries()) {
    bytes.setUint32(index * COMMAND_BYTES, token, true);
    bytes.setInt32(index * COMMAND_BYTES + 4, fd, true);
  }
  // Up to PIPE_BUF (4096 bytes, 512 commands) written as a whole; a longer write to a blocking pipe may only be cut by a signal.
  libc().write(pipe, new Uint8Array(bytes.buffer), bytes.byteLength);
}
