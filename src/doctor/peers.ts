/** What is wrong in the leases of the other nodes, as far as it can be seen from here. */
import { vxlanData } from '../network/lease.ts';
import { annotationNames } from '../network/node-lease.ts';
import { type Address, compareAddresses, formatAddress, formatPrefix, type Prefix, prefixRange } from '../policy/address.ts';
import type { Evidence, LeaseRecords, NodeSettings } from './evidence.ts';
import { familiesOfLease, peerPlanOf, planOf, type PeerProblem, toldMac } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy } from './report.ts';
import { lines, word } from './shell-text.ts';

export function checkPeers(evidence: Evidence): CheckOutcome {
  const { leases, tables, settings } = evidence;
  if ('blind' in leases) return blind(leases.blind);
  const records = leases.seen;
  const findings: Finding[] = [...records.unreadable].map(([node, reason]) => ({
    code: 'PEER_LEASE_UNREADABLE',
    severity: 'warning',
    subject: node,
    message: reason,
    evidence: [`${records.origin}: ${reason}`],
    remedy: mendLease(node, records, settings),
  }));
  for (const found of [duplicateAddresses(records, settings), duplicateMacs(evidence, records), overlaps(records, settings)]) {
    for (const finding of found) findings.push(finding);
  }
  const plan = planOf(evidence);
  if ('blind' in plan) return { findings, blind: plan.blind };
  if ('blind' in tables) return { findings, blind: tables.blind };
  const { problems } = peerPlanOf(plan.seen, evidence, tables.seen, records);
  for (const problem of problems) findings.push(problemFinding(problem, records, settings));
  return foundBy(findings);
}

function mendLease(node: string, { kind, origin }: LeaseRecords, { kubectl }: NodeSettings): string {
  return kind === 'kubernetes'
    ? lines('# Its own daemon writes it; what an administrator wrote has to be put right:', `${kubectl} edit node ${word(node)}`)
    : lines('# Where that node is gone; otherwise its daemon writes it anew:', `rm ${word(`${origin}/${node}.json`)}`);
}

function problemFinding({ code, node, message }: PeerProblem, records: LeaseRecords, settings: NodeSettings): Finding {
  const lease = records.peers.find((peer) => peer.node === node);
  const evidence = lease === undefined ? [] : [...familiesOfLease(lease)].map(([, of]) => describe(node, lease.backendType, of));
  const remedies: Readonly<Record<PeerProblem['code'], string>> = {
    PEER_BACKEND_DIFFERS: `# All nodes need the same net-conf.json. With it right on ${node}, start its daemon again.`,
    PEER_ADDRESS_IS_OWN: lines(
      `# On ${node}: --iface with the interface that has an address of its own (Vagrant: not the one with 10.0.2.15).`,
      mendLease(node, records, settings),
    ),
    PEER_SUBNET_IS_OWN: lines(
      `# One of the two nodes has to have another subnet: ${settings.node} or ${node}.`,
      mendLease(node, records, settings),
    ),
    PEER_OUTSIDE_NETWORK: lines(`# Network of net-conf.json has to hold the subnets of all nodes.`, mendLease(node, records, settings)),
    PEER_UNREACHABLE: lines(
      '# What is said of it has to be put right on that node, or in the network between.',
      mendLease(node, records, settings),
    ),
  };
  return { code, severity: 'error', subject: node, message, evidence: [`${records.origin}: ${node}`, ...evidence], remedy: remedies[code] };
}

function describe(
  node: string,
  backendType: string,
  { subnet, publicAddress, data }: { subnet: Prefix; publicAddress: Address; data: unknown },
): string {
  return `lease of ${node}: ${formatPrefix(subnet)} at ${formatAddress(publicAddress)}, backend ${backendType || 'none'}, data ${JSON.stringify(data ?? null)}`;
}

