import assert from 'node:assert/strict';
import { SluiceError } from '../../../src/errors.ts';
import { formatLeaseFile, readLeaseFile } from '../../../src/network/lease-file.ts';
import { formatPrefix, parseAddress, parsePrefix } from '../../../src/policy/address.ts';

const VXLAN = { VNI: 1, VtepMAC: 'aa:bb:cc:dd:ee:ff' };
const FULL = { node: 'b', subnet: '10.244.2.0/24', publicIP: '192.0.2.2', backendType: 'vxlan', backendData: VXLAN };

const read = (value: unknown, families: readonly (4 | 6)[] = [4]) => readLeaseFile(JSON.stringify(value), 'dir/b.json', 'b', families);

describe('the file of a lease', () => {
  it('is read as what a node has told', () => {
    const { lease, subnets } = read(FULL);
    assert.equal(formatPrefix(subnets.v4 ?? assert.fail()), '10.244.2.0/24');
    assert.deepEqual(lease, {
      node: 'b',
      backendType: 'vxlan',
      v4: { subnet: { address: 0x0af4_0200, length: 24 }, publicAddress: parseAddress('192.0.2.2'), data: VXLAN },
      v6: undefined,
    });
  });

  it('has no lease while nothing but a subnet is in it', () => {
    for (const [file, families] of [
      [{ subnet: '10.244.2.0/24' }, [4]],
      [{ node: 'b', ipv6Subnet: 'fd00::/64', publicIP: '192.0.2.2' }, [4, 6]],
      [{}, [4]],
    ] as const) {
      assert.equal(read(file, families).lease, undefined);
    }
    assert.equal(formatPrefix(read({ ipv6Subnet: 'fd00:1::/64' }).subnets.v6 ?? assert.fail()), 'fd00:1::/64');
  });

  it('has only the families of the network, and what is there of them', () => {
    const both = { ...FULL, ipv6Subnet: 'fd00:2::/64', publicIPv6: '2001:db8::2', backendV6Data: VXLAN };
    assert.equal(read(both).lease?.v6, undefined);
    assert.ok(read(both, [4, 6]).lease?.v6 !== undefined);
    assert.equal(read(both, [6]).lease?.v4, undefined);
    const { lease } = read(FULL, [4, 6]);
    assert.ok(lease?.v4 !== undefined && lease.v6 === undefined);
  });

  it('is written as it is read', () => {
    const data = { VNI: 7, VtepMAC: '0a:00:00:00:00:01' };
    const family = (subnet: string, address: string) => ({
      subnet: parsePrefix(subnet) ?? assert.fail(),
      publicAddress: parseAddress(address) ?? assert.fail(),
      data,
    });
    for (const [v4, v6] of [
      [family('10.244.2.0/24', '192.0.2.2'), undefined],
      [undefined, family('fd00:2::/64', '2001:db8::2')],
      [family('10.244.2.0/24', '192.0.2.2'), family('fd00:2::/64', '2001:db8::2')],
    ] as const) {
      const lease = { node: 'b', backendType: 'vxlan', v4, v6 };
      assert.deepEqual(readLeaseFile(formatLeaseFile(lease), 'x', 'b', [4, 6]).lease, lease);
    }
    const hostGw = formatLeaseFile({
      node: 'b',
      backendType: 'host-gw',
      v4: { ...family('10.244.2.0/24', '192.0.2.2'), data: null },
      v6: undefined,
    });
    assert.equal(hostGw, '{\n  "node": "b",\n  "subnet": "10.244.2.0/24",\n  "publicIP": "192.0.2.2",\n  "backendType": "host-gw"\n}\n');
  });

  describe('is refused, by its field,', () => {
    const cases: readonly (readonly [text: string, expected: RegExp])[] = [
      ['{', /it is no JSON: /],
      ['[]', /dir\/b\.json: expected an object$/],
      ['null', /dir\/b\.json: expected an object$/],
      ['{"node":"c"}', /node: expected "b", as the file is called, not "c"$/],
      ['{"subnett":"10.244.2.0/24"}', /there is no field "subnett"; known: node, subnet, ipv6Subnet, /],
      ['{"subnet":"10.244.2.5/24"}', /subnet: expected a block of IPv4 addresses such as "10\.244\.1\.0\/24", not "10\.244\.2\.5\/24"$/],
      ['{"subnet":"fd00::/64"}', /subnet: expected a block of IPv4 addresses/],
      ['{"subnet":24}', /subnet: expected a block of IPv4 addresses/],
      ['{"ipv6Subnet":"10.244.2.0/24"}', /ipv6Subnet: expected a block of IPv6 addresses/],
      ['{"publicIP":"127.0.0.1"}', /publicIP: expected the IPv4 address of a node, not "127\.0\.0\.1"$/],
      ['{"publicIPv6":null}', /publicIPv6: expected the IPv6 address of a node$/],
      ['{"backendType":1}', /backendType: expected a text$/],
      [JSON.stringify({ ...FULL, backendData: '{"VNI":1}' }), /backendData: expected \{"VNI":1,"VtepMAC":/],
      [JSON.stringify({ ...FULL, backendType: 'wireguard' }), /backendData: expected \{"PublicKey":/],
    ];
    for (const [text, expected] of cases) {
      it(text, () => {
        assert.throws(
          () => readLeaseFile(text, 'dir/b.json', 'b', [4, 6]),
          (error) => error instanceof SluiceError && error.code === 'LEASE_FILE_INVALID' && expected.test(error.message),
        );
      });
    }
  });
});
