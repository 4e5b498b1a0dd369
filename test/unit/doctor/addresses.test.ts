import assert from 'node:assert/strict';
import { checkAddresses } from '../../../src/doctor/addresses.ts';
import {
  address,
  addressOn,
  codesOf,
  HEALTHY,
  link,
  LINKS,
  nodeWithLeases,
  nodeWithTables,
  onlyIPv4,
  peer,
  route,
  TABLES,
  theFinding,
} from './healthy-node.ts';

describe('the check addresses', () => {
  const other = link({ index: 9, name: 'eth1' });
  const withAddress = (text: string, name = 'eth1') =>
    checkAddresses(nodeWithTables({ links: [...LINKS, { ...other, name }], addresses: [...TABLES.addresses, addressOn(9, text)] }));

  it('finds nothing where the pod network has its addresses to itself', () => {
    assert.deepEqual(checkAddresses(HEALTHY), { findings: [] });
  });

  it('finds an interface with an address of the network', () => {
    const finding = theFinding(withAddress('10.244.77.5/24'), 'NODE_ADDRESS_IN_NETWORK');
    assert.equal(finding.subject, 'eth1');
    assert.match(finding.remedy, /^ip address del 10\.244\.77\.5\/24 dev eth1$/m);
  });

  it('leaves alone what is there for this node’s own pods: another bridge, the node’s ends of links', () => {
    assert.deepEqual(codesOf(withAddress('10.244.0.1/32', 'vethwe')), []);
  });

  it('finds services with addresses of the network', () => {
    assert.match(
      theFinding(withAddress('10.244.77.5/32', 'kube-ipvs0'), 'SERVICE_ADDRESS_IN_NETWORK').remedy,
      /--service-cluster-ip-range/,
    );
  });

  it('finds a segment that the network is a part of', () => {
    assert.equal(theFinding(withAddress('10.1.2.3/8'), 'NETWORK_IN_UNDERLAY').severity, 'warning');
  });

  it('finds a route of somebody else into the network, and no others', () => {
    const withRoute = (destination: string, protocol: number) =>
      checkAddresses(nodeWithTables({ routes: [...TABLES.routes, route(destination, { gateway: address('172.18.0.254'), protocol })] }));
    const finding = theFinding(withRoute('10.244.7.0/24', 16), 'ROUTE_IN_NETWORK');
    assert.deepEqual(finding.evidence[0], 'route 10.244.7.0/24 via 172.18.0.254 dev eth0 proto 16');
    assert.match(finding.remedy, /^ip route del 10\.244\.7\.0\/24 via 172\.18\.0\.254 dev eth0$/m);
    assert.deepEqual(codesOf(withRoute('10.0.0.0/8', 16)), []);
    assert.deepEqual(codesOf(withRoute('192.168.0.0/16', 16)), []);
    // Those of the protocol boot are compared with the leases.
    assert.deepEqual(codesOf(withRoute('10.244.7.0/24', 3)), []);
  });

  it('minds no larger blocks where this node’s own subnet is not known either', () => {
    const { tables, ...evidence } = nodeWithLeases({}, { subnets: {} });
    assert.ok('seen' in tables);
    const routes = [...TABLES.routes.filter(({ protocol }) => protocol === 2), route('10.0.0.0/8', { protocol: 16 })];
    const outcome = checkAddresses({ ...evidence, tables: { seen: { ...tables.seen, routes, addresses: [] } } });
    assert.deepEqual(codesOf(outcome), []);
  });

  it('finds a peer whose public address is of the pod network', () => {
    const { v4 } = peer(1);
    assert.ok(v4 !== undefined);
    const lost = peer(1, { v4: { ...v4, publicAddress: address('10.244.1.0') }, v6: undefined });
    assert.equal(theFinding(checkAddresses(onlyIPv4(nodeWithLeases({ peers: [lost] }))), 'PUBLIC_ADDRESS_IN_NETWORK').subject, 'peer-1');
  });
});
