/** Whoever has few changes does not wait for who has many, and nothing is lost or reordered of one object. */
import assert from 'node:assert/strict';
import { EventQueue } from '../../../src/enforcement/event-queue.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { upsertOf } from '../../random/events.ts';

function policy(namespace: string, name: string, blocks = 1): SourceEvent {
  const from = Array.from({ length: blocks }, (_, index) => ({ ipBlock: { cidr: `10.${index >> 8}.${index & 255}.0/24` } }));
  return upsertOf({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace, name },
    spec: { podSelector: {}, ingress: [{ from }] },
  });
}

function keys(events: readonly SourceEvent[]): string[] {
  return events.map((event) => (event.type === 'synced' ? 'synced' : `${event.type} ${event.key}`));
}

function synced(): EventQueue {
  const queue = new EventQueue();
  queue.push([{ type: 'synced' }]);
  assert.deepEqual(keys(queue.take().events), ['synced']);
  return queue;
}

describe('the queue of changes', () => {
  it('hands out the change of a quiet namespace with the next turn, however many another has', () => {
    const queue = synced();
    queue.push(Array.from({ length: 10_000 }, (_, index) => policy('loud', `p${index}`)));
    queue.take();
    queue.push([policy('quiet', 'one')]);
    const { events } = queue.take();
    assert.ok(keys(events).includes('upsert quiet/one'), `${events.length}`);
    assert.ok(events.length <= 256, `${events.length}`);
  });

  it('counts a large policy for many: a turn is no longer for it', () => {
    const queue = synced();
    queue.push([...Array.from({ length: 10 }, (_, index) => policy('loud', `p${index}`, 19_000)), policy('quiet', 'one')]);
    assert.deepEqual(keys(queue.take().events), ['upsert loud/p0', 'upsert quiet/one', 'upsert loud/p1']);
    assert.equal(queue.size, 8);
  });

  it('hands out everything, once, and of each object the last change', () => {
    const queue = synced();
    for (let round = 0; round < 3; round++) {
      queue.push(Array.from({ length: 500 }, (_, index) => policy(`n${index % 7}`, `p${index}`)));
    }
    queue.push([{ type: 'delete', kind: 'NetworkPolicy', key: 'n0/p0' }]);
    const taken: string[] = [];
    while (queue.size > 0) taken.push(...keys(queue.take().events));
    assert.equal(taken.length, 500);
    assert.equal(new Set(taken).size, 500);
    assert.ok(taken.includes('delete n0/p0') && taken.includes('upsert n1/p1'));
    assert.deepEqual(queue.take(), { events: [], firstAt: undefined });
  });

  it('keeps the order of what is read at the start, and that everything has been read comes last', () => {
    const queue = new EventQueue();
    const all = Array.from({ length: 2_500 }, (_, index) => policy(`n${index % 3}`, `p${index}`));
    queue.push(all.slice(0, 2_000));
    const first = queue.take().events;
    queue.push([...all.slice(2_000), { type: 'synced' }, policy('late', 'one')]);
    const rest: SourceEvent[] = [...first];
    while (queue.size > 0) for (const event of queue.take().events) rest.push(event);
    assert.deepEqual(keys(rest), [...keys(all), 'synced', 'upsert late/one']);
  });

  it('tells since when the first of what it hands out has been waiting', async () => {
    const queue = synced();
    const before = performance.now();
    queue.push([policy('a', 'one')]);
    await new Promise(setImmediate);
    queue.push([policy('a', 'one'), policy('b', 'two')]);
    const { firstAt } = queue.take();
    assert.ok(firstAt !== undefined && firstAt >= before && firstAt <= performance.now());
  });
});
