/**
 * The backend wireguard in the kernel. `ip` and `wg` are the ones who look and who break, so most of this needs a kernel with WireGuard
 * and the program wg (wireguard-tools); where one is missing it is skipped, and said why. What happens without the module is tested
 * where there is none.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { NetlinkSocket } from 'nftables-js';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import type { Lease } from '../../../src/network/lease.ts';
import type { OwnLease } from '../../../src/network/lease-source.ts';
import { findGenericFamily, NETLINK_GENERIC } from '../../../src/rtnetlink/generic.ts';
import { eventually } from '../support/eventually.ts';
import { address, NetworkNode, OWN, prefix, ScriptedLeases } from './support/network-node.ts';

const DUAL = { Backend: { Type: 'wireguard' } };

function kernelHasWireguard(): boolean {
  const made = spawnSync('ip', ['link', 'add', 'wg-probe', 'type', 'wireguard']);
  spawnSync('ip', ['link', 'del', 'wg-probe']);
  return made.status === 0;
}

function onlyWithWireguard(context: Mocha.Context): void {
  onlyInSandbox(context);
  const missing = [
    ...(kernelHasWireguard() ? [] : ['the kernel has no WireGuard (CONFIG_WIREGUARD, modprobe wireguard)']),
    ...(spawnSync('wg', ['--version']).status === 0 ? [] : ['there is no program wg (apt-get install wireguard-tools)']),
  ];
  if (missing.length === 0) return;
  console.error(`      skipped: ${missing.join(', and ')}`);
  context.skip();
}

/** At 172.18.0.(100+N) and fd00:172:18::1:N, with subnets N; a key that nobody has the private one of, unless given. */
function peer(number: number, { key = keyOf(number), ports = [51_820, 51_821] }: { key?: string; ports?: readonly number[] } = {}): Lease {
  const hex = number.toString(16);
  return {
    node: `peer-${String(number).padStart(4, '0')}`,
    backendType: 'wireguard',
    v4: {
      subnet: prefix(`10.244.${number % 256}.0/24`),
      publicAddress: address(`172.18.0.${100 + (number % 100)}`),
      data: { PublicKey: key, Port: ports[0] },
    },
    v6: {
      subnet: prefix(`fd00:10:244:${hex}::/64`),
      publicAddress: address(`fd00:172:18::1:${hex}`),
      data: { PublicKey: key, Port: ports[1] },
    },
  };
}

/** Any 32 bytes are a public key. */
function keyOf(number: number): string {
  return Buffer.from(Uint8Array.from({ length: 32 }, (_, index) => (index === 0 ? 9 : number >> (index * 8 - 8)))).toString('base64');
}

interface Dump {
  readonly privateKey: string;
  readonly publicKey: string;
  readonly port: string;
  readonly mark: string;
  /** `key psk endpoint allowed keepalive` */
  readonly peers: readonly string[];
  readonly handshakes: ReadonlyMap<string, number>;
}

/** As `wg show DEVICE dump` has it. */
function dump(node: NetworkNode, device: string): Dump {
  const text = execFileSync('ip', ['netns', 'exec', node.netns, 'wg', 'show', device, 'dump'], { encoding: 'utf8', maxBuffer: 1 << 26 });
  const [first = [], ...rest] = text
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t'));
  const [privateKey = '', publicKey = '', port = '', mark = ''] = first;
  return {
    privateKey,
    publicKey,
    port,
    mark,
    peers: rest
      .map(([key, psk, endpoint, allowed = '', , , , keepalive]) => {
        return `${key} ${psk} ${endpoint} ${allowed.split(',').sort().join(',')} ${keepalive}`;
      })
      .sort(),
    handshakes: new Map(rest.map(([key = '', , , , handshake]) => [key, Number(handshake)])),
  };
}

function wg(node: NetworkNode, ...args: string[]): string {
  return execFileSync('ip', ['netns', 'exec', node.netns, 'wg', ...args], { encoding: 'utf8' });
}

