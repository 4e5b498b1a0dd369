/** The texts are those that flannel v0.28.4 writes (WriteSubnetFile). */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { formatSubnetEnv, parseSubnetEnv, type SubnetEnvFamily } from '../../../src/network/subnet-env.ts';
import { formatPrefix, ipv4, ipv6, networkAddress, parsePrefix } from '../../../src/policy/address.ts';

function family(network: string, subnet: string): SubnetEnvFamily {
  return { network: parsePrefix(network) ?? assert.fail(), subnet: parsePrefix(subnet) ?? assert.fail() };
}

const V4 = family('10.244.0.0/16', '10.244.1.0/24');
const V6 = family('fd00:10:244::/56', 'fd00:10:244::/64');
const V4_LINES = 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n';
const V6_LINES = 'FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244::1/64\n';
const END = 'FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n';

describe('subnet.env', () => {
  it('is written byte for byte as flanneld does', () => {
    assert.equal(formatSubnetEnv({ v4: V4, v6: undefined, mtu: 1450, ipMasq: true }), V4_LINES + END);
    assert.equal(formatSubnetEnv({ v4: V4, v6: V6, mtu: 1450, ipMasq: true }), V4_LINES + V6_LINES + END);
    assert.equal(formatSubnetEnv({ v4: undefined, v6: V6, mtu: 1450, ipMasq: true }), V6_LINES + END);
    assert.match(formatSubnetEnv({ v4: V4, v6: undefined, mtu: 1500, ipMasq: false }), /FLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n$/);
  });

  it('says again what it was written with', () => {
    const block4 = fc
      .tuple(fc.nat(0xffff_ffff), fc.integer({ min: 1, max: 30 }))
      .map(([address, length]) => ({ address: networkAddress(ipv4(address), length), length }));
    const block6 = fc
      .tuple(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 1, max: 126 }))
      .map(([address, length]) => ({ address: networkAddress(ipv6(address), length), length }));
    fc.assert(
      fc.property(
        fc.option(fc.record({ network: block4, subnet: block4 }, { noNullPrototype: true }), { nil: undefined }),
        fc.option(fc.record({ network: block6, subnet: block6 }, { noNullPrototype: true }), { nil: undefined }),
        fc.integer({ min: 68, max: 65_535 }),
        fc.boolean(),
        (v4, v6, mtu, ipMasq) => {
          assert.deepEqual(parseSubnetEnv(formatSubnetEnv({ v4, v6, mtu, ipMasq })), { v4: v4 ?? {}, v6: v6 ?? {}, mtu, ipMasq });
        },
      ),
    );
  });

  it('is read as a shell would read it', () => {
    const text =
      '# by hand\r\nexport FLANNEL_NETWORK="10.244.0.0/16" # all\n FLANNEL_SUBNET = \'10.244.1.1/24\'\nFLANNEL_MTU=1400 # less\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\r\nOTHER=1';
    const { v4, v6, mtu, ipMasq } = parseSubnetEnv(text);
    assert.equal(formatPrefix(v4.network ?? assert.fail()), '10.244.0.0/16');
    assert.equal(formatPrefix(v4.subnet ?? assert.fail()), '10.244.1.0/24');
    assert.deepEqual([v6, mtu, ipMasq], [{}, 1450, false]);
  });

  it('says nothing where it cannot be read', () => {
    const nothing = { v4: {}, v6: {}, mtu: undefined, ipMasq: undefined };
    const texts = ['', 'x', 'FLANNEL_MTU', 'FLANNEL_MTU=\n', 'FLANNEL_MTU=-1', 'FLANNEL_IPMASQ=yes', '#FLANNEL_MTU=1450', '\u0000'];
    // A network of each family in the other's place, and several subnets, which flanneld does not take either.
    const more = [
      'FLANNEL_NETWORK=fd00::/56',
      'FLANNEL_IPV6_SUBNET=10.0.0.1/24',
      'FLANNEL_SUBNET=10.0.0.1/24,10.0.1.1/24',
      'FLANNEL_SUBNET="10.0.0.1',
    ];
    for (const text of [...texts, ...more]) assert.deepEqual(parseSubnetEnv(text), nothing, JSON.stringify(text));
  });
});
