/**
 * A Kubernetes API server as a source of cluster objects: pods, namespaces, nodes and NetworkPolicies, each kind listed once and watched
 * from then on.
 *
 * Of an object only the projected fields are kept downstream, and here its key and version: enough to tell, after a list, what is gone
 * and what is as it was. A list after the first is handed on in one piece when it is complete: the difference, and nothing else.
 */
import { createHash } from 'node:crypto';
import { keyOf, type ObjectKind, project, readKey } from '../kubernetes/projections.ts';
import { severityOf } from '../kubernetes/report.ts';
import { Sharing } from '../kubernetes/sharing.ts';
import { ApiError } from '../kubernetes/api/errors.ts';
import {
  type ListClient,
  type ListReason,
  type Receiver,
  readJson,
  Reflector,
  type ReflectorOptions,
  versionOf,
} from '../kubernetes/api/reflector.ts';
import { hashOfText } from '../policy/labels.ts';
import type { Problem } from '../policy/objects.ts';
import { isFields } from '../policy/problems.ts';
import type { Source, SourceEvent, SourceListener, SourceProblem } from './source.ts';

/** What is watched, and where. Namespaces come first: they are few, and everything else refers to them. */
export const WATCHED: Readonly<Record<ObjectKind, string>> = {
  Namespace: '/api/v1/namespaces',
  Node: '/api/v1/nodes',
  NetworkPolicy: '/apis/networking.k8s.io/v1/networkpolicies',
  Pod: '/api/v1/pods',
};

/** How long the answer of one object may take to come. */
const REREAD_IDLE_MS = 10_000;

export interface KubernetesObserver {
  /** Something went wrong with a kind's list or watch; it is tried again after `retryMs`. */
  failed(kind: ObjectKind, error: unknown, retryMs: number): void;
  heard(kind: ObjectKind): void;
  listing(kind: ObjectKind, reason: ListReason): void;
  /** All objects of a kind have been listed. */
  listed(kind: ObjectKind, count: number): void;
}

export interface KubernetesSourceOptions {
  readonly client: ListClient;
  readonly observer: KubernetesObserver;
  /** For tests: how the reflectors wait. */
  readonly reflector?: Pick<ReflectorOptions, 'watchSeconds' | 'silenceMs' | 'graceMs'>;
}

export class KubernetesSource implements Source {
  readonly #options: KubernetesSourceOptions;
  readonly #sharing = new Sharing();
  readonly #feeds: KindFeed[] = [];
  readonly #reflectors: Reflector[] = [];
  readonly #stopping = new AbortController();
  #listener: SourceListener | undefined;
  #synced = false;

  constructor(options: KubernetesSourceOptions) {
    this.#options = options;
  }

