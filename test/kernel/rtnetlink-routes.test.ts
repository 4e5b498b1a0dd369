/** Routes of a live kernel, with `ip route` as the second opinion and as the one who changes them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { KernelError, NETLINK_ROUTE, NetlinkSocket, Poller } from 'nftables-js';
import { eventually, onlyInSandbox } from '../../packages/nftables-js/test/eventually.ts';
import { type Address, formatAddress, formatPrefix, parseAddress, parsePrefix, type Prefix, widthOf } from '../../src/policy/address.ts';
import { addAddress } from '../../src/rtnetlink/addresses.ts';
import { deleteLink, listLinks } from '../../src/rtnetlink/links.ts';
import {
  addRoute,
  deleteRoute,
  listRoutes,
  type NewRoute,
  replaceRoute,
  type Route,
  ROUTE_PROTOCOL,
  ROUTE_SCOPE,
  ROUTE_TABLE,
  routeTo,
  type RouteEvent,
  watchRoutes,
} from '../../src/rtnetlink/routes.ts';

/** With -d and -N: numbers, as strings. */
interface IpRoute {
  readonly type: string;
  readonly dst: string;
  readonly gateway?: string;
  readonly via?: { readonly host: string };
  readonly dev?: string;
  readonly table: string;
  readonly protocol: string;
  readonly scope: string;
  readonly prefsrc?: string;
  readonly metric?: number;
  readonly flags: readonly string[];
  readonly nexthops?: readonly { readonly gateway?: string; readonly dev: string; readonly flags: readonly string[] }[];
}

/** linux/rtnetlink.h: RTN_*. */
const TYPES = ['unspec', 'unicast', 'local', 'broadcast', 'other', 'multicast', 'blackhole', 'unreachable', 'prohibit', 'throw'];

function ip(...parts: string[]): string {
  return execFileSync('ip', parts, { stdio: 'pipe' }).toString();
}

function run(command: string): string {
  return ip(...command.split(' '));
}

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

/** One line for a route, the same from `ip` and from here. */
function line(parts: Record<string, string | number | boolean | undefined>): string {
  return Object.entries(parts)
    .filter(([, value]) => value !== undefined && value !== false)
    .map(([name, value]) => `${name} ${String(value)}`)
    .join(' ');
}

function shownBy(family: 4 | 6, table: number, ...selector: string[]): string[] {
  // Of all tables, for of a single one that has had no route yet `ip` makes an error, and it does not name it.
  const routes = JSON.parse(ip('-d', '-N', '-j', `-${family}`, 'route', 'show', 'table', 'all', ...selector)) as IpRoute[];
  return routes
    .filter((route) => route.table === String(table))
    .map((route) => {
      const hop = route.nexthops?.[0] ?? route;
      const all = family === 4 ? '0.0.0.0/0' : '::/0';
      return line({
        to: route.dst === 'default' ? all : route.dst.includes('/') ? route.dst : `${route.dst}/${widthOf(family)}`,
        type: TYPES[Number(route.type)],
        via: hop.gateway ?? route.via?.host,
        dev: hop.dev,
        table: route.table,
        protocol: route.protocol,
        scope: route.scope,
        source: route.prefsrc,
        metric: route.metric,
        onlink: hop.flags.includes('onlink'),
        hops: route.nexthops?.length ?? 1,
      });
    })
    .toSorted();
}

