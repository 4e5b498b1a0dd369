/** Links that this program makes and changes, with `ip -d link` as the judge, and those of `ip` as this program reads them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { KernelError, NETLINK_ROUTE, NetlinkError, NetlinkSocket, Poller } from 'nftables-js';
import { eventually, onlyInSandbox } from '../../packages/nftables-js/test/eventually.ts';
import { type Address, parseAddress } from '../../src/policy/address.ts';
import {
  addLink,
  changeLink,
  deleteLink,
  type Link,
  type LinkEvent,
  listLinks,
  type NewLink,
  setMaster,
  type VxlanSettings,
  watchLinks,
} from '../../src/rtnetlink/links.ts';

const MAC = '02:00:5e:10:00:01';

function ip(...parts: string[]): string {
  return execFileSync('ip', parts, { stdio: 'pipe' }).toString();
}

function parse(text: string): Address {
  const address = parseAddress(text);
  assert.ok(address !== undefined, text);
  return address;
}

/** Everything that `ip` knows of a link but its index. */
function shown(name: string): Record<string, unknown> {
  const [link] = JSON.parse(ip('-d', '-j', 'link', 'show', 'dev', name)) as Record<string, unknown>[];
  assert.ok(link);
  delete link['ifindex'];
  return link;
}

/** Whether the kernel has the module for this kind of link. */
function kernelHas(...kind: string[]): boolean {
  try {
    ip('link', 'add', 'rl-probe', 'type', ...kind);
  } catch {
    return false;
  }
  ip('link', 'del', 'rl-probe');
  return true;
}

