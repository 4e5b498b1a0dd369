/**
 * One kind of object of an API server, followed for ever: listed once, then watched, and listed again only where the server no longer
 * knows what has changed since.
 *
 * Promises: what the receiver was told adds up to what the server has, as soon as the server can be reached; no failure ends it; nothing
 * is listed for a failure that a watch can go on after. What it costs follows what changes.
 *
 * Lists are streamed where the server can (WatchList, sendInitialEvents: objects come one by one, and neither side holds them all),
 * and come in pages where it cannot.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isFields, type Fields } from '../../policy/problems.ts';
import { TimeSlices } from '../../time-slices.ts';
import { Backoff } from './backoff.ts';
import { ApiError } from './errors.ts';
import { LineSplitter } from './lines.ts';

/** What a reflector asks a server for. */
export interface ListRequest {
  /** `/api/v1/pods` */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** How long nothing may come before the connection counts as dead. */
  readonly idleMs: number;
  readonly signal: AbortSignal;
}

export interface ListClient {
  /** The answer's body, once the server has said yes; else an {@link ApiError}. So may the iteration. */
  get(request: ListRequest): Promise<AsyncIterable<Buffer>>;
}

/** Who is told. Objects are handed over as they were parsed: unknown data. */
export interface Receiver {
  /** From here to {@link listed} everything that is there comes. May begin anew without having ended. */
  listing(): void;
  /** Everything has come; what was known before and has not come again is gone. */
  listed(): void;
  upsert(object: unknown): void;
  remove(object: unknown): void;
  /** Nothing more has arrived yet: what was taken in can be handed on together. */
  flush(): void;
}

export type ListReason = 'start' | 'gone' | 'defect';

export interface ReflectorObserver {
  /** Something went wrong; it is tried again after `retryMs`. */
  failed(error: unknown, retryMs: number): void;
  /** Something arrived, or the server said that nothing has happened. */
  heard(): void;
  /** Everything is asked for. */
  listing(reason: ListReason): void;
}

export interface ReflectorOptions {
  readonly path: string;
  readonly client: ListClient;
  readonly receiver: Receiver;
  readonly observer: ReflectorObserver;
  readonly backoff?: Backoff;
  /** After how long the server is to end a watch. Default: five to ten minutes, so that not all are renewed at once. */
  readonly watchSeconds?: () => number;
  /** Bookmarks come about every minute where they come at all; after so long without any the connection is taken for dead. */
  readonly silenceMs?: number;
  /** How much later than the server's own end of a watch the connection counts as dead. */
  readonly graceMs?: number;
}

/** Items of a page: so many are parsed without a stall that anybody notices, where they are not large. */
const PAGE = 250;
/** Of large ones a page holds fewer: an object may be of 1.5 MB, and a page is held as a whole. */
const PAGE_BYTES = 4_000_000;
const SILENCE_MS = 180_000;
/** Longer than the server's own end of a watch. */
const GRACE_MS = 30_000;
/** How long a page may take to come. */
const PAGE_IDLE_MS = 60_000;
/** A watch that has been open for so long has worked, whether or not anything happened. */
const WORKED_MS = 5_000;

