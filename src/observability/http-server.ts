/**
 * The few pages that the agent has for probes and for Prometheus. An address that is taken (by the agent of a node that is about to end,
 * in a rolling update) is tried again until it is free, and stands in nobody's way meanwhile.
 *
 * Whoever reaches the address may connect: connections, their time, what is read of them and what waits to be written to them are bounded,
 * each alone and all together.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { systemErrorCode } from '../errors.ts';
import { connectionBound, Connections, descriptorShortage } from './connections.ts';

export interface ListenAddress {
  /** Empty: every address. */
  readonly host: string;
  readonly port: number;
}

export interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  /** The body again, where many are sent the same: there is one copy of it then, however many do not take it. */
  readonly bytes?: Uint8Array | undefined;
}

/** What one client, and all together, may have of a server. */
export interface HttpBounds {
  /** At once. */
  readonly connections: number;
  /** A connection on which nothing is asked ends. */
  readonly idleMs: number;
  /** A request's first line and headers are there within this time, and no larger than this. */
  readonly headersMs: number;
  readonly headerBytes: number;
  /** An answer has been made and taken within this time, counted from the one before it on the same connection. */
  readonly answerMs: number;
  /** Requests on one connection that have not been answered. */
  readonly pipelined: number;
}

/** A page is small and asked for now and then; a bearer token may be some kilobytes. */
const BOUNDS: Omit<HttpBounds, 'connections'> = { idleMs: 5_000, headersMs: 5_000, headerBytes: 16 * 1024, answerMs: 15_000, pipelined: 8 };
const CONNECTIONS = 64;
/** After so many requests a client has to connect again, and may find that it is another's turn. */
const REQUESTS_PER_CONNECTION = 1_000;

export interface HttpServerOptions {
  readonly address: ListenAddress;
  /** By path. */
  readonly pages: Readonly<Record<string, (request: IncomingMessage) => Page | Promise<Page>>>;
  /** Once, until it listens. */
  readonly onFault: (error: unknown) => void;
  /** A page could not be made. */
  readonly onError: (path: string, error: unknown) => void;
  /** Others than the usual, for tests. */
  readonly bounds?: Partial<HttpBounds>;
}

const LISTEN_AGAIN_MS = 1_000;
/** How often it is looked whether there are descriptors. */
const LOOK_MS = 1_000;

export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #server: Server;
  readonly #bounds: HttpBounds;
  readonly #connections: Connections;
  #faulty = false;
  #isClosed = false;
  #again: NodeJS.Timeout | undefined;
  readonly #looking: NodeJS.Timeout;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    this.#bounds = { ...BOUNDS, connections: connectionBound(CONNECTIONS), ...options.bounds };
    const { connections, idleMs, headersMs, headerBytes, answerMs } = this.#bounds;
    this.#connections = new Connections(connections, answerMs);
    this.#server = createServer({
      // A client that says nothing is not waited for.
      headersTimeout: headersMs,
      requestTimeout: headersMs,
      connectionsCheckingInterval: Math.min(1_000, headersMs),
      keepAliveTimeout: idleMs,
      keepAliveTimeoutBuffer: 0,
      maxHeaderSize: headerBytes,
    });
    this.#server.maxRequestsPerSocket = REQUESTS_PER_CONNECTION;
    this.#server.on('connection', (socket) => this.#connections.add(socket));
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => this.#serve(request, response);
    this.#server.on('request', onRequest);
    // Nobody is told to go on with a body: none is wanted.
    this.#server.on('checkContinue', onRequest);
    this.#server.on('error', (error) => this.#failed(error));
    this.#server.on('listening', () => {
      this.#faulty = false;
    });
    this.#listen();
    this.#looking = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** The port, also where 0 was asked for; undefined while it does not listen. */
  get port(): number | undefined {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : undefined;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#again);
    clearInterval(this.#looking);
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Where no descriptor is left, all that it has are given up; it listens again when there are some. */
  #look(): void {
    if (!this.#server.listening) return;
    const shortage = descriptorShortage();
    if (shortage === undefined) return;
    this.#server.closeAllConnections();
    this.#failed(shortage);
  }

  #listen(): void {
    const shortage = descriptorShortage();
    if (shortage !== undefined) return this.#failed(shortage);
    const { host, port } = this.#options.address;
    this.#server.listen(host === '' ? { port } : { host, port });
  }

  #failed(error: unknown): void {
    if (this.#isClosed) return;
    if (!this.#faulty) this.#options.onFault(error);
    this.#faulty = true;
    if (this.#server.listening) this.#server.close();
    clearTimeout(this.#again);
    if (systemErrorCode(error) !== undefined) this.#again = setTimeout(() => this.#listen(), LISTEN_AGAIN_MS).unref();
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    // What has been read before it was ended is still handed on.
    if (socket.destroyed) return;
    if (this.#connections.began(socket) > this.#bounds.pipelined) {
      socket.destroy();
      return;
    }
    response.once('close', () => this.#connections.ended(socket));
    // Its end is nobody's business: not when it comes, and not that it may never.
    if (hasBody(request)) {
      response.shouldKeepAlive = false;
      send(request, response, text(413, 'a request has no body here\n'));
      response.once('finish', () => socket.destroy());
      return;
    }
    this.#answer(request).then(
      (page) => send(request, response, page),
      () => socket.destroy(),
    );
  }

  async #answer(request: IncomingMessage): Promise<Page> {
    const [path = '/'] = (request.url ?? '/').split('?');
    const make = Object.hasOwn(this.#options.pages, path) ? this.#options.pages[path] : undefined;
    if (make === undefined) return text(404, `there is no ${path}; there are ${Object.keys(this.#options.pages).join(' ')}\n`);
    if (request.method !== 'GET' && request.method !== 'HEAD') return text(405, 'only GET and HEAD\n');
    try {
      return await make(request);
    } catch (error) {
      this.#options.onError(path, error);
      return text(500, 'this page could not be made; the log says why\n');
    }
  }
}

function send({ method }: IncomingMessage, response: ServerResponse, { status, type, body, bytes = Buffer.from(body) }: Page): void {
  if (response.destroyed) return;
  response.writeHead(status, { 'content-type': type, 'content-length': bytes.length });
  response.end(method === 'HEAD' ? undefined : bytes);
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

export function text(status: number, body: string): Page {
  return { status, type: 'text/plain; charset=utf-8', body };
}
