/**
 * The data path of the udp backend with real packets: two nodes, the kernel on both sides of either proxy, and raw sockets that see what
 * traceroute would. Addresses are those of udp-nodes.ts.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { run } from '../../../src/lab/namespaces.ts';
import { internetChecksum, withoutIPv4Header, writeEcho } from '../../../src/lab/prober/packets.ts';
import { eventually } from '../support/eventually.ts';
import { makeNodes, MTU, type Nodes, packet, pattern, PORT, Socket, subnet, udp, v4 } from './udp-nodes.ts';
import { streamThrough } from './udp-stream.ts';

const A = '10.99.1.0';
const B = '10.99.2.0';
const ICMP = 1;

/** Type, code, source and quoted packet of an ICMP error as a raw socket sees it. */
function readError(bytes: Uint8Array): { type: number; code: number; source: string; ttl: number; quoted: Uint8Array } {
  const message = withoutIPv4Header(bytes);
  assert.equal(internetChecksum(bytes.subarray(0, 20)), 0, 'header checksum');
  assert.equal(internetChecksum(message), 0, 'ICMP checksum');
  return {
    type: message[0] ?? -1,
    code: message[1] ?? -1,
    ttl: bytes[8] ?? -1,
    source: bytes.subarray(12, 16).join('.'),
    quoted: message.subarray(8),
  };
}

/** CPU time and turns of the threads that carry packets, nanoseconds. */
function proxyThreads(): { ns: number; turns: number } {
  const sum = { ns: 0, turns: 0 };
  for (const task of readdirSync('/proc/self/task')) {
    if (readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim() !== 'udp-proxy') continue;
    const [ns, , turns] = readFileSync(`/proc/self/task/${task}/schedstat`, 'utf8').split(' ');
    sum.ns += Number(ns);
    sum.turns += Number(turns);
  }
  return sum;
}

