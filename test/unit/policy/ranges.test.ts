/** Range arithmetic against a naive model: sets of single addresses, in small windows at both ends and in the middle of each family. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { type Address, formatPrefix, ipv4, ipv6, networkAddress, prefixRange, type Range } from '../../../src/policy/address.ts';
import { contains, intersects, rangeToPrefixes, subtract, union } from '../../../src/policy/ranges.ts';
import { address } from './model.ts';

const SIZE = 40;
const top6 = (1n << 128n) - 1n;

/** Windows of SIZE addresses: the naive model's universe. */
const WINDOWS: readonly ((offset: number) => Address)[] = [
  (offset) => ipv4(offset),
  (offset) => ipv4(0x7fff_fff0 + offset),
  (offset) => ipv4(0xffff_ffff - SIZE + 1 + offset),
  (offset) => ipv6(BigInt(offset)),
  (offset) => ipv6((1n << 64n) - 16n + BigInt(offset)),
  (offset) => ipv6(top6 - BigInt(SIZE - 1) + BigInt(offset)),
];

const interval = fc.tuple(fc.nat(SIZE - 1), fc.nat(SIZE - 1)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
type Interval = readonly [first: number, last: number];

function offsets([first, last]: Interval): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

/** Maximal runs of a set of offsets: what a normal list has to be. */
function runs(members: ReadonlySet<number>): Interval[] {
  const found: [number, number][] = [];
  for (let offset = 0; offset < SIZE; offset++) {
    if (!members.has(offset)) continue;
    const previous = found.at(-1);
    if (previous !== undefined && previous[1] === offset - 1) previous[1] = offset;
    else found.push([offset, offset]);
  }
  return found;
}

function range(from: string, to: string): Range {
  return { first: address(from), last: address(to) };
}

for (const [number, at] of WINDOWS.entries()) {
  const place = (intervals: readonly Interval[]): Range[] => intervals.map(([first, last]) => ({ first: at(first), last: at(last) }));

  describe(`ranges in window ${number + 1} (${[at(0), at(SIZE - 1)].map(String).join('..')})`, () => {
    it('union is the set union, in maximal runs', () => {
      fc.assert(
        fc.property(fc.array(interval, { maxLength: 8 }), (intervals) => {
          assert.deepEqual(union(place(intervals)), place(runs(new Set(intervals.flatMap(offsets)))));
        }),
      );
    });

    it('subtract is the set difference, in maximal runs', () => {
      fc.assert(
        fc.property(interval, fc.array(interval, { maxLength: 6 }), (whole, holes) => {
          const left = new Set(offsets(whole)).difference(new Set(holes.flatMap(offsets)));
          const [block] = place([whole]);
          assert.deepEqual(block && subtract(block, place(holes)), place(runs(left)));
        }),
      );
    });

    it('contains and intersects are membership', () => {
      fc.assert(
        fc.property(fc.array(interval, { maxLength: 6 }), interval, (intervals, other) => {
          const members = new Set(intervals.flatMap(offsets));
          const list = place(runs(members));
          for (let offset = 0; offset < SIZE; offset++) assert.equal(contains(list, at(offset)), members.has(offset));
          const [asked] = place([other]);
          assert.equal(
            asked && intersects(list, asked),
            offsets(other).some((offset) => members.has(offset)),
          );
        }),
      );
    });

    it('prefixes make up exactly the range, ascending, and no two of them could be one', () => {
      fc.assert(
        fc.property(interval, (whole) => {
          const [block] = place([whole]);
          const prefixes = block === undefined ? [] : rangeToPrefixes(block);
          const parts = prefixes.map(prefixRange);
          assert.deepEqual(union(parts), [block]);
          assert.ok(parts.every((part, index) => index === 0 || part.first > (parts[index - 1]?.last ?? 0)));
          // A decomposition without two halves of one block side by side is the shortest.
          const halves = prefixes.filter(({ address, length }, index) => {
            const isFirstHalf = length > 0 && networkAddress(address, length - 1) === address;
            const parent = isFirstHalf ? prefixRange({ address, length: length - 1 }).last : undefined;
            return prefixes[index + 1]?.length === length && parts[index + 1]?.last === parent;
          });
          assert.deepEqual(halves, []);
        }),
      );
    });
  });
}

describe('ranges of both families', () => {
  const four = range('0.0.0.0', '255.255.255.255');
  const six = range('::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff');

  it('never touch one another, though their numbers do', () => {
    assert.deepEqual(union([six, four]), [four, six]);
    assert.deepEqual(union([range('::', '::5'), range('0.0.0.0', '0.0.0.9')]), [range('0.0.0.0', '0.0.0.9'), range('::', '::5')]);
    assert.ok(!contains([four], address('::1')));
    assert.ok(!contains([six], address('0.0.0.1')));
    assert.ok(contains([four, six], address('::1')) && contains([four, six], address('0.0.0.1')));
    assert.ok(!intersects([four], range('::', '::5')));
    assert.ok(!intersects([six], range('0.0.0.0', '0.0.0.5')));
  });

  it('take nothing out of one another', () => {
    assert.deepEqual(subtract(four, [six]), [four]);
    assert.deepEqual(subtract(six, [four]), [six]);
    assert.deepEqual(subtract(four, [four]), []);
    assert.deepEqual(subtract(six, [six]), []);
  });
});

describe('rangeToPrefixes', () => {
  it('writes everything as one prefix, and everything but the ends as 62 and 254', () => {
    assert.deepEqual(rangeToPrefixes(range('0.0.0.0', '255.255.255.255')).map(formatPrefix), ['0.0.0.0/0']);
    assert.deepEqual(rangeToPrefixes(range('::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')).map(formatPrefix), ['::/0']);
    // One of each length from /32 up to /2 and down again: 2 x 31; and 2 x 127.
    assert.equal(rangeToPrefixes(range('0.0.0.1', '255.255.255.254')).length, 62);
    assert.equal(rangeToPrefixes(range('::1', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe')).length, 254);
  });

  it('writes 10.0.0.0/8 without 10.1.0.0/16 as people would', () => {
    const left = subtract(range('10.0.0.0', '10.255.255.255'), [range('10.1.0.0', '10.1.255.255')]).flatMap(rangeToPrefixes);
    assert.deepEqual(left.map(formatPrefix), [
      '10.0.0.0/16',
      '10.2.0.0/15',
      '10.4.0.0/14',
      '10.8.0.0/13',
      '10.16.0.0/12',
      '10.32.0.0/11',
      '10.64.0.0/10',
      '10.128.0.0/9',
    ]);
  });
});
