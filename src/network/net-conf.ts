/**
 * `net-conf.json`: the configuration that all nodes of a flannel network share. Read as flanneld reads it (names in any case, null
 * for absent, of several the last, unknown ones ignored), but what would make flanneld crash later, or write nonsense for others to
 * read, is an error here, by its field.
 */
import * as z from 'zod';
import { SluiceError } from '../errors.ts';
import { type Address, type Family, familyOf, parseAddress, type Prefix, readPrefix } from '../policy/address.ts';
import { inPath, quote, typeName } from '../policy/problems.ts';
import { belongsTo, type Member, readMembers } from './json-members.ts';
import { isWireguardKey } from './lease.ts';

export interface NetConf {
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  /** Whether flanneld masquerades with nftables instead of iptables. */
  readonly enableNFTables: boolean;
  /** IPv4; there wherever IPv4 is enabled. */
  readonly network: Prefix | undefined;
  /** IPv6; there wherever IPv6 is enabled. */
  readonly ipv6Network: Prefix | undefined;
  /** How the network is cut into subnets, where nobody else does it: subnet-choice.ts. Not looked at in a cluster. */
  readonly subnetLen: number | undefined;
  readonly subnetMin: Address | undefined;
  readonly subnetMax: Address | undefined;
  readonly ipv6SubnetLen: number | undefined;
  readonly ipv6SubnetMin: Address | undefined;
  readonly ipv6SubnetMax: Address | undefined;
  readonly backend: BackendConf;
  /** What is ignored, and probably not meant to be. */
  readonly warnings: readonly string[];
}

export interface VxlanConf {
  readonly type: 'vxlan';
  readonly vni: number;
  /** UDP. */
  readonly port: number;
  /** That of the packets between nodes; undefined: the external interface's. */
  readonly mtu: number | undefined;
  readonly gbp: boolean;
  readonly learning: boolean;
  readonly directRouting: boolean;
}

export interface WireguardConf {
  readonly type: 'wireguard';
  readonly listenPort: number;
  readonly listenPortV6: number;
  /** That of the packets between nodes; undefined: the external interface's. */
  readonly mtu: number | undefined;
  /** 32 bytes in base64. A secret. */
  readonly psk: string | undefined;
  /** In seconds; 0: none. */
  readonly persistentKeepaliveInterval: number;
  readonly mode: 'separate' | 'auto' | 'ipv4' | 'ipv6';
}

export type BackendConf =
  | VxlanConf
  | { readonly type: 'host-gw' }
  | { readonly type: 'udp'; readonly port: number }
  | { readonly type: 'ipip'; readonly directRouting: boolean }
  | WireguardConf
  | { readonly type: 'alloc' };

/** A family that the network has. */
export interface ConfFamily {
  readonly family: Family;
  /** What it is called in a lease. */
  readonly key: 'v4' | 'v6';
  readonly network: Prefix;
}

/** The families that the network has: one or two, IPv4 first. */
export function familiesOf(conf: NetConf): ConfFamily[] {
  const families: ConfFamily[] = [];
  if (conf.enableIPv4 && conf.network !== undefined) families.push({ family: 4, key: 'v4', network: conf.network });
  if (conf.enableIPv6 && conf.ipv6Network !== undefined) families.push({ family: 6, key: 'v6', network: conf.ipv6Network });
  return families;
}

/** The kernel's own port for vxlan, older than IANA's 4789: what port 0 means. */
const KERNEL_VXLAN_PORT = 8472;
/** The least an interface may carry: linux/if_ether.h ETH_MIN_MTU, and RFC 8200 section 5. */
const LEAST_MTU = { 4: 68, 6: 1280 } as const;

const flag = z.boolean('expected true or false');

function wholeNumber(least: number, most: number): z.ZodType<number> {
  const expected = `expected a number from ${least} to ${most}`;
  return z.int(expected).min(least, expected).max(most, expected);
}

const port = wholeNumber(1, 65_535);

