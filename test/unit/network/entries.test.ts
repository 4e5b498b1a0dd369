import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { DesiredEntries, describeEntry, type Entry, keyOf } from '../../../src/network/entries.ts';
import { type Address, formatPrefix, parseAddress, parsePrefix, type Prefix } from '../../../src/policy/address.ts';

const address = (text: string): Address => parseAddress(text) ?? assert.fail(text);
const prefix = (text: string): Prefix => parsePrefix(text) ?? assert.fail(text);
const neighbour = (number: number, mac: string): Entry => ({
  kind: 'neighbour',
  device: 'flannel.1',
  address: address(`10.244.${number}.0`),
  mac,
});
const forwarding = (mac: string, to: string): Entry => ({ kind: 'forwarding', device: 'flannel.1', mac, destination: address(to) });
const route = (number: number, gateway?: string, device = 'flannel.1'): Entry => ({
  kind: 'route',
  destination: prefix(`10.244.${number}.0/24`),
  gateway: address(gateway ?? `10.244.${number}.0`),
  device,
  onlink: true,
});
const A = '0e:00:00:00:00:0a';
const B = '0e:00:00:00:00:0b';

describe('entries that peers need', () => {
  it('are made in the order neighbour, forwarding entry, route, whatever order they are told in', () => {
    const desired = new DesiredEntries();
    const changes = desired.set('b', [route(2), forwarding(A, '172.18.0.3'), neighbour(2, A)]);
    assert.deepEqual(
      changes.map(({ after }) => after?.kind),
      ['neighbour', 'forwarding', 'route'],
    );
    assert.deepEqual(
      desired.all().map(({ kind }) => kind),
      ['neighbour', 'forwarding', 'route'],
    );
  });

  it('change by what is other alone: a new VTEP address makes the new entries before the old one goes', () => {
    const desired = new DesiredEntries();
    desired.set('b', [neighbour(2, A), forwarding(A, '172.18.0.3'), route(2)]);
    const changes = desired.set('b', [neighbour(2, B), forwarding(B, '172.18.0.3'), route(2)]);
    assert.deepEqual(
      changes.map(({ before, after }) => [before && describeEntry(before), after && describeEntry(after)]),
      [
        ['neighbour 10.244.2.0 lladdr 0e:00:00:00:00:0a dev flannel.1', 'neighbour 10.244.2.0 lladdr 0e:00:00:00:00:0b dev flannel.1'],
        [undefined, 'forwarding entry 0e:00:00:00:00:0b dev flannel.1 dst 172.18.0.3'],
        ['forwarding entry 0e:00:00:00:00:0a dev flannel.1 dst 172.18.0.3', undefined],
      ],
    );
    assert.deepEqual(desired.set('b', [neighbour(2, B), forwarding(B, '172.18.0.3'), route(2)]), []);
  });

  it('that two nodes want differently go to the one whose name sorts first, in whatever order they come, and to the other when it leaves', () => {
    for (const order of [
      ['alpha', 'beta'],
      ['beta', 'alpha'],
    ]) {
      const desired = new DesiredEntries();
      for (const node of order) desired.set(node, [route(2, node === 'alpha' ? '172.18.0.1' : '172.18.0.2', 'eth0')]);
      const [winner] = desired.all();
      assert.equal(winner?.kind === 'route' ? winner.gateway : undefined, address('172.18.0.1'));
      assert.deepEqual(desired.conflicts(), [{ key: 'route 10.244.2.0/24', winner: 'alpha', losers: ['beta'] }]);
      const [change] = desired.set('alpha', []);
      assert.equal(change?.after?.kind === 'route' ? change.after.gateway : undefined, address('172.18.0.2'));
      assert.deepEqual(desired.conflicts(), []);
      assert.equal(desired.set('beta', []).length, 1);
      assert.equal(desired.size, 0);
    }
  });

  it('are known by the devices that they are on, as long as there is one', () => {
    const desired = new DesiredEntries();
    desired.set('b', [route(2, '172.18.0.3', 'eth0'), neighbour(3, A)]);
    desired.set('c', [route(4, '172.18.0.4', 'eth0')]);
    assert.ok(desired.uses('eth0') && desired.uses('flannel.1') && !desired.uses('eth1'));
    desired.set('b', [route(2, '172.18.0.3', 'eth1')]);
    assert.ok(desired.uses('eth0') && desired.uses('eth1') && !desired.uses('flannel.1'));
    desired.set('c', []);
    desired.set('b', []);
    assert.ok(!desired.uses('eth0') && !desired.uses('eth1'));
  });

  it('are the same by differences as all at once', () => {
    const entry = fc.oneof(
      fc.record({ n: fc.integer({ min: 1, max: 4 }), mac: fc.constantFrom(A, B) }).map(({ n, mac }) => neighbour(n, mac)),
      fc.record({ mac: fc.constantFrom(A, B), to: fc.integer({ min: 1, max: 3 }) }).map(({ mac, to }) => forwarding(mac, `172.18.0.${to}`)),
      fc
        .record({ n: fc.integer({ min: 1, max: 4 }), to: fc.integer({ min: 1, max: 3 }) })
        .map(({ n, to }) => route(n, `172.18.0.${to}`, 'eth0')),
    );
    // A node says one thing of a key.
    const entries = fc.array(entry, { maxLength: 6 }).map((list) => [...new Map(list.map((each) => [keyOf(each), each])).values()]);
    const step = fc.record({ node: fc.constantFrom('a', 'b', 'c'), entries });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const desired = new DesiredEntries();
        const kernel = new Map<string, string>();
        const last = new Map<string, readonly Entry[]>();
        for (const { node, entries } of steps) {
          last.set(node, entries);
          for (const { key, before, after } of desired.set(node, entries)) {
            assert.equal(kernel.get(key), before && describeEntry(before));
            if (after === undefined) kernel.delete(key);
            else kernel.set(key, describeEntry(after));
          }
        }
        const wanted = new Map<string, string>();
        for (const node of ['c', 'b', 'a']) for (const each of last.get(node) ?? []) wanted.set(keyOf(each), describeEntry(each));
        assert.deepEqual(kernel, wanted);
      }),
    );
  });

  it('are described as ip and bridge would be told', () => {
    assert.equal(describeEntry(route(2)), 'route 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink');
    const blackhole: Entry = {
      kind: 'route',
      destination: prefix('10.244.2.0/24'),
      gateway: undefined,
      device: '',
      onlink: false,
      blackhole: true,
    };
    assert.equal(describeEntry(blackhole), `route blackhole ${formatPrefix(prefix('10.244.2.0/24'))}`);
  });
});
