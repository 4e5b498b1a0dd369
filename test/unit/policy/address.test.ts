/** Addresses and prefixes: what is read, what is refused, and the text and bytes of each. */
import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import * as fc from 'fast-check';
import {
  addressBytes,
  addressFromBytes,
  compareAddresses,
  familyOf,
  formatAddress,
  formatPrefix,
  ipv4,
  ipv6,
  isIPv4Mapped,
  networkAddress,
  parseAddress,
  parsePrefix,
  prefixRange,
  readPrefix,
} from '../../../src/policy/address.ts';
import { address, prefix } from './model.ts';

const v4 = fc.oneof(fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff), fc.nat(0xffff_ffff)).map(ipv4);
const top6 = (1n << 128n) - 1n;
const v6 = fc.oneof(fc.constantFrom(0n, 1n, 1n << 127n, top6, 0xffff_0a00_0001n), fc.bigInt({ min: 0n, max: top6 })).map(ipv6);
const anyAddress = fc.oneof(v4, v6);

describe('parseAddress', () => {
  it('reads IPv4 into its number', () => {
    assert.equal(parseAddress('0.0.0.0'), 0);
    assert.equal(parseAddress('10.0.0.1'), 167_772_161);
    assert.equal(parseAddress('255.255.255.255'), 4_294_967_295);
  });

  it('reads IPv6 into its bigint', () => {
    assert.equal(parseAddress('::'), 0n);
    assert.equal(parseAddress('::1'), 1n);
    assert.equal(parseAddress('1::'), 1n << 112n);
    assert.equal(parseAddress('FD00:0:0:0:0:0:0:A'), (0xfd00n << 112n) + 10n);
    assert.equal(parseAddress('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'), top6);
    assert.equal(parseAddress('1:2:3:4:5:6:7::'), parseAddress('1:2:3:4:5:6:7:0'));
    assert.equal(parseAddress('::ffff:10.0.0.1'), 0xffff_0a00_0001n);
    assert.equal(parseAddress('64:ff9b:0:0:0:0:10.0.0.1'), (0x64_ff9bn << 96n) + 0x0a00_0001n);
  });

  const REFUSED = {
    'too little or too much': ['', ' ', '1', '1.2.3', '1.2.3.4.5', '1.2.3.', '.1.2.3', '1..2.3', '256.0.0.1', '1.2.3.1000', '10.0.0.1/32'],
    'signs and blanks': ['-1.2.3.4', '+1::', '1.2.3.4 ', ' 1.2.3.4', '1.2.3.4\n', '::1\n', '[::1]', '::1%eth0'],
    'leading zeros and other bases': ['01.2.3.4', '1.2.3.00', '0x1.2.3.4', '1e1.2.3.4', '١.2.3.4', '0x1::', '::01.2.3.4'],
    'groups and colons': [
      ':',
      ':::',
      '1::2::3',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      ':1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:',
      '12345::',
      'g::',
    ],
    'an ellipsis that stands for nothing': ['1:2:3:4:5:6:7::8', '::1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8::'],
    'dotted parts out of place': ['1.2.3.4::', '::1.2.3', '::1.2.3.4:5', '1:2:3:4:5:6:7:1.2.3.4', '::1.2.3.4:1.2.3.4'],
  };
  for (const [what, texts] of Object.entries(REFUSED)) {
    it(`refuses ${what}`, () => {
      for (const text of texts) assert.equal(parseAddress(text), undefined, JSON.stringify(text));
    });
  }

  it('agrees with the C library about what is an address', () => {
    const nearly = fc.stringMatching(/^[0-9a-f:.]{0,24}$/);
    const groups = fc.array(fc.constantFrom('', '0', '1', 'ffff', '1.2.3.4'), { maxLength: 9 }).map((parts) => parts.join(':'));
    fc.assert(
      fc.property(fc.oneof(nearly, groups), (text) => assert.equal(parseAddress(text) !== undefined, isIP(text) !== 0, text)),
      { numRuns: 2000 },
    );
  });
});

describe('formatAddress', () => {
  // The examples of RFC 5952, sections 4 and 5, and the edges.
  for (const [text, canonical] of [
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['2001:0DB8::0001', '2001:db8::1'],
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['1:0:0:0:0:0:0:0', '1::'],
    ['0:0:1:1:1:1:1:1', '::1:1:1:1:1:1'],
    ['::ffff:a00:1', '::ffff:10.0.0.1'],
    ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ] as const) {
    it(`writes ${text} as ${canonical}`, () => assert.equal(formatAddress(address(text)), canonical));
  }

  it('is read back as the same address', () => {
    fc.assert(fc.property(anyAddress, (value) => assert.equal(parseAddress(formatAddress(value)), value)));
  });
});

