/** Neighbours and forwarding entries of a live kernel, with `ip neighbour` and `bridge fdb` as second opinion and as who changes them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { KernelError, NETLINK_ROUTE, NetlinkError, NetlinkSocket, Poller } from 'nftables-js';
import { eventually, onlyInSandbox } from '../../packages/nftables-js/test/eventually.ts';
import { type Address, formatAddress, ipv4, parseAddress } from '../../src/policy/address.ts';
import { addLink, deleteLink, type Link, listLinks } from '../../src/rtnetlink/links.ts';
import {
  appendForwarding,
  deleteForwarding,
  deleteNeighbour,
  type ForwardingEntry,
  listForwarding,
  listNeighbours,
  type Neighbour,
  NEIGHBOUR_STATE,
  type NeighbourEvent,
  replaceForwarding,
  replaceNeighbour,
  watchNeighbours,
} from '../../src/rtnetlink/neighbours.ts';

interface IpNeighbour {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr?: string;
  readonly state: readonly string[];
}

interface BridgeEntry {
  readonly mac: string;
  readonly ifname?: string;
  readonly dst?: string;
  readonly port?: number;
  readonly vni?: number;
  readonly flags: readonly string[];
  readonly state: string;
  readonly master?: string;
}

const MAC = '02:00:5e:10:00:02';
const MAC2 = '02:00:5e:10:00:03';
const ALL = '00:00:00:00:00:00';

function run(program: 'ip' | 'bridge', command: string): string {
  return execFileSync(program, command.split(' '), { stdio: 'pipe' }).toString();
}

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

function neighboursOfIp(): string[] {
  return (JSON.parse(run('ip', '-j neighbour show nud all')) as IpNeighbour[])
    .map(({ dst, dev, lladdr, state }) => `${dst} ${dev} ${lladdr ?? '-'} ${state.join()}`)
    .toSorted();
}

function entriesOfBridge(selector = ''): string[] {
  return (JSON.parse(run('bridge', `-j fdb show${selector}`)) as BridgeEntry[])
    .map(({ mac, ifname, dst, port, vni, flags, state, master }) =>
      [mac, ifname, dst, port, vni, flags.includes('self'), state === 'permanent', master].map((part) => part ?? '-').join(' '),
    )
    .toSorted();
}

describe('rtnetlink: neighbours and forwarding entries', () => {
  let socket: NetlinkSocket;

  const find = (name: string): Link => {
    const link = listLinks(socket).find((link) => link.name === name);
    assert.ok(link, `no link ${name}`);
    return link;
  };
  const names = () => new Map(listLinks(socket).map(({ index, name }) => [index, name]));
  const neighbours = (listed: readonly Neighbour[]): string[] => {
    const nameOf = names();
    const states = new Map<number, string>(Object.entries(NEIGHBOUR_STATE).map(([name, state]) => [state, name.toUpperCase()]));
    return listed
      .map(
        ({ address, link, mac, state, permanent }) =>
          `${formatAddress(address)} ${nameOf.get(link)} ${mac ?? '-'} ${states.get(state)}${permanent === (state === 0x80) ? '' : ' ?'}`,
      )
      .toSorted();
  };
  const entries = (listed: readonly ForwardingEntry[], withLink = true): string[] => {
    const nameOf = names();
    return listed
      .map(({ mac, link, destination, port, vni, self, permanent, master }) =>
        [
          mac,
          withLink ? nameOf.get(link) : undefined,
          destination === undefined ? undefined : formatAddress(destination),
          port,
          vni,
          self,
          permanent,
          master === undefined ? undefined : nameOf.get(master),
        ]
          .map((part) => part ?? '-')
          .join(' '),
      )
      .toSorted();
  };
  const refused = (code: string, text: string, call: () => void): void =>
    assert.throws(call, (error) => error instanceof KernelError && error.code === code && error.message.includes(text));
  const left = () => listLinks(socket).find(({ name }) => name.startsWith('rn-'));

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(async () => {
    socket = NetlinkSocket.open(NETLINK_ROUTE);
    run('ip', 'link add rn-eth type veth peer name rn-peer');
    // Link-local addresses would bring multicast neighbours, some time later.
    for (const name of ['rn-eth', 'rn-peer']) run('ip', `link set ${name} up addrgenmode none`);
    run('ip', 'address add 192.0.2.1/24 dev rn-eth');
    run('ip', '-6 address add 2001:db8::1/64 dev rn-eth nodad');
    const settings = { vni: 1, port: 8472, underlay: find('rn-eth').index, learning: false, gbp: false };
    addLink(socket, { name: 'rn-vx4', kind: 'vxlan', vxlan: { ...settings, local: address('192.0.2.1') } });
    addLink(socket, { name: 'rn-vx6', kind: 'vxlan', vxlan: { ...settings, local: address('2001:db8::1') } });
    for (const name of ['rn-vx4', 'rn-vx6']) run('ip', `link set ${name} up addrgenmode none`);
    // Others may have left links that do not.
    await eventually('all run', () => listLinks(socket).every(({ name, running }) => running || !name.startsWith('rn-')));
  });
  afterEach(() => {
    // A peer and what is on top of a link go with it.
    for (let link = left(); link !== undefined; link = left()) deleteLink(socket, link);
    socket.close();
  });

  describe('neighbours', () => {
    it('are what `ip neighbour` gives, in every state', () => {
      for (const [at, state] of ['permanent', 'reachable', 'stale', 'noarp'].entries()) {
        run('ip', `neighbour add 192.0.2.${at + 10} lladdr ${MAC} nud ${state} dev rn-eth`);
        run('ip', `neighbour add 2001:db8::${at + 10} lladdr ${MAC} nud ${state} dev rn-vx6`);
      }
      run('ip', 'neighbour add 192.0.2.20 nud failed dev rn-eth');
      const all = neighbours(listNeighbours(socket));
      assert.deepEqual(all, neighboursOfIp());
      assert.ok(all.length >= 9);
      const own = neighbours(listNeighbours(socket, { link: find('rn-vx6').index }));
      assert.deepEqual(
        own,
        all.filter((line) => line.includes(' rn-vx6 ')),
      );
      assert.ok(own.length >= 4 && own.length < all.length);
      assert.deepEqual(listNeighbours(socket, { link: 9999 }), []);
    });

    for (const [name, own, other] of [
      ['rn-vx4', '10.244.2.0', '10.244.3.0'],
      ['rn-vx6', '2001:db8:2::', '2001:db8:3::'],
    ] as const) {
      it(`are set for good on ${name}, replaced, and deleted`, () => {
        const { index: link } = find(name);
        const of = (to: string) => neighboursOfIp().filter((line) => line.startsWith(`${to} `));
        replaceNeighbour(socket, { link, address: address(own), mac: MAC });
        assert.deepEqual(of(own), [`${own} ${name} ${MAC} PERMANENT`]);
        replaceNeighbour(socket, { link, address: address(own), mac: MAC2.toUpperCase() });
        assert.deepEqual(of(own), [`${own} ${name} ${MAC2} PERMANENT`]);
        assert.deepEqual(
          listNeighbours(socket, { link }).filter((neighbour) => neighbour.address === address(own)),
          [{ link, address: address(own), mac: MAC2, state: 0x80, permanent: true }],
        );
        run('ip', `neighbour add ${other} lladdr ${MAC} nud stale dev ${name}`);
        replaceNeighbour(socket, { link, address: address(other), mac: MAC });
        assert.deepEqual(of(other), [`${other} ${name} ${MAC} PERMANENT`]);
        deleteNeighbour(socket, { link, address: address(own) });
        assert.deepEqual(of(own), []);
        assert.deepEqual(of(other), [`${other} ${name} ${MAC} PERMANENT`]);
        refused('ENOENT', own, () => deleteNeighbour(socket, { link, address: address(own) }));
      });
    }

    it('say which they were about when their link is gone, or the hardware address is none', () => {
      refused('ENODEV', '10.244.2.0 of link 9999', () =>
        replaceNeighbour(socket, { link: 9999, address: address('10.244.2.0'), mac: MAC }),
      );
      refused('ENODEV', '10.244.2.0 of link 9999', () => deleteNeighbour(socket, { link: 9999, address: address('10.244.2.0') }));
      const { index: link } = find('rn-vx4');
      assert.throws(
        () => replaceNeighbour(socket, { link, address: address('10.244.2.0'), mac: '02:00' }),
        (error) => error instanceof NetlinkError && error.code === 'ERR_INVALID' && error.message.includes('"02:00"'),
      );
    });
  });

  describe('forwarding entries', () => {
    it('are what `bridge fdb` gives, of VXLAN links and of bridges', () => {
      run('ip', 'link add rn-br type bridge');
      run('ip', 'link set rn-peer master rn-br');
      run('ip', 'link set rn-br up addrgenmode none');
      run('bridge', `fdb append ${MAC} dev rn-peer master static`);
      run('bridge', `fdb append ${MAC} dev rn-vx4 dst 192.0.2.2 self permanent`);
      run('bridge', `fdb append ${MAC2} dev rn-vx4 dst 192.0.2.3 port 4789 vni 7 self`);
      run('bridge', `fdb append ${ALL} dev rn-vx4 dst 192.0.2.2`);
      run('bridge', `fdb append ${ALL} dev rn-vx4 dst 192.0.2.3`);
      run('bridge', `fdb append ${MAC} dev rn-vx6 dst 2001:db8::2`);
      const all = entries(listForwarding(socket));
      assert.deepEqual(all, entriesOfBridge());
      assert.ok(all.some((line) => line.includes('rn-br')));
      for (const name of ['rn-vx4', 'rn-vx6', 'rn-peer']) {
        const own = entries(listForwarding(socket, { link: find(name).index }), false);
        assert.deepEqual(own, entriesOfBridge(` dev ${name}`), name);
        assert.ok(own.length > 0);
      }
      const bridge = find('rn-br').index;
      assert.ok(listForwarding(socket, { link: bridge }).every(({ link }) => link === bridge));
      assert.deepEqual(listForwarding(socket, { link: 9999 }), []);
    });

    for (const [name, first, second] of [
      ['rn-vx4', '192.0.2.2', '192.0.2.3'],
      ['rn-vx6', '2001:db8::2', '2001:db8::3'],
    ] as const) {
      it(`are set for good on ${name}, replaced, and deleted`, () => {
        const { index: link } = find(name);
        const shown = () => entriesOfBridge(` dev ${name}`);
        const entry = (mac: string, destination: string) => `${mac} - ${destination} - - true true -`;
        replaceForwarding(socket, { link, mac: MAC, destination: address(first) });
        replaceForwarding(socket, { link, mac: MAC2, destination: address(first) });
        assert.deepEqual(shown(), [entry(MAC, first), entry(MAC2, first)]);
        replaceForwarding(socket, { link, mac: MAC, destination: address(second) });
        assert.deepEqual(shown(), [entry(MAC, second), entry(MAC2, first)]);
        assert.deepEqual(
          listForwarding(socket, { link }).find(({ mac }) => mac === MAC),
          { link, mac: MAC, destination: address(second), permanent: true, self: true, master: undefined, port: undefined, vni: undefined },
        );
        // Another destination: the kernel does nothing, and does not say so.
        deleteForwarding(socket, { link, mac: MAC, destination: address(first) });
        assert.deepEqual(shown(), [entry(MAC, second), entry(MAC2, first)]);
        deleteForwarding(socket, { link, mac: MAC, destination: address(second) });
        deleteForwarding(socket, { link, mac: MAC2, destination: undefined });
        assert.deepEqual(shown(), []);
        refused('ENOENT', MAC, () => deleteForwarding(socket, { link, mac: MAC, destination: undefined }));
        refused('ENOENT', `${MAC} to ${first}`, () => deleteForwarding(socket, { link, mac: MAC, destination: address(first) }));
      });

      it(`are on ${name} a list for every other address, from which one is taken`, () => {
        const { index: link } = find(name);
        const destinations = () =>
          listForwarding(socket, { link })
            .map(({ mac, destination }) => `${mac} ${destination === undefined ? '-' : formatAddress(destination)}`)
            .toSorted();
        appendForwarding(socket, { link, mac: ALL, destination: address(first) });
        appendForwarding(socket, { link, mac: ALL, destination: address(second) });
        assert.deepEqual(destinations(), [`${ALL} ${first}`, `${ALL} ${second}`]);
        refused('EOPNOTSUPP', ALL, () => replaceForwarding(socket, { link, mac: ALL, destination: address(first) }));
        deleteForwarding(socket, { link, mac: ALL, destination: address(first) });
        assert.deepEqual(destinations(), [`${ALL} ${second}`]);
        appendForwarding(socket, { link, mac: MAC, destination: address(first) });
        appendForwarding(socket, { link, mac: MAC, destination: address(second) });
        assert.deepEqual(destinations(), [`${ALL} ${second}`, `${MAC} ${first}`]);
      });
    }

    it('say which they were about when their link is gone or of the other family, or the hardware address is none', () => {
      const { index: link } = find('rn-vx4');
      const destination = address('192.0.2.2');
      refused('ENODEV', `${MAC} to 192.0.2.2 on link 9999`, () => replaceForwarding(socket, { link: 9999, mac: MAC, destination }));
      refused('ENODEV', 'link 9999', () => deleteForwarding(socket, { link: 9999, mac: MAC, destination }));
      refused('EAFNOSUPPORT', '2001:db8::2', () => replaceForwarding(socket, { link, mac: MAC, destination: address('2001:db8::2') }));
      assert.throws(() => replaceForwarding(socket, { link, mac: 'x', destination }), { code: 'ERR_INVALID' });
    });
  });

  it('tells of neighbours and forwarding entries that come, change and go, each as what it is', async () => {
    const events: NeighbourEvent[] = [];
    const poller = new Poller();
    const listener = NetlinkSocket.open(NETLINK_ROUTE);
    const neighbour = (kind: 'neighbour' | 'gone', at: string, mac?: string) =>
      events.some(
        (event) =>
          event.event === kind && formatAddress(event.neighbour.address) === at && (mac === undefined || event.neighbour.mac === mac),
      );
    const entry = (kind: 'forwarding' | 'forwarding-gone', to: string) =>
      events.some(
        (event) =>
          event.event === kind &&
          event.entry.mac === MAC &&
          event.entry.destination === address(to) &&
          event.entry.permanent &&
          event.entry.self,
      );
    try {
      watchNeighbours(poller, listener, (event) => events.push(event));
      for (const [name, at, first, second] of [
        ['rn-vx4', '10.244.2.0', '192.0.2.2', '192.0.2.3'],
        ['rn-vx6', '2001:db8:2::', '2001:db8::2', '2001:db8::3'],
      ] as const) {
        run('ip', `neighbour add ${at} lladdr ${MAC} nud permanent dev ${name}`);
        await eventually('the neighbour', () => neighbour('neighbour', at, MAC));
        run('ip', `neighbour replace ${at} lladdr ${MAC2} nud permanent dev ${name}`);
        await eventually('its new address', () => neighbour('neighbour', at, MAC2));
        assert.ok(!neighbour('gone', at));
        run('ip', `neighbour del ${at} dev ${name}`);
        await eventually('its end', () => neighbour('gone', at));
        run('bridge', `fdb add ${MAC} dev ${name} dst ${first}`);
        await eventually('the entry', () => entry('forwarding', first));
        run('bridge', `fdb replace ${MAC} dev ${name} dst ${second}`);
        await eventually('its new destination', () => entry('forwarding', second));
        run('bridge', `fdb del ${MAC} dev ${name} dst ${second}`);
        await eventually('its end', () => entry('forwarding-gone', second));
      }
      const { index: link } = find('rn-vx4');
      replaceNeighbour(socket, { link, address: address('10.244.9.0'), mac: MAC });
      await eventually('one of this program', () => neighbour('neighbour', '10.244.9.0', MAC));
      deleteLink(socket, find('rn-vx4'));
      await eventually('its end with the link', () => neighbour('gone', '10.244.9.0'));
    } finally {
      poller.close();
      listener.close();
    }
  });

  it('says that events were lost when more come than the kernel keeps, and goes on', async () => {
    const events: NeighbourEvent[] = [];
    const poller = new Poller();
    const listener = NetlinkSocket.open(NETLINK_ROUTE, { receiveBytes: 4096 });
    const { index: link } = find('rn-vx4');
    try {
      watchNeighbours(poller, listener, (event) => events.push(event));
      for (let at = 0; at < 500; at++) replaceNeighbour(socket, { link, address: ipv4(0x0af4_0000 + at), mac: MAC });
      const lost = await eventually('the loss', () => events.find((event) => event.event === 'overrun'));
      assert.ok(lost.cause instanceof NetlinkError);
      assert.equal(listNeighbours(socket, { link }).filter(({ permanent }) => permanent).length, 500);
      events.length = 0;
      replaceNeighbour(socket, { link, address: address('10.245.0.0'), mac: MAC });
      await eventually('the next one', () =>
        events.some((event) => event.event === 'neighbour' && event.neighbour.address === address('10.245.0.0')),
      );
    } finally {
      poller.close();
      listener.close();
    }
  });
});
