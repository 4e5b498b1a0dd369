/** The backends besides vxlan, and what they have in common, in the kernel. `ip` looks, and breaks. */
import assert from 'node:assert/strict';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import type { Lease } from '../../../src/network/lease.ts';
import { eventually } from '../support/eventually.ts';
import { address, NetworkNode, OWN, peer, ScriptedLeases } from './support/network-node.ts';

const IPV4 = { EnableIPv6: false };
const OWN4 = { ...OWN, v6: undefined };

describe('the other backends', function () {
  this.timeout(60_000);
  let node: NetworkNode;

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(() => {
    node = new NetworkNode();
  });
  afterEach(() => node.close());

  const of = (lease: Lease, backendType: string): Lease => ({ ...lease, backendType, v6: undefined });
  const at = (lease: Lease, text: string): Lease => ({
    ...lease,
    v4: lease.v4 === undefined ? undefined : { ...lease.v4, publicAddress: address(text) },
  });

  describe('host-gw', () => {
    const CONF = { ...IPV4, Backend: { Type: 'host-gw' } };

    it('routes each subnet to its node, and makes no device', async () => {
      await node.start(new ScriptedLeases(OWN4, [of(peer(1), 'host-gw'), of(peer(2), 'host-gw')]), CONF).settled();
      assert.deepEqual(node.routes(), ['10.244.1.0/24 via 172.18.0.101 dev eth0', '10.244.2.0/24 via 172.18.0.102 dev eth0']);
      assert.equal(node.network?.configuration?.mtu, 1500);
      assert.ok(!node.has('flannel.1'));
    });

    it('says which peer is not on the segment and why, and follows it when it comes to be', async () => {
      const far = at(of(peer(2), 'host-gw'), '10.9.9.9');
      await node.start(new ScriptedLeases(OWN4, [of(peer(1), 'host-gw'), far]), CONF).settled();
      assert.deepEqual(node.routes(), ['10.244.1.0/24 via 172.18.0.101 dev eth0']);
      assert.match(
        (node.problems.get('peer-2') ?? []).join(),
        /10\.9\.9\.9 is behind the router 172\.18\.0\.254, and host-gw needs one segment/,
      );
      node.ip('route', 'add', '10.9.9.9/32', 'dev', 'eth0');
      await eventually(
        () => node.routes().includes('10.244.2.0/24 via 10.9.9.9 dev eth0'),
        () => node.state(),
      );
      assert.deepEqual(node.problems.get('peer-2'), []);
    });

    it('heals a route that was removed and one that leads elsewhere, and removes what a node left that is gone', async () => {
      const leases = new ScriptedLeases(OWN4, [of(peer(1), 'host-gw'), of(peer(2), 'host-gw')]);
      await node.start(leases, CONF).settled();
      const before = node.state();
      node.ip('route', 'del', '10.244.1.0/24');
      assert.ok((await node.healed(before)) < 1000);
      node.ip('route', 'replace', '10.244.1.0/24', 'via', '172.18.0.254');
      assert.ok((await node.healed(before)) < 1000);
      node.ip('route', 'add', '10.244.77.0/24', 'via', '172.18.0.177');
      assert.ok((await node.healed(before)) < 1000);
      // IPv4 routes go with their link, and the kernel says nothing of them.
      node.ip('link', 'set', 'eth0', 'down');
      node.ip('link', 'set', 'eth0', 'up');
      await node.healed(before);
      await node.stop();
      leases.initial.splice(0, 1);
      await node.start(leases, CONF).settled();
      assert.deepEqual(node.routes(), ['10.244.2.0/24 via 172.18.0.102 dev eth0']);
    });

    it('refuses a public address that is not its own, and says what to do', async () => {
      node.start(new ScriptedLeases(OWN4), CONF, {
        interfaces: {
          iface: ['eth0'],
          ifaceRegex: [],
          ifaceCanReach: undefined,
          publicIP: address('203.0.113.9'),
          publicIPv6: undefined,
          ipv4: true,
          ipv6: false,
        },
      });
      await eventually(
        () => /203\.0\.113\.9 is not that of interface eth0/.test(node.waiting ?? ''),
        () => node.waiting ?? '',
      );
      assert.match(node.waiting ?? '', /leave --public-ip out, or use vxlan/);
    });
  });

  it('takes over from another backend: the routes are replaced, the device goes', async () => {
    const leases = new ScriptedLeases(OWN, [peer(1), peer(2)]);
    await node.start(leases).settled();
    await node.stop();
    const others = new ScriptedLeases(OWN4, [of(peer(1), 'host-gw'), of(peer(2), 'host-gw')]);
    await node.start(others, { ...IPV4, Backend: { Type: 'host-gw' } }).settled();
    assert.deepEqual(
      node.routes().filter((route) => route.startsWith('10.')),
      ['10.244.1.0/24 via 172.18.0.101 dev eth0', '10.244.2.0/24 via 172.18.0.102 dev eth0'],
    );
    assert.ok(!node.has('flannel.1'));
    await node.stop();
    await node.start(leases).settled();
    assert.match(node.state(), /^10\.244\.1\.0\/24 via 10\.244\.1\.0 dev flannel\.1 onlink$/m);
    assert.doesNotMatch(node.state(), /via 172\.18\.0\.10[12]/);
  });

  it('alloc touches nothing, also nothing that somebody else routes', async () => {
    node.ip('route', 'add', '10.244.7.0/24', 'via', '172.18.0.107');
    await node.start(new ScriptedLeases(OWN4, [of(peer(1), '')]), { ...IPV4, Backend: { Type: 'alloc' } }).settled();
    assert.deepEqual(node.routes(), ['10.244.7.0/24 via 172.18.0.107 dev eth0']);
    assert.deepEqual(node.changes, []);
  });

  it('refuses packets for pods that are not there, where that is asked for, and keeps it so', async () => {
    await node.start(new ScriptedLeases(OWN4, []), IPV4, { blackholeRoute: true }).settled();
    const before = node.state();
    assert.match(before, /^blackhole 10\.244\.0\.0\/24/m);
    node.ip('route', 'del', 'blackhole', '10.244.0.0/24');
    assert.ok((await node.healed(before)) < 1000);
  });

  describe('udp', () => {
    const CONF = { ...IPV4, Backend: { Type: 'udp' } };

    it('makes its device, with the whole network routed into it, and makes it again when it is deleted', async () => {
      await node.start(new ScriptedLeases(OWN4, [of(peer(1), '')]), CONF).settled();
      const tun = (): { mtu: number; linkinfo?: { info_kind?: string } } | undefined =>
        node.json<{ ifname: string; mtu: number; linkinfo?: { info_kind?: string } }>('link').find(({ ifname }) => ifname === 'flannel0');
      assert.deepEqual([tun()?.mtu, tun()?.linkinfo?.info_kind], [1472, 'tun']);
      const before = node.state();
      assert.match(before, /^10\.244\.0\.0\/16 dev flannel0/m);
      for (let round = 0; round < 3; round++) {
        node.ip('link', 'del', 'flannel0');
        assert.ok((await node.healed(before)) < 1000);
      }
      node.ip('route', 'del', '10.244.0.0/16');
      assert.ok((await node.healed(before)) < 1000);
      // That packets are not carried for a moment may be told; everything else may not go wrong.
      assert.deepEqual(
        node.failures.filter((text) => !/the TUN device is gone/.test(text)),
        [],
      );
      await node.stop();
      assert.ok(!node.has('flannel0'), 'it is there as long as its proxy is');
    });
  });
});
