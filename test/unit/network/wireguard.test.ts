/** What the backend wireguard wants of its devices, and how it brings them there; the kernel is a simulated one. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { SluiceError } from '../../../src/errors.ts';
import type { NodeContext, NodeFamily } from '../../../src/network/backends/backend.ts';
import { WireguardBackend } from '../../../src/network/backends/wireguard.ts';
import type { Lease } from '../../../src/network/lease.ts';
import type { WireguardConf } from '../../../src/network/net-conf.ts';
import { publicKeyOf, readSecretKey, SecretKey } from '../../../src/network/wireguard/keys.ts';
import type { WireguardPeer } from '../../../src/network/wireguard/messages.ts';
import { WireguardTunnel } from '../../../src/network/wireguard/tunnel.ts';
import { type Address, formatAddress, formatPrefix, parseAddress, parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import { eventually } from '../../kernel/support/eventually.ts';
import { SimulatedDevices } from './wireguard-devices.ts';

const address = (text: string): Address => parseAddress(text) ?? assert.fail(text);
const prefix = (text: string): Prefix => parsePrefix(text) ?? assert.fail(text);
/** Any 32 bytes are a public key. */
const key = (number: number): string => Buffer.alloc(32, number).toString('base64');

const PRIVATE_KEY = SecretKey.of(Uint8Array.from({ length: 32 }, (_, index) => 0x40 + index));
/** As wgctrl says, flannel's library. */
const PUBLIC_KEY = 'eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo=';
const PSK = Buffer.alloc(32, 0x77).toString('base64');

const CONF: WireguardConf = {
  type: 'wireguard',
  listenPort: 51_820,
  listenPortV6: 51_821,
  mtu: undefined,
  psk: undefined,
  persistentKeepaliveInterval: 0,
  mode: 'separate',
};

function family4(): NodeFamily {
  const own = address('172.18.0.1');
  return { family: 4, subnet: prefix('10.244.0.0/24'), network: prefix('10.244.0.0/16'), own, public: own, source: own };
}

function family6(published = 'fd00:172:18::1'): NodeFamily {
  const own = address('fd00:172:18::1');
  const network = prefix('fd00:10:244::/48');
  return { family: 6, subnet: prefix('fd00:10:244::/64'), network, own, public: address(published), source: own };
}

function lease(
  number: number,
  v4: string | undefined,
  v6: string | undefined,
  data: unknown = { PublicKey: key(number), Port: 51_820 },
): Lease {
  const of = (subnet: string, at: string | undefined, what: unknown) =>
    at === undefined ? undefined : { subnet: prefix(subnet), publicAddress: address(at), data: what };
  // Of IPv6 flanneld tells the port of that family.
  const data6 = typeof data === 'object' && data !== null && 'Port' in data ? { ...data, Port: 51_821 } : data;
  return {
    node: `node-${number}`,
    backendType: 'wireguard',
    v4: of(`10.244.${number}.0/24`, v4, data),
    v6: of(`fd00:10:244:${number}::/64`, v6, data6),
  };
}

