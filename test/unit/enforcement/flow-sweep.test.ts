import assert from 'node:assert/strict';
import { type Conntrack, type Flow, type FlowChange, type FlowFilter, KernelError, labelBits, type Tuple } from 'nftables-js';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { CUT_LABEL, FlowSweep } from '../../../src/enforcement/conntrack/flow-sweep.ts';
import { type Address, addressBytes, parseAddress } from '../../../src/policy/address.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { type ApiObject } from '../../random/cluster.ts';
import { upsertOf } from '../../random/events.ts';

const NODE = 'node-a';
const MARK = 0x1000;
const SERVER = '10.244.1.2';
const CLIENT = '10.244.2.9';

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

/** A conntrack table of flows that are given, with and without room for labels. */
class FakeConntrack {
  readonly entries: Flow[] = [];
  readonly withoutLabels = new Set<Flow>();
  refusing = false;

  open(source: string, destination: string, options: Partial<Flow> = {}): number {
    const tuple = (from: string, to: string, fromPort: number, toPort: number): Tuple => ({
      source: addressBytes(address(from)),
      destination: addressBytes(address(to)),
      protocol: 6,
      sourcePort: fromPort,
      destinationPort: toPort,
      icmp: undefined,
    });
    this.entries.push({
      family: 'ip',
      id: this.entries.length + 1,
      original: tuple(source, destination, 40_000, 80),
      reply: tuple(destination, source, 80, 40_000),
      zone: 0,
      zoneDirection: 'both',
      status: 0,
      mark: 0,
      labels: undefined,
      timeoutSeconds: 100,
      ...options,
    });
    return this.entries.length - 1;
  }

  *flows(filter: FlowFilter = {}): Generator<Flow> {
    const same = (a: Uint8Array | undefined, b: Uint8Array): boolean => a === undefined || Buffer.compare(a, b) === 0;
    for (const flow of this.entries.slice()) {
      if (same(filter.original?.source, flow.original.source) && same(filter.reply?.source, flow.reply.source)) yield flow;
    }
  }

  apply(changes: readonly FlowChange[]): (string | KernelError)[] {
    return changes.map((change) => {
      if (this.refusing) return new KernelError(1, 'changing a flow');
      const at = this.entries.findIndex(
        ({ id, original }) => id === change.flow.id && Buffer.compare(original.source, change.flow.original.source) === 0,
      );
      const flow = this.entries[at];
      if (flow === undefined) return 'gone';
      if (change.change === 'labels') {
        if (this.withoutLabels.has(flow)) return 'no-labels';
        this.entries[at] = { ...flow, labels: change.labels.value.some((byte) => byte !== 0) ? change.labels.value : undefined };
      } else if (change.change === 'mark') this.entries[at] = { ...flow, mark: (flow.mark & ~change.mark.mask) | change.mark.value };
      return 'done';
    });
  }

  isCut(index: number): boolean {
    const flow = this.entries[index];
    return flow?.labels !== undefined || ((flow?.mark ?? 0) & MARK) !== 0;
  }
}

function pod(name: string, ip: string, node = NODE): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop' },
    spec: { nodeName: node, containers: [] },
    status: { phase: 'Running', podIPs: [{ ip }] },
  };
}

const denyAll = upsertOf({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'deny', namespace: 'shop' },
  spec: { podSelector: {}, policyTypes: ['Ingress'] },
});

/** Audited are the pods whose names are in this set. */
const audited = new Set<string>();

function setUp(...events: SourceEvent[]): { conntrack: FakeConntrack; cluster: Cluster; sweep: FlowSweep } {
  audited.clear();
  const cluster = new Cluster(NODE);
  cluster.apply(events);
  const conntrack = new FakeConntrack();
  // The sweep asks no more of a Conntrack than the fake has.
  return {
    conntrack,
    cluster,
    sweep: new FlowSweep({
      world: cluster,
      node: NODE,
      conntrack: conntrack as unknown as Conntrack,
      cutMark: MARK,
      isAudited: ({ name }) => audited.has(name),
    }),
  };
}

