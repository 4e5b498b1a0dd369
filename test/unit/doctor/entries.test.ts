import assert from 'node:assert/strict';
import { checkEntries } from '../../../src/doctor/entries.ts';
import {
  address,
  codesOf,
  forwarding,
  HEALTHY,
  neighbour,
  nodeWithLeases,
  nodeWithLinks,
  nodeWithTables,
  onlyIPv4,
  peer,
  route,
  TABLES,
  theFinding,
} from './healthy-node.ts';

const OF_PEER_1 = address('10.244.1.0');

describe('the check entries', () => {
  it('finds nothing where the kernel holds what the leases want', () => {
    assert.deepEqual(checkEntries(HEALTHY), { findings: [] });
    assert.deepEqual(checkEntries(onlyIPv4(nodeWithTables({ routes: TABLES.routes, neighbours: TABLES.neighbours }))).findings, []);
  });

  it('finds a neighbour that is missing, not permanent, or another', () => {
    const others = TABLES.neighbours.filter((each) => each.address !== OF_PEER_1);
    const missing = theFinding(checkEntries(nodeWithTables({ neighbours: others })), 'NEIGHBOUR_MISSING');
    assert.equal(missing.subject, 'flannel.1');
    assert.match(missing.message, /1 of 12 entries \(peer-1\)/);
    assert.deepEqual(missing.evidence, ['wanted: neighbour 10.244.1.0 lladdr 0e:04:00:00:00:01 dev flannel.1; not there']);
    assert.equal(missing.remedy, 'ip neigh replace 10.244.1.0 lladdr 0e:04:00:00:00:01 dev flannel.1 nud permanent');
    const ageing = { ...neighbour(3, '10.244.1.0', '0e:04:00:00:00:01'), permanent: false };
    theFinding(checkEntries(nodeWithTables({ neighbours: [...others, ageing] })), 'NEIGHBOUR_MISSING');
    const wrong = theFinding(
      checkEntries(nodeWithTables({ neighbours: [...others, neighbour(3, '10.244.1.0', '02:00:00:00:00:99')] })),
      'NEIGHBOUR_WRONG',
    );
    assert.match(wrong.evidence[0] ?? '', /there is lladdr 02:00:00:00:00:99$/);
  });

  it('finds a forwarding entry that is missing, leads elsewhere, or to two nodes', () => {
    const others = TABLES.forwarding.filter(({ mac }) => mac !== '0e:04:00:00:00:01');
    const missing = theFinding(checkEntries(nodeWithTables({ forwarding: others })), 'FORWARDING_MISSING');
    assert.equal(missing.remedy, 'bridge fdb replace 0e:04:00:00:00:01 dev flannel.1 self permanent dst 172.18.0.101');
    const elsewhere = forwarding(3, '0e:04:00:00:00:01', '172.18.0.200');
    const wrong = theFinding(checkEntries(nodeWithTables({ forwarding: [...others, elsewhere] })), 'FORWARDING_WRONG');
    assert.match(wrong.evidence[0] ?? '', /dst 172\.18\.0\.101; there is dst 172\.18\.0\.200$/);
    const both = theFinding(checkEntries(nodeWithTables({ forwarding: [...TABLES.forwarding, elsewhere] })), 'FORWARDING_LEFT_OVER');
    assert.match(both.message, /sent to both/);
  });

  it('finds a forwarding entry with a port of its own, which the kernel would keep beside another', () => {
    const odd = { ...forwarding(3, '0e:04:00:00:00:01', '172.18.0.101'), port: 4789 };
    const others = TABLES.forwarding.filter(({ mac }) => mac !== '0e:04:00:00:00:01');
    const finding = theFinding(checkEntries(nodeWithTables({ forwarding: [...others, odd] })), 'FORWARDING_WRONG');
    assert.match(finding.evidence[0] ?? '', /there is dst 172\.18\.0\.101 port 4789/);
    assert.match(finding.remedy, /^bridge fdb del 0e:04:00:00:00:01 dev flannel\.1 self\nbridge fdb replace /);
  });

  it('finds a route that is missing, or leads elsewhere', () => {
    const others = TABLES.routes.filter(({ destination }) => destination.address !== OF_PEER_1);
    const missing = theFinding(checkEntries(nodeWithTables({ routes: others })), 'ROUTE_MISSING');
    assert.equal(missing.remedy, 'ip route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink');
    const wrong = route('10.244.1.0/24', { gateway: address('172.18.0.254') });
    const finding = theFinding(checkEntries(nodeWithTables({ routes: [...others, wrong] })), 'ROUTE_WRONG');
    assert.match(finding.evidence[0] ?? '', /there is 10\.244\.1\.0\/24 via 172\.18\.0\.254 dev eth0$/);
  });

  it('finds that packets take another way than the route', () => {
    const routesTo = new Map(TABLES.routesTo).set(address('10.244.1.2'), route('10.244.1.2/32', { link: 2, table: 100 }));
    const finding = theFinding(checkEntries(nodeWithTables({ routesTo })), 'ROUTE_OVERRULED');
    assert.match(finding.evidence[0] ?? '', /ip route get 10\.244\.1\.2: 10\.244\.1\.2\/32 dev eth0, table 100$/);
  });

  it('finds what is left of a node that is gone, as one finding of a kind', () => {
    const outcome = checkEntries(onlyIPv4(nodeWithLeases({ peers: [peer(1)] })));
    assert.deepEqual(codesOf(outcome), ['NEIGHBOUR_LEFT_OVER', 'FORWARDING_LEFT_OVER', 'ROUTE_LEFT_OVER']);
    assert.deepEqual(
      outcome.findings.map(({ remedy }) => remedy),
      [
        'ip neigh del 10.244.2.0 dev flannel.1',
        'bridge fdb del 0e:04:00:00:00:02 dev flannel.1 self dst 172.18.0.102',
        'ip route del 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink',
      ],
    );
  });

  it('leaves alone routes of others into the network, and everything of other devices', () => {
    const routes = [...TABLES.routes, route('10.244.9.0/24', { gateway: address('172.18.0.254'), protocol: 4 })];
    const neighbours = [...TABLES.neighbours, neighbour(2, '172.18.0.7', '02:00:00:00:00:07')];
    assert.deepEqual(codesOf(checkEntries(nodeWithTables({ routes, neighbours }))), []);
  });

  it('says one thing of a table that was flushed', () => {
    const finding = theFinding(checkEntries(onlyIPv4(nodeWithTables({ forwarding: [] }))), 'FORWARDING_MISSING');
    assert.match(finding.message, /2 of 6 entries \(peer-1, peer-2\)/);
    assert.equal(finding.remedy.split('\n').length, 2);
  });

  it('says nothing of what went with its device', () => {
    const outcome = checkEntries(onlyIPv4(nodeWithLinks({ 'flannel.1': null })));
    assert.deepEqual(codesOf(outcome), []);
  });

  it('wants plain routes of peers on the segment with DirectRouting', () => {
    const evidence = onlyIPv4(HEALTHY, { Type: 'vxlan', DirectRouting: true });
    const codes = codesOf(checkEntries(evidence));
    assert.deepEqual(codes, ['ROUTE_WRONG', 'NEIGHBOUR_LEFT_OVER', 'FORWARDING_LEFT_OVER']);
    assert.match(checkEntries(evidence).findings[0]?.remedy ?? '', /^ip route replace 10\.244\.1\.0\/24 via 172\.18\.0\.101 dev eth0$/m);
  });
});