export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #backoff: Backoff;
  readonly #stopping = new AbortController();
  /** Where to watch from; undefined: a list has to come first. */
  #version: string | undefined;
  #reason: ListReason = 'start';
  /** Whether the server streams lists, as far as known. */
  #streamsLists = true;
  /** Whether the server has sent a bookmark by itself: then silence means something. */
  #bookmarks = false;
  #running: Promise<void> | undefined;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? new Backoff();
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Nothing is handed on once it resolves. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list();
        else await this.#watch(this.#version);
      } catch (error) {
        if (signal.aborted) return;
        const wait = this.#failed(error);
        await sleep(wait, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Says how long to wait, ms. */
  #failed(error: unknown): number {
    if (error instanceof ApiError && error.code === 'API_NO_WATCH_LIST') {
      this.#streamsLists = false;
      return 0;
    }
    if (!(error instanceof ApiError)) this.#listAgain('defect');
    else if (error.code === 'API_GONE') this.#listAgain('gone');
    const wait = this.#backoff.failed(error instanceof ApiError ? error.retryAfterMs : undefined);
    this.#options.observer.failed(error, wait);
    return wait;
  }

  #listAgain(reason: ListReason): void {
    // A list that has not ended is still the one that was asked for.
    if (this.#version !== undefined) this.#reason = reason;
    this.#version = undefined;
    // It may have been restarted with other features.
    this.#streamsLists = true;
  }

  async #list(): Promise<void> {
    this.#options.observer.listing(this.#reason);
    if (this.#streamsLists) await this.#stream({ sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }, true);
    else await this.#listPages();
  }

  async #watch(version: string): Promise<void> {
    await this.#stream({ resourceVersion: version }, false);
  }

  // --- pages

  async #listPages(): Promise<void> {
    const { client, path, receiver } = this.#options;
    const { signal } = this.#stopping;
    receiver.listing();
    let next = '';
    let limit = PAGE;
    for (;;) {
      const query = { limit: String(limit), ...(next === '' ? {} : { continue: next }) };
      const body = await client.get({ path, query, idleMs: PAGE_IDLE_MS, signal });
      const page = await readJson(body, limit === 1 ? Number.POSITIVE_INFINITY : PAGE_BYTES);
      if (page === undefined) {
        limit = Math.ceil(limit / 4);
        continue;
      }
      limit = Math.min(PAGE, limit * 2);
      const metadata = isFields(page) ? page['metadata'] : undefined;
      const items = isFields(page) ? (page['items'] ?? []) : undefined;
      if (!isFields(metadata) || !Array.isArray(items)) throw new ApiError('API_GARBLED', `what came from ${path} is no list`);
      for (const item of items) receiver.upsert(item);
      receiver.flush();
      this.#options.observer.heard();
      next = typeof metadata['continue'] === 'string' ? metadata['continue'] : '';
      if (next !== '') continue;
      this.#listed(versionOf(page));
      return;
    }
  }

  #listed(version: string | undefined): void {
    if (version === undefined) throw new ApiError('API_GARBLED', `a list of ${this.#options.path} without resourceVersion`);
    this.#options.receiver.listed();
    this.#options.receiver.flush();
    this.#version = version;
    this.#backoff.succeeded();
  }

  // --- watch

  /** A watch until its end; with `isList` it begins with everything that is there. */
  async #stream(from: Readonly<Record<string, string>>, isList: boolean): Promise<void> {
    const { client, path, receiver, watchSeconds = fiveToTenMinutes, silenceMs = SILENCE_MS, graceMs = GRACE_MS } = this.#options;
    const seconds = watchSeconds();
    const query = { watch: 'true', allowWatchBookmarks: 'true', timeoutSeconds: String(seconds), ...from };
    const longestMs = seconds * 1000 + graceMs;
    const idleMs = this.#bookmarks ? Math.min(silenceMs, longestMs) : longestMs;
    const openedAt = performance.now();
    const body = await client.get({ path, query, idleMs, signal: this.#stopping.signal }).catch((error: unknown) => {
      throw isList && refusesStreamedLists(error)
        ? new ApiError('API_NO_WATCH_LIST', `${path} has no streamed lists`, { cause: error })
        : error;
    });
    if (isList) receiver.listing();
    const stream: StreamState = { listing: isList, events: 0 };
    const lines = new LineSplitter();
    // Chunks that have arrived already are handed over without a turn of the event loop between them.
    const slices = new TimeSlices();
    for await (const chunk of body) {
      for (const line of lines.push(chunk)) this.#take(parse(line), stream);
      receiver.flush();
      this.#options.observer.heard();
      await slices.pause();
    }
    if (lines.pending > 0) throw new ApiError('API_GARBLED', `the watch of ${path} ended within an event`);
    if (stream.listing) throw new ApiError('API_GARBLED', `the list of ${path} ended before it was complete`);
    if (performance.now() - openedAt >= WORKED_MS) this.#backoff.succeeded();
    else if (stream.events === 0) throw new ApiError('API_GARBLED', `the watch of ${path} ended as soon as it had begun`);
  }

  #take(event: Fields, stream: StreamState): void {
    const { receiver } = this.#options;
    const object = event['object'];
    switch (event['type']) {
      case 'ADDED':
      case 'MODIFIED':
        receiver.upsert(object);
        break;
      case 'DELETED':
        receiver.remove(object);
        break;
      case 'BOOKMARK':
        if (stream.listing && isEndOfList(object)) {
          stream.listing = false;
          this.#listed(versionOf(object));
        } else if (!stream.listing) this.#bookmarks = true;
        break;
      case 'ERROR':
        throw errorOf(object);
      default:
        throw new ApiError('API_GARBLED', `an event of type ${JSON.stringify(event['type'])}`);
    }
    stream.events++;
    // Until a streamed list is complete there is nothing to go on from.
    if (stream.listing) return;
    this.#version = versionOf(object) ?? this.#version;
    this.#backoff.succeeded();
  }
}

interface StreamState {
  listing: boolean;
  events: number;
}

function fiveToTenMinutes(): number {
  return 300 + Math.floor(Math.random() * 300);
}

/** Where WatchList is off, or before 1.27, the parameters themselves are refused: 422, or 400. */
function refusesStreamedLists(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 422 || error.status === 400);
}

function parse(line: string): Fields {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch (cause) {
    throw new ApiError('API_GARBLED', `a line of a watch that is no JSON: ${line.slice(0, 80)}`, { cause });
  }
  if (!isFields(event)) throw new ApiError('API_GARBLED', `a line of a watch that is no event: ${line.slice(0, 80)}`);
  return event;
}

/** The whole of an answer; undefined: it has more bytes than `limit`. The rest of it is not read. */
export async function readJson(body: AsyncIterable<Buffer>, limit: number = Number.POSITIVE_INFINITY): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > limit) return undefined;
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ApiError('API_GARBLED', `a list that is no JSON: ${text.slice(0, 80)}`, { cause });
  }
}

function metadataOf(object: unknown): Fields {
  const metadata = isFields(object) ? object['metadata'] : undefined;
  return isFields(metadata) ? metadata : {};
}

/** metadata.resourceVersion, of an object or a list. */
export function versionOf(object: unknown): string | undefined {
  const version = metadataOf(object)['resourceVersion'];
  return typeof version === 'string' && version !== '' ? version : undefined;
}

/** https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists */
function isEndOfList(object: unknown): boolean {
  const annotations = metadataOf(object)['annotations'];
  return isFields(annotations) && annotations['k8s.io/initial-events-end'] === 'true';
}

/** What an ERROR event says: a metav1.Status. */
function errorOf(status: unknown): ApiError {
  const { code, message, reason, details } = isFields(status) ? status : {};
  const text = `the server ended the watch: ${typeof message === 'string' ? message : JSON.stringify(status)}`;
  if (code === 410 || reason === 'Expired' || reason === 'Gone') return new ApiError('API_GONE', text, { status: 410 });
  const seconds = isFields(details) ? details['retryAfterSeconds'] : undefined;
  return new ApiError('API_REFUSED', text, {
    ...(typeof code === 'number' ? { status: code } : {}),
    retryAfterMs: typeof seconds === 'number' ? seconds * 1000 : undefined,
  });
}
