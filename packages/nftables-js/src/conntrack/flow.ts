/**
 * An entry of the connection tracking table as plain data, and how it is read from a message of ctnetlink
 * (linux/netfilter/nfnetlink_conntrack.h). A table may have 100,000 entries and more, so this reads by offset, straight from the
 * message, and builds nothing that is not part of the result.
 */
import { MalformedError } from '../netlink/errors.ts';
import {
  AF_INET,
  AF_INET6,
  CTA_ID,
  CTA_IP_V4_DST,
  CTA_IP_V4_SRC,
  CTA_IP_V6_DST,
  CTA_IP_V6_SRC,
  CTA_LABELS,
  CTA_MARK,
  CTA_PROTO_DST_PORT,
  CTA_PROTO_ICMPV6_CODE,
  CTA_PROTO_ICMPV6_ID,
  CTA_PROTO_ICMPV6_TYPE,
  CTA_PROTO_ICMP_CODE,
  CTA_PROTO_ICMP_ID,
  CTA_PROTO_ICMP_TYPE,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_STATUS,
  CTA_TIMEOUT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
  CTA_TUPLE_ZONE,
  CTA_ZONE,
} from './attributes.ts';

export type FlowFamily = 'ip' | 'ip6';

/** One direction of a flow. */
export interface Tuple {
  /** 4 or 16 bytes. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** IPPROTO_*. */
  readonly protocol: number;
  /** Of TCP, UDP, SCTP, DCCP and UDP-Lite; with GRE the keys. */
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
  /** Of ICMP and ICMPv6. */
  readonly icmp: { readonly type: number; readonly code: number; readonly id: number } | undefined;
}

export interface Flow {
  readonly family: FlowFamily;
  /** Tells this entry from a later one with the same tuples. Not unique over time without end: it is a hash. */
  readonly id: number;
  /** As the first packet came. */
  readonly original: Tuple;
  /** As the answer comes: where the destination was translated, its source is who really answers. */
  readonly reply: Tuple;
  readonly zone: number;
  /** Which direction's tuple the zone belongs to. */
  readonly zoneDirection: 'both' | 'original' | 'reply';
  /** Bits of {@link FLOW_STATUS}. */
  readonly status: number;
  readonly mark: number;
  /** 16 bytes, label n is bit n % 8 of byte n / 8. Undefined: none is set (whether there is room for one, only setting it tells). */
  readonly labels: Uint8Array | undefined;
  /** Seconds until it expires; undefined in events of the end of a flow. */
  readonly timeoutSeconds: number | undefined;
}

/** enum ip_conntrack_status. */
export const FLOW_STATUS = {
  expected: 1 << 0,
  seenReply: 1 << 1,
  assured: 1 << 2,
  confirmed: 1 << 3,
  sourceNat: 1 << 4,
  destinationNat: 1 << 5,
  dying: 1 << 9,
  fixedTimeout: 1 << 10,
  offloaded: 1 << 14,
} as const;

const NFGENMSG_BYTES = 4;
const LABEL_BYTES = 16;
const NLA_TYPE_MASK = 0x3fff;

/** The message under the reader: module-private functions pass offsets into it instead of making objects. */
interface Cursor {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** The end of the attribute at `at`. */
function attributeEnd(view: DataView, at: number, end: number): number {
  const length = view.getUint16(at, true);
  if (length < 4 || at + length > end) throw new MalformedError(`an attribute of ${length} bytes at ${at} does not fit into ${end}`);
  return at + length;
}

function typeAt(view: DataView, at: number): number {
  return view.getUint16(at + 2, true) & NLA_TYPE_MASK;
}

/** The offset of the attribute's data, which has to have so many bytes. */
function dataAt(at: number, end: number, bytes: number): number {
  if (end - at - 4 < bytes) throw new MalformedError(`an attribute at ${at} has ${end - at - 4} bytes instead of ${bytes}`);
  return at + 4;
}

function next(at: number, end: number): number {
  return at + ((end - at + 3) & ~3);
}

function u8At(view: DataView, at: number, end: number): number {
  return view.getUint8(dataAt(at, end, 1));
}

function be16At(view: DataView, at: number, end: number): number {
  return view.getUint16(dataAt(at, end, 2));
}

function be32At(view: DataView, at: number, end: number): number {
  return view.getUint32(dataAt(at, end, 4));
}

function bytesAt(bytes: Uint8Array, at: number, end: number, length: number): Uint8Array {
  const data = dataAt(at, end, length);
  return bytes.slice(data, data + length);
}

/**
 * Reads the payload of an IPCTNL_MSG_CT_NEW or _DELETE message.
 *
 * @returns undefined for a family other than IPv4 and IPv6
 * @throws MalformedError
 */
export function readFlow(payload: Uint8Array): Flow | undefined {
  const end = payload.length;
  if (end < NFGENMSG_BYTES) throw new MalformedError(`a message of ctnetlink of ${end} bytes`);
  const addressFamily = payload[0];
  if (addressFamily !== AF_INET && addressFamily !== AF_INET6) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, end);
  const cursor: Cursor = { bytes: payload, view };
  let original: Tuple | undefined;
  let reply: Tuple | undefined;
  let zone = 0;
  let zoneDirection: Flow['zoneDirection'] = 'both';
  let status = 0;
  let timeoutSeconds: number | undefined;
  let mark = 0;
  let id: number | undefined;
  let labels: Uint8Array | undefined;
  for (let at = NFGENMSG_BYTES, stop: number; at + 4 <= end; at = next(at, stop)) {
    stop = attributeEnd(view, at, end);
    switch (typeAt(view, at)) {
      case CTA_TUPLE_ORIG: {
        original = readTuple(cursor, at + 4, stop);
        const own = readTupleZone(cursor, at + 4, stop);
        if (own !== undefined) [zone, zoneDirection] = [own, 'original'];
        break;
      }
      case CTA_TUPLE_REPLY: {
        reply = readTuple(cursor, at + 4, stop);
        const own = readTupleZone(cursor, at + 4, stop);
        if (own !== undefined) [zone, zoneDirection] = [own, 'reply'];
        break;
      }
      case CTA_STATUS:
        status = be32At(view, at, stop);
        break;
      case CTA_TIMEOUT:
        timeoutSeconds = be32At(view, at, stop);
        break;
      case CTA_MARK:
        mark = be32At(view, at, stop);
        break;
      case CTA_ID:
        id = be32At(view, at, stop);
        break;
      case CTA_ZONE:
        zone = be16At(view, at, stop);
        break;
      case CTA_LABELS:
        labels = bytesAt(payload, at, stop, LABEL_BYTES);
        break;
      default:
    }
  }
  if (original === undefined || reply === undefined || id === undefined)
    throw new MalformedError('a flow without one of its tuples or its number');
  const family = addressFamily === AF_INET ? 'ip' : 'ip6';
  return { family, id, original, reply, zone, zoneDirection, status, mark, labels, timeoutSeconds };
}