describe('rtnetlink: making links', () => {
  let socket: NetlinkSocket;

  const find = (name: string): Link => {
    const link = listLinks(socket).find((link) => link.name === name);
    assert.ok(link, `no link ${name}`);
    return link;
  };
  const left = () => listLinks(socket).find(({ name }) => name.startsWith('rl-'));
  const vxlan = (changes: Partial<VxlanSettings> = {}): NewLink & { kind: 'vxlan' } => ({
    name: 'rl-vxlan',
    kind: 'vxlan',
    address: MAC,
    mtu: 1450,
    vxlan: { vni: 1, port: 8472, local: parse('192.0.2.1'), underlay: find('rl-eth').index, learning: false, gbp: false, ...changes },
  });
  const refused = (code: string, text: string, call: () => void): void =>
    assert.throws(call, (error) => error instanceof KernelError && error.code === code && error.message.includes(text));

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(() => {
    socket = NetlinkSocket.open(NETLINK_ROUTE);
    ip('link', 'add', 'rl-eth', 'type', 'veth', 'peer', 'name', 'rl-peer');
    ip('link', 'set', 'rl-eth', 'up');
    ip('link', 'set', 'rl-peer', 'up');
    ip('address', 'add', '192.0.2.1/24', 'dev', 'rl-eth');
    ip('-6', 'address', 'add', '2001:db8::1/64', 'dev', 'rl-eth', 'nodad');
  });
  afterEach(() => {
    // A peer and what is on top of a link go with it.
    for (let link = left(); link !== undefined; link = left()) deleteLink(socket, link);
    socket.close();
  });

  describe('a VXLAN link', () => {
    it('is in every field the one that `ip link add` makes', () => {
      addLink(socket, vxlan());
      const ours = shown('rl-vxlan');
      deleteLink(socket, find('rl-vxlan'));
      ip(...`link add rl-vxlan address ${MAC} mtu 1450 type vxlan id 1 dev rl-eth local 192.0.2.1 dstport 8472 nolearning`.split(' '));
      assert.deepEqual(ours, shown('rl-vxlan'));
    });

    it('is in every field the one that `ip link add` makes, with IPv6, learning, group policy, and up', () => {
      addLink(socket, { ...vxlan({ vni: 4096, port: 4789, local: parse('2001:db8::1'), learning: true, gbp: true }), up: true });
      const ours = shown('rl-vxlan');
      deleteLink(socket, find('rl-vxlan'));
      ip(...`link add rl-vxlan address ${MAC} mtu 1450 up type vxlan id 4096 dev rl-eth local 2001:db8::1 dstport 4789 gbp`.split(' '));
      assert.deepEqual(ours, shown('rl-vxlan'));
    });

    it('of `ip` is read with its settings', () => {
      ip(
        ...`link add rl-vxlan address ${MAC} mtu 1400 type vxlan id 7 dev rl-eth group 239.1.1.1 local 192.0.2.1 dstport 4789 gbp`.split(
          ' ',
        ),
      );
      const { address, mtu, up, running, vxlan } = find('rl-vxlan');
      assert.deepEqual({ address, mtu, up, running }, { address: MAC, mtu: 1400, up: false, running: false });
      const underlay = find('rl-eth').index;
      const ends = { local: parse('192.0.2.1'), remote: parse('239.1.1.1') };
      assert.deepEqual(vxlan, { vni: 7, port: 4789, ...ends, underlay, learning: true, gbp: true });
      ip('link', 'del', 'rl-vxlan');
      ip(...'link add rl-vxlan type vxlan id 8 remote 2001:db8::2 local 2001:db8::1 dstport 8472 nolearning'.split(' '));
      const ends6 = { local: parse('2001:db8::1'), remote: parse('2001:db8::2') };
      assert.deepEqual(find('rl-vxlan').vxlan, { vni: 8, port: 8472, ...ends6, underlay: undefined, learning: false, gbp: false });
    });

    it('gets port 8472 where none is given', () => {
      addLink(socket, vxlan({ port: 0 }));
      assert.equal(find('rl-vxlan').vxlan?.port, 8472);
    });

    it('is refused by name where the name is taken, and where the network identifier is', () => {
      addLink(socket, vxlan());
      refused('EEXIST', 'adding vxlan link rl-vxlan', () => addLink(socket, vxlan()));
      refused('EEXIST', 'VNI', () => addLink(socket, { ...vxlan(), name: 'rl-other' }));
    });

    it('is not made with a hardware address that is none, or an MTU that the kernel does not take', () => {
      for (const address of ['', '02:00:5e:10:00', '02-00-5e-10-00-01', '02:00:5e:10:00:01:02', '02:00:5e:10:00:0g']) {
        assert.throws(
          () => addLink(socket, { ...vxlan(), address }),
          (error) => error instanceof NetlinkError && error.code === 'ERR_INVALID' && error.message.includes('rl-vxlan'),
        );
      }
      refused('EINVAL', 'MTU', () => addLink(socket, { ...vxlan(), mtu: 10 }));
      assert.ok(!listLinks(socket).some(({ name }) => name === 'rl-vxlan'));
    });
  });

  it('makes a bridge, with the flags that are given', function () {
    addLink(socket, { name: 'rl-br', kind: 'bridge', mtu: 1400, address: MAC, up: true });
    const ours = shown('rl-br');
    deleteLink(socket, find('rl-br'));
    ip('link', 'add', 'rl-br', 'address', MAC, 'mtu', '1400', 'up', 'type', 'bridge');
    // Its timer runs.
    const fixed = (link: Record<string, unknown>): unknown =>
      JSON.parse(JSON.stringify(link).replaceAll(/"[a-z_]*timer":[0-9.]+/g, '"timer":0'));
    assert.deepEqual(fixed(ours), fixed(shown('rl-br')));
    if (find('rl-br').bridge === undefined) return;
    addLink(socket, { name: 'rl-br2', kind: 'bridge', bridge: { iptables: true, ip6tables: false } });
    assert.deepEqual(find('rl-br2').bridge, { iptables: true, ip6tables: false });
  });

  for (const link of [
    { name: 'rl-ipip', kind: 'ipip', local: parse('192.0.2.1'), mtu: 1480 },
    { name: 'rl-wg', kind: 'wireguard', mtu: 1420 },
    { name: 'rl-dummy', kind: 'dummy', address: MAC },
  ] satisfies NewLink[]) {
    it(`makes a link of kind ${link.kind}, or says that the kernel lacks it`, () => {
      if (!kernelHas(link.kind, ...(link.kind === 'ipip' ? ['local', '192.0.2.9'] : []))) {
        refused('EOPNOTSUPP', `adding ${link.kind} link ${link.name}`, () => addLink(socket, link));
        return;
      }
      addLink(socket, link);
      const made = find(link.name);
      assert.equal(made.kind, link.kind);
      assert.deepEqual(made.ipip, link.kind === 'ipip' ? { local: link.local, remote: undefined } : undefined);
      assert.equal(made.address, 'address' in link ? link.address : undefined);
      if ('mtu' in link) assert.equal(made.mtu, link.mtu);
    });
  }

  it('changes what is given of a link and nothing else', () => {
    addLink(socket, vxlan());
    const before = find('rl-vxlan');
    assert.ok(before.vxlan);
    changeLink(socket, before, {});
    assert.deepEqual(find('rl-vxlan'), before);
    changeLink(socket, before, { mtu: 1400 });
    assert.deepEqual(find('rl-vxlan'), { ...before, mtu: 1400 });
    changeLink(socket, before, { address: '02:00:5E:10:00:02' });
    assert.deepEqual(find('rl-vxlan'), { ...before, mtu: 1400, address: '02:00:5e:10:00:02' });
    changeLink(socket, before, { learning: true, mtu: 1300, address: MAC, up: true });
    const after = { ...before, mtu: 1300, up: true, running: true, vxlan: { ...before.vxlan, learning: true } };
    assert.deepEqual(find('rl-vxlan'), after);
    assert.equal((shown('rl-vxlan')['linkinfo'] as { info_data: { learning: boolean } }).info_data.learning, true);
    changeLink(socket, before, { learning: false });
    assert.deepEqual(find('rl-vxlan'), { ...after, vxlan: before.vxlan });
    changeLink(socket, before, { up: false });
    assert.deepEqual(find('rl-vxlan'), { ...before, mtu: 1300 });
  });

  it('makes a link a port of a bridge, and takes it out', () => {
    addLink(socket, { name: 'rl-br', kind: 'bridge' });
    setMaster(socket, find('rl-eth'), find('rl-br').index);
    assert.equal(shown('rl-eth')['master'], 'rl-br');
    setMaster(socket, find('rl-eth'), undefined);
    assert.equal(shown('rl-eth')['master'], undefined);
  });

  it('says which link it was about when that is gone or cannot do it', () => {
    addLink(socket, vxlan());
    const gone = find('rl-vxlan');
    deleteLink(socket, gone);
    refused('ENODEV', 'rl-vxlan', () => deleteLink(socket, gone));
    refused('ENODEV', 'rl-vxlan', () => changeLink(socket, gone, { up: true }));
    refused('ENODEV', 'rl-vxlan', () => changeLink(socket, gone, { learning: true }));
    refused('EOPNOTSUPP', 'rl-eth', () => changeLink(socket, find('rl-eth'), { learning: true }));
    refused('EOPNOTSUPP', 'deleting link lo', () => deleteLink(socket, find('lo')));
    refused('EINVAL', `link rl-eth a port of link ${gone.index}`, () => setMaster(socket, find('rl-eth'), gone.index));
    refused('EOPNOTSUPP', 'rl-eth', () => setMaster(socket, find('rl-eth'), find('rl-peer').index));
  });

  it('knows a link without carrier from one that runs', () => {
    assert.equal(find('rl-eth').running, true);
    ip('link', 'set', 'rl-peer', 'down');
    const { up, running } = find('rl-eth');
    assert.deepEqual({ up, running }, { up: true, running: false });
  });

  it('tells of a VXLAN link that is made, changed and deleted, with its settings', async () => {
    const events: LinkEvent[] = [];
    const poller = new Poller();
    const listener = NetlinkSocket.open(NETLINK_ROUTE);
    try {
      watchLinks(poller, listener, (event) => events.push(event));
      const heard = (matches: (link: Link) => boolean) =>
        events.some((event) => event.event === 'link' && event.link.name === 'rl-vxlan' && matches(event.link));
      addLink(socket, vxlan());
      await eventually('it is there', () => heard(({ vxlan, address }) => vxlan?.vni === 1 && address === MAC));
      changeLink(socket, find('rl-vxlan'), { mtu: 1300 });
      await eventually('its MTU', () => heard(({ mtu }) => mtu === 1300));
      ip('link', 'set', 'rl-vxlan', 'address', '02:00:5e:10:00:02');
      await eventually('its address', () => heard(({ address }) => address === '02:00:5e:10:00:02'));
      const { index } = find('rl-vxlan');
      deleteLink(socket, find('rl-vxlan'));
      await eventually('its end', () => events.some((event) => event.event === 'gone' && event.index === index));
    } finally {
      poller.close();
      listener.close();
    }
  });
});
