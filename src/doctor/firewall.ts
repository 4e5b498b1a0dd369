/**
 * Firewalls between nodes: whether the packets that the backend sends get out of this node, whether those of its peers get in, and whether
 * packets of pods are forwarded. Rules are followed as far as they can be read from here (rule-walk.ts), so that what is found is a
 * suspicion, with the rule that it is about.
 */
import type { Chain } from 'nftables-js';
import { type Address, familyOf, formatAddress, formatPrefix, type Prefix } from '../policy/address.ts';
import { hostPrefix } from '../network/devices.ts';
import type { BackendConf } from '../network/net-conf.ts';
import type { Evidence, KernelTables, LegacyRules, Reading, Rules } from './evidence.ts';
import { type LegacyChain, readLegacyChains } from './legacy-rules.ts';
import { familiesOfLease, type Plan, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { chainText, placeOf, ruleText } from './rule-text.ts';
import { type Hit, PROTOCOL, type TestPacket, walk } from './rule-walk.ts';
import { lines, word } from './shell-text.ts';

/** So many peers are tried: rules seldom tell one from the other. */
const PEERS_MAX = 64;

/** What the backend sends between nodes; undefined: the packets of pods themselves. */
interface Transport {
  readonly protocol: number;
  readonly port: number | undefined;
  /** As nft and people would say it. */
  readonly match: string;
}

function transportOf(backend: BackendConf, family: 4 | 6): Transport | undefined {
  const udp = (port: number): Transport => ({ protocol: PROTOCOL.udp, port, match: `udp dport ${port}` });
  switch (backend.type) {
    case 'vxlan':
    case 'udp':
      return udp(backend.port);
    case 'wireguard':
      return udp(family === 6 && backend.mode === 'separate' ? backend.listenPortV6 : backend.listenPort);
    case 'ipip':
      return { protocol: PROTOCOL.ipip, port: undefined, match: 'ip protocol 4' };
    case 'host-gw':
    case 'alloc':
      return undefined;
  }
}

/** One packet that has to get through, and what it is for people. */
interface Wanted {
  readonly packet: TestPacket;
  readonly what: string;
}

// --- between nodes

export function checkOverlayFirewall(evidence: Evidence): CheckOutcome {
  const ready = readyFor(evidence);
  if ('findings' in ready) return ready;
  const { plan, rules, pairs } = ready;
  const { backend } = evidence.conf;
  if (transportOf(backend, 4) === undefined) return idle(`the backend ${backend.type} sends no packets of its own`);
  const external = { name: plan.external.name, index: plan.external.index };
  const wanted = pairs.flatMap(({ own, peer, node }): Wanted[] => {
    const transport = transportOf(backend, familyOf(own.address));
    if (transport === undefined) return [];
    const { protocol, port } = transport;
    const common = { protocol, ...(port === undefined ? {} : { destinationPort: port }) };
    const inward = { ...common, source: peer, destination: own, iif: external };
    const outward = { ...common, source: own, destination: peer, oif: external };
    return [
      ...(['prerouting', 'input'] as const).map((hook) => ({ packet: { ...inward, hook }, what: `${transport.match} from ${node}` })),
      ...(['output', 'postrouting'] as const).map((hook) => ({ packet: { ...outward, hook }, what: `${transport.match} to ${node}` })),
    ];
  });
  const findings = drops(rules, wanted).map(({ chain, hits, what, isCertain, packet }): Finding => {
    const family = familyOf(packet.source.address);
    const transport = transportOf(backend, family) ?? { match: '' };
    const isInward = chain.base?.hook === 'input' || chain.base?.hook === 'prerouting';
    const rule = [
      `${isInward ? 'iifname' : 'oifname'} "${external.name}"`,
      // Whoever can send to the overlay's port can send to pods: it is opened for peers alone, where they are few.
      ...addressMatch(isInward ? 'saddr' : 'daddr', packet.source.address, pairs),
      transport.match,
      'accept',
    ].join(' ');
    return {
      code: 'FIREWALL_DROPS_OVERLAY',
      severity: 'warning',
      subject: `nftables ${chain.family} ${chain.table} ${chain.name}`,
      message: `it ${isCertain ? 'drops' : 'may drop'} what the backend ${backend.type} sends between nodes, over IPv${family}: ${what}`,
      evidence: dropEvidence(chain, hits),
      remedy: lines(
        firewallHint(chain, transport.match),
        `nft insert rule ${chain.family} ${word(chain.table)} ${word(chain.name)} ${word(rule)}`,
      ),
    };
  });
  return withLegacy(evidence, findings, (family, chains) => {
    const transport = transportOf(backend, family);
    return transport === undefined ? [] : legacyOverlay(family, chains, transport, external.name, backend.type);
  });
}

const NAMED_PEERS_MAX = 16;

/** Of the family of an address. */
function addressMatch(field: 'saddr' | 'daddr', like: Address, pairs: readonly Pair[]): string[] {
  const peers = pairs.filter(({ peer }) => familyOf(peer.address) === familyOf(like)).map(({ peer }) => formatAddress(peer.address));
  if (peers.length > NAMED_PEERS_MAX) return [];
  return [`${familyOf(like) === 4 ? 'ip' : 'ip6'} ${field} { ${[...new Set(peers)].join(', ')} }`];
}

// --- pods

export function checkPodFirewall(evidence: Evidence): CheckOutcome {
  const ready = readyFor(evidence);
  if ('findings' in ready) return ready;
  const { plan, rules, pods, tables } = ready;
  const bridge = linkNamed(tables, evidence.settings.bridge ?? '');
  const interfaces = [bridge?.name ?? '', plan.external.name, ...plan.devices.map(({ name }) => name)];
  const wanted = pods.flatMap(({ own, peer, node }): Wanted[] => {
    const device = plan.devices.find(({ addresses }) => addresses.some((address) => familyOf(address) === familyOf(own.address)));
    const outside = linkNamed(tables, device?.name ?? plan.external.name);
    const at = (source: Prefix, destination: Prefix, iif: typeof outside, oif: typeof outside): TestPacket => ({
      hook: 'forward',
      protocol: PROTOCOL.tcp,
      source,
      destination,
      ...(iif === undefined ? {} : { iif }),
      ...(oif === undefined ? {} : { oif }),
    });
    return [
      { packet: at(own, peer, bridge, outside), what: `from its own pods to those of ${node}` },
      { packet: at(peer, own, outside, bridge), what: `from the pods of ${node} to its own` },
    ];
  });
  const findings = drops(rules, wanted).map(({ chain, hits, what, isCertain, packet }): Finding => {
    const network = plan.networks.find((each) => familyOf(each.address) === familyOf(packet.source.address));
    const ip = familyOf(packet.source.address) === 4 ? 'ip' : 'ip6';
    const insert = (field: string): string =>
      `nft insert rule ${chain.family} ${word(chain.table)} ${word(chain.name)} ${ip} ${field} ${network === undefined ? '' : formatPrefix(network)} accept`;
    return {
      code: 'FIREWALL_DROPS_PODS',
      severity: 'warning',
      subject: `nftables ${chain.family} ${chain.table} ${chain.name}`,
      message: `it ${isCertain ? 'drops' : 'may drop'} IPv${ip === 'ip' ? 4 : 6} packets ${what}, whatever other tables accept`,
      evidence: dropEvidence(chain, hits),
      remedy: lines(firewallHint(chain, undefined), insert('saddr'), insert('daddr')),
    };
  });
  return withLegacy(evidence, findings, (family, chains) => {
    const network = plan.networks.find((each) => familyOf(each.address) === family);
    return network === undefined ? [] : legacyPods(family, chains, network, interfaces);
  });
}

// --- nftables

interface Ready {
  readonly plan: Plan;
  readonly rules: Rules;
  readonly tables: KernelTables;
  /** Public addresses. */
  readonly pairs: readonly Pair[];
  /** Subnets. */
  readonly pods: readonly Pair[];
}

interface Pair {
  readonly node: string;
  readonly own: Prefix;
  readonly peer: Prefix;
}

function readyFor(evidence: Evidence): Ready | CheckOutcome {
  const { rules, leases, tables } = evidence;
  if ('blind' in rules) return blind(rules.blind);
  if ('blind' in leases) return blind(leases.blind);
  if ('blind' in tables) return blind(tables.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const pairs: Pair[] = [];
  const pods: Pair[] = [];
  for (const lease of leases.seen.peers.slice(0, PEERS_MAX)) {
    for (const [family, { subnet, publicAddress }] of familiesOfLease(lease)) {
      const own = plan.seen.families.find((each) => each.family === family);
      if (own === undefined) continue;
      pairs.push({ node: lease.node, own: hostPrefix(own.source), peer: hostPrefix(publicAddress) });
      pods.push({ node: lease.node, own: own.subnet, peer: subnet });
    }
  }
  if (pairs.length === 0) return idle('there are no peers');
  return { plan: plan.seen, rules: rules.seen, tables: tables.seen, pairs, pods };
}

function linkNamed({ links }: KernelTables, name: string): { readonly name: string; readonly index: number } | undefined {
  const link = links.find((each) => each.name === name);
  return link === undefined ? undefined : { name: link.name, index: link.index };
}

interface Drop {
  readonly chain: Chain;
  readonly hits: readonly Hit[];
  readonly packet: TestPacket;
  /** Of the first packet it is about, and how many more. */
  readonly what: string;
  readonly isCertain: boolean;
}

/** The base chains that drop one of the packets; each once for each family of packets. A drop that may or may not be counts only where the rule names the port. */
function drops(rules: Rules, wanted: readonly Wanted[]): Drop[] {
  const found = new Map<string, { drop: Drop; more: Set<string> }>();
  for (const { packet, what } of wanted) {
    for (const { chain, hits } of walk(rules, packet)) {
      const isCertain = hits.length > 0 && hits.every(({ effect }) => effect === 'drop');
      const dropping = hits.filter(
        ({ effect, namesPort }) => effect === 'drop' && (isCertain || (namesPort && packet.destinationPort !== undefined)),
      );
      if (dropping.length === 0) continue;
      const key = `${familyOf(packet.source.address)} ${chain.family} ${chain.table} ${chain.name}`;
      const known = found.get(key);
      if (known === undefined) found.set(key, { drop: { chain, hits: dropping, packet, what, isCertain }, more: new Set() });
      else if (known.drop.what !== what) known.more.add(what);
    }
  }
  return [...found.values()].map(({ drop, more }) => ({
    ...drop,
    what: more.size === 0 ? drop.what : `${drop.what}, and ${more.size} more`,
  }));
}

function dropEvidence(chain: Chain, hits: readonly Hit[]): string[] {
  return [
    chainText(chain),
    ...hits.map(({ rule }) =>
      rule === undefined ? `policy ${chain.base?.policy}: no rule before it decides` : `${placeOf(rule)}: ${ruleText(rule)}`,
    ),
  ];
}

/** Programs that write rules of their own overwrite what is written beside them. */
function firewallHint({ table, name }: Chain, match: string | undefined): string | undefined {
  const port = match?.startsWith('udp dport ') === true ? match.slice('udp dport '.length) : undefined;
  if (table === 'firewalld') {
    return port === undefined
      ? '# firewalld keeps its own rules. For good: firewall-cmd --permanent --zone=trusted --add-interface=…, for the bridge and the overlay device.'
      : `# firewalld keeps its own rules. For good: firewall-cmd --permanent --add-port=${port}/udp && firewall-cmd --reload`;
  }
  if (table === 'filter' && name === name.toUpperCase())
    return '# Until whoever wrote the chain (Docker, ufw, a script) writes it again; for good, tell them.';
  return undefined;
}

// --- the older packet filter

function withLegacy(
  { legacy, conf }: Evidence,
  findings: readonly Finding[],
  check: (family: 4 | 6, chains: ReadonlyMap<string, LegacyChain>) => readonly Finding[],
): CheckOutcome {
  const all = [...findings];
  const blinds: string[] = [];
  for (const family of [...(conf.enableIPv4 ? [4 as const] : []), ...(conf.enableIPv6 ? [6 as const] : [])]) {
    const chains = legacyFilter(legacy[family]);
    if ('blind' in chains) blinds.push(chains.blind);
    else for (const each of check(family, chains.seen)) all.push(each);
  }
  return blinds.length === 0 ? foundBy(all) : { findings: all, blind: blinds.join('; ') };
}

function legacyFilter(legacy: Reading<LegacyRules>): Reading<ReadonlyMap<string, LegacyChain>> {
  if ('blind' in legacy) return legacy;
  if (!legacy.seen.tables.includes('filter')) return { seen: new Map() };
  const { saved } = legacy.seen;
  return 'blind' in saved ? saved : { seen: readLegacyChains(saved.seen, 'filter') };
}

function legacyOverlay(
  family: 4 | 6,
  chains: ReadonlyMap<string, LegacyChain>,
  { match, port }: Transport,
  external: string,
  type: string,
): Finding[] {
  const program = family === 4 ? 'iptables-legacy' : 'ip6tables-legacy';
  return (['INPUT', 'OUTPUT'] as const).flatMap((name): Finding[] => {
    const chain = chains.get(name);
    if (chain === undefined) return [];
    const dropping = [...chains.values()].flatMap((each) => each.rules.filter((rule) => rule.drops && rule.names(port)));
    const isAccepted = [...chains.values()].some((each) => each.rules.some((rule) => rule.accepts && rule.mayBe(port)));
    const isDropped = chain.policy === 'DROP' && !isAccepted;
    if (!isDropped && (name === 'OUTPUT' || dropping.length === 0)) return [];
    const protocol = port === undefined ? '-p 4' : `-p udp --dport ${port}`;
    return [
      {
        code: 'FIREWALL_DROPS_OVERLAY',
        severity: 'warning',
        subject: `${program} filter ${name}`,
        message: `it may drop what the backend ${type} sends between nodes: ${match}`,
        evidence: [
          ...(isDropped ? [`${program}-save: :${name} ${chain.policy}, and no rule accepts ${match}`] : []),
          ...dropping.map(({ text }) => `${program}-save: ${text}`),
        ],
        remedy: `${program} -I ${name} ${name === 'INPUT' ? '-i' : '-o'} ${word(external)} ${protocol} -j ACCEPT`,
      },
    ];
  });
}

/** The policy of FORWARD, which Docker sets to DROP. */
function legacyPods(family: 4 | 6, chains: ReadonlyMap<string, LegacyChain>, network: Prefix, interfaces: readonly string[]): Finding[] {
  const program = family === 4 ? 'iptables-legacy' : 'ip6tables-legacy';
  const forward = chains.get('FORWARD');
  const text = formatPrefix(network);
  const isAccepted = [...chains.values()].some((chain) => chain.rules.some((rule) => rule.accepts && rule.about(network, interfaces)));
  if (forward?.policy !== 'DROP' || isAccepted) return [];
  return [
    {
      code: 'FIREWALL_DROPS_PODS',
      severity: 'warning',
      subject: `${program} filter FORWARD`,
      message: `its policy is DROP, and no rule accepts packets of the pod network ${formatAddress(network.address)}/${network.length}`,
      evidence: [`${program}-save: :FORWARD DROP`],
      remedy: lines(`${program} -I FORWARD -s ${text} -j ACCEPT`, `${program} -I FORWARD -d ${text} -j ACCEPT`),
    },
  ];
}
