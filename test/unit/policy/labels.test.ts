import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { LabelSets } from '../../../src/cluster/label-sets.ts';
import type { PodRecord } from '../../../src/cluster/records.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { hashOfLabels, sameLabels } from '../../../src/policy/labels.ts';

const labels = fc.uniqueArray(fc.tuple(fc.string({ maxLength: 3 }), fc.string({ maxLength: 3 })), {
  selector: ([key]) => key,
  maxLength: 5,
});

describe('labels', () => {
  it('are the same whatever their order, and then have one hash', () => {
    fc.assert(
      fc.property(labels, (entries) => {
        const [one, other] = [new Map(entries), new Map(entries.toReversed())];
        assert.ok(sameLabels(one, other));
        assert.equal(hashOfLabels(one), hashOfLabels(other));
      }),
    );
  });

  it('are not the same where a key or a value differs, or one is missing', () => {
    fc.assert(
      fc.property(labels, labels, (a, b) => {
        const text = (entries: readonly (readonly [string, string])[]): string =>
          JSON.stringify(entries.toSorted(([x], [y]) => (x < y ? -1 : 1)));
        assert.equal(sameLabels(new Map(a), new Map(b)), text(a) === text(b));
      }),
    );
  });

  it('rarely share a hash where they differ, also where the same letters are divided otherwise', () => {
    const hashes = new Set<number>();
    for (let index = 0; index < 50_000; index++)
      hashes.add(
        hashOfLabels(
          new Map([
            ['app', 'web'],
            ['pod', `web-${index}`],
          ]),
        ),
      );
    assert.ok(hashes.size > 49_950, `${hashes.size} of 50,000`);
    const divided = [new Map([['a', 'bc']]), new Map([['ab', 'c']]), new Map([['c', 'ab']])];
    assert.equal(new Set(divided.map(hashOfLabels)).size, divided.length);
  });

  it('that differ are kept apart where they share a hash', () => {
    const [one, other] = collision();
    assert.ok(!sameLabels(one, other));
    const sharing = new Sharing();
    for (const labels of [one, other, one]) assert.deepEqual(sharing.labels(new Map(labels)), labels);
    const sets = new LabelSets();
    // A pod is only held here, never looked at.
    const [a, b] = [{}, {}] as [PodRecord, PodRecord];
    const [first, second] = [sets.acquire(one, a), sets.acquire(other, b)];
    assert.notEqual(first, second);
    assert.equal(sets.acquire(new Map(other), b), second);
    sets.release(first, a);
    assert.equal(sets.acquire(new Map(other), a), second);
    assert.notEqual(sets.acquire(one, a), first);
  });

  it('have a hash that takes no memory of its own', () => {
    fc.assert(
      fc.property(labels, (entries) => {
        const hash = hashOfLabels(new Map(entries));
        assert.ok(Number.isInteger(hash) && hash >= 0 && hash < 2 ** 31);
      }),
    );
  });
});

/** Of some hundred thousand hashes of 31 bits two are nearly certain to be equal. */
function collision(): [Map<string, string>, Map<string, string>] {
  const known = new Map<number, Map<string, string>>();
  for (let index = 0; ; index++) {
    const labels = new Map([['app', `web-${index}`]]);
    const other = known.get(hashOfLabels(labels));
    if (other !== undefined) return [other, labels];
    known.set(hashOfLabels(labels), labels);
  }
}