/** Bits after the prefix are masked, as by Go's net.ParseCIDR, but numbers with leading zeros are refused. */
function network(family: Family, example: string): z.ZodType<Prefix> {
  const expected = `expected a block of IPv${family} addresses such as "${example}"`;
  return z.string(expected).transform((text, context) => {
    const reading = readPrefix(text);
    const isSound = reading !== undefined && !reading.leadingZeros && familyOf(reading.prefix.address) === family;
    if (isSound && reading.prefix.length > 0) return reading.prefix;
    context.addIssue({ code: 'custom', message: isSound ? `${expected}, not all addresses` : expected });
    return z.NEVER;
  });
}

/** The address of zeros is none, as for flanneld. */
function subnetAddress(family: Family): z.ZodType<Address | undefined> {
  const expected = `expected an IPv${family} address`;
  return z.string(expected).transform((text, context) => {
    const address = parseAddress(text);
    if (address !== undefined && familyOf(address) === family) return BigInt(address) === 0n ? undefined : address;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

/** 0 is as good as absent. */
const orUndefined = (value: number): number | undefined => (value === 0 ? undefined : value);

const TOP = z.object({
  EnableIPv4: flag.default(true),
  EnableIPv6: flag.default(false),
  EnableNFTables: flag.default(false),
  Network: network(4, '10.244.0.0/16').optional(),
  IPv6Network: network(6, 'fd00:10:244::/56').optional(),
  SubnetLen: wholeNumber(0, 32).transform(orUndefined).optional(),
  SubnetMin: subnetAddress(4).optional(),
  SubnetMax: subnetAddress(4).optional(),
  IPv6SubnetLen: wholeNumber(0, 128).transform(orUndefined).optional(),
  IPv6SubnetMin: subnetAddress(6).optional(),
  IPv6SubnetMax: subnetAddress(6).optional(),
});
const TOP_FIELDS = [...Object.keys(TOP.shape), 'Backend'];

/** Each backend's settings in flannel's spelling, with what they are where nobody says. */
const BACKENDS = {
  vxlan: z.object({
    VNI: wholeNumber(1, 0xff_ffff).default(1),
    Port: wholeNumber(0, 65_535).default(0),
    MTU: wholeNumber(1, 65_535).optional(),
    GBP: flag.default(false),
    Learning: flag.default(false),
    DirectRouting: flag.default(false),
  }),
  'host-gw': z.object({}),
  udp: z.object({ Port: port.default(8285) }),
  ipip: z.object({ DirectRouting: flag.default(false) }),
  wireguard: z.object({
    ListenPort: port.default(51_820),
    ListenPortV6: port.default(51_821),
    MTU: wholeNumber(1, 65_535).optional(),
    PSK: z
      .string('expected a text')
      .refine((text) => text === '' || isWireguardKey(text), 'expected a key of 32 bytes in base64, such as `wg genpsk` prints')
      .transform((text) => (text === '' ? undefined : text))
      .optional(),
    PersistentKeepaliveInterval: wholeNumber(0, 65_535).default(0),
    Mode: z.enum(['separate', 'auto', 'ipv4', 'ipv6'], 'expected one of separate, auto, ipv4, ipv6').default('separate'),
  }),
  alloc: z.object({}),
} as const;

type BackendType = keyof typeof BACKENDS;
const BACKEND_TYPES = Object.keys(BACKENDS) as BackendType[];

/** What flannel has and Sluice has not, and what to take instead. */
const OTHER_BACKENDS: Readonly<Record<string, string>> = {
  extension: 'it runs commands of its configuration as root; vxlan, host-gw and wireguard do without',
  ipsec: 'flannel itself calls it experimental; wireguard encrypts too',
  'ali-vpc': 'flannel has dropped it; take alloc and let the cloud’s controller write the routes',
  'aws-vpc': 'flannel has dropped it; take alloc and let the cloud’s controller write the routes',
  gce: 'flannel has dropped it; take alloc and let the cloud’s controller write the routes',
  'tencent-vpc': 'take alloc and let the cloud’s controller write the routes',
};

/** Bytes that a packet grows by, over IPv4 and over IPv6. */
const OVERHEAD = { vxlan: { 4: 50, 6: 70 }, wireguard: { 4: 80, 6: 80 } } as const;

/**
 * @param origin where the text comes from, for messages: a path
 * @throws SluiceError `NET_CONF_INVALID`: the field, what it is and what it may be
 */
export function parseNetConf(text: string, origin: string): NetConf {
  const invalid = (fault: string): SluiceError =>
    new SluiceError('NET_CONF_INVALID', `reading the network configuration ${origin}: ${fault}`, { exitStatus: 2 });
  let members: Member[] | undefined;
  try {
    members = readMembers(text);
  } catch (cause) {
    throw invalid(`it is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  if (members === undefined) throw invalid('expected an object, such as { "Network": "10.244.0.0/16", "Backend": { "Type": "vxlan" } }');

  const warnings: string[] = [];
  const fields = assign(members, TOP_FIELDS, '', warnings);
  const top = check(TOP, fields, '', invalid);
  if (!top.EnableIPv4 && !top.EnableIPv6) throw invalid('EnableIPv4, EnableIPv6: one of them has to be true');
  if (top.EnableIPv4 && top.Network === undefined) throw invalid('Network: is missing, and IPv4 is enabled (EnableIPv4)');
  if (top.EnableIPv6 && top.IPv6Network === undefined) throw invalid('IPv6Network: is missing, and IPv6 is enabled (EnableIPv6)');
  const families: Family[] = [...(top.EnableIPv4 ? [4 as const] : []), ...(top.EnableIPv6 ? [6 as const] : [])];
  // Null too, which flanneld refuses: to take it for absent would quietly mean udp.
  const backend = readBackend(
    members.findLast(({ name }) => belongsTo('Backend', name)),
    families,
    warnings,
    invalid,
  );
  return {
    enableIPv4: top.EnableIPv4,
    enableIPv6: top.EnableIPv6,
    enableNFTables: top.EnableNFTables,
    network: top.Network,
    ipv6Network: top.IPv6Network,
    subnetLen: top.SubnetLen,
    subnetMin: top.SubnetMin,
    subnetMax: top.SubnetMax,
    ipv6SubnetLen: top.IPv6SubnetLen,
    ipv6SubnetMin: top.IPv6SubnetMin,
    ipv6SubnetMax: top.IPv6SubnetMax,
    backend,
    warnings,
  };
}

type Invalid = (fault: string) => SluiceError;

function readBackend(member: Member | undefined, families: readonly Family[], warnings: string[], invalid: Invalid): BackendConf {
  if (member === undefined) {
    // What flannel has taken since before there was vxlan.
    warnings.push('Backend: is missing, which means udp, the slowest; most networks have { "Type": "vxlan" }');
    return finishBackend('udp', [], families, warnings, invalid);
  }
  const members = readMembers(member.text);
  if (members === undefined) throw invalid(`Backend: expected an object, not ${found(member.value)}`);
  const given = members.findLast(({ name, value }) => value !== null && belongsTo('Type', name))?.value;
  if (given === undefined) throw invalid(`Backend.Type: is missing; expected one of ${BACKEND_TYPES.join(', ')}`);
  if (typeof given !== 'string') throw invalid(`Backend.Type: expected a text, not ${found(given)}`);
  const name = given.toLowerCase();
  const type = BACKEND_TYPES.find((known) => known === name);
  if (type !== undefined) return finishBackend(type, members, families, warnings, invalid);
  const other = Object.hasOwn(OTHER_BACKENDS, name) ? OTHER_BACKENDS[name] : undefined;
  if (other !== undefined) throw invalid(`Backend.Type: Sluice has no backend ${name}: ${other}`);
  throw invalid(`Backend.Type: expected one of ${BACKEND_TYPES.join(', ')}, not ${quote(given)}`);
}

function finishBackend(
  type: BackendType,
  members: readonly Member[],
  families: readonly Family[],
  warnings: string[],
  invalid: Invalid,
): BackendConf {
  const schema = BACKENDS[type];
  const fields = assign(members, ['Type', ...Object.keys(schema.shape)], 'Backend.', warnings, ` of ${type}`);
  if ((type === 'udp' || type === 'ipip') && families.includes(6)) {
    const fault = `Backend.Type: ${type} carries IPv4 alone`;
    if (!families.includes(4)) throw invalid(`${fault}, and IPv4 is not enabled (EnableIPv4)`);
    warnings.push(`${fault}: pods cannot reach those of other nodes over IPv6, which is enabled (EnableIPv6)`);
  }
  switch (type) {
    case 'vxlan': {
      const { VNI, Port, MTU, GBP, Learning, DirectRouting } = check(BACKENDS.vxlan, fields, 'Backend.', invalid);
      const mtu = checkMtu(MTU, type, families, invalid);
      const port = Port === 0 ? KERNEL_VXLAN_PORT : Port;
      return { type, vni: VNI, port, mtu, gbp: GBP, learning: Learning, directRouting: DirectRouting };
    }
    case 'wireguard': {
      const conf = check(BACKENDS.wireguard, fields, 'Backend.', invalid);
      return {
        type,
        listenPort: conf.ListenPort,
        listenPortV6: conf.ListenPortV6,
        mtu: checkMtu(conf.MTU, type, families, invalid),
        psk: conf.PSK,
        persistentKeepaliveInterval: conf.PersistentKeepaliveInterval,
        mode: conf.Mode,
      };
    }
    case 'udp':
      return { type, port: check(BACKENDS.udp, fields, 'Backend.', invalid).Port };
    case 'ipip':
      return { type, directRouting: check(BACKENDS.ipip, fields, 'Backend.', invalid).DirectRouting };
    case 'host-gw':
    case 'alloc':
      return { type };
  }
}

/** What is left for the pods' packets has to be enough for each family. */
function checkMtu(mtu: number | undefined, type: keyof typeof OVERHEAD, families: readonly Family[], invalid: Invalid): number | undefined {
  for (const family of families) {
    const least = LEAST_MTU[family] + OVERHEAD[type][family];
    if (mtu !== undefined && mtu < least) {
      const why = `IPv${family} needs ${LEAST_MTU[family]} bytes, and ${type} ${OVERHEAD[type][family]} more`;
      throw invalid(`Backend.MTU: expected a number from ${least} to 65535 (${why}), not ${mtu}`);
    }
  }
  return mtu;
}

/** The member that each field is read from. */
function assign(members: readonly Member[], known: readonly string[], path: string, warnings: string[], whose = ''): Map<string, Member> {
  const fields = new Map<string, Member>();
  for (const member of members) {
    const field = known.find((name) => belongsTo(name, member.name));
    if (field === undefined) {
      warnings.push(`${path}${inPath(member.name)}: there is no such setting${whose}, and it is ignored; known: ${known.join(', ')}`);
    } else if (member.value !== null) fields.set(field, member);
  }
  return fields;
}

function check<S extends z.ZodObject>(schema: S, fields: ReadonlyMap<string, Member>, path: string, invalid: Invalid): z.output<S> {
  const values = Object.fromEntries([...fields].map(([field, { value }]) => [field, value]));
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = String(issue?.path[0] ?? '');
  // A secret may be wrong by a letter, and logs are read by many.
  const given = field === 'PSK' ? '' : `, not ${found(values[field])}`;
  throw invalid(`${path}${field}: ${issue?.message ?? 'cannot be read'}${given}`);
}

function found(value: unknown): string {
  return value === null || typeof value === 'object' ? typeName(value) : quote(value);
}
