/**
 * v1 Node, projected. Refused only where its name cannot be read. An address or block that cannot be read is left out, which
 * admits less: traffic between a pod and its own node is allowed by these addresses (row 28).
 */
import { type Address, parseAddress, parsePrefix, type Prefix } from '../policy/address.ts';
import type { Node } from '../policy/objects.ts';
import { type Fields, isAbsent, isFields, quote } from '../policy/problems.ts';
import { readMetadata, readName } from './metadata.ts';
import { found, type Report } from './report.ts';
import type { Sharing } from './sharing.ts';

const KNOWN_WITHOUT = 'the node is known without it';

export function projectNode(object: Fields, report: Report, sharing: Sharing): Node {
  const metadata = readMetadata(object, report);
  return {
    name: sharing.string(readName(metadata, report)),
    addresses: readNodeAddresses(readPart(object, 'status', report), report),
    podCIDRs: readPodCIDRs(readPart(object, 'spec', report), report),
  };
}

function readPart(object: Fields, field: 'spec' | 'status', report: Report): Fields {
  const value = object[field];
  if (isFields(value)) return value;
  if (!isAbsent(value)) report.leaveOut(field, 'TYPE_INVALID', `expected an object, not ${found(value)}`, KNOWN_WITHOUT);
  return {};
}

function readNodeAddresses(status: Fields, report: Report): Address[] {
  const addresses: Address[] = [];
  for (const [i, entry] of report.list(status, 'addresses', 'status.addresses', KNOWN_WITHOUT).entries()) {
    if (!isFields(entry)) {
      report.leaveOut(`status.addresses[${i}]`, 'TYPE_INVALID', `expected an object, not ${found(entry)}`, KNOWN_WITHOUT);
      continue;
    }
    // Hostname, InternalDNS, ExternalDNS are names.
    if (entry['type'] !== 'InternalIP' && entry['type'] !== 'ExternalIP') continue;
    const text = entry['address'];
    const address = typeof text === 'string' ? parseAddress(text) : undefined;
    if (address === undefined) {
      const fault = `${quote(text)} is no IPv4 or IPv6 address`;
      report.leaveOut(`status.addresses[${i}].address`, 'ADDRESS_INVALID', fault, KNOWN_WITHOUT);
    } else if (!addresses.includes(address)) addresses.push(address);
  }
  return addresses;
}

/** spec.podCIDRs; where there is none, spec.podCIDR, which the API keeps equal to the first of them. */
function readPodCIDRs(spec: Fields, report: Report): Prefix[] {
  const list = report.list(spec, 'podCIDRs', 'spec.podCIDRs', KNOWN_WITHOUT);
  const single = spec['podCIDR'];
  const texts: (readonly [text: unknown, path: string])[] =
    list.length > 0 || isAbsent(single) || single === ''
      ? list.map((text, i) => [text, `spec.podCIDRs[${i}]`] as const)
      : [[single, 'spec.podCIDR']];
  const prefixes: Prefix[] = [];
  for (const [text, path] of texts) {
    const prefix = typeof text === 'string' ? parsePrefix(text) : undefined;
    if (prefix !== undefined) prefixes.push(prefix);
    else report.leaveOut(path, 'CIDR_INVALID', `${quote(text)} is no block of addresses such as 10.244.1.0/24`, KNOWN_WITHOUT);
  }
  return prefixes;
}
