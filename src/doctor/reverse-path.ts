/** Strict filtering by the reverse path (RFC 3704) on what packets of pods come in by: it throws away what would go back another way. */
import type { Evidence } from './evidence.ts';
import { planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { sysctlCommand } from './shell-text.ts';

export function checkReversePath(evidence: Evidence): CheckOutcome {
  const { sysctls, tables, conf } = evidence;
  if ('blind' in sysctls) return blind(sysctls.blind);
  if ('blind' in tables) return blind(tables.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  if (!plan.seen.families.some(({ family }) => family === 4)) return idle('of IPv6 the kernel has no such filter');
  const { backend } = conf;
  const isDirect = backend.type === 'host-gw' || ((backend.type === 'vxlan' || backend.type === 'ipip') && backend.directRouting);
  const names = plan.seen.devices.map(({ name }) => name).filter((name) => tables.seen.links.some((link) => link.name === name));
  if (isDirect) names.push(plan.seen.external.name);
  if (names.length === 0) return idle('there is no overlay device');
  const findings: Finding[] = [];
  const all = 'net/ipv4/conf/all/rp_filter';
  for (const name of names) {
    const own = `net/ipv4/conf/${name}/rp_filter`;
    const [ofAll, ofOwn] = [sysctls.seen.get(all), sysctls.seen.get(own)];
    // The larger one counts: 1 is strict, 2 is loose (Documentation/networking/ip-sysctl.rst).
    if (ofOwn === undefined || Math.max(Number(ofAll ?? 0), Number(ofOwn)) !== 1) continue;
    findings.push({
      code: 'REVERSE_PATH_STRICT',
      // What comes over the overlay goes back over it, but for sources of outside; with routes of both kinds ways may differ.
      severity: isDirect ? 'warning' : 'notice',
      subject: name,
      message:
        'packets are thrown away whose source would be answered through another interface: clients of outside that reach a pod through ' +
        'another node' +
        (isDirect ? ', and pods while one node routes directly and the other does not' : ''),
      evidence: [`/proc/sys/${all}: ${ofAll ?? 'not there'}`, `/proc/sys/${own}: ${ofOwn}`],
      remedy: sysctlCommand(own, '2'),
    });
  }
  return foundBy(findings);
}
