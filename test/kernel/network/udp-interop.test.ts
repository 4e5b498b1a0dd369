/** The udp backend beside flannel's: a node of ours and one whose proxy is flannel's own, in C. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { buildFlannelProxy } from '../../../bench/udp-proxy/flannel-proxy.ts';
import { makeUnderlay, removeUnderlay, startProxy, tunnelEnds } from '../../../bench/udp-proxy/tunnel.ts';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { withoutIPv4Header, writeEcho } from '../../../src/lab/prober/packets.ts';
import { MTU, Node, pattern, Socket } from './udp-nodes.ts';
import { streamThrough } from './udp-stream.ts';

const A = '10.99.1.0';
const B = '10.99.2.0';

describe('the udp backend beside flannel’s proxy', function () {
  this.timeout(60_000);
  const ends = tunnelEnds('udp-interop');
  const [a, b] = [ends.a.netns, ends.b.netns];
  const sockets: Socket[] = [];
  const use = (socket: Socket): Socket => {
    sockets.push(socket);
    return socket;
  };
  let ours: Node | undefined;
  let flannel: ChildProcess | undefined;

  before(async function () {
    onlyInSandbox(this);
    const built = buildFlannelProxy();
    if ('missing' in built) {
      console.error(`      skipped: ${built.missing}`);
      return this.skip();
    }
    await makeUnderlay(ends);
    flannel = await startProxy([built.program], ends.b, ends.a);
    ours = await Node.start(ends.a);
    ours.routeTo(ends.b);
  });
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.close();
  });
  after(async () => {
    await ours?.proxy.close();
    if (flannel !== undefined) {
      flannel.kill('SIGKILL');
      await once(flannel, 'exit');
      await removeUnderlay(ends);
    }
  });

  it('exchanges packets up to the MTU, and fragments', async () => {
    const [atA, atB] = [use(Socket.udp(a, A, 1000)), use(Socket.udp(b, B, 1000))];
    for (const length of [0, MTU - 28, 8_000]) {
      atA.send(pattern(length), B, 1000);
      assert.deepEqual(await atB.next(`${length} bytes at b`), { data: pattern(length), from: A, port: 1000 });
      atB.send(pattern(length, 3), A, 1000);
      assert.deepEqual(await atA.next(`${length} bytes at a`), { data: pattern(length, 3), from: B, port: 1000 });
    }
  });

  it('carries TCP streams in both directions, byte for byte', async () => {
    await Promise.all([streamThrough(a, b, B, 20e6), streamThrough(b, a, A, 20e6)]);
    assert.equal(ours?.proxy.counters().sendErrors, 0);
  });

  it('counts the time to live down just as much', async () => {
    for (const [from, to, address] of [
      [use(Socket.icmp(a)), use(Socket.icmp(b)), B],
      [use(Socket.icmp(b)), use(Socket.icmp(a)), A],
    ] as const) {
      from.ttl = 40;
      from.send(writeEcho(4, 7, 1), address);
      const { data } = await to.next('an echo request', ({ data }) => withoutIPv4Header(data)[0] === 8);
      assert.equal(data[8], 38);
      await from.next('the reply', ({ data }) => withoutIPv4Header(data)[0] === 0);
    }
  });
});
