/** The bridge that the pods of this node are attached to: a bridge, up, and with the first address of the node's subnet. */
import { contains } from '../network/devices.ts';
import { addressAfter } from '../policy/ranges.ts';
import { type Address, type Family, familyOf, formatAddress, formatPrefix, type Prefix, widthOf } from '../policy/address.ts';
import type { InterfaceAddress } from '../rtnetlink/addresses.ts';
import type { Evidence } from './evidence.ts';
import { planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { lines, word } from './shell-text.ts';

export function checkBridge(evidence: Evidence): CheckOutcome {
  const { settings, tables } = evidence;
  const { bridge: name } = settings;
  if (name === undefined) return idle('no bridge is meant (--bridge off)');
  if ('blind' in tables) return blind(tables.blind);
  const link = tables.seen.links.find((each) => each.name === name);
  if (link === undefined) return idle(`there is no ${name}: it is made with the first pod, if not before`);
  if (link.kind !== 'bridge') {
    return foundBy([
      {
        code: 'BRIDGE_KIND',
        severity: 'error',
        subject: name,
        message: `it is no bridge, and pods cannot be attached to it`,
        evidence: [`link ${name}: kind ${link.kind || 'none'}`],
        remedy: lines(`ip link set dev ${word(name)} down`, `ip link set dev ${word(name)} name ${word(`${name.slice(0, 11)}-old`)}`),
      },
    ]);
  }
  const findings: Finding[] = [];
  if (!link.up) {
    findings.push({
      code: 'BRIDGE_DOWN',
      severity: 'error',
      subject: name,
      message: 'it is down, and with it every pod of this node is cut off',
      evidence: [`link ${name}: down`],
      remedy: `ip link set dev ${word(name)} up`,
    });
  }
  const plan = planOf(evidence);
  if ('blind' in plan) return { findings, blind: plan.blind };
  const addresses = tables.seen.addresses.filter((each) => each.link === link.index && each.scope !== 'link');
  for (const { family, subnet } of plan.seen.families) {
    const finding = wrongAddress(name, family, subnet, addresses, plan.seen.subnetsFrom);
    if (finding !== undefined) findings.push(finding);
  }
  return foundBy(findings);
}

/** The first address of a subnet: the pods' gateway. */
export function gatewayOf({ address, length }: Prefix): Address {
  return length === widthOf(familyOf(address)) ? address : addressAfter(address);
}

/** The plugin bridge refuses new pods where another IPv4 address is there (ensureAddr in plugins/main/bridge/bridge.go). */
function wrongAddress(
  name: string,
  family: Family,
  subnet: Prefix,
  addresses: readonly InterfaceAddress[],
  origin: string,
): Finding | undefined {
  const own = addresses.filter((each) => each.family === family);
  const wanted = `${formatAddress(gatewayOf(subnet))}/${subnet.length}`;
  const isThere = own.some((each) => show(each) === wanted);
  // Of IPv6 others do no harm unless they are of a part of the subnet.
  const others = own.filter((each) => show(each) !== wanted && (family === 4 || contains(subnet, each.address)));
  if (isThere && others.length === 0) return undefined;
  const message = isThere
    ? `it has another IPv${family} address besides ${wanted}, and the plugin bridge refuses new pods because of it`
    : others.length === 0
      ? `it does not have ${wanted}, its pods’ gateway`
      : `it has ${others.map(show).join(', ')}, and the node’s subnet is ${formatPrefix(subnet)}: new pods are refused, and those that there are cannot be reached`;
  return {
    code: 'BRIDGE_ADDRESS',
    severity: 'error',
    subject: name,
    message,
    evidence: [
      `addresses of ${name}: ${own.length === 0 ? 'none' : own.map(show).join(', ')}`,
      `${origin}: subnet ${formatPrefix(subnet)}`,
    ],
    remedy: lines(
      others.length === 0 ? undefined : '# Pods that have an address of another subnet have to be made anew.',
      others.map((each) => `ip address del ${show(each)} dev ${word(name)}`),
      isThere ? undefined : `ip address add ${wanted} dev ${word(name)}${family === 6 ? ' nodad' : ''}`,
    ),
  };
}

function show({ address, prefixLength }: InterfaceAddress): string {
  return `${formatAddress(address)}/${prefixLength}`;
}
