/**
 * Checksums left to the device on a kernel with a known fault: NAT gave UDP packets without a checksum a wrong one, and VXLAN packets
 * that the node itself sends to services were thrown away (“netfilter: nat: never update the UDP checksum when it's 0”, in Linux 5.7).
 */
import type { Evidence } from './evidence.ts';
import { planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { lines, word } from './shell-text.ts';

/** The first patch level of each older series that has the correction. */
const CORRECTED: Readonly<Record<string, number>> = { '4.14': 181, '4.19': 123, '5.4': 41, '5.6': 13 };

export function checkChecksumOffload(evidence: Evidence): CheckOutcome {
  const { conf, kernelRelease, checksumOffload } = evidence;
  if (conf.backend.type !== 'vxlan') return idle(`the backend ${conf.backend.type} is not affected`);
  if (isCorrected(kernelRelease)) return idle(`Linux ${kernelRelease} does not have the fault`);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const findings: Finding[] = [];
  for (const { name } of plan.seen.devices) {
    const offload = checksumOffload.get(name);
    if (offload === undefined) continue;
    if ('blind' in offload) return { findings, blind: offload.blind };
    if (!offload.seen) continue;
    findings.push({
      code: 'CHECKSUM_OFFLOAD',
      severity: 'notice',
      subject: name,
      message: `Linux ${kernelRelease} may give its packets wrong checksums: where services cannot be reached from nodes, this is why (unless the distribution has corrected it)`,
      evidence: [
        `/proc/sys/kernel/osrelease: ${kernelRelease}; corrected in 5.7, 5.6.13, 5.4.41, 4.19.123, 4.14.181`,
        `ethtool -k ${name}: tx-checksumming: on`,
      ],
      remedy: lines(`ethtool -K ${word(name)} tx-checksum-ip-generic off`),
    });
  }
  return foundBy(findings);
}

/** What cannot be read is taken for new. */
export function isCorrected(release: string): boolean {
  const [, major = '', minor = '', patch = '0'] = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(release) ?? [];
  if (major === '') return true;
  if (Number(major) > 5 || (Number(major) === 5 && Number(minor) >= 7)) return true;
  const corrected = CORRECTED[`${major}.${minor}`];
  return corrected !== undefined && Number(patch) >= corrected;
}
