/**
 * The types of set keys and map data. The kernel only stores their number and length; names, numbers and byte orders are those
 * of nft(8) (its datatype.h and set userdata), which finds out by them how to print the bytes.
 */
import { NetlinkError } from '../netlink/errors.ts';
import type { DataType } from '../types.ts';

/** NFT_DATA_VERDICT */
const VERDICT = 0xffffff00;
/** nft puts the types of a concatenation into one number, six bits each, the last in the lowest. */
const BITS = 6;
const MASK = (1 << BITS) - 1;

/** BYTEORDER_* of nft: what it is told by userdata of the set. */
export type ByteOrder = 'none' | 'host' | 'network';

interface TypeInfo {
  readonly id: number;
  /** Undefined: the type has no length of its own. */
  readonly bytes?: number;
  readonly order: ByteOrder;
}

type NumberedType = Exclude<DataType, 'verdict' | `type-${number}`>;

const TYPES: Readonly<Record<NumberedType, TypeInfo>> = {
  nf_proto: { id: 2, bytes: 1, order: 'none' },
  integer: { id: 4, order: 'network' },
  string: { id: 5, order: 'host' },
  ipv4_addr: { id: 7, bytes: 4, order: 'network' },
  ipv6_addr: { id: 8, bytes: 16, order: 'network' },
  ether_addr: { id: 9, bytes: 6, order: 'network' },
  ether_type: { id: 10, bytes: 2, order: 'network' },
  arp_op: { id: 11, bytes: 2, order: 'network' },
  inet_proto: { id: 12, bytes: 1, order: 'none' },
  inet_service: { id: 13, bytes: 2, order: 'network' },
  icmp_type: { id: 14, bytes: 1, order: 'network' },
  tcp_flag: { id: 15, bytes: 1, order: 'network' },
  mark: { id: 19, bytes: 4, order: 'host' },
  iface_index: { id: 20, bytes: 4, order: 'host' },
  iface_type: { id: 21, bytes: 2, order: 'host' },
  realm: { id: 22, bytes: 4, order: 'host' },
  classid: { id: 23, bytes: 4, order: 'host' },
  uid: { id: 24, bytes: 4, order: 'host' },
  gid: { id: 25, bytes: 4, order: 'host' },
  ct_state: { id: 26, bytes: 4, order: 'host' },
  ct_dir: { id: 27, bytes: 1, order: 'none' },
  ct_status: { id: 28, bytes: 4, order: 'host' },
  icmpv6_type: { id: 29, bytes: 1, order: 'network' },
  pkt_type: { id: 31, bytes: 1, order: 'host' },
  icmp_code: { id: 32, bytes: 1, order: 'network' },
  icmpv6_code: { id: 33, bytes: 1, order: 'network' },
  devgroup: { id: 35, bytes: 4, order: 'host' },
  dscp: { id: 36, bytes: 1, order: 'network' },
  fib_addrtype: { id: 38, bytes: 4, order: 'host' },
  ifname: { id: 41, bytes: 16, order: 'host' },
};
const NAMES: ReadonlyMap<number, NumberedType> = new Map(Object.entries(TYPES).map(([name, { id }]) => [id, name as NumberedType]));

function infoOf(type: DataType): TypeInfo {
  if (type === 'verdict') return { id: VERDICT, bytes: 0, order: 'none' };
  if (Object.hasOwn(TYPES, type)) return TYPES[type as NumberedType];
  const id = /^type-(\d+)$/.exec(type)?.[1];
  if (id === undefined) throw new NetlinkError('ERR_INVALID', `the unknown data type ${type}`);
  return { id: Number(id), order: 'none' };
}

/** NFTA_SET_KEY_TYPE or NFTA_SET_DATA_TYPE. @throws NetlinkError ERR_INVALID of a type that there is not, or more than five */
export function typeNumber(types: readonly DataType[]): number {
  if (types.length === 0 || types.length > 5)
    throw new NetlinkError('ERR_INVALID', `a concatenation of ${types.length} types; 1 to 5 are possible`);
  const [first] = types;
  if (types.length === 1 && first !== undefined) return infoOf(first).id;
  return types.reduce((number, type) => {
    const { id } = infoOf(type);
    if (id > MASK) throw new NetlinkError('ERR_INVALID', `${type} cannot be part of a concatenation`);
    return (number << BITS) | id;
  }, 0);
}

/** The inverse of {@link typeNumber}. A number that is not known becomes `type-NUMBER`. */
export function typesOf(number: number): DataType[] {
  if (number === VERDICT) return ['verdict'];
  const parts: DataType[] = [];
  for (let rest = number; rest > 0; rest = Math.floor(rest / (1 << BITS))) {
    const id = rest & MASK;
    // A type of its own, not a concatenation: no part of one is 0.
    if (id === 0) return [`type-${number}`];
    parts.unshift(NAMES.get(id) ?? `type-${id}`);
  }
  return parts.length === 0 ? [`type-${number}`] : parts;
}

/**
 * The length of each part in bytes, unpadded; undefined where the types do not say it. The parts of a concatenation begin at
 * multiples of four.
 */
export function partLengths(types: readonly DataType[]): number[] | undefined {
  const lengths: number[] = [];
  for (const type of types) {
    const { bytes } = infoOf(type);
    if (bytes === undefined) return undefined;
    lengths.push(bytes);
  }
  return lengths;
}

/** Bytes of a key or of data of these types; undefined where the types do not say it. */
export function lengthOf(types: readonly DataType[]): number | undefined {
  const lengths = partLengths(types);
  if (lengths === undefined || lengths.length === 1) return lengths?.[0];
  return lengths.reduce((sum, length) => sum + ((length + 3) & ~3), 0);
}

/** Concatenations have none. */
export function byteOrderOf(types: readonly DataType[]): ByteOrder {
  const [first] = types;
  return types.length === 1 && first !== undefined ? infoOf(first).order : 'none';
}
