/**
 * Messages about routes, neighbours and forwarding entries as bytes, for what a live kernel seldom sends. That the kernel means this
 * by them is proven by test/kernel/rtnetlink-routes.test.ts and rtnetlink-neighbours.test.ts.
 */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { MalformedError, MessageWriter } from 'nftables-js';
import { ipv4, ipv6 } from '../../src/policy/address.ts';
import { type ForwardingEntry, readForwarding, readNeighbour, readNeighbourEvent } from '../../src/rtnetlink/neighbours.ts';
import { readRoute, readRouteEvent, type Route } from '../../src/rtnetlink/routes.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const AF_BRIDGE = 7;
const AF_MPLS = 28;
const MAC = [2, 0, 0x5e, 0x10, 0, 0xff];
const DOCUMENTATION6 = [0x20, 1, 0xd, 0xb8, ...Array<number>(11).fill(0), 1];

const message = { flags: 0, sequence: 0, port: 0 };

function bytes(header: number[], write: (writer: MessageWriter) => void): Uint8Array {
  const writer = new MessageWriter();
  writer.raw(Uint8Array.from(header));
  write(writer);
  return writer.bytes().slice();
}

/** struct rtmsg: family, bits of the destination, of the source, tos, table, protocol, scope, type, flags. */
function routeMessage(
  write: (writer: MessageWriter) => void,
  { family = AF_INET, length = 24, type = 1, flags = [0, 0, 0, 0] } = {},
): Uint8Array {
  return bytes([family, length, 0, 0, 252, 3, 253, type, ...flags], write);
}

/** struct ndmsg: family, padding, index, state, flags, type. */
function neighbourMessage(family: number, write: (writer: MessageWriter) => void): Uint8Array {
  return bytes([family, 0, 0, 0, 9, 0, 0, 0, 0x80, 0, 0x02, 1], write);
}

function data(writer: MessageWriter, type: number, content: number[]): void {
  writer.data(type, Uint8Array.from(content));
}

/** RTA_DST, RTA_TABLE, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_PRIORITY. */
function plainRoute(writer: MessageWriter): void {
  data(writer, 1, [10, 244, 2, 0]);
  writer.u32(15, 100_000);
  writer.u32(4, 70_000);
  data(writer, 5, [192, 0, 2, 9]);
  data(writer, 7, [192, 0, 2, 1]);
  writer.u32(6, 77);
}

/** RTA_DST, RTA_MULTIPATH of two struct rtnexthop, the first with RTNH_F_ONLINK and an odd number of bytes. */
function multipathRoute(writer: MessageWriter): void {
  data(writer, 1, [10, 244, 2, 0]);
  data(writer, 9, [17, 0, 4, 0, 5, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 9, 0, 0, 0, 0, 16, 0, 0, 0, 6, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 8]);
}

/** RTA_DST, RTA_VIA. */
function viaRoute(writer: MessageWriter): void {
  data(writer, 1, [10, 244, 2, 0]);
  data(writer, 18, [AF_INET6, 0, ...DOCUMENTATION6]);
}

/** NDA_DST, NDA_LLADDR. */
function plainNeighbour(writer: MessageWriter): void {
  data(writer, 1, [192, 0, 2, 9]);
  data(writer, 2, MAC);
}

/** And NDA_PORT, NDA_VNI, NDA_MASTER. */
function forwardingEntry(writer: MessageWriter): void {
  plainNeighbour(writer);
  writer.be16(6, 4789);
  writer.u32(7, 4096);
  writer.u32(9, 3);
}

const plain: Route = {
  family: 4,
  destination: { address: ipv4(0x0af40200), length: 24 },
  type: 'unicast',
  table: 100_000,
  protocol: 3,
  scope: 253,
  gateway: ipv4(0xc0000209),
  link: 70_000,
  source: ipv4(0xc0000201),
  metric: 77,
  onlink: false,
  hops: 1,
};
const bare = { ...plain, table: 252, gateway: undefined, link: undefined, source: undefined, metric: undefined };

