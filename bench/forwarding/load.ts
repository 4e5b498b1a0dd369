/**
 * Connections through a bridge, as many as two cores can make: threads that connect and close, and one that accepts.
 *
 * A connection is four packets (SYN, SYN-ACK, ACK, and RST because the client closes without lingering), so nearly all of its cost is
 * that of being set up and judged, and no port waits in TIME_WAIT. The calls of libc are made directly: Node's own sockets cost
 * more than the kernel's whole work on a connection, and would hide it. What the rest of the loop costs is measured by
 * {@link Load.overheadUs}.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Address } from '../../src/policy/address.ts';

/** Two pods of one node: network namespaces, and where the second listens. */
export interface Pair {
  readonly client: string;
  readonly server: string;
  readonly address: Address;
  readonly port: number;
}

export interface LoadWorkerData {
  readonly role: 'client' | 'server';
  readonly pairs: readonly Pair[];
  /** The CPU time of the accepting thread so far, ms: a Float64, written by it. */
  readonly serverCpuMs: SharedArrayBuffer;
}
export type ClientRequest = { readonly pair: number; readonly forMs: number } | 'overhead';
export interface ClientAnswer {
  readonly connections: number;
  /** Connections that were refused or not answered. */
  readonly failures: number;
  readonly elapsedMs: number;
  readonly cpuMs: number;
}

export interface LoadResult {
  /** Connections a second, by the clock. */
  readonly perSecond: number;
  /**
   * Connections for each second of CPU time that the threads of the load used. The packets are handled by the kernel in these very
   * threads, so this is what one core can do, also while somebody else uses part of it.
   */
  readonly perCpuSecond: number;
  readonly failures: number;
}

/** As many as keep two cores busy, the accepting thread included. */
const CLIENTS = 2;

export class Load {
  readonly #server: Worker;
  readonly #clients: readonly Worker[];
  readonly #serverCpuMs: Float64Array;

  private constructor(server: Worker, clients: readonly Worker[], serverCpuMs: Float64Array) {
    this.#server = server;
    this.#clients = clients;
    this.#serverCpuMs = serverCpuMs;
  }

  /** Resolves when all of them listen. */
  static async start(pairs: readonly Pair[]): Promise<Load> {
    const script = new URL('load-worker.ts', import.meta.url);
    const serverCpuMs = new SharedArrayBuffer(8);
    const worker = (role: LoadWorkerData['role']): Worker =>
      new Worker(script, { workerData: { role, pairs, serverCpuMs } satisfies LoadWorkerData });
    const server = worker('server');
    await once(server, 'message');
    const clients = Array.from({ length: CLIENTS }, () => worker('client'));
    return new Load(server, clients, new Float64Array(serverCpuMs));
  }

  async run(pair: number, forMs: number): Promise<LoadResult> {
    const serverBefore = this.#serverCpuMs[0] ?? 0;
    const answers = await this.#ask({ pair, forMs });
    const cpuMs = answers.reduce((sum, answer) => sum + answer.cpuMs, 0) + (this.#serverCpuMs[0] ?? 0) - serverBefore;
    return {
      perSecond: answers.reduce((sum, { connections, elapsedMs }) => sum + (connections * 1000) / elapsedMs, 0),
      perCpuSecond: (answers.reduce((sum, { connections }) => sum + connections, 0) * 1000) / cpuMs,
      failures: answers.reduce((sum, { failures }) => sum + failures, 0),
    };
  }

  /** What the client's side of the loop costs without a network: microseconds of one core for the calls of one connection. */
  async overheadUs(): Promise<number> {
    const [answer] = await this.#ask('overhead');
    return answer === undefined ? Number.NaN : (answer.cpuMs * 1000) / answer.connections;
  }

  #ask(request: ClientRequest): Promise<ClientAnswer[]> {
    return Promise.all(
      this.#clients.map(async (client) => {
        const answered = once(client, 'message');
        client.postMessage(request, []);
        const [answer] = (await answered) as [ClientAnswer];
        return answer;
      }),
    );
  }

  async close(): Promise<void> {
    await Promise.all([this.#server, ...this.#clients].map((worker) => worker.terminate()));
  }
}
