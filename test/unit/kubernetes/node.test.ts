import assert from 'node:assert/strict';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { formatAddress, formatPrefix } from '../../../src/policy/address.ts';

function read(spec: unknown, status: unknown = {}): { addresses: string[]; podCIDRs: string[]; faults: string[] } {
  const { object, problems } = project('Node', { metadata: { name: 'node-1' }, spec, status }, new Sharing());
  assert.ok(object);
  return {
    addresses: object.addresses.map(formatAddress),
    podCIDRs: object.podCIDRs.map(formatPrefix),
    faults: problems.map(({ path, code }) => `${path} ${code}`),
  };
}

describe('a Node of the API', () => {
  it('has its internal and external addresses, and not its names', () => {
    const addresses = [
      { type: 'Hostname', address: 'node-1' },
      { type: 'InternalIP', address: '192.168.1.4' },
      { type: 'InternalIP', address: 'fd01::4' },
      { type: 'ExternalIP', address: '203.0.113.4' },
      { type: 'InternalDNS', address: '192.168.1.5' },
    ];
    assert.deepEqual(read({}, { addresses }).addresses, ['192.168.1.4', 'fd01::4', '203.0.113.4']);
  });

  it('has podCIDRs, and podCIDR only where there are none', () => {
    assert.deepEqual(read({ podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00:1::/64'] }).podCIDRs, [
      '10.244.1.0/24',
      'fd00:1::/64',
    ]);
    assert.deepEqual(read({ podCIDR: '10.244.1.0/24' }).podCIDRs, ['10.244.1.0/24']);
    assert.deepEqual(read({ podCIDR: '10.244.1.0/24', podCIDRs: [] }).podCIDRs, ['10.244.1.0/24']);
    assert.deepEqual(read({ podCIDR: '' }), { addresses: [], podCIDRs: [], faults: [] });
  });

  it('stands without what cannot be read', () => {
    assert.deepEqual(
      read(
        { podCIDRs: ['10.244.1.0/33', '10.244.2.0/24'] },
        { addresses: [{ type: 'InternalIP', address: 'node-1' }, 7, { type: 'InternalIP', address: '10.0.0.1' }] },
      ),
      {
        addresses: ['10.0.0.1'],
        podCIDRs: ['10.244.2.0/24'],
        faults: ['status.addresses[0].address ADDRESS_INVALID', 'status.addresses[1] TYPE_INVALID', 'spec.podCIDRs[0] CIDR_INVALID'],
      },
    );
    assert.deepEqual(read('x', 'y').faults, ['status TYPE_INVALID', 'spec TYPE_INVALID']);
  });

  it('is nobody without a name', () => {
    const { object, key } = project('Node', { metadata: {} }, new Sharing());
    assert.deepEqual([object, key], [undefined, undefined]);
  });
});
