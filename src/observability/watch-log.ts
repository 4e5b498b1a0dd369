/**
 * What the log says of the API server. A server that is away fails four watches many times a second: the first failure is worth a line,
 * another kind of failure too, then one a minute, and that it is over.
 */
import { systemErrorCode } from '../errors.ts';
import type { ListReason } from '../kubernetes/api/reflector.ts';
import type { ObjectKind } from '../kubernetes/projections.ts';
import { errorFields, type Logger } from './log.ts';

const AGAIN_MS = 60_000;

interface Outage {
  readonly since: number;
  readonly code: string;
  saidAt: number;
  failures: number;
}

export class WatchLog {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #outages = new Map<ObjectKind, Outage>();

  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  failed(resource: ObjectKind, error: unknown, retryMs: number): void {
    const code = `${systemErrorCode(error) ?? 'unknown'} ${statusOf(error)}`;
    const known = this.#outages.get(resource);
    const now = this.#now();
    const outage = known?.code === code ? known : { since: known?.since ?? now, code, saidAt: Number.NEGATIVE_INFINITY, failures: 0 };
    this.#outages.set(resource, outage);
    outage.failures++;
    // A watch that ends because the server forgot, or was told to wait, is nothing that anybody has to look at.
    const level = systemErrorCode(error) === 'API_GONE' ? 'info' : 'warn';
    if (now - outage.saidAt < AGAIN_MS) return;
    outage.saidAt = now;
    const hint = statusOf(error) === '403' ? { hint: 'the agent may not list and watch them: see its ClusterRole' } : {};
    this.#log[level](
      { resource, ...errorFields(error), ...hint, failures: outage.failures, retryMs: Math.round(retryMs) },
      'the API server cannot be watched; what is in force stays, and it is tried again',
    );
  }

  heard(resource: ObjectKind): void {
    const outage = this.#outages.get(resource);
    if (outage === undefined) return;
    this.#outages.delete(resource);
    this.#log.info({ resource, awayMs: Math.round(this.#now() - outage.since) }, 'the API server is watched again');
  }

  listing(resource: ObjectKind, reason: ListReason): void {
    if (reason !== 'start') this.#log.info({ resource, reason }, 'everything is listed again');
  }

  listed(resource: ObjectKind, objects: number): void {
    this.#log.info({ resource, objects }, 'listed');
  }
}

function statusOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'status' in error ? String(error.status) : '';
}
