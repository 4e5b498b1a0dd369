/** Rules and their order: flannel v0.28.4, main.go, pkg/ipmatch/match.go and pkg/ip/iface.go (compareAddrs). */
import assert from 'node:assert/strict';
import { SluiceError } from '../../../src/errors.ts';
import {
  chooseInterface,
  type ExternalInterface,
  type InterfaceInput,
  type InterfaceOptions,
} from '../../../src/network/external-interface.ts';
import { type Address, familyOf, formatAddress, parseAddress, parsePrefix } from '../../../src/policy/address.ts';
import { ADDRESS_FLAG, type InterfaceAddress } from '../../../src/rtnetlink/addresses.ts';
import type { Link } from '../../../src/rtnetlink/links.ts';
import { ROUTE_PROTOCOL, ROUTE_SCOPE, ROUTE_TABLE, type Route } from '../../../src/rtnetlink/routes.ts';

const { permanent, secondary, deprecated, duplicate } = ADDRESS_FLAG;

function ip(text: string): Address {
  return parseAddress(text) ?? assert.fail(text);
}

function link(index: number, name: string, mtu = 1500): Link {
  const none = { master: undefined, bridge: undefined, vxlan: undefined, ipip: undefined };
  return { index, name, kind: '', up: true, running: true, mtu, address: undefined, ...none };
}

function has(index: number, text: string, flags: number = permanent): InterfaceAddress {
  const address = ip(text);
  return { family: familyOf(address), address, prefixLength: 24, link: index, scope: 'global', flags };
}

function route(destination: string, index: number | undefined, more: Partial<Route> = {}): Route {
  const prefix = parsePrefix(destination) ?? assert.fail(destination);
  return {
    family: familyOf(prefix.address),
    destination: prefix,
    type: 'unicast',
    table: ROUTE_TABLE.main,
    protocol: ROUTE_PROTOCOL.boot,
    scope: ROUTE_SCOPE.global,
    gateway: undefined,
    link: index,
    source: undefined,
    metric: undefined,
    onlink: false,
    hops: 1,
    ...more,
  };
}

/** lo; eth0 with both families and the default routes; eth1 with IPv4 alone; eth2 with nothing. */
const NODE: InterfaceInput = {
  links: [link(1, 'lo', 65_536), link(2, 'eth0'), link(3, 'eth1', 9000), link(4, 'eth2')],
  addresses: [has(1, '127.0.0.1'), has(1, '::1'), has(2, '192.0.2.10'), has(2, 'fe80::10'), has(2, '2001:db8::10'), has(3, '10.0.0.10')],
  routes: [route('10.0.0.0/24', 3), route('0.0.0.0/0', 2), route('::/0', 2, { metric: 1024 })],
  routeTo: () => undefined,
};

const V4: InterfaceOptions = {
  iface: [],
  ifaceRegex: [],
  ifaceCanReach: undefined,
  publicIP: undefined,
  publicIPv6: undefined,
  ipv4: true,
  ipv6: false,
};
const V6: InterfaceOptions = { ...V4, ipv4: false, ipv6: true };
const DUAL: InterfaceOptions = { ...V4, ipv6: true };

/** `eth0 1500 192.0.2.10>192.0.2.10`: own and published address. */
function chosen(options: InterfaceOptions, input: InterfaceInput = NODE): string {
  return describeChoice(chooseInterface(input, options));
}

function describeChoice({ name, mtu, v4, v6 }: ExternalInterface): string {
  const families = [v4, v6].filter((family) => family !== undefined);
  return [name, mtu, ...families.map((family) => `${formatAddress(family.own)}>${formatAddress(family.public)}`)].join(' ');
}

function fault(options: InterfaceOptions, input: InterfaceInput = NODE): string {
  try {
    chooseInterface(input, options);
  } catch (error) {
    assert.ok(error instanceof SluiceError && error.code === 'NO_INTERFACE', String(error));
    assert.match(error.hint ?? '', /--iface NAME/);
    return error.message;
  }
  return assert.fail('an interface was chosen');
}

