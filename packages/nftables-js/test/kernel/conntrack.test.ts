/** The connection tracking table of a live kernel, with `conntrack` of Debian's package conntrack as the second opinion. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { release } from 'node:os';
import {
  Conntrack,
  ConntrackEvents,
  FLOW_STATUS,
  type Flow,
  type FlowEvent,
  hasLabel,
  KernelError,
  labelBits,
  MessageWriter,
  NETLINK_NETFILTER,
  NetlinkError,
  NetlinkSocket,
  NLM_F_DUMP,
  Poller,
} from 'nftables-js';
import { writeFilter } from '../../src/conntrack/filter.ts';
import { eventually, onlyInSandbox } from '../eventually.ts';

const CUT = 100;
const cutMask = labelBits(CUT);
const none = new Uint8Array(16);

function nft(rules: string): void {
  execFileSync('nft', [rules]);
}

/** Tracks connections, and nothing else. */
function track(...rules: string[]): void {
  nft(
    'add table inet tracked; delete table inet tracked; add table inet tracked; add chain inet tracked c { type filter hook input priority 0; }',
  );
  nft(rules.map((rule) => `add rule inet tracked c ${rule}`).join('; '));
}

function bytes(address: string): Uint8Array {
  return new Uint8Array(address.split('.').map(Number));
}

/** A server that answers each datagram by itself, and a client: `exchange` is true when the answer came back. */
class Echo {
  readonly #server: Socket;
  readonly #client: Socket;
  readonly #heard = new Set<string>();
  readonly #answered = new Set<string>();
  #count = 0;

