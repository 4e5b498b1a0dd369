/**
 * Messages to and from WireGuard as bytes. Those to it are what wgctrl writes, flannel's own library (v0.0.0-20230429144221), for
 * the same settings; those from it are built like drivers/net/wireguard/netlink.c of the kernel builds them, and mean what wgctrl
 * reads in them.
 */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { MalformedError, MessageWriter } from 'nftables-js';
import { SecretKey } from '../../../src/network/wireguard/keys.ts';
import {
  type DeviceChange,
  DeviceReader,
  type DeviceState,
  type PeerChange,
  splitChange,
  writeChange,
} from '../../../src/network/wireguard/messages.ts';
import { type Address, formatAddress, formatPrefix, parseAddress, parsePrefix, type Prefix } from '../../../src/policy/address.ts';

const DEVICE =
  '0f000200666c616e6e656c2d7767000024000300404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f06000600' +
  '6cca00000800070000000000';
const ADDED =
  '0f000200666c616e6e656c2d776700003401088090000080240001000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c' +
  '1d1e1f20080003000200000024000200808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f140004000200ca6c' +
  'ac12006600000000000000000600050019000000200009801c0000800600010002000000080002000af402000500030018000000a0000180' +
  '2400010002030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20210800030002000000200004000a00ca6d00000000' +
  'fd000172001800000000000000000067000000000600050000000000480009801c0000800600010002000000080002000af4030005000300' +
  '1800000028000180060001000a00000014000200fd0000100244000300000000000000000500030040000000';
const UPDATED =
  '0f000200666c616e6e656c2d77670000b800088054000080240001000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c' +
  '1d1e1f2008000300040000002400020000000000000000000000000000000000000000000000000000000000000000003000018024000100' +
  '02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202108000300060000003000028024000100030405060708090a' +
  '0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021220800030001000000';
/** A device with two peers, the second of which goes on in {@link FURTHER}. */
const FIRST =
  '060006006cca0000080007003412000008000100070000000f000200666c616e6e656c2d7767000024000300404142434445464748494a4b' +
  '4c4d4e4f505152535455565758595a5b5c5d5e5f2400040079a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a' +
  '88010880bc000080240001000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20240002008081828384858687' +
  '88898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f1400060000f1536500000000b168de3a0000000006000500190000000c000800' +
  '07000000000000000c000700090000000000000008000a0001000000140004000200ca6cac1200660000000000000000200009801c000080' +
  '05000300180000000600010002000000080002000af40200c80000802400010002030405060708090a0b0c0d0e0f10111213141516171819' +
  '1a1b1c1d1e1f2021240002000000000000000000000000000000000000000000000000000000000000000000140006000000000000000000' +
  'b168de3a0000000006000500000000000c00080007000000000000000c000700090000000000000008000a0001000000200004000a00ca6d' +
  '00000000fd00017200180000000000000000006703000000200009801c00008005000300180000000600010002000000080002000af40300';
const FURTHER =
  '0f000200666c616e6e656c2d77670000fc000880700000802400010002030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d' +
  '1e1f202148000980280000800500030040000000060001000a00000014000200fd0000100244000300000000000000001c00008005000300' +
  '00000000060001000200000008000200000000008800008024000100030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e' +
  '1f202122240002000000000000000000000000000000000000000000000000000000000000000000140006000000000000000000b168de3a' +
  '0000000006000500ffff00000c00080007000000000000000c000700090000000000000008000a0001000000';

/** 32 bytes: first, first + 1 … */
function bytes(first: number): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, index) => first + index);
}

const key = (first: number): string => Buffer.from(bytes(first)).toString('base64');
const secret = (first: number): SecretKey => SecretKey.of(bytes(first));
const address = (text: string): Address => parseAddress(text) ?? assert.fail(text);
const prefix = (text: string): Prefix => parsePrefix(text) ?? assert.fail(text);

function written(change: DeviceChange): string {
  const writer = new MessageWriter(16);
  writeChange(writer, 'flannel-wg', change);
  return Buffer.from(writer.bytes()).toString('hex');
}

function read(...messages: readonly Uint8Array[]): DeviceState {
  const reader = new DeviceReader();
  for (const message of messages) reader.add(message);
  return reader.finish();
}

const unhex = (text: string): Uint8Array => Buffer.from(text, 'hex');

