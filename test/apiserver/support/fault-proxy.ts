/**
 * What may be between an agent and its API server, and fail: an HTTP proxy in front of the real server that refuses, answers for it, cuts
 * connections, falls silent, or puts lines of its own into what streams through.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { API_ADDRESS } from '../../../src/lab/api/api-server.ts';

export interface Refusal {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export class FaultProxy {
  readonly #server: Server;
  readonly #upstream: { readonly port: number; readonly ca: string };
  readonly #sockets = new Set<Socket>();
  readonly #streams = new Map<ServerResponse, string>();
  /** Answers for the server; undefined: it is asked. */
  refuse: ((request: IncomingMessage) => Refusal | undefined) | undefined;
  /** Connections that are there stay open, and nothing comes through any more. */
  #silenced = new WeakSet<Socket>();
  /** Paths and queries, as they came. */
  readonly requests: string[] = [];

  private constructor(upstream: { readonly port: number; readonly ca: string }) {
    this.#upstream = upstream;
    this.#server = createServer((incoming, outgoing) => this.#forward(incoming, outgoing));
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  /** @param certificate file with the certificate that the API server's is signed with */
  static async start(port: number, certificate: string): Promise<FaultProxy> {
    const proxy = new FaultProxy({ port, ca: readFileSync(certificate, 'utf8') });
    proxy.#server.listen(0, API_ADDRESS);
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `http://${API_ADDRESS}:${(this.#server.address() as AddressInfo).port}`;
  }

  #forward(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, url: path = '', headers, socket } = incoming;
    this.requests.push(path);
    const refusal = this.refuse?.(incoming);
    if (refusal !== undefined) {
      outgoing.writeHead(refusal.status, refusal.headers).end(refusal.body);
      return;
    }
    const { port, ca } = this.#upstream;
    const upstream = request({ host: API_ADDRESS, port, ca, servername: 'kubernetes.default.svc', method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      outgoing.flushHeaders();
      if (path.includes('watch=true')) this.#streams.set(outgoing, path);
      answer.on('data', (chunk: Buffer) => {
        if (!this.#silenced.has(socket)) outgoing.write(chunk);
      });
      answer.on('end', () => {
        if (!this.#silenced.has(socket)) outgoing.end();
      });
      answer.on('error', () => {
        if (!this.#silenced.has(socket)) socket.destroy();
      });
    });
    upstream.on('error', () => socket.destroy());
    outgoing.on('close', () => {
      this.#streams.delete(outgoing);
      upstream.destroy();
    });
    incoming.pipe(upstream);
  }

  /** Resets every connection. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Nothing comes through the connections that are there, ever. */
  silence(): void {
    for (const socket of this.#sockets) this.#silenced.add(socket);
  }

  /** Writes into every open watch of a path, and ends it there if told to. How many there were. */
  inject(path: string, line: string, { end = false } = {}): number {
    let count = 0;
    for (const [outgoing, of] of this.#streams) {
      if (!of.startsWith(`${path}?`)) continue;
      count++;
      outgoing.write(line);
      if (end) outgoing.end();
    }
    return count;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