describe('flow sweep', () => {
  it('labels what is forbidden, marks what has no room for a label, and leaves the rest', async () => {
    const { conntrack, sweep } = setUp(upsertOf(pod('server', SERVER)), denyAll);
    const forbidden = conntrack.open(CLIENT, SERVER);
    const old = conntrack.open(CLIENT, SERVER, { mark: 0x42 });
    const oldFlow = conntrack.entries[old];
    assert.ok(oldFlow !== undefined);
    conntrack.withoutLabels.add(oldFlow);
    const outward = conntrack.open(SERVER, CLIENT);
    const elsewhere = conntrack.open(CLIENT, '10.244.3.3');
    assert.equal((await sweep.sweepAll()).cut, 2);
    assert.deepEqual(
      [forbidden, old, outward, elsewhere].map((index) => conntrack.isCut(index)),
      [true, true, false, false],
    );
    assert.deepEqual(conntrack.entries[forbidden]?.labels, labelBits(CUT_LABEL));
    assert.equal(conntrack.entries[old]?.mark, 0x42 | MARK);
  });

  it('lets go on what is allowed again', async () => {
    const { conntrack, cluster, sweep } = setUp(upsertOf(pod('server', SERVER)), denyAll);
    const flow = conntrack.open(CLIENT, SERVER);
    await sweep.sweepAll();
    cluster.apply([{ type: 'delete', kind: 'NetworkPolicy', key: 'shop/deny' }]);
    assert.equal(sweep.sweep(new Set([address(SERVER)])).restored, 1);
    assert.equal(conntrack.isCut(flow), false);
  });

  it('leaves what an audited pod refuses alone, lets go on what was cut, and cuts it when that pod is enforced', async () => {
    const { conntrack, sweep } = setUp(upsertOf(pod('server', SERVER)), denyAll);
    audited.add('server');
    const flow = conntrack.open(CLIENT, SERVER);
    const earlier = conntrack.open('10.244.2.8', SERVER, { labels: labelBits(CUT_LABEL) });
    const { cut, restored } = await sweep.sweepAll();
    assert.deepEqual({ cut, restored }, { cut: 0, restored: 1 });
    assert.deepEqual([conntrack.isCut(flow), conntrack.isCut(earlier)], [false, false]);
    audited.clear();
    assert.equal(sweep.sweep(new Set([address(SERVER)])).cut, 2);
    assert.deepEqual([conntrack.isCut(flow), conntrack.isCut(earlier)], [true, true]);
  });

  it('cuts what the pod at the other end refuses, audited or not at this one', async () => {
    const { conntrack, sweep } = setUp(upsertOf(pod('server', SERVER)), upsertOf(pod('client', '10.244.1.3')), denyAll);
    audited.add('client');
    const refused = conntrack.open('10.244.1.3', SERVER);
    const letThrough = conntrack.open(SERVER, '10.244.1.3');
    await sweep.sweepAll();
    assert.deepEqual([conntrack.isCut(refused), conntrack.isCut(letThrough)], [true, false]);
  });

  it('leaves no label behind for the next pod of an address', async () => {
    const { conntrack, cluster, sweep } = setUp(upsertOf(pod('server', SERVER)), denyAll);
    const flow = conntrack.open(CLIENT, SERVER);
    await sweep.sweepAll();
    assert.equal(conntrack.isCut(flow), true);
    cluster.apply([{ type: 'delete', kind: 'Pod', key: 'shop/server' }]);
    sweep.sweep(new Set([address(SERVER)]));
    assert.equal(conntrack.isCut(flow), false);
  });

  it('knows that a flow may be cut whenever one is', async () => {
    const { conntrack, cluster, sweep } = setUp(upsertOf(pod('server', SERVER)), denyAll);
    assert.equal(sweep.mayHaveCut, true, 'nobody has looked yet');
    await sweep.sweepAll();
    assert.equal(sweep.mayHaveCut, false);
    conntrack.open(CLIENT, SERVER, { labels: labelBits(CUT_LABEL) });
    sweep.sweep(new Set([address(SERVER)]));
    assert.equal(sweep.mayHaveCut, true, 'one that was cut earlier stays cut');
    void cluster;
  });

  it('judges flows whose ids collide, and a flow between two of the addresses once', () => {
    const { conntrack, sweep } = setUp(upsertOf(pod('server', SERVER)), upsertOf(pod('other', '10.244.1.3')), denyAll);
    const flows = [
      conntrack.open(CLIENT, SERVER, { id: 7 }),
      conntrack.open('10.244.2.8', SERVER, { id: 7 }),
      conntrack.open('10.244.1.3', SERVER),
    ];
    const result = sweep.sweep(new Set([address(SERVER), address('10.244.1.3')]));
    assert.deepEqual(
      flows.map((index) => conntrack.isCut(index)),
      [true, true, true],
    );
    assert.equal(result.judged, 3);
  });

  it('says which changes the kernel refused', async () => {
    const { conntrack, sweep } = setUp(upsertOf(pod('server', SERVER)), denyAll);
    conntrack.open(CLIENT, SERVER);
    conntrack.refusing = true;
    assert.equal((await sweep.sweepAll()).failures.length, 1);
  });

  it('of all flows lets the event loop have its turn, however many there are', async () => {
    const { conntrack, sweep } = setUp(upsertOf(pod('server', SERVER)), denyAll);
    const count = 50_000;
    for (let index = 0; index < count; index++) conntrack.open(CLIENT, SERVER);
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    // Only told: each would be looked for in the list of the fake.
    conntrack.apply = (changes) => changes.map(() => 'done');
    const { judged, cut } = await sweep.sweepAll();
    clearInterval(timer);
    assert.deepEqual({ judged, cut }, { judged: count, cut: count });
    assert.ok(turns >= 2, `${turns} turns`);
  });
});