  /** Resolves at once; `synced` is emitted when all kinds have been listed, however long the server cannot be reached. */
  async start(listener: SourceListener): Promise<void> {
    if (this.#listener !== undefined) throw new Error('a KubernetesSource is started once');
    this.#listener = listener;
    const { client, observer, reflector } = this.#options;
    for (const [kind, path] of Object.entries(WATCHED) as [ObjectKind, string][]) {
      const feed = new KindFeed(kind, this.#sharing, listener, (count) => {
        observer.listed(kind, count);
        this.#listed();
      });
      this.#feeds.push(feed);
      this.#reflectors.push(
        new Reflector({
          ...reflector,
          path,
          client,
          receiver: { ...bound(feed), flush: () => this.#flush(feed) },
          observer: {
            failed: (error, retryMs) => observer.failed(kind, error, retryMs),
            heard: () => observer.heard(kind),
            listing: (reason) => observer.listing(kind, reason),
          },
        }),
      );
    }
    for (const each of this.#reflectors) each.start();
  }

  async reread(policies: Iterable<string>): Promise<void> {
    const feed = this.#feeds.find(({ kind }) => kind === 'NetworkPolicy');
    const { client } = this.#options;
    for (const key of policies) {
      const [namespace = '', name = ''] = key.split('/');
      const path = `/apis/networking.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/networkpolicies/${encodeURIComponent(name)}`;
      const object = await readJson(await client.get({ path, query: {}, idleMs: REREAD_IDLE_MS, signal: this.#stopping.signal }));
      if (this.#stopping.signal.aborted) return;
      feed?.reread(key, object);
    }
  }

  /** Nothing is emitted once it resolves. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#reflectors.map((reflector) => reflector.stop()));
  }

  #listed(): void {
    if (this.#synced || !this.#feeds.every((feed) => feed.complete)) return;
    this.#synced = true;
    for (const feed of this.#feeds) feed.emit();
    this.#listener?.events([{ type: 'synced' }]);
    this.#listener?.revision?.(this.#revision());
  }

  #flush(feed: KindFeed): void {
    const changed = feed.emit();
    if (changed && this.#synced) this.#listener?.revision?.(this.#revision());
  }

  /** The same as {@link revisionOf} of the objects that have been emitted. */
  #revision(): string {
    return formatRevision(this.#feeds.map(({ digest }) => digest));
  }
}

function bound(feed: KindFeed): Omit<Receiver, 'flush'> {
  return {
    listing: () => feed.listing(),
    listed: () => feed.listed(),
    upsert: (object) => feed.upsert(object),
    remove: (object) => feed.remove(object),
  };
}

/** One kind: what is known of it, and what has not been handed on yet. */
class KindFeed {
  readonly kind: ObjectKind;
  readonly #sharing: Sharing;
  readonly #listener: SourceListener;
  readonly #onListed: (count: number) => void;
  /** Version of every object that is there, by key. */
  readonly #versions = new Map<string, string>();
  /** A hash of what is wrong with each object that something is wrong with: what has been told is not told again with every update. */
  readonly #faulty = new Map<string, string>();
  /** Of each policy that the API server has numbered, which one it is and of what spec: nothing else of it matters. */
  readonly #specs = new Map<string, string>();
  #pending: SourceEvent[] = [];
  /** Versions have changed, and nothing that matters has. */
  #isOtherVersion = false;
  /** The keys that a list has brought so far; undefined while none is under way. */
  #seen: Set<string> | undefined;
  /** A list has been complete once. */
  complete = false;
  /** Sum of the hashes of all objects' keys and versions. */
  digest = 0n;

  constructor(kind: ObjectKind, sharing: Sharing, listener: SourceListener, onListed: (count: number) => void) {
    this.kind = kind;
    this.#sharing = sharing;
    this.#listener = listener;
    this.#onListed = onListed;
  }

  listing(): void {
    this.#seen = new Set();
  }

  listed(): void {
    for (const key of this.#versions.keys()) if (this.#seen?.has(key) !== true) this.#forget(key);
    this.#seen = undefined;
    this.complete = true;
    this.#onListed(this.#versions.size);
  }

  upsert(value: unknown): void {
    const version = versionOf(value) ?? '';
    // In a list that is not the first most objects are what they were: telling by the version spares reading them.
    if (this.complete && this.#seen !== undefined && version !== '') {
      const known = readKey(this.kind, value, this.#sharing);
      if (known !== undefined && this.#versions.get(known) === version) {
        this.#seen.add(known);
        return;
      }
    }
    const spec = this.kind === 'NetworkPolicy' ? specOf(value) : undefined;
    if (spec !== undefined && this.#isKnownSpec(value, spec, version)) return;
    const { object, key, problems } = project(this.kind, value, this.#sharing);
    this.#tellProblems(key, problems);
    if (key === undefined) return;
    if (spec === undefined) this.#specs.delete(key);
    else this.#specs.set(key, spec);
    this.#seen?.add(key);
    this.#setVersion(key, version);
    // One that is refused keeps its last good state.
    if (object !== undefined) this.#pending.push({ type: 'upsert', kind: this.kind, key: keyOf(this.kind, object), object } as SourceEvent);
  }

  /** A policy whose annotations, labels or managers have changed is not read again: who writes them without end would keep every agent busy. */
  #isKnownSpec(value: unknown, spec: string, version: string): boolean {
    const key = readKey(this.kind, value, this.#sharing);
    if (key === undefined || this.#specs.get(key) !== spec) return false;
    this.#seen?.add(key);
    this.#setVersion(key, version);
    this.#isOtherVersion = true;
    return true;
  }

  /** What the server says of one object beside the watch, which may already have told that it is gone. */
  reread(key: string, value: unknown): void {
    if (!this.#versions.has(key) || readKey(this.kind, value, this.#sharing) !== key) return;
    const { object } = project(this.kind, value, this.#sharing);
    if (object !== undefined) this.#listener.events([{ type: 'upsert', kind: this.kind, key, object } as SourceEvent]);
  }

  remove(value: unknown): void {
    const key = readKey(this.kind, value, this.#sharing);
    // Nobody can tell which object is gone: a new list will.
    if (key === undefined) throw new ApiError('API_GONE', `a ${this.kind} without a name was deleted`);
    this.#forget(key);
  }

  #forget(key: string): void {
    this.#specs.delete(key);
    this.#setVersion(key, undefined);
    this.#tellProblems(key, []);
    this.#pending.push({ type: 'delete', kind: this.kind, key });
  }

  #setVersion(key: string, version: string | undefined): void {
    const before = this.#versions.get(key);
    if (before !== undefined) this.digest -= digestOf(this.kind, key, before);
    if (version === undefined) this.#versions.delete(key);
    else {
      this.digest += digestOf(this.kind, key, version);
      this.#versions.set(key, version);
    }
  }

  #tellProblems(key: string | undefined, problems: readonly Problem[]): void {
    const origin = `${this.kind} ${key ?? 'without a name'}`;
    if (problems.length > 0) {
      const hash = createHash('sha256').update(JSON.stringify(problems)).digest('base64');
      if (this.#faulty.get(origin) === hash) return;
      this.#faulty.set(origin, hash);
    } else if (!this.#faulty.delete(origin)) return;
    this.#listener.problems(
      origin,
      problems.map((problem): SourceProblem => ({ ...problem, severity: severityOf(problem), origin, object: origin })),
    );
  }

  /** Hands on what has come, unless a list that is not the first is under way. Whether there was anything. */
  emit(): boolean {
    if ((this.#pending.length === 0 && !this.#isOtherVersion) || (this.complete && this.#seen !== undefined)) return false;
    const events = this.#pending;
    this.#pending = [];
    this.#isOtherVersion = false;
    if (events.length > 0) this.#listener.events(events);
    return true;
  }
}

/** Which object it is, and the number that the API server gives each of its specs; undefined where it has none. */
function specOf(value: unknown): string | undefined {
  if (!isFields(value) || !isFields(value['metadata'])) return undefined;
  const { uid, generation } = value['metadata'];
  return typeof uid === 'string' && uid !== '' && typeof generation === 'number' && generation > 0 ? `${uid} ${generation}` : undefined;
}

// --- revision

/**
 * What an agent says is in force, of these objects: whoever has listed them can tell whether an agent has taken them in. It depends on
 * their keys and versions, and not on the order of anything.
 */
export function revisionOf(objects: Iterable<{ readonly kind: ObjectKind; readonly key: string; readonly version: string }>): string {
  const digests: bigint[] = [];
  for (const { kind, key, version } of objects) digests.push(digestOf(kind, key, version));
  return formatRevision(digests);
}

function formatRevision(digests: readonly bigint[]): string {
  return BigInt.asUintN(
    64,
    digests.reduce((sum, digest) => sum + digest, 0n),
  )
    .toString(16)
    .padStart(16, '0');
}

/** Two hashes with different beginnings: 64 bits, of which a sum tells sets apart. */
function digestOf(kind: string, key: string, version: string): bigint {
  const text = `${kind} ${key} ${version}`;
  return (BigInt(hashOfText(text, 0x811c9dc5) >>> 0) << 32n) | BigInt(hashOfText(text, 0x9747b28c) >>> 0);
}
