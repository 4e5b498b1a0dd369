/** The change monitor on a live kernel, with `nft` as the one who changes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { Monitor, type MonitorEvent, MessageWriter, NETLINK_NETFILTER, NetlinkSocket, Poller, type RulesetChange } from 'nftables-js';
import { eventually, onlyInSandbox } from '../eventually.ts';

function nft(...commands: string[]): void {
  // From standard input a pipe of Node's cannot be read by every version; as arguments there is room for 128 KiB.
  execFileSync('nft', [commands.join('; ')]);
}

/** Makes a table as this process, without nft: a batch of one message. */
function addTable(socket: NetlinkSocket, name: string): void {
  const writer = new MessageWriter();
  const header = new Uint8Array([0, 0, 0, 10]);
  for (const [type, flags] of [
    [16, 1],
    [10 << 8, 0x401],
    [17, 1],
  ] as const) {
    const start = writer.beginMessage(type, flags, socket.nextSequence());
    writer.raw(type === 10 << 8 ? new Uint8Array([1, 0, 0, 0]) : header);
    if (type === 10 << 8) writer.string(1, name);
    writer.endMessage(start);
  }
  socket.send(writer.bytes(), 'making a table');
}

describe('ruleset monitor', () => {
  let poller: Poller;
  let monitor: Monitor;
  let events: MonitorEvent[] = [];

  const changes = () => events.filter((event): event is RulesetChange => event.event === 'change');
  const listen = (receiveBytes?: number) => {
    events = [];
    monitor = Monitor.open({ poller, onEvent: (event) => events.push(event), ...(receiveBytes === undefined ? {} : { receiveBytes }) });
  };
  const generations = () => events.filter((event) => event.event === 'generation');

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(() => {
    poller = new Poller();
  });
  afterEach(() => {
    monitor.close();
    poller.close();
    nft('add table inet monitored', 'delete table inet monitored');
  });

  it('tells of each kind of object in which table, and whose process committed it', async () => {
    listen();
    nft(
      'add table inet monitored',
      'add chain inet monitored c',
      'add set inet monitored s { type ipv4_addr; }',
      'add element inet monitored s { 192.0.2.1 }',
      'add counter inet monitored n',
      'add rule inet monitored c counter name n',
    );
    await eventually('the generation', () => generations().length === 1);
    assert.deepEqual(
      changes().map(({ action, family, table, object, count }) => `${action} ${family} ${table} ${object} ${count}`),
      ['table', 'chain', 'set', 'element', 'object', 'rule'].map((object) => `add inet monitored ${object} 1`),
    );
    const [generation] = generations();
    assert.equal(generation?.processName, 'nft');
    assert.ok(generation.pid > 0);
    assert.ok(changes().every(({ port }) => port === generation.port));
  });

  it('tells of deletions', async () => {
    nft('add table inet monitored', 'add chain inet monitored c', 'add rule inet monitored c accept');
    listen();
    nft('delete table inet monitored');
    await eventually('the generation', () => generations().length === 1);
    assert.deepEqual(
      changes()
        .map(({ action, object }) => `${action} ${object}`)
        .toSorted(),
      ['delete chain', 'delete rule', 'delete table'],
    );
  });

  it('numbers the generations one after the other', async () => {
    listen();
    nft('add table inet monitored');
    nft('add chain inet monitored c');
    await eventually('two generations', () => generations().length === 2);
    const [first, second] = generations();
    assert.equal(second?.id, (first?.id ?? 0) + 1);
  });

  it("names the port of this process's own socket for its own changes", async () => {
    const own = NetlinkSocket.open(NETLINK_NETFILTER);
    listen();
    addTable(own, 'monitored');
    await eventually('the generation', () => generations().length === 1);
    const [generation] = generations();
    assert.equal(generation?.port, own.port);
    assert.deepEqual(
      changes().map(({ object, port }) => [object, port]),
      [['table', own.port]],
    );
    nft('add chain inet monitored c');
    await eventually('that of nft', () => generations().length === 2);
    assert.notEqual(generations()[1]?.port, own.port);
    own.close();
  });

  it('counts changes of one kind instead of telling of each', async () => {
    nft('add table inet monitored', 'add set inet monitored s { type ipv4_addr; }');
    listen();
    const addresses = Array.from({ length: 1000 }, (_, index) => `192.0.${index >> 8}.${index & 255}`);
    nft(`add element inet monitored s { ${addresses.join(', ')} }`);
    await eventually('the generation', () => generations().length === 1);
    assert.deepEqual(
      changes().map(({ object, count }) => [object, count]),
      [['element', 1000]],
    );
  });

  it('tells that it was overrun, and hears what comes after that', async () => {
    nft('add table inet monitored', 'add set inet monitored s { type ipv4_addr; }');
    listen(4096);
    // One commit of more than the buffer has room for. The main thread is not reading meanwhile: it waits for nft.
    const addresses = Array.from({ length: 2000 }, (_, index) => `192.0.${index >> 8}.${index & 255}`);
    nft(`add element inet monitored s { ${addresses.join(', ')} }`);
    const overrun = await eventually('the overrun', () => events.find((event) => event.event === 'overrun'));
    assert.equal(overrun.cause.code, 'ENOBUFS');
    nft('add chain inet monitored later');
    await eventually('the later chain', () => changes().some(({ object }) => object === 'chain'));
  });

  it('is silent when it is closed, even for what has been read already', async () => {
    const heard: MonitorEvent[] = [];
    const once = Monitor.open({
      poller,
      onEvent: (event) => {
        heard.push(event);
        once.close();
      },
    });
    listen();
    nft('add table inet monitored', 'add chain inet monitored c', 'add set inet monitored s { type ipv4_addr; }');
    nft('add chain inet monitored d');
    await eventually('both generations, by the other monitor', () => generations().length === 2);
    assert.equal(heard.length, 1);
  });
});
