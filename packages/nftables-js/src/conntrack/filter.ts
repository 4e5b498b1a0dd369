/**
 * Which flows a listing is to give. The kernel filters by tuple since Linux 5.8 (CTA_FILTER); an older one ignores the attribute
 * it does not know and gives everything, so each filter exists twice: as attributes and as a predicate that is always applied.
 *
 * The kernel is never asked to compare IPv6 addresses: ctnetlink_filter_match_tuple has that comparison the wrong way round, and
 * leaves out just the flows that match (seen in Linux 6.18).
 */
import type { MessageWriter } from '../netlink/attributes.ts';
import {
  AF_INET,
  AF_INET6,
  CTA_FILTER,
  CTA_FILTER_F_CTA_IP_DST,
  CTA_FILTER_F_CTA_IP_SRC,
  CTA_FILTER_F_CTA_PROTO_NUM,
  CTA_FILTER_ORIG_FLAGS,
  CTA_FILTER_REPLY_FLAGS,
  CTA_IP_V4_DST,
  CTA_IP_V4_SRC,
  CTA_IP_V6_DST,
  CTA_IP_V6_SRC,
  CTA_MARK,
  CTA_MARK_MASK,
  CTA_PROTO_NUM,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
} from './attributes.ts';
import type { Flow, FlowFamily, Tuple } from './flow.ts';

/** What has to be equal in a tuple. */
export type TupleFilter = Partial<Pick<Tuple, 'source' | 'destination' | 'protocol'>>;

/** All that is given has to hold. */
export interface FlowFilter {
  /** Has to be given along with `original` or `reply`. */
  readonly family?: FlowFamily;
  readonly original?: TupleFilter;
  readonly reply?: TupleFilter;
  /** mark & mask equals value. */
  readonly mark?: { readonly value: number; readonly mask: number };
}

export function addressFamily(family: FlowFamily | undefined): number {
  if (family === undefined) return 0;
  return family === 'ip' ? AF_INET : AF_INET6;
}

/** What the kernel is asked to compare. */
function flagsOf(filter: TupleFilter | undefined, family: FlowFamily | undefined): number {
  const protocol = filter?.protocol === undefined ? 0 : CTA_FILTER_F_CTA_PROTO_NUM;
  if (family === 'ip6') return protocol;
  return (
    (filter?.source === undefined ? 0 : CTA_FILTER_F_CTA_IP_SRC) |
    (filter?.destination === undefined ? 0 : CTA_FILTER_F_CTA_IP_DST) |
    protocol
  );
}

/** Whether the filter says something about a tuple: only then is CTA_FILTER needed. */
export function filtersTuples(filter: FlowFilter): boolean {
  return (flagsOf(filter.original, filter.family) | flagsOf(filter.reply, filter.family)) !== 0;
}

/** Writes the attributes of the filter: of the mark, and with `tuples` those that kernels before 5.8 do not know. */
export function writeFilter(writer: MessageWriter, filter: FlowFilter, tuples: boolean): void {
  if (filter.mark !== undefined) {
    writer.be32(CTA_MARK, (filter.mark.value & filter.mark.mask) >>> 0);
    writer.be32(CTA_MARK_MASK, filter.mark.mask);
  }
  if (!tuples || !filtersTuples(filter)) return;
  const family = filter.family ?? 'ip';
  if (flagsOf(filter.original, family) !== 0) writeTupleFilter(writer, CTA_TUPLE_ORIG, family, filter.original ?? {});
  if (flagsOf(filter.reply, family) !== 0) writeTupleFilter(writer, CTA_TUPLE_REPLY, family, filter.reply ?? {});
  const start = writer.beginNested(CTA_FILTER);
  writer.u32(CTA_FILTER_ORIG_FLAGS, flagsOf(filter.original, family));
  writer.u32(CTA_FILTER_REPLY_FLAGS, flagsOf(filter.reply, family));
  writer.endNested(start);
}

function writeTupleFilter(writer: MessageWriter, type: number, family: FlowFamily, filter: TupleFilter): void {
  const start = writer.beginNested(type);
  if (filter.source !== undefined || filter.destination !== undefined) {
    const ip = writer.beginNested(CTA_TUPLE_IP);
    if (filter.source !== undefined) writer.data(family === 'ip' ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, filter.source);
    if (filter.destination !== undefined) writer.data(family === 'ip' ? CTA_IP_V4_DST : CTA_IP_V6_DST, filter.destination);
    writer.endNested(ip);
  }
  if (filter.protocol !== undefined) {
    const proto = writer.beginNested(CTA_TUPLE_PROTO);
    writer.u8(CTA_PROTO_NUM, filter.protocol);
    writer.endNested(proto);
  }
  writer.endNested(start);
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

function tupleMatches(tuple: Tuple, filter: TupleFilter): boolean {
  return (
    (filter.protocol === undefined || tuple.protocol === filter.protocol) &&
    (filter.source === undefined || equalBytes(tuple.source, filter.source)) &&
    (filter.destination === undefined || equalBytes(tuple.destination, filter.destination))
  );
}

export function flowMatches(flow: Flow, filter: FlowFilter): boolean {
  return (
    (filter.family === undefined || flow.family === filter.family) &&
    (filter.original === undefined || tupleMatches(flow.original, filter.original)) &&
    (filter.reply === undefined || tupleMatches(flow.reply, filter.reply)) &&
    (filter.mark === undefined || ((flow.mark ^ filter.mark.value) & filter.mark.mask) === 0)
  );
}
