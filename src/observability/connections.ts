/**
 * How many connections a server of the agent has at once, and which of them gives way to the next. What the agent enforces with needs
 * descriptors too, for netlink and for the API server: so many are held in reserve, whatever connects.
 */
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';

/** For netlink, watches and requests of the API server, the log, files that are read and written; an agent at work has some forty open. */
const RESERVED_DESCRIPTORS = 48;
/** One server has no more than this part of the rest: there are three. */
const SERVERS = 4;
/** Fewer than a probe, Prometheus and a person need would serve nobody. */
const FEWEST = 4;

/** How many descriptors this process may have open; what cannot be read is taken for no limit. */
export function descriptorLimit(read: () => string = () => readFileSync('/proc/self/limits', 'utf8')): number {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(read()) ?? [];
    return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** How many connections a server may have at once that wants so many, of what is not held in reserve. */
export function connectionBound(wanted: number, limit: number = descriptorLimit()): number {
  return Math.max(FEWEST, Math.min(wanted, Math.floor((limit - RESERVED_DESCRIPTORS) / SERVERS)));
}

/**
 * Why this process can open no more files, where it cannot open two: one to listen with, and one for whoever connects. A server of Node is
 * not told that: where there is no descriptor for a connection, the event loop offers it again at once, and for ever.
 */
export function descriptorShortage(): unknown {
  const files: number[] = [];
  try {
    for (let count = 0; count < 2; count++) files.push(openSync('/', 'r'));
    return undefined;
  } catch (error) {
    return error;
  } finally {
    for (const file of files) closeSync(file);
  }
}

interface Connection {
  readonly client: string;
  requests: number;
  /** While a request waits for its answer. */
  deadline?: NodeJS.Timeout;
}

/**
 * The connections to one server. Where there is one too many, one gives way of the client that has the most: so whoever opens many takes
 * their places from itself, and a probe gets its answer. Of that client's the one that has been idle for longest, and only where all are
 * at work the oldest.
 */
export class Connections {
  readonly #bound: number;
  readonly #answerMs: number;
  /** The longest idle first. */
  readonly #connections = new Map<Socket, Connection>();

  /** @param answerMs a connection ends whose next answer has not been made and taken within this time */
  constructor(bound: number, answerMs: number) {
    this.#bound = bound;
    this.#answerMs = answerMs;
  }

  get size(): number {
    return this.#connections.size;
  }

  /** It has come; another may be ended for it. */
  add(socket: Socket): void {
    const connection: Connection = { client: socket.remoteAddress ?? '', requests: 0 };
    this.#connections.set(socket, connection);
    socket.once('close', () => {
      // Of requests in a pipeline that never got their turn nobody hears that they are over.
      clearTimeout(connection.deadline);
      this.#connections.delete(socket);
    });
    if (this.#connections.size > this.#bound) this.#endOne(socket);
  }

  /** A request has come on it. @returns how many there are on it that have not been answered */
  began(socket: Socket): number {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return 0;
    if (connection.requests === 0) this.#await(socket, connection);
    return ++connection.requests;
  }

  /** A request on it has been answered, or never will be. */
  ended(socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    connection.requests--;
    if (connection.requests > 0) return this.#await(socket, connection);
    clearTimeout(connection.deadline);
    // Idle from now on.
    this.#connections.delete(socket);
    this.#connections.set(socket, connection);
  }

  /** The next answer has its time from now on. */
  #await(socket: Socket, connection: Connection): void {
    clearTimeout(connection.deadline);
    connection.deadline = setTimeout(() => socket.destroy(), this.#answerMs).unref();
  }

  #endOne(newest: Socket): void {
    const counts = new Map<string, number>();
    for (const { client } of this.#connections.values()) counts.set(client, (counts.get(client) ?? 0) + 1);
    let [most, count] = ['', 0];
    for (const [client, its] of counts) if (its > count) [most, count] = [client, its];
    let oldest: Socket | undefined;
    for (const [socket, { client, requests }] of this.#connections) {
      if (client !== most || socket === newest) continue;
      oldest ??= socket;
      if (requests > 0) continue;
      oldest = socket;
      break;
    }
    // At once: its descriptor is what is needed.
    const given = oldest ?? newest;
    this.#connections.delete(given);
    given.destroy();
  }
}