describe('a change of a WireGuard device', () => {
  it('of key, port and mark has the bytes of wgctrl', () => {
    assert.equal(written({ privateKey: secret(0x40), listenPort: 51_820, fwmark: 0, peers: [] }), DEVICE);
  });

  it('that adds peers has the bytes of wgctrl, for endpoints and subnets of both families', () => {
    const first: PeerChange = {
      publicKey: key(1),
      action: 'add',
      presharedKey: secret(0x80),
      endpoint: { address: address('172.18.0.102'), port: 51_820 },
      keepalive: 25,
      allowed: [prefix('10.244.2.0/24')],
    };
    const second: PeerChange = {
      publicKey: key(2),
      action: 'add',
      endpoint: { address: address('fd00:172:18::67'), port: 51_821 },
      keepalive: 0,
      allowed: [prefix('10.244.3.0/24'), prefix('fd00:10:244:3::/64')],
    };
    assert.equal(written({ peers: [first, second] }), ADDED);
  });

  it('that changes and removes peers has the bytes of wgctrl: what stays is not named', () => {
    const peers: PeerChange[] = [
      { publicKey: key(1), action: 'update', presharedKey: 'none' },
      { publicKey: key(2), action: 'update', allowed: [] },
      { publicKey: key(3), action: 'remove' },
    ];
    assert.equal(written({ peers }), UPDATED);
  });

  it('of many peers goes into several messages that the kernel takes, and settings of the device into the first alone', () => {
    const peers: PeerChange[] = Array.from({ length: 1_000 }, (_, index) => ({
      publicKey: Buffer.from(Uint8Array.from({ length: 32 }, (_unused, at) => index >> (at * 8))).toString('base64'),
      action: 'add',
      presharedKey: secret(1),
      endpoint: { address: address('fd00:172:18::67'), port: 51_821 },
      keepalive: 25,
      allowed: [prefix('10.244.3.0/24'), prefix('fd00:10:244:3::/64')],
    }));
    const parts = splitChange({ listenPort: 1, peers });
    assert.deepEqual(
      parts.flatMap((part) => part.peers),
      peers,
    );
    assert.ok(parts.length > 1);
    assert.deepEqual(
      parts.map(({ listenPort }) => listenPort),
      [1, ...parts.slice(1).map(() => undefined)],
    );
    // A list of attributes has 16 bits for its length; the writer refuses what does not fit.
    for (const part of parts) assert.ok(written(part).length / 2 < 65_536);
    assert.deepEqual(splitChange({ listenPort: 1, peers: [] }), [{ listenPort: 1, peers: [] }]);
  });
});

describe('what the kernel says of a WireGuard device', () => {
  it('is put together from several messages, also a peer that goes on in the next', () => {
    const { privateKey, listenPort, fwmark, peers } = read(unhex(FIRST), unhex(FURTHER));
    assert.ok(privateKey?.equals(secret(0x40)));
    assert.deepEqual([listenPort, fwmark], [51_820, 0x1234]);
    const found = [...peers].map(([name, { publicKey, presharedKey, endpoint, keepalive, handshakeAt, allowed }]) => {
      assert.equal(name, publicKey);
      const at = endpoint === undefined ? 'none' : `${formatAddress(endpoint.address)} ${endpoint.port}`;
      return [publicKey, presharedKey?.equals(secret(0x80)), at, keepalive, handshakeAt, allowed.map(formatPrefix)];
    });
    assert.deepEqual(found, [
      [key(1), true, '172.18.0.102 51820', 25, 1_700_000_000, ['10.244.2.0/24']],
      [key(2), undefined, 'fd00:172:18::67 51821', 0, 0, ['10.244.3.0/24', 'fd00:10:244:3::/64', '0.0.0.0/0']],
      [key(3), undefined, 'none', 65_535, 0, []],
    ]);
  });

  it('is nothing where no message came', () => {
    assert.throws(() => read(), MalformedError);
  });

  it('is read or refused, whatever is wrong with it: cut short, or with other bytes', () => {
    const whole = unhex(FIRST);
    const onlyMalformed = (message: Uint8Array): void => {
      try {
        read(message);
      } catch (error) {
        assert.ok(error instanceof MalformedError, String(error));
      }
    };
    for (let length = 0; length < whole.length; length++) onlyMalformed(whole.subarray(0, length));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (damages) => {
        const damaged = whole.slice();
        for (const [at, value] of damages) damaged[at] = value;
        onlyMalformed(damaged);
      }),
      { numRuns: 2_000 },
    );
  });
});
