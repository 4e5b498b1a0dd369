/** What `sluice doctor` says: findings, and of each check whether it could be made. As data; table.ts prints it for people. */

/**
 * `error`: pods do not reach, or are not reached, until it is mended. `warning`: some packets are lost, or something that holds now
 * will not hold for long. `notice`: good to know, and nothing to be mended while everything works.
 */
export type Severity = 'error' | 'warning' | 'notice';

const RANK: Readonly<Record<Severity, number>> = { error: 0, warning: 1, notice: 2 };

/** What may be found, by the check that finds it. Stable, for programs; docs/cli/doctor.md says what each means. */
export const FINDING_CODES = {
  interface: ['NO_INTERFACE', 'INTERFACE_DOWN'],
  modules: ['MODULE_MISSING'],
  'own-lease': ['LEASE_MISSING', 'LEASE_UNREADABLE', 'POD_CIDR_EMPTY', 'LEASE_OUTSIDE_NETWORK', 'NOT_ANNOUNCED'],
  devices: ['DEVICE_MISSING', 'DEVICE_WRONG', 'DEVICE_DOWN', 'DEVICE_LEARNING', 'DEVICE_ADDRESS', 'DEVICE_ADDRESS_LEFT_OVER', 'VNI_TAKEN'],
  'left-over-devices': ['DEVICE_LEFT_OVER', 'DEVICE_FOREIGN'],
  forwarding: ['FORWARDING_OFF'],
  bridge: ['BRIDGE_KIND', 'BRIDGE_DOWN', 'BRIDGE_ADDRESS'],
  'bridge-filtering': ['BRIDGE_NETFILTER_MISSING', 'BRIDGE_FILTERING_OFF'],
  announcement: ['BACKEND_TYPE_DIFFERS', 'PUBLIC_ADDRESS_DIFFERS', 'BACKEND_DATA_INVALID', 'VNI_DIFFERS', 'VTEP_MAC_DIFFERS'],
  peers: [
    'PEER_LEASE_UNREADABLE',
    'PEER_BACKEND_DIFFERS',
    'PEER_ADDRESS_IS_OWN',
    'PEER_SUBNET_IS_OWN',
    'PEER_OUTSIDE_NETWORK',
    'PEER_UNREACHABLE',
    'PUBLIC_ADDRESS_DUPLICATE',
    'VTEP_MAC_DUPLICATE',
    'SUBNETS_OVERLAP',
  ],
  entries: [
    'NEIGHBOUR_MISSING',
    'NEIGHBOUR_WRONG',
    'NEIGHBOUR_LEFT_OVER',
    'FORWARDING_MISSING',
    'FORWARDING_WRONG',
    'FORWARDING_LEFT_OVER',
    'ROUTE_MISSING',
    'ROUTE_WRONG',
    'ROUTE_LEFT_OVER',
    'ROUTE_OVERRULED',
  ],
  addresses: [
    'NODE_ADDRESS_IN_NETWORK',
    'SERVICE_ADDRESS_IN_NETWORK',
    'PUBLIC_ADDRESS_IN_NETWORK',
    'NETWORK_IN_UNDERLAY',
    'ROUTE_IN_NETWORK',
  ],
  mtu: ['MTU_DEVICE', 'MTU_BRIDGE', 'MTU_POD', 'MTU_SUBNET_FILE'],
  'path-mtu': ['PATH_MTU_SMALL'],
  'path-probe': ['PATH_MTU_BLACK_HOLE'],
  'subnet-file': ['SUBNET_FILE_MISSING', 'SUBNET_FILE_WRONG'],
  'cni-configuration': ['CNI_CONF_MISSING', 'CNI_CONF_SHADOWED', 'CNI_CONF_INVALID', 'CNI_MTU', 'CNI_SUBNET', 'CNI_MASQUERADES_TOO'],
  'cni-plugins': ['CNI_PLUGIN_MISSING'],
  masquerade: ['MASQUERADE_MISSING'],
  'overlay-firewall': ['FIREWALL_DROPS_OVERLAY'],
  'pod-firewall': ['FIREWALL_DROPS_PODS'],
  'iptables-variants': ['IPTABLES_MIXED'],
  'reverse-path': ['REVERSE_PATH_STRICT'],
  'connection-table': ['CONNTRACK_FULL', 'CONNTRACK_NEARLY_FULL'],
  'checksum-offload': ['CHECKSUM_OFFLOAD'],
  'link-policy': ['MAC_ADDRESS_POLICY'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type CheckName = keyof typeof FINDING_CODES;
export type FindingCode = (typeof FINDING_CODES)[CheckName][number];

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** What it is about: a device, a file, a node, a setting of the kernel. */
  readonly subject: string;
  /** What is wrong, as a sentence without its full stop. */
  readonly message: string;
  /** What was read, exactly, and where; one thing a line. */
  readonly evidence: readonly string[];
  /** What mends it, for a shell on this node: commands, and what has to be said of them as comments (`# …`). */
  readonly remedy: string;
}

/** What one check comes to. */
export interface CheckOutcome {
  readonly findings: readonly Finding[];
  /** Why it, or a part of it, could not be made: no permission, no API server. Nobody may take that for in order. */
  readonly blind?: string | undefined;
  /** Why there is nothing to look at: a family that the network does not have, a probe that was not asked for. */
  readonly idle?: string | undefined;
}

/** One line of `checks` of the report. */
export interface CheckResult {
  readonly name: CheckName;
  readonly result: 'ok' | 'findings' | 'skipped';
  /** Of a check that was skipped, or made only in part: why. */
  readonly reason?: string;
  /** The reason is that it could not be looked at; absent: there was nothing to look at, or it was not asked for. */
  readonly blind?: true;
}

export interface DoctorReport {
  readonly apiVersion: 'sluice/v1';
  readonly kind: 'DoctorReport';
  /** The worst first, those of one check together. */
  readonly findings: readonly Finding[];
  readonly checks: readonly CheckResult[];
}

/** Everything that was looked at is in order. */
export function inOrder(): CheckOutcome {
  return { findings: [] };
}

export function foundBy(findings: readonly Finding[]): CheckOutcome {
  return { findings };
}

/** It could not be looked at. */
export function blind(reason: string): CheckOutcome {
  return { findings: [], blind: reason };
}

/** There is nothing to look at. */
export function idle(reason: string): CheckOutcome {
  return { findings: [], idle: reason };
}

/** @param outcomes in the order of the checks */
export function reportOf(outcomes: ReadonlyMap<CheckName, CheckOutcome>): DoctorReport {
  const findings = [...outcomes.values()].flatMap((outcome) => outcome.findings);
  return {
    apiVersion: 'sluice/v1',
    kind: 'DoctorReport',
    // Stable: of equals the order of the checks stays.
    findings: findings.toSorted((a, b) => RANK[a.severity] - RANK[b.severity]),
    checks: [...outcomes].map(([name, outcome]) => resultOf(name, outcome)),
  };
}

function resultOf(name: CheckName, { findings, blind, idle }: CheckOutcome): CheckResult {
  const reason = blind ?? idle;
  return {
    name,
    result: findings.length > 0 ? 'findings' : reason === undefined ? 'ok' : 'skipped',
    ...(reason === undefined ? {} : { reason }),
    ...(blind === undefined ? {} : { blind: true as const }),
  };
}

/** Whether a script may go on: nothing but notices was found, and everything that was to be looked at was looked at. */
export function isInOrder({ findings, checks }: DoctorReport): boolean {
  return findings.every(({ severity }) => severity === 'notice') && checks.every(({ blind }) => blind !== true);
}
