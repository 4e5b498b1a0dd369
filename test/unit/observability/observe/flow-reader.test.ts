import assert from 'node:assert/strict';
import { worldOf } from '../../../../src/policy/world.ts';
import { describeAllowed, describeDenied, type ObservedFlow } from '../../../../src/observability/observe/describe.ts';
import { FlowLog, type FlowLogBounds } from '../../../../src/observability/observe/flow-log.ts';
import { FlowReader, type FlowReaderOptions, PENDING_BYTES } from '../../../../src/observability/observe/flow-reader.ts';
import { OBSERVED, type ObservedRecord } from '../../../../src/observability/observed-flow.ts';
import { ip, MODEL, pod, podsWith, policy } from '../../policy/model.ts';
import { deniedFlow, loggedPacket, packetBytes, tuple, worldFor } from './flows.ts';

/** As many entries as this, however large they are. */
function entries(count: number): FlowLogBounds<ObservedFlow> {
  return { entries: count, bytes: Number.POSITIVE_INFINITY, bytesOf: () => 1 };
}

/** A reader that takes everything, or nothing. */
class TestSink {
  readonly lines: string[] = [];
  pendingBytes = 0;

  write(text: string): void {
    this.lines.push(...text.split('\n').slice(0, -1));
  }

  get records(): ObservedRecord[] {
    return this.lines.map((line) => OBSERVED.parse(JSON.parse(line)));
  }

  get texts(): string[] {
    return this.records.map((record) => {
      if (record.kind === 'Denied' || record.kind === 'Allowed') return `${record.kind} ${record.destination.port}`;
      return record.kind === 'Dropped' ? `${record.of} ${record.reason} ${record.count ?? '?'}` : record.kind;
    });
  }
}

