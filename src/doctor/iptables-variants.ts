/** Both forms of iptables at once: each program sees its own rules alone, and packets have to pass through both. */
import type { Evidence, LegacyRules } from './evidence.ts';
import { type CheckOutcome, type Finding, foundBy } from './report.ts';
import { lines } from './shell-text.ts';

/** Tables that iptables-nft makes, known by the names of the kernel's chains. */
const TABLES = new Set(['filter', 'nat', 'mangle', 'raw', 'security']);
const CHAINS = new Set(['INPUT', 'FORWARD', 'OUTPUT', 'PREROUTING', 'POSTROUTING']);

export function checkIptablesVariants({ legacy, rules, conf }: Evidence): CheckOutcome {
  const findings: Finding[] = [];
  const blinds: string[] = [];
  for (const family of [...(conf.enableIPv4 ? [4 as const] : []), ...(conf.enableIPv6 ? [6 as const] : [])]) {
    const of = legacy[family];
    if ('blind' in of) {
      blinds.push(of.blind);
      continue;
    }
    const { tables, saved } = of.seen;
    if (tables.length === 0) continue;
    if ('blind' in rules) {
      blinds.push(rules.blind);
      continue;
    }
    const name = family === 4 ? 'ip' : 'ip6';
    const bases = rules.seen.chains.filter(
      (chain) => chain.family === name && TABLES.has(chain.table) && chain.base !== undefined && CHAINS.has(chain.name),
    );
    const newer = new Set(bases.map(({ table }) => table));
    const count = rules.seen.rules.filter((rule) => rule.family === name && newer.has(rule.table)).length;
    if (count === 0) continue;
    if ('blind' in saved) {
      blinds.push(saved.blind);
      continue;
    }
    const finding = mixed(family, of.seen, saved.seen, [...newer], count);
    if (finding !== undefined) findings.push(finding);
  }
  return blinds.length === 0 ? foundBy(findings) : { findings, blind: [...new Set(blinds)].join('; ') };
}

function mixed(family: 4 | 6, { tables }: LegacyRules, saved: string, newer: readonly string[], count: number): Finding | undefined {
  const perTable = new Map<string, number>();
  let table = '';
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    if (line.startsWith('-A ')) perTable.set(table, (perTable.get(table) ?? 0) + 1);
  }
  if (perTable.size === 0) return undefined;
  const program = family === 4 ? 'iptables' : 'ip6tables';
  return {
    code: 'IPTABLES_MIXED',
    severity: 'warning',
    subject: program,
    message: 'both of its forms have rules: what one accepts the other may drop, and neither shows the rules of the other',
    evidence: [
      `/proc/net/${family === 4 ? 'ip_tables_names' : 'ip6_tables_names'}: ${tables.join(' ')}`,
      ...[...perTable].map(([name, rules]) => `${program}-legacy-save: ${rules} rules in ${name}`),
      `nftables: ${count} rules in ${newer.map((name) => `${family === 4 ? 'ip' : 'ip6'} ${name}`).join(', ')}`,
    ],
    remedy: lines(
      '# Where the older ones are left from before (update-alternatives --display iptables says which form is used), keep a copy and remove them:',
      `${program}-legacy-save > "$HOME/${program}-legacy.rules"`,
      [...perTable.keys()].flatMap((name) => [`${program}-legacy -t ${name} -F`, `${program}-legacy -t ${name} -X`]),
    ),
  };
}
