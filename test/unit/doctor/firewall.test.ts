import assert from 'node:assert/strict';
import type { BaseChain, Chain, Family, Rule, SetDefinition, Element } from 'nftables-js';
import { accept, ct, drop, goto, ip, ip6, jump, limit, meta, type Part, reject, rule, tcp, udp, verdict } from 'nftables-js/builder';
import type { Evidence, LegacyRules, Reading, Rules } from '../../../src/doctor/evidence.ts';
import { checkOverlayFirewall, checkPodFirewall } from '../../../src/doctor/firewall.ts';
import { checkIptablesVariants } from '../../../src/doctor/iptables-variants.ts';
import { checkMasquerade } from '../../../src/doctor/masquerade.ts';
import { ruleText } from '../../../src/doctor/rule-text.ts';
import { PROTOCOL, type TestPacket, walk } from '../../../src/doctor/rule-walk.ts';
import { codesOf, conf, HEALTHY, node, nodeWithLeases, onlyIPv4, prefix, RULES, SUBNET_FILE, theFinding } from './healthy-node.ts';

type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
type Chains = Readonly<
  Record<string, { readonly hook?: Hook; readonly policy?: 'accept' | 'drop'; readonly rules: readonly (readonly Part[])[] }>
>;
type Sets = readonly (Pick<SetDefinition, 'name' | 'key' | 'flags' | 'data'> & { readonly elements: readonly Element[] })[];

/** A table `fw` of these chains. */
function table(chains: Chains, family: Family = 'ip', name = 'fw', sets: Sets = []): Rules {
  return {
    tables: [{ family, name, flags: [] }],
    chains: Object.entries(chains).map(([chain, { hook, policy = 'accept' }]): Chain => {
      const base: BaseChain | undefined = hook === undefined ? undefined : { type: 'filter', hook, priority: 0, policy };
      return { family, table: name, name: chain, ...(base === undefined ? {} : { base }) };
    }),
    rules: Object.entries(chains).flatMap(([chain, { rules }]) =>
      rules.map((parts, index): Rule => ({ family, table: name, chain, expressions: rule(family, ...parts), handle: BigInt(index + 10) })),
    ),
    sets: sets.map((set) => ({ family, table: name, ...set })),
  };
}

const PACKET: TestPacket = {
  hook: 'input',
  protocol: PROTOCOL.udp,
  source: prefix('172.18.0.101/32'),
  destination: prefix('172.18.0.1/32'),
  destinationPort: 8472,
  iif: { name: 'eth0', index: 2 },
};

/** What may happen to the packet in the first chain, in order. */
function fate(rules: readonly (readonly Part[])[], packet: Partial<TestPacket> = {}, more: Chains = {}, sets: Sets = []): string {
  const [outcome] = walk(table({ in: { hook: 'input', rules }, ...more }, 'ip', 'fw', sets), { ...PACKET, ...packet });
  return (outcome?.hits ?? []).map(({ effect, rule: by }) => `${effect}${by === undefined ? ' by policy' : ''}`).join(', ');
}

/** An expression that this program does not know. */
const unknown: Part = (context) => void context.expressions.push({ expr: 'unknown', name: 'fib', data: new Uint8Array() });