function readTuple(cursor: Cursor, start: number, end: number): Tuple {
  const { bytes, view } = cursor;
  let source: Uint8Array | undefined;
  let destination: Uint8Array | undefined;
  let protocol = 0;
  let sourcePort: number | undefined;
  let destinationPort: number | undefined;
  let icmpId: number | undefined;
  let icmpType = 0;
  let icmpCode = 0;
  for (let at = start, stop: number; at + 4 <= end; at = next(at, stop)) {
    stop = attributeEnd(view, at, end);
    const type = typeAt(view, at);
    if (type === CTA_TUPLE_IP) {
      for (let ip = at + 4, ipEnd: number; ip + 4 <= stop; ip = next(ip, ipEnd)) {
        ipEnd = attributeEnd(view, ip, stop);
        const ipType = typeAt(view, ip);
        if (ipType === CTA_IP_V4_SRC) source = bytesAt(bytes, ip, ipEnd, 4);
        else if (ipType === CTA_IP_V4_DST) destination = bytesAt(bytes, ip, ipEnd, 4);
        else if (ipType === CTA_IP_V6_SRC) source = bytesAt(bytes, ip, ipEnd, 16);
        else if (ipType === CTA_IP_V6_DST) destination = bytesAt(bytes, ip, ipEnd, 16);
      }
    } else if (type === CTA_TUPLE_PROTO) {
      for (let proto = at + 4, protoEnd: number; proto + 4 <= stop; proto = next(proto, protoEnd)) {
        protoEnd = attributeEnd(view, proto, stop);
        switch (typeAt(view, proto)) {
          case CTA_PROTO_NUM:
            protocol = u8At(view, proto, protoEnd);
            break;
          case CTA_PROTO_SRC_PORT:
            sourcePort = be16At(view, proto, protoEnd);
            break;
          case CTA_PROTO_DST_PORT:
            destinationPort = be16At(view, proto, protoEnd);
            break;
          case CTA_PROTO_ICMP_ID:
          case CTA_PROTO_ICMPV6_ID:
            icmpId = be16At(view, proto, protoEnd);
            break;
          case CTA_PROTO_ICMP_TYPE:
          case CTA_PROTO_ICMPV6_TYPE:
            icmpType = u8At(view, proto, protoEnd);
            break;
          case CTA_PROTO_ICMP_CODE:
          case CTA_PROTO_ICMPV6_CODE:
            icmpCode = u8At(view, proto, protoEnd);
            break;
          default:
        }
      }
    }
  }
  if (source === undefined || destination === undefined) throw new MalformedError('a tuple without one of its addresses');
  const icmp = icmpId === undefined ? undefined : { type: icmpType, code: icmpCode, id: icmpId };
  return { source, destination, protocol, sourcePort, destinationPort, icmp };
}

/** The zone of one direction alone (`ct zone set` with `original` or `reply`). */
function readTupleZone(cursor: Cursor, start: number, end: number): number | undefined {
  const { view } = cursor;
  for (let at = start, stop: number; at + 4 <= end; at = next(at, stop)) {
    stop = attributeEnd(view, at, end);
    if (typeAt(view, at) === CTA_TUPLE_ZONE) return be16At(view, at, stop);
  }
  return undefined;
}

/** The 16 bytes with these labels set, numbers 0 to 127 as in `ct label`. */
export function labelBits(...labels: readonly number[]): Uint8Array {
  const bits = new Uint8Array(LABEL_BYTES);
  for (const label of labels) {
    if (!Number.isInteger(label) || label < 0 || label >= LABEL_BYTES * 8) throw new RangeError(`label ${label} is not one of 0 to 127`);
    bits[label >> 3] = (bits[label >> 3] ?? 0) | (1 << (label & 7));
  }
  return bits;
}

/** Whether the flow has this label, 0 to 127. */
export function hasLabel(flow: Pick<Flow, 'labels'>, label: number): boolean {
  return (((flow.labels?.[label >> 3] ?? 0) >> (label & 7)) & 1) === 1;
}