  private constructor(server: Socket, client: Socket) {
    this.#server = server;
    this.#client = client;
    server.on('message', (text, from) => {
      this.#heard.add(text.toString());
      server.send(text, from.port, from.address);
    });
    client.on('message', (text) => this.#answered.add(text.toString()));
  }

  static async open(family: 'udp4' | 'udp6' = 'udp4'): Promise<Echo> {
    const host = family === 'udp4' ? '127.0.0.1' : '::1';
    const [server, client] = [createSocket(family), createSocket(family)];
    server.bind(0, host);
    client.bind(0, host);
    await Promise.all([once(server, 'listening'), once(client, 'listening')]);
    return new Echo(server, client);
  }

  get serverPort(): number {
    return this.#server.address().port;
  }

  get clientPort(): number {
    return this.#client.address().port;
  }

  async exchange(): Promise<void> {
    const text = await this.send();
    await eventually('the answer', () => this.#answered.has(text));
  }

  /** Loopback delivers within the call that sends: what has not been heard when the next loop of events is over never will be. */
  async send(): Promise<string> {
    const text = `message ${this.#count++}`;
    const { address } = this.#server.address();
    await new Promise((resolve) => this.#client.send(text, this.serverPort, address, resolve));
    return text;
  }

  async answerBack(): Promise<string> {
    const text = `from the server ${this.#count++}`;
    const { address } = this.#client.address();
    await new Promise((resolve) => this.#server.send(text, this.clientPort, address, resolve));
    return text;
  }

  heard(text: string): boolean {
    return this.#heard.has(text);
  }

  answered(text: string): boolean {
    return this.#answered.has(text);
  }

  close(): void {
    this.#server.close();
    this.#client.close();
  }
}

/** What `conntrack -L` says, by number of the entry. */
function conntrackList(family: 'ipv4' | 'ipv6'): Map<number, Record<string, unknown>> {
  const xml = execFileSync('conntrack', ['-L', '-f', family, '-o', 'xml,id'], { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
  const flows = new Map<number, Record<string, unknown>>();
  for (const [, flow = ''] of xml.matchAll(/<flow>(.*?)<\/flow>/gs)) {
    const metas = new Map(
      [...flow.matchAll(/<meta direction="(\w+)">(.*?)<\/meta>/gs)].map(([, direction = '', meta = '']) => [direction, meta]),
    );
    const independent = metas.get('independent') ?? '';
    flows.set(Number(text(independent, 'id')), {
      original: tupleText(metas.get('original') ?? ''),
      reply: tupleText(metas.get('reply') ?? ''),
      mark: text(independent, 'mark') ?? '0',
      zone: text(independent, 'zone') ?? '0',
      seenReply: !/<unreplied\/>/.test(independent),
      assured: /<assured\/>/.test(independent),
    });
  }
  return flows;
}

function text(xml: string, element: string): string | undefined {
  return new RegExp(`<${element}>(.*?)</${element}>`).exec(xml)?.[1];
}

function tupleText(meta: string): string {
  const protocol = /<layer4 protonum="(\d+)"/.exec(meta)?.[1];
  return [protocol, ...['src', 'dst', 'sport', 'dport'].map((name) => text(meta, name))].join(' ');
}

function show(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  const groups = Array.from({ length: 8 }, (_, at) => (((address[at * 2] ?? 0) << 8) | (address[at * 2 + 1] ?? 0)).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

function showTuple({ protocol, source, destination, sourcePort, destinationPort }: Flow['original']): string {
  return [protocol, show(source), show(destination), sourcePort, destinationPort].join(' ');
}

function asConntrackShows(flow: Flow): Record<string, unknown> {
  return {
    original: showTuple(flow.original),
    reply: showTuple(flow.reply),
    mark: String(flow.mark),
    zone: String(flow.zone),
    seenReply: (flow.status & FLOW_STATUS.seenReply) !== 0,
    assured: (flow.status & FLOW_STATUS.assured) !== 0,
  };
}

/** Makes entries of UDP from 10.0.0.0/8 out of nothing, each with its own source address. */
function makeEntries(count: number): void {
  const socket = NetlinkSocket.open(NETLINK_NETFILTER);
  const address = (value: number) => new Uint8Array([10, value >> 16, (value >> 8) & 255, value & 255]);
  for (let from = 0; from < count; from += 100) {
    const writer = new MessageWriter(32768);
    for (let index = from; index < Math.min(count, from + 100); index++) {
      const start = writer.beginMessage(1 << 8, 0x601, socket.nextSequence());
      writer.raw(new Uint8Array([2, 0, 0, 0]));
      for (const [type, source, destination, sport, dport] of [
        [1, address(index), bytes('192.0.2.1'), 1000, 53],
        [2, bytes('192.0.2.1'), address(index), 53, 1000],
      ] as const) {
        const tuple = writer.beginNested(type);
        const ip = writer.beginNested(1);
        writer.data(1, source);
        writer.data(2, destination);
        writer.endNested(ip);
        const proto = writer.beginNested(2);
        writer.u8(1, 17);
        writer.be16(2, sport);
        writer.be16(3, dport);
        writer.endNested(proto);
        writer.endNested(tuple);
      }
      writer.be32(7, 600);
      writer.endMessage(start);
    }
    socket.send(writer.bytes(), 'making entries');
    assert.equal(socket.receive(), undefined, 'the kernel refused an entry');
  }
  socket.close();
}

describe('conntrack', () => {
  let conntrack: Conntrack;
  let echo: Echo;

  const ownFlow = (): Flow => {
    const flow = [...conntrack.flows()].find(
      ({ original }) => original.sourcePort === echo.clientPort && original.destinationPort === echo.serverPort,
    );
    assert.ok(flow, 'the flow is not in the table');
    return flow;
  };

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(async () => {
    track('ct state established counter accept');
    conntrack = Conntrack.open();
    for (const flow of conntrack.flows()) conntrack.delete(flow);
    echo = await Echo.open();
  });
  afterEach(() => {
    echo.close();
    conntrack.close();
    nft('delete table inet tracked');
  });

  describe('listing', () => {
    before(function () {
      if (spawnSync('conntrack', ['--version']).status === 0) return;
      console.error('      skipped: there is no `conntrack` to compare with (Debian: apt-get install conntrack)');
      this.skip();
    });

    it('gives what `conntrack -L` gives, of UDP and SCTP, both families, marks, and zones', async () => {
      const six = await Echo.open('udp6');
      await echo.exchange();
      await six.exchange();
      await six.exchange();
      for (const options of [
        '-p sctp --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2 -s 192.0.2.1 -d 192.0.2.2 --sport 5 --dport 6 --mark 77',
        '-p tcp --state ESTABLISHED -s 192.0.2.1 -d 192.0.2.2 --sport 5 --dport 6 -w 9 -u SEEN_REPLY,ASSURED',
        '-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 5 --dport 6 --dst-nat 192.0.2.3:7',
      ])
        execFileSync('conntrack', ['-I', '-t', '600', ...options.split(' ')], { stdio: 'ignore' });
      for (const [family, name] of [
        ['ip', 'ipv4'],
        ['ip6', 'ipv6'],
      ] as const) {
        const listed = new Map([...conntrack.flows({ family })].map((flow) => [flow.id, asConntrackShows(flow)]));
        const expected = conntrackList(name);
        assert.ok(expected.size >= (family === 'ip' ? 4 : 1), `${expected.size} entries`);
        assert.deepEqual(listed, expected);
      }
      six.close();
    });

    it('reads the type, code and number of ICMP', () => {
      const options = '-I -t 600 -p icmp -s 192.0.2.1 -d 192.0.2.2 --icmp-type 8 --icmp-code 0 --icmp-id 77';
      execFileSync('conntrack', options.split(' '), { stdio: 'ignore' });
      const [flow] = conntrack.flows({ family: 'ip', original: { protocol: 1 } });
      assert.deepEqual(flow?.original.icmp, { type: 8, code: 0, id: 77 });
      assert.deepEqual(flow.reply.icmp, { type: 0, code: 0, id: 77 });
      assert.equal(conntrack.setMark(flow, { value: 5, mask: 0xff }), 'done');
      assert.equal(conntrack.delete(flow), 'done');
    });

    it('finds entries again whose zone is that of one direction', () => {
      for (const [option, direction, port] of [
        ['--orig-zone', 'original', 5],
        ['--reply-zone', 'reply', 6],
      ] as const) {
        const options = `-I -t 600 -p udp -s 192.0.2.1 -d 192.0.2.2 --sport ${port} --dport 6 ${option} 9`;
        execFileSync('conntrack', options.split(' '), { stdio: 'ignore' });
        const flow = [...conntrack.flows()].find(({ original }) => original.sourcePort === port);
        assert.ok(flow);
        assert.deepEqual([flow.zone, flow.zoneDirection], [9, direction]);
        assert.equal(conntrack.setMark(flow, { value: 5, mask: 0xff }), 'done');
        assert.equal(conntrack.delete(flow), 'done');
      }
    });

    it('counts what `conntrack -C` counts', async () => {
      await echo.exchange();
      makeEntries(50);
      const { entries, max } = conntrack.count();
      assert.equal(entries, Number(execFileSync('conntrack', ['-C']).toString()));
      assert.ok(entries >= 51);
      assert.ok(max === undefined || max > entries);
    });
  });

  it('lists only what the filter holds for', async () => {
    makeEntries(300);
    await echo.exchange();
    conntrack.setMark(ownFlow(), { value: 0x30, mask: 0xff });
    const all = [...conntrack.flows()];
    const sources = (flows: Iterable<Flow>) => [...flows].map(({ original }) => show(original.source)).toSorted();
    assert.ok(all.length > 300);
    assert.deepEqual(sources(conntrack.flows({ family: 'ip', original: { source: bytes('10.0.1.7') } })), ['10.0.1.7']);
    assert.deepEqual(sources(conntrack.flows({ family: 'ip', reply: { destination: bytes('10.0.1.7') } })), ['10.0.1.7']);
    assert.deepEqual(sources(conntrack.flows({ family: 'ip', reply: { source: bytes('192.0.2.1'), protocol: 17 } })).length, 300);
    assert.deepEqual(sources(conntrack.flows({ family: 'ip', original: { source: bytes('10.0.1.7'), protocol: 6 } })), []);
    assert.deepEqual(sources(conntrack.flows({ mark: { value: 0x10, mask: 0x10 } })), ['127.0.0.1']);
    assert.deepEqual(sources(conntrack.flows({ family: 'ip6', original: { protocol: 17 } })), []);
  });

  it('lists only what a filter by IPv6 address holds for, which the kernel would leave out', () => {
    for (const last of [1, 2]) {
      const options = `-I -t 600 -p udp -s 2001:db8::${last} -d 2001:db8::9 --sport 5 --dport 6`;
      execFileSync('conntrack', options.split(' '), { stdio: 'ignore' });
    }
    const address = new Uint8Array([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    for (const filter of [
      { original: { source: address } },
      { reply: { destination: address } },
      { original: { source: address, protocol: 17 } },
    ])
      assert.deepEqual(
        [...conntrack.flows({ family: 'ip6', ...filter })].map(({ original }) => original.source),
        [address],
      );
  });

  it('leaves the filtering to a kernel that can (5.8)', function () {
    const [major = 0, minor = 0] = release().split('.').map(Number);
    if (major < 5 || (major === 5 && minor < 8)) return this.skip();
    makeEntries(300);
    const socket = NetlinkSocket.open(NETLINK_NETFILTER);
    let messages = 0;
    const filter = { family: 'ip', original: { source: bytes('10.0.1.7') }, reply: { source: bytes('192.0.2.1'), protocol: 17 } } as const;
    const write = (writer: MessageWriter) => {
      writer.raw(new Uint8Array([2, 0, 0, 0]));
      writeFilter(writer, filter, true);
    };
    socket.request((1 << 8) | 1, NLM_F_DUMP, write, () => messages++, 'listing with a filter');
    socket.close();
    assert.equal(messages, 1);
    return undefined;
  });

  it('filters by itself where the kernel refuses the filter', () => {
    makeEntries(3);
    // A length that the kernel takes for no IPv4 address, and that no flow has.
    assert.deepEqual([...conntrack.flows({ family: 'ip', original: { source: new Uint8Array(3) } })], []);
  });

  it('wants the family for a filter by tuple', () => {
    assert.throws(
      () => [...conntrack.flows({ original: { protocol: 6 } })],
      (error) => error instanceof NetlinkError && error.code === 'ERR_INVALID',
    );
  });

  it('lists anew after a listing that was left early, and refuses two at a time', () => {
    makeEntries(2000);
    for (const flow of conntrack.flows()) {
      assert.equal(flow.original.protocol, 17);
      assert.throws(
        () => [...conntrack.flows()],
        (error) => error instanceof NetlinkError && error.code === 'ERR_BUSY',
      );
      break;
    }
    assert.ok([...conntrack.flows()].length >= 2000);
  });

  it('goes on with a listing while entries are changed', () => {
    makeEntries(3000);
    let marked = 0;
    for (const flow of conntrack.flows()) if (conntrack.setMark(flow, { value: 1, mask: 1 }) === 'done') marked++;
    assert.ok(marked >= 3000, `${marked} marked`);
    assert.ok([...conntrack.flows({ mark: { value: 1, mask: 1 } })].length >= 3000);
  });

  it('lists 100,000 entries within a second or two', function () {
    const { max } = conntrack.count();
    if (max !== undefined && max < 110_000) return this.skip();
    makeEntries(100_000);
    const start = performance.now();
    let count = 0;
    for (const flow of conntrack.flows()) if (flow.original.destinationPort === 53) count++;
    const listMs = performance.now() - start;
    assert.equal(count, 100_000);
    const changes = [...conntrack.flows()].map((flow) => ({ change: 'delete' as const, flow }));
    const deleting = performance.now();
    assert.ok(conntrack.apply(changes).every((outcome) => outcome === 'done'));
    const deleteMs = performance.now() - deleting;
    // Some 0.3 seconds each on a machine of two cores, most of it in the kernel; the bound is for a busy one.
    assert.ok(listMs < 5000, `listing took ${listMs} ms`);
    assert.ok(deleteMs < 5000, `deleting took ${deleteMs} ms`);
  });

  describe('changes', () => {
    it('sets the bits of the mark that the mask has, and no others', async () => {
      await echo.exchange();
      const flow = ownFlow();
      assert.equal(conntrack.setMark(flow, { value: 0xffff_ffff, mask: 0xf0f0_0000 }), 'done');
      assert.equal(ownFlow().mark, 0xf0f0_0000);
      assert.equal(conntrack.setMark(flow, { value: 0xff, mask: 0x1000_000f }), 'done');
      assert.equal(ownFlow().mark, 0xe0f0_000f);
    });

    it('says that an entry has no room for labels when it began without a rule that uses them', async () => {
      await echo.exchange();
      // Earlier flows of this namespace may have turned labels on for good: so in a namespace of its own.
      const program = `
        const { Conntrack, labelBits } = await import(${JSON.stringify(new URL('../../src/index.ts', import.meta.url).href)});
        const { execFileSync } = await import('node:child_process');
        execFileSync('ip', ['link', 'set', 'lo', 'up']);
        execFileSync('nft', ['add table t; add chain t c { type filter hook input priority 0; }; add rule t c ct state new accept']);
        const { createSocket } = await import('node:dgram');
        const { setTimeout: sleep } = await import('node:timers/promises');
        const conntrack = Conntrack.open();
        const bits = labelBits(100);
        const flowTo = async (port) => {
          const socket = createSocket('udp4');
          await new Promise((done) => socket.send('x', port, '127.0.0.1', done));
          socket.close();
          for (;;) {
            const flow = [...conntrack.flows()].find((flow) => flow.original.protocol === 17 && flow.original.destinationPort === port);
            if (flow !== undefined) return flow;
            await sleep(5);
          }
        };
        const early = await flowTo(5001);
        const outcomes = [conntrack.setLabels(early, { value: bits, mask: bits })];
        execFileSync('nft', ['insert rule t c ct label 100 drop']);
        outcomes.push(conntrack.setLabels(early, { value: bits, mask: bits }));
        outcomes.push(conntrack.setLabels(await flowTo(5002), { value: bits, mask: bits }));
        outcomes.push(conntrack.setMark(early, { value: 1, mask: 1 }));
        console.log(outcomes.join(' '));`;
      const output = execFileSync('unshare', ['--net', process.execPath, '--input-type=module', '-e', program]).toString();
      assert.equal(output, 'no-labels no-labels done done\n');
    });

    it('stops a labelled flow in both directions at the first rule, until the label is taken away', async () => {
      track('ct label 100 counter drop', 'ct state established counter accept');
      await echo.exchange();
      const flow = ownFlow();
      assert.equal(hasLabel(flow, CUT), false);
      const other = labelBits(3);
      assert.equal(conntrack.setLabels(flow, { value: other, mask: other }), 'done');
      await echo.exchange();
      assert.equal(conntrack.setLabels(flow, { value: cutMask, mask: cutMask }), 'done');
      assert.deepEqual(ownFlow().labels, labelBits(3, CUT));

      const there = await echo.send();
      const back = await echo.answerBack();
      const dropped = () =>
        /ct label 100 counter packets (\d+)/.exec(execFileSync('nft', ['list', 'table', 'inet', 'tracked']).toString())?.[1];
      await eventually('both to be dropped', () => dropped() === '2');

      assert.equal(conntrack.setLabels(flow, { value: none, mask: cutMask }), 'done');
      assert.deepEqual(ownFlow().labels, other);
      await echo.exchange();
      assert.equal(echo.heard(there), false);
      assert.equal(echo.answered(back), false);
      assert.equal(dropped(), '2');
    });

    it('deletes an entry once, and then says that it is gone', async () => {
      await echo.exchange();
      const flow = ownFlow();
      assert.equal(conntrack.delete(flow), 'done');
      assert.equal(conntrack.delete(flow), 'gone');
      assert.equal(conntrack.setMark(flow, { value: 1, mask: 1 }), 'gone');
      assert.equal(conntrack.setLabels(flow, { value: cutMask, mask: cutMask }), 'gone');
    });

    it('does not delete a later entry of the same tuple', async () => {
      await echo.exchange();
      const earlier = ownFlow();
      assert.equal(conntrack.delete(earlier), 'done');
      // An entry's number comes from where it lies in memory, which may be the same place: until it is another.
      await eventually('an entry with another number', () => {
        makeEntries(1);
        const [made] = conntrack.flows({ family: 'ip', original: { source: bytes('10.0.0.0') } });
        if (made !== undefined && made.id !== earlier.id) return true;
        if (made !== undefined) conntrack.delete(made);
        return false;
      });
      await echo.exchange();
      const later = ownFlow();
      if (later.id === earlier.id) return;
      assert.equal(conntrack.delete(earlier), 'gone');
      assert.equal(ownFlow().id, later.id);
    });

    it('does not mark the flow of a client that came again to the same Service and was given another server', async () => {
      const other = await Echo.open();
      nft('add chain inet tracked n { type nat hook output priority -100; }');
      const redirect = (port: number) => nft(`flush chain inet tracked n; add rule inet tracked n udp dport 9 redirect to :${port}`);
      const client = createSocket('udp4');
      client.bind(0, '127.0.0.1');
      await once(client, 'listening');
      const throughService = async (port: number) => {
        redirect(port);
        await new Promise((resolve) => client.send('hello', 9, '127.0.0.1', resolve));
        return eventually('the flow', () => [...conntrack.flows()].find(({ reply }) => reply.sourcePort === port));
      };
      const first = await throughService(echo.serverPort);
      assert.notEqual(first.status & FLOW_STATUS.destinationNat, 0);
      conntrack.delete(first);
      const second = await throughService(other.serverPort);
      assert.deepEqual(second.original, first.original);
      assert.equal(conntrack.setMark(first, { value: 1, mask: 1 }), 'gone');
      assert.equal(conntrack.setMark(second, { value: 1, mask: 1 }), 'done');
      client.close();
      other.close();
    });

    it('makes many changes, each with its own outcome, in their order', () => {
      makeEntries(1000);
      const flows = [...conntrack.flows({ family: 'ip', original: { destination: bytes('192.0.2.1') } })];
      assert.equal(flows.length, 1000);
      for (const flow of flows.slice(300, 400)) conntrack.delete(flow);
      const outcomes = conntrack.apply(
        flows.map((flow, index) => (index % 2 === 0 ? { change: 'mark', flow, mark: { value: 4, mask: 4 } } : { change: 'delete', flow })),
      );
      assert.deepEqual(
        outcomes,
        flows.map((_, index) => (index >= 300 && index < 400 ? 'gone' : 'done')),
      );
      const left = [...conntrack.flows({ family: 'ip', original: { destination: bytes('192.0.2.1') } })];
      assert.equal(left.length, 450);
      assert.ok(left.every(({ mark }) => mark === 4));
      assert.deepEqual(conntrack.apply([]), []);
    });

    it('takes the answers of a whole batch of failures', () => {
      makeEntries(1000);
      const flows = [...conntrack.flows({ family: 'ip', original: { destination: bytes('192.0.2.1') } })];
      for (const flow of flows) conntrack.delete(flow);
      const outcomes = conntrack.apply(flows.map((flow) => ({ change: 'delete', flow })));
      assert.equal(outcomes.filter((outcome) => outcome === 'gone').length, 1000);
    });

    it('gives any other refusal as an error that says what was being done', async () => {
      await echo.exchange();
      const flow = ownFlow();
      const broken = { ...flow, original: { ...flow.original, source: new Uint8Array(2) } };
      assert.throws(
        () => conntrack.delete(broken),
        (error) => error instanceof KernelError && error.message.startsWith(`deleting conntrack entry ${flow.id}: E`),
      );
      const [outcome] = conntrack.apply([{ change: 'delete', flow: broken }]);
      assert.ok(outcome instanceof KernelError);
      assert.equal(ownFlow().id, flow.id);
    });
  });

  describe('events', () => {
    it('tells of the beginning, the changes and the end of a flow', async () => {
      const poller = new Poller();
      const events: FlowEvent[] = [];
      const listener = ConntrackEvents.open({ poller, onEvent: (event) => events.push(event) });
      const own = (kind: FlowEvent['event']) =>
        events.find((event) => event.event !== 'overrun' && event.event === kind && event.flow.original.sourcePort === echo.clientPort);
      await echo.exchange();
      await eventually('the beginning', () => own('new'));
      const flow = ownFlow();
      conntrack.setMark(flow, { value: 9, mask: 0xff });
      await eventually('the mark', () =>
        events.some((event) => event.event === 'update' && event.flow.id === flow.id && event.flow.mark === 9),
      );
      conntrack.delete(flow);
      const end = await eventually('the end', () => own('destroy'));
      assert.ok(end.event === 'destroy');
      assert.deepEqual(end.flow.original, flow.original);
      assert.deepEqual(end.flow.reply, flow.reply);
      assert.equal(end.flow.id, flow.id);
      listener.close();
      poller.close();
    });

    it('tells only of the kinds that were asked for', async () => {
      const poller = new Poller();
      const events: FlowEvent[] = [];
      const listener = ConntrackEvents.open({ poller, onEvent: (event) => events.push(event), events: ['destroy'] });
      await echo.exchange();
      conntrack.delete(ownFlow());
      await eventually('the end', () => events.length > 0);
      assert.deepEqual(
        events.map(({ event }) => event),
        ['destroy'],
      );
      listener.close();
      poller.close();
    });

    it('tells that events were lost', async () => {
      const poller = new Poller();
      const events: FlowEvent[] = [];
      const listener = ConntrackEvents.open({ poller, onEvent: (event) => events.push(event), receiveBytes: 4096 });
      makeEntries(1000);
      const overrun = await eventually('the overrun', () => events.find((event) => event.event === 'overrun'));
      assert.equal(overrun.cause.code, 'ENOBUFS');
      listener.close();
      poller.close();
    });
  });
});
