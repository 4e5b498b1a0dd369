/** Links, bridge flags and addresses of a live kernel, with `ip` as the second opinion and as the one who changes them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { KernelError, NETLINK_ROUTE, NetlinkSocket, Poller } from 'nftables-js';
import { eventually, onlyInSandbox } from '../../packages/nftables-js/test/eventually.ts';
import { type Address, formatAddress, parseAddress } from '../../src/policy/address.ts';
import {
  addAddress,
  type AddressEvent,
  ADDRESS_FLAG,
  deleteAddress,
  listAddresses,
  type NewAddress,
  watchAddresses,
} from '../../src/rtnetlink/addresses.ts';
import {
  bridgeFilteringAvailable,
  type Link,
  type LinkEvent,
  listLinks,
  setBridgeFiltering,
  watchLinks,
} from '../../src/rtnetlink/links.ts';

interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly mtu: number;
  readonly address?: string;
  readonly flags: readonly string[];
  readonly master?: string;
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: { nf_call_iptables?: number; nf_call_ip6tables?: number } };
}

interface IpAddresses {
  readonly ifindex: number;
  readonly addr_info: readonly {
    readonly family: string;
    readonly local: string;
    readonly prefixlen: number;
    readonly scope: string;
    readonly broadcast?: string;
    readonly nodad?: boolean;
  }[];
}

function ip(...parts: string[]): string {
  return execFileSync('ip', parts).toString();
}

function bridgesOfIp(name: string): [number | undefined, number | undefined] {
  const [link] = JSON.parse(ip('-d', '-j', 'link', 'show', 'dev', name)) as IpLink[];
  const data = link?.linkinfo?.info_data;
  return [data?.nf_call_iptables, data?.nf_call_ip6tables];
}

function parse(text: string): Address {
  const address = parseAddress(text);
  assert.ok(address !== undefined, text);
  return address;
}

describe('rtnetlink', () => {
  let poller: Poller;
  const sockets: NetlinkSocket[] = [];

  const open = (): NetlinkSocket => {
    const socket = NetlinkSocket.open(NETLINK_ROUTE);
    sockets.push(socket);
    return socket;
  };
  const find = (name: string): Link => {
    const link = listLinks(open()).find((link) => link.name === name);
    assert.ok(link, `no link ${name}`);
    return link;
  };

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(() => {
    poller = new Poller();
    ip('link', 'add', 'rt-br', 'type', 'bridge');
    ip('link', 'add', 'rt-veth', 'type', 'veth', 'peer', 'name', 'rt-peer');
    ip('link', 'set', 'rt-veth', 'master', 'rt-br');
    ip('link', 'set', 'rt-br', 'up');
  });
  afterEach(() => {
    poller.close();
    for (const socket of sockets.splice(0)) socket.close();
    for (const name of ['rt-veth', 'rt-br', 'rt-new']) {
      try {
        execFileSync('ip', ['link', 'del', name], { stdio: 'ignore' });
      } catch {
        // The test has deleted it itself.
      }
    }
  });

  describe('links', () => {
    it('gives what `ip -d link` gives', () => {
      const listed = JSON.parse(ip('-d', '-j', 'link')) as IpLink[];
      const indexes = new Map(listed.map(({ ifname, ifindex }) => [ifname, ifindex]));
      const expected = listed.map((link) => {
        const kind = link.linkinfo?.info_kind ?? '';
        const data = link.linkinfo?.info_data;
        return {
          index: link.ifindex,
          name: link.ifname,
          kind,
          master: link.master === undefined ? undefined : indexes.get(link.master),
          up: link.flags.includes('UP'),
          // What `ip` calls NO-CARRIER.
          running: link.flags.includes('UP') && !link.flags.includes('NO-CARRIER'),
          mtu: link.mtu,
          address: link.address,
          bridge: kind === 'bridge' ? { iptables: data?.nf_call_iptables === 1, ip6tables: data?.nf_call_ip6tables === 1 } : undefined,
          vxlan: undefined,
          ipip: undefined,
        };
      });
      assert.ok(expected.length >= 4);
      assert.deepEqual(
        listLinks(open()).toSorted((a, b) => a.index - b.index),
        expected.toSorted((a, b) => a.index - b.index),
      );
      assert.equal(find('rt-veth').master, find('rt-br').index);
    });

    it('sets the flags of a bridge, each by itself, without a sysctl', function () {
      if (find('rt-br').bridge === undefined) {
        console.error('      skipped: this kernel has no bridge netfilter');
        return this.skip();
      }
      const socket = open();
      setBridgeFiltering(socket, find('rt-br'), { iptables: true, ip6tables: true });
      assert.deepEqual(bridgesOfIp('rt-br'), [1, 1]);
      setBridgeFiltering(socket, find('rt-br'), { iptables: false });
      assert.deepEqual(bridgesOfIp('rt-br'), [0, 1]);
      setBridgeFiltering(socket, find('rt-br'), { iptables: true, ip6tables: false });
      assert.deepEqual(bridgesOfIp('rt-br'), [1, 0]);
      setBridgeFiltering(socket, find('rt-br'), { ip6tables: true });
      assert.deepEqual(bridgesOfIp('rt-br'), [1, 1]);
      assert.deepEqual(find('rt-br').bridge, { iptables: true, ip6tables: true });
      return undefined;
    });

    it('says which bridge it was about when that is gone, and when it is no bridge', () => {
      const gone = find('rt-br');
      ip('link', 'del', 'rt-br');
      assert.throws(
        () => setBridgeFiltering(open(), gone, { iptables: true }),
        (error) => error instanceof KernelError && error.code === 'ENODEV' && error.message.includes('rt-br'),
      );
      assert.throws(
        () => setBridgeFiltering(open(), find('rt-veth'), { iptables: true }),
        (error) => error instanceof KernelError && error.message.includes('rt-veth'),
      );
    });

    it('knows whether br_netfilter is there', () => {
      assert.equal(bridgeFilteringAvailable(), existsSync('/proc/sys/net/bridge/bridge-nf-call-iptables'));
    });
  });

  describe('watching links', () => {
    const events: LinkEvent[] = [];
    const links = (name: string) => events.flatMap((event) => (event.event === 'link' && event.link.name === name ? [event.link] : []));

    beforeEach(() => {
      events.length = 0;
      watchLinks(poller, open(), (event) => events.push(event));
    });

    it('notices a bridge that appears', async () => {
      ip('link', 'add', 'rt-new', 'type', 'bridge');
      await eventually('the bridge', () => links('rt-new').length > 0);
      assert.equal(links('rt-new')[0]?.kind, 'bridge');
      assert.equal(links('rt-new').at(-1)?.index, find('rt-new').index);
    });

    it('notices each flag that somebody switches off', async () => {
      setBridgeFiltering(open(), find('rt-br'), { iptables: true, ip6tables: true });
      await eventually('on', () => links('rt-br').some(({ bridge }) => bridge?.iptables === true && bridge.ip6tables));
      ip('link', 'set', 'rt-br', 'type', 'bridge', 'nf_call_iptables', '0');
      await eventually('the first off', () => links('rt-br').some(({ bridge }) => bridge?.iptables === false && bridge.ip6tables));
      ip('link', 'set', 'rt-br', 'type', 'bridge', 'nf_call_ip6tables', '0');
      await eventually('both off', () => links('rt-br').some(({ bridge }) => bridge?.iptables === false && !bridge.ip6tables));
    });

    it('notices at the latest when it is set up that a flag of a bridge was changed while it was down', async () => {
      setBridgeFiltering(open(), find('rt-br'), { iptables: true, ip6tables: true });
      ip('link', 'set', 'rt-br', 'down');
      await eventually('down', () => links('rt-br').some(({ up, bridge }) => !up && bridge?.iptables === true));
      ip('link', 'set', 'rt-br', 'type', 'bridge', 'nf_call_iptables', '0');
      ip('link', 'set', 'rt-br', 'up');
      await eventually('up, and without the flag', () => links('rt-br').some(({ up, bridge }) => up && bridge?.iptables === false));
    });

    it('notices the end of a link, but takes no port that leaves its bridge for one', async () => {
      const { index } = find('rt-veth');
      ip('link', 'set', 'rt-veth', 'nomaster');
      await eventually('it has no master', () => links('rt-veth').some(({ master }) => master === undefined));
      assert.deepEqual(
        events.filter(({ event }) => event === 'gone'),
        [],
      );
      ip('link', 'del', 'rt-veth');
      await eventually('the end', () =>
        events.some((event) => event.event === 'gone' && event.name === 'rt-veth' && event.index === index),
      );
    });
  });

  describe('addresses', () => {
    const all = () =>
      listAddresses(open())
        .map(({ link, family, address, prefixLength, scope }) => `${link} ${family} ${formatAddress(address)}/${prefixLength} ${scope}`)
        .toSorted();

    it('gives what `ip address` gives', () => {
      ip('address', 'add', '192.0.2.1/24', 'dev', 'rt-br');
      ip('address', 'add', '192.0.2.9', 'peer', '198.51.100.1/32', 'dev', 'rt-br');
      ip('-6', 'address', 'add', '2001:db8::1/64', 'dev', 'rt-br', 'nodad');
      const expected = (JSON.parse(ip('-j', 'address')) as IpAddresses[]).flatMap(({ ifindex, addr_info: addresses }) =>
        addresses.map(({ family, local, prefixlen, scope }) => `${ifindex} ${family === 'inet' ? 4 : 6} ${local}/${prefixlen} ${scope}`),
      );
      assert.ok(expected.length >= 5);
      assert.deepEqual(all(), expected.toSorted());
    });

    it('gives a link addresses as `ip address add` does, and takes them', () => {
      const { index: link } = find('rt-br');
      const socket = open();
      const own = () => {
        const [shown] = JSON.parse(ip('-j', 'address', 'show', 'dev', 'rt-br')) as IpAddresses[];
        return (shown?.addr_info ?? [])
          .filter(({ local }) => !local.startsWith('fe80:'))
          .map(({ local, prefixlen, scope, broadcast, nodad }) =>
            [`${local}/${prefixlen}`, scope, broadcast, nodad === true ? 'nodad' : undefined]
              .filter((part) => part !== undefined)
              .join(' '),
          );
      };
      const added: NewAddress[] = [
        { link, address: parse('192.0.2.1'), prefixLength: 24 },
        { link, address: parse('10.244.1.0'), prefixLength: 32 },
        { link, address: parse('198.51.100.2'), prefixLength: 31, scope: 'link' },
        { link, address: parse('2001:db8::1'), prefixLength: 64, noDuplicateDetection: true },
        { link, address: parse('2001:db8:1::1'), prefixLength: 128 },
      ];
      for (const address of added) addAddress(socket, address);
      assert.deepEqual(own().toSorted(), [
        '10.244.1.0/32 global',
        '192.0.2.1/24 global 192.0.2.255',
        '198.51.100.2/31 link',
        '2001:db8:1::1/128 global',
        '2001:db8::1/64 global nodad',
      ]);
      const listed = listAddresses(socket).find(({ address }) => address === parse('2001:db8::1'));
      assert.equal((listed?.flags ?? 0) & ADDRESS_FLAG.noDuplicateDetection, ADDRESS_FLAG.noDuplicateDetection);
      for (const address of added) deleteAddress(socket, address);
      assert.deepEqual(own(), []);
    });

    it('says which address it was about when it is there already, not there, or its link is gone', () => {
      const { index: link } = find('rt-br');
      const address = { link, address: parse('192.0.2.1'), prefixLength: 24 };
      const refusal = (code: string) => (error: unknown) =>
        error instanceof KernelError && error.code === code && error.message.includes('192.0.2.1/24');
      const socket = open();
      addAddress(socket, address);
      assert.throws(() => addAddress(socket, address), refusal('EEXIST'));
      assert.throws(() => deleteAddress(socket, { ...address, prefixLength: 25 }), { code: 'EADDRNOTAVAIL' });
      deleteAddress(socket, address);
      assert.throws(() => deleteAddress(socket, address), refusal('EADDRNOTAVAIL'));
      ip('link', 'del', 'rt-br');
      assert.throws(() => addAddress(socket, address), refusal('ENODEV'));
    });

    it('notices addresses of both families that come and go', async () => {
      const events: AddressEvent[] = [];
      watchAddresses(poller, open(), (event) => events.push(event));
      const heard = (event: 'address' | 'gone', address: string) =>
        events.some((heard) => heard.event === event && formatAddress(heard.address.address) === address);
      ip('address', 'add', '192.0.2.1/24', 'dev', 'rt-br');
      await eventually('the IPv4 address', () => heard('address', '192.0.2.1'));
      ip('-6', 'address', 'add', '2001:db8::1/64', 'dev', 'rt-br', 'nodad');
      await eventually('the IPv6 address', () => heard('address', '2001:db8::1'));
      ip('address', 'del', '192.0.2.1/24', 'dev', 'rt-br');
      await eventually('its end', () => heard('gone', '192.0.2.1'));
      ip('link', 'del', 'rt-br');
      await eventually('the end of the other with its link', () => heard('gone', '2001:db8::1'));
    });

    it('stops when it is told to', async () => {
      let stopped = 0;
      let heard = 0;
      const stop = watchAddresses(poller, open(), () => stopped++);
      watchAddresses(poller, open(), () => heard++);
      stop();
      ip('address', 'add', '192.0.2.1/24', 'dev', 'rt-br');
      await eventually('the other hears', () => heard > 0);
      assert.equal(stopped, 0);
    });
  });
});