describe('the backend wireguard', () => {
  let directory: string;
  let keyFile: string;
  let devices: SimulatedDevices;
  const told: string[] = [];
  const errors: string[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'wireguard-'));
    keyFile = join(directory, 'wgkey');
    writeFileSync(keyFile, Buffer.from(PRIVATE_KEY.bytes()).toString('base64'));
    devices = new SimulatedDevices();
    told.length = 0;
    errors.length = 0;
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const backend = (conf: Partial<WireguardConf> = {}, families: readonly NodeFamily[] = [family4(), family6()]): WireguardBackend => {
    const node: NodeContext = { external: { index: 2, name: 'eth0', mtu: 1500 }, families };
    return new WireguardBackend({
      conf: { ...CONF, ...conf },
      node,
      keyFile,
      openControl: () => devices,
      onChange: (what, cause) => void told.push(`${cause} ${what}`),
      onError: (error) => void errors.push(String(error)),
    });
  };
  /** What the devices come to have of a lease: `device key endpoint allowed`. */
  const peersOf = (of: WireguardBackend, ...leases: Lease[]): string[] => {
    for (const { name } of of.devices) devices.make(name);
    for (const each of leases) of.tunnel.setPeer(each);
    for (const { name } of of.devices) of.tunnel.configure?.(name, 'wanted');
    return [...devices.devices].flatMap(([name, { peers }]) =>
      [...peers.values()].map(({ publicKey, endpoint, allowed }) => {
        const at = endpoint === undefined ? 'none' : `${formatAddress(endpoint.address)} ${endpoint.port}`;
        return `${name} ${publicKey} ${at} ${allowed.map(formatPrefix).join(',')}`;
      }),
    );
  };

  it('has a device for each family, into which the whole network is routed', () => {
    const { devices: wanted, ownEntries, mtu, type } = backend();
    assert.deepEqual(
      wanted.map(({ kind, name, mtu: each, addresses, networks }) => [
        kind,
        name,
        each,
        addresses.map(formatAddress),
        networks.map(formatPrefix),
      ]),
      [
        ['wireguard', 'flannel-wg', 1420, ['10.244.0.0'], ['10.244.0.0/16']],
        ['wireguard', 'flannel-wg-v6', 1420, ['fd00:10:244::'], ['fd00:10:244::/48']],
      ],
    );
    assert.deepEqual(ownEntries, [
      { kind: 'route', destination: prefix('10.244.0.0/16'), gateway: undefined, device: 'flannel-wg', onlink: false },
      { kind: 'route', destination: prefix('fd00:10:244::/48'), gateway: undefined, device: 'flannel-wg-v6', onlink: false },
    ]);
    assert.deepEqual([type, mtu], ['wireguard', 1420]);
    assert.equal(backend({ mtu: 9000 }).mtu, 8920);
  });

  it('has one device for both families in the other modes, and for one family in each', () => {
    for (const mode of ['auto', 'ipv4', 'ipv6'] as const) {
      const { devices: wanted, ownEntries } = backend({ mode });
      assert.deepEqual(
        wanted.map(({ name, addresses, networks }) => [name, addresses.map(formatAddress), networks.map(formatPrefix)]),
        [['flannel-wg', ['10.244.0.0', 'fd00:10:244::'], ['10.244.0.0/16', 'fd00:10:244::/48']]],
      );
      assert.deepEqual(
        ownEntries.map((entry) => 'device' in entry && entry.device),
        ['flannel-wg', 'flannel-wg'],
      );
    }
    assert.deepEqual(
      backend({}, [family6()]).devices.map(({ name }) => name),
      ['flannel-wg-v6'],
    );
    assert.deepEqual(
      backend({ mode: 'auto' }, [family6()]).devices.map(({ name }) => name),
      ['flannel-wg'],
    );
    assert.deepEqual(
      backend({}, [family4()]).devices.map(({ name }) => name),
      ['flannel-wg'],
    );
  });

  it('tells peers its key and the port of each family, in the bytes of flanneld', () => {
    for (const mode of ['separate', 'auto'] as const) {
      const of = backend({ mode, listenPort: 4000 });
      assert.equal(of.data(4), `{"PublicKey":"${PUBLIC_KEY}","Port":4000}`);
      assert.equal(of.data(6), `{"PublicKey":"${PUBLIC_KEY}","Port":51821}`);
    }
    assert.equal(backend({}, [family4()]).data(6), 'null');
  });

  it('gives each device the key of the file and its port', () => {
    peersOf(backend({ listenPort: 4000 }));
    const [v4, v6] = [devices.devices.get('flannel-wg'), devices.devices.get('flannel-wg-v6')];
    assert.ok(v4?.privateKey?.equals(PRIVATE_KEY) === true && v6?.privateKey?.equals(PRIVATE_KEY) === true);
    assert.deepEqual([v4.listenPort, v6.listenPort], [4000, 51_821]);
  });

  it('gives peers the preshared key and the keepalive', () => {
    peersOf(backend({ psk: PSK, persistentKeepaliveInterval: 25 }), lease(1, '172.18.0.101', undefined));
    const peer = devices.devices.get('flannel-wg')?.peers.get(key(1));
    assert.equal(peer?.keepalive, 25);
    assert.ok(peer.presharedKey?.equals(readSecretKey(PSK) ?? assert.fail()));
  });

  it('has a peer on the device of each family that both nodes have', () => {
    const both = lease(1, '172.18.0.101', 'fd00:172:18::65');
    assert.deepEqual(peersOf(backend(), both), [
      `flannel-wg ${key(1)} 172.18.0.101 51820 10.244.1.0/24`,
      `flannel-wg-v6 ${key(1)} fd00:172:18::65 51821 fd00:10:244:1::/64`,
    ]);
    devices.devices.clear();
    assert.deepEqual(peersOf(backend({}, [family4()]), both), [`flannel-wg ${key(1)} 172.18.0.101 51820 10.244.1.0/24`]);
    devices.devices.clear();
    assert.deepEqual(peersOf(backend(), lease(1, undefined, 'fd00:172:18::65')), [
      `flannel-wg-v6 ${key(1)} fd00:172:18::65 51821 fd00:10:244:1::/64`,
    ]);
  });

  it('sends to its own port where a peer tells none, as flannel before 0.18', () => {
    const old = lease(1, '172.18.0.101', 'fd00:172:18::65', { PublicKey: key(1) });
    assert.deepEqual(peersOf(backend({ listenPort: 4000, listenPortV6: 4001 }), old), [
      `flannel-wg ${key(1)} 172.18.0.101 4000 10.244.1.0/24`,
      `flannel-wg-v6 ${key(1)} fd00:172:18::65 4001 fd00:10:244:1::/64`,
    ]);
    devices.devices.clear();
    assert.deepEqual(peersOf(backend({ listenPort: 4000, listenPortV6: 4001, mode: 'ipv6' }), old), [
      `flannel-wg ${key(1)} fd00:172:18::65 4000 10.244.1.0/24,fd00:10:244:1::/64`,
    ]);
  });

  describe('chooses the address that a peer is reached by as flannel does (selectMode)', () => {
    const PUBLIC4 = '198.51.100.7';
    const PUBLIC6 = '2001:db8::7';
    const PRIVATE4 = '172.18.0.101';
    const PRIVATE6 = 'fd00:172:18::65';
    const cases: readonly (readonly [
      mode: 'auto' | 'ipv4' | 'ipv6',
      own6: string,
      v4: string | undefined,
      v6: string | undefined,
      chosen: string | undefined,
    ])[] = [
      ['ipv4', PUBLIC6, PUBLIC4, PUBLIC6, PUBLIC4],
      ['ipv6', PRIVATE6, PRIVATE4, PRIVATE6, PRIVATE6],
      ['ipv4', PUBLIC6, undefined, PUBLIC6, undefined],
      ['ipv6', PUBLIC6, PUBLIC4, undefined, undefined],
      ['auto', PUBLIC6, PUBLIC4, PUBLIC6, PUBLIC4],
      ['auto', PUBLIC6, PRIVATE4, PUBLIC6, PUBLIC6],
      ['auto', PUBLIC6, PRIVATE4, PRIVATE6, PRIVATE4],
      ['auto', PRIVATE6, PRIVATE4, PUBLIC6, PRIVATE4],
      ['auto', PUBLIC6, PRIVATE4, undefined, PRIVATE4],
      ['auto', PRIVATE6, undefined, PRIVATE6, PRIVATE6],
      // The edges of what is private: RFC 1918, and fc00::/7.
      ['auto', PUBLIC6, '172.32.0.1', PUBLIC6, '172.32.0.1'],
      ['auto', PUBLIC6, '172.31.255.255', PUBLIC6, PUBLIC6],
      ['auto', PUBLIC6, '192.168.0.1', PUBLIC6, PUBLIC6],
      ['auto', PUBLIC6, '10.0.0.1', PUBLIC6, PUBLIC6],
      ['auto', PUBLIC6, '100.64.0.1', PUBLIC6, '100.64.0.1'],
      ['auto', PUBLIC6, PRIVATE4, 'fc00::1', PRIVATE4],
      ['auto', PUBLIC6, PRIVATE4, 'fe00::1', 'fe00::1'],
    ];
    for (const [mode, own6, v4, v6, chosen] of cases) {
      it(`mode ${mode}, own ${own6}, the peer’s ${v4 ?? 'none'} and ${v6 ?? 'none'}: ${chosen ?? 'none'}`, () => {
        const of = backend({ mode }, [family4(), family6(own6)]);
        const peer = lease(1, v4, v6);
        const subnets = [...(v4 === undefined ? [] : ['10.244.1.0/24']), ...(v6 === undefined ? [] : ['fd00:10:244:1::/64'])].join(',');
        // The device listens on the port of IPv4, whatever flanneld tells of IPv6.
        assert.deepEqual(peersOf(of, peer), chosen === undefined ? [] : [`flannel-wg ${key(1)} ${chosen} 51820 ${subnets}`]);
        const { problems } = of.entriesFor(peer);
        assert.equal(problems.length, chosen === undefined ? 1 : 0);
        if (chosen === undefined) assert.match(problems[0] ?? '', /^it has no address of IPv[46], by which .*: .* cannot be reached$/);
      });
    }
  });

  it('says what is wrong with a peer, and has the rest of it', () => {
    const of = backend();
    const half = lease(1, '172.18.0.101', 'fd00:172:18::65', { PublicKey: 'x' });
    assert.ok(half.v4 !== undefined);
    const fixed: Lease = { ...half, v4: { ...half.v4, data: { PublicKey: key(1) } } };
    assert.deepEqual(of.entriesFor(fixed), {
      entries: [],
      problems: ['its backend data has no key of WireGuard ({"PublicKey":"x"}): fd00:10:244:1::/64 cannot be reached'],
    });
    assert.deepEqual(peersOf(of, fixed), [`flannel-wg ${key(1)} 172.18.0.101 51820 10.244.1.0/24`]);
    assert.match(of.entriesFor(lease(2, '172.18.0.102', undefined, null)).problems.join(), /no key of WireGuard \(null\)/);
    const copied = lease(3, '172.18.0.103', undefined, { PublicKey: PUBLIC_KEY, Port: 1 });
    assert.match(of.entriesFor(copied).problems.join(), /key is this node’s own/);
  });

  it('is not there without the kernel’s module or a key, and leaves nothing open', () => {
    const missing = new SluiceError('MODULE_MISSING', 'no module');
    const node: NodeContext = { external: { index: 2, name: 'eth0', mtu: 1500 }, families: [family4()] };
    const options = { conf: CONF, node, keyFile, onChange: () => {}, onError: () => {} };
    assert.throws(() => {
      return new WireguardBackend({
        ...options,
        openControl: () => {
          throw missing;
        },
      });
    }, missing);
    rmSync(keyFile);
    writeFileSync(keyFile, '');
    assert.throws(() => new WireguardBackend({ ...options, openControl: () => devices }), { code: 'WIREGUARD_KEY' });
    assert.ok(devices.closed);
  });
});

