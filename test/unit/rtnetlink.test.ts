/** Messages about links and addresses as bytes. That the kernel means this by them is proven by test/kernel/rtnetlink.test.ts. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { MalformedError, MessageWriter } from 'nftables-js';
import { readAddress, readAddressEvent } from '../../src/rtnetlink/addresses.ts';
import { ipv4, ipv6 } from '../../src/policy/address.ts';
import { bridgeFilteringAvailable, type Link, readLink, readLinkEvent } from '../../src/rtnetlink/links.ts';

const AF_BRIDGE = 7;

function bridgeData(writer: MessageWriter): void {
  writer.u8(36, 1);
  writer.u8(37, 0);
}

function linkMessage(family: number, kind = 'bridge', writeData = bridgeData, hardwareAddress = [2, 0, 0x5e, 0x10, 0, 0xff]): Uint8Array {
  const writer = new MessageWriter();
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setUint8(0, family);
  view.setInt32(4, 70_000, true);
  view.setUint32(8, 0x1003, true);
  writer.raw(header);
  writer.string(3, 'br-shop');
  writer.u32(4, 1450);
  writer.data(1, new Uint8Array(hardwareAddress));
  writer.u32(10, 9);
  const info = writer.beginNested(18);
  writer.string(1, kind);
  const data = writer.beginNested(2);
  writeData(writer);
  writer.endNested(data);
  writer.endNested(info);
  return writer.bytes();
}

function addressMessage(family: number, attributes: [type: number, bytes: number[]][]): Uint8Array {
  const writer = new MessageWriter();
  writer.raw(new Uint8Array([family, 24, 0x80, 253, 3, 0, 0, 0]));
  for (const [type, bytes] of attributes) writer.data(type, new Uint8Array(bytes));
  return writer.bytes();
}

/** What {@link linkMessage} says of a link of no kind that is known here. Its flags are IFF_UP, IFF_BROADCAST and IFF_MULTICAST. */
const shopLink: Link = {
  index: 70_000,
  name: 'br-shop',
  kind: 'other',
  master: 9,
  up: true,
  running: false,
  mtu: 1450,
  address: '02:00:5e:10:00:ff',
  bridge: undefined,
  vxlan: undefined,
  ipip: undefined,
};

function vxlanData(writer: MessageWriter): void {
  writer.u32(1, 4096);
  writer.data(2, new Uint8Array([239, 0, 0, 1]));
  writer.u32(3, 2);
  writer.data(4, new Uint8Array([192, 0, 2, 1]));
  writer.u8(7, 1);
  writer.be16(15, 8472);
  writer.flag(23);
}

function tunnelData(writer: MessageWriter): void {
  writer.data(2, new Uint8Array([192, 0, 2, 1]));
  writer.data(3, new Uint8Array([0, 0, 0, 0]));
}

function onlyMalformed(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof MalformedError, `threw ${String(error)}`);
  }
}

const message = { flags: 0, sequence: 0, port: 0 };

describe('rtnetlink messages', () => {
  it('reads a bridge and its flags', () => {
    const link: Link = { ...shopLink, kind: 'bridge', bridge: { iptables: true, ip6tables: false } };
    assert.deepEqual(readLink(linkMessage(0)), link);
    assert.deepEqual(readLinkEvent({ ...message, type: 16, payload: linkMessage(0) }), { event: 'link', link });
    assert.deepEqual(readLinkEvent({ ...message, type: 17, payload: linkMessage(0) }), { event: 'gone', index: 70_000, name: 'br-shop' });
  });

  it('reads the settings of a VXLAN link, of IPv4 and of IPv6', () => {
    assert.deepEqual(readLink(linkMessage(0, 'vxlan', vxlanData)), {
      ...shopLink,
      kind: 'vxlan',
      vxlan: { vni: 4096, port: 8472, local: ipv4(0xc0000201), remote: ipv4(0xef000001), underlay: 2, learning: true, gbp: true },
    });
    const data6 = (writer: MessageWriter): void => {
      writer.u32(1, 1);
      writer.be16(15, 4789);
      writer.data(17, new Uint8Array([0x20, 1, 0xd, 0xb8, ...Array<number>(11).fill(0), 1]));
      writer.u8(7, 0);
    };
    const local = ipv6(0x2001_0db8_0000_0000_0000_0000_0000_0001n);
    assert.deepEqual(readLink(linkMessage(0, 'vxlan', data6))?.vxlan, {
      vni: 1,
      port: 4789,
      local,
      remote: undefined,
      underlay: undefined,
      learning: false,
      gbp: false,
    });
  });

  it('reads the ends of a tunnel, of which 0.0.0.0 is none, and takes its own address for no hardware address', () => {
    assert.deepEqual(readLink(linkMessage(0, 'ipip', tunnelData, [192, 0, 2, 1])), {
      ...shopLink,
      kind: 'ipip',
      address: undefined,
      ipip: { local: ipv4(0xc0000201), remote: undefined },
    });
    assert.equal(readLink(linkMessage(0, 'wireguard', () => {}, []))?.address, undefined);
  });

  it('does not take the end of a port for the end of a link', () => {
    assert.equal(readLinkEvent({ ...message, type: 17, payload: linkMessage(AF_BRIDGE) }), undefined);
    assert.equal(readLinkEvent({ ...message, type: 16, payload: linkMessage(AF_BRIDGE) }), undefined);
  });

  it('reads the own end of a point-to-point link, not the other', () => {
    const payload = addressMessage(2, [
      [1, [192, 0, 2, 2]],
      [2, [192, 0, 2, 1]],
    ]);
    const address = { family: 4, address: ipv4(0xc0000201), prefixLength: 24, link: 3, scope: 'link', flags: 0x80 };
    assert.deepEqual(readAddress(payload), address);
    assert.deepEqual(readAddressEvent({ ...message, type: 21, payload }), { event: 'gone', address });
  });

  it('reads the flags that do not fit into the header', () => {
    const payload = addressMessage(2, [
      [1, [192, 0, 2, 1]],
      [8, [0x80, 0x02, 0, 0]],
    ]);
    assert.equal(readAddress(payload)?.flags, 0x280);
  });

  it('refuses an address of the wrong length, and passes over other families', () => {
    assert.throws(() => readAddress(addressMessage(10, [[1, [192, 0, 2, 1]]])), MalformedError);
    assert.equal(readAddress(addressMessage(28, [])), undefined);
  });

  it('throws nothing but MalformedError on bytes of any kind', () => {
    const address = addressMessage(2, [
      [1, [192, 0, 2, 2]],
      [8, [0x80, 0x02, 0, 0]],
    ]).slice();
    for (const [read, whole] of [
      [readLink, linkMessage(0).slice()],
      [readLink, linkMessage(0, 'vxlan', vxlanData).slice()],
      [readLink, linkMessage(0, 'ipip', tunnelData).slice()],
      [readAddress, address],
    ] as const) {
      fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => onlyMalformed(() => read(bytes))));
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

  it('says whether br_netfilter is there by its sysctls', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sysctl-'));
    assert.equal(bridgeFilteringAvailable(directory), false);
    mkdirSync(join(directory, 'net', 'bridge'), { recursive: true });
    assert.equal(bridgeFilteringAvailable(directory), true);
    rmSync(directory, { recursive: true });
  });
});
