import assert from 'node:assert/strict';
import type { NetworkState } from '../../../src/lab/network-state.ts';
import { forwardingText, neighbourText, routeText } from '../../../src/lab/network-state.ts';
import { nodeLines } from '../../../src/lab/network-view.ts';
import { plain } from '../../../src/output/colour.ts';
import { type Address, familyOf, parseAddress, parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import type { Link } from '../../../src/rtnetlink/links.ts';
import { NEIGHBOUR_STATE, type ForwardingEntry, type Neighbour } from '../../../src/rtnetlink/neighbours.ts';
import { ROUTE_PROTOCOL, ROUTE_SCOPE, type Route } from '../../../src/rtnetlink/routes.ts';

const ip = (text: string): Address => parseAddress(text) ?? assert.fail(text);
const cidr = (text: string): Prefix => parsePrefix(text) ?? assert.fail(text);

function link(index: number, name: string, mtu: number, more: Partial<Link> = {}): Link {
  return {
    index,
    name,
    kind: '',
    master: undefined,
    up: true,
    running: true,
    mtu,
    address: undefined,
    bridge: undefined,
    vxlan: undefined,
    ipip: undefined,
    ...more,
  };
}

function vxlan(index: number, name: string, local: string): Link {
  const settings = { vni: 1, port: 8472, local: ip(local), remote: undefined, underlay: 2, learning: false, gbp: false };
  return link(index, name, 1450, { kind: 'vxlan', vxlan: settings });
}

function route(destination: string, more: Partial<Route> = {}): Route {
  const prefix = cidr(destination);
  return {
    family: familyOf(prefix.address),
    destination: prefix,
    type: 'unicast',
    table: 254,
    protocol: ROUTE_PROTOCOL.boot,
    scope: ROUTE_SCOPE.global,
    gateway: undefined,
    link: undefined,
    source: undefined,
    metric: undefined,
    onlink: false,
    hops: 1,
    ...more,
  };
}

function neighbour(address: string, mac: string | undefined, state: number = NEIGHBOUR_STATE.permanent): Neighbour {
  return { link: 3, address: ip(address), mac, state, permanent: state === NEIGHBOUR_STATE.permanent };
}

function forwarding(mac: string, more: Partial<ForwardingEntry> = {}): ForwardingEntry {
  return { link: 3, mac, destination: undefined, permanent: true, self: true, master: undefined, port: undefined, vni: undefined, ...more };
}

const ETH0 = link(2, 'eth0', 1500);
const CNI0 = link(5, 'cni0', 1450);
const LINKS = new Map([ETH0, vxlan(3, 'flannel.1', '172.18.0.2'), CNI0].map((each) => [each.index, each]));
const WORDS = { links: LINKS };

describe('the network of a lab in words', () => {
  // What ip and bridge (iproute2) print of such objects.
  it('has routes as ip route has them', () => {
    const words = (of: Route, device?: number): string => routeText(WORDS, of, device);
    const onlink = route('10.244.1.0/24', { gateway: ip('10.244.1.0'), link: 3, onlink: true });
    assert.equal(words(onlink), '10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink');
    assert.equal(words(onlink, 3), '10.244.1.0/24 via 10.244.1.0 onlink');
    assert.equal(words(onlink, 2), '10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink');
    const own = { link: 5, protocol: ROUTE_PROTOCOL.kernel, scope: ROUTE_SCOPE.link, source: ip('10.244.0.1') };
    assert.equal(words(route('10.244.0.0/24', own)), '10.244.0.0/24 dev cni0 proto kernel scope link src 10.244.0.1');
    assert.equal(words(route('0.0.0.0/0', { gateway: ip('192.0.2.10'), link: 2 })), 'default via 192.0.2.10 dev eth0');
    assert.equal(
      words(route('::/0', { gateway: ip('2001:db8::10'), link: 2, metric: 1024 })),
      'default via 2001:db8::10 dev eth0 metric 1024',
    );
    assert.equal(words(route('172.18.0.3/32', { link: 2, scope: ROUTE_SCOPE.link })), '172.18.0.3 dev eth0 scope link');
    assert.equal(words(route('10.9.0.0/16', { gateway: ip('fd00::1'), link: 2 })), '10.9.0.0/16 via inet6 fd00::1 dev eth0');
    assert.equal(
      words(route('10.244.9.0/24', { type: 'blackhole', protocol: ROUTE_PROTOCOL.static })),
      'blackhole 10.244.9.0/24 proto static',
    );
    assert.equal(words(route('10.1.0.0/16', { link: 9 })), '10.1.0.0/16 dev if9', 'a link that went meanwhile');
  });

  it('has neighbours as ip neigh has them', () => {
    const known = neighbour('10.244.1.0', 'e6:d3:a6:d1:e9:f9');
    assert.equal(neighbourText(WORDS, known), '10.244.1.0 dev flannel.1 lladdr e6:d3:a6:d1:e9:f9 PERMANENT');
    assert.equal(neighbourText(WORDS, known, 3), '10.244.1.0 lladdr e6:d3:a6:d1:e9:f9 PERMANENT');
    const failed = neighbour('10.244.1.9', undefined, NEIGHBOUR_STATE.failed);
    assert.equal(neighbourText(WORDS, failed, 3), '10.244.1.9 FAILED');
  });

  it('has forwarding entries as bridge fdb has them', () => {
    const tunnel = forwarding('e6:d3:a6:d1:e9:f9', { destination: ip('172.18.0.3') });
    assert.equal(forwardingText(WORDS, tunnel), 'e6:d3:a6:d1:e9:f9 dev flannel.1 dst 172.18.0.3 self permanent');
    assert.equal(forwardingText(WORDS, tunnel, 3), 'e6:d3:a6:d1:e9:f9 dst 172.18.0.3 self permanent');
    const other = forwarding('e6:d3:a6:d1:e9:f9', { destination: ip('172.18.0.3'), port: 4789, vni: 7 });
    assert.equal(forwardingText(WORDS, other, 3), 'e6:d3:a6:d1:e9:f9 dst 172.18.0.3 port 4789 vni 7 self permanent');
    const port = forwarding('32:77:8b:cc:c0:88', { link: 2, self: false, master: 5, permanent: false });
    assert.equal(forwardingText(WORDS, port), '32:77:8b:cc:c0:88 dev eth0 master cni0');
  });
});

describe('the network of a node', () => {
  const PEERS = ['b', 'c', 'd'].map((name, index) => ({ name: `node-${name}`, podCIDRs: [cidr(`10.244.${index + 1}.0/24`)] }));
  const MACS = ['e6:00:00:00:00:01', 'e6:00:00:00:00:02', 'e6:00:00:00:00:03'];
  const FULL: NetworkState = {
    links: LINKS,
    addresses: [
      { family: 4, address: ip('172.18.0.2'), prefixLength: 32, link: 2, scope: 'global', flags: 0 },
      { family: 6, address: ip('fe80::1'), prefixLength: 64, link: 2, scope: 'link', flags: 0 },
      { family: 4, address: ip('10.244.0.1'), prefixLength: 24, link: 5, scope: 'global', flags: 0 },
    ],
    routes: [1, 2, 3].map((each) => route(`10.244.${each}.0/24`, { gateway: ip(`10.244.${each}.0`), link: 3, onlink: true })),
    neighbours: MACS.map((mac, index) => neighbour(`10.244.${index + 1}.0`, mac)),
    forwarding: MACS.map((mac, index) => forwarding(mac, { destination: ip(`172.18.0.${index + 3}`) })),
  };
  const lines = (state: Partial<NetworkState>, peers = PEERS.slice(0, 1), shown = 9): string[] => [
    ...nodeLines({ podCIDRs: [cidr('10.244.0.0/24')] }, peers, shown, { ...FULL, ...state }, plain),
  ];
  const HEAD = [
    '  eth0       mtu 1500  172.18.0.2/32',
    '  cni0       mtu 1450  10.244.0.1/24',
    '  flannel.1  mtu 1450  vxlan id 1 local 172.18.0.2 dstport 8472',
  ];

  it('is its devices, and the way to each other node', () => {
    assert.deepEqual(lines({}), [
      ...HEAD,
      '    node-b  10.244.1.0/24 via 10.244.1.0 onlink',
      '            10.244.1.0 lladdr e6:00:00:00:00:01 PERMANENT',
      '            e6:00:00:00:00:01 dst 172.18.0.3 self permanent',
    ]);
  });

  it('says what is missing of a way', () => {
    assert.deepEqual(lines({ routes: [] }).slice(3), ['    node-b  no route']);
    assert.deepEqual(lines({ neighbours: [] }).slice(3), ['    node-b  10.244.1.0/24 via 10.244.1.0 onlink', '            no neighbour']);
    assert.deepEqual(lines({ forwarding: [] }).slice(5), ['            no forwarding entry']);
    const elsewhere = [forwarding(MACS[0] ?? '', { link: 5, self: false, master: 5 })];
    assert.deepEqual(lines({ forwarding: elsewhere }).slice(5), ['            no forwarding entry'], 'that of a bridge is another');
  });

  it('says what is missing of the devices', () => {
    assert.deepEqual(lines({ links: new Map([[2, ETH0]]) }), [
      '  eth0  mtu 1500  172.18.0.2/32',
      '  cni0  is not there',
      '  no overlay device for IPv4',
    ]);
  });

  it('counts what leads to the rest of many nodes, and so shows what of it is missing', () => {
    assert.deepEqual(lines({ forwarding: FULL.forwarding.slice(0, 2) }, PEERS, 1).slice(6), [
      '    and 2 more nodes: 2 routes, 2 neighbours, 1 forwarding entry',
    ]);
  });

  it('has no neighbour and no forwarding entry where a route does not go through the overlay', () => {
    const direct = [route('10.244.1.0/24', { gateway: ip('172.18.0.3'), link: 2 })];
    assert.deepEqual(lines({ routes: direct }).slice(3), ['    node-b  10.244.1.0/24 via 172.18.0.3 dev eth0']);
  });
});
