import assert from 'node:assert/strict';
import { checkAnnouncement } from '../../../src/doctor/announcement.ts';
import { checkOwnLease } from '../../../src/doctor/own-lease.ts';
import { checkPeers } from '../../../src/doctor/peers.ts';
import {
  address,
  codesOf,
  HEALTHY,
  LEASES,
  nodeWithLeases,
  nodeWithLinks,
  onlyIPv4,
  peer,
  prefix,
  theFinding,
  told,
} from './healthy-node.ts';

describe('the check own-lease', () => {
  it('finds nothing where the node has its subnets and the peers know', () => {
    assert.deepEqual(checkOwnLease(HEALTHY), { findings: [] });
  });

  it('finds that the cluster does not know the node', () => {
    const finding = theFinding(checkOwnLease(nodeWithLeases({}, { exists: false, subnets: {} })), 'LEASE_MISSING');
    assert.match(finding.evidence[0] ?? '', /others: peer-1, peer-2/);
    assert.match(finding.remedy, /kubectl get nodes/);
    const file = nodeWithLeases({ kind: 'directory', origin: '/mnt/leases' }, { exists: false, subnets: {} });
    assert.match(theFinding(checkOwnLease(file), 'LEASE_MISSING').remedy, /^sluice network --lease-dir \/mnt\/leases --node self$/m);
  });

  it('finds that it has no podCIDR, and which one it could have', () => {
    const finding = theFinding(checkOwnLease(onlyIPv4(nodeWithLeases({}, { subnets: {}, isPublished: false }))), 'POD_CIDR_EMPTY');
    assert.match(finding.remedy, /--allocate-node-cidrs=true --cluster-cidr=10\.244\.0\.0\/16/);
    // 10.244.1.0/24 and 10.244.2.0/24 are taken, and the first one is not used.
    assert.match(
      finding.remedy,
      /^kubectl patch node self -p '\{"spec":\{"podCIDR":"10\.244\.3\.0\/24","podCIDRs":\["10\.244\.3\.0\/24"\]\}\}'$/m,
    );
  });

  it('finds the family that is missing', () => {
    const finding = theFinding(checkOwnLease(nodeWithLeases({}, { subnets: { v4: prefix('10.244.0.0/24') } })), 'POD_CIDR_EMPTY');
    assert.match(finding.message, /no IPv6 podCIDR/);
    assert.doesNotMatch(finding.remedy, /kubectl patch/);
  });

  it('finds a subnet that lies outside of the network', () => {
    const finding = theFinding(
      checkOwnLease(onlyIPv4(nodeWithLeases({}, { subnets: { v4: prefix('10.9.0.0/24') } }))),
      'LEASE_OUTSIDE_NETWORK',
    );
    assert.match(finding.evidence.join('\n'), /net-conf\.json: Network 10\.244\.0\.0\/16/);
  });

  it('finds what cannot be read, and that nobody was told', () => {
    const problem = 'spec.podCIDRs[0]: "x" is no block of addresses';
    theFinding(checkOwnLease(nodeWithLeases({}, { subnets: {}, problems: [problem] })), 'LEASE_UNREADABLE');
    theFinding(checkOwnLease(nodeWithLeases({}, { isPublished: false })), 'NOT_ANNOUNCED');
  });
});

describe('the check announcement', () => {
  const own = LEASES.own;

  it('finds nothing where peers are told what is there', () => {
    assert.deepEqual(checkAnnouncement(HEALTHY), { findings: [] });
    assert.match(checkAnnouncement(nodeWithLeases({}, { isPublished: false })).idle ?? '', /nothing has been told/);
  });

  it('finds another backend', () => {
    const finding = theFinding(
      checkAnnouncement(nodeWithLeases({}, { backendType: told('backend-type', 'host-gw') })),
      'BACKEND_TYPE_DIFFERS',
    );
    assert.match(finding.remedy, /^kubectl annotate node self --overwrite flannel\.alpha\.coreos\.com\/backend-type=vxlan$/m);
  });

  it('finds a public address that nobody has, or another interface has', () => {
    const publicAddress = (text: string) => nodeWithLeases({}, { publicAddress: { ...own.publicAddress, 4: told('public-ip', text) } });
    const finding = theFinding(checkAnnouncement(publicAddress('192.0.2.7')), 'PUBLIC_ADDRESS_DIFFERS');
    assert.match(finding.message, /send to 192\.0\.2\.7, and no interface of this node has that address/);
    assert.match(
      finding.remedy,
      /--public-ip[^]*^kubectl annotate node self --overwrite flannel\.alpha\.coreos\.com\/public-ip=172\.18\.0\.1$/m,
    );
    assert.match(
      theFinding(checkAnnouncement(publicAddress('10.244.0.1')), 'PUBLIC_ADDRESS_DIFFERS').message,
      /the address of cni0, and packets go through eth0/,
    );
  });

  it('takes what an administrator has told in its place', () => {
    const nat = { publicAddress: { ...own.publicAddress, 4: told('public-ip', '192.0.2.7') } };
    const overwrite = { ...own.overwrite, 4: told('public-ip-overwrite', '192.0.2.7') };
    assert.deepEqual(codesOf(checkAnnouncement(nodeWithLeases({}, { ...nat, overwrite }))), []);
    const given = { ...own.given, 4: told('node-public-ip', '192.0.2.7') };
    assert.deepEqual(codesOf(checkAnnouncement(nodeWithLeases({}, { ...nat, given }))), []);
  });

  it('finds a VNI, a hardware address or data that are not those of the device', () => {
    const data = (text: string | undefined) => nodeWithLeases({}, { data: { ...own.data, 4: told('backend-data', text) } });
    theFinding(checkAnnouncement(data('{"VNI":7,"VtepMAC":"0e:04:00:00:00:00"}')), 'VNI_DIFFERS');
    theFinding(checkAnnouncement(data('null')), 'BACKEND_DATA_INVALID');
    theFinding(checkAnnouncement(data(undefined)), 'BACKEND_DATA_INVALID');
    const mac = theFinding(checkAnnouncement(nodeWithLinks({ 'flannel.1': { address: '02:00:00:00:00:99' } })), 'VTEP_MAC_DIFFERS');
    assert.equal(mac.remedy, 'ip link set dev flannel.1 address 0e:04:00:00:00:00');
    const file = nodeWithLeases({ kind: 'directory', origin: '/mnt/leases' }, { data: { ...own.data, 4: told('backend-data', 'null') } });
    assert.match(
      theFinding(checkAnnouncement(file), 'BACKEND_DATA_INVALID').remedy,
      /^jq '\.backendData = \{"VNI":1,"VtepMAC":"0e:04:00:00:00:00"\}' \/mnt\/leases\/self\.json > \/mnt\/leases\/\.self\.json\.new && mv /m,
    );
  });
});