describe('rtnetlink messages about routes', () => {
  it('are read, with the table that does not fit into the header', () => {
    assert.deepEqual(readRoute(routeMessage(plainRoute)), plain);
    assert.deepEqual(readRouteEvent({ ...message, type: 24, payload: routeMessage(plainRoute) }), { event: 'route', route: plain });
    assert.deepEqual(readRouteEvent({ ...message, type: 25, payload: routeMessage(plainRoute) }), { event: 'gone', route: plain });
    assert.equal(readRouteEvent({ ...message, type: 26, payload: routeMessage(plainRoute) }), undefined);
  });

  it('have all addresses as destination where they name none', () => {
    assert.deepEqual(readRoute(routeMessage(() => {}, { length: 0 }))?.destination, { address: ipv4(0), length: 0 });
    assert.deepEqual(readRoute(routeMessage(() => {}, { length: 0, family: AF_INET6 }))?.destination, { address: ipv6(0n), length: 0 });
  });

  it('have of several nexthops the first', () => {
    const first = { gateway: ipv4(0xc0000209), link: 5, onlink: true, hops: 2 };
    assert.deepEqual(readRoute(routeMessage(multipathRoute)), { ...bare, ...first });
  });

  it('have a gateway of the other family', () => {
    assert.deepEqual(readRoute(routeMessage(viaRoute)), { ...bare, gateway: ipv6(0x2001_0db8_0000_0000_0000_0000_0000_0001n) });
  });

  it('have a type, also one that has no name here', () => {
    const types = Array.from({ length: 12 }, (_, type) => readRoute(routeMessage(plainRoute, { type }))?.type);
    assert.deepEqual(types, [
      'other',
      'unicast',
      'local',
      'broadcast',
      'other',
      'multicast',
      'blackhole',
      'unreachable',
      'prohibit',
      'throw',
      'other',
      'other',
    ]);
  });

  it('are passed over where they are of another family, or of one destination alone', () => {
    assert.equal(readRoute(routeMessage(plainRoute, { family: AF_MPLS })), undefined);
    assert.equal(readRoute(routeMessage(plainRoute, { flags: [0, 2, 0, 0] })), undefined);
  });

  it('are refused where lengths do not fit', () => {
    for (const payload of [
      new Uint8Array(11),
      routeMessage(plainRoute, { length: 33 }),
      routeMessage(plainRoute, { family: AF_INET6 }),
      routeMessage((writer) => data(writer, 5, [1, 2, 3])),
      routeMessage((writer) => data(writer, 7, [])),
      routeMessage((writer) => data(writer, 4, [1])),
      routeMessage((writer) => data(writer, 18, [])),
      routeMessage((writer) => data(writer, 18, [AF_MPLS, 0, 1, 2, 3, 4])),
      routeMessage((writer) => data(writer, 18, [AF_INET, 0, 1, 2, 3])),
      routeMessage((writer) => data(writer, 9, [])),
      // A nexthop of no length would be read for ever.
      routeMessage((writer) => data(writer, 9, [0, 0, 0, 0, 5, 0, 0, 0])),
      routeMessage((writer) => data(writer, 9, [4, 0, 0, 0, 5, 0, 0, 0])),
      routeMessage((writer) => data(writer, 9, [9, 0, 0, 0, 5, 0, 0, 0])),
    ]) {
      assert.throws(() => readRoute(payload), MalformedError);
    }
  });
});

