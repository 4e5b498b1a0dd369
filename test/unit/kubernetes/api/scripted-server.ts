/** A server of one list, as a script of answers: for what a real API server cannot be made to say. */
import { ApiError } from '../../../../src/kubernetes/api/errors.ts';
import type { ListClient, ListRequest } from '../../../../src/kubernetes/api/reflector.ts';

/** What a request is answered with: lines of a body, or an error; `hold`: the body stays open after them until the reflector stops. */
export type Answer = { readonly lines: readonly (object | string)[]; readonly hold?: true } | { readonly error: ApiError };

export class ScriptedServer implements ListClient {
  readonly requests: Readonly<Record<string, string>>[] = [];
  readonly #answers: Answer[];

  constructor(...answers: readonly Answer[]) {
    this.#answers = [...answers];
  }

  /** All answers have been asked for. */
  get isDone(): boolean {
    return this.#answers.length === 0;
  }

  async get({ query, signal }: ListRequest): Promise<AsyncIterable<Buffer>> {
    this.requests.push(query);
    const answer = this.#answers.shift() ?? { lines: [], hold: true };
    if ('error' in answer) throw answer.error;
    return body(answer.lines, answer.hold === true, signal);
  }
}

async function* body(lines: readonly (object | string)[], hold: boolean, signal: AbortSignal): AsyncGenerator<Buffer> {
  for (const line of lines) yield Buffer.from(typeof line === 'string' ? line : `${JSON.stringify(line)}\n`);
  if (!hold) return;
  await new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('stopped')), { once: true });
  });
}

export function object(name: string, version: number, fields: object = {}): object {
  return { metadata: { name, namespace: 'x', resourceVersion: String(version) }, ...fields };
}

export function event(type: string, name: string, version: number, fields: object = {}): object {
  return { type, object: object(name, version, fields) };
}

export function bookmark(version: number): object {
  return { type: 'BOOKMARK', object: { metadata: { resourceVersion: String(version) } } };
}

export function endOfList(version: number): object {
  const annotations = { 'k8s.io/initial-events-end': 'true' };
  return { type: 'BOOKMARK', object: { metadata: { resourceVersion: String(version), annotations } } };
}

export function errorEvent(code: number, fields: object = {}): object {
  return { type: 'ERROR', object: { kind: 'Status', code, message: `code ${code}`, ...fields } };
}

export function page(version: number, items: readonly object[], more = ''): object {
  return { metadata: { resourceVersion: String(version), ...(more === '' ? {} : { continue: more }) }, items };
}

export function refused(status: number, retryAfterMs?: number): Answer {
  const code = status === 410 ? 'API_GONE' : 'API_REFUSED';
  return { error: new ApiError(code, `HTTP ${status}`, { status, retryAfterMs }) };
}

export const UNREACHABLE: Answer = { error: new ApiError('API_UNREACHABLE', 'connection refused') };
