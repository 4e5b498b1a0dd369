import assert from 'node:assert/strict';
import { checkDevices } from '../../../src/doctor/devices.ts';
import { checkLeftovers } from '../../../src/doctor/leftovers.ts';
import {
  address,
  addressOn,
  codesOf,
  conf,
  HEALTHY,
  link,
  LINKS,
  node,
  nodeWithLinks,
  nodeWithTables,
  onlyIPv4,
  TABLES,
  theFinding,
} from './healthy-node.ts';

const VXLAN = LINKS.find(({ name }) => name === 'flannel.1')?.vxlan ?? assert.fail();

describe('the check devices', () => {
  it('finds nothing where they are as they should be', () => {
    assert.deepEqual(checkDevices(HEALTHY), { findings: [] });
  });

  it('finds one that is missing, and says how it is made', () => {
    const finding = theFinding(checkDevices(nodeWithLinks({ 'flannel.1': null })), 'DEVICE_MISSING');
    assert.match(
      finding.remedy,
      /^ip link add flannel\.1 address 0e:04:00:00:00:00 mtu 1450 type vxlan id 1 dev eth0 local 172\.18\.0\.1 dstport 8472 nolearning\nip address add 10\.244\.0\.0\/32 dev flannel\.1\nip link set dev flannel\.1 up$/m,
    );
  });

  it('finds who keeps it from being made', () => {
    const rival = link({ index: 9, name: 'vxlan.other', kind: 'vxlan', vxlan: { ...VXLAN, underlay: undefined } });
    const finding = theFinding(checkDevices(nodeWithLinks({ 'flannel.1': null }, [rival])), 'VNI_TAKEN');
    assert.match(finding.message, /vxlan\.other has its VNI and port/);
    assert.match(finding.remedy, /^ip link del vxlan\.other$/m);
    // One over IPv6 may have the same.
    const other = link({ index: 9, name: 'vxlan.other', kind: 'vxlan', vxlan: { ...VXLAN, local: address('fd00::1') } });
    theFinding(checkDevices(nodeWithLinks({ 'flannel.1': null }, [other])), 'DEVICE_MISSING');
  });

  const wrong: readonly (readonly [what: string, vxlan: Partial<typeof VXLAN>, message: RegExp])[] = [
    ['VNI', { vni: 7 }, /its VNI is 7, not 1/],
    ['port', { port: 4789 }, /its port is 4789, not 8472/],
    ['local address', { local: address('172.18.0.9') }, /its local address is 172\.18\.0\.9, not 172\.18\.0\.1/],
    ['interface', { underlay: 1 }, /its interface is number 1, not 2/],
    ['group policy', { gbp: true }, /group policy extension is on, not off/],
    ['remote address', { remote: address('172.18.0.9') }, /it has a remote address \(172\.18\.0\.9\)/],
  ];
  for (const [what, vxlan, message] of wrong) {
    it(`finds one with another ${what}`, () => {
      const finding = theFinding(checkDevices(nodeWithLinks({ 'flannel.1': { vxlan: { ...VXLAN, ...vxlan } } })), 'DEVICE_WRONG');
      assert.match(finding.message, message);
      assert.match(finding.remedy, /^ip link del flannel\.1$/m);
      assert.equal(/--iface/.test(finding.remedy), what === 'interface');
    });
  }

  it('finds one of another kind', () => {
    assert.match(
      theFinding(checkDevices(nodeWithLinks({ 'flannel.1': { kind: 'dummy' } })), 'DEVICE_WRONG').message,
      /of kind dummy, not vxlan/,
    );
  });

  it('finds one that is down, and one that learns', () => {
    assert.match(
      theFinding(checkDevices(nodeWithLinks({ 'flannel.1': { up: false } })), 'DEVICE_DOWN').remedy,
      /^ip link set dev flannel\.1 up$/m,
    );
    const learning = theFinding(checkDevices(nodeWithLinks({ 'flannel.1': { vxlan: { ...VXLAN, learning: true } } })), 'DEVICE_LEARNING');
    assert.equal(learning.remedy, 'ip link set dev flannel.1 type vxlan nolearning');
  });

  it('finds an address that is missing, and one that is left over', () => {
    const without = TABLES.addresses.filter(({ link: index }) => index !== 3);
    const missing = theFinding(checkDevices(nodeWithTables({ addresses: without })), 'DEVICE_ADDRESS');
    assert.equal(missing.remedy, 'ip address add 10.244.0.0/32 dev flannel.1');
    const more = nodeWithTables({ addresses: [...TABLES.addresses, addressOn(3, '10.244.9.0/32'), addressOn(3, '192.0.2.1/32')] });
    const left = theFinding(checkDevices(more), 'DEVICE_ADDRESS_LEFT_OVER');
    assert.equal(left.remedy, 'ip address del 10.244.9.0/32 dev flannel.1');
  });

  it('says whose device a TUN device is, and how ipip is made', () => {
    const udp = onlyIPv4(HEALTHY, { Type: 'udp' });
    assert.match(theFinding(checkDevices(udp), 'DEVICE_MISSING').remedy, /flannel0 belongs to the network daemon/);
    const ipip = theFinding(checkDevices(onlyIPv4(HEALTHY, { Type: 'ipip' })), 'DEVICE_MISSING');
    assert.match(ipip.remedy, /^ip link add flannel\.ipip mtu 1480 type ipip local 172\.18\.0\.1 nopmtudisc$/m);
  });

  it('knows the devices of the backend wireguard', () => {
    const links = [
      ...LINKS.filter(({ kind }) => kind !== 'vxlan'),
      link({ index: 3, name: 'flannel-wg', kind: 'wireguard', mtu: 1420, address: undefined }),
      link({ index: 4, name: 'flannel-wg-v6', kind: 'wireguard', mtu: 1420, address: undefined }),
    ];
    const evidence = { ...nodeWithTables({ links }), conf: conf({ Backend: { Type: 'wireguard' } }) };
    assert.deepEqual(checkDevices(evidence), { findings: [] });
    const single = { ...evidence, conf: conf({ Backend: { Type: 'wireguard', Mode: 'auto' } }) };
    assert.match(theFinding(checkDevices(single), 'DEVICE_ADDRESS').message, /fd00:10:244::\/128/);
    assert.match(
      theFinding(checkDevices({ ...evidence, tables: HEALTHY.tables, conf: single.conf }), 'DEVICE_MISSING').remedy,
      /belongs to the network daemon/,
    );
  });

  it('has nothing to look at of a backend without devices', () => {
    assert.match(checkDevices(node({ conf: conf({ Backend: { Type: 'host-gw' } }) })).idle ?? '', /no devices/);
  });
});

