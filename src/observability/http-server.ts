/**
 * The few pages that the agent has for probes and for Prometheus. An address that is taken (by the agent of a node that is about to end,
 * in a rolling update) is tried again until it is free, and stands in nobody's way meanwhile.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { systemErrorCode } from '../errors.ts';

export interface ListenAddress {
  /** Empty: every address. */
  readonly host: string;
  readonly port: number;
}

export interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export interface HttpServerOptions {
  readonly address: ListenAddress;
  /** By path. */
  readonly pages: Readonly<Record<string, (request: IncomingMessage) => Page | Promise<Page>>>;
  /** Once, until it listens. */
  readonly onFault: (error: unknown) => void;
  /** A page could not be made. */
  readonly onError: (path: string, error: unknown) => void;
}

const LISTEN_AGAIN_MS = 1_000;

export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #server: Server;
  #faulty = false;
  #again: NodeJS.Timeout | undefined;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => {
      void this.#answer(request).then(({ status, type, body }) => {
        response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
        response.end(request.method === 'HEAD' ? undefined : body);
      });
    });
    // A client that says nothing is not waited for.
    this.#server.requestTimeout = 10_000;
    this.#server.on('error', (error) => this.#failed(error));
    this.#server.on('listening', () => {
      this.#faulty = false;
    });
    this.#listen();
  }

  /** The port, also where 0 was asked for; undefined while it does not listen. */
  get port(): number | undefined {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : undefined;
  }

  close(): void {
    clearTimeout(this.#again);
    this.#server.removeAllListeners('error');
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #listen(): void {
    const { host, port } = this.#options.address;
    this.#server.listen(host === '' ? { port } : { host, port });
  }

  #failed(error: unknown): void {
    if (!this.#faulty) this.#options.onFault(error);
    this.#faulty = true;
    if (systemErrorCode(error) !== undefined) this.#again = setTimeout(() => this.#listen(), LISTEN_AGAIN_MS).unref();
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

export function text(status: number, body: string): Page {
  return { status, type: 'text/plain; charset=utf-8', body };
}
