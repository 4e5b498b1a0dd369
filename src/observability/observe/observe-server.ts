/**
 * The socket that readers come to: a file that only root may open, made when the agent starts and gone when it has stopped. A file that
 * an agent left which was killed is replaced; one that is listened on is not taken, and nothing else waits for it.
 */
import { lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { SluiceError, systemErrorCode } from '../../errors.ts';
import { descriptorShortage } from '../connections.ts';

export interface ObserveServerOptions {
  readonly path: string;
  readonly onReader: (socket: Socket) => void;
  /** So many connections at once at most, those included that are about to end; what comes beyond is closed unheard. */
  readonly connections: number;
  /** It cannot be listened on; told once, until it could. */
  readonly onFault: (error: unknown) => void;
}

const AGAIN_MS = 2_000;
/** How often it is looked whether there are descriptors. */
const LOOK_MS = 1_000;

export class ObserveServer {
  readonly #options: ObserveServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #again: NodeJS.Timeout | undefined;
  readonly #looking: NodeJS.Timeout;
  #isFaulty = false;
  #isClosed = false;

  constructor(options: ObserveServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      // A reader that has gone is no fault.
      socket.on('error', () => socket.destroy());
      options.onReader(socket);
    });
    this.#server.maxConnections = options.connections;
    // Not kept alive by it: an agent ends when it is told to.
    this.#server.unref();
    this.#server.on('error', (error) => this.#failed(error));
    this.#server.on('listening', () => {
      this.#isFaulty = false;
    });
    void this.#listen();
    this.#looking = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Ends all readers, and takes the file away. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#again);
    clearInterval(this.#looking);
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Where no descriptor is left, all that it has are given up, as by the other servers. */
  #look(): void {
    if (!this.#server.listening) return;
    const shortage = descriptorShortage();
    if (shortage === undefined) return;
    for (const socket of this.#sockets) socket.destroy();
    this.#failed(shortage);
  }

  async #listen(): Promise<void> {
    const { path } = this.#options;
    try {
      mkdirSync(dirname(path), { recursive: true });
      if (await isListenedOn(path)) {
        throw new SluiceError('OBSERVE_SOCKET_TAKEN', `another process listens on ${path}`, {
          hint: 'Name another with --observe-socket.',
        });
      }
      if (this.#isClosed) return;
      // Bound before listen() returns, so that the file is never open to others, not even for a moment.
      const umask = process.umask(0o177);
      try {
        this.#server.listen({ path });
      } finally {
        process.umask(umask);
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (this.#isClosed) return;
    if (!this.#isFaulty) this.#options.onFault(error);
    this.#isFaulty = true;
    if (this.#server.listening) this.#server.close();
    clearTimeout(this.#again);
    this.#again = setTimeout(() => void this.#listen(), AGAIN_MS).unref();
  }
}

/** Removes a socket that nobody listens on any more. @throws SluiceError `OBSERVE_SOCKET_TAKEN` where the file is something else */
async function isListenedOn(path: string): Promise<boolean> {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return false;
  if (!stats.isSocket()) {
    throw new SluiceError('OBSERVE_SOCKET_TAKEN', `${path} is there, and is no socket`, {
      hint: 'Remove it, or name another with --observe-socket.',
    });
  }
  try {
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ path }, () => {
        socket.destroy();
        resolve();
      });
      socket.on('error', reject);
    });
    return true;
  } catch (error) {
    if (systemErrorCode(error) !== 'ECONNREFUSED') return systemErrorCode(error) !== 'ENOENT';
    unlinkSync(path);
    return false;
  }
}
