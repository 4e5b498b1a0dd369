/** subnet.env, which the plugin flannel and others read: there, readable, and of this node. Its MTU is looked at with the other sizes. */
import type { NodeFamily } from '../network/backends/backend.ts';
import { formatSubnetEnv, parseSubnetEnv, type SubnetEnvReading } from '../network/subnet-env.ts';
import { formatPrefix, type Prefix } from '../policy/address.ts';
import type { Evidence } from './evidence.ts';
import { type Plan, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle, inOrder } from './report.ts';
import { writeFileCommand } from './shell-text.ts';

export function checkSubnetFile(evidence: Evidence): CheckOutcome {
  const { settings, subnetFile } = evidence;
  const { subnetFile: path } = settings;
  if (path === undefined) return idle('none is written (--subnet-file off)');
  if ('blind' in subnetFile) return blind(subnetFile.blind);
  const plan = planOf(evidence);
  const { seen: text } = subnetFile;
  const rewrite = (ipMasq: boolean | undefined): string => {
    return 'seen' in plan
      ? writeFileCommand(path, wantedText(plan.seen, ipMasq))
      : '# The network daemon writes it once the node has a subnet; look again then.';
  };
  if (text === undefined) {
    return foundBy([
      {
        code: 'SUBNET_FILE_MISSING',
        severity: 'error',
        subject: path,
        message: 'it is not there: the plugin flannel makes no pods without it (“open /run/flannel/subnet.env: no such file”)',
        evidence: [`${path}: not there`],
        remedy: rewrite(undefined),
      },
    ]);
  }
  const reading = parseSubnetEnv(text);
  const faults = 'seen' in plan && 'seen' in evidence.leases ? faultsOf(reading, plan.seen.families) : [];
  if (reading.mtu === undefined) faults.push('FLANNEL_MTU is missing, or no number');
  if (reading.ipMasq === undefined) faults.push('FLANNEL_IPMASQ is missing, or neither true nor false');
  if (faults.length > 0) {
    const finding: Finding = {
      code: 'SUBNET_FILE_WRONG',
      severity: 'error',
      subject: path,
      message: faults.join('; '),
      evidence: [
        ...text
          .trimEnd()
          .split('\n')
          .map((line) => `${path}: ${line}`),
        ...('seen' in plan ? [`${plan.seen.subnetsFrom}: ${plan.seen.families.map(({ subnet }) => formatPrefix(subnet)).join(', ')}`] : []),
      ],
      remedy: rewrite(reading.ipMasq),
    };
    return foundBy([finding]);
  }
  if ('blind' in evidence.leases) return blind(`whether its subnet is this node’s is not known: ${evidence.leases.blind}`);
  return 'blind' in plan ? blind(plan.blind) : inOrder();
}

function faultsOf({ v4, v6 }: SubnetEnvReading, families: readonly NodeFamily[]): string[] {
  return families.flatMap(({ family, subnet, network }) => {
    const [of, prefix] = family === 4 ? [v4, ''] : [v6, 'IPV6_'];
    return [
      ...difference(`FLANNEL_${prefix}SUBNET`, of.subnet, subnet, 'the node’s subnet'),
      ...difference(`FLANNEL_${prefix}NETWORK`, of.network, network, 'the network of net-conf.json'),
    ];
  });
}

function difference(key: string, told: Prefix | undefined, wanted: Prefix, what: string): string[] {
  if (told === undefined) return [`${key} is missing, or no block of addresses`];
  const [has, is] = [formatPrefix(told), formatPrefix(wanted)];
  return has === is ? [] : [`${key} is of ${has}, and ${what} is ${is}`];
}

function wantedText({ families, backend }: Plan, ipMasq = true): string {
  const of = (wanted: 4 | 6): NodeFamily | undefined => families.find(({ family }) => family === wanted);
  return formatSubnetEnv({ v4: of(4), v6: of(6), mtu: backend.mtu, ipMasq });
}
