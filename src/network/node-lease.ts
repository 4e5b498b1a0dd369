/**
 * Leases as a cluster keeps them: the podCIDRs of a Node, and flannel's annotations. What is read is untrusted, and what is wrong
 * with it is said by node and annotation; what is written is what flanneld writes (v0.28, kube-subnet-mgr), byte for byte.
 */
import { SluiceError } from '../errors.ts';
import { type Address, type Family, familyOf, formatAddress, formatPrefix, type Prefix, readPrefix } from '../policy/address.ts';
import { type Fields, isAbsent, isFields, quote, typeName } from '../policy/problems.ts';
import {
  expectedData,
  type FamilyLease,
  type Lease,
  liesWithin,
  type OwnNode,
  publishedType,
  readHostAddress,
  vxlanData,
} from './lease.ts';
import { type BackendConf, familiesOf, type NetConf } from './net-conf.ts';

export const DEFAULT_ANNOTATION_PREFIX = 'flannel.alpha.coreos.com';

const ANNOTATIONS = [
  'kube-subnet-manager',
  'backend-type',
  'backend-data',
  'backend-v6-data',
  'public-ip',
  'public-ipv6',
  'public-ip-overwrite',
  'public-ipv6-overwrite',
  'node-public-ip',
  'node-public-ipv6',
] as const;
/** An annotation's name without the prefix. */
export type AnnotationName = (typeof ANNOTATIONS)[number];
/** The names as they stand at a node. */
export type AnnotationNames = Readonly<Record<AnnotationName, string>>;

/** What belongs to each family. */
const OF_FAMILY = {
  4: { data: 'backend-data', publicAddress: 'public-ip', overwrite: 'public-ip-overwrite' },
  6: { data: 'backend-v6-data', publicAddress: 'public-ipv6', overwrite: 'public-ipv6-overwrite' },
} as const satisfies Record<Family, Record<string, AnnotationName>>;

/** Annotations that an administrator writes and the node's own daemon reads. */
const GIVEN_ADDRESSES: readonly (readonly [name: AnnotationName, family: Family])[] = [
  ['public-ip-overwrite', 4],
  ['public-ipv6-overwrite', 6],
  ['node-public-ip', 4],
  ['node-public-ipv6', 6],
];

/**
 * The annotations under a prefix: `example.org`, `example.org/` or `example.org/mine`, after which a hyphen is put. As flanneld's
 * newAnnotations, which would let anything stand before the domain: the API server would not.
 * @throws SluiceError `ANNOTATION_PREFIX_INVALID`
 */
export function annotationNames(prefix: string): AnnotationNames {
  const before = !prefix.includes('/') ? `${prefix}/` : /[/-]$/.test(prefix) ? prefix : `${prefix}-`;
  if (!/^(?:[a-z0-9_-]+\.)+[a-z0-9_-]+\/(?:[a-z0-9_-]+-)?$/.test(before)) {
    throw new SluiceError(
      'ANNOTATION_PREFIX_INVALID',
      `the prefix of annotations ${quote(prefix)} is no domain in lower case with at most one word behind a slash`,
      { hint: `Write it as ${DEFAULT_ANNOTATION_PREFIX} or example.org/mine.`, exitStatus: 2 },
    );
  }
  return Object.fromEntries(ANNOTATIONS.map((name) => [name, before + name])) as Record<AnnotationName, string>;
}