describe('rtnetlink messages about neighbours', () => {
  const neighbour = { link: 9, address: ipv4(0xc0000209), mac: '02:00:5e:10:00:ff', state: 0x80, permanent: true };
  const entry: ForwardingEntry = {
    link: 9,
    mac: '02:00:5e:10:00:ff',
    destination: ipv4(0xc0000209),
    permanent: true,
    self: true,
    master: 3,
    port: 4789,
    vni: 4096,
  };

  it('are told apart from those about forwarding entries', () => {
    const ofNeighbour = neighbourMessage(AF_INET, plainNeighbour);
    const ofEntry = neighbourMessage(AF_BRIDGE, forwardingEntry);
    assert.deepEqual(readNeighbour(ofNeighbour), neighbour);
    assert.deepEqual(readForwarding(ofEntry), entry);
    assert.equal(readNeighbour(ofEntry), undefined);
    assert.equal(readForwarding(ofNeighbour), undefined);
    assert.deepEqual(readNeighbourEvent({ ...message, type: 28, payload: ofNeighbour }), { event: 'neighbour', neighbour });
    assert.deepEqual(readNeighbourEvent({ ...message, type: 29, payload: ofNeighbour }), { event: 'gone', neighbour });
    assert.deepEqual(readNeighbourEvent({ ...message, type: 28, payload: ofEntry }), { event: 'forwarding', entry });
    assert.deepEqual(readNeighbourEvent({ ...message, type: 29, payload: ofEntry }), { event: 'forwarding-gone', entry });
    // RTM_GETNEIGH: the kernel asks whoever answers for the link where an address is.
    assert.equal(readNeighbourEvent({ ...message, type: 30, payload: ofEntry }), undefined);
    assert.equal(readNeighbourEvent({ ...message, type: 28, payload: neighbourMessage(AF_MPLS, plainNeighbour) }), undefined);
  });

  it('have no hardware address while it is not known, or where it is an IP address', () => {
    const without = neighbourMessage(AF_INET, (writer) => data(writer, 1, [192, 0, 2, 9]));
    assert.deepEqual(readNeighbour(without), { ...neighbour, mac: undefined });
    const tunnel = neighbourMessage(AF_INET, (writer) => {
      data(writer, 1, [192, 0, 2, 9]);
      data(writer, 2, [198, 51, 100, 1]);
    });
    assert.equal(readNeighbour(tunnel)?.mac, undefined);
  });

  it('have a destination of either family, or none', () => {
    const to = (content: number[] | undefined): ForwardingEntry['destination'] =>
      readForwarding(
        neighbourMessage(AF_BRIDGE, (writer) => {
          data(writer, 2, MAC);
          if (content !== undefined) data(writer, 1, content);
        }),
      )?.destination;
    assert.equal(to([192, 0, 2, 1]), ipv4(0xc0000201));
    assert.equal(to(DOCUMENTATION6), ipv6(0x2001_0db8_0000_0000_0000_0000_0000_0001n));
    assert.equal(to(undefined), undefined);
    assert.throws(() => to([1, 2, 3]), MalformedError);
  });

  it('are refused where something is missing or of the wrong length', () => {
    const six = (writer: MessageWriter): void => data(writer, 2, MAC);
    assert.throws(() => readNeighbour(new Uint8Array(11)), MalformedError);
    assert.throws(() => readNeighbour(neighbourMessage(AF_INET, six)), MalformedError);
    assert.throws(() => readNeighbour(neighbourMessage(AF_INET6, plainNeighbour)), MalformedError);
    assert.throws(() => readForwarding(neighbourMessage(AF_BRIDGE, (writer) => data(writer, 1, [192, 0, 2, 1]))), MalformedError);
    assert.throws(() => readForwarding(neighbourMessage(AF_BRIDGE, (writer) => data(writer, 2, [1, 2, 3, 4]))), MalformedError);
  });
});

describe('rtnetlink messages about routes and neighbours', () => {
  it('make the readers throw nothing but MalformedError, whatever their bytes', () => {
    const onlyMalformed = (read: () => unknown): void => {
      try {
        read();
      } catch (error) {
        assert.ok(error instanceof MalformedError, `threw ${String(error)}`);
      }
    };
    const readEvent = (payload: Uint8Array): unknown => readNeighbourEvent({ ...message, type: 28, payload });
    for (const [read, whole] of [
      [readRoute, routeMessage(plainRoute)],
      [readRoute, routeMessage(multipathRoute)],
      [readRoute, routeMessage(viaRoute)],
      [readEvent, neighbourMessage(AF_INET, plainNeighbour)],
      [readEvent, neighbourMessage(AF_BRIDGE, forwardingEntry)],
    ] as const) {
      fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (random) => onlyMalformed(() => read(random))));
      fc.assert(
        fc.property(fc.nat({ max: whole.length - 1 }), fc.nat({ max: 255 }), (at, value) => {
          onlyMalformed(() => read(whole.subarray(0, at)));
          const changed = whole.slice();
          changed[at] = value;
          onlyMalformed(() => read(changed));
        }),
        { numRuns: 1000 },
      );
    }
  });
});