describe('rtnetlink: routes', () => {
  let socket: NetlinkSocket;
  let eth = 0;

  const lines = (routes: readonly Route[]): string[] => {
    const names = new Map(listLinks(socket).map(({ index, name }) => [index, name]));
    return routes
      .map((route) =>
        line({
          to: formatPrefix(route.destination),
          type: route.type,
          via: route.gateway === undefined ? undefined : formatAddress(route.gateway),
          dev: route.link === undefined ? undefined : names.get(route.link),
          table: route.table,
          protocol: route.protocol,
          scope: route.scope,
          source: route.source === undefined ? undefined : formatAddress(route.source),
          metric: route.metric,
          onlink: route.onlink,
          hops: route.hops,
        }),
      )
      .toSorted();
  };
  const refused = (code: string, text: string, call: () => void): void =>
    assert.throws(call, (error) => error instanceof KernelError && error.code === code && error.message.includes(text));

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(async () => {
    socket = NetlinkSocket.open(NETLINK_ROUTE);
    run('link add rr-eth type veth peer name rr-peer');
    // Link-local addresses would bring routes of their own, some time later.
    for (const name of ['rr-eth', 'rr-peer']) {
      run(`link set ${name} addrgenmode none`);
      run(`link set ${name} up`);
    }
    const links = () => listLinks(socket).filter(({ name }) => name.startsWith('rr-'));
    await eventually('both ends run', () => links().every(({ running }) => running));
    eth = links().find(({ name }) => name === 'rr-eth')?.index ?? 0;
    addAddress(socket, { link: eth, address: address('192.0.2.1'), prefixLength: 24 });
    addAddress(socket, { link: eth, address: address('2001:db8::1'), prefixLength: 64, noDuplicateDetection: true });
  });
  afterEach(() => {
    const link = listLinks(socket).find(({ name }) => name === 'rr-eth');
    if (link !== undefined) deleteLink(socket, link);
    // These need no link.
    for (const { type, destination } of listRoutes(socket)) {
      if (type === 'blackhole' || type === 'unreachable' || type === 'prohibit') deleteRoute(socket, { destination });
    }
    socket.close();
  });

  it('gives what `ip route` gives, of every kind, table by table', () => {
    for (const route of [
      '10.1.0.0/16 via 192.0.2.9 metric 5 src 192.0.2.1 proto static',
      '10.2.0.0/16 nexthop via 10.2.0.0 dev rr-eth onlink nexthop via 192.0.2.9 dev rr-eth',
      '10.3.0.1 via inet6 2001:db8::7 dev rr-eth',
      'default dev rr-eth',
      'blackhole 10.4.0.0/16',
      'unreachable 10.5.0.0/16',
      'prohibit 10.6.0.0/16',
      '10.7.0.0/16 via 10.7.0.0 dev rr-eth onlink',
      '10.8.0.0/16 dev rr-eth table 100000',
      'throw 10.9.0.0/16 table 77',
    ]) {
      run(`route add ${route}`);
    }
    for (const route of [
      '2001:db8:1::/48 via 2001:db8::8 metric 7 src 2001:db8::1 proto static',
      '2001:db8:2::/48 nexthop via 2001:db8::8 nexthop via 2001:db8::9',
      'blackhole 2001:db8:3::/48',
      'default dev rr-eth',
      '2001:db8:4::1 via fe80::1 dev rr-eth onlink table 77',
    ]) {
      run(`-6 route add ${route}`);
    }
    for (const table of [ROUTE_TABLE.main, ROUTE_TABLE.local, 77, 100_000]) {
      for (const family of [4, 6] as const) assert.deepEqual(lines(listRoutes(socket, { table, family })), shownBy(family, table));
    }
    const main = listRoutes(socket);
    assert.deepEqual(lines(main), [...shownBy(4, ROUTE_TABLE.main), ...shownBy(6, ROUTE_TABLE.main)].toSorted());
    assert.ok(main.length >= 12);
  });

  it('passes over what the kernel has learned for one destination alone', () => {
    run('route add 10.1.0.0/16 via 192.0.2.9');
    run('-6 route add 2001:db8:1::/48 via 2001:db8::8');
    routeTo(socket, address('10.1.2.3'));
    assert.deepEqual(lines(listRoutes(socket, { family: 4 })), shownBy(4, ROUTE_TABLE.main));
  });

  describe('made here', () => {
    const route = (to: string, rest: Omit<NewRoute, 'destination'> = {}): NewRoute => ({ destination: prefix(to), ...rest });
    /** What `ip` has to say of each: the defaults are its own. */
    const cases: () => [NewRoute, string][] = () => [
      [
        route('10.244.2.0/24', { gateway: address('10.244.2.0'), link: eth, onlink: true }),
        '10.244.2.0/24 via 10.244.2.0 dev rr-eth onlink',
      ],
      [route('10.244.3.0/24', { gateway: address('192.0.2.3') }), '10.244.3.0/24 via 192.0.2.3'],
      [route('10.244.4.0/24', { link: eth }), '10.244.4.0/24 dev rr-eth'],
      [route('10.244.4.1/32', { link: eth, source: address('192.0.2.1'), metric: 9 }), '10.244.4.1 dev rr-eth src 192.0.2.1 metric 9'],
      [route('10.244.0.0/16', { type: 'blackhole' }), 'blackhole 10.244.0.0/16'],
      [
        route('10.245.0.0/16', { link: eth, scope: ROUTE_SCOPE.global, protocol: ROUTE_PROTOCOL.static, table: 300 }),
        '10.245.0.0/16 dev rr-eth scope global proto static table 300',
      ],
      [route('0.0.0.0/0', { gateway: address('192.0.2.254'), table: 200 }), 'default via 192.0.2.254 table 200'],
      [
        route('2001:db8:2::/64', { gateway: address('2001:db8:2::'), link: eth, onlink: true }),
        '2001:db8:2::/64 via 2001:db8:2:: dev rr-eth onlink',
      ],
      [route('2001:db8:3::/64', { gateway: address('2001:db8::3'), metric: 9 }), '2001:db8:3::/64 via 2001:db8::3 metric 9'],
      [route('2001:db8:4::/64', { link: eth, source: address('2001:db8::1') }), '2001:db8:4::/64 dev rr-eth src 2001:db8::1'],
      [route('2001:db8:5::/64', { type: 'blackhole', protocol: ROUTE_PROTOCOL.static }), 'blackhole 2001:db8:5::/64 proto static'],
      [route('::/0', { gateway: address('fe80::1'), link: eth, table: 300 }), 'default via fe80::1 dev rr-eth table 300'],
    ];
    for (const [at, [, command]] of cases().entries()) {
      it(`is what \`ip route add ${command}\` makes, is added once, replaced by itself, and deleted`, () => {
        // Now that the link has its index.
        const [made] = cases()[at] ?? [];
        assert.ok(made);
        const family = typeof made.destination.address === 'number' ? 4 : 6;
        const table = made.table ?? ROUTE_TABLE.main;
        const before = shownBy(family, table);
        ip(`-${family}`, 'route', 'add', ...command.split(' '));
        const expected = shownBy(family, table);
        assert.equal(expected.length, before.length + 1);
        ip(`-${family}`, 'route', 'del', ...command.replace(' onlink', '').split(' '));
        assert.deepEqual(shownBy(family, table), before);

        addRoute(socket, made);
        assert.deepEqual(shownBy(family, table), expected);
        refused('EEXIST', `adding route ${formatPrefix(made.destination)}`, () => addRoute(socket, made));
        replaceRoute(socket, made);
        assert.deepEqual(shownBy(family, table), expected);
        deleteRoute(socket, made);
        assert.deepEqual(shownBy(family, table), before);
        replaceRoute(socket, made);
        assert.deepEqual(shownBy(family, table), expected);
        deleteRoute(socket, { destination: made.destination, table });
        assert.deepEqual(shownBy(family, table), before);
        refused('ESRCH', `deleting route ${formatPrefix(made.destination)}`, () => deleteRoute(socket, made));
      });
    }
  });

  for (const [family, to, [first, second, third], metric] of [
    [4, '10.244.2.0/24', ['192.0.2.7', '192.0.2.8', '192.0.2.9'], 0],
    [6, '2001:db8:2::/64', ['2001:db8::7', '2001:db8::8', '2001:db8::9'], 1024],
  ] as const) {
    describe(`replacing an IPv${family} route`, () => {
      const destination = prefix(to);
      const gateways = (): string[] =>
        shownBy(family, ROUTE_TABLE.main, to)
          .map((line) => / via ([^ ]+)/.exec(line)?.[1] ?? 'none')
          .toSorted();

      it('leaves one, whether its gateway changes, or goes, or comes', () => {
        replaceRoute(socket, { destination, gateway: address(first) });
        assert.deepEqual(gateways(), [first]);
        replaceRoute(socket, { destination, gateway: address(second) });
        assert.deepEqual(gateways(), [second]);
        replaceRoute(socket, { destination, link: eth });
        assert.deepEqual(gateways(), ['none']);
        replaceRoute(socket, { destination, gateway: address(third), link: eth, onlink: true });
        assert.deepEqual(gateways(), [third]);
        replaceRoute(socket, { destination, type: 'blackhole' });
        assert.deepEqual(gateways(), ['none']);
        replaceRoute(socket, { destination, gateway: address(first) });
        assert.deepEqual(gateways(), [first]);
      });

      it('replaces a multipath route as a whole', () => {
        run(`-${family} route add ${to} nexthop via ${first} nexthop via ${second}`);
        replaceRoute(socket, { destination, gateway: address(third) });
        assert.deepEqual(gateways(), [third]);
        assert.equal(listRoutes(socket).find((route) => formatPrefix(route.destination) === to)?.hops, 1);
      });

      it('leaves one with another metric', () => {
        replaceRoute(socket, { destination, gateway: address(first) });
        replaceRoute(socket, { destination, gateway: address(second), metric: 77 });
        assert.deepEqual(gateways(), [first, second]);
        replaceRoute(socket, { destination, gateway: address(third), metric: 77 });
        assert.deepEqual(gateways(), [first, third]);
        const metrics = listRoutes(socket).flatMap((route) => (formatPrefix(route.destination) === to ? [route.metric ?? 0] : []));
        assert.deepEqual(new Set(metrics), new Set([77, metric]));
        deleteRoute(socket, { destination, metric: 77 });
        assert.deepEqual(gateways(), [first]);
      });

      it('does not replace all that somebody has appended with the same metric', () => {
        run(`-${family} route append ${to} via ${first}`);
        run(`-${family} route append ${to} via ${second}`);
        run(`-${family} route append ${to} dev rr-peer`);
        replaceRoute(socket, { destination, gateway: address(third) });
        assert.deepEqual(gateways(), family === 4 ? [second, third, 'none'] : [third, 'none']);
      });

      it('deletes the one that has the gateway that is given', () => {
        addRoute(socket, { destination, gateway: address(first) });
        addRoute(socket, { destination, gateway: address(second), metric: 5000 });
        refused('ESRCH', third, () => deleteRoute(socket, { destination, gateway: address(third) }));
        deleteRoute(socket, { destination, gateway: address(second) });
        assert.deepEqual(gateways(), [first]);
      });
    });
  }

  it('says which route it was about when its gateway is not on a link, or the link is gone or down', () => {
    const destination = prefix('10.244.2.0/24');
    refused('ENETUNREACH', '10.244.2.0/24 via 203.0.113.9', () => replaceRoute(socket, { destination, gateway: address('203.0.113.9') }));
    refused('ENODEV', '10.244.2.0/24 through link 9999', () => addRoute(socket, { destination, link: 9999 }));
    refused('EINVAL', '10.244.2.0/24', () => addRoute(socket, { destination, link: eth, source: address('203.0.113.9') }));
    run('link set rr-eth down');
    refused('ENETDOWN', '10.244.2.0/24', () => addRoute(socket, { destination, link: eth }));
  });

  describe('the route to an address', () => {
    const got = (to: string): string => {
      const route = routeTo(socket, address(to));
      assert.ok(route, to);
      return `${route.type} via ${route.gateway === undefined ? '' : formatAddress(route.gateway)} from ${formatAddress(route.source ?? address('0.0.0.0'))}`;
    };

    it('is what `ip route get` says: on the link, through a gateway, and of the node itself', () => {
      run('route add 10.1.0.0/16 via 192.0.2.9');
      run('-6 route add 2001:db8:1::/48 via 2001:db8::9');
      for (const to of ['192.0.2.77', '10.1.2.3', '192.0.2.1', '2001:db8::77', '2001:db8:1::2', '2001:db8::1', '127.0.0.1', '::1']) {
        const [shown] = JSON.parse(ip('-d', '-N', '-j', 'route', 'get', to)) as IpRoute[];
        assert.ok(shown);
        assert.equal(got(to), `${TYPES[Number(shown.type)]} via ${shown.gateway ?? ''} from ${shown.prefsrc}`);
        assert.equal(routeTo(socket, address(to))?.table, Number(shown.table));
      }
      assert.equal(got('10.1.2.3'), 'unicast via 192.0.2.9 from 192.0.2.1');
      assert.deepEqual(routeTo(socket, address('2001:db8:1::2'))?.destination, prefix('2001:db8:1::2/128'));
      assert.equal(routeTo(socket, address('192.0.2.77'))?.link, eth);
    });

    it('is of the table that a rule leads to', () => {
      run('route add 198.51.100.0/24 via 192.0.2.9 table 77');
      run('-6 route add 2001:db8:7::/48 via 2001:db8::9 table 77');
      run('rule add to 198.51.100.0/24 table 77');
      run('-6 rule add to 2001:db8:7::/48 table 77');
      try {
        assert.equal(routeTo(socket, address('198.51.100.1'))?.table, 77);
        assert.equal(routeTo(socket, address('2001:db8:7::1'))?.table, 77);
      } finally {
        run('rule del to 198.51.100.0/24 table 77');
        run('-6 rule del to 2001:db8:7::/48 table 77');
      }
    });

    it('is none where there is no route, or one that ends there', () => {
      for (const type of ['unreachable', 'prohibit', 'blackhole']) {
        run(`route replace ${type} 198.51.100.0/24`);
        assert.equal(routeTo(socket, address('198.51.100.1')), undefined, type);
        run(`-6 route replace ${type} 2001:db8:9::/48`);
        assert.equal(routeTo(socket, address('2001:db8:9::1')), undefined, type);
      }
      assert.equal(routeTo(socket, address('203.0.113.1')), undefined);
      assert.equal(routeTo(socket, address('2001:db8:77::1')), undefined);
    });
  });

  describe('watching', () => {
    const events: RouteEvent[] = [];
    let poller: Poller;
    let listener: NetlinkSocket;
    const heard = (event: 'route' | 'gone', to: string, via?: string): boolean =>
      events.some(
        (heard) =>
          heard.event === event &&
          formatPrefix(heard.route.destination) === to &&
          (via === undefined || (heard.route.gateway !== undefined && formatAddress(heard.route.gateway) === via)),
      );

    beforeEach(() => {
      events.length = 0;
      poller = new Poller();
      listener = NetlinkSocket.open(NETLINK_ROUTE);
      watchRoutes(poller, listener, (event) => events.push(event));
    });
    afterEach(() => {
      poller.close();
      listener.close();
    });

    it('notices routes of both families that come, change and go', async () => {
      for (const [family, to, first, second] of [
        [4, '10.1.0.0/16', '192.0.2.8', '192.0.2.9'],
        [6, '2001:db8:1::/48', '2001:db8::8', '2001:db8::9'],
      ] as const) {
        run(`-${family} route add ${to} via ${first}`);
        await eventually('it is there', () => heard('route', to, first));
        run(`-${family} route replace ${to} via ${second}`);
        await eventually('its new gateway', () => heard('route', to, second));
        assert.ok(!heard('gone', to), 'a replaced route was told as gone');
        run(`-${family} route del ${to}`);
        await eventually('its end', () => heard('gone', to, second));
      }
    });

    it('hears nothing of IPv4 routes that go with their link, which is why links have to be watched too', async () => {
      run('route add 10.1.0.0/16 via 192.0.2.9');
      await eventually('it is there', () => heard('route', '10.1.0.0/16'));
      run('link set rr-eth down');
      run('route add blackhole 10.99.0.0/16');
      await eventually('a later one', () => heard('route', '10.99.0.0/16'));
      assert.ok(!listRoutes(socket).some(({ destination }) => formatPrefix(destination) === '10.1.0.0/16'));
      assert.ok(!heard('gone', '10.1.0.0/16'));
    });
  });
});
