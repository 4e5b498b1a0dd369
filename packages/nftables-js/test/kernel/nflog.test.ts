/** Packets logged by rules of a live kernel; how many there were is what the counter of `nft list` says. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import {
  KernelError,
  type LoggedPacket,
  NetlinkError,
  PacketLog,
  type PacketLogEvent,
  type PacketLogOptions,
  Poller,
  readPacket,
} from 'nftables-js';
import { eventually, onlyInSandbox } from '../eventually.ts';

const GROUP = 77;

function nft(rules: string): void {
  execFileSync('nft', [rules]);
}

function logIn(chain: string, rule: string): void {
  nft(
    `add table inet logged; delete table inet logged; add table inet logged; add chain inet logged c { ${chain} }; add rule inet logged c ${rule}`,
  );
}

function counted(): number {
  return Number(/counter packets (\d+)/.exec(execFileSync('nft', ['list', 'table', 'inet', 'logged']).toString())?.[1]);
}

async function sendUdp(port: number, count = 1, host = '127.0.0.1'): Promise<void> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  for (let index = 0; index < count; index++) await new Promise((resolve) => socket.send(`number ${index}`, port, host, resolve));
  socket.close();
}

describe('netfilter log', () => {
  let poller: Poller;
  let events: PacketLogEvent[] = [];
  const logs: PacketLog[] = [];

  const listen = (options: Partial<PacketLogOptions> = {}): PacketLog => {
    events = [];
    const log = PacketLog.open({ poller, group: GROUP, onEvent: (event) => events.push(event), ...options });
    logs.push(log);
    return log;
  };
  const packets = (): LoggedPacket[] => events.flatMap((event) => (event.event === 'packet' ? [event.packet] : []));

  before(function () {
    onlyInSandbox(this);
    try {
      logIn('type filter hook input priority 0;', `log group ${GROUP}`);
    } catch {
      console.error('      skipped: this kernel has no log to groups (nfnetlink_log)');
      this.skip();
    }
  });
  beforeEach(() => {
    poller = new Poller();
  });
  afterEach(() => {
    for (const log of logs.splice(0)) log.close();
    poller.close();
    nft('add table inet logged; delete table inet logged');
  });

  it('gives what the rule says and what the packet is', async () => {
    logIn('type filter hook input priority 0;', `udp dport 4000 meta mark set 0x2a log prefix "deny/shop/web" group ${GROUP}`);
    listen();
    const before = Date.now();
    await sendUdp(4000);
    await eventually('the packet', () => packets().length > 0);
    const [packet] = packets();
    assert.ok(packet);
    assert.equal(packet.prefix, 'deny/shop/web');
    assert.equal(packet.mark, 0x2a);
    assert.equal(packet.hook, 'input');
    assert.equal(packet.etherType, 0x0800);
    assert.equal(packet.indev, 1);
    assert.equal(packet.outdev, undefined);
    assert.ok(packet.timestampUs !== undefined && Math.abs(packet.timestampUs / 1000 - before) < 60_000);
    const header = readPacket(packet.payload);
    assert.deepEqual([...header.source, ...header.destination], [127, 0, 0, 1, 127, 0, 0, 1]);
    assert.equal(header.protocol, 17);
    assert.equal(header.destinationPort, 4000);
    assert.equal(header.length, packet.payload.length);
    assert.equal(Buffer.from(packet.payload.subarray(28)).toString(), 'number 0');
  });

  it('reads IPv6, TCP and the hook output', async () => {
    logIn('type filter hook output priority 0;', `tcp dport 4001 log group ${GROUP}`);
    listen();
    connect(4001, '::1').on('error', () => {});
    await eventually('the SYN', () => packets().length > 0);
    const [packet] = packets();
    assert.ok(packet);
    assert.equal(packet.hook, 'output');
    assert.equal(packet.prefix, '');
    assert.equal(packet.outdev, 1);
    const header = readPacket(packet.payload);
    assert.equal(header.family, 'ip6');
    assert.equal(header.destinationPort, 4001);
    assert.equal(header.tcpFlags, 2);
    assert.deepEqual(header.destination, new Uint8Array([...Array.from({ length: 15 }, () => 0), 1]));
  });

  it('copies no more than it is told to', async () => {
    logIn('type filter hook input priority 0;', `udp dport 4000 log group ${GROUP}`);
    listen({ copyBytes: 24 });
    await sendUdp(4000);
    await eventually('the packet', () => packets().length > 0);
    const payload = packets()[0]?.payload;
    assert.equal(payload?.length, 24);
    assert.equal(readPacket(payload).destinationPort, 4000);
  });

  it('takes many packets in one datagram where a threshold is set', async () => {
    logIn('type filter hook input priority 0;', `udp dport 4000 counter log group ${GROUP} queue-threshold 50`);
    const log = listen({ queueThreshold: 50, flushMs: 100 });
    await sendUdp(4000, 120);
    await eventually('all packets', () => packets().length >= 120);
    assert.equal(counted(), 120);
    assert.equal(packets().length, 120);
    assert.equal(log.lost, 0);
  });

  it('accounts for every packet, heard or lost', async () => {
    logIn('type filter hook input priority 0;', `udp dport 4000 counter log group ${GROUP}`);
    const log = listen({ receiveBytes: 16384 });
    // Another process sends, and this one does not read meanwhile.
    const program = `
      const socket = require('node:dgram').createSocket('udp4');
      let left = 1000;
      const next = () => (left-- > 0 ? socket.send('x', 4000, '127.0.0.1', next) : socket.close());
      next();`;
    execFileSync(process.execPath, ['-e', program]);
    await eventually('the overrun', () => events.some((event) => event.event === 'overrun'));
    // The next packet that comes through tells how many did not.
    await sendUdp(4000);
    await eventually('the number of those that were lost', () => log.lost > 0);
    assert.equal(counted(), 1001);
    await eventually('all are accounted for', () => packets().length + log.lost === 1001);
    assert.ok(packets().length > 1);
    const reported = events.reduce((sum, event) => sum + (event.event === 'lost' ? event.count : 0), 0);
    assert.equal(reported, log.lost);
  });

  it('refuses a group that another has, and gets it when that one closes', async () => {
    logIn('type filter hook input priority 0;', `udp dport 4000 log group ${GROUP}`);
    const first = listen();
    await sendUdp(4000);
    await eventually('the first hears', () => packets().length > 0);
    assert.throws(
      () => listen(),
      (error) => error instanceof KernelError && error.code === 'EPERM' && error.message.includes(`NFLOG group ${GROUP}`),
    );
    first.close();
    listen();
    await sendUdp(4000);
    await eventually('the second hears', () => packets().length > 0);
  });

  it('is silent when it is closed from within', async () => {
    logIn('type filter hook input priority 0;', `udp dport 4000 log group ${GROUP}`);
    let heard = 0;
    const log = listen({
      onEvent: () => {
        heard++;
        log.close();
      },
    });
    await sendUdp(4000, 5);
    await eventually('one', () => heard > 0);
    // A second log hears a later packet: by then the first would have heard it too.
    listen();
    await sendUdp(4000);
    await eventually('the later packet', () => packets().length > 0);
    assert.equal(heard, 1);
  });

  it('refuses a number that is none of a group', () => {
    assert.throws(
      () => listen({ group: 65536 }),
      (error) => error instanceof NetlinkError && error.code === 'ERR_INVALID',
    );
  });
});