describe('the external interface', () => {
  describe('by default', () => {
    it('is that of the default route', () => {
      assert.equal(chosen(V4), 'eth0 1500 192.0.2.10>192.0.2.10');
      assert.equal(chosen(V6), 'eth0 1500 2001:db8::10>2001:db8::10');
      assert.equal(chosen(DUAL), 'eth0 1500 192.0.2.10>192.0.2.10 2001:db8::10>2001:db8::10');
    });

    it('is that of the lowest metric, of equal ones the first', () => {
      const routes = [
        route('0.0.0.0/0', 2, { metric: 200 }),
        route('0.0.0.0/0', 3, { metric: 100 }),
        route('0.0.0.0/0', 2, { metric: 100 }),
      ];
      assert.match(chosen(V4, { ...NODE, routes }), /^eth1 /);
      assert.match(chosen(V4, { ...NODE, routes: [...routes, route('0.0.0.0/0', 2)] }), /^eth0 /);
    });

    it('is not that of a route that leads nowhere, or of another table', () => {
      const others = [
        route('0.0.0.0/0', 3, { type: 'unreachable' }),
        route('0.0.0.0/0', 3, { table: 100 }),
        route('0.0.0.0/0', undefined),
        route('0.0.0.0/0', 9),
      ];
      assert.match(chosen(V4, { ...NODE, routes: [...others, ...NODE.routes] }), /^eth0 /);
      assert.match(fault(V4, { ...NODE, routes: others }), /the default route: there is no IPv4 default route\./);
    });

    it('is one for both families', () => {
      const routes = [route('0.0.0.0/0', 3), route('::/0', 2)];
      assert.match(fault(DUAL, { ...NODE, routes }), /that of IPv4 goes through eth1 and that of IPv6 through eth0/);
      assert.match(fault(DUAL, { ...NODE, routes: [route('0.0.0.0/0', 2)] }), /there is no IPv6 default route/);
    });
  });

  describe('with a public address alone', () => {
    it('is the one that has it', () => {
      assert.equal(chosen({ ...V4, publicIP: ip('10.0.0.10') }), 'eth1 9000 10.0.0.10>10.0.0.10');
      assert.equal(chosen({ ...V6, publicIPv6: ip('2001:db8::10') }), 'eth0 1500 2001:db8::10>2001:db8::10');
      const both = { ...DUAL, publicIP: ip('192.0.2.10'), publicIPv6: ip('2001:db8::10') };
      assert.equal(chosen(both), 'eth0 1500 192.0.2.10>192.0.2.10 2001:db8::10>2001:db8::10');
      assert.equal(chosen({ ...DUAL, publicIPv6: ip('fe80::10') }), 'eth0 1500 192.0.2.10>192.0.2.10 fe80::10>fe80::10');
    });

    it('is none where none has it, and that of a family that the network has not is not looked at', () => {
      assert.match(
        fault({ ...V4, publicIP: ip('203.0.113.9') }),
        /the public address 203\.0\.113\.9: no interface has the address 203\.0\.113\.9\./,
      );
      assert.equal(chosen({ ...V4, publicIPv6: ip('2001:db8::99') }), 'eth0 1500 192.0.2.10>192.0.2.10');
      assert.equal(chosen({ ...V6, publicIP: ip('203.0.113.9') }), 'eth0 1500 2001:db8::10>2001:db8::10');
    });

    it('has to be one for both of them', () => {
      const addresses = [...NODE.addresses, has(3, '2001:db8:1::10')];
      const both = { ...DUAL, publicIP: ip('192.0.2.10'), publicIPv6: ip('2001:db8:1::10') };
      assert.match(
        fault(both, { ...NODE, addresses }),
        /it is on interface eth0, and the public IPv6 address 2001:db8:1::10 on interface eth1/,
      );
    });
  });

  describe('with --iface', () => {
    it('is the one of this name or address, and another address may be published', () => {
      assert.equal(chosen({ ...V4, iface: ['eth1'] }), 'eth1 9000 10.0.0.10>10.0.0.10');
      assert.equal(chosen({ ...V4, iface: ['10.0.0.10'] }), 'eth1 9000 10.0.0.10>10.0.0.10');
      assert.equal(chosen({ ...DUAL, iface: ['2001:db8::10'] }), 'eth0 1500 192.0.2.10>192.0.2.10 2001:db8::10>2001:db8::10');
      assert.equal(chosen({ ...V4, iface: ['eth1'], publicIP: ip('203.0.113.9') }), 'eth1 9000 10.0.0.10>203.0.113.9');
      const both = { ...DUAL, iface: ['eth0'], publicIP: ip('203.0.113.9'), publicIPv6: ip('2001:db8::99') };
      assert.equal(chosen(both), 'eth0 1500 192.0.2.10>203.0.113.9 2001:db8::10>2001:db8::99');
    });

    it('is the first of them that will do', () => {
      assert.match(chosen({ ...V4, iface: ['wlan0', 'eth2', 'eth1', 'eth0'] }), /^eth1 /);
    });

    it('says of each why it will not do, and what there is', () => {
      assert.equal(
        fault({ ...DUAL, iface: ['wlan0', 'eth2', 'eth1', '10.0.0.99'], ifaceRegex: ['^wl'] }),
        'choosing the interface for packets between nodes: --iface wlan0: there is no interface of this name; ' +
          '--iface eth2: interface eth2 has no IPv4 address; --iface eth1: interface eth1 has no IPv6 address; ' +
          '--iface 10.0.0.99: no interface has the address 10.0.0.99; ' +
          '--iface-regex ^wl: it matches neither an address of each family nor a name of any interface. ' +
          'There are lo (127.0.0.1, ::1), eth0 (192.0.2.10, fe80::10, 2001:db8::10), eth1 (10.0.0.10), eth2 (no address)',
      );
      assert.match(fault({ ...V4, iface: ['2001:db8::10'] }), /--iface 2001:db8::10: the network has no IPv6\./);
      assert.match(fault({ ...V4, iface: ['eth0'] }, { ...NODE, links: [] }), /There are no interfaces$/);
    });

    it('is none without an MTU', () => {
      assert.match(fault({ ...V4, iface: ['eth0'] }, { ...NODE, links: [link(2, 'eth0', 0)] }), /the MTU of interface eth0 is 0/);
    });
  });

  describe('with --iface-regex', () => {
    it('is one whose address matches, before one whose name does', () => {
      assert.match(chosen({ ...V4, ifaceRegex: ['^10\\.'] }), /^eth1 /);
      assert.match(chosen({ ...V4, ifaceRegex: ['eth[1-9]'] }), /^eth1 /);
      // 1 is in an address of eth0, and the name eth1 comes after that.
      assert.match(chosen({ ...V4, ifaceRegex: ['1'] }), /^eth0 /);
      assert.match(chosen({ ...V6, ifaceRegex: ['^2001:'] }), /^eth0 /);
    });

    it('takes the address that matches', () => {
      const addresses = [has(3, '10.0.0.10'), has(3, '10.0.1.10')];
      assert.equal(chosen({ ...V4, ifaceRegex: ['^10\\.0\\.1\\.'] }, { ...NODE, addresses }), 'eth1 9000 10.0.1.10>10.0.1.10');
    });

    it('wants an address of each family to match, or else the name', () => {
      assert.match(chosen({ ...DUAL, ifaceRegex: ['10'] }), /^eth0 .*192\.0\.2\.10.* 2001:db8::10/);
      assert.match(chosen({ ...DUAL, ifaceRegex: ['^192|th0'] }), /^eth0 /);
      assert.match(fault({ ...DUAL, ifaceRegex: ['^192\\.'] }), /it matches neither an address of each family nor a name/);
    });

    it('comes after --iface, and in order', () => {
      assert.match(chosen({ ...V4, iface: ['eth1'], ifaceRegex: ['eth0'] }), /^eth1 /);
      assert.match(chosen({ ...V4, iface: ['wlan0'], ifaceRegex: ['^wl', 'eth1', 'eth0'] }), /^eth1 /);
    });

    it('reads flags as Go does, and says what is no expression', () => {
      assert.match(chosen({ ...V4, ifaceRegex: ['(?i)^ETH1$'] }), /^eth1 /);
      assert.match(chosen({ ...V4, ifaceRegex: ['^(?P<kind>eth)1$'] }), /^eth1 /);
      assert.match(fault({ ...V4, ifaceRegex: ['eth('] }), /--iface-regex eth\(: it is no regular expression: /);
    });
  });

  describe('with --iface-can-reach', () => {
    const routed = (found: Route | undefined): InterfaceInput => ({ ...NODE, routeTo: () => found });

    it('is that of the route, with its source', () => {
      const asked: string[] = [];
      const input = {
        ...NODE,
        routeTo: (address: Address) => {
          asked.push(formatAddress(address));
          return route('10.0.0.0/24', 3, { source: ip('10.0.0.77') });
        },
      };
      assert.equal(chosen({ ...V4, ifaceCanReach: '10.0.0.1' }, input), 'eth1 9000 10.0.0.77>10.0.0.77');
      assert.deepEqual(asked, ['10.0.0.1']);
    });

    it('has the best address where the route has no source, and always of IPv6', () => {
      assert.equal(chosen({ ...V4, ifaceCanReach: '10.0.0.1' }, routed(route('10.0.0.0/24', 3))), 'eth1 9000 10.0.0.10>10.0.0.10');
      const input = routed(route('::/0', 2, { source: ip('2001:db8::bad') }));
      assert.equal(chosen({ ...V6, ifaceCanReach: '2001:db8::1' }, input), 'eth0 1500 2001:db8::10>2001:db8::10');
    });

    it('comes last', () => {
      assert.match(chosen({ ...V4, ifaceRegex: ['eth0'], ifaceCanReach: '10.0.0.1' }, routed(route('10.0.0.0/24', 3))), /^eth0 /);
      assert.match(chosen({ ...V4, iface: ['wlan0'], ifaceCanReach: '10.0.0.1' }, routed(route('10.0.0.0/24', 3))), /^eth1 /);
    });

    it('is none without a route', () => {
      assert.match(fault({ ...V4, ifaceCanReach: '10.0.0.1' }), /--iface-can-reach 10\.0\.0\.1: there is no route to 10\.0\.0\.1/);
      assert.match(fault({ ...V4, ifaceCanReach: '10.0.0' }), /"10\.0\.0" is no address/);
    });
  });

  describe('has of its addresses', () => {
    const best = (options: InterfaceOptions, ...addresses: InterfaceAddress[]) =>
      chosen({ ...options, iface: ['eth0'] }, { ...NODE, addresses }).split('>')[1];

    it('one that is not link-local', () => {
      assert.equal(best(V6, has(2, 'fe80::1'), has(2, '2001:db8::1', 0)), '2001:db8::1');
      assert.equal(best(V4, has(2, '169.254.1.1'), has(2, '10.0.0.1', 0)), '10.0.0.1');
      assert.equal(best(V6, has(2, 'fe80::1')), 'fe80::1');
    });

    it('then one given by hand, then one that is not temporary or secondary', () => {
      assert.equal(best(V6, has(2, '2001:db8::1', 0), has(2, '2001:db8::2')), '2001:db8::2');
      assert.equal(best(V6, has(2, '2001:db8::1', secondary), has(2, '2001:db8::2', 0)), '2001:db8::2');
      assert.equal(best(V6, has(2, '2001:db8::1', 0), has(2, '2001:db8::2', permanent | secondary)), '2001:db8::2');
      assert.equal(best(V4, has(2, '10.0.0.1', permanent | secondary), has(2, '10.0.0.2')), '10.0.0.2');
    });

    it('of equal ones the first', () => {
      assert.equal(best(V4, has(2, '10.0.0.9'), has(2, '10.0.0.1')), '10.0.0.9');
    });

    it('none that is on its way out, that another host has, or that is not of one interface', () => {
      assert.equal(best(V6, has(2, '2001:db8::1', permanent | deprecated), has(2, '2001:db8::2', 0)), '2001:db8::2');
      assert.equal(best(V6, has(2, '2001:db8::1', permanent | duplicate), has(2, 'fe80::2')), 'fe80::2');
      assert.match(fault({ ...V4, iface: ['lo'] }), /interface lo has no IPv4 address/);
      assert.match(fault({ ...V6, iface: ['lo'] }), /interface lo has no IPv6 address/);
    });
  });
});