describe('a reader of flows', () => {
  let sink: TestSink;
  let log: FlowLog<ObservedFlow>;
  let live: number;

  beforeEach(() => {
    sink = new TestSink();
    log = new FlowLog<ObservedFlow>(entries(100));
    live = 0;
  });

  function reader(options: Partial<FlowReaderOptions> = {}): FlowReader {
    return new FlowReader({
      sink,
      node: 'n1',
      logs: [log],
      wants: () => true,
      since: undefined,
      suggestFrom: undefined,
      now: () => 0,
      onLive: () => {
        live++;
      },
      ...options,
    });
  }

  function pumpAll(flows: FlowReader): void {
    for (let turns = 0; flows.pump(); turns++) assert.ok(turns < 100);
  }

  it('is sent what is remembered, a word that it is over, and what happens', () => {
    for (const port of [1, 2]) log.push(deniedFlow({ port, at: port }));
    const flows = reader({ since: 2 });
    log.push(deniedFlow({ port: 3, at: 3 }));
    pumpAll(flows);
    assert.deepEqual(sink.texts, ['Denied 2', 'Live', 'Denied 3']);
    log.push(deniedFlow({ port: 4, at: 4 }));
    pumpAll(flows);
    assert.deepEqual(sink.texts.slice(3), ['Denied 4']);
    assert.equal(live, 1);
  });

  it('is told at once where nothing is remembered', () => {
    pumpAll(reader({ since: 0 }));
    assert.deepEqual(sink.texts, ['Live']);
  });

  it('is not waited for: what it does not take in time is counted, and told when it takes again', () => {
    const flows = reader();
    sink.pendingBytes = PENDING_BYTES + 1;
    for (let port = 1; port <= 350; port++) {
      log.push(deniedFlow({ port, at: port }));
      assert.equal(flows.pump(), false);
    }
    assert.deepEqual(sink.lines, []);
    sink.pendingBytes = 0;
    pumpAll(flows);
    assert.deepEqual(sink.texts.slice(0, 3), ['Denied reader 250', 'Live', 'Denied 251']);
    assert.equal(sink.texts.length, 102);
    log.push(deniedFlow({ port: 351, at: 351 }));
    pumpAll(flows);
    assert.deepEqual(sink.texts.slice(102), ['Denied 351']);
  });

  it('is sent a part in a turn, so that others have theirs', () => {
    for (let port = 1; port <= 100; port++) log.push(deniedFlow({ port, at: port }));
    const flows = reader({ since: 0 });
    assert.equal(flows.pump(), true);
    assert.ok(sink.lines.length < 100, String(sink.lines.length));
    pumpAll(flows);
    assert.deepEqual([sink.texts.at(-2), sink.texts.at(-1)], ['Denied 100', 'Live']);
  });

  it('is told together what it did not see, and that the number is not known where it once was not', () => {
    const flows = reader();
    flows.drop('Denied', 'rate', 3);
    flows.drop('Denied', 'rate', 4);
    flows.drop('Allowed', 'overrun', undefined);
    flows.drop('Allowed', 'overrun', 2);
    pumpAll(flows);
    assert.deepEqual(sink.texts, ['Denied rate 7', 'Allowed overrun ?', 'Live']);
    pumpAll(flows);
    assert.equal(sink.texts.length, 3, 'once');
  });

  it('is sent what is allowed too where that is another log, and which of them it lost', () => {
    const allowed = new FlowLog<ObservedFlow>(entries(2));
    const flows = reader({ logs: [log, allowed] });
    for (const port of [80, 81, 82]) {
      const view = { world: worldOf(MODEL), node: 'n1', isSynced: true };
      const original = tuple(ip('y/a'), ip('x/a'), 6, 40_000, port);
      const reply = tuple(ip('x/a'), ip('y/a'), 6, port, 40_000);
      const flow = describeAllowed(view, { original, reply }, port);
      assert.ok(flow);
      allowed.push(flow);
    }
    log.push(deniedFlow({ port: 1, at: 1 }));
    pumpAll(flows);
    assert.deepEqual(sink.texts.toSorted(), ['Allowed 81', 'Allowed 82', 'Allowed reader 1', 'Denied 1', 'Live']);
  });

  it('is sent no suggestion for a packet that does not say what it is, or whose policies are not known', () => {
    const suggestFrom = worldFor();
    const logged = (bytes: Uint8Array, prefix = 'ingress/x/a') => loggedPacket(prefix, bytes, 1);
    const whole = packetBytes(ip('y/b'), ip('x/a'), 6, 40_000, 80);
    for (const [packet, isSynced, count] of [
      [logged(whole), true, 1],
      [logged(packetBytes(ip('y/b'), ip('x/a'), 47, 0, 0)), true, 1],
      [logged(whole.subarray(0, 22)), true, 0],
      [logged(whole), false, 0],
    ] as const) {
      const flow = describeDenied({ world: suggestFrom, node: 'n1', isSynced }, packet, 1);
      assert.ok(flow);
      log = new FlowLog<ObservedFlow>(entries(1));
      log.push(flow);
      sink = new TestSink();
      pumpAll(reader({ since: 0, suggestFrom }));
      const [record] = sink.records;
      assert.equal(record?.kind === 'Denied' ? record.suggestions?.length : undefined, count);
    }
  });

  it('is sent suggestions where it asks for them, and none once an address is another pod’s', () => {
    const suggestFrom = worldFor();
    log.push(deniedFlow({ port: 80, at: 1 }));
    pumpAll(reader({ since: 0, suggestFrom }));
    const [record] = sink.records;
    assert.ok(record?.kind === 'Denied');
    assert.deepEqual(
      record.suggestions?.map(({ direction, policy: { kind } }) => [direction, kind]),
      [['ingress', 'NetworkPolicy']],
    );
    const taken = pod('y/new', { addresses: pod('y/b').addresses, createdAt: 1 });
    const other = worldOf({ ...MODEL, pods: podsWith(taken), policies: [policy({ podSelector: {} })] });
    sink = new TestSink();
    pumpAll(reader({ since: 0, suggestFrom: other }));
    const [later] = sink.records;
    assert.deepEqual(later?.kind === 'Denied' ? later.suggestions : undefined, []);
  });

  it('is written no more ahead than it may, however long the records are', () => {
    const written: number[] = [];
    const ahead = { pendingBytes: 0, write: (text: string) => void written.push(text.length) };
    const policies = Array.from({ length: 20 }, (_, index) => `x/${String(index).padStart(253, 'p')}`);
    for (let port = 1; port <= 64; port++) {
      const flow = deniedFlow({ port, at: port });
      log.push({ ...flow, record: { ...flow.record, policies } });
    }
    const flows = reader({ since: 0, sink: ahead });
    assert.equal(flows.pump(), true);
    assert.equal(written.length, 1);
    assert.ok((written[0] ?? 0) < 2 * PENDING_BYTES, `${written[0]} bytes in a turn`);
  });

  it('is suggested nothing that is longer than a person reads', () => {
    const labels = new Map(Array.from({ length: 4_000 }, (_, index) => [`label-${index}`, 'v'.repeat(63)]));
    const world = worldOf({ ...MODEL, pods: podsWith(pod('x/a', { labels })), policies: [policy({ podSelector: {} }, 'closed')] });
    log.push(deniedFlow({ port: 80, at: 1 }));
    pumpAll(reader({ since: 0, suggestFrom: world }));
    const [record] = sink.records;
    assert.ok(record?.kind === 'Denied');
    assert.deepEqual(record.suggestions, []);
  });

  it('that takes nothing is told once how things are, when it takes something again', () => {
    const flows = reader();
    pumpAll(flows);
    sink.pendingBytes = PENDING_BYTES + 1;
    assert.equal(flows.isBlocked, true);
    const before = sink.lines.length;
    for (let count = 0; count < 1_000; count++)
      flows.tell({ kind: 'Live', apiVersion: 'sluice.dev/v1', time: new Date(count).toISOString() });
    assert.equal(sink.lines.length, before);
    sink.pendingBytes = 0;
    pumpAll(flows);
    assert.deepEqual(
      sink.records.slice(before).map((record) => 'time' in record && record.time),
      ['1970-01-01T00:00:00.999Z'],
    );
  });
});
