/** Whether the node forwards packets: without it no pod reaches beyond the node, and nobody reaches a pod. */
import { familiesOf } from '../network/net-conf.ts';
import type { Evidence } from './evidence.ts';
import { planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy } from './report.ts';
import { sysctlCommand } from './shell-text.ts';

export function checkForwarding(evidence: Evidence): CheckOutcome {
  const { sysctls, conf } = evidence;
  if ('blind' in sysctls) return blind(sysctls.blind);
  const interfaces = interfacesOf(evidence);
  const families = familiesOf(conf).map(({ family }) => family);
  const findings: Finding[] = [];
  const off = (key: string, message: string, evidence: readonly string[]): void => {
    findings.push({ code: 'FORWARDING_OFF', severity: 'error', subject: key, message, evidence, remedy: sysctlCommand(key, '1') });
  };
  const read = (key: string): string => `/proc/sys/${key}: ${sysctls.seen.get(key) ?? 'not there'}`;
  if (families.includes(4)) {
    const key = 'net/ipv4/ip_forward';
    if (sysctls.seen.get(key) === '0') off(key, 'this node forwards no IPv4 packets, neither from its pods nor to them', [read(key)]);
    else {
      // What counts is the interface that a packet came in by (ip_route_input_slow: IN_DEV_FORWARD).
      for (const name of interfaces) {
        const own = `net/ipv4/conf/${name}/forwarding`;
        if (sysctls.seen.get(own) === '0') off(own, `IPv4 packets that come in by ${name} are not forwarded`, [read(key), read(own)]);
      }
    }
  }
  if (families.includes(6)) {
    const key = 'net/ipv6/conf/all/forwarding';
    // Linux 6.17 can force it for single interfaces; those of single interfaces without that decide nothing (ip6_forward).
    const isForced =
      interfaces.length > 0 && interfaces.every((name) => sysctls.seen.get(`net/ipv6/conf/${name}/force_forwarding`) === '1');
    if (sysctls.seen.get(key) === '0' && !isForced)
      off(key, 'this node forwards no IPv6 packets, neither from its pods nor to them', [read(key)]);
  }
  return foundBy(findings);
}

/** Those that pods' packets come in by. */
function interfacesOf(evidence: Evidence): string[] {
  const { settings, tables } = evidence;
  const plan = planOf(evidence);
  const names = 'seen' in plan ? [plan.seen.external.name, ...plan.seen.devices.map(({ name }) => name)] : [];
  if (settings.bridge !== undefined) names.push(settings.bridge);
  return names.filter((name) => 'seen' in tables && tables.seen.links.some((link) => link.name === name));
}
