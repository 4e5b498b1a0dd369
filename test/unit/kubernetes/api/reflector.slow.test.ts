import assert from 'node:assert/strict';
import { systemErrorCode } from '../../../../src/errors.ts';
import { Backoff } from '../../../../src/kubernetes/api/backoff.ts';
import { type Receiver, Reflector, versionOf } from '../../../../src/kubernetes/api/reflector.ts';
import { eventually } from '../../../kernel/support/eventually.ts';
import {
  type Answer,
  bookmark,
  endOfList,
  errorEvent,
  event,
  object,
  page,
  refused,
  ScriptedServer,
  UNREACHABLE,
} from './scripted-server.ts';

/** What a receiver that does its duty knows: names and versions. */
class Known implements Receiver {
  readonly objects = new Map<string, string>();
  readonly calls: string[] = [];
  lists = 0;
  #seen: Set<string> | undefined;

  listing(): void {
    this.#seen = new Set();
  }
  listed(): void {
    for (const name of this.objects.keys()) if (this.#seen?.has(name) === false) this.objects.delete(name);
    this.#seen = undefined;
    this.lists++;
  }
  upsert(value: unknown): void {
    const name = nameOf(value);
    if (name === 'poison') throw new TypeError('a defect of the receiver');
    this.objects.set(name, versionOf(value) ?? '');
    this.#seen?.add(name);
  }
  remove(value: unknown): void {
    this.objects.delete(nameOf(value));
  }
  flush(): void {
    this.calls.push([...this.objects].map(([name, version]) => `${name}@${version}`).join(' '));
  }
}

function nameOf(value: unknown): string {
  return (value as { metadata: { name: string } }).metadata.name;
}

interface Run {
  readonly server: ScriptedServer;
  readonly known: Known;
  readonly errors: readonly string[];
  readonly waits: readonly number[];
  readonly reasons: readonly string[];
}

/** Runs a reflector until the server has said all that it has to say, and once more is asked. */
async function follow(...answers: readonly Answer[]): Promise<Run> {
  const server = new ScriptedServer(...answers);
  const known = new Known();
  const errors: string[] = [];
  const waits: number[] = [];
  const reasons: string[] = [];
  const reflector = new Reflector({
    path: '/api/v1/pods',
    client: server,
    receiver: known,
    backoff: new Backoff(undefined, () => 1),
    observer: {
      failed: (error, retryMs) => {
        errors.push(systemErrorCode(error) ?? (error as Error).message);
        waits.push(retryMs);
      },
      heard: () => undefined,
      listing: (reason) => reasons.push(reason),
    },
  });
  reflector.start();
  await eventually(() => server.requests.length > answers.length, 'all has been asked for');
  await reflector.stop();
  return { server, known, errors, waits, reasons };
}

const contents = ({ known }: Run): Record<string, string> => Object.fromEntries(known.objects);
const LISTED: Answer = { lines: [event('ADDED', 'a', 1), event('ADDED', 'b', 2), endOfList(5)] };

describe('a reflector', () => {
  it('takes a streamed list, and what changes behind it, in one request', async () => {
    const run = await follow({ lines: [...LISTED.lines, event('MODIFIED', 'a', 6), event('DELETED', 'b', 7), event('ADDED', 'c', 8)] });
    assert.deepEqual(contents(run), { a: '6', c: '8' });
    assert.equal(run.known.lists, 1);
    assert.equal(run.server.requests[0]?.['sendInitialEvents'], 'true');
    assert.equal(run.server.requests[0]?.['allowWatchBookmarks'], 'true');
    // A watch that the server ends goes on where it was.
    assert.equal(run.server.requests[1]?.['resourceVersion'], '8');
    assert.deepEqual(run.errors, []);
  });

  it('takes pages and a watch where lists are not streamed', async () => {
    const run = await follow(
      refused(422),
      { lines: [page(9, [object('a', 1)], 'next')] },
      { lines: [page(9, [object('b', 2)])] },
      { lines: [event('DELETED', 'a', 10)] },
    );
    assert.deepEqual(contents(run), { b: '2' });
    assert.equal(run.server.requests[1]?.['continue'], undefined);
    assert.equal(run.server.requests[2]?.['continue'], 'next');
    assert.equal(run.server.requests[3]?.['resourceVersion'], '9');
    assert.deepEqual(run.errors, []);
  });

  it('begins the pages anew where the server has forgotten what the next one is', async () => {
    const run = await follow(refused(422), { lines: [page(9, [object('a', 1)], 'next')] }, refused(410), refused(422), {
      lines: [page(12, [object('b', 11)])],
    });
    assert.deepEqual(contents(run), { b: '11' });
    assert.equal(run.known.lists, 1);
  });

  it('goes on from a bookmark, without a list', async () => {
    const run = await follow({ lines: [...LISTED.lines, bookmark(50)] });
    assert.equal(run.server.requests[1]?.['resourceVersion'], '50');
  });

  for (const [what, gone] of [
    ['as an event', { lines: [errorEvent(410)] }],
    ['as a status', refused(410)],
  ] as const) {
    it(`lists again when the server has forgotten, said ${what}, and drops what is gone`, async () => {
      const run = await follow(LISTED, gone, { lines: [event('ADDED', 'b', 20), endOfList(21)] });
      assert.deepEqual(contents(run), { b: '20' });
      assert.deepEqual(run.reasons, ['start', 'gone']);
      assert.deepEqual(run.errors, ['API_GONE']);
    });
  }

  it('keeps what it knows, and goes on where it was, after any other failure', async () => {
    const run = await follow(
      LISTED,
      UNREACHABLE,
      refused(503),
      { lines: [errorEvent(500)] },
      { lines: ['{"type":"ADDED","object":{"metad\n'] },
      { lines: ['{"type":"ADDED"'] },
      { lines: ['[]\n'] },
      { lines: [{ type: 'NEWS' }] },
      { lines: [event('ADDED', 'c', 6)] },
    );
    assert.deepEqual(contents(run), { a: '1', b: '2', c: '6' });
    assert.deepEqual(run.reasons, ['start']);
    assert.equal(run.known.lists, 1);
    assert.equal(run.errors.length, 7);
    for (const { resourceVersion } of run.server.requests.slice(1, -1)) assert.equal(resourceVersion, '5');
  });

  it('takes events that came before a failure in the same stream', async () => {
    const run = await follow(LISTED, { lines: [event('MODIFIED', 'a', 6), 'garbage\n'] });
    assert.equal(contents(run)['a'], '6');
    assert.equal(run.server.requests[2]?.['resourceVersion'], '6');
    const truncated = await follow(LISTED, { lines: [event('MODIFIED', 'a', 6), '{"type":"MODI'] });
    assert.equal(contents(truncated)['a'], '6');
    assert.deepEqual(truncated.errors, ['API_GARBLED']);
  });

  it('takes a list that ends before it is complete for none', async () => {
    const run = await follow(
      LISTED,
      refused(410),
      { lines: [event('ADDED', 'b', 20)] },
      { lines: [event('ADDED', 'a', 1), endOfList(22)] },
    );
    assert.deepEqual(contents(run), { a: '1' });
    assert.equal(run.known.lists, 2);
    // A failure, so that it is not asked for again without a pause.
    assert.deepEqual(run.errors, ['API_GONE', 'API_GARBLED']);
  });

  it('waits as long as the server asks for', async () => {
    const run = await follow(LISTED, refused(429, 300), { lines: [errorEvent(429, { details: { retryAfterSeconds: 1 } })] });
    assert.ok((run.waits[0] ?? 0) >= 300);
    assert.ok((run.waits[1] ?? 0) >= 1_000);
  });

  it('survives a receiver that throws, and lists again', async () => {
    const run = await follow(LISTED, { lines: [event('ADDED', 'poison', 6)] }, { lines: [event('ADDED', 'c', 7), endOfList(8)] });
    assert.deepEqual(contents(run), { c: '7' });
    assert.deepEqual(run.errors, ['a defect of the receiver']);
    assert.deepEqual(run.reasons, ['start', 'defect']);
  });

  it('does not ask without a pause where watches end as soon as they begin', async () => {
    const run = await follow(LISTED, { lines: [] }, { lines: [] }, { lines: [] });
    assert.ok(run.waits.length >= 3 && run.waits.every((wait) => wait >= 50), String(run.waits));
  });

  it('hands on at once what arrives together', async () => {
    const together = [event('ADDED', 'c', 6), event('DELETED', 'a', 7)].map((each) => `${JSON.stringify(each)}\n`).join('');
    const run = await follow(LISTED, { lines: [together] });
    assert.ok(run.known.calls.includes('b@2 c@6'), run.known.calls.join(', '));
    assert.ok(!run.known.calls.includes('a@1 b@2 c@6'));
  });
});
