/**
 * The lease of one node as a file, `NODE.json`, where nodes share a directory instead of a cluster:
 *
 *     { "node": "a", "subnet": "10.244.1.0/24", "publicIP": "192.0.2.1", "backendType": "vxlan", "backendData": { "VNI": 1, … } }
 *
 * and `ipv6Subnet`, `publicIPv6`, `backendV6Data`. A file that a person has prepared with nothing but a subnet fixes that node's.
 */
import * as z from 'zod';
import { SluiceError } from '../errors.ts';
import { type Family, familyOf, formatAddress, formatPrefix, parsePrefix, type Prefix } from '../policy/address.ts';
import { quote } from '../policy/problems.ts';
import { expectedData, type FamilyLease, type Lease, readHostAddress } from './lease.ts';

/** One subnet of each family, where there is one. */
export interface Subnets {
  readonly v4?: Prefix;
  readonly v6?: Prefix;
}

export interface LeaseFile {
  readonly subnets: Subnets;
  /** Undefined as long as the node has not told how to reach it. */
  readonly lease: Lease | undefined;
}

function subnet(family: Family, example: string) {
  const expected = `expected a block of IPv${family} addresses such as "${example}"`;
  return z
    .string(expected)
    .transform((text, context) => {
      const prefix = parsePrefix(text);
      if (prefix !== undefined && familyOf(prefix.address) === family) return prefix;
      context.addIssue({ code: 'custom', message: `${expected}, not ${quote(text)}` });
      return z.NEVER;
    })
    .optional();
}

function hostAddress(family: Family) {
  const expected = `expected the IPv${family} address of a node`;
  return z
    .string(expected)
    .transform((text, context) => {
      const address = readHostAddress(text, family);
      if (address !== undefined) return address;
      context.addIssue({ code: 'custom', message: `${expected}, not ${quote(text)}` });
      return z.NEVER;
    })
    .optional();
}

const SCHEMA = z.strictObject(
  {
    node: z.string('expected a text').optional(),
    subnet: subnet(4, '10.244.1.0/24'),
    ipv6Subnet: subnet(6, 'fd00:10:244:1::/64'),
    publicIP: hostAddress(4),
    publicIPv6: hostAddress(6),
    backendType: z.string('expected a text').optional(),
    backendData: z.unknown().optional(),
    backendV6Data: z.unknown().optional(),
  },
  {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `there is no field ${issue.keys?.map(quote).join(', ')}; known: ${FIELDS.join(', ')}`
        : 'expected an object',
  },
);
const FIELDS: readonly string[] = Object.keys(SCHEMA.shape);

/**
 * @param node whose file it is, by its name
 * @param families those that the network has; what a file says of another is not looked at
 * @throws SluiceError `LEASE_FILE_INVALID`: the field, and what it may be
 */
export function readLeaseFile(text: string, path: string, node: string, families: readonly Family[]): LeaseFile {
  const invalid = (fault: string): SluiceError =>
    new SluiceError('LEASE_FILE_INVALID', `reading the lease ${path}: ${fault}`, { hint: 'Correct it, or remove it if the node is gone.' });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(`it is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  const result = SCHEMA.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    const field = issue?.path.length === 0 ? '' : `${issue?.path.join('.')}: `;
    throw invalid(`${field}${issue?.message ?? 'it cannot be read'}`);
  }
  const file = result.data;
  if (file.node !== undefined && file.node !== node)
    throw invalid(`node: expected ${quote(node)}, as the file is called, not ${quote(file.node)}`);
  const backendType = file.backendType ?? '';
  const familyLease = (family: Family): FamilyLease | undefined => {
    const [block, publicAddress] = family === 4 ? [file.subnet, file.publicIP] : [file.ipv6Subnet, file.publicIPv6];
    const [data, field] = family === 4 ? [file.backendData, 'backendData'] : [file.backendV6Data, 'backendV6Data'];
    if (!families.includes(family) || block === undefined || publicAddress === undefined) return undefined;
    const expected = expectedData(backendType, data);
    if (expected !== undefined) throw invalid(`${field}: expected ${expected}`);
    return { subnet: block, publicAddress, data };
  };
  const [v4, v6] = [familyLease(4), familyLease(6)];
  return {
    subnets: {
      ...(file.subnet === undefined ? {} : { v4: file.subnet }),
      ...(file.ipv6Subnet === undefined ? {} : { v6: file.ipv6Subnet }),
    },
    lease: v4 === undefined && v6 === undefined ? undefined : { node, backendType, v4, v6 },
  };
}

/** The file's text: what {@link readLeaseFile} reads as the same lease. */
export function formatLeaseFile({ node, backendType, v4, v6 }: Lease): string {
  const file = {
    node,
    subnet: v4 && formatPrefix(v4.subnet),
    ipv6Subnet: v6 && formatPrefix(v6.subnet),
    publicIP: v4 && formatAddress(v4.publicAddress),
    publicIPv6: v6 && formatAddress(v6.publicAddress),
    backendType,
    backendData: v4?.data ?? undefined,
    backendV6Data: v6?.data ?? undefined,
  };
  return `${JSON.stringify(file, undefined, 2)}\n`;
}