describe('following a packet through rules', () => {
  it('ends at the first rule that matches, or at the policy', () => {
    assert.equal(fate([]), 'accept by policy');
    assert.equal(fate([[udp.dport.eq(8472), drop], [accept]]), 'drop');
    assert.equal(fate([[udp.dport.eq(53), drop], [accept]]), 'accept');
    assert.equal(fate([[tcp.dport.eq(8472), drop]]), 'accept by policy');
    assert.equal(fate([[reject()]]), 'drop');
  });

  it('knows what the packet is', () => {
    const drops = (...parts: readonly Part[]) => fate([[...parts, drop]]);
    assert.equal(drops(meta.iifname.eq('eth0')), 'drop');
    assert.equal(drops(meta.iifname.eq('eth1')), 'accept by policy');
    assert.equal(drops(meta.l4proto.eq('udp')), 'drop');
    assert.equal(drops(ip.saddr.prefix('172.18.0.0/16')), 'drop');
    assert.equal(drops(ip.saddr.notPrefix('172.18.0.0/16')), 'accept by policy');
    assert.equal(drops(ip.daddr.eq('172.18.0.2')), 'accept by policy');
    assert.equal(drops(ct.state.any(['established', 'related'])), 'accept by policy');
    assert.equal(drops(ct.state.any(['new'])), 'drop');
    assert.equal(drops(meta.mark.eq(1)), 'accept by policy');
    assert.equal(drops(udp.dport.range(8000, 9000)), 'drop');
    assert.equal(drops(udp.dport.range(1, 1024)), 'accept by policy');
  });

  it('says both where it cannot tell', () => {
    assert.equal(fate([[udp.sport.eq(53), drop]]), 'drop, accept by policy');
    assert.equal(fate([[unknown, drop]]), 'drop, accept by policy');
    assert.equal(fate([[limit(10, 'second'), accept], [drop]]), 'accept, drop');
    // Some of the subnet's addresses are in the block, others are not.
    assert.equal(fate([[ip.saddr.prefix('10.244.1.0/25'), drop]], { source: prefix('10.244.1.0/24') }), 'drop, accept by policy');
    assert.equal(fate([[ip.saddr.prefix('10.244.0.0/16'), drop]], { source: prefix('10.244.1.0/24') }), 'drop');
    // What the mask takes away is known to be zero.
    assert.equal(fate([[ip.saddr.prefix('10.244.0.0/17'), drop]], { source: prefix('10.244.1.0/24') }), 'drop');
  });

  it('follows jumps and gotos, and returns from them', () => {
    const chains = (...rules: readonly (readonly Part[])[]): Chains => ({ sub: { rules } });
    assert.equal(fate([[jump('sub')], [drop]], {}, chains([udp.dport.eq(8472), accept])), 'accept');
    assert.equal(fate([[jump('sub')], [drop]], {}, chains([udp.dport.eq(53), accept])), 'drop');
    assert.equal(fate([[goto('sub')], [drop]], {}, chains([udp.dport.eq(53), accept])), 'accept by policy');
    const back: Part = verdict({ verdict: 'return' });
    assert.equal(fate([[jump('sub')], [drop]], {}, chains([udp.dport.eq(8472), back], [accept])), 'drop');
    assert.equal(fate([[unknown, jump('sub')], [drop]], {}, chains([accept])), 'accept, drop');
    assert.equal(fate([[back], [drop]]), 'accept by policy');
    // Rules that jump in a circle are refused by the kernel; nobody is to wait for an end of it.
    assert.equal(fate([[jump('sub')]], {}, chains([jump('sub')])), 'accept by policy');
  });

  it('looks into sets and maps', () => {
    const ports = (flags: SetDefinition['flags'], ...elements: readonly Element[]): Sets => [
      { name: 's', key: ['inet_service'], flags, elements },
    ];
    const key = (port: number): Uint8Array => Uint8Array.of(port >> 8, port & 0xff);
    const inSet: Part = udp.dport.in('s');
    assert.equal(fate([[inSet, accept], [drop]], {}, {}, ports([], { key: key(53) }, { key: key(8472) })), 'accept');
    assert.equal(fate([[inSet, accept], [drop]], {}, {}, ports([], { key: key(53) })), 'drop');
    const range = ports(['interval'], { key: key(8000) }, { key: key(9000), intervalEnd: true });
    assert.equal(fate([[inSet, accept], [drop]], {}, {}, range), 'accept');
    assert.equal(fate([[inSet, accept], [drop]], { destinationPort: 9000 }, {}, range), 'drop');
    assert.equal(fate([[udp.dport.in('nowhere'), accept], [drop]]), 'accept, drop');
    const map: Sets = [
      { name: 's', key: ['inet_service'], flags: [], data: ['verdict'], elements: [{ key: key(8472), data: { verdict: 'drop' } }] },
    ];
    const vmap: Part = udp.dport.vmap('s');
    assert.equal(fate([[vmap], [accept]], {}, {}, map), 'drop');
    assert.equal(fate([[vmap], [accept]], { destinationPort: 53 }, {}, map), 'accept');
  });

  it('asks the chains of the hook and the family alone, by priority', () => {
    const rules = table({ a: { hook: 'input', rules: [] }, b: { hook: 'output', rules: [] }, c: { rules: [] } }, 'inet');
    assert.deepEqual(
      walk(rules, PACKET).map(({ chain }) => chain.name),
      ['a'],
    );
    assert.deepEqual(walk(table({ a: { hook: 'input', rules: [] } }, 'ip6'), PACKET), []);
    assert.deepEqual(walk({ ...rules, tables: [{ family: 'inet', name: 'fw', flags: ['dormant'] }] }, PACKET), []);
  });
});