describe('the data path of the udp backend', function () {
  this.timeout(60_000);
  let nodes: Nodes;
  let a: string;
  let b: string;
  const sockets: Socket[] = [];
  const use = (socket: Socket): Socket => {
    sockets.push(socket);
    return socket;
  };

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(async () => {
    nodes = await makeNodes('udp');
    a = nodes.ends.a.netns;
    b = nodes.ends.b.netns;
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.close();
    await nodes?.close();
  });

  describe('carries', () => {
    it('packets up to the MTU, in both directions, as they are', async () => {
      const [atA, atB] = [use(Socket.udp(a, A, 1000)), use(Socket.udp(b, B, 1000))];
      for (const length of [0, 1, 500, MTU - 28]) {
        atA.send(pattern(length), B, 1000);
        const there = await atB.next(`${length} bytes at b`);
        assert.deepEqual(there, { data: pattern(length), from: A, port: 1000 });
        atB.send(pattern(length, 9), A, 1000);
        const back = await atA.next(`${length} bytes at a`);
        assert.deepEqual(back, { data: pattern(length, 9), from: B, port: 1000 });
      }
      // A packet of the whole MTU, which the veth between the nodes takes without a fragment.
      assert.match((await run(a, ['ip', '-s', 'link', 'show', 'flannel0'])).stdout, /mtu 1472/);
      // Of the line of names and that of values.
      const [names = [], values = []] = (await run(a, ['cat', '/proc/net/snmp'])).stdout
        .split('\n')
        .filter((line) => line.startsWith('Ip: '))
        .map((line) => line.split(' '));
      assert.equal(values[names.indexOf('FragCreates')], '0');
    });

    it('fragments', async () => {
      const [atA, atB] = [use(Socket.udp(a, A, 1000)), use(Socket.udp(b, B, 1000))];
      for (const length of [MTU - 27, 8_000, 65_507]) {
        atA.send(pattern(length), B, 1000);
        assert.deepEqual((await atB.next(`${length} bytes in fragments`)).data, pattern(length));
      }
    });

    it('TCP streams in both directions at once, byte for byte', async () => {
      await Promise.all([streamThrough(a, b, B, 30e6), streamThrough(b, a, A, 30e6)]);
      const { sentPackets, sentBytes, receivedBytes, sendErrors, deviceErrors } = nodes.a.proxy.counters();
      assert.ok(sentPackets > 30e6 / MTU && sentBytes > 30e6 && receivedBytes > 30e6);
      assert.equal(sendErrors + deviceErrors, 0);
      assert.equal(nodes.a.proxy.counters().malformed + nodes.b.proxy.counters().malformed, 0);
    });

    it('them too where the path takes only smaller datagrams than it did', async () => {
      await streamThrough(a, b, B, 1e6);
      await run(a, ['ip', 'link', 'set', 'eth0', 'mtu', '1000']);
      await streamThrough(a, b, B, 10e6);
      assert.equal(nodes.a.proxy.counters().sendErrors, 0);
    });

    it('counting down the time to live on either side, with a header checksum that stays right', async () => {
      const [from, to] = [use(Socket.icmp(a)), use(Socket.icmp(b))];
      for (const ttl of [255, 64, 3]) {
        from.ttl = ttl;
        from.send(writeEcho(4, 7, ttl), B);
        // That it got here means that the kernel found the checksum right.
        const { data } = await to.next(`an echo request that left with ${ttl}`, ({ data }) => withoutIPv4Header(data)[0] === 8);
        assert.equal(data[8], ttl - 2);
        await from.next('the reply', ({ data }) => withoutIPv4Header(data)[0] === 0);
      }
    });

    it('no packet whose header checksum is wrong into the kernel behind it', async () => {
      const [from, to] = [use(Socket.udp(b, '0.0.0.0', 3000)), use(Socket.udp(a, A, 1000))];
      const broken = packet({ source: B, destination: A, payload: udp(1, 1000) });
      broken[10] = (broken[10] ?? 0) ^ 1;
      from.send(broken, nodes.ends.a.underlay, PORT);
      from.send(packet({ source: B, destination: A, payload: udp(2, 1000) }), nodes.ends.a.underlay, PORT);
      assert.equal((await to.next('the good one')).port, 2);
    });
  });

  describe('answers', () => {
    it('with "network unreachable" where no subnet holds the destination, as long as the packet fits into 576 bytes', async () => {
      const [icmp, from] = [use(Socket.icmp(a)), use(Socket.udp(a, A, 1000))];
      for (const [length, quoted] of [
        [0, 28],
        [100, 128],
        [1400, 548],
      ] as const) {
        from.send(pattern(length), '10.99.77.1', 9);
        const error = readError((await icmp.next('an error')).data);
        assert.deepEqual([error.type, error.code, error.source, error.quoted.length], [3, 0, A, quoted]);
        // The packet as it was sent: its time to live is not counted down.
        assert.equal(error.quoted[8], 64);
        assert.deepEqual(error.quoted.subarray(28), pattern(length).subarray(0, quoted - 28));
      }
      const { noRoute, icmpSent, icmpSuppressed } = nodes.a.proxy.counters();
      assert.deepEqual([noRoute, icmpSent, icmpSuppressed], [3, 3, 0]);
    });

    it('with "time exceeded" from the node where it ends, so that traceroute shows both', async () => {
      const [icmp, from, to] = [use(Socket.icmp(a)), use(Socket.udp(a, A, 1000)), use(Socket.udp(b, B, 33434))];
      for (const [ttl, router] of [
        [1, A],
        [2, B],
      ] as const) {
        from.ttl = ttl;
        from.send(pattern(12), B, 33434);
        const error = readError((await icmp.next(`an error for ${ttl}`)).data);
        assert.deepEqual([error.type, error.code, error.source], [11, 0, router]);
      }
      from.ttl = 3;
      from.send(pattern(12), B, 33434);
      assert.deepEqual((await to.next('the third')).data, pattern(12));
      assert.equal(to.receive(), undefined);
      assert.equal(nodes.a.proxy.counters().timeExceeded, 1);
      assert.equal(nodes.b.proxy.counters().timeExceeded, 1);
    });

    it('a pod behind the node too', async () => {
      const pod = `${a}-pod`;
      await run(undefined, ['ip', 'netns', 'add', pod]);
      try {
        await run(a, ['ip', 'link', 'add', 'pod', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pod]);
        await run(a, ['ip', 'address', 'add', '10.99.1.1/24', 'dev', 'pod']);
        await run(a, ['ip', 'link', 'set', 'pod', 'up']);
        await run(a, ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
        await run(pod, ['ip', 'address', 'add', '10.99.1.5/24', 'dev', 'eth0']);
        await run(pod, ['ip', 'link', 'set', 'eth0', 'up']);
        await run(pod, ['ip', 'route', 'add', 'default', 'via', '10.99.1.1']);
        const [icmp, from] = [use(Socket.icmp(pod)), use(Socket.udp(pod, '10.99.1.5', 1000))];
        from.send(pattern(4), '10.99.77.1', 9);
        const unreachable = readError((await icmp.next('unreachable')).data);
        assert.deepEqual([unreachable.type, unreachable.code, unreachable.source], [3, 0, A]);
        // The node itself is the first to count.
        for (const [ttl, router] of [
          [1, '10.99.1.1'],
          [2, A],
          [3, B],
        ] as const) {
          from.ttl = ttl;
          from.send(pattern(4), B, 9);
          const error = readError((await icmp.next(`an error for ${ttl}`)).data);
          assert.deepEqual([error.type, error.source], [11, router]);
        }
        from.ttl = 4;
        from.send(pattern(4), B, 9);
        const refused = readError((await icmp.next('an answer of the other end')).data);
        assert.deepEqual([refused.type, refused.code, refused.source], [3, 3, B]);
      } finally {
        await run(undefined, ['ip', 'netns', 'del', pod]);
      }
    });

    it('no ICMP error, no later fragment, and nobody who is not one host; but an echo request', async () => {
      const [icmp, raw] = [use(Socket.icmp(a)), use(Socket.raw(a))];
      const nowhere = '10.99.77.1';
      const errors = [3, 4, 5, 11, 12].map((type) =>
        packet({ source: A, destination: nowhere, protocol: ICMP, payload: Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0) }),
      );
      const silent = [
        ...errors,
        packet({ source: A, destination: nowhere, fragment: 0x2001 }),
        packet({ source: A, destination: nowhere, fragment: 0x0001 }),
        packet({ source: '224.0.0.5', destination: nowhere }),
      ];
      for (const bytes of silent) raw.send(bytes, nowhere);
      await nodes.a.counted('noRoute', silent.length);
      assert.equal(nodes.a.proxy.counters().icmpSent, 0);
      raw.send(packet({ source: A, destination: nowhere, fragment: 0x2000 }), nowhere);
      const first = readError((await icmp.next('an error about the first fragment')).data);
      assert.equal(first.quoted[6], 0x20);
      raw.send(packet({ source: A, destination: nowhere, protocol: ICMP, payload: writeEcho(4, 1, 1) }), nowhere);
      const echo = readError((await icmp.next('an error about the echo request')).data);
      assert.deepEqual([echo.type, echo.quoted[20]], [3, 8]);
    });

    it('not more often than some times a second', async () => {
      const from = use(Socket.udp(a, A, 1000));
      for (let count = 0; count < 500; count++) from.send(pattern(1), '10.99.77.1', 9);
      await nodes.a.counted('noRoute', 400);
      const { icmpSent, icmpSuppressed, noRoute } = nodes.a.proxy.counters();
      assert.ok(icmpSent >= 50 && icmpSuppressed > 0, JSON.stringify({ icmpSent, icmpSuppressed }));
      assert.ok(icmpSent + icmpSuppressed <= noRoute + 1);
    });
  });

  describe('takes routes while it runs', () => {
    it('adds, replaces and removes them', async () => {
      const [icmp, from] = [use(Socket.icmp(a)), use(Socket.udp(a, A, 1000))];
      // Sockets that are no proxies show what the proxy sends: the packet itself.
      const [first, second] = [use(Socket.udp(b, nodes.ends.b.underlay, 7001)), use(Socket.udp(b, nodes.ends.b.underlay, 7002))];
      const address = v4(nodes.ends.b.underlay);
      const send = (seed: number): void => from.send(pattern(40, seed), '10.99.7.9', 9);

      send(1);
      await icmp.next('unreachable at first');
      nodes.a.proxy.setRoute(subnet('10.99.7.0/24'), { address, port: 7001 });
      send(2);
      const whole = await first.next('the packet at the first');
      assert.deepEqual([whole.from, whole.port], [nodes.ends.a.underlay, PORT]);
      assert.deepEqual(whole.data.subarray(28), pattern(40, 2));
      assert.equal(internetChecksum(whole.data.subarray(0, 20)), 0);
      assert.equal(whole.data[8], 63);

      nodes.a.proxy.setRoute(subnet('10.99.7.0/24'), { address, port: 7002 });
      send(3);
      assert.deepEqual((await second.next('the packet at the second')).data.subarray(28), pattern(40, 3));
      assert.equal(first.receive(), undefined);

      nodes.a.proxy.removeRoute(subnet('10.99.7.0/24'));
      send(4);
      await icmp.next('unreachable again');
      assert.equal(second.receive(), undefined);
    });

    it('of which the longest counts', async () => {
      const from = use(Socket.udp(a, A, 1000));
      const [wide, narrow] = [use(Socket.udp(b, nodes.ends.b.underlay, 7001)), use(Socket.udp(b, nodes.ends.b.underlay, 7002))];
      const address = v4(nodes.ends.b.underlay);
      nodes.a.proxy.setRoute(subnet('10.99.7.128/25'), { address, port: 7002 });
      nodes.a.proxy.setRoute(subnet('10.99.0.0/16'), { address, port: 7001 });
      from.send(pattern(1, 1), '10.99.7.127', 9);
      from.send(pattern(1, 2), '10.99.7.128', 9);
      assert.deepEqual((await wide.next('the one outside')).data.subarray(28), pattern(1, 1));
      assert.deepEqual((await narrow.next('the one inside')).data.subarray(28), pattern(1, 2));
    });

    it('thousands of them, without losing what passes', async () => {
      const [atA, atB] = [use(Socket.udp(a, A, 1000)), use(Socket.udp(b, B, 1000))];
      const stream = streamThrough(a, b, B, 20e6);
      for (let count = 0; count < 20_000; count++) {
        const network = `10.${100 + (count >> 8)}.${count & 0xff}.0/24`;
        nodes.a.proxy.setRoute(subnet(network), { address: v4('192.0.2.99'), port: PORT });
      }
      await stream;
      atA.send(pattern(5), B, 1000);
      await atB.next('a packet after them');
      assert.equal(nodes.a.proxy.counters().noRoute, 0);
    });
  });

  describe('drops', () => {
    it('what no IPv4 packet can be, and counts it', async () => {
      const [from, to] = [use(Socket.udp(b, '0.0.0.0', 3000)), use(Socket.udp(a, A, 1000))];
      const good = packet({ source: B, destination: A, payload: udp(5, 1000, pattern(8)) });
      const bad = (at: number, ...bytes: number[]): Uint8Array => {
        const copy = good.slice();
        copy.set(bytes, at);
        return copy;
      };
      const send = (bytes: Uint8Array): void => from.send(bytes, nodes.ends.a.underlay, PORT);
      const malformed = [
        new Uint8Array(),
        good.subarray(0, 1),
        good.subarray(0, 19),
        // A header of 16 bytes; one of 60 in a packet of 36; a total length of 19, and one byte more than there is.
        bad(0, 0x44),
        bad(0, 0x4f),
        bad(2, 0, 19),
        bad(2, 0, good.length + 1),
      ];
      const others = [bad(0, 0x65), bad(0, 0x05)];
      const long = packet({ source: B, destination: A, payload: udp(5, 1000, pattern(MTU - 27)) });
      for (const bytes of [...malformed, ...others, long]) send(bytes);
      // Bytes behind the packet are none of it.
      send(new Uint8Array([...good, 1, 2, 3]));
      assert.deepEqual(await to.next('the good one'), { data: pattern(8), from: B, port: 5 });
      const { malformed: counted, notIPv4, oversized, receivedPackets, receivedBytes } = nodes.a.proxy.counters();
      // The kernel of a sends IPv6 of its own out of the device.
      assert.ok(notIPv4 >= others.length, `${notIPv4}`);
      assert.deepEqual([counted, oversized, receivedPackets, receivedBytes], [malformed.length, 1, 1, good.length]);
    });

    it('packets that the underlay has no way for, and says why', async () => {
      const from = use(Socket.udp(a, A, 1000));
      nodes.a.proxy.setRoute(subnet('10.99.7.0/24'), { address: v4('198.51.100.1'), port: PORT });
      from.send(pattern(1), '10.99.7.1', 9);
      await nodes.a.counted('sendErrors', 1);
      assert.equal(nodes.a.proxy.counters().lastSendError, 'ENETUNREACH');
      assert.equal(nodes.b.proxy.counters().lastSendError, undefined);
    });
  });

  describe('under load', () => {
    it('does nothing while there is nothing to do', async () => {
      const [atA, atB] = [use(Socket.udp(a, A, 1000)), use(Socket.udp(b, B, 1000))];
      // The first ones may meet a queue that is still full.
      await eventually(() => {
        atA.send(pattern(5), B, 1000);
        return atB.receive() !== undefined;
      }, 'a packet');
      // IPv6 of the kernel (router solicitations) would be something to do.
      for (const netns of [a, b]) await run(netns, ['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1']);
      assert.ok(proxyThreads().turns > 0, 'the threads are found by their name');
      // None by itself; V8 may wake a thread for the garbage of others.
      await eventually(async () => {
        const before = proxyThreads();
        await sleep(500);
        return proxyThreads().turns - before.turns <= 4;
      }, 'half a second with hardly a turn of the threads');
    });

    it('waits for the socket without a busy loop, and leaves the device’s queue to the kernel', async () => {
      const from = use(Socket.udp(a, A, 1000));
      const to = use(Socket.udp(b, B, 1000));
      await run(a, ['tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', 'rate', '2mbit', 'burst', '4kb', 'latency', '60s']);
      for (let count = 0; count < 1000; count++) from.send(pattern(1400), B, 1000);
      const before = proxyThreads();
      await nodes.b.counted('receivedPackets', nodes.b.proxy.counters().receivedPackets + 60);
      const { ns } = proxyThreads();
      // A third of a second has passed at 2 Mbit/s.
      assert.ok(ns - before.ns < 100e6, `${(ns - before.ns) / 1e6} ms of CPU time`);
      assert.ok(nodes.a.proxy.counters().sentPackets < 1000, 'the socket was full');
      assert.equal(nodes.a.proxy.counters().sendErrors, 0);
      await run(a, ['tc', 'qdisc', 'del', 'dev', 'eth0', 'root']);
      // The first ones may meet a queue of the device that is still full.
      await eventually(() => {
        from.send(pattern(3), B, 1000);
        return to.receive()?.data.length === 3;
      }, 'a packet after the jam');
    });

    it('takes no more memory for a flood than for its beginning', async () => {
      const from = use(Socket.udp(b, '0.0.0.0', 3000));
      const kinds = [
        packet({ source: B, destination: A, payload: udp(1, 1000, pattern(1000)) }),
        packet({ source: B, destination: '10.99.1.77', ttl: 1 }),
        packet({ source: '10.99.2.9', destination: '10.99.77.1', ttl: 9 }),
        pattern(100),
      ];
      const flood = async (count: number): Promise<void> => {
        for (let index = 0; index < count; index++) {
          const kind = kinds[index % kinds.length];
          if (kind !== undefined) from.send(kind, nodes.ends.a.underlay, PORT);
          if (index % 2000 === 0) await new Promise((resolve) => setImmediate(resolve));
        }
        let last = '';
        await eventually(
          () => {
            const now = JSON.stringify(nodes.a.proxy.counters());
            const same = now === last;
            last = now;
            return same;
          },
          'the end of the flood',
          { everyMs: 50 },
        );
      };
      await flood(100_000);
      const before = process.memoryUsage.rss();
      await flood(300_000);
      const grown = process.memoryUsage.rss() - before;
      assert.ok(grown < 32e6, `${Math.round(grown / 1e6)} MB more`);
      assert.ok(nodes.a.proxy.counters().receivedPackets > 10_000);
      assert.deepEqual(nodes.a.errors, []);
    });
  });

  it('tells when its device is deleted, and can still be closed', async () => {
    execFileSync('ip', ['-n', a, 'link', 'del', 'flannel0']);
    await eventually(() => nodes.a.errors.length > 0, 'the error');
    const [error] = nodes.a.errors;
    assert.ok(error instanceof Error && 'code' in error);
    assert.equal(error.code, 'UDP_PROXY');
    nodes.a.proxy.removeRoute(subnet('10.99.2.0/24'));
    await nodes.a.proxy.close();
    assert.equal(nodes.a.errors.length, 1);
    assert.deepEqual(nodes.b.errors, []);
  });
});
