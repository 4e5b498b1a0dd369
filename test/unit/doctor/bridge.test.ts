import assert from 'node:assert/strict';
import { checkBridgeFiltering } from '../../../src/doctor/bridge-filtering.ts';
import { checkBridge } from '../../../src/doctor/bridge.ts';
import {
  addressOn,
  codesOf,
  HEALTHY,
  node,
  nodeWithLinks,
  nodeWithTables,
  onlyIPv4,
  SETTINGS,
  sysctls,
  TABLES,
  theFinding,
} from './healthy-node.ts';

describe('the check bridge', () => {
  const withAddresses = (...texts: readonly string[]) => {
    return nodeWithTables({
      addresses: [...TABLES.addresses.filter(({ link }) => link !== 5), ...texts.map((text) => addressOn(5, text))],
    });
  };

  it('finds nothing where it is a bridge, up, with the first address of each subnet', () => {
    assert.deepEqual(checkBridge(HEALTHY), { findings: [] });
  });

  it('has nothing to look at before there is one, and where none is meant', () => {
    assert.match(checkBridge(nodeWithLinks({ cni0: null })).idle ?? '', /made with the first pod/);
    assert.match(checkBridge(node({ settings: { ...SETTINGS, bridge: undefined } })).idle ?? '', /--bridge off/);
  });

  it('finds that it is none, or down', () => {
    assert.match(
      theFinding(checkBridge(nodeWithLinks({ cni0: { kind: 'dummy' } })), 'BRIDGE_KIND').remedy,
      /ip link set dev cni0 name cni0-old/,
    );
    assert.equal(theFinding(checkBridge(nodeWithLinks({ cni0: { up: false } })), 'BRIDGE_DOWN').remedy, 'ip link set dev cni0 up');
  });

  it('finds the address of another subnet, as a node has that was given another podCIDR', () => {
    const finding = theFinding(checkBridge(withAddresses('10.244.9.1/24', 'fd00:10:244::1/64')), 'BRIDGE_ADDRESS');
    assert.match(finding.message, /it has 10\.244\.9\.1\/24, and the node’s subnet is 10\.244\.0\.0\/24/);
    assert.match(finding.remedy, /^ip address del 10\.244\.9\.1\/24 dev cni0\nip address add 10\.244\.0\.1\/24 dev cni0$/m);
  });

  it('finds an address too many, and one that is missing', () => {
    const more = theFinding(checkBridge(withAddresses('10.244.9.1/24', '10.244.0.1/24', 'fd00:10:244::1/64')), 'BRIDGE_ADDRESS');
    assert.match(more.message, /another IPv4 address besides 10\.244\.0\.1\/24/);
    const none = theFinding(checkBridge(withAddresses('10.244.0.1/24')), 'BRIDGE_ADDRESS');
    assert.match(none.message, /does not have fd00:10:244::1\/64/);
    assert.equal(none.remedy, 'ip address add fd00:10:244::1/64 dev cni0 nodad');
  });

  it('leaves alone IPv6 addresses of other blocks, which the plugin does not mind', () => {
    assert.deepEqual(codesOf(checkBridge(withAddresses('10.244.0.1/24', 'fd00:10:244::1/64', 'fd00:9::1/64'))), []);
  });
});

describe('the check bridge-filtering', () => {
  it('finds nothing where the bridge has the flags, or the sysctls have them for all bridges', () => {
    assert.deepEqual(checkBridgeFiltering(HEALTHY), { findings: [] });
    const off = nodeWithLinks({ cni0: { bridge: { iptables: false, ip6tables: false } } });
    const on = sysctls({ 'net/bridge/bridge-nf-call-iptables': '1', 'net/bridge/bridge-nf-call-ip6tables': '1' });
    assert.deepEqual(checkBridgeFiltering({ ...off, sysctls: on }), { findings: [] });
  });

  it('finds what is off of the families that the network has', () => {
    const off = nodeWithLinks({ cni0: { bridge: { iptables: false, ip6tables: false } } });
    assert.deepEqual(codesOf(checkBridgeFiltering(off)), ['BRIDGE_FILTERING_OFF', 'BRIDGE_FILTERING_OFF']);
    const finding = theFinding(checkBridgeFiltering(onlyIPv4(off)), 'BRIDGE_FILTERING_OFF');
    assert.deepEqual(finding.evidence, ['link cni0: nf_call_iptables 0', '/proc/sys/net/bridge/bridge-nf-call-iptables: 0']);
    assert.equal(finding.remedy, 'ip link set dev cni0 type bridge nf_call_iptables 1');
  });

  it('finds that br_netfilter is not loaded', () => {
    const without = sysctls({ 'net/bridge/bridge-nf-call-iptables': undefined, 'net/bridge/bridge-nf-call-ip6tables': undefined });
    assert.equal(theFinding(checkBridgeFiltering(node({ sysctls: without })), 'BRIDGE_NETFILTER_MISSING').remedy, 'modprobe br_netfilter');
  });
});