describe('a rule as text', () => {
  it('is nearly what nft prints', () => {
    const text = (...parts: readonly Part[]): string =>
      ruleText({ family: 'inet', table: 't', chain: 'c', expressions: rule('inet', ...parts) });
    assert.equal(text(meta.iifname.eq('eth0'), udp.dport.eq(8472), drop), 'iifname "eth0" meta l4proto udp th dport 8472 drop');
    assert.equal(text(ip.saddr.prefix('10.244.0.0/17'), accept), 'nfproto ipv4 ip saddr 10.244.0.0/17 accept');
    assert.equal(text(ip.saddr.prefix('10.244.0.0/16'), accept), 'nfproto ipv4 ip saddr 10.244.0.0/16 accept');
    assert.equal(text(ip6.daddr.prefix('fd00::/9'), jump('x')), 'nfproto ipv6 ip6 daddr fd00::/9 jump x');
    assert.equal(text(ip6.daddr.notPrefix('fd00::/8'), jump('x')), 'nfproto ipv6 ip6 daddr != fd00::/8 jump x');
    assert.equal(text(ct.state.any(['established', 'related']), accept), 'ct state established,related accept');
    assert.equal(text(unknown, limit(5, 'second'), reject()), 'fib … limit rate 5/second reject');
    assert.equal(text(udp.dport.in('s'), drop), 'meta l4proto udp th dport @s drop');
  });
});

