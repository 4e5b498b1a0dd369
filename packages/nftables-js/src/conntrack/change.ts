/**
 * Changes of entries of the connection tracking table as messages. An entry is never created: a change of one that is gone is
 * answered with ENOENT.
 */
import type { MessageWriter } from '../netlink/attributes.ts';
import {
  CTA_ID,
  CTA_IP_V4_DST,
  CTA_IP_V4_SRC,
  CTA_IP_V6_DST,
  CTA_IP_V6_SRC,
  CTA_LABELS,
  CTA_LABELS_MASK,
  CTA_MARK,
  CTA_MARK_MASK,
  CTA_PROTO_DST_PORT,
  CTA_PROTO_ICMPV6_CODE,
  CTA_PROTO_ICMPV6_ID,
  CTA_PROTO_ICMPV6_TYPE,
  CTA_PROTO_ICMP_CODE,
  CTA_PROTO_ICMP_ID,
  CTA_PROTO_ICMP_TYPE,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
  CTA_TUPLE_ZONE,
  CTA_ZONE,
  CT_DELETE,
  CT_NEW,
} from './attributes.ts';
import { addressFamily } from './filter.ts';
import type { Flow, FlowFamily, Tuple } from './flow.ts';

/** What identifies an entry. */
export type FlowKey = Pick<Flow, 'family' | 'id' | 'original' | 'reply' | 'zone' | 'zoneDirection'>;

/** Bits of `mask` become those of `value`; the others stay. */
export interface MaskedLabels {
  /** 16 bytes each; see {@link labelBits}. */
  readonly value: Uint8Array;
  readonly mask: Uint8Array;
}

export interface MaskedMark {
  readonly value: number;
  readonly mask: number;
}

export type FlowChange =
  | { readonly change: 'labels'; readonly flow: FlowKey; readonly labels: MaskedLabels }
  | { readonly change: 'mark'; readonly flow: FlowKey; readonly mark: MaskedMark }
  | { readonly change: 'delete'; readonly flow: FlowKey };

export function messageType(change: FlowChange): number {
  return change.change === 'delete' ? CT_DELETE : CT_NEW;
}

/** Writes what follows the message's header. */
export function writeChange(writer: MessageWriter, change: FlowChange): void {
  const { flow } = change;
  writer.raw(new Uint8Array([addressFamily(flow.family), 0, 0, 0]));
  // A deletion without a tuple would empty the whole table: the tuple is never left out.
  // The kernel compares the number only when it deletes. Changes therefore go by the tuple of the reply, which names who really
  // answers: where a client has come again to the same Service from the same port, and was given another pod, nothing is hit.
  if (change.change === 'delete') writeTuple(writer, CTA_TUPLE_ORIG, flow, flow.original, 'original');
  else writeTuple(writer, CTA_TUPLE_REPLY, flow, flow.reply, 'reply');
  if (flow.zone !== 0 && flow.zoneDirection === 'both') writer.be16(CTA_ZONE, flow.zone);
  writer.be32(CTA_ID, flow.id);
  switch (change.change) {
    case 'labels': {
      // The kernel computes (old & ~mask) ^ value, so bits outside of the mask would be toggled.
      const { value, mask } = change.labels;
      writer.data(
        CTA_LABELS,
        value.map((byte, at) => byte & (mask[at] ?? 0)),
      );
      writer.data(CTA_LABELS_MASK, mask);
      break;
    }
    case 'mark': {
      const { value, mask } = change.mark;
      writer.be32(CTA_MARK, (value & mask) >>> 0);
      writer.be32(CTA_MARK_MASK, mask);
      break;
    }
    case 'delete':
      break;
  }
}

function writeTuple(writer: MessageWriter, type: number, flow: FlowKey, tuple: Tuple, direction: 'original' | 'reply'): void {
  const start = writer.beginNested(type);
  writeAddresses(writer, flow.family, tuple);
  writeProtocol(writer, flow.family, tuple);
  if (flow.zoneDirection === direction) writer.be16(CTA_TUPLE_ZONE, flow.zone);
  writer.endNested(start);
}

function writeAddresses(writer: MessageWriter, family: FlowFamily, tuple: Tuple): void {
  const start = writer.beginNested(CTA_TUPLE_IP);
  writer.data(family === 'ip' ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, tuple.source);
  writer.data(family === 'ip' ? CTA_IP_V4_DST : CTA_IP_V6_DST, tuple.destination);
  writer.endNested(start);
}

function writeProtocol(writer: MessageWriter, family: FlowFamily, tuple: Tuple): void {
  const start = writer.beginNested(CTA_TUPLE_PROTO);
  writer.u8(CTA_PROTO_NUM, tuple.protocol);
  if (tuple.sourcePort !== undefined) writer.be16(CTA_PROTO_SRC_PORT, tuple.sourcePort);
  if (tuple.destinationPort !== undefined) writer.be16(CTA_PROTO_DST_PORT, tuple.destinationPort);
  if (tuple.icmp !== undefined) {
    const { type, code, id } = tuple.icmp;
    writer.be16(family === 'ip' ? CTA_PROTO_ICMP_ID : CTA_PROTO_ICMPV6_ID, id);
    writer.u8(family === 'ip' ? CTA_PROTO_ICMP_TYPE : CTA_PROTO_ICMPV6_TYPE, type);
    writer.u8(family === 'ip' ? CTA_PROTO_ICMP_CODE : CTA_PROTO_ICMPV6_CODE, code);
  }
  writer.endNested(start);
}
