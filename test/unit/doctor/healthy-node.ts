/** A node with nothing wrong, as evidence: two families, the backend vxlan, two peers, one pod. Each test changes what it is about. */
import type { Chain, Rule } from 'nftables-js';
import type { Evidence, KernelTables, LeaseRecords, NodeSettings, Reading, Told } from '../../../src/doctor/evidence.ts';
import type { CheckOutcome, Finding } from '../../../src/doctor/report.ts';
import type { Lease } from '../../../src/network/lease.ts';
import { type NetConf, parseNetConf } from '../../../src/network/net-conf.ts';
import { type Address, type Family, familyOf, parseAddress, parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import type { InterfaceAddress } from '../../../src/rtnetlink/addresses.ts';
import type { Link } from '../../../src/rtnetlink/links.ts';
import type { ForwardingEntry, Neighbour } from '../../../src/rtnetlink/neighbours.ts';
import type { Route } from '../../../src/rtnetlink/routes.ts';
import assert from 'node:assert/strict';

export function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

export function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

export function link(fields: Partial<Link> & Pick<Link, 'index' | 'name'>): Link {
  return {
    kind: '',
    master: undefined,
    up: true,
    running: true,
    mtu: 1500,
    address: `02:00:00:00:00:0${fields.index}`,
    bridge: undefined,
    vxlan: undefined,
    ipip: undefined,
    ...fields,
  };
}

const VXLAN = { vni: 1, port: 8472, remote: undefined, underlay: 2, learning: false, gbp: false } as const;

export const LINKS: readonly Link[] = [
  link({ index: 1, name: 'lo', mtu: 65_536 }),
  link({ index: 2, name: 'eth0' }),
  link({
    index: 3,
    name: 'flannel.1',
    kind: 'vxlan',
    mtu: 1450,
    address: '0e:04:00:00:00:00',
    vxlan: { ...VXLAN, local: address('172.18.0.1') },
  }),
  link({
    index: 4,
    name: 'flannel-v6.1',
    kind: 'vxlan',
    mtu: 1430,
    address: '0e:06:00:00:00:00',
    vxlan: { ...VXLAN, local: address('fd00:172:18::1') },
  }),
  link({ index: 5, name: 'cni0', kind: 'bridge', mtu: 1430, bridge: { iptables: true, ip6tables: true } }),
  link({ index: 6, name: 'veth1', kind: 'veth', mtu: 1430, master: 5 }),
];

/** `10.0.0.1/24` on a link, by its index. */
export function addressOn(index: number, text: string): InterfaceAddress {
  const [own = '', length = ''] = text.split('/');
  const parsed = address(own);
  return { family: familyOf(parsed), address: parsed, prefixLength: Number(length), link: index, scope: 'global', flags: 0x80 };
}

export function route(destination: string, fields: Partial<Route> = {}): Route {
  const to = prefix(destination);
  return {
    family: familyOf(to.address),
    destination: to,
    type: 'unicast',
    table: 254,
    protocol: 3,
    scope: 0,
    gateway: undefined,
    link: 2,
    source: undefined,
    metric: undefined,
    onlink: false,
    hops: 1,
    ...fields,
  };
}

export function neighbour(index: number, text: string, mac: string): Neighbour {
  return { link: index, address: address(text), mac, state: 0x80, permanent: true };
}

export function forwarding(index: number, mac: string, destination: string): ForwardingEntry {
  return {
    link: index,
    mac,
    destination: address(destination),
    permanent: true,
    self: true,
    master: undefined,
    port: undefined,
    vni: undefined,
  };
}

/** 10.244.N.0/24 at 172.18.0.(100+N), the same for IPv6. */
export function peer(number: number, fields: Partial<Lease> = {}): Lease {
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  return {
    node: `peer-${number}`,
    backendType: 'vxlan',
    v4: {
      subnet: prefix(`10.244.${number}.0/24`),
      publicAddress: address(`172.18.0.${100 + number}`),
      data: { VNI: 1, VtepMAC: `0e:04:00:00:00:${hex(number)}` },
    },
    v6: {
      subnet: prefix(`fd00:10:244:${number}::/64`),
      publicAddress: address(`fd00:172:18::${hex(100 + number)}`),
      data: { VNI: 1, VtepMAC: `0e:06:00:00:00:${hex(number)}` },
    },
    ...fields,
  };
}

const ON_SEGMENT = route('172.18.0.0/24', { protocol: 2, scope: 253 });
const ON_SEGMENT_6 = route('fd00:172:18::/64', { protocol: 2 });

export const TABLES: KernelTables = {
  links: LINKS,
  addresses: [
    addressOn(1, '127.0.0.1/8'),
    addressOn(2, '172.18.0.1/24'),
    addressOn(2, 'fd00:172:18::1/64'),
    addressOn(3, '10.244.0.0/32'),
    addressOn(4, 'fd00:10:244::/128'),
    addressOn(5, '10.244.0.1/24'),
    addressOn(5, 'fd00:10:244::1/64'),
  ],
  routes: [
    route('0.0.0.0/0', { gateway: address('172.18.0.254') }),
    route('::/0', { gateway: address('fd00:172:18::fe') }),
    ON_SEGMENT,
    ON_SEGMENT_6,
    route('10.244.0.0/24', { link: 5, protocol: 2, scope: 253 }),
    route('10.244.1.0/24', { link: 3, gateway: address('10.244.1.0'), onlink: true }),
    route('10.244.2.0/24', { link: 3, gateway: address('10.244.2.0'), onlink: true }),
    route('fd00:10:244::/64', { link: 5, protocol: 2 }),
    route('fd00:10:244:1::/64', { link: 4, gateway: address('fd00:10:244:1::'), onlink: true, metric: 1024 }),
    route('fd00:10:244:2::/64', { link: 4, gateway: address('fd00:10:244:2::'), onlink: true, metric: 1024 }),
  ],
  neighbours: [
    neighbour(3, '10.244.1.0', '0e:04:00:00:00:01'),
    neighbour(3, '10.244.2.0', '0e:04:00:00:00:02'),
    neighbour(4, 'fd00:10:244:1::', '0e:06:00:00:00:01'),
    neighbour(4, 'fd00:10:244:2::', '0e:06:00:00:00:02'),
  ],
  forwarding: [
    forwarding(3, '0e:04:00:00:00:01', '172.18.0.101'),
    forwarding(3, '0e:04:00:00:00:02', '172.18.0.102'),
    forwarding(4, '0e:06:00:00:00:01', 'fd00:172:18::65'),
    forwarding(4, '0e:06:00:00:00:02', 'fd00:172:18::66'),
  ],
  routesTo: new Map([
    [address('172.18.0.101'), ON_SEGMENT],
    [address('172.18.0.102'), ON_SEGMENT],
    [address('fd00:172:18::65'), ON_SEGMENT_6],
    [address('fd00:172:18::66'), ON_SEGMENT_6],
    [address('10.244.1.2'), route('10.244.1.2/32', { link: 3, gateway: address('10.244.1.0') })],
    [address('10.244.2.2'), route('10.244.2.2/32', { link: 3, gateway: address('10.244.2.0') })],
    [address('fd00:10:244:1::2'), route('fd00:10:244:1::2/128', { link: 4, gateway: address('fd00:10:244:1::') })],
    [address('fd00:10:244:2::2'), route('fd00:10:244:2::2/128', { link: 4, gateway: address('fd00:10:244:2::') })],
  ]),
};

export const SETTINGS: NodeSettings = {
  node: 'self',
  netConfigPath: '/etc/kube-flannel/net-conf.json',
  annotationPrefix: 'flannel.alpha.coreos.com',
  kubectl: 'kubectl',
  interfaces: {
    iface: [],
    ifaceRegex: [],
    ifaceCanReach: undefined,
    publicIP: undefined,
    publicIPv6: undefined,
    ipv4: true,
    ipv6: true,
  },
  subnetFile: '/run/flannel/subnet.env',
  bridge: 'cni0',
  cniConfFile: '/etc/cni/net.d/10-flannel.conflist',
  cniBinDirs: ['/opt/cni/bin', '/usr/lib/cni'],
};

export function conf(fields: object = {}): NetConf {
  return parseNetConf(
    JSON.stringify({
      Network: '10.244.0.0/16',
      EnableIPv6: true,
      IPv6Network: 'fd00:10:244::/48',
      EnableNFTables: true,
      Backend: { Type: 'vxlan' },
      ...fields,
    }),
    'net-conf.json',
  );
}

export function told(name: string, text: string | undefined): Told {
  return { where: `annotation flannel.alpha.coreos.com/${name} of node self`, text };
}

export const LEASES: LeaseRecords = {
  kind: 'kubernetes',
  origin: 'the API server',
  own: {
    exists: true,
    subnets: { v4: prefix('10.244.0.0/24'), v6: prefix('fd00:10:244::/64') },
    problems: [],
    isPublished: true,
    backendType: told('backend-type', 'vxlan'),
    publicAddress: { 4: told('public-ip', '172.18.0.1'), 6: told('public-ipv6', 'fd00:172:18::1') },
    data: {
      4: told('backend-data', '{"VNI":1,"VtepMAC":"0e:04:00:00:00:00"}'),
      6: told('backend-v6-data', '{"VNI":1,"VtepMAC":"0e:06:00:00:00:00"}'),
    },
    overwrite: { 4: told('public-ip-overwrite', undefined), 6: told('public-ipv6-overwrite', undefined) },
    given: { 4: told('node-public-ip', undefined), 6: told('node-public-ipv6', undefined) },
  },
  peers: [peer(1), peer(2)],
  taken: [prefix('10.244.1.0/24'), prefix('fd00:10:244:1::/64'), prefix('10.244.2.0/24'), prefix('fd00:10:244:2::/64')],
  unreadable: new Map(),
};

export const SUBNET_FILE = `FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.0.1/24
FLANNEL_IPV6_NETWORK=fd00:10:244::/48
FLANNEL_IPV6_SUBNET=fd00:10:244::1/64
FLANNEL_MTU=1430
FLANNEL_IPMASQ=true
`;

/** As flannel's own manifest has it. */
export const CONFLIST = JSON.stringify({
  name: 'cbr0',
  cniVersion: '0.3.1',
  plugins: [
    { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
});

const SYSCTLS: Readonly<Record<string, string>> = {
  'net/ipv4/ip_forward': '1',
  'net/bridge/bridge-nf-call-iptables': '0',
  'net/bridge/bridge-nf-call-ip6tables': '0',
  'net/netfilter/nf_conntrack_count': '100',
  'net/netfilter/nf_conntrack_max': '262144',
  ...Object.fromEntries(
    ['all', 'eth0', 'flannel.1', 'flannel-v6.1', 'cni0'].flatMap((name) => [
      [`net/ipv4/conf/${name}/forwarding`, '1'],
      [`net/ipv4/conf/${name}/rp_filter`, '0'],
      [`net/ipv6/conf/${name}/forwarding`, '1'],
    ]),
  ),
};

export function sysctls(changes: Readonly<Record<string, string | undefined>> = {}): Reading<ReadonlyMap<string, string>> {
  const values = new Map<string, string>(Object.entries(SYSCTLS));
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) values.delete(key);
    else values.set(key, value);
  }
  return { seen: values };
}

const POSTRTG: Chain = {
  family: 'ip',
  table: 'flannel-ipv4',
  name: 'postrtg',
  base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
};

/** Whatever comes to the end of a chain is masqueraded. */
function masqueradeOf(chain: Chain): Rule {
  return { family: chain.family, table: chain.table, chain: chain.name, expressions: [{ expr: 'masquerade' }] };
}

const POSTRTG_6: Chain = { ...POSTRTG, family: 'ip6', table: 'flannel-ipv6' };

export const RULES = {
  tables: [
    { family: 'ip', name: 'flannel-ipv4', flags: [] },
    { family: 'ip6', name: 'flannel-ipv6', flags: [] },
  ],
  chains: [POSTRTG, POSTRTG_6],
  rules: [masqueradeOf(POSTRTG), masqueradeOf(POSTRTG_6)],
  sets: [],
} as const;

const NO_LEGACY = { seen: { tables: [], saved: { seen: '' } } } as const;

export const HEALTHY: Evidence = {
  settings: SETTINGS,
  conf: conf(),
  kernelRelease: '6.1.0-13-amd64',
  tables: { seen: TABLES },
  sysctls: sysctls(),
  leases: { seen: LEASES },
  subnetFile: { seen: SUBNET_FILE },
  cni: {
    seen: {
      directory: '/etc/cni/net.d',
      files: [{ name: '10-flannel.conflist', text: CONFLIST }],
      plugins: new Map([['/opt/cni/bin', ['bridge', 'flannel', 'host-local', 'portmap']]]),
    },
  },
  rules: { seen: RULES },
  legacy: { 4: NO_LEGACY, 6: NO_LEGACY },
  modules: { seen: { present: new Set(['vxlan']), available: { blind: '/lib/modules/6.1.0-13-amd64 cannot be read: ENOENT' } } },
  linkFiles: {
    seen: [{ path: '/usr/lib/systemd/network/99-default.link', text: '[Match]\nOriginalName=*\n\n[Link]\nMACAddressPolicy=persistent\n' }],
  },
  checksumOffload: new Map([
    ['flannel.1', { seen: true }],
    ['flannel-v6.1', { seen: true }],
  ]),
  paths: {
    seen: new Map(
      ['172.18.0.101', '172.18.0.102', 'fd00:172:18::65', 'fd00:172:18::66'].map((text) => [address(text), { mtu: 1500, echo: undefined }]),
    ),
  },
};

/** The healthy node with something of it changed. */
export function node(changes: Partial<Evidence> = {}): Evidence {
  return { ...HEALTHY, ...changes };
}

export function nodeWithTables(changes: Partial<KernelTables>): Evidence {
  return node({ tables: { seen: { ...TABLES, ...changes } } });
}

/** @param changes of a link, by its name; null: it is not there */
export function nodeWithLinks(changes: Readonly<Record<string, Partial<Link> | null>>, more: readonly Link[] = []): Evidence {
  const links = LINKS.flatMap((each) => {
    const change = changes[each.name];
    return change === null ? [] : [{ ...each, ...change }];
  });
  return nodeWithTables({ links: [...links, ...more] });
}

export function nodeWithLeases(changes: Partial<LeaseRecords>, own: Partial<LeaseRecords['own']> = {}): Evidence {
  return node({ leases: { seen: { ...LEASES, ...changes, own: { ...LEASES.own, ...own } } } });
}

/** An IPv4 network alone, for what two families would only say twice. */
export function onlyIPv4(evidence: Evidence, backend: object = { Type: 'vxlan' }): Evidence {
  const { settings } = evidence;
  return {
    ...evidence,
    settings: { ...settings, interfaces: { ...settings.interfaces, ipv6: false } },
    conf: conf({ EnableIPv6: false, Backend: backend }),
  };
}

export function codesOf({ findings }: CheckOutcome): string[] {
  return findings.map(({ code }) => code);
}

/** The only finding, which has this code. */
export function theFinding(outcome: CheckOutcome, code: string): Finding {
  assert.deepEqual(codesOf(outcome), [code]);
  const [finding] = outcome.findings;
  assert.ok(finding !== undefined);
  return finding;
}

export function toldOf(family: Family, value: Told, other: Told): Readonly<Record<Family, Told>> {
  return family === 4 ? { 4: value, 6: other } : { 4: other, 6: value };
}
