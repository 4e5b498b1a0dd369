/** Whether what pods send to the outside leaves under the node's address, where subnet.env says that the network daemon sees to that. */
import { iptablesChange, wantedIptablesChains } from '../network/masquerade/iptables-text.ts';
import { type AddressMatch, KUBE_PROXY_MARK, masqueradeRules } from '../network/masquerade/rules.ts';
import { parseSubnetEnv } from '../network/subnet-env.ts';
import type { NodeFamily } from '../network/backends/backend.ts';
import { type Family, formatPrefix, ipv4, ipv6, type Prefix } from '../policy/address.ts';
import type { Evidence, LegacyRules, Reading } from './evidence.ts';
import { planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { PROTOCOL, walk } from './rule-walk.ts';
import { lines } from './shell-text.ts';

/** Somebody outside: RFC 5737, RFC 3849. */
const OUTSIDE: Readonly<Record<Family, Prefix>> = {
  4: { address: ipv4(0xcb00_7101), length: 32 },
  6: { address: ipv6((0x2001_0db8n << 96n) | 1n), length: 128 },
};

export function checkMasquerade(evidence: Evidence): CheckOutcome {
  const { subnetFile, rules, settings, legacy } = evidence;
  const text = 'seen' in subnetFile ? subnetFile.seen : undefined;
  if (text === undefined) return 'blind' in subnetFile ? blind(subnetFile.blind) : idle('there is no subnet.env that asks for it');
  if (parseSubnetEnv(text).ipMasq !== true) return idle(`${settings.subnetFile ?? 'subnet.env'} does not say FLANNEL_IPMASQ=true`);
  if ('blind' in rules) return blind(rules.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const { external, families } = plan.seen;
  const findings: Finding[] = [];
  const blinds: string[] = [];
  for (const family of families) {
    const outcomes = walk(rules.seen, {
      hook: 'postrouting',
      protocol: PROTOCOL.tcp,
      source: family.subnet,
      destination: OUTSIDE[family.family],
      oif: { name: external.name, index: external.index },
    });
    if (outcomes.some(({ hits }) => hits.some(({ effect }) => effect === 'translate'))) continue;
    const ofLegacy = legacyMasquerades(legacy[family.family], family.network);
    if ('blind' in ofLegacy) blinds.push(ofLegacy.blind);
    else if (!ofLegacy.seen)
      findings.push(
        missing(
          evidence,
          family,
          outcomes.map(({ chain }) => `${chain.family} ${chain.table} ${chain.name}`),
        ),
      );
  }
  return blinds.length === 0 ? foundBy(findings) : { findings, blind: blinds.join('; ') };
}

function legacyMasquerades(legacy: Reading<LegacyRules>, network: Prefix): Reading<boolean> {
  if ('blind' in legacy) return legacy;
  const { tables, saved } = legacy.seen;
  if (!tables.includes('nat')) return { seen: false };
  if ('blind' in saved) return saved;
  const text = formatPrefix(network);
  return {
    seen: saved.seen
      .split('\n')
      .some((line) => / -j (MASQUERADE|SNAT)\b/.test(line) && (line.includes(` -s ${text} `) || !/ -s /.test(line))),
  };
}

function missing({ settings, conf }: Evidence, { family, network, subnet }: NodeFamily, chains: readonly string[]): Finding {
  return {
    code: 'MASQUERADE_MISSING',
    severity: 'error',
    subject: `IPv${family}`,
    message: `packets of pods leave for the outside with the pods’ addresses, which nobody there can answer to`,
    evidence: [
      `${settings.subnetFile ?? 'subnet.env'}: FLANNEL_IPMASQ=true`,
      `nftables: no rule of the hook postrouting translates what comes from ${formatPrefix(subnet)}; chains there: ${chains.join(', ') || 'none'}`,
    ],
    remedy: lines(
      '# The network daemon writes these rules, and keeps them, when it is started (again). By hand:',
      conf.enableNFTables ? nftCommand(family, network, subnet) : iptablesCommand(family, network, subnet),
    ),
  };
}

function nftCommand(family: Family, network: Prefix, subnet: Prefix): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const table = `${ip} flannel-ipv${family}`;
  const match = (field: string, of: AddressMatch | undefined): string[] =>
    of === undefined ? [] : [`${ip} ${field} ${of.not ? '!= ' : ''}${of.prefix}`];
  const rules = masqueradeRules('nftables', { family, network, subnet }).map(({ marked, source, destination, action }) =>
    [
      ...(marked === true ? [`meta mark 0x${KUBE_PROXY_MARK.toString(16)}`] : []),
      ...match('saddr', source),
      ...match('daddr', destination),
      action === 'masquerade' ? 'masquerade fully-random' : action,
    ].join(' '),
  );
  return [
    `nft -f - <<'END'`,
    `add table ${table}`,
    `add chain ${table} postrtg { type nat hook postrouting priority srcnat; policy accept; }`,
    `flush chain ${table} postrtg`,
    ...rules.map((rule) => `add rule ${table} postrtg ${rule}`),
    'END',
  ].join('\n');
}

function iptablesCommand(family: Family, network: Prefix, subnet: Prefix): string {
  const wanted = wantedIptablesChains({ family, network, subnet }, { masquerade: true, forward: true, randomFully: true });
  const change = iptablesChange(
    wanted.filter(({ table }) => table === 'nat'),
    new Map(),
  );
  return `${family === 4 ? 'iptables' : 'ip6tables'}-restore --noflush <<'END'\n${change?.input ?? ''}END`;
}
