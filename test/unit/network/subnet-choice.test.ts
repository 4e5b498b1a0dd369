/** Bounds and defaults: flannel v0.28.4 (CheckNetworkConfig) with the same configurations; pkg/subnet/config_test.go among them. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { SluiceError } from '../../../src/errors.ts';
import { type NetConf, parseNetConf } from '../../../src/network/net-conf.ts';
import { freeSubnets, isPlanned, subnetCandidates, subnetPlan } from '../../../src/network/subnet-choice.ts';
import {
  type Family,
  formatAddress,
  formatPrefix,
  ipv4,
  ipv6,
  networkAddress,
  parsePrefix,
  type Prefix,
  prefixRange,
  type Range,
} from '../../../src/policy/address.ts';

function conf(text: string): NetConf {
  return parseNetConf(`{${text},"Backend":{"Type":"vxlan"}}`, 'x');
}

const ONLY_V6 = '"enableIPv4":false,"enableIPv6":true';

function plan(text: string, family: Family = 4): string {
  const { length, first, last } = subnetPlan(conf(text), family);
  return `${length} ${formatAddress(first)} ${formatAddress(last)}`;
}

function fault(text: string, family: Family = 4): string {
  try {
    subnetPlan(conf(text), family);
  } catch (error) {
    assert.ok(error instanceof SluiceError && error.code === 'NET_CONF_INVALID' && error.exitStatus === 2);
    return error.message;
  }
  return assert.fail(`nothing wrong with ${text}`);
}

describe('the subnets of a network', () => {
  it('are cut as flanneld does where nobody says how', () => {
    assert.equal(plan('"network":"10.3.0.0/16"'), '24 10.3.1.0 10.3.255.0');
    assert.equal(plan('"Network":"10.3.0.0/22"'), '24 10.3.1.0 10.3.3.0');
    assert.equal(plan('"Network":"10.3.0.0/23"'), '25 10.3.0.128 10.3.1.128');
    assert.equal(plan('"Network":"10.3.0.0/28"'), '30 10.3.0.4 10.3.0.12');
    assert.equal(plan('"Network":"255.0.0.0/8"'), '24 255.0.1.0 255.255.255.0');
    assert.equal(plan(`${ONLY_V6},"ipv6Network":"fc00::/48"`, 6), '64 fc00:0:0:1:: fc00:0:0:ffff::');
    assert.equal(plan(`${ONLY_V6},"ipv6Network":"fc00::/62"`, 6), '64 fc00:0:0:1:: fc00:0:0:3::');
    assert.equal(plan(`${ONLY_V6},"ipv6Network":"fc00::/63"`, 6), '65 fc00::8000:0:0:0 fc00:0:0:1:8000::');
    assert.equal(plan(`${ONLY_V6},"ipv6Network":"fc00::/124"`, 6), '126 fc00::4 fc00::c');
    assert.equal(plan(`${ONLY_V6},"ipv6Network":"ff00::/8"`, 6), '64 ff00:0:0:1:: ffff:ffff:ffff:ffff::');
  });

  it('are cut as is said', () => {
    assert.equal(plan('"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28'), '28 10.3.5.0 10.3.8.0');
    assert.equal(plan('"Network":"10.3.0.0/16","SubnetLen":18'), '18 10.3.64.0 10.3.192.0');
    assert.equal(plan('"Network":"10.3.0.0/16","SubnetLen":30'), '30 10.3.0.4 10.3.255.252');
    const v6 = '"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:1::","IPv6SubnetMax":"fc00:0:0:f::","IPv6SubnetLen":124';
    assert.equal(plan(`${ONLY_V6},${v6}`, 6), '124 fc00:0:0:1:: fc00:0:0:f::');
    assert.equal(plan(`${ONLY_V6},"IPv6Network":"fc00::/48","IPv6SubnetLen":50`, 6), '50 fc00:0:0:4000:: fc00:0:0:c000::');
  });

  const wrong: readonly (readonly [text: string, family: Family, expected: RegExp])[] = [
    ['"Network":"10.3.0.0/29"', 4, / Network: expected a block of at most 28 bits, not 10\.3\.0\.0\/29/],
    ['"Network":"10.3.0.0/16","SubnetLen":17', 4, / SubnetLen: expected a number from 18 to 30 .*, not 17$/],
    ['"Network":"10.3.0.0/16","SubnetLen":31', 4, / SubnetLen: expected a number from 18 to 30 .*, not 31$/],
    ['"Network":"10.3.0.0/29","SubnetLen":30', 4, / SubnetLen: .*too small for four subnets/],
    [
      '"Network":"10.3.0.0/16","SubnetMin":"10.4.0.0"',
      4,
      / SubnetMin: expected an address of the network 10\.3\.0\.0\/16, not 10\.4\.0\.0$/,
    ],
    ['"Network":"10.3.0.0/16","SubnetMax":"10.4.0.0"', 4, / SubnetMax: expected an address of the network/],
    [
      '"Network":"10.3.0.0/16","SubnetMin":"10.3.5.1"',
      4,
      / SubnetMin: expected the first address of a subnet of 24 bits, not 10\.3\.5\.1$/,
    ],
    ['"Network":"10.3.0.0/16","SubnetMax":"10.3.8.8"', 4, / SubnetMax: expected the first address of a subnet/],
    // flanneld takes it, and finds no subnet.
    ['"Network":"10.3.0.0/16","SubnetMin":"10.3.9.0","SubnetMax":"10.3.8.0"', 4, / SubnetMin: expected at most SubnetMax, 10\.3\.8\.0/],
    [`${ONLY_V6},"IPv6Network":"fc00::/125"`, 6, / IPv6Network: expected a block of at most 124 bits/],
    [`${ONLY_V6},"IPv6Network":"fc00::/48","IPv6SubnetLen":49`, 6, / IPv6SubnetLen: expected a number from 50 to 126/],
    [`${ONLY_V6},"IPv6Network":"fc00::/48","IPv6SubnetLen":127`, 6, / IPv6SubnetLen: expected a number from 50 to 126/],
    [`${ONLY_V6},"IPv6Network":"fc00::/48","IPv6SubnetMin":"fd00::"`, 6, / IPv6SubnetMin: expected an address of the network/],
    [`${ONLY_V6},"IPv6Network":"fc00::/48","IPv6SubnetMax":"fc00::1"`, 6, / IPv6SubnetMax: expected the first address/],
  ];
  for (const [text, family, expected] of wrong) it(`are not those of ${text}`, () => assert.match(fault(text, family), expected));

  it('come in order, one by one', () => {
    assert.deepEqual([...subnetCandidates(conf('"Network":"10.3.0.0/22"'), 4)].map(formatPrefix), [
      '10.3.1.0/24',
      '10.3.2.0/24',
      '10.3.3.0/24',
    ]);
    // There are 2^56 of them.
    const many = subnetCandidates(conf(`${ONLY_V6},"IPv6Network":"fd00::/8"`), 6);
    assert.deepEqual([...many.take(2)].map(formatPrefix), ['fd00:0:0:1::/64', 'fd00:0:0:2::/64']);
  });

  it('are those of the plan, and no others', () => {
    const planned = subnetPlan(conf('"Network":"10.3.0.0/22"'), 4);
    const isOne = (text: string): boolean => isPlanned(parsePrefix(text) ?? assert.fail(), planned);
    assert.deepEqual(['10.3.0.0/24', '10.3.1.0/24', '10.3.3.0/24', '10.3.4.0/24', '10.3.1.0/25', '10.3.0.0/22', 'fd00::/24'].map(isOne), [
      false,
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  describe('of any network', () => {
    const network = fc.oneof(
      fc
        .tuple(fc.nat(0xffff_ffff), fc.integer({ min: 1, max: 28 }))
        .map(([address, length]) => ({ address: networkAddress(ipv4(address), length), length })),
      fc
        .tuple(fc.bigInt({ min: 1n, max: (1n << 128n) - 1n }), fc.integer({ min: 1, max: 124 }))
        .map(([address, length]) => ({ address: networkAddress(ipv6(address), length), length })),
    );
    const planned = fc.tuple(network, fc.option(fc.nat(6))).map(([block, more]) => {
      const family = typeof block.address === 'number' ? 4 : 6;
      const length = Math.min(block.length + 2 + (more ?? 0), family === 4 ? 30 : 126);
      const name = family === 4 ? '"Network"' : `${ONLY_V6},"IPv6Network"`;
      const given = more === null ? '' : `,"${family === 4 ? '' : 'IPv6'}SubnetLen":${length}`;
      return { block, family, text: `${name}:"${formatPrefix(block)}"${given}` } as const;
    });

    it('lie in it, side by side, without the first, up to its end', () => {
      fc.assert(
        fc.property(planned, ({ block, family, text }) => {
          const { length, first, last } = subnetPlan(conf(text), family);
          const whole = prefixRange(block);
          const end = (address: Prefix['address']) => BigInt(prefixRange({ address, length }).last);
          assert.equal(networkAddress(first, length), first);
          assert.equal(BigInt(first) - 1n, end(block.address));
          assert.equal(end(last), BigInt(whole.last));
          const some = [...subnetCandidates(conf(text), family).take(5)];
          for (const [index, subnet] of some.entries()) {
            assert.equal(subnet.length, length);
            assert.equal(networkAddress(subnet.address, length), subnet.address);
            const before = some[index - 1];
            assert.equal(BigInt(subnet.address), before === undefined ? BigInt(first) : end(before.address) + 1n);
          }
          assert.ok(some.length >= 3);
        }),
      );
    });

    it('are free if no occupied address is in them', () => {
      const small = planned.filter(({ block, family }) => (family === 4 ? 32 : 128) - block.length <= 12);
      const ranges = fc.array(fc.tuple(fc.nat(5000), fc.nat(300)), { maxLength: 5 });
      fc.assert(
        fc.property(small, ranges, ({ block, family, text }, offsets) => {
          const width = family === 4 ? (1n << 32n) - 1n : (1n << 128n) - 1n;
          const at = (offset: number): Prefix['address'] => {
            const value = BigInt(block.address) + BigInt(offset);
            const clamped = value > width ? width : value;
            return family === 4 ? ipv4(Number(clamped)) : ipv6(clamped);
          };
          const occupied: Range[] = offsets.map(([start, size]) => ({ first: at(start), last: at(start + size) }));
          const isFree = (subnet: Prefix): boolean => {
            const { first, last } = prefixRange(subnet);
            return occupied.every((range) => range.last < first || range.first > last);
          };
          const expected = [...subnetCandidates(conf(text), family)].filter(isFree);
          assert.deepEqual([...freeSubnets(subnetPlan(conf(text), family), occupied)], expected);
        }),
      );
    });
  });
});