/** Everything of the devices that are there, in one text. */
function state(node: NetworkNode): string {
  const lines = node.routes();
  for (const device of ['flannel-wg', 'flannel-wg-v6']) {
    const [link] = node.has(device)
      ? node.json<{
          mtu: number;
          flags: string[];
          linkinfo?: { info_kind?: string };
          addr_info: { local: string; prefixlen: number; scope: string }[];
        }>('addr', 'show', 'dev', device)
      : [];
    // Of another kind: no program shows what is in it.
    if (link === undefined || link.linkinfo?.info_kind !== 'wireguard') continue;
    const { privateKey, port, mark, peers } = dump(node, device);
    const addresses = link.addr_info.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`);
    lines.push(`${device} mtu ${link.mtu} ${link.flags.includes('UP') ? 'up' : 'down'} ${addresses.join(' ')}`);
    lines.push(`${device} ${privateKey} ${port} ${mark}`, ...peers.map((each) => `${device} ${each}`));
  }
  return lines.join('\n');
}

let keyFiles = 0;

/** A node of its own key, which the tests know by `keyFile`. */
class WireguardNode extends NetworkNode {
  readonly keyFile = `/run/wireguard-test/${keyFiles++}/wgkey`;

  override start(...args: Parameters<NetworkNode['start']>): ReturnType<NetworkNode['start']> {
    const before = process.env['WIREGUARD_KEY_FILE'];
    process.env['WIREGUARD_KEY_FILE'] = this.keyFile;
    try {
      return super.start(...args);
    } finally {
      // Everything of the node is there, or is tried again after seconds: then the test is over.
      if (before === undefined) delete process.env['WIREGUARD_KEY_FILE'];
      else process.env['WIREGUARD_KEY_FILE'] = before;
    }
  }
}

describe('generic netlink', () => {
  before(function () {
    onlyInSandbox(this);
  });

  it('finds a family by its name, and none where there is none', () => {
    const socket = NetlinkSocket.open(NETLINK_GENERIC);
    // linux/genetlink.h: GENL_ID_CTRL.
    assert.deepEqual(findGenericFamily(socket, 'nlctrl'), { id: 16, name: 'nlctrl', version: 2 });
    assert.equal(findGenericFamily(socket, 'sluice-no-such'), undefined);
    socket.close();
  });
});

describe('the backend wireguard where the kernel has none', function () {
  this.timeout(60_000);

  before(function () {
    onlyInSandbox(this);
    if (!kernelHasWireguard()) return;
    console.error('      skipped: this kernel has WireGuard');
    this.skip();
  });

  it('names the missing module, makes nothing, and tells peers nothing', async () => {
    const node = new WireguardNode();
    const leases = new ScriptedLeases(OWN, [peer(1)]);
    const network = node.start(leases, DUAL);
    await eventually(
      () => /module wireguard/.test(node.waiting ?? ''),
      () => `the module being named: ${node.waiting}`,
    );
    assert.match(node.waiting ?? '', /modprobe wireguard.*another backend/);
    assert.deepEqual(network.unready, [node.waiting]);
    assert.ok(!node.has('flannel-wg') && !node.has('flannel-wg-v6'));
    assert.deepEqual([node.changes, node.failures, leases.announced], [[], [], []]);
    assert.ok(!existsSync(node.keyFile));
    await node.close();
  });
});

describe('the backend wireguard', function () {
  this.timeout(120_000);
  let node: WireguardNode;
  let leases: ScriptedLeases;

  before(function () {
    onlyWithWireguard(this);
  });
  beforeEach(() => {
    node = new WireguardNode();
    leases = new ScriptedLeases(OWN, [peer(1), peer(2)]);
  });
  afterEach(() => node.close());

  const start = async (settings: object = {}, more: object = {}): Promise<string> => {
    await node.start(leases, { Backend: { Type: 'wireguard', ...settings }, ...more }).settled();
    assert.deepEqual(node.failures, []);
    return state(node);
  };
  const healed = async (before: string): Promise<void> => {
    const difference = (): string => {
      const [wanted, found] = [before.split('\n'), state(node).split('\n')];
      return [
        ...wanted.filter((line) => !found.includes(line)).map((line) => `- ${line}`),
        ...found.filter((line) => !wanted.includes(line)).map((line) => `+ ${line}`),
      ].join('\n');
    };
    await eventually(
      () => difference() === '',
      () => `healing:
${difference()}`,
      { everyMs: 50, withinMs: 60_000 },
    );
  };

  it('makes a device for each family, with a key of its own, and a peer for each node', async () => {
    const before = await start();
    const [v4, v6] = [dump(node, 'flannel-wg'), dump(node, 'flannel-wg-v6')];
    assert.deepEqual([v4.port, v4.mark, v6.port, v6.mark], ['51820', 'off', '51821', 'off']);
    const key = readFileSync(node.keyFile, 'utf8');
    assert.deepEqual([v4.privateKey, v6.privateKey], [key, key]);
    assert.equal(statSync(node.keyFile).mode & 0o777, 0o400);
    assert.deepEqual(
      v4.peers,
      [`${keyOf(1)} (none) 172.18.0.101:51820 10.244.1.0/24 off`, `${keyOf(2)} (none) 172.18.0.102:51820 10.244.2.0/24 off`].sort(),
    );
    assert.deepEqual(
      v6.peers,
      [
        `${keyOf(1)} (none) [fd00:172:18::1:1]:51821 fd00:10:244:1::/64 off`,
        `${keyOf(2)} (none) [fd00:172:18::1:2]:51821 fd00:10:244:2::/64 off`,
      ].sort(),
    );
    assert.match(before, /^flannel-wg mtu 1420 up 10\.244\.0\.0\/32$/m);
    assert.match(before, /^flannel-wg-v6 mtu 1420 up fd00:10:244::\/128$/m);
    assert.deepEqual(
      node.routes().filter((route) => !route.includes('proto kernel')),
      ['10.244.0.0/16 dev flannel-wg scope link', 'fd00:10:244::/48 dev flannel-wg-v6 metric 1024 pref medium'],
    );
    const announced = leases.announced.at(-1);
    assert.deepEqual(
      [announced?.v4?.data, announced?.v6?.data],
      [`{"PublicKey":"${v4.publicKey}","Port":51820}`, `{"PublicKey":"${v4.publicKey}","Port":51821}`],
    );
    assert.equal(node.network?.configuration?.mtu, 1420);
  });

  it('gives peers what net-conf.json says: port, preshared key, keepalive; the MTU less 80', async () => {
    const psk = wg(node, 'genpsk').trim();
    leases.initial.push(peer(3, { ports: [4000, 4001] }), peer(4, { ports: [] }));
    const text = await start({ PSK: psk, PersistentKeepaliveInterval: 25, ListenPort: 5000, ListenPortV6: 5001, MTU: 1400 });
    const [v4, v6] = [dump(node, 'flannel-wg'), dump(node, 'flannel-wg-v6')];
    assert.deepEqual([v4.port, v6.port], ['5000', '5001']);
    // Who tells no port has this node's own.
    assert.ok(v4.peers.includes(`${keyOf(3)} ${psk} 172.18.0.103:4000 10.244.3.0/24 25`), text);
    assert.ok(v4.peers.includes(`${keyOf(4)} ${psk} 172.18.0.104:5000 10.244.4.0/24 25`), text);
    assert.ok(v6.peers.includes(`${keyOf(3)} ${psk} [fd00:172:18::1:3]:4001 fd00:10:244:3::/64 25`), text);
    assert.ok(v6.peers.includes(`${keyOf(4)} ${psk} [fd00:172:18::1:4]:5001 fd00:10:244:4::/64 25`), text);
    assert.match(text, /^flannel-wg mtu 1320 up/m);
    // Secrets are in no log.
    const told = JSON.stringify([node.changes, node.failures, node.waiting, [...node.problems]]);
    assert.ok(!told.includes(psk) && !told.includes(v4.privateKey), told);
  });

  for (const [mode, endpoint] of [
    ['auto', '172.18.0.101:51820'],
    ['ipv4', '172.18.0.101:51820'],
    ['ipv6', '[fd00:172:18::1:1]:51820'],
  ] as const) {
    it(`has one device for both families in mode ${mode}`, async () => {
      leases.initial.length = 1;
      const text = await start({ Mode: mode });
      assert.deepEqual(dump(node, 'flannel-wg').peers, [`${keyOf(1)} (none) ${endpoint} 10.244.1.0/24,fd00:10:244:1::/64 off`]);
      assert.ok(!node.has('flannel-wg-v6'));
      assert.match(text, /^flannel-wg mtu 1420 up 10\.244\.0\.0\/32 fd00:10:244::\/128$/m);
      assert.match(text, /^10\.244\.0\.0\/16 dev flannel-wg scope link$/m);
      assert.match(text, /^fd00:10:244::\/48 dev flannel-wg metric/m);
    });
  }

  it('is found as it is by the next start: nothing is set again', async () => {
    const before = await start();
    const index = node.json<{ ifindex: number }>('link', 'show', 'dev', 'flannel-wg')[0]?.ifindex;
    await node.stop();
    assert.equal(state(node), before);
    node.changes.length = 0;
    await start();
    assert.equal(state(node), before);
    assert.deepEqual(node.changes, []);
    assert.equal(node.json<{ ifindex: number }>('link', 'show', 'dev', 'flannel-wg')[0]?.ifindex, index);
  });

  it('takes over the device of another mode or backend, and removes what that left', async () => {
    await start();
    await node.stop();
    await start({ Mode: 'auto' });
    assert.ok(node.has('flannel-wg') && !node.has('flannel-wg-v6'));
    await node.stop();
    leases = new ScriptedLeases(OWN, []);
    await start({ Type: 'vxlan' });
    assert.ok(node.has('flannel.1') && !node.has('flannel-wg'));
    assert.ok(!node.routes().some((route) => route.includes('flannel-wg')));
    await node.stop();
    leases = new ScriptedLeases(OWN, [peer(1), peer(2)]);
    await start();
    assert.ok(node.has('flannel-wg') && node.has('flannel-wg-v6') && !node.has('flannel.1'));
  });

  it('follows peers: new ones, other endpoints and subnets, other keys, and those that leave', async () => {
    await start();
    node.changes.length = 0;
    leases.listener?.upsert(peer(3));
    assert.ok(dump(node, 'flannel-wg').peers.includes(`${keyOf(3)} (none) 172.18.0.103:51820 10.244.3.0/24 off`));
    const moved = peer(3, { ports: [7000, 7001] });
    leases.listener?.upsert(moved);
    assert.ok(dump(node, 'flannel-wg').peers.includes(`${keyOf(3)} (none) 172.18.0.103:7000 10.244.3.0/24 off`));
    assert.ok(moved.v4 !== undefined);
    leases.listener?.upsert({ ...moved, v4: { ...moved.v4, subnet: prefix('10.244.33.0/24') } });
    assert.ok(dump(node, 'flannel-wg').peers.includes(`${keyOf(3)} (none) 172.18.0.103:7000 10.244.33.0/24 off`));
    leases.listener?.upsert(peer(3, { key: keyOf(300) }));
    const other = dump(node, 'flannel-wg');
    assert.ok(other.peers.includes(`${keyOf(300)} (none) 172.18.0.103:51820 10.244.3.0/24 off`));
    assert.equal(other.peers.length, 3);
    leases.listener?.remove('peer-0003');
    assert.equal(dump(node, 'flannel-wg').peers.length, 2);
    assert.equal(dump(node, 'flannel-wg-v6').peers.length, 2);
    assert.ok(
      node.changes.every(({ object, cause }) => object === 'peer' && cause === 'wanted'),
      JSON.stringify(node.changes),
    );
    assert.deepEqual(node.failures, []);
  });

  it('hands a subnet from one node to the next, whichever is told of first', async () => {
    await start();
    const [first, second] = [peer(1), peer(2)];
    assert.ok(first.v4 !== undefined && second.v4 !== undefined);
    leases.listener?.upsert({ ...first, v4: { ...first.v4, subnet: second.v4.subnet } });
    leases.listener?.upsert({ ...second, v4: { ...second.v4, subnet: first.v4.subnet } });
    const peers = dump(node, 'flannel-wg')
      .peers.map((line) => line.split(' '))
      .map(([key, , , allowed]) => `${key} ${allowed}`);
    assert.deepEqual(peers.sort(), [`${keyOf(1)} 10.244.2.0/24`, `${keyOf(2)} 10.244.1.0/24`].sort());
    assert.deepEqual(node.failures, []);
  });

  it('gives a key that two nodes tell to the first of them, and says so', async () => {
    leases.initial.push(peer(3, { key: keyOf(2) }));
    await node.start(leases, DUAL).settled();
    await eventually(() => node.failures.length > 0, 'the conflict being told');
    assert.match(node.failures.join('\n'), /peer-0002 and peer-0003 have the same WireGuard key .*: peer-0002 gets it/);
    assert.ok(dump(node, 'flannel-wg').peers.includes(`${keyOf(2)} (none) 172.18.0.102:51820 10.244.2.0/24 off`));
    // Whoever has it leaves: the other one gets it.
    leases.listener?.remove('peer-0002');
    assert.ok(dump(node, 'flannel-wg').peers.includes(`${keyOf(2)} (none) 172.18.0.103:51820 10.244.3.0/24 off`));
  });

  it('takes no peer that has its own key, and says so', async () => {
    await start();
    leases.listener?.upsert(peer(3, { key: dump(node, 'flannel-wg').publicKey }));
    assert.match(node.problems.get('peer-0003')?.join() ?? '', /its key is this node’s own/);
    assert.equal(dump(node, 'flannel-wg').peers.length, 2);
  });

  describe('heals', () => {
    const damages: readonly (readonly [what: string, damage: (n: WireguardNode) => void])[] = [
      ['a device that was deleted', (n) => n.ip('link', 'del', 'flannel-wg')],
      ['the other family’s device that was deleted', (n) => n.ip('link', 'del', 'flannel-wg-v6')],
      [
        'a device of another kind in its place',
        (n) => {
          n.ip('link', 'del', 'flannel-wg');
          n.ip('link', 'add', 'flannel-wg', 'type', 'dummy');
        },
      ],
      ['a device that was set down', (n) => n.ip('link', 'set', 'flannel-wg', 'down')],
      ['another MTU', (n) => n.ip('link', 'set', 'flannel-wg', 'mtu', '1300')],
      ['an address that was removed', (n) => n.ip('addr', 'del', '10.244.0.0/32', 'dev', 'flannel-wg')],
      ['a route that was removed', (n) => n.ip('route', 'del', '10.244.0.0/16')],
      [
        'another private key',
        (n) => {
          const path = `${n.keyFile}.other`;
          writeFileSync(path, wg(n, 'genkey'));
          wg(n, 'set', 'flannel-wg', 'private-key', path);
        },
      ],
      ['another port', (n) => wg(n, 'set', 'flannel-wg', 'listen-port', '7777')],
      ['a mark', (n) => wg(n, 'set', 'flannel-wg', 'fwmark', '0x77')],
      ['a peer that was removed', (n) => wg(n, 'set', 'flannel-wg', 'peer', keyOf(1), 'remove')],
      ['a peer that nobody wants', (n) => wg(n, 'set', 'flannel-wg', 'peer', keyOf(99), 'allowed-ips', '10.244.99.0/24')],
      ['a subnet that another peer was given', (n) => wg(n, 'set', 'flannel-wg', 'peer', keyOf(99), 'allowed-ips', '10.244.1.0/24')],
      ['further subnets of a peer', (n) => wg(n, 'set', 'flannel-wg', 'peer', keyOf(1), 'allowed-ips', '10.244.1.0/24,0.0.0.0/0')],
      [
        'another endpoint of a peer that has never answered',
        (n) => wg(n, 'set', 'flannel-wg', 'peer', keyOf(1), 'endpoint', '192.0.2.1:9'),
      ],
      ['another keepalive', (n) => wg(n, 'set', 'flannel-wg', 'peer', keyOf(1), 'persistent-keepalive', '7')],
      [
        'a preshared key',
        (n) => {
          const path = `${n.keyFile}.psk`;
          writeFileSync(path, wg(n, 'genpsk'));
          wg(n, 'set', 'flannel-wg-v6', 'peer', keyOf(1), 'preshared-key', path);
        },
      ],
    ];
    for (const [what, damage] of damages) {
      it(`${what}, and tells it`, async () => {
        const before = await start();
        damage(node);
        await healed(before);
        await eventually(() => node.repairs().length > 0, 'the repair being told');
        assert.deepEqual(node.failures, []);
      });
    }
  });

  it('waits for a port that is taken, and says so', async () => {
    node.ip('link', 'add', 'other', 'type', 'wireguard');
    wg(node, 'set', 'other', 'listen-port', '51820');
    node.ip('link', 'set', 'other', 'up');
    void node.start(leases, DUAL);
    await eventually(() => node.failures.length > 0, 'the port being named');
    assert.match(node.failures.join('\n'), /flannel-wg.*(?:taken|EADDRINUSE)/);
    node.ip('link', 'del', 'other');
    await eventually(() => state(node).includes('flannel-wg mtu 1420 up'), 'the device being set up');
  });

  it('does not start with a key file that holds none, and says what to do', async () => {
    mkdirSync(node.keyFile.replace(/\/wgkey$/, ''), { recursive: true });
    writeFileSync(node.keyFile, 'c2hvcnQ=');
    void node.start(leases, DUAL);
    await eventually(() => /holds no key/.test(node.waiting ?? ''), 'the key file being named');
    assert.ok((node.waiting ?? '').includes(node.keyFile));
    assert.ok(!(node.waiting ?? '').includes('c2hvcnQ='));
    assert.ok(!node.has('flannel-wg'));
  });

  it('has a thousand peers, which the kernel tells in many messages, and finds them again', async () => {
    const count = 1_000;
    const many = Array.from({ length: count }, (_, index): Lease => {
      const number = index + 1;
      const base = peer(number);
      assert.ok(base.v4 !== undefined);
      return { ...base, v4: { ...base.v4, subnet: prefix(`10.${number >> 8}.${number & 255}.0/24`) } };
    });
    const own: OwnLease = { ...OWN, v4: prefix('10.255.0.0/24'), v6: prefix('fd00:10:244:ffff::/64') };
    leases = new ScriptedLeases(own, many);
    const before = await start({}, { Network: '10.0.0.0/8' });
    assert.equal(dump(node, 'flannel-wg').peers.length, count);
    assert.equal(dump(node, 'flannel-wg-v6').peers.length, count);
    await node.stop();
    node.changes.length = 0;
    await start({}, { Network: '10.0.0.0/8' });
    assert.equal(state(node), before);
    assert.deepEqual(node.changes, []);
    wg(node, 'set', 'flannel-wg', 'peer', keyOf(700), 'remove');
    await healed(before);
  });
});

describe('two nodes with the backend wireguard', function () {
  this.timeout(120_000);
  const SWITCH = 'wireguard-switch';
  let a: WireguardNode;
  let b: WireguardNode;
  let toA: ScriptedLeases;
  let toB: ScriptedLeases;
  const OTHER: OwnLease = { ...OWN, v4: prefix('10.244.9.0/24'), v6: prefix('fd00:10:244:9::/64') };

  before(function () {
    onlyWithWireguard(this);
  });
  beforeEach(() => {
    a = new WireguardNode();
    b = new WireguardNode();
    b.ip('addr', 'flush', 'dev', 'eth0');
    b.ip('addr', 'add', '172.18.0.9/24', 'dev', 'eth0');
    b.ip('addr', 'add', 'fd00:172:18::9/64', 'dev', 'eth0', 'nodad');
    execFileSync('ip', ['netns', 'add', SWITCH]);
    execFileSync('ip', ['-n', SWITCH, 'link', 'add', 'switch', 'type', 'bridge']);
    execFileSync('ip', ['-n', SWITCH, 'link', 'set', 'switch', 'up']);
    for (const [name, each] of [
      ['a', a],
      ['b', b],
    ] as const) {
      each.ip('link', 'set', 'segment', 'netns', SWITCH, 'name', name);
      execFileSync('ip', ['-n', SWITCH, 'link', 'set', 'dev', name, 'master', 'switch', 'up']);
    }
    toA = new ScriptedLeases(OWN);
    toB = new ScriptedLeases(OTHER);
  });
  afterEach(async () => {
    await Promise.all([a.close(), b.close()]);
    execFileSync('ip', ['netns', 'del', SWITCH]);
  });

  /** What a node has told, as the others have it. */
  const lease = (name: string, leases: ScriptedLeases): Lease => {
    const told = leases.announced.at(-1);
    assert.ok(told?.v4 !== undefined && told.v6 !== undefined);
    const [v4, v6] = [told.v4, told.v6];
    return {
      node: name,
      backendType: 'wireguard',
      v4: { ...v4, data: JSON.parse(v4.data) as unknown },
      v6: { ...v6, data: JSON.parse(v6.data) as unknown },
    };
  };
  const start = async (settings: object = {}): Promise<void> => {
    const conf = { Backend: { Type: 'wireguard', ...settings } };
    await a.start(toA, conf).settled();
    await b.start(toB, conf).settled();
    toA.listener?.upsert(lease('b', toB));
    toB.listener?.upsert(lease('a', toA));
  };
  const pings = (from: NetworkNode, source: string, to: string): boolean =>
    spawnSync('ip', ['netns', 'exec', from.netns, 'ping', '-n', '-c', '1', '-W', '2', '-I', source, to]).status === 0;

  for (const [mode, settings] of [
    ['separate', {}],
    ['separate, with a preshared key', { PSK: Buffer.alloc(32, 7).toString('base64') }],
    ['auto', { Mode: 'auto' }],
    ['ipv6', { Mode: 'ipv6' }],
  ] as const) {
    it(`reach each other over both families, mode ${mode}`, async () => {
      await start(settings);
      await eventually(() => pings(a, '10.244.0.0', '10.244.9.0'), 'IPv4 getting through');
      await eventually(() => pings(b, 'fd00:10:244:9::', 'fd00:10:244::'), 'IPv6 getting through');
      const { handshakes } = dump(a, 'flannel-wg');
      assert.ok([...handshakes.values()].every((at) => at > 0));
      assert.deepEqual([...a.failures, ...b.failures], []);
    });
  }

  it('keep their session while one of them starts again', async () => {
    await start();
    await eventually(() => pings(a, '10.244.0.0', '10.244.9.0'), 'the first packet getting through');
    const before = dump(a, 'flannel-wg').handshakes;
    await a.stop();
    assert.ok(pings(b, '10.244.9.0', '10.244.0.0'));
    toA.initial.push(lease('b', toB));
    await a.start(toA, DUAL).settled();
    assert.ok(pings(a, '10.244.0.0', '10.244.9.0'));
    assert.deepEqual(dump(a, 'flannel-wg').handshakes, before);
  });

  it('reach each other again at once when a device was deleted, and its sessions with it', async () => {
    await start();
    await eventually(() => pings(a, '10.244.0.0', '10.244.9.0'), 'the first packet getting through');
    const before = Math.max(...dump(b, 'flannel-wg').handshakes.values());
    // Handshakes have a second for their time.
    await eventually(() => Date.now() / 1000 > before + 2, 'another second');
    a.ip('link', 'del', 'flannel-wg');
    // By itself WireGuard gives a session up no sooner than 10 s after it was used last.
    const again = (): boolean => Math.max(...dump(b, 'flannel-wg').handshakes.values()) > before;
    await eventually(again, 'another handshake', { withinMs: 8_000, everyMs: 100 });
    assert.ok(pings(b, '10.244.9.0', '10.244.0.0'));
  });

  it('leave alone the endpoint that a peer sends from, behind an address translation', async () => {
    b.ip('addr', 'add', '172.18.0.19/24', 'dev', 'eth0');
    const snat = 'oifname "eth0" udp sport 51820 snat to 172.18.0.19:40000';
    const rules = `table ip moved { chain out { type nat hook postrouting priority srcnat; ${snat}; }; }`;
    execFileSync('ip', ['netns', 'exec', b.netns, 'nft', rules]);
    await start();
    const endpoint = (): string | undefined => dump(a, 'flannel-wg').peers[0]?.split(' ')[2];
    assert.equal(endpoint(), '172.18.0.9:51820');
    await eventually(() => pings(b, '10.244.9.0', '10.244.0.0'), 'the first packet getting through');
    assert.equal(endpoint(), '172.18.0.19:40000');
    const [key = ''] = dump(a, 'flannel-wg').handshakes.keys();
    // That this is repaired shows that it has been looked at since.
    wg(a, 'set', 'flannel-wg', 'peer', key, 'persistent-keepalive', '7');
    await eventually(() => dump(a, 'flannel-wg').peers[0]?.endsWith(' off') === true, 'the keepalive being repaired');
    assert.equal(endpoint(), '172.18.0.19:40000');
    assert.ok(pings(a, '10.244.0.0', '10.244.9.0'));
  });
});