/** Whoever has the address gets the packets of both. */
function duplicateAddresses(records: LeaseRecords, settings: NodeSettings): Finding[] {
  const nodes = new Map<Address, string[]>();
  for (const lease of records.peers) {
    for (const [, { publicAddress }] of familiesOfLease(lease)) nodes.set(publicAddress, [...(nodes.get(publicAddress) ?? []), lease.node]);
  }
  return [...nodes].flatMap(([address, names]): Finding[] => {
    if (names.length < 2) return [];
    return [
      {
        code: 'PUBLIC_ADDRESS_DUPLICATE',
        severity: 'error',
        subject: names.join(', '),
        message: `they have told the same public address ${formatAddress(address)}: whoever has it gets what is for all of them`,
        evidence: names.map((name) => `lease of ${name}: public address ${formatAddress(address)}`),
        remedy: lines(
          '# On these nodes: --iface with the interface that has an address of its own (Vagrant: not the one with 10.0.2.15).',
          names.slice(1).map((name) => mendLease(name, records, settings)),
        ),
      },
    ];
  });
}

/** A forwarding table has one destination for a hardware address. */
function duplicateMacs(evidence: Evidence, records: LeaseRecords): Finding[] {
  const { settings } = evidence;
  const { backend } = evidence.conf;
  if (backend.type !== 'vxlan') return [];
  return ([4, 6] as const).flatMap((family) => {
    const nodes = new Map<string, string[]>();
    const add = (mac: string | undefined, node: string): void => {
      if (mac !== undefined) nodes.set(mac, [...(nodes.get(mac) ?? []), node]);
    };
    add(toldMac(evidence.leases, family), settings.node);
    for (const lease of records.peers) add(vxlanData((family === 4 ? lease.v4 : lease.v6)?.data)?.mac, lease.node);
    const annotation = annotationNames(settings.annotationPrefix)[family === 4 ? 'backend-data' : 'backend-v6-data'];
    return [...nodes].flatMap(([mac, names]): Finding[] => {
      if (names.length < 2) return [];
      const last = names.at(-1) ?? '';
      return [
        {
          code: 'VTEP_MAC_DUPLICATE',
          severity: 'error',
          subject: names.join(', '),
          message: `their VTEPs have the same hardware address ${mac}: one of them gets what is for all (were the machines cloned?)`,
          evidence: names.map((name) => `lease of ${name}: IPv${family} VtepMAC ${mac}`),
          // Never as a command: it is for another machine, and would harm this one.
          remedy: lines(
            `# On ${last}, with its network daemon stopped, and started again after the next command: ip link del flannel${family === 4 ? '' : '-v6'}.${backend.vni}`,
            records.kind === 'kubernetes'
              ? `${settings.kubectl} annotate node ${word(last)} ${annotation}-`
              : `rm ${word(`${records.origin}/${last}.json`)}`,
          ),
        },
      ];
    });
  });
}

/** Subnets of other nodes that have addresses in common. */
function overlaps(records: LeaseRecords, settings: NodeSettings): Finding[] {
  const findings: Finding[] = [];
  const subnets = records.peers
    .flatMap((lease) => [...familiesOfLease(lease)].map(([, { subnet }]) => ({ node: lease.node, subnet, ...prefixRange(subnet) })))
    .toSorted((a, b) => compareAddresses(a.first, b.first) || a.subnet.length - b.subnet.length);
  // Blocks overlap only where one is inside of the other: whoever comes next begins in it.
  let outer = subnets[0];
  for (const each of subnets.slice(1)) {
    if (outer !== undefined && typeof each.first === typeof outer.first && each.first <= outer.last) {
      findings.push({
        code: 'SUBNETS_OVERLAP',
        severity: 'error',
        subject: `${outer.node}, ${each.node}`,
        message: `their subnets ${formatPrefix(outer.subnet)} and ${formatPrefix(each.subnet)} overlap: pods of one are sought at the other`,
        evidence: [outer, each].map(({ node, subnet }) => `lease of ${node}: ${formatPrefix(subnet)}`),
        remedy: lines(
          '# One of them has to have another subnet; a podCIDR cannot be changed, so that node has to be made anew.',
          mendLease(each.node, records, settings),
        ),
      });
    } else outer = each;
  }
  return findings;
}