describe('the check peers', () => {
  const withPeers = (...peers: readonly ReturnType<typeof peer>[]) => checkPeers(onlyIPv4(nodeWithLeases({ peers })));
  const of = (number: number, fields: { subnet?: string; at?: string; mac?: string; vni?: number }) => {
    const { v4 } = peer(number);
    assert.ok(v4 !== undefined);
    return peer(number, {
      v4: {
        subnet: fields.subnet === undefined ? v4.subnet : prefix(fields.subnet),
        publicAddress: fields.at === undefined ? v4.publicAddress : address(fields.at),
        data: { VNI: fields.vni ?? 1, VtepMAC: fields.mac ?? `0e:04:00:00:00:0${number}` },
      },
      v6: undefined,
    });
  };

  it('finds nothing where every lease is sound', () => {
    assert.deepEqual(checkPeers(HEALTHY), { findings: [] });
  });

  it('finds what cannot be read', () => {
    const unreadable = new Map([['peer-9', 'node peer-9: annotation backend-data: is missing']]);
    assert.equal(theFinding(checkPeers(nodeWithLeases({ unreadable })), 'PEER_LEASE_UNREADABLE').subject, 'peer-9');
  });

  const faults: readonly (readonly [what: string, code: string, lease: ReturnType<typeof peer>])[] = [
    ['another backend', 'PEER_BACKEND_DIFFERS', { ...of(1, {}), backendType: 'host-gw' }],
    ['this node’s public address', 'PEER_ADDRESS_IS_OWN', of(1, { at: '172.18.0.1' })],
    ['a part of this node’s subnet', 'PEER_SUBNET_IS_OWN', of(1, { subnet: '10.244.0.128/25' })],
    ['a subnet outside of the network', 'PEER_OUTSIDE_NETWORK', of(1, { subnet: '10.9.0.0/24' })],
    ['another VNI', 'PEER_UNREACHABLE', of(1, { vni: 9 })],
  ];
  for (const [what, code, lease] of faults) {
    it(`finds a peer with ${what}`, () => {
      const finding = theFinding(withPeers(lease, of(2, {})), code);
      assert.equal(finding.subject, 'peer-1');
      assert.match(finding.evidence.join('\n'), /lease of peer-1: /);
    });
  }

  it('finds two with one public address, one hardware address, or overlapping subnets', () => {
    const twice = theFinding(withPeers(of(1, {}), of(2, { at: '172.18.0.101' })), 'PUBLIC_ADDRESS_DUPLICATE');
    assert.equal(twice.subject, 'peer-1, peer-2');
    const mac = theFinding(withPeers(of(1, {}), of(2, { mac: '0e:04:00:00:00:01' })), 'VTEP_MAC_DUPLICATE');
    assert.match(mac.remedy, /^kubectl annotate node peer-2 flannel\.alpha\.coreos\.com\/backend-data-$/m);
    // What is for another machine is not to be run on this one.
    assert.ok(mac.remedy.split('\n').every((line) => line.startsWith('#') || line.startsWith('kubectl ')));
    // A cloned machine has this node's.
    assert.equal(theFinding(withPeers(of(1, { mac: '0e:04:00:00:00:00' })), 'VTEP_MAC_DUPLICATE').subject, 'self, peer-1');
    assert.deepEqual(codesOf(withPeers(of(1, { subnet: '10.244.2.0/23' }), of(2, {}), of(3, {}))), ['SUBNETS_OVERLAP', 'SUBNETS_OVERLAP']);
  });

  it('finds a peer that host-gw cannot reach', () => {
    const far = { ...of(1, { at: '192.0.2.1' }), backendType: 'host-gw' };
    const evidence = onlyIPv4(nodeWithLeases({ peers: [far] }, { backendType: told('backend-type', 'host-gw') }), { Type: 'host-gw' });
    assert.match(theFinding(checkPeers(evidence), 'PEER_UNREACHABLE').message, /there is no route to its address 192\.0\.2\.1/);
  });

  it('says what it could not compare with', () => {
    const outcome = checkPeers({ ...HEALTHY, tables: { blind: 'for a reason' } });
    assert.deepEqual([outcome.findings, outcome.blind], [[], 'for a reason']);
  });
});