describe('the check overlay-firewall', () => {
  const withRules = (rules: Rules): Evidence => onlyIPv4(node({ rules: { seen: rules } }));

  it('finds nothing where nothing drops, and has nothing to look at of host-gw', () => {
    assert.deepEqual(checkOverlayFirewall(HEALTHY), { findings: [] });
    assert.deepEqual(checkOverlayFirewall(withRules(table({ in: { hook: 'input', rules: [[tcp.dport.eq(22), drop]] } }))), {
      findings: [],
    });
    const direct = node({ conf: conf({ Backend: { Type: 'host-gw' } }) });
    assert.match(checkOverlayFirewall(direct).idle ?? '', /sends no packets of its own/);
  });

  it('finds a rule that drops the port, with the rule and its place', () => {
    const finding = theFinding(
      checkOverlayFirewall(withRules(table({ in: { hook: 'input', rules: [[udp.dport.eq(8472), drop]] } }))),
      'FIREWALL_DROPS_OVERLAY',
    );
    assert.equal(finding.severity, 'warning');
    assert.match(finding.message, /it drops what the backend vxlan sends between nodes, over IPv4: udp dport 8472 from peer-1, and 1 more/);
    assert.deepEqual(finding.evidence, [
      'table ip fw chain in (hook input priority 0 policy accept)',
      'table ip fw chain in handle 10: meta l4proto udp th dport 8472 drop',
    ]);
    assert.equal(finding.remedy, `nft insert rule ip fw in 'iifname "eth0" ip saddr { 172.18.0.101, 172.18.0.102 } udp dport 8472 accept'`);
  });

  it('finds a policy that drops what no rule accepts, in each direction', () => {
    const rules = [
      [ct.state.any(['established', 'related']), accept],
      [meta.iifname.eq('lo'), accept],
      [tcp.dport.eq(22), accept],
    ];
    const finding = theFinding(
      checkOverlayFirewall(withRules(table({ in: { hook: 'input', policy: 'drop', rules } }))),
      'FIREWALL_DROPS_OVERLAY',
    );
    assert.match(finding.evidence[1] ?? '', /policy drop/);
    const out = theFinding(
      checkOverlayFirewall(withRules(table({ out: { hook: 'output', policy: 'drop', rules: [] } }))),
      'FIREWALL_DROPS_OVERLAY',
    );
    assert.match(out.remedy, /oifname "eth0" ip daddr \{/);
    const allowed = [...rules, [udp.dport.eq(8472), accept]];
    assert.deepEqual(codesOf(checkOverlayFirewall(withRules(table({ in: { hook: 'input', policy: 'drop', rules: allowed } })))), []);
  });

  it('accuses no rule that it cannot read, unless the rule names the port', () => {
    assert.deepEqual(codesOf(checkOverlayFirewall(withRules(table({ in: { hook: 'input', rules: [[unknown, drop]] } })))), []);
    assert.deepEqual(
      codesOf(checkOverlayFirewall(withRules(table({ in: { hook: 'input', policy: 'drop', rules: [[unknown, accept]] } })))),
      [],
    );
    const named = table({ in: { hook: 'input', rules: [[udp.dport.eq(8472), unknown, drop]] } });
    assert.match(theFinding(checkOverlayFirewall(withRules(named)), 'FIREWALL_DROPS_OVERLAY').message, /it may drop/);
  });

  it('asks for the port of the backend', () => {
    const rules = table({ in: { hook: 'input', rules: [[udp.dport.eq(51_820), drop]] } });
    const wireguard = (peers = nodeWithLeases({})): Evidence => ({ ...onlyIPv4(peers, { Type: 'wireguard' }), rules: { seen: rules } });
    assert.deepEqual(codesOf(checkOverlayFirewall(wireguard())), ['FIREWALL_DROPS_OVERLAY']);
    assert.deepEqual(codesOf(checkOverlayFirewall(withRules(rules))), []);
    const udp8285 = {
      ...onlyIPv4(HEALTHY, { Type: 'udp' }),
      rules: { seen: table({ in: { hook: 'input', rules: [[udp.dport.eq(8285), drop]] } }) },
    };
    assert.deepEqual(codesOf(checkOverlayFirewall(udp8285)), ['FIREWALL_DROPS_OVERLAY']);
  });

  it('finds the packets of each family in a chain of both', () => {
    const evidence = node({ rules: { seen: table({ in: { hook: 'input', policy: 'drop', rules: [] } }, 'inet') } });
    const { findings } = checkOverlayFirewall(evidence);
    assert.equal(findings.length, 2);
    assert.match(findings[1]?.remedy ?? '', /ip6 saddr \{ fd00:172:18::65, fd00:172:18::66 \} udp dport 8472/);
  });

  it('tells firewalld’s users what to say to firewalld', () => {
    const rules = table({ filter_INPUT: { hook: 'input', rules: [[reject()]] } }, 'inet', 'firewalld');
    assert.match(
      theFinding(checkOverlayFirewall(withRules(rules)), 'FIREWALL_DROPS_OVERLAY').remedy,
      /firewall-cmd --permanent --add-port=8472\/udp/,
    );
  });
});

const legacy = (text: string, ...tables: readonly string[]): Reading<LegacyRules> => ({
  seen: { tables: tables.length === 0 ? ['filter'] : tables, saved: { seen: text } },
});
const NONE = HEALTHY.legacy[6];

describe('the checks of firewalls, in the older packet filter', () => {
  const withLegacy = (text: string): Evidence => onlyIPv4(node({ legacy: { 4: legacy(text), 6: NONE } }));
  const saved = (policies: string, ...rules: readonly string[]): string =>
    ['*filter', ...policies.split(' ').map((policy) => `:${policy.replace('=', ' ')} [0:0]`), ...rules, 'COMMIT', ''].join('\n');

  it('find a rule that drops the port, and a policy that nothing stands against', () => {
    const rule = withLegacy(saved('INPUT=ACCEPT OUTPUT=ACCEPT', '-A INPUT -p udp -m udp --dport 8472 -j DROP'));
    const finding = theFinding(checkOverlayFirewall(rule), 'FIREWALL_DROPS_OVERLAY');
    assert.equal(finding.remedy, 'iptables-legacy -I INPUT -i eth0 -p udp --dport 8472 -j ACCEPT');
    theFinding(
      checkOverlayFirewall(withLegacy(saved('INPUT=DROP OUTPUT=ACCEPT', '-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT'))),
      'FIREWALL_DROPS_OVERLAY',
    );
    for (const rules of [
      ['-A INPUT -p udp -m multiport --dports 53,8000:9000 -j ACCEPT'],
      ['-A INPUT -s 172.18.0.0/24 -j ACCEPT'],
      ['-A INPUT -j MINE', '-A MINE -p udp -m udp --dport 8472 -j ACCEPT'],
    ])
      assert.deepEqual(codesOf(checkOverlayFirewall(withLegacy(saved('INPUT=DROP OUTPUT=ACCEPT MINE=-', ...rules)))), [], rules.join());
  });

  it('find the policy of FORWARD that Docker sets', () => {
    const docker = [
      '-A FORWARD -i docker0 ! -o docker0 -j ACCEPT',
      '-A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT',
      '-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ];
    const finding = theFinding(checkPodFirewall(withLegacy(saved('FORWARD=DROP', ...docker))), 'FIREWALL_DROPS_PODS');
    assert.equal(
      finding.remedy,
      'iptables-legacy -I FORWARD -s 10.244.0.0/16 -j ACCEPT\niptables-legacy -I FORWARD -d 10.244.0.0/16 -j ACCEPT',
    );
    assert.deepEqual(codesOf(checkPodFirewall(withLegacy(saved('FORWARD=DROP', '-A FORWARD -s 10.244.0.0/16 -j ACCEPT')))), []);
    assert.deepEqual(codesOf(checkPodFirewall(withLegacy(saved('FORWARD=DROP', '-A FORWARD -i cni+ -j ACCEPT')))), []);
    assert.deepEqual(codesOf(checkPodFirewall(withLegacy(saved('FORWARD=ACCEPT')))), []);
  });

  it('say that they cannot read it without its program', () => {
    const evidence = onlyIPv4(
      node({ legacy: { 4: { seen: { tables: ['filter'], saved: { blind: 'no iptables-legacy-save' } } }, 6: NONE } }),
    );
    assert.equal(checkOverlayFirewall(evidence).blind, 'no iptables-legacy-save');
  });
});

describe('the check pod-firewall', () => {
  const withRules = (rules: Rules): Evidence => onlyIPv4(node({ rules: { seen: rules } }));

  it('finds a chain of the hook forward that drops what pods send each other, whatever another accepts', () => {
    const mine = table({ forward: { hook: 'forward', rules: [[ip.saddr.prefix('10.244.0.0/16'), accept]] } }, 'ip', 'flannel-ipv4');
    const docker = table({ FORWARD: { hook: 'forward', policy: 'drop', rules: [[meta.oifname.eq('docker0'), accept]] } }, 'ip', 'filter');
    const both: Rules = {
      tables: [...mine.tables, ...docker.tables],
      chains: [...mine.chains, ...docker.chains],
      rules: [...mine.rules, ...docker.rules],
      sets: [],
    };
    const finding = theFinding(checkPodFirewall(withRules(both)), 'FIREWALL_DROPS_PODS');
    assert.equal(finding.subject, 'nftables ip filter FORWARD');
    assert.match(
      finding.remedy,
      /^nft insert rule ip filter FORWARD ip saddr 10\.244\.0\.0\/16 accept\nnft insert rule ip filter FORWARD ip daddr 10\.244\.0\.0\/16 accept$/m,
    );
    assert.deepEqual(codesOf(checkPodFirewall(withRules(mine))), []);
  });

  it('finds nothing of single pods or ports, as policies have them', () => {
    const rules = table({
      f: {
        hook: 'forward',
        rules: [
          [ip.daddr.eq('10.244.0.7'), drop],
          [tcp.dport.eq(80), drop],
        ],
      },
    });
    assert.deepEqual(codesOf(checkPodFirewall(withRules(rules))), []);
    assert.deepEqual(checkPodFirewall(HEALTHY), { findings: [] });
  });
});

describe('the check masquerade', () => {
  const empty: Rules = { tables: [], chains: [], rules: [], sets: [] };

  it('finds nothing where somebody masquerades, or nobody is asked to', () => {
    assert.deepEqual(checkMasquerade(HEALTHY), { findings: [] });
    const off = node({ rules: { seen: empty }, subnetFile: { seen: SUBNET_FILE.replace('IPMASQ=true', 'IPMASQ=false') } });
    assert.match(checkMasquerade(off).idle ?? '', /does not say FLANNEL_IPMASQ=true/);
    const nat = legacy('*nat\n-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE\nCOMMIT\n', 'nat');
    assert.deepEqual(checkMasquerade(onlyIPv4(node({ rules: { seen: empty }, legacy: { 4: nat, 6: NONE } }))), { findings: [] });
  });

  it('finds that the rules are gone, and writes them in the mode of net-conf.json', () => {
    const evidence = onlyIPv4(node({ rules: { seen: empty } }));
    const nft = theFinding(checkMasquerade({ ...evidence, conf: { ...evidence.conf, enableNFTables: true } }), 'MASQUERADE_MISSING');
    assert.match(
      nft.remedy,
      /^add rule ip flannel-ipv4 postrtg ip saddr 10\.244\.0\.0\/16 ip daddr != 224\.0\.0\.0\/4 masquerade fully-random$/m,
    );
    const iptables = theFinding(checkMasquerade({ ...evidence, conf: { ...evidence.conf, enableNFTables: false } }), 'MASQUERADE_MISSING');
    assert.match(iptables.remedy, /^iptables-restore --noflush <<'END'$/m);
    assert.match(iptables.remedy, /^-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG$/m);
  });

  it('finds the rules of another subnet of no use', () => {
    const [chain] = RULES.chains;
    const other = rule('ip', ip.saddr.prefix('10.9.0.0/16'), (context) => void context.expressions.push({ expr: 'masquerade' }));
    const rules: Rules = { ...RULES, rules: [{ family: 'ip', table: chain.table, chain: chain.name, expressions: other }] };
    assert.deepEqual(codesOf(checkMasquerade(onlyIPv4(node({ rules: { seen: rules } })))), ['MASQUERADE_MISSING']);
  });
});

describe('the check iptables-variants', () => {
  const newer = table({ INPUT: { hook: 'input', rules: [[udp.dport.eq(53), accept]] } }, 'ip', 'filter');
  const check = (rules: Rules, of: Reading<LegacyRules>) =>
    checkIptablesVariants(onlyIPv4(node({ rules: { seen: rules }, legacy: { 4: of, 6: NONE } })));
  const old = legacy('*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n');

  it('finds nothing where one of them has rules', () => {
    assert.deepEqual(checkIptablesVariants(HEALTHY), { findings: [] });
    assert.deepEqual(codesOf(check(newer, legacy('*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n'))), []);
    assert.deepEqual(codesOf(check(RULES, old)), []);
  });

  it('finds that both have', () => {
    const finding = theFinding(check(newer, old), 'IPTABLES_MIXED');
    assert.deepEqual(finding.evidence, [
      '/proc/net/ip_tables_names: filter',
      'iptables-legacy-save: 1 rules in filter',
      'nftables: 1 rules in ip filter',
    ]);
    assert.match(finding.remedy, /^iptables-legacy -t filter -F$/m);
  });
});
