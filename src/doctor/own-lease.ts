/** What the cluster has given this node: whether it knows it, has given it a subnet of the network, and whether anybody has told the peers. */
import { liesWithin } from '../network/lease.ts';
import { type ConfFamily, familiesOf, type NetConf } from '../network/net-conf.ts';
import { freeSubnets, subnetPlan } from '../network/subnet-choice.ts';
import { formatPrefix, type Prefix, prefixRange } from '../policy/address.ts';
import { union } from '../policy/ranges.ts';
import { SluiceError } from '../errors.ts';
import type { Evidence, LeaseRecords, NodeSettings } from './evidence.ts';
import { blind, type CheckOutcome, type Finding, foundBy } from './report.ts';
import { lines, word } from './shell-text.ts';

export function checkOwnLease({ leases, conf, settings }: Evidence): CheckOutcome {
  if ('blind' in leases) return blind(leases.blind);
  const { own, kind, origin } = leases.seen;
  const { node, netConfigPath, kubectl } = settings;
  const isCluster = kind === 'kubernetes';
  if (!own.exists) {
    const known = leases.seen.peers.map((peer) => peer.node);
    const others = known.length === 0 ? 'none' : known.slice(0, 10).join(', ');
    return foundBy([
      {
        code: 'LEASE_MISSING',
        severity: 'error',
        subject: node,
        message: isCluster
          ? 'the cluster has no node of this name: is it called otherwise?'
          : 'no file says which subnet is this node’s, and no peer knows of it',
        evidence: [`${origin}: nothing of ${node}; others: ${others}`],
        remedy: isCluster
          ? lines('# Name it with --node, here and to the network daemon. There are:', `${kubectl} get nodes`)
          : lines('# The daemon takes a subnet and writes the file:', `sluice network --lease-dir ${word(origin)} --node ${word(node)}`),
      },
    ]);
  }
  const findings: Finding[] = [];
  if (own.problems.length > 0) {
    findings.push({
      code: 'LEASE_UNREADABLE',
      severity: 'error',
      subject: node,
      message: own.problems.join('; '),
      evidence: own.problems.map((problem) => `${origin}: ${problem}`),
      remedy: isCluster
        ? `${kubectl} edit node ${word(node)}`
        : lines('# The daemon writes it anew when it starts, with the subnet that it has claimed:', `rm ${word(`${origin}/${node}.json`)}`),
    });
  }
  const missing = familiesOf(conf).filter(({ key }) => own.subnets[key] === undefined);
  if (missing.length > 0 && own.problems.length === 0) findings.push(podCIDREmpty(missing, leases.seen, conf, settings));
  for (const { key, family, network } of familiesOf(conf)) {
    const subnet = own.subnets[key];
    if (subnet === undefined || liesWithin(subnet, network)) continue;
    const field = family === 4 ? 'Network' : 'IPv6Network';
    findings.push({
      code: 'LEASE_OUTSIDE_NETWORK',
      severity: 'error',
      subject: node,
      message: `its subnet ${formatPrefix(subnet)} lies outside of the network ${formatPrefix(network)}: no daemon takes it`,
      evidence: [`${origin}: ${formatPrefix(subnet)}`, `${netConfigPath}: ${field} ${formatPrefix(network)}`],
      remedy: isCluster
        ? lines(
            `# Either ${field} of net-conf.json to what kube-controller-manager has as --cluster-cidr, and the daemons started again:`,
            `${kubectl} -n kube-flannel edit configmap kube-flannel-cfg`,
            // Not as a command: with the Node everything goes that hangs on it.
            `# Or the node made anew, for a podCIDR cannot be changed: ${kubectl} delete node ${word(node)}, and kubelet started again.`,
          )
        : lines('# Without the file another subnet is chosen:', `rm ${word(`${origin}/${node}.json`)}`),
    });
  }
  if (!own.isPublished && missing.length === 0 && own.problems.length === 0) {
    findings.push({
      code: 'NOT_ANNOUNCED',
      severity: 'error',
      subject: node,
      message: 'no network daemon has told the peers how to reach this node: they have no way to its pods',
      evidence: [`${own.backendType.where}: ${own.backendType.text ?? 'not there'}`],
      remedy: isCluster
        ? lines(
            '# The daemon of this node tells it. Is it there, and what does it wait for?',
            `${kubectl} get pods -A -o wide --field-selector spec.nodeName=${word(node)} | grep -e flannel -e sluice`,
          )
        : lines('# The daemon tells it:', `sluice network --lease-dir ${word(origin)} --node ${word(node)}`),
    });
  }
  return foundBy(findings);
}

function podCIDREmpty(missing: readonly ConfFamily[], leases: LeaseRecords, conf: NetConf, { node, kubectl }: NodeSettings): Finding {
  const names = missing.map(({ family }) => `IPv${family}`).join(' and ');
  const given = Object.values(leases.own.subnets as Readonly<Record<string, Prefix>>);
  const free = missing.map((family) => freeSubnet(family, conf, leases.taken));
  const all = [...given, ...free.filter((subnet) => subnet !== undefined)].map(formatPrefix);
  const patch = JSON.stringify({ spec: { podCIDR: all[0], podCIDRs: all } });
  return {
    code: 'POD_CIDR_EMPTY',
    severity: 'error',
    subject: node,
    message: `the node has no ${names} podCIDR: no daemon can begin before it has one`,
    evidence: [`${leases.origin}: podCIDRs of ${node}: ${given.length === 0 ? 'none' : given.map(formatPrefix).join(', ')}`],
    remedy:
      leases.kind === 'directory'
        ? '# The daemon takes one when it starts.'
        : lines(
            '# kube-controller-manager gives them to all nodes that have none, with these flags (kubeadm: --pod-network-cidr):',
            `#   --allocate-node-cidrs=true --cluster-cidr=${missing.map(({ network }) => formatPrefix(network)).join(',')}`,
            ...(free.includes(undefined) || given.length > 0
              ? []
              : ['# For this node alone, by hand, one that no other node has:', `${kubectl} patch node ${word(node)} -p ${word(patch)}`]),
          ),
  };
}

/** Undefined: there is none, or net-conf.json does not say how the network is cut. */
function freeSubnet({ family }: ConfFamily, conf: NetConf, taken: readonly Prefix[]): Prefix | undefined {
  try {
    for (const subnet of freeSubnets(subnetPlan(conf, family), union(taken.map(prefixRange)))) return subnet;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
  }
  return undefined;
}
