/**
 * Who may read the metrics: whoever shows a token that the API server knows (TokenReview) and that may `get` the path `/metrics`
 * (SubjectAccessReview), as the metrics of Kubernetes' own components are guarded.
 */
import type { IncomingMessage } from 'node:http';
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { ApiClient } from '../kubernetes/api/client.ts';
import { type Page, text } from './http-server.ts';

/** An answer is good for so long; a scrape every fifteen seconds then asks the API server every fourth time. */
const REMEMBERED_MS = 60_000;
/** A token that could read within this time is asked about whatever else is: one that a pod has is renewed once an hour or so. */
const KNOWN_MS = 10 * 60_000;
/** Questions to the API server at once about tokens that it has not known yet: whoever shows made-up tokens asks as many as it likes. */
const ASKED_AT_ONCE = 8;

export class MetricsAccess {
  readonly #client: Pick<ApiClient, 'call'>;
  /** By hash of the token. Apart from those that are refused: those are as many as anybody likes to make up. */
  readonly #allowed: LRUCache<string, true>;
  readonly #refused: LRUCache<string, Page>;
  /** Could read lately: nobody else's made-up tokens keep these waiting. */
  readonly #known: LRUCache<string, true>;
  /** Tokens that are being asked about. */
  readonly #asked = new Map<string, Promise<Page | undefined>>();

  /** @param perf a clock that only goes on, in ms */
  constructor(client: Pick<ApiClient, 'call'>, perf: { now(): number } = performance) {
    this.#client = client;
    // Its own memory of what the time is would be kept by a timer.
    const bounds = { max: 100, ttlResolution: 0, perf };
    this.#allowed = new LRUCache({ ...bounds, ttl: REMEMBERED_MS });
    this.#refused = new LRUCache({ ...bounds, ttl: REMEMBERED_MS });
    this.#known = new LRUCache({ ...bounds, ttl: KNOWN_MS });
  }

  /** Why not; undefined: it may. @throws ApiError where the API server cannot be asked */
  async refusal(request: IncomingMessage): Promise<Page | undefined> {
    const [, token] = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '') ?? [];
    if (token === undefined) return text(401, 'a bearer token is needed\n');
    const key = createHash('sha256').update(token).digest('hex');
    if (this.#allowed.has(key)) return undefined;
    const refused = this.#refused.get(key);
    if (refused !== undefined) return refused;
    let asked = this.#asked.get(key);
    if (asked === undefined) {
      if (!this.#known.has(key) && this.#asked.size >= ASKED_AT_ONCE) return text(503, 'too many tokens are being looked at; try again\n');
      asked = this.#ask(token).finally(() => this.#asked.delete(key));
      this.#asked.set(key, asked);
    }
    const refusal = await asked;
    if (refusal === undefined) {
      this.#allowed.set(key, true);
      this.#known.set(key, true);
    } else {
      this.#known.delete(key);
      this.#refused.set(key, refusal);
    }
    return refusal;
  }

  async #ask(token: string): Promise<Page | undefined> {
    const review = await this.#review('authentication.k8s.io/v1', 'TokenReview', 'tokenreviews', { token });
    if (review['authenticated'] !== true) return text(401, 'the API server does not know this token\n');
    const { username, groups, uid } = (review['user'] ?? {}) as { username?: unknown; groups?: unknown; uid?: unknown };
    const nonResourceAttributes = { path: '/metrics', verb: 'get' };
    const spec = { user: username, groups, uid, nonResourceAttributes };
    const access = await this.#review('authorization.k8s.io/v1', 'SubjectAccessReview', 'subjectaccessreviews', spec);
    return access['allowed'] === true ? undefined : text(403, `${String(username)} may not get /metrics\n`);
  }

  async #review(apiVersion: string, kind: string, resource: string, spec: unknown): Promise<Readonly<Record<string, unknown>>> {
    const body = { apiVersion, kind, metadata: {}, spec };
    const { object } = await this.#client.call({ method: 'POST', path: `/apis/${apiVersion}/${resource}`, body });
    const status = typeof object === 'object' && object !== null && 'status' in object ? object.status : undefined;
    return typeof status === 'object' && status !== null ? (status as Readonly<Record<string, unknown>>) : {};
  }
}
