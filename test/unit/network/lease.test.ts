import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import {
  expectedData,
  formatVxlanData,
  formatWireguardData,
  type Lease,
  liesWithin,
  readHostAddress,
  sameLease,
  vxlanData,
  wireguardData,
} from '../../../src/network/lease.ts';
import { contains } from '../../../src/policy/ranges.ts';
import { type Prefix, ipv4, networkAddress, parseAddress, parsePrefix, prefixRange } from '../../../src/policy/address.ts';

const KEY = Buffer.alloc(32, 0xfb).toString('base64');

function prefix(text: string): Prefix {
  return parsePrefix(text) ?? assert.fail(text);
}

describe('what vxlan says of itself', () => {
  it('is written in the bytes of flanneld, which finds its own address in them again', () => {
    const text = formatVxlanData({ vni: 1, mac: 'aa:bb:cc:dd:ee:ff' });
    assert.equal(text, '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}');
    // GetStoredMacAddresses: strings.Split(strings.Trim(data, "\"}"), ":\""), and two parts wanted.
    const parts = text.replaceAll(/^["}]+|["}]+$/g, '').split(':"');
    assert.equal(parts.length, 2);
    assert.equal(parts[1], 'aa:bb:cc:dd:ee:ff');
  });

  it('is read with names in any case and addresses in every form of net.ParseMAC', () => {
    const expected = { vni: 7, mac: '0a:bb:cc:dd:ee:ff' };
    for (const mac of ['0a:bb:cc:dd:ee:ff', '0A:BB:CC:DD:EE:FF', '0a-bb-cc-dd-ee-ff', '0abb.ccdd.eeff']) {
      assert.deepEqual(vxlanData({ VNI: 7, VtepMAC: mac }), expected);
      assert.deepEqual(vxlanData({ vni: 7, vtepmac: mac }), expected);
    }
    assert.deepEqual(vxlanData({ VtepMAC: '0a:bb:cc:dd:ee:ff' }), { vni: 0, mac: '0a:bb:cc:dd:ee:ff' });
  });

  it('is nothing without the address of one interface', () => {
    const macs = ['', '0a:bb:cc:dd:ee', '0a:bb:cc:dd:ee:ff:00:11', '0a:bb-cc:dd:ee:ff', '0a:bb:cc:dd:ee:fg', 5, null];
    for (const mac of [...macs, '00:00:00:00:00:00', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff']) {
      assert.equal(vxlanData({ VNI: 1, VtepMAC: mac }), undefined, String(mac));
    }
    for (const data of [
      undefined,
      null,
      'x',
      [],
      {},
      { VNI: -1, VtepMAC: '0a:bb:cc:dd:ee:ff' },
      { VNI: '1', VtepMAC: '0a:bb:cc:dd:ee:ff' },
    ]) {
      assert.equal(vxlanData(data), undefined);
    }
  });
});

describe('what wireguard says of itself', () => {
  it('is written and read', () => {
    assert.equal(formatWireguardData({ publicKey: KEY, port: 51_820 }), `{"PublicKey":"${KEY}","Port":51820}`);
    assert.deepEqual(wireguardData({ publickey: KEY, PORT: 51_820 }), { publicKey: KEY, port: 51_820 });
  });

  it('has no port where an older flannel says none', () => {
    assert.deepEqual(wireguardData({ PublicKey: KEY }), { publicKey: KEY, port: undefined });
    assert.deepEqual(wireguardData({ PublicKey: KEY, Port: 0 }), { publicKey: KEY, port: undefined });
  });

  it('is nothing without a key of 32 bytes', () => {
    const short = Buffer.alloc(31).toString('base64');
    // The last letter has bits that 32 bytes do not have.
    for (const key of ['', short, KEY.slice(0, -1), `${KEY.slice(0, -2)}/=`, 5, null])
      assert.equal(wireguardData({ PublicKey: key }), undefined);
    for (const port of [-1, 65_536, '1']) assert.equal(wireguardData({ PublicKey: KEY, Port: port }), undefined);
  });

  it('is any key of 32 bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const key = Buffer.from(bytes).toString('base64');
        assert.equal(wireguardData({ PublicKey: key })?.publicKey, key);
      }),
    );
  });
});

describe('a lease', () => {
  const lease = (data: unknown, length = 24): Lease => ({
    node: 'a',
    backendType: 'vxlan',
    v4: { subnet: { address: ipv4(0x0af4_0100), length }, publicAddress: ipv4(0xc000_0201), data },
    v6: undefined,
  });

  it('is the same only with the same data', () => {
    assert.ok(sameLease(lease({ VNI: 1, VtepMAC: 'x' }), lease({ VtepMAC: 'x', VNI: 1 })));
    assert.ok(!sameLease(lease({ VNI: 1 }), lease({ VNI: 2 })));
    assert.ok(!sameLease(lease(null), lease(null, 25)));
    assert.ok(!sameLease(lease(null), undefined));
    assert.ok(sameLease(undefined, undefined));
  });

  it('tells what data should look like of the backends that have any', () => {
    assert.equal(expectedData('vxlan', null), '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}');
    assert.equal(expectedData('wireguard', { PublicKey: 'x' }), '{"PublicKey":"…","Port":51820}');
    assert.equal(expectedData('vxlan', { VtepMAC: '0a:bb:cc:dd:ee:ff' }), undefined);
    for (const type of ['host-gw', 'ipip', '', 'anything']) assert.equal(expectedData(type, undefined), undefined);
  });

  it('lies within a network if all of its addresses do', () => {
    const block = fc
      .tuple(fc.nat(0xffff_ffff), fc.integer({ min: 1, max: 32 }))
      .map(([address, length]): Prefix => ({ address: networkAddress(ipv4(address), length), length }));
    const nested = fc.tuple(block, fc.nat(0xffff), fc.nat(8)).map(([outer, more, longer]): [Prefix, Prefix] => {
      const length = Math.min(32, outer.length + longer);
      return [{ address: networkAddress(ipv4(((outer.address as number) + more) % 2 ** 32), length), length }, outer];
    });
    fc.assert(
      fc.property(fc.oneof(nested, fc.tuple(block, block)), ([inner, outer]) => {
        const { first, last } = prefixRange(inner);
        const whole = [prefixRange(outer)];
        // Blocks overlap only by containing one another, so the ends tell it all, but for an outer that lies inside.
        assert.equal(liesWithin(inner, outer), contains(whole, first) && contains(whole, last));
      }),
    );
    assert.ok(!liesWithin(prefix('::/64'), prefix('0.0.0.0/1')));
  });

  it('is sent to an address of one node', () => {
    assert.equal(readHostAddress('192.0.2.1', 4), parseAddress('192.0.2.1'));
    assert.equal(readHostAddress('fe80::1', 6), parseAddress('fe80::1'));
    const wrong = ['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', '10.0.0', '010.0.0.1', '::1', 'fd00::1', ''];
    for (const text of wrong) assert.equal(readHostAddress(text, 4), undefined, text);
    for (const text of ['::', '::1', 'ff02::1', '192.0.2.1', '::ffff:192.0.2.1', 'fe80::1%eth0'])
      assert.equal(readHostAddress(text, 6), undefined, text);
  });
});
