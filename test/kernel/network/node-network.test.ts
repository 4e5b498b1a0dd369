/** What a node's network does where several things happen at once, where it is told much at once, or not told at all. `ip` breaks and looks. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { inNamespace, run, setSysctls } from '../../../src/lab/namespaces.ts';
import type { Lease } from '../../../src/network/lease.ts';
import type { NetworkObserver } from '../../../src/network/node-network.ts';
import { UdpTunnel } from '../../../src/network/udp/udp-tunnel.ts';
import type { IPv4 } from '../../../src/policy/address.ts';
import { eventually } from '../support/eventually.ts';
import { address, NetworkNode, OWN, peer, prefix, ScriptedLeases } from './support/network-node.ts';

const IPV4 = { EnableIPv6: false };
const OWN4 = { ...OWN, v6: undefined };
const HOST_GW = { Backend: { Type: 'host-gw' } };
/** Is told, and does nothing. */
const DEAF: NetworkObserver = {
  changed: () => undefined,
  failed: () => undefined,
  peerProblems: () => undefined,
  compared: () => undefined,
  ready: () => undefined,
  waiting: () => undefined,
};
const DIRECT = { Backend: { Type: 'vxlan', DirectRouting: true } };

describe('the network of a node', function () {
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
  const batch = (...lines: string[]): void => {
    execFileSync('ip', ['-n', node.netns, '-force', '-batch', '-'], { input: `${lines.join('\n')}\n`, stdio: ['pipe', 'ignore', 'pipe'] });
  };
  const mtu = (device: string): number | undefined => node.json<{ mtu: number }>('link', 'show', 'dev', device)[0]?.mtu;
  /** No link-local address tells a second later that it is nobody else's, and so has everything looked at. */
  const withoutDetection = (): void => setSysctls(node.netns, { 'net.ipv6.conf.default.accept_dad': '0' });
  const overlayAddresses = (): string[] =>
    node
      .json<{ ifname: string; addr_info: { local: string; prefixlen: number; scope: string }[] }>('addr')
      .filter(({ ifname }) => ifname.startsWith('flannel'))
      .flatMap(({ addr_info }) =>
        addr_info.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      )
      .sort();
  const start = async (leases: ScriptedLeases, conf: object = {}): Promise<string> => {
    await node.start(leases, conf).settled();
    return node.state();
  };
  /** 10.244.1.0 to 10.244.254.0, each at an address of its own. */
  const many = (count: number): Lease[] => Array.from({ length: count }, (_, index) => peer(index + 1, { at: `172.18.0.${index + 2}` }));

  describe('heals', () => {
    const damages: readonly (readonly [what: string, damage: (node: NetworkNode) => void])[] = [
      ['a device that was given another name', (n) => n.ip('link', 'set', 'flannel.1', 'name', 'lost0')],
      ['the IPv6 device that was given another name', (n) => n.ip('link', 'set', 'flannel-v6.1', 'name', 'lost0')],
      [
        'a device of another kind in its place',
        (n) => {
          n.ip('link', 'del', 'flannel.1');
          n.ip('link', 'add', 'flannel.1', 'type', 'bridge');
        },
      ],
      ['its address with another length beside it', (n) => n.ip('addr', 'add', '10.244.0.0/24', 'dev', 'flannel.1')],
      [
        'its IPv6 address with another length in its place',
        (n) => {
          n.ip('addr', 'del', 'fd00:10:244::/128', 'dev', 'flannel-v6.1');
          n.ip('addr', 'add', 'fd00:10:244::/64', 'dev', 'flannel-v6.1', 'nodad');
        },
      ],
      ['a route that was put before the wanted one', (n) => n.ip('route', 'prepend', '10.244.1.0/24', 'via', '172.18.0.254')],
      ['an IPv6 route of a smaller metric', (n) => n.ip('route', 'add', 'fd00:10:244:1::/64', 'via', 'fd00:172:18::fe', 'metric', '512')],
      [
        'an IPv6 route of several hops',
        (n) => {
          const hops = ['nexthop', 'via', 'fd00:172:18::77', 'nexthop', 'via', 'fd00:172:18::78'];
          n.ip('route', 'add', 'fd00:10:244:9::/64', ...hops);
        },
      ],
      [
        'a forwarding entry with another port',
        (n) => {
          n.bridge('fdb', 'replace', '0e:04:00:00:00:01', 'dev', 'flannel.1', 'self', 'permanent', 'dst', '172.18.0.101', 'port', '9999');
        },
      ],
    ];
    for (const [what, damage] of damages) {
      it(what, async () => {
        const before = await start(new ScriptedLeases(OWN, [peer(1), peer(2)]));
        const addresses = (): string => JSON.stringify(overlayAddresses());
        const wanted = addresses();
        damage(node);
        assert.ok((await node.healed(before)) < 1000);
        await eventually(() => !node.has('lost0'), 'the device under another name being removed');
        await eventually(() => addresses() === wanted, addresses);
        await eventually(
          () => !/ port /.test(node.bridge('fdb', 'show', 'dev', 'flannel.1')),
          () => node.bridge('fdb', 'show', 'dev', 'flannel.1'),
        );
        assert.deepEqual(node.failures, []);
      });
    }

    it('a device that was given another name while the daemon was down', async () => {
      const before = await start(new ScriptedLeases(OWN, [peer(1)]));
      await node.stop();
      batch('link set flannel.1 name lost0');
      assert.equal(await start(new ScriptedLeases(OWN, [peer(1)])), before);
      assert.ok(!node.has('lost0'));
    });

    it('routes that go silently when the interface’s address is renewed', async () => {
      const before = await start(new ScriptedLeases(OWN4, [of(peer(1), 'host-gw'), of(peer(2), 'host-gw')]), { ...IPV4, ...HOST_GW });
      batch('addr del 172.18.0.1/24 dev eth0', 'addr add 172.18.0.1/24 dev eth0', 'route add default via 172.18.0.254');
      await node.healed(before);
    });

    it('routes through an interface that has got another name, and that nobody has named', async () => {
      const unnamed = { iface: [], ifaceRegex: [], ifaceCanReach: undefined, publicIP: undefined, publicIPv6: undefined };
      const interfaces = { ...unnamed, ipv4: true, ipv6: false };
      const leases = new ScriptedLeases(OWN4, [of(peer(1), 'host-gw')]);
      await node.start(leases, { ...IPV4, ...HOST_GW }, { interfaces }).settled();
      batch('link set eth0 name wan0');
      await eventually(() => node.network?.configuration?.external.name === 'wan0', 'the new name being taken up');
      batch('route del 10.244.1.0/24');
      await eventually(
        () => node.routes().includes('10.244.1.0/24 via 172.18.0.101 dev wan0'),
        () => `${node.state()}\n${node.failures.join('\n')}`,
      );
    });
  });

  it('takes up a node that comes while the first comparison is under way', async () => {
    // As a restart finds it, but for what peers need.
    withoutDetection();
    await start(new ScriptedLeases(OWN, []));
    await node.stop();
    const leases = new ScriptedLeases(OWN, many(250));
    let came = false;
    let ready = false;
    const observer: NetworkObserver = {
      ...DEAF,
      changed: (object) => {
        if (object !== 'route' || came) return;
        came = true;
        // At the next turn: the comparison has made its plan, and is not done.
        setImmediate(() => leases.listener?.upsert(peer(255, { at: '172.18.0.253' })));
      },
      ready: () => {
        ready = true;
      },
    };
    node.start(leases, {}, { observer });
    await eventually(() => ready, 'being ready');
    await eventually(() => node.routes().some((route) => route.startsWith('10.244.255.0/24 via 10.244.255.0 dev flannel.1')), 'its route');
  });

  it('follows the interface’s MTU also while it puts a device right', async () => {
    withoutDetection();
    await eventually(() => node.ip('-6', 'addr', 'show', 'tentative') === '', 'the interface having its addresses');
    const leases = new ScriptedLeases(OWN, [peer(1)]);
    let changed = false;
    const observer: NetworkObserver = {
      ...DEAF,
      changed: (_object, what, cause) => {
        if (cause !== 'repair' || !/flannel\.1: mtu 1450/.test(what) || changed) return;
        changed = true;
        node.ip('link', 'set', 'eth0', 'mtu', '1400');
      },
    };
    await node.start(leases, {}, { observer }).settled();
    node.ip('link', 'set', 'flannel.1', 'mtu', '1300');
    await eventually(
      () => changed && mtu('flannel.1') === 1350,
      () => `MTU ${mtu('flannel.1')}`,
    );
  });

  it('follows its interface although so much happens beside it that events are lost', async () => {
    const before = await start(new ScriptedLeases(OWN, [peer(1)]));
    batch('link add other0 type veth peer name other1');
    // This process stands still meanwhile, and its sockets run over.
    const flood = Array.from({ length: 30_000 }, (_, index) => `link set other0 mtu ${1000 + (index % 2)}`);
    batch(...flood, 'link set eth0 mtu 1400', 'link del flannel.1');
    await eventually(
      () => node.has('flannel.1') && mtu('flannel.1') === 1350,
      () => `MTU ${mtu('flannel.1')}`,
    );
    await node.healed(before);
    assert.deepEqual(node.failures, []);
  });

  it('does not tell its peers a link-local address while the interface’s own is away, and waits for that', async () => {
    const leases = new ScriptedLeases(OWN, [peer(1)]);
    await start(leases);
    // As when a link is bounced: the link-local address is the first to come back.
    batch('link set eth0 down', 'link set eth0 up');
    await eventually(
      () => /fd00:172:18::1/.test(node.waiting ?? ''),
      () => `waiting: ${node.waiting}`,
    );
    assert.ok(node.has('flannel-v6.1'));
    batch('addr add fd00:172:18::1/64 dev eth0 nodad');
    await eventually(
      () => node.network?.unready.length === 0,
      () => node.network?.unready.join() ?? '',
    );
    assert.deepEqual(new Set(leases.announced.map(({ v6 }) => v6?.publicAddress)), new Set([address('fd00:172:18::1')]));
  });

  it('lets go of a link-local address as soon as there is another', async () => {
    batch('addr del fd00:172:18::1/64 dev eth0');
    const leases = new ScriptedLeases(OWN, [peer(1)]);
    await start(leases);
    batch('addr add fd00:172:18::1/64 dev eth0 nodad');
    await eventually(() => leases.announced.at(-1)?.v6?.publicAddress === address('fd00:172:18::1'), 'the better address');
  });

  it('follows a new subnet of its own with all that it hands out', async () => {
    const state = mkdtempSync(join(tmpdir(), 'sluice-network-'));
    try {
      const leases = new ScriptedLeases(OWN4, [of(peer(1), 'vxlan')]);
      const subnetFile = join(state, 'subnet.env');
      await node.start(leases, IPV4, { subnetFile, bridge: 'cni0' }).settled();
      assert.match(readFileSync(subnetFile, 'utf8'), /^FLANNEL_SUBNET=10\.244\.0\.1\/24$/m);
      leases.listener?.own({ ...OWN4, v4: prefix('10.244.50.0/24') });
      await node.network?.settled();
      assert.match(readFileSync(subnetFile, 'utf8'), /^FLANNEL_SUBNET=10\.244\.50\.1\/24$/m);
      assert.deepEqual(overlayAddresses(), ['10.244.50.0/32']);
      assert.match(node.ip('addr', 'show', 'dev', 'cni0'), /inet 10\.244\.50\.1\/24/);
      assert.deepEqual(leases.announced.at(-1)?.v4?.subnet, prefix('10.244.50.0/24'));
      // A node that gets the former one is reached there.
      leases.listener?.upsert({ ...of(peer(2), 'vxlan'), v4: { ...peer(2).v4, subnet: prefix('10.244.0.0/24') } as Lease['v4'] });
      assert.match(node.state(), /^10\.244\.0\.0\/24 via 10\.244\.0\.0 dev flannel\.1 onlink$/m);
    } finally {
      rmSync(state, { recursive: true });
    }
  });

  it('removes the route that refused packets for its former subnet', async () => {
    const leases = new ScriptedLeases(OWN4, []);
    await node.start(leases, IPV4, { blackholeRoute: true }).settled();
    leases.listener?.own({ ...OWN4, v4: prefix('10.244.50.0/24') });
    await node.network?.settled();
    assert.deepEqual(node.routes(), ['blackhole 10.244.50.0/24']);
  });

  it('says once that a device cannot be made, not of each peer, and tells the peers nothing until it is there', async () => {
    // Somebody has a device of this VNI.
    batch('link add other0 type vxlan id 1 dstport 8472 local 172.18.0.1');
    const leases = new ScriptedLeases(
      OWN4,
      many(100).map((lease) => of(lease, 'vxlan')),
    );
    node.start(leases, IPV4);
    await eventually(() => node.failures.length > 0, 'the failure');
    leases.listener?.upsert(of(peer(200, { at: '172.18.0.200' }), 'vxlan'));
    await sleep(300);
    assert.deepEqual(node.failures, [
      'device flannel.1: adding vxlan link flannel.1: EEXIST (A VXLAN device with the specified VNI already exists)',
    ]);
    assert.deepEqual(leases.announced, []);
    assert.equal(node.waiting, 'the kernel does not hold everything yet');
    batch('link del other0');
    await node.network?.settled();
    assert.equal(leases.announced.length, 1);
    await eventually(() => node.routes().length === 101, 'all routes');
    assert.deepEqual(node.network?.unready, []);
  });

  it('tells of nodes that come to have the same subnet, and once', async () => {
    const leases = new ScriptedLeases(OWN, [peer(1)]);
    await start(leases);
    leases.listener?.upsert({ ...peer(1, { at: '172.18.0.200' }), node: 'peer-0' });
    const told = (): string[] => node.failures.filter((text) => text.includes('route 10.244.1.0/24'));
    await eventually(() => told().length > 0, 'the conflict');
    assert.match(told()[0] ?? '', /peer-0 and peer-1 have the same route 10\.244\.1\.0\/24: peer-0 gets it/);
    leases.listener?.upsert({ ...peer(2), node: 'peer-3' });
    leases.listener?.upsert(peer(2));
    await eventually(() => node.failures.some((text) => text.includes('route 10.244.2.0/24')), 'the second conflict');
    assert.equal(told().length, 1);
  });

  it('says of hundreds of nodes behind one address that they share it, and names few', async () => {
    const shared = many(250).map((lease) => ({
      ...lease,
      v6: undefined,
      v4: { ...(lease.v4 ?? OWN4.v4), publicAddress: address('203.0.113.7') },
    }));
    const leases = new ScriptedLeases(OWN, []);
    await start(leases);
    let told = 0;
    const set = node.problems.set.bind(node.problems);
    node.problems.set = (...args) => {
      told += args[1].join('').length;
      return set(...args);
    };
    for (const lease of shared) leases.listener?.upsert(lease as Lease);
    for (const { node: name } of shared) assert.match((node.problems.get(name) ?? []).join(), /203\.0\.113\.7 is also that of peer-/);
    assert.ok(told < 250_000, `${told} characters`);
    for (const { node: name } of shared.slice(1)) leases.listener?.remove(name);
    assert.deepEqual(node.problems.get('peer-1'), []);
  });

  it('asks for the ways to its peers a quarter of the time at most, however often routes change', async () => {
    const COSTS_MS = 30;
    let spentMs = 0;
    const slow: Lease = Object.defineProperty({ ...peer(1) }, 'backendType', {
      enumerable: true,
      get: () => {
        const until = performance.now() + COSTS_MS;
        while (performance.now() < until);
        spentMs += COSTS_MS;
        return 'vxlan';
      },
    });
    await start(new ScriptedLeases(OWN, [slow]), DIRECT);
    spentMs = 0;
    const at = performance.now();
    for (let round = 0; round < 15; round++) {
      const lines = Array.from({ length: 10 }, () => ['route add 198.18.0.0/24 via 172.18.0.254', 'route del 198.18.0.0/24']).flat();
      await run(undefined, ['ip', '-n', node.netns, '-force', '-batch', '-'], { input: `${lines.join('\n')}\n`, check: false });
      await sleep(80);
    }
    const share = spentMs / (performance.now() - at);
    assert.ok(spentMs > 0 && share < 0.3, `${(share * 100).toFixed(0)} % of the time`);
  });

  it('says what it waits for also when that comes up while it sets itself up', async () => {
    const leases = new ScriptedLeases(OWN, [peer(1)]);
    node.start(leases);
    leases.listener?.own({ waiting: 'the node is not there' });
    await node.network?.settled();
    assert.equal(node.waiting, 'the node is not there');
    assert.deepEqual(node.network?.unready, ['the node is not there']);
    leases.listener?.own(OWN);
    assert.deepEqual(node.network?.unready, []);
  });

  it('ends in order while routes change', async () => {
    const leases = new ScriptedLeases(OWN, [peer(1)]);
    await start(leases, DIRECT);
    leases.stop = async () => {
      batch('route add 198.18.0.0/24 via 172.18.0.254');
      // Until it has heard of that.
      await sleep(30);
    };
    await node.stop();
    // What is thrown now is thrown at nobody: mocha would see it.
    await sleep(150);
  });

  describe('udp', () => {
    const CONF = { ...IPV4, Backend: { Type: 'udp' } };
    const hasPort = (): boolean => inNamespace(node.netns, () => readFileSync('/proc/thread-self/net/udp', 'utf8')).includes(':205D ');

    it('takes over a device of its name that somebody has left behind', async () => {
      batch('tuntap add flannel0 mode tun');
      await start(new ScriptedLeases(OWN4, [of(peer(1), '')]), CONF);
      assert.ok(hasPort(), 'there is nobody who carries its packets');
      assert.deepEqual(node.failures, []);
    });

    it('carries packets again after the thread that carries them has failed', async () => {
      const leases = new ScriptedLeases(OWN4, [of(peer(1), '')]);
      const before = await start(leases, CONF);
      const sockets = inNamespace(node.netns, () => readFileSync('/proc/thread-self/net/udp', 'utf8'));
      const inode = sockets
        .split('\n')
        .find((line) => line.includes(':205D '))
        ?.trim()
        .split(/\s+/)[9];
      const fd = readdirSync('/proc/self/fd').find((name) => {
        try {
          return readlinkSync(`/proc/self/fd/${name}`) === `socket:[${inode}]`;
        } catch {
          return false;
        }
      });
      assert.ok(fd !== undefined);
      closeSync(Number(fd));
      // Wakes it; until it has seen what is missing nobody else may get the number.
      leases.listener?.upsert(of(peer(2), ''));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      await eventually(() => node.failures.some((text) => /descriptor was closed/.test(text)), 'the failure');
      await eventually(hasPort, 'the port');
      await node.healed(before);
    });

    it('starts nothing any more once it is told to end', async () => {
      const tunnel = new UdpTunnel({
        device: 'flannel0',
        address: address('172.18.0.1') as IPv4,
        tunAddress: address('10.244.0.0') as IPv4,
        port: 8285,
        mtu: 1472,
        onError: (error) => assert.fail(String(error)),
        inNode: (action) => inNamespace(node.netns, action),
      });
      await tunnel.create();
      assert.ok(hasPort());
      // It is being made anew when its configuration is replaced by another one.
      await Promise.all([tunnel.create(), tunnel.close()]);
      assert.ok(!hasPort());
      assert.ok(!node.has('flannel0'));
    });
  });
});