export interface NodeLeaseOptions {
  /** Of the annotations: {@link annotationNames}. */
  readonly prefix: string;
  /** The families that the network has. */
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

export interface NodeReading {
  /** Undefined where it cannot be read. */
  readonly name: string | undefined;
  readonly lease: Lease | undefined;
  /** Why there is no lease, or one without a family that the network has; with the node's name. */
  readonly reason: string | undefined;
  /** There is no lease because something cannot be read. Whoever knows an earlier lease does well to keep it. */
  readonly unreadable: boolean;
  readonly own: OwnNode;
}

/** A node that is not there. */
export const NO_NODE: OwnNode = { exists: false, podCIDRs: [], annotations: new Map(), problems: [] };

/**
 * Reads what a node, as the API has it, says of its lease. As flanneld's nodeToLease, but that a node without one of the two
 * families (it was there before the network had both) can be reached over the other.
 * @throws SluiceError `ANNOTATION_PREFIX_INVALID`
 */
export function readNodeLease(node: unknown, options: NodeLeaseOptions): NodeReading {
  const names = annotationNames(options.prefix);
  const metadata = fieldsOf(node, 'metadata');
  const name = metadata['name'];
  if (typeof name !== 'string' || name === '') {
    return { name: undefined, lease: undefined, reason: 'a node without metadata.name is ignored', unreadable: true, own: NO_NODE };
  }
  const annotations = fieldsOf(metadata, 'annotations');
  const blocks = readPodCIDRs(fieldsOf(node, 'spec'));
  const own = readOwn(annotations, names, blocks);
  const without = (reason: string, unreadable: boolean): NodeReading => {
    return { name, lease: undefined, reason: `node ${name}: ${reason}`, unreadable, own };
  };
  if (annotations[names['kube-subnet-manager']] !== 'true') {
    return without(`no flannel runs there: annotation ${names['kube-subnet-manager']} is not "true"`, false);
  }
  if (blocks.problems.length > 0) return without(blocks.problems.join('; '), true);
  const backendType = annotations[names['backend-type']] ?? '';
  if (typeof backendType !== 'string') return without(`annotation ${names['backend-type']}: ${noText(backendType)}`, true);

  const leases: Partial<Record<Family, FamilyLease>> = {};
  const missing: string[] = [];
  const families: Family[] = [...(options.ipv4 ? [4 as const] : []), ...(options.ipv6 ? [6 as const] : [])];
  for (const family of families) {
    const reading = readFamily(family, backendType, annotations, names, blocks.podCIDRs);
    if ('wrong' in reading) return without(reading.wrong, true);
    if ('missing' in reading) missing.push(reading.missing);
    else leases[family] = reading;
  }
  if (missing.length === families.length) return without(missing.join('; '), false);
  const reason = missing.length === 0 ? undefined : `node ${name}: ${missing.join('; ')}; it is reached over the other family alone`;
  return { name, lease: { node: name, backendType, v4: leases[4], v6: leases[6] }, reason, unreadable: false, own };
}

function readFamily(
  family: Family,
  backendType: string,
  annotations: Fields,
  names: AnnotationNames,
  podCIDRs: readonly Prefix[],
): FamilyLease | { readonly missing: string } | { readonly wrong: string } {
  const subnet = podCIDRs.find(({ address }) => familyOf(address) === family);
  if (subnet === undefined) return { missing: `it has no IPv${family} podCIDR` };
  const addressName = names[OF_FAMILY[family].publicAddress];
  const text = annotations[addressName];
  if (isAbsent(text) || text === '' || isUnspecified(text)) return { missing: `it has no annotation ${addressName}` };
  const publicAddress = typeof text === 'string' ? readHostAddress(text, family) : undefined;
  if (publicAddress === undefined) return { wrong: `annotation ${addressName}: ${noAddress(text, family)}` };
  const dataName = names[OF_FAMILY[family].data];
  const data = readData(annotations[dataName]);
  const expected = expectedData(backendType, data);
  if (expected !== undefined) return { wrong: `annotation ${dataName}: ${noData(annotations[dataName], expected)}` };
  return { subnet, publicAddress, data };
}

interface PodCIDRs {
  readonly podCIDRs: readonly Prefix[];
  readonly problems: readonly string[];
}

/** spec.podCIDRs, at most two; where there is none, spec.podCIDR. Of several of one family the first. */
function readPodCIDRs(spec: Fields): PodCIDRs {
  const list = spec['podCIDRs'] ?? [];
  if (!Array.isArray(list)) return { podCIDRs: [], problems: [`spec.podCIDRs: expected a list, not ${typeName(list)}`] };
  if (list.length > 2) return { podCIDRs: [], problems: [`spec.podCIDRs: expected one or two, one of a family, not ${list.length}`] };
  const single = spec['podCIDR'] ?? '';
  const texts: (readonly [path: string, value: unknown])[] =
    list.length > 0 ? list.map((value, i) => [`spec.podCIDRs[${i}]`, value]) : single === '' ? [] : [['spec.podCIDR', single]];
  const podCIDRs: Prefix[] = [];
  const problems: string[] = [];
  for (const [path, value] of texts) {
    const reading = typeof value === 'string' ? readPrefix(value) : undefined;
    if (reading === undefined || reading.leadingZeros) {
      problems.push(`${path}: ${quote(value)} is no block of addresses such as 10.244.1.0/24`);
    } else if (!podCIDRs.some(({ address }) => familyOf(address) === familyOf(reading.prefix.address))) podCIDRs.push(reading.prefix);
  }
  return { podCIDRs, problems };
}

function readOwn(annotations: Fields, names: AnnotationNames, { podCIDRs, problems }: PodCIDRs): OwnNode {
  const texts = new Map<string, string>();
  const found = [...problems];
  for (const name of ANNOTATIONS) {
    const text = annotations[names[name]];
    if (typeof text === 'string') texts.set(name, text);
    else if (!isAbsent(text)) found.push(`annotation ${names[name]}: ${noText(text)}`);
  }
  for (const [name, family] of GIVEN_ADDRESSES) {
    const text = texts.get(name);
    if (text === undefined || text === '' || readHostAddress(text, family) !== undefined) continue;
    // Published as it is, it would be every other node's problem.
    texts.delete(name);
    found.push(`annotation ${names[name]}: ${noAddress(text, family)}, and it is ignored`);
  }
  return { exists: true, podCIDRs, annotations: texts, problems: found };
}

/** The MAC address that the node's vxlan device had when it was last published: it is to keep it. */
export function storedVtepAddress(annotations: ReadonlyMap<string, string>, family: Family): string | undefined {
  return vxlanData(readData(annotations.get(OF_FAMILY[family].data)))?.mac;
}

/** What a node publishes of one family. */
export interface FamilyAttributes {
  readonly publicAddress: Address;
  /** The backend's data as JSON: formatVxlanData, formatWireguardData; `null` for the others. */
  readonly data: string;
}

/** What a node publishes of itself. */
export interface LeaseAttributes {
  readonly backend: BackendConf['type'];
  /** Undefined where the network has none; of ipip, udp and alloc always that of IPv4 alone. */
  readonly v4: FamilyAttributes | undefined;
  readonly v6: FamilyAttributes | undefined;
}

/**
 * What flanneld (AcquireLease) would change of the node's annotations, by their whole names; undefined where nothing. It leaves
 * those of a family that is not there any more. `…-overwrite`, which an administrator writes, takes the place of the address.
 */
export function ownAnnotations(
  { backend, v4, v6 }: LeaseAttributes,
  existing: ReadonlyMap<string, string>,
  names: AnnotationNames,
): Record<string, string> | undefined {
  const wanted = new Map<AnnotationName, string>([['backend-type', publishedType(backend)]]);
  const publicAddress = (family: Family, address: string): string => existing.get(OF_FAMILY[family].overwrite) || address;
  // Without IPv4 flanneld publishes the zeros that its variable still holds. Of vxlan alone it does not.
  if (backend !== 'vxlan' || v4 !== undefined) {
    wanted.set('backend-data', v4?.data ?? 'null');
    wanted.set('public-ip', publicAddress(4, v4 === undefined ? '0.0.0.0' : formatAddress(v4.publicAddress)));
  }
  if (v6 !== undefined && (backend === 'vxlan' || backend === 'wireguard' || backend === 'host-gw')) {
    wanted.set('backend-v6-data', v6.data);
    wanted.set('public-ipv6', publicAddress(6, formatAddress(v6.publicAddress)));
  }
  wanted.set('kube-subnet-manager', 'true');
  // To flanneld an annotation that is not there is as good as an empty one, until it has a reason to write.
  if ([...wanted].every(([name, value]) => (existing.get(name) ?? '') === value)) return undefined;
  const changes = [...wanted].filter(([name, value]) => existing.get(name) !== value);
  return Object.fromEntries(changes.map(([name, value]) => [names[name], value]));
}

/** The strategic merge patch that sets these annotations, names in order as Go writes a map. For `nodes/NAME/status`. */
export function annotationsPatch(annotations: Readonly<Record<string, string>>): string {
  const sorted = Object.fromEntries(Object.entries(annotations).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  return JSON.stringify({ metadata: { annotations: sorted } });
}

/** The strategic merge patch by which flanneld (CompleteLease) tells that pods may be placed here. For `nodes/NAME/status`. */
export function networkAvailablePatch(now: Date): string {
  // metav1.Time has whole seconds.
  const time = now.toISOString().replace(/\.\d+Z$/, 'Z');
  const condition = {
    type: 'NetworkUnavailable',
    status: 'False',
    lastHeartbeatTime: time,
    lastTransitionTime: time,
    reason: 'FlannelIsUp',
    message: 'Flannel is running on this node',
  };
  return JSON.stringify({ status: { conditions: [condition] } });
}

export type OwnSubnets = { readonly v4?: Prefix; readonly v6?: Prefix } | { readonly waiting: string };

/**
 * The node's own subnets, one of each family that the network has; or what is being waited for: a podCIDR is given to a node only
 * after it has come, and where nothing gives any, that is to be seen and not to be died of.
 * @throws SluiceError `LEASE_OUTSIDE_NETWORK`: both blocks
 */
export function ownSubnets(own: OwnNode, conf: NetConf): OwnSubnets {
  if (!own.exists) return { waiting: 'the node is not there yet' };
  const subnets: { v4?: Prefix; v6?: Prefix } = {};
  for (const { family, key, network } of familiesOf(conf)) {
    const subnet = own.podCIDRs.find(({ address }) => familyOf(address) === family);
    if (subnet === undefined) {
      const why = own.problems.length === 0 ? '' : `: ${own.problems.join('; ')}`;
      return { waiting: `the node has no IPv${family} podCIDR yet${why}` };
    }
    if (!liesWithin(subnet, network)) {
      const field = family === 4 ? 'Network' : 'IPv6Network';
      throw new SluiceError(
        'LEASE_OUTSIDE_NETWORK',
        `taking the node’s podCIDR ${formatPrefix(subnet)} as its lease: it lies outside ${field} ${formatPrefix(network)} of net-conf.json`,
        { hint: `Set ${field} to the cluster’s pod network (kubeadm: --pod-network-cidr; kube-controller-manager: --cluster-cidr).` },
      );
    }
    subnets[key] = subnet;
  }
  return subnets;
}

function fieldsOf(value: unknown, field: string): Fields {
  const fields = isFields(value) ? value[field] : undefined;
  return isFields(fields) ? fields : {};
}

/** Undefined where it is no JSON, or not there. */
function readData(text: unknown): unknown {
  if (typeof text !== 'string' || text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What an IPv6-only node publishes of IPv4. */
function isUnspecified(text: unknown): boolean {
  return text === '0.0.0.0' || text === '::';
}

function noAddress(text: unknown, family: Family): string {
  return `${quote(text)} is no IPv${family} address of a node`;
}

function noText(value: unknown): string {
  return `expected a text, not ${typeName(value)}`;
}

function noData(value: unknown, example: string): string {
  return isAbsent(value) || value === '' ? `is missing; expected ${example}` : `expected ${example}, not ${quote(value)}`;
}
