/** All checks, in the order in which they are told: from what everything else stands on to what is worth knowing. */
import { checkAddresses } from './addresses.ts';
import { checkAnnouncement } from './announcement.ts';
import { checkBridgeFiltering } from './bridge-filtering.ts';
import { checkBridge } from './bridge.ts';
import { checkChecksumOffload } from './checksum-offload.ts';
import { checkCniConfiguration } from './cni-configuration.ts';
import { checkCniPlugins } from './cni-plugins.ts';
import { checkConntrackTable } from './conntrack-table.ts';
import { checkDevices } from './devices.ts';
import { checkEntries } from './entries.ts';
import type { Evidence } from './evidence.ts';
import { checkOverlayFirewall, checkPodFirewall } from './firewall.ts';
import { checkForwarding } from './forwarding.ts';
import { checkInterface } from './interface.ts';
import { checkIptablesVariants } from './iptables-variants.ts';
import { checkModules } from './kernel-modules.ts';
import { checkLeftovers } from './leftovers.ts';
import { checkLinkPolicy } from './link-policy.ts';
import { checkMasquerade } from './masquerade.ts';
import { checkMtu } from './mtu.ts';
import { checkOwnLease } from './own-lease.ts';
import { checkPathMtu, checkPathProbe } from './path-mtu.ts';
import { checkPeers } from './peers.ts';
import { type CheckName, type CheckOutcome, type DoctorReport, reportOf } from './report.ts';
import { checkReversePath } from './reverse-path.ts';
import { checkSubnetFile } from './subnet-file.ts';

export type Check = (evidence: Evidence) => CheckOutcome;

/** By the names that reports have. */
export const CHECKS: Readonly<Record<CheckName, Check>> = {
  interface: checkInterface,
  modules: checkModules,
  'own-lease': checkOwnLease,
  devices: checkDevices,
  'left-over-devices': checkLeftovers,
  forwarding: checkForwarding,
  bridge: checkBridge,
  'bridge-filtering': checkBridgeFiltering,
  announcement: checkAnnouncement,
  peers: checkPeers,
  entries: checkEntries,
  addresses: checkAddresses,
  mtu: checkMtu,
  'path-mtu': checkPathMtu,
  'path-probe': checkPathProbe,
  'subnet-file': checkSubnetFile,
  'cni-configuration': checkCniConfiguration,
  'cni-plugins': checkCniPlugins,
  masquerade: checkMasquerade,
  'overlay-firewall': checkOverlayFirewall,
  'pod-firewall': checkPodFirewall,
  'iptables-variants': checkIptablesVariants,
  'reverse-path': checkReversePath,
  'connection-table': checkConntrackTable,
  'checksum-offload': checkChecksumOffload,
  'link-policy': checkLinkPolicy,
};

export function examine(evidence: Evidence): DoctorReport {
  const names = Object.keys(CHECKS) as CheckName[];
  return reportOf(new Map(names.map((name) => [name, CHECKS[name](evidence)])));
}