describe('the bytes of an address', () => {
  it('are in network order', () => {
    assert.deepEqual([...addressBytes(address('10.1.2.255'))], [10, 1, 2, 255]);
    const six = addressBytes(address('2001:db8::ff'));
    assert.deepEqual([...six], [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
  });

  it('give the address back, wherever in a buffer they lie', () => {
    fc.assert(
      fc.property(anyAddress, fc.nat(7), (value, offset) => {
        const bytes = addressBytes(value);
        const buffer = new Uint8Array(bytes.length + offset + 3).fill(0xee);
        buffer.set(bytes, offset);
        assert.equal(addressFromBytes(buffer.subarray(offset, offset + bytes.length)), value);
      }),
    );
  });

  it('are refused if they are neither 4 nor 16', () => {
    for (const length of [0, 3, 5, 15, 17]) assert.throws(() => addressFromBytes(new Uint8Array(length)), { code: 'ADDRESS_LENGTH' });
  });
});

describe('numbers', () => {
  it('are refused as addresses where they are none', () => {
    for (const value of [-1, 0.5, 2 ** 32, Number.NaN]) assert.throws(() => ipv4(value), { code: 'ADDRESS_RANGE' });
    for (const value of [-1n, 1n << 128n]) assert.throws(() => ipv6(value), { code: 'ADDRESS_RANGE' });
  });

  it('are ordered by family first: 1.0.0.0 is before ::1, though its number is larger', () => {
    assert.ok(compareAddresses(address('1.0.0.0'), address('::1')) < 0);
    assert.ok(compareAddresses(address('::1'), address('1.0.0.0')) > 0);
    assert.equal(compareAddresses(address('::1'), address('::1')), 0);
    assert.ok(compareAddresses(address('127.255.255.255'), address('128.0.0.0')) < 0);
  });
});

describe('prefixes', () => {
  it('parsePrefix is strict', () => {
    assert.deepEqual(parsePrefix('10.0.0.0/8'), { address: 0x0a00_0000, length: 8 });
    assert.deepEqual(parsePrefix('0.0.0.0/0'), { address: 0, length: 0 });
    assert.deepEqual(parsePrefix('::/0'), { address: 0n, length: 0 });
    assert.deepEqual(parsePrefix('fd00::1/128'), { address: (0xfd00n << 112n) + 1n, length: 128 });
    for (const text of ['10.0.0.5/24', '010.0.0.0/8', '10.0.0.0/08', '10.0.0.0', '10.0.0.0/', '/8', '10.0.0.0/33', '::/129']) {
      assert.equal(parsePrefix(text), undefined, text);
    }
    for (const text of ['10.0.0.0/-1', '10.0.0.0/8/8', '10.0.0.0/ 8', '10.0.0.0/8.0', '10.0.0.0/255.0.0.0', 'fd00::%1/64']) {
      assert.equal(parsePrefix(text), undefined, text);
      assert.equal(readPrefix(text), undefined, text);
    }
  });

  it('readPrefix masks host bits, takes leading zeros as decimal, and tells of both', () => {
    const read = (text: string) => {
      const reading = readPrefix(text);
      return reading && [formatPrefix(reading.prefix), reading.hostBits, reading.leadingZeros];
    };
    assert.deepEqual(read('10.0.0.0/24'), ['10.0.0.0/24', false, false]);
    assert.deepEqual(read('10.0.0.5/24'), ['10.0.0.0/24', true, false]);
    assert.deepEqual(read('010.0.0.0/8'), ['10.0.0.0/8', false, true]);
    assert.deepEqual(read('192.168.010.00001/024'), ['192.168.10.0/24', true, true]);
    assert.deepEqual(read('255.255.255.255/0'), ['0.0.0.0/0', true, false]);
    assert.deepEqual(read('fd00::00001/64'), ['fd00::/64', true, true]);
    assert.deepEqual(read('::ffff:010.0.0.0/104'), ['::ffff:10.0.0.0/104', false, true]);
    assert.deepEqual(read('0256.0.0.0/8'), undefined);
    assert.deepEqual(read('1ffff::/16'), undefined);
  });

  it('cover from the network address to the last one', () => {
    assert.deepEqual(prefixRange(prefix('0.0.0.0/0')), { first: 0, last: 0xffff_ffff });
    assert.deepEqual(prefixRange(prefix('::/0')), { first: 0n, last: top6 });
    assert.deepEqual(prefixRange(prefix('255.255.255.255/32')), { first: 0xffff_ffff, last: 0xffff_ffff });
    assert.deepEqual(prefixRange(prefix('128.0.0.0/1')), { first: 0x8000_0000, last: 0xffff_ffff });
  });

  it('share exactly their leading bits with each of their addresses', () => {
    const bits = (value: number | bigint, width: number): string => value.toString(2).padStart(width, '0');
    fc.assert(
      fc.property(anyAddress, fc.nat(128), (value, cut) => {
        const width = familyOf(value) === 4 ? 32 : 128;
        const length = cut % (width + 1);
        const network = networkAddress(value, length);
        const kept = bits(value, width).slice(0, length);
        assert.equal(bits(network, width), kept.padEnd(width, '0'));
        assert.equal(bits(prefixRange({ address: network, length }).last, width), kept.padEnd(width, '1'));
      }),
    );
  });

  it('are IPv4-mapped only where the whole block is', () => {
    assert.ok(isIPv4Mapped(prefix('::ffff:0:0/96')));
    assert.ok(isIPv4Mapped(prefix('::ffff:10.0.0.0/104')));
    for (const text of ['::/0', '::ffff:0:0/95', '::fffe:0:0/96', '::/96', '0.0.0.0/0']) {
      assert.ok(!isIPv4Mapped(readPrefix(text)?.prefix ?? assert.fail(text)), text);
    }
  });
});
