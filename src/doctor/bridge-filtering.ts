/** Whether packets between two pods of this node pass through the hooks where services are resolved and policies enforced. */
import { familiesOf } from '../network/net-conf.ts';
import type { Evidence } from './evidence.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { word } from './shell-text.ts';

const OF_FAMILY = {
  4: { sysctl: 'net/bridge/bridge-nf-call-iptables', flag: 'nf_call_iptables', of: 'iptables' },
  6: { sysctl: 'net/bridge/bridge-nf-call-ip6tables', flag: 'nf_call_ip6tables', of: 'ip6tables' },
} as const;

export function checkBridgeFiltering({ settings, tables, sysctls, conf }: Evidence): CheckOutcome {
  const { bridge: name } = settings;
  if (name === undefined) return idle('no bridge is meant (--bridge off)');
  if ('blind' in sysctls) return blind(sysctls.blind);
  const families = familiesOf(conf).map(({ family }) => family);
  if (!sysctls.seen.has(OF_FAMILY[4].sysctl)) {
    return foundBy([
      {
        code: 'BRIDGE_NETFILTER_MISSING',
        severity: 'error',
        subject: 'br_netfilter',
        message: 'it is not loaded: packets between pods of this node bypass services and policies',
        evidence: [`/proc/sys/${OF_FAMILY[4].sysctl}: not there`],
        remedy: 'modprobe br_netfilter',
      },
    ]);
  }
  if ('blind' in tables) return blind(tables.blind);
  const link = tables.seen.links.find((each) => each.name === name);
  if (link === undefined) return idle(`there is no ${name}: it is made with the first pod, if not before`);
  const findings: Finding[] = [];
  for (const family of families) {
    const { sysctl, flag, of } = OF_FAMILY[family];
    // Either is enough (br_nf_pre_routing).
    if (link.bridge === undefined || link.bridge[of] || sysctls.seen.get(sysctl) === '1') continue;
    findings.push({
      code: 'BRIDGE_FILTERING_OFF',
      severity: 'error',
      subject: name,
      message: `IPv${family} packets between pods of this node bypass services and policies`,
      evidence: [`link ${name}: ${flag} 0`, `/proc/sys/${sysctl}: ${sysctls.seen.get(sysctl) ?? 'not there'}`],
      remedy: `ip link set dev ${word(name)} type bridge ${flag} 1`,
    });
  }
  return foundBy(findings);
}
