/**
 * Requests to one API server: who we are is said anew with each, connections are shared, and what goes wrong is an {@link ApiError}.
 *
 * A dead connection is noticed in three ways: by the kernel, which asks an idle peer for a sign of life every five seconds; by the time
 * that connecting and the first byte of an answer may take; and by the silence that a caller allows for.
 */
import { type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders, request as httpRequest, Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { ApiError, readRetryAfter } from './errors.ts';
import { Kubeconfig, type KubeconfigOptions } from './kubeconfig.ts';
import type { ListClient, ListRequest } from './reflector.ts';

const CONNECT_MS = 5_000;
/** A streamed list begins when the server has caught up with its storage. */
const ANSWER_MS = 30_000;
const KEEP_ALIVE_MS = 5_000;
/** What is read of an answer that says no. */
const REFUSAL_CHARACTERS_MAX = 2_000;

export interface ApiAnswer {
  readonly status: number;
  /** Parsed; undefined where it is no JSON. */
  readonly object: unknown;
}

export interface ApiCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Default: application/json. */
  readonly contentType?: string;
  /** Default: application/json. */
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

export class ApiClient implements ListClient {
  readonly #kubeconfig: Kubeconfig;
  readonly #agents = { 'https:': new HttpsAgent({ keepAlive: true }), 'http:': new HttpAgent({ keepAlive: true }) };
  readonly #userAgent: string;

  private constructor(kubeconfig: Kubeconfig, userAgent: string) {
    this.#kubeconfig = kubeconfig;
    this.#userAgent = userAgent;
  }

  /** Makes no connection yet. @throws SluiceError see {@link Kubeconfig.load} */
  static async open(options: KubeconfigOptions & { readonly userAgent: string }): Promise<ApiClient> {
    return new ApiClient(await Kubeconfig.load(options), options.userAgent);
  }

  /** Where the API server is, for people. */
  async server(): Promise<string> {
    return (await this.#kubeconfig.credentials()).server.href.replace(/\/$/, '');
  }

  /** Ends all connections. */
  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  async get(request: ListRequest): Promise<AsyncIterable<Buffer>> {
    const { path, query, idleMs, signal } = request;
    const answer = await this.#open({ method: 'GET', path, query, signal }, idleMs);
    if (answer.statusCode !== 200) throw await this.#refusal(answer, path);
    return bytes(answer, path);
  }

  /** One request and its whole answer. @throws ApiError unless the status is 2xx */
  async call(call: ApiCall): Promise<ApiAnswer> {
    const answer = await this.#open(call, ANSWER_MS);
    const status = answer.statusCode ?? 0;
    if (status < 200 || status > 299) throw await this.#refusal(answer, call.path);
    return { status, object: parsed(await textOf(answer, call.path)) };
  }

  async #open(call: ApiCall, idleMs: number): Promise<IncomingMessage> {
    const { server, options } = await this.#kubeconfig.credentials().catch((cause: unknown) => {
      throw new ApiError('API_UNREACHABLE', `there are no credentials: ${messageOf(cause)}`, { cause });
    });
    const { method, path, query, body, contentType = 'application/json', accept = 'application/json', signal } = call;
    const search = query === undefined ? '' : `?${new URLSearchParams(query).toString()}`;
    const payload = body === undefined ? undefined : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const headers = {
      ...(options.headers as OutgoingHttpHeaders | undefined),
      accept,
      'user-agent': this.#userAgent,
      ...(payload === undefined ? {} : { 'content-type': contentType, 'content-length': String(payload.length) }),
    };
    const start = server.protocol === 'http:' ? httpRequest : httpsRequest;
    const agent = server.protocol === 'http:' ? this.#agents['http:'] : this.#agents['https:'];
    const request = start({
      agent,
      ...options,
      protocol: server.protocol,
      // URL keeps the brackets of an IPv6 address.
      hostname: server.hostname.replace(/^\[|\]$/g, ''),
      port: server.port,
      path: `${server.pathname.replace(/\/$/, '')}${path}${search}`,
      method,
      headers,
      ...(signal === undefined ? {} : { signal }),
    });
    return await answerTo(request, payload, path, idleMs);
  }

  /** Reads why the server says no. */
  async #refusal(answer: IncomingMessage, path: string): Promise<ApiError> {
    const status = answer.statusCode ?? 0;
    // What is at hand is no longer accepted: there may be newer.
    if (status === 401) await this.#kubeconfig.reload().catch(() => undefined);
    const text = await textOf(answer, path, REFUSAL_CHARACTERS_MAX).catch(() => '');
    const object = parsed(text);
    const said = typeof object === 'object' && object !== null && 'message' in object ? String(object.message) : text.slice(0, 200).trim();
    const header = answer.headers['retry-after'];
    return new ApiError(status === 410 ? 'API_GONE' : 'API_REFUSED', `${path}: HTTP ${status}${said === '' ? '' : `: ${said}`}`, {
      status,
      retryAfterMs: readRetryAfter(header),
    });
  }
}

function answerTo(request: ClientRequest, payload: Buffer | undefined, path: string, idleMs: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const late = (what: string): void => void request.destroy(new ApiError('API_SILENT', `${path}: ${what}`));
    let timer = setTimeout(() => late(`no connection after ${CONNECT_MS} ms`), CONNECT_MS);
    request.once('socket', (socket: Socket) => {
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      socket.setNoDelay(true);
      const connected = (): void => {
        clearTimeout(timer);
        timer = setTimeout(() => late(`no answer after ${ANSWER_MS} ms`), ANSWER_MS);
      };
      if (!socket.connecting) connected();
      else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', connected);
    });
    request.once('response', (answer) => {
      clearTimeout(timer);
      request.setTimeout(idleMs, () => answer.destroy(new ApiError('API_SILENT', `${path}: nothing came for ${idleMs} ms`)));
      resolve(answer);
    });
    request.once('error', (error) => {
      clearTimeout(timer);
      reject(asApiError(error, path));
    });
    request.end(payload);
  });
}

async function* bytes(answer: IncomingMessage, path: string): AsyncGenerator<Buffer, void> {
  try {
    for await (const chunk of answer) yield chunk as Buffer;
  } catch (error) {
    throw asApiError(error, path);
  }
}

async function textOf(answer: IncomingMessage, path: string, charactersMax = Number.POSITIVE_INFINITY): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of bytes(answer, path)) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= charactersMax) break;
  }
  return Buffer.concat(chunks).toString('utf8').slice(0, charactersMax);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function asApiError(error: unknown, path: string): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError('API_UNREACHABLE', `${path}: ${messageOf(error)}`, { cause: error });
}

/** Of several addresses that were tried, Node's error says nothing but a code. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== '') return error.message;
  return 'code' in error ? String(error.code) : error.name;
}