describe('the tunnel of wireguard', () => {
  const PORT = 51_820;
  const told: string[] = [];
  const errors: unknown[] = [];
  let devices: SimulatedDevices;
  let tunnel: WireguardTunnel;

  const start = (lookEveryMs = 1_000_000): void => {
    told.length = 0;
    errors.length = 0;
    devices = new SimulatedDevices();
    devices.make('wg');
    tunnel = new WireguardTunnel({
      devices: new Map([['wg', { privateKey: PRIVATE_KEY, listenPort: PORT }]]),
      control: devices,
      // What a lease means is the backend's to say: here its data is the peer.
      peersOf: ({ v4 }) => new Map(v4 === undefined ? [] : [['wg', v4.data as WireguardPeer]]),
      onChange: (what, cause) => void told.push(`${cause} ${what}`),
      onError: (error) => void errors.push(error),
      lookEveryMs,
    });
  };
  beforeEach(() => start());
  afterEach(() => tunnel.close());

  const wants = (node: string, data: WireguardPeer): Lease => ({
    node,
    backendType: 'wireguard',
    v4: { subnet: prefix('10.244.1.0/24'), publicAddress: address('172.18.0.101'), data },
    v6: undefined,
  });
  const peer = (number: number, { subnets = [`10.244.${number}.0/24`], port = PORT, keepalive = 0 } = {}): WireguardPeer => ({
    publicKey: key(number),
    presharedKey: undefined,
    endpoint: { address: address(`172.18.0.${number}`), port },
    keepalive,
    allowed: subnets.map(prefix),
  });
  const device = () => devices.devices.get('wg') ?? assert.fail();
  /** `key port subnets` */
  const state = (): string[] =>
    [...device().peers.values()]
      .map(({ publicKey, endpoint, allowed }) => `${publicKey} ${endpoint?.port} ${allowed.map(formatPrefix).sort().join()}`)
      .sort();
  const damaged = (number: number, damage: object): void => {
    device().peers.set(key(number), { ...(device().peers.get(key(number)) ?? assert.fail()), ...damage });
  };

  it('changes nothing before its device is there, and then everything in one go', () => {
    tunnel.setPeer(wants('a', peer(1)));
    tunnel.setPeer(wants('b', peer(2)));
    assert.equal(devices.changes.length, 0);
    tunnel.configure('wg', 'wanted');
    assert.equal(devices.changes.length, 1);
    assert.deepEqual(state(), [`${key(1)} ${PORT} 10.244.1.0/24`, `${key(2)} ${PORT} 10.244.2.0/24`]);
    assert.deepEqual(told, [
      'wanted wg: private key set',
      `wanted wg: port ${PORT} set`,
      `wanted wg: peer ${key(1)} (a) added`,
      `wanted wg: peer ${key(2)} (b) added`,
    ]);
    tunnel.configure('wg', 'repair');
    assert.equal(devices.changes.length, 1);
  });

  it('changes only what is another for a peer: sessions go on', () => {
    tunnel.configure('wg', 'wanted');
    tunnel.setPeer(wants('a', peer(1)));
    devices.changes.length = 0;
    tunnel.setPeer(wants('a', peer(1)));
    assert.equal(devices.changes.length, 0);
    tunnel.setPeer(wants('a', peer(1, { keepalive: 25 })));
    tunnel.setPeer(wants('a', peer(1, { keepalive: 25, port: 7 })));
    tunnel.setPeer(wants('a', peer(1, { keepalive: 25, port: 7, subnets: ['10.244.3.0/24'] })));
    assert.deepEqual(
      devices.changes.map(([, { peers, ...rest }]) => [rest, ...peers]),
      [
        [{}, { publicKey: key(1), action: 'update', keepalive: 25 }],
        [{}, { publicKey: key(1), action: 'update', endpoint: { address: address('172.18.0.1'), port: 7 } }],
        [{}, { publicKey: key(1), action: 'update', allowed: [prefix('10.244.3.0/24')] }],
      ],
    );
    tunnel.removePeer(wants('a', peer(1)));
    assert.deepEqual(devices.changes.at(-1), ['wg', { peers: [{ publicKey: key(1), action: 'remove' }] }]);
  });

  it('has another peer where a node has another key', () => {
    tunnel.configure('wg', 'wanted');
    tunnel.setPeer(wants('a', peer(1)));
    tunnel.setPeer(wants('a', { ...peer(2), allowed: [prefix('10.244.1.0/24')] }));
    assert.deepEqual(state(), [`${key(2)} ${PORT} 10.244.1.0/24`]);
  });

  it('repairs what somebody else has changed, and nothing besides', () => {
    for (const number of [1, 2, 3]) tunnel.setPeer(wants(`node-${number}`, peer(number)));
    tunnel.configure('wg', 'wanted');
    const whole = state();
    const damages: readonly (readonly [does: string, damage: () => void])[] = [
      ['private key set', () => void (device().privateKey = SecretKey.of(new Uint8Array(32).fill(8)))],
      [`port ${PORT} set`, () => void (device().listenPort = 1)],
      ['mark removed', () => void (device().fwmark = 7)],
      [`peer ${key(1)} (node-1) added`, () => void device().peers.delete(key(1))],
      [`peer ${key(1)} (node-1) preshared key set`, () => damaged(1, { presharedKey: PRIVATE_KEY })],
      [`peer ${key(1)} (node-1) endpoint set`, () => damaged(1, { endpoint: { address: address('192.0.2.1'), port: 9 } })],
      [`peer ${key(1)} (node-1) endpoint set`, () => damaged(1, { endpoint: undefined })],
      [`peer ${key(1)} (node-1) keepalive set`, () => damaged(1, { keepalive: 9 })],
      [`peer ${key(1)} (node-1) allowed IPs set`, () => damaged(1, { allowed: [] })],
      [`peer ${key(1)} (node-1) allowed IPs set`, () => damaged(1, { allowed: [prefix('10.244.1.0/25')] })],
      [`peer ${key(9)} (of no node) removed`, () => devices.change('wg', { peers: [{ publicKey: key(9), action: 'add' }] })],
    ];
    for (const [does, damage] of damages) {
      damage();
      told.length = 0;
      tunnel.configure('wg', 'repair');
      assert.deepEqual(told, [`repair wg: ${does}`]);
      assert.deepEqual(state(), whole);
      const { listenPort, fwmark, privateKey } = device();
      assert.deepEqual([listenPort, fwmark, privateKey?.equals(PRIVATE_KEY)], [PORT, 0, true]);
    }
  });

  it('tells many changes in one line', () => {
    for (let number = 1; number <= 9; number++) tunnel.setPeer(wants(`node-${number}`, peer(number)));
    tunnel.configure('wg', 'wanted');
    assert.equal(told.at(-1), 'wanted wg: 9 peers added, 0 changed, 0 removed');
  });

  it('leaves an endpoint alone that the peer has proven, for as long as a session can last', () => {
    const now = Date.now() / 1000;
    const roamed = { address: address('192.0.2.1'), port: 40_000 };
    tunnel.setPeer(wants('a', peer(1)));
    tunnel.configure('wg', 'wanted');
    damaged(1, { endpoint: roamed, handshakeAt: now - 100 });
    tunnel.configure('wg', 'repair');
    assert.deepEqual(device().peers.get(key(1))?.endpoint, roamed);
    // The lease says where it is now: that is news.
    tunnel.setPeer(wants('a', peer(1, { port: 7 })));
    assert.equal(device().peers.get(key(1))?.endpoint?.port, 7);
    damaged(1, { endpoint: roamed, handshakeAt: now - 200 });
    tunnel.configure('wg', 'repair');
    assert.equal(device().peers.get(key(1))?.endpoint?.port, 7);
  });

  it('looks at its device by itself, and notices that it is gone', async () => {
    start(1);
    tunnel.setPeer(wants('a', peer(1)));
    tunnel.configure('wg', 'wanted');
    device().peers.clear();
    await eventually(() => device().peers.size === 1, 'the peer being there again');
    devices.devices.clear();
    tunnel.setPeer(wants('b', peer(2)));
    assert.throws(() => tunnel.configure('wg', 'repair'), { code: 'DEVICE_GONE' });
    devices.make('wg');
    tunnel.configure('wg', 'repair');
    assert.equal(state().length, 2);
    assert.deepEqual(errors, []);
  });

  it('greets the peers of a device that is new, and of no other', async () => {
    const greetings = (): unknown[] =>
      devices.changes.flatMap(([, { peers }]) => peers.filter(({ keepalive, action }) => action === 'update' && keepalive !== undefined));
    const greeting = [1, 0].map((keepalive) => ({ publicKey: key(1), action: 'update', keepalive }));
    tunnel.setPeer(wants('a', peer(1)));
    // To whom something is sent all the time, something is sent at once.
    tunnel.setPeer(wants('b', peer(2, { keepalive: 25 })));
    tunnel.configure('wg', 'wanted');
    await eventually(() => greetings().length > 0, 'the greeting');
    assert.deepEqual(greetings(), greeting);
    tunnel.configure('wg', 'repair');
    devices.make('wg');
    tunnel.configure('wg', 'repair');
    await eventually(() => greetings().length > 2, 'another greeting');
    assert.deepEqual(greetings(), [...greeting, ...greeting]);
    assert.ok(told.every((text) => !text.includes('keepalive')));
    devices.make('wg');
    tunnel.configure('wg', 'repair');
    await tunnel.close();
    // Timers end in their order: its own would have been before.
    await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(greetings().length, 4);
  });

  it('says that its port is taken, once, and tries again', async () => {
    start(1);
    devices.takenPort = PORT;
    assert.throws(
      () => tunnel.configure('wg', 'wanted'),
      (error) =>
        error instanceof SluiceError &&
        error.code === 'PORT_TAKEN' &&
        /wg cannot listen on UDP port 51820/.test(error.message) &&
        /ss -ulnp/.test(error.hint ?? ''),
    );
    devices.takenPort = undefined;
    tunnel.configure('wg', 'wanted');
    devices.takenPort = PORT;
    device().listenPort = 1;
    devices.changes.length = 0;
    await eventually(() => devices.changes.length >= 3, 'three attempts');
    assert.equal(errors.length, 1);
    devices.takenPort = undefined;
    await eventually(() => device().listenPort === PORT, 'the port being set');
  });

  it('tells of nodes that claim the same, once, and not of what is over at once', async () => {
    start(20);
    tunnel.configure('wg', 'wanted');
    tunnel.setPeer(wants('a', peer(1)));
    tunnel.setPeer(wants('b', peer(2, { subnets: ['10.244.1.0/24'] })));
    tunnel.setPeer(wants('a', peer(1, { subnets: ['10.244.7.0/24'] })));
    tunnel.setPeer(wants('c', peer(1, { subnets: ['10.244.8.0/24'] })));
    await eventually(() => errors.length > 0, 'the conflict being told');
    assert.deepEqual(errors.map(String), [`SluiceError: a and c have the same WireGuard key ${key(1)} on wg: a gets it`]);
    const [before] = devices.changes.slice(-1);
    device().peers.clear();
    await eventually(() => devices.changes.at(-1) !== before, 'another look');
    assert.equal(errors.length, 1);
  });

  it('shows no secret, whatever it does', () => {
    const secret = SecretKey.of(new Uint8Array(32).fill(0x33));
    const texts = [secret, PRIVATE_KEY].flatMap((each) => [
      Buffer.from(each.bytes()).toString('base64'),
      Buffer.from(each.bytes()).toString('hex'),
    ]);
    tunnel.setPeer(wants('a', { ...peer(1), presharedKey: secret }));
    tunnel.configure('wg', 'wanted');
    damaged(1, { presharedKey: PRIVATE_KEY });
    device().privateKey = secret;
    tunnel.configure('wg', 'repair');
    devices.takenPort = PORT;
    device().listenPort = 1;
    assert.throws(
      () => tunnel.configure('wg', 'repair'),
      (error) => texts.every((text) => !JSON.stringify([told, String(error), error]).includes(text)),
    );
  });

  it('comes to the same, whatever came before and whatever somebody else did', () => {
    const nodes = fc.constantFrom('a', 'b', 'c', 'd');
    const subnets = fc.uniqueArray(fc.constantFrom('10.244.1.0/24', '10.244.2.0/24', '10.244.3.0/24', 'fd00:1::/64'), { maxLength: 3 });
    const claim = fc.record({ number: fc.integer({ min: 1, max: 3 }), subnets, port: fc.constantFrom(1, 2) });
    const step = fc.oneof(
      fc.tuple(fc.constant('set'), nodes, claim),
      fc.tuple(fc.constant('remove'), nodes, claim),
      fc.tuple(fc.constant('damage'), nodes, claim),
      fc.tuple(fc.constant('again'), nodes, claim),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        start();
        tunnel.configure('wg', 'wanted');
        const claims = new Map<string, WireguardPeer>();
        for (const [what, node, { number, subnets: allowed, port }] of steps) {
          const wanted = peer(number, { subnets: allowed, port });
          if (what === 'set') {
            claims.set(node, wanted);
            tunnel.setPeer(wants(node, wanted));
          } else if (what === 'remove') {
            claims.delete(node);
            tunnel.removePeer(wants(node, wanted));
          } else if (what === 'damage')
            devices.change('wg', { peers: [{ publicKey: key(number + 1), action: 'add', allowed: allowed.map(prefix) }] });
          else tunnel.configure('wg', 'repair');
          // Without damage every step alone has to do.
          if (steps.every(([each]) => each !== 'damage')) assert.deepEqual(state(), expected(claims));
        }
        tunnel.configure('wg', 'repair');
        assert.deepEqual(state(), expected(claims));
        devices.changes.length = 0;
        tunnel.configure('wg', 'repair');
        assert.deepEqual(devices.changes, []);
      }),
      { numRuns: 1_000 },
    );
  });

  /** By the rule itself: whoever sorts first gets a key, and a subnet. */
  function expected(claims: ReadonlyMap<string, WireguardPeer>): string[] {
    const sorted = [...claims].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted
      .filter(([node, { publicKey }]) => sorted.find(([, other]) => other.publicKey === publicKey)?.[0] === node)
      .map(([node, { publicKey, endpoint, allowed }]) => {
        const own = allowed
          .map(formatPrefix)
          .filter((text) => sorted.find(([, other]) => other.allowed.map(formatPrefix).includes(text))?.[0] === node);
        return `${publicKey} ${endpoint?.port} ${own.sort().join()}`;
      })
      .sort();
  }
});

describe('the simulated devices', () => {
  it('know the key of the tests', () => {
    assert.equal(publicKeyOf(PRIVATE_KEY), PUBLIC_KEY);
  });
});
