/** The backend vxlan in the kernel: what it makes, what it heals, what it leaves alone. `ip` and `bridge` are the ones who look and who break. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import type { FamilyLease, Lease } from '../../../src/network/lease.ts';
import { eventually } from '../support/eventually.ts';
import { address, NetworkNode, OWN, peer, prefix, ScriptedLeases } from './support/network-node.ts';

function of4({ v4 }: Lease): FamilyLease {
  return v4 ?? assert.fail('there is no IPv4');
}

describe('the backend vxlan', function () {
  this.timeout(60_000);
  let node: NetworkNode;
  let leases: ScriptedLeases;

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(() => {
    node = new NetworkNode();
    leases = new ScriptedLeases(OWN, [peer(1), peer(2)]);
  });
  afterEach(() => node.close());

  const start = async (conf: object = {}): Promise<string> => {
    await node.start(leases, conf).settled();
    assert.deepEqual(node.failures, []);
    return node.state();
  };
  const vtep = (name: string): { mtu: number; address: string; data: Record<string, unknown>; up: boolean } => {
    const [link] = node.json<{ mtu: number; address: string; flags: string[]; linkinfo: { info_data: Record<string, unknown> } }>(
      'link',
      'show',
      'dev',
      name,
    );
    assert.ok(link);
    return { mtu: link.mtu, address: link.address, data: link.linkinfo.info_data, up: link.flags.includes('UP') };
  };

  it('makes the devices, and for each peer a neighbour, a forwarding entry and a route, of both families', async () => {
    await start();
    const [v4, v6] = [vtep('flannel.1'), vtep('flannel-v6.1')];
    assert.deepEqual(
      [v4.mtu, v4.address, v4.up, v6.mtu, v6.address, v6.up],
      [1450, '0e:04:00:00:00:00', true, 1430, '0e:06:00:00:00:00', true],
    );
    assert.deepEqual([v4.data['id'], v4.data['port'], v4.data['local'], v4.data['learning']], [1, 8472, '172.18.0.1', false]);
    assert.equal(v6.data['local6'] ?? v6.data['local'], 'fd00:172:18::1');
    const addresses = (name: string): string[] =>
      node
        .json<{ addr_info: { local: string; prefixlen: number; scope: string }[] }>('addr', 'show', 'dev', name)
        .flatMap(({ addr_info }) => addr_info.filter(({ scope }) => scope === 'global').map((each) => `${each.local}/${each.prefixlen}`));
    assert.deepEqual(addresses('flannel.1'), ['10.244.0.0/32']);
    assert.deepEqual(addresses('flannel-v6.1'), ['fd00:10:244::/128']);
    assert.deepEqual(node.neighbours('flannel.1'), ['10.244.1.0 0e:04:00:00:00:01', '10.244.2.0 0e:04:00:00:00:02']);
    assert.deepEqual(node.neighbours('flannel-v6.1'), ['fd00:10:244:1:: 0e:06:00:00:00:01', 'fd00:10:244:2:: 0e:06:00:00:00:02']);
    assert.deepEqual(node.forwarding('flannel.1'), [
      '0e:04:00:00:00:01 172.18.0.101 permanent',
      '0e:04:00:00:00:02 172.18.0.102 permanent',
    ]);
    assert.deepEqual(node.forwarding('flannel-v6.1'), [
      '0e:06:00:00:00:01 fd00:172:18::65 permanent',
      '0e:06:00:00:00:02 fd00:172:18::66 permanent',
    ]);
    const routes = node.routes().join('\n');
    assert.match(routes, /^10\.244\.1\.0\/24 via 10\.244\.1\.0 dev flannel\.1 onlink$/m);
    assert.match(routes, /^fd00:10:244:2::\/64 via fd00:10:244:2:: dev flannel-v6\.1 metric 1024 onlink/m);
    assert.deepEqual(leases.announced.at(-1)?.v4?.data, '{"VNI":1,"VtepMAC":"0e:04:00:00:00:00"}');
    assert.equal(node.network?.configuration?.mtu, 1430);
  });

  it('is found as it is by the next start: nothing is made anew', async () => {
    const before = await start();
    const index = node.json<{ ifindex: number }>('link', 'show', 'dev', 'flannel.1')[0]?.ifindex;
    await node.stop();
    node.changes.length = 0;
    await start();
    assert.equal(node.state(), before);
    assert.deepEqual(node.changes, []);
    assert.equal(node.json<{ ifindex: number }>('link', 'show', 'dev', 'flannel.1')[0]?.ifindex, index);
  });

  describe('heals', () => {
    const damages: readonly (readonly [what: string, object: string, damage: (node: NetworkNode) => void])[] = [
      ['a device that was deleted', 'link', (n) => n.ip('link', 'del', 'flannel.1')],
      ['the other family’s device that was deleted', 'link', (n) => n.ip('link', 'del', 'flannel-v6.1')],
      ['a device that was set down', 'link', (n) => n.ip('link', 'set', 'flannel.1', 'down')],
      [
        'a device that was set down and up again',
        'route',
        (n) => {
          n.ip('link', 'set', 'flannel.1', 'down');
          n.ip('link', 'set', 'flannel.1', 'up');
        },
      ],
      ['another MTU', 'link', (n) => n.ip('link', 'set', 'flannel.1', 'mtu', '1400')],
      ['another hardware address, as udev gives it', 'link', (n) => n.ip('link', 'set', 'flannel.1', 'address', '02:00:00:00:00:99')],
      ['learning that was switched on', 'link', (n) => n.ip('link', 'set', 'flannel.1', 'type', 'vxlan', 'learning')],
      [
        'a device of another VNI in its place',
        'link',
        (n) => {
          n.ip('link', 'del', 'flannel.1');
          n.ip(
            'link',
            'add',
            'flannel.1',
            'type',
            'vxlan',
            'id',
            '7',
            'dev',
            'eth0',
            'local',
            '172.18.0.1',
            'dstport',
            '8472',
            'nolearning',
          );
        },
      ],
      ['an address that was removed', 'address', (n) => n.ip('addr', 'del', '10.244.0.0/32', 'dev', 'flannel.1')],
      ['an IPv6 address that was removed', 'address', (n) => n.ip('addr', 'del', 'fd00:10:244::/128', 'dev', 'flannel-v6.1')],
      ['a neighbour that was removed', 'neighbour', (n) => n.ip('neigh', 'del', '10.244.1.0', 'dev', 'flannel.1')],
      [
        'a neighbour that was changed',
        'neighbour',
        (n) => n.ip('neigh', 'replace', '10.244.1.0', 'lladdr', '02:00:00:00:00:01', 'dev', 'flannel.1', 'nud', 'permanent'),
      ],
      ['a forwarding entry that was removed', 'forwarding', (n) => n.bridge('fdb', 'del', '0e:04:00:00:00:01', 'dev', 'flannel.1', 'self')],
      [
        'a forwarding entry that leads elsewhere',
        'forwarding',
        (n) => n.bridge('fdb', 'replace', '0e:04:00:00:00:01', 'dev', 'flannel.1', 'self', 'permanent', 'dst', '172.18.0.200'),
      ],
      ['a route that was removed', 'route', (n) => n.ip('route', 'del', '10.244.2.0/24')],
      ['an IPv6 route that was removed', 'route', (n) => n.ip('-6', 'route', 'del', 'fd00:10:244:2::/64')],
      ['a route that leads elsewhere', 'route', (n) => n.ip('route', 'replace', '10.244.2.0/24', 'via', '172.18.0.254')],
    ];
    for (const [what, object, damage] of damages) {
      it(`${what}, within a second, and counts it`, async () => {
        const before = await start();
        damage(node);
        const took = await node.healed(before);
        await eventually(() => node.repairs().some((change) => change.object === object), 'the repair being counted');
        assert.ok(took < 1000, `it took ${took} ms`);
        const { mtu, address: mac, up, data } = vtep('flannel.1');
        assert.deepEqual([mtu, mac, up, data['learning']], [1450, '0e:04:00:00:00:00', true, false]);
        assert.deepEqual(node.failures, []);
      });
    }

    it('what others add: entries and routes that nobody wants, and second destinations', async () => {
      const before = await start();
      node.ip('neigh', 'replace', '10.244.9.0', 'lladdr', '02:00:00:00:00:09', 'dev', 'flannel.1', 'nud', 'permanent');
      node.bridge('fdb', 'append', '02:00:00:00:00:09', 'dev', 'flannel.1', 'self', 'permanent', 'dst', '172.18.0.9');
      node.bridge('fdb', 'append', '0e:04:00:00:00:01', 'dev', 'flannel.1', 'self', 'permanent', 'dst', '172.18.0.77');
      node.ip('route', 'add', '10.244.9.0/24', 'via', '10.244.9.0', 'dev', 'flannel.1', 'onlink');
      assert.ok((await node.healed(before)) < 1000);
    });

    it('many times in a row', async () => {
      const before = await start();
      for (let round = 0; round < 10; round++) {
        node.ip('link', 'del', 'flannel.1');
        await node.healed(before);
      }
    });

    it('a network of many peers whose device is deleted', async () => {
      leases = new ScriptedLeases(
        OWN,
        Array.from({ length: 100 }, (_, i) => peer(i + 1)),
      );
      const before = await start();
      node.ip('link', 'del', 'flannel.1');
      assert.ok((await node.healed(before)) < 1000);
    });
  });

  it('removes at its start what nodes left that are gone, and nothing of others', async () => {
    await start();
    await node.stop();
    // A neighbour of the segment, a route of the administrator's to somewhere else, pods' own bridge.
    node.ip('route', 'add', '192.168.0.0/16', 'via', '172.18.0.254');
    node.ip('link', 'add', 'cni0', 'type', 'bridge');
    node.ip('addr', 'add', '10.244.0.1/24', 'dev', 'cni0');
    node.ip('link', 'set', 'cni0', 'up');
    leases.initial.splice(0, 1);
    await start();
    assert.doesNotMatch(node.state(), /10\.244\.1\.0|0e:04:00:00:00:01|fd00:10:244:1:/);
    assert.match(node.state(), /^10\.244\.0\.0\/24 dev cni0 /m);
    assert.match(node.ip('route'), /^192\.168\.0\.0\/16 via 172\.18\.0\.254/m);
    assert.ok(node.changes.some(({ cause }) => cause === 'stale'));
  });

  it('removes a device that belongs to an earlier VNI', async () => {
    await start();
    await node.stop();
    await start({ Backend: { Type: 'vxlan', VNI: 42, Port: 4789 } }).catch(() => undefined);
    await eventually(() => !node.has('flannel.1') && node.has('flannel.42'), 'the device of the new VNI');
  });

  it('makes a device anew whose parameters are others, also the interface of the outer packets', async () => {
    await start();
    await node.stop();
    node.ip('link', 'set', 'flannel.1', 'mtu', '1200');
    await start({ Backend: { Type: 'vxlan', Port: 4789, Learning: true } });
    assert.deepEqual([vtep('flannel.1').data['port'], vtep('flannel.1').data['learning'], vtep('flannel.1').mtu], [4789, true, 1450]);
  });

  it('follows a peer that comes, changes its VTEP or its address, and goes', async () => {
    const before = await start();
    leases.listener?.upsert(peer(3));
    assert.match(node.state(), /flannel\.1 neigh 10\.244\.3\.0 0e:04:00:00:00:03/);
    leases.listener?.upsert(peer(3, { mac: '0e:04:00:00:00:33' }));
    assert.match(node.state(), /flannel\.1 neigh 10\.244\.3\.0 0e:04:00:00:00:33/);
    assert.doesNotMatch(node.state(), /0e:04:00:00:00:03 /);
    leases.listener?.upsert(peer(3, { mac: '0e:04:00:00:00:33', at: '172.18.0.33' }));
    assert.match(node.state(), /flannel\.1 fdb 0e:04:00:00:00:33 172\.18\.0\.33 permanent/);
    assert.doesNotMatch(node.state(), /172\.18\.0\.103/);
    leases.listener?.remove('peer-3');
    assert.equal(node.state(), before);
    assert.deepEqual(node.repairs(), []);
  });

  it('says what is wrong with a peer, and goes on with the others', async () => {
    leases.initial.push(
      { ...peer(4), node: 'other-backend', backendType: 'host-gw' },
      peer(5, { at: '172.18.0.101' }),
      { ...peer(6), v4: { ...of4(peer(6)), data: { VNI: 9, VtepMAC: '0e:04:00:00:00:06' } } },
      { ...peer(7), node: 'impostor', v4: { ...of4(peer(7)), subnet: prefix('10.244.0.0/24') } },
    );
    await start();
    const problem = (name: string): string => (node.problems.get(name) ?? []).join('\n');
    assert.match(problem('other-backend'), /its backend is host-gw, and this node's is vxlan/);
    assert.match(problem('peer-5'), /its public address 172\.18\.0\.101 is also that of peer-1/);
    assert.match(problem('peer-6'), /its VNI is 9, and this node's is 1/);
    assert.match(problem('impostor'), /its subnet 10\.244\.0\.0\/24 is \(part of\) this node's own/);
    assert.match(node.state(), /^10\.244\.2\.0\/24 via 10\.244\.2\.0/m);
    assert.match(problem('peer-1'), /its public address 172\.18\.0\.101 is also that of peer-5/);
    leases.listener?.remove('impostor');
    assert.equal(problem('impostor'), '');
    leases.listener?.remove('peer-5');
    assert.equal(problem('peer-1'), '');
  });

  it('waits for its lease, and begins when it has one', async () => {
    leases = new ScriptedLeases({ waiting: 'the node has no podCIDR yet' });
    const network = node.start(leases);
    assert.match(node.waiting ?? '', /no podCIDR yet/);
    assert.ok(!node.has('flannel.1'));
    leases.listener?.own(OWN);
    await network.settled();
    assert.ok(node.has('flannel.1'));
    // Nobody takes away what a cluster forgets.
    leases.listener?.own({ waiting: 'the node is not there' });
    assert.ok(node.has('flannel.1'));
    assert.match(node.waiting ?? '', /not there/);
  });

  it('follows the MTU and the address of its interface', async () => {
    await start();
    node.ip('link', 'set', 'eth0', 'mtu', '1400');
    await eventually(() => vtep('flannel.1').mtu === 1350 && vtep('flannel-v6.1').mtu === 1330, 'the MTU');
    node.ip('addr', 'del', '172.18.0.1/24', 'dev', 'eth0');
    await eventually(() => node.waiting !== undefined, 'saying that there is no address');
    assert.match(node.state(), /^10\.244\.2\.0\/24 via 10\.244\.2\.0/m, 'what is there stays');
    node.ip('addr', 'add', '172.18.0.50/24', 'dev', 'eth0');
    await eventually(() => node.has('flannel.1') && vtep('flannel.1').data['local'] === '172.18.0.50', 'the local address');
    await eventually(() => leases.announced.at(-1)?.v4?.publicAddress === address('172.18.0.50'), 'the announcement');
  });

  it('gives a peer on the same segment a plain route with DirectRouting, and follows the routes', async () => {
    leases.initial[1] = peer(2, { at: '10.9.9.9' });
    await start({ Backend: { Type: 'vxlan', DirectRouting: true } });
    assert.match(node.state(), /^10\.244\.1\.0\/24 via 172\.18\.0\.101 dev eth0$/m);
    assert.match(node.state(), /^10\.244\.2\.0\/24 via 10\.244\.2\.0 dev flannel\.1 onlink$/m);
    assert.deepEqual(node.neighbours('flannel.1'), ['10.244.2.0 0e:04:00:00:00:02']);
    // The peer turns out to be on this segment, and then behind a router after all.
    node.ip('route', 'add', '10.9.9.9/32', 'dev', 'eth0');
    await eventually(
      () => /^10\.244\.2\.0\/24 via 10\.9\.9\.9 dev eth0$/m.test(node.state()),
      () => node.state(),
    );
    assert.deepEqual(node.neighbours('flannel.1'), []);
    node.ip('route', 'del', '10.9.9.9/32');
    await eventually(
      () => /^10\.244\.2\.0\/24 via 10\.244\.2\.0 dev flannel\.1 onlink$/m.test(node.state()),
      () => node.state(),
    );
    assert.deepEqual(node.forwarding('flannel.1'), ['0e:04:00:00:00:02 10.9.9.9 permanent']);
  });

  it('costs nothing while nothing happens', async () => {
    await start();
    const before = process.cpuUsage();
    const compared = node.changes.length;
    // What goes on at any node: pods' interfaces come and go, neighbours are asked for.
    for (let round = 0; round < 20; round++) {
      node.ip('link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1');
      node.ip('link', 'del', 'veth0');
    }
    assert.equal(node.changes.length, compared);
    assert.ok(process.cpuUsage(before).user < 5_000_000);
  });

  it('says that the kernel lacks a module, by its name', async () => {
    const supported = ((): boolean => {
      try {
        execFileSync('ip', ['-n', node.netns, 'link', 'add', 'probe0', 'type', 'ipip', 'local', '172.18.0.1'], { stdio: 'ignore' });
        return true;
      } catch {
        return false;
      }
    })();
    if (supported) return;
    leases = new ScriptedLeases(OWN, []);
    node.start(leases, { EnableIPv6: false, Backend: { Type: 'ipip' } });
    await eventually(() => node.failures.length > 0, 'the failure');
    assert.match(node.failures[0] ?? '', /the kernel has no ipip devices, and flannel\.ipip cannot be made/);
  });
});
