/** Where the udp backend sends packets, with a list that is searched from end to end as the second opinion. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { type NextHop, RouteTable } from '../../../src/network/udp/routes.ts';

const hop = (port: number): NextHop => ({ address: 0xc0000201, port, trainsOffFor: 0 });

describe('the routes of the udp backend', () => {
  it('find the subnet that holds an address, whether numbers are signed or not', () => {
    const table = new RouteTable();
    table.set(0x0a630200, 24, hop(1));
    table.set(0xf0000000, 4, hop(2));
    assert.equal(table.find(0x0a6302ff)?.port, 1);
    assert.equal(table.find(0x0a630300), undefined);
    assert.equal(table.find(0xffffffff)?.port, 2);
    assert.equal(table.find(0xffffffff | 0)?.port, 2);
  });

  it('prefer the longest of those that hold it, in whatever order they came', () => {
    const table = new RouteTable();
    for (const length of [16, 32, 0, 24]) table.set(0x0a630201, length, hop(length));
    assert.equal(table.find(0x0a630201)?.port, 32);
    assert.equal(table.find(0x0a630202)?.port, 24);
    assert.equal(table.find(0x0a630301)?.port, 16);
    assert.equal(table.find(0x01010101)?.port, 0);
  });

  it('are replaced and removed by subnet', () => {
    const table = new RouteTable();
    table.set(0x0a630200, 24, hop(1));
    table.set(0x0a630200, 24, hop(2));
    assert.equal(table.find(0x0a630205)?.port, 2);
    table.delete(0x0a630200, 25);
    table.delete(0x0a630300, 24);
    assert.equal(table.find(0x0a630205)?.port, 2);
    table.delete(0x0a630200, 24);
    assert.equal(table.find(0x0a630205), undefined);
  });

  it('find what a search of all of them finds', () => {
    // Few bits, so that subnets meet: the top one, and the last three of the address.
    const address = fc.tuple(fc.boolean(), fc.nat(7)).map(([top, low]) => ((top ? 0x80000000 : 0) + low) >>> 0);
    const prefix = fc.tuple(address, fc.constantFrom(0, 1, 29, 30, 31, 32));
    const change = fc.record({ prefix, remove: fc.boolean() });
    const contains = (network: number, length: number, of: number): boolean => {
      const size = 2 ** (32 - length);
      return Math.floor(network / size) === Math.floor(of / size);
    };
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), fc.array(address), (changes, addresses) => {
        const table = new RouteTable();
        let list: { network: number; length: number; port: number }[] = [];
        for (const [port, { prefix, remove }] of changes.entries()) {
          const [network, length] = prefix;
          list = list.filter((other) => !(other.length === length && contains(network, length, other.network)));
          if (remove) table.delete(network, length);
          else {
            table.set(network, length, hop(port));
            list.push({ network, length, port });
          }
        }
        for (const of of addresses) {
          const [best] = list.filter(({ network, length }) => contains(network, length, of)).toSorted((a, b) => b.length - a.length);
          assert.equal(table.find(of)?.port, best?.port);
        }
      }),
      { numRuns: 500 },
    );
  });
});