describe('the check left-over-devices', () => {
  it('finds nothing where there are none but those in use', () => {
    assert.deepEqual(checkLeftovers(HEALTHY), { findings: [] });
    assert.deepEqual(codesOf(checkLeftovers(nodeWithLinks({}, [link({ index: 9, name: 'vxlan.calico', kind: 'vxlan' })]))), []);
  });

  const other = link({ index: 9, name: 'flannel.42', kind: 'vxlan', vxlan: { ...VXLAN, vni: 42 } });

  it('finds one of another VNI, and worse, one with an address of the pod network', () => {
    assert.equal(theFinding(checkLeftovers(nodeWithLinks({}, [other])), 'DEVICE_FOREIGN').severity, 'warning');
    const evidence = nodeWithTables({ links: [...LINKS, other], addresses: [...TABLES.addresses, addressOn(9, '10.244.0.0/32')] });
    const finding = theFinding(checkLeftovers(evidence), 'DEVICE_LEFT_OVER');
    assert.equal(finding.severity, 'error');
    assert.deepEqual(finding.evidence.slice(0, 2), [
      'link flannel.42: kind vxlan, VNI 42, port 8472',
      'addresses of flannel.42: 10.244.0.0/32',
    ]);
    assert.match(finding.remedy, /^ip link del flannel\.42$/m);
  });

  it('says that a TUN device means a program that runs', () => {
    assert.match(
      theFinding(checkLeftovers(nodeWithLinks({}, [link({ index: 9, name: 'flannel0', kind: 'tun' })])), 'DEVICE_FOREIGN').message,
      /is running/,
    );
  });

  it('knows the devices of the backend wireguard', () => {
    const evidence = nodeWithTables({
      links: [...LINKS.filter(({ kind }) => kind !== 'vxlan'), link({ index: 9, name: 'flannel-wg', kind: 'wireguard' })],
    });
    assert.deepEqual(codesOf(checkLeftovers(onlyIPv4(evidence, { Type: 'wireguard' }))), []);
  });
});
