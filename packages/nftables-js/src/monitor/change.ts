/**
 * What the kernel tells of changes of the ruleset (group NFNLGRP_NFTABLES), read only as far as is needed to know which table
 * changed and who changed it. A commit of 100,000 elements is 100,000 messages, so there is a quick way to see that a message
 * says the same as the one before.
 */
import { type Message, readAttributes, required } from '../netlink/attributes.ts';
import { MalformedError, type NetlinkError } from '../netlink/errors.ts';
import type { Family } from '../types.ts';

export type ChangedObject = 'table' | 'chain' | 'rule' | 'set' | 'element' | 'object' | 'flowtable';

/** Something in a table came or went. Changes arrive after the commit that made them. */
export interface RulesetChange {
  readonly event: 'change';
  readonly action: 'add' | 'delete';
  readonly object: ChangedObject;
  readonly family: Family;
  readonly table: string;
  /** The netlink port of the socket that made the change ({@link NetlinkSocket.port}). */
  readonly port: number;
  /** So many changes of exactly this kind came one after the other. */
  readonly count: number;
}

/** A commit is complete. */
export interface RulesetGeneration {
  readonly event: 'generation';
  /** The number of the generation, as NFNL_BATCH_GENID wants it. */
  readonly id: number;
  /** The process that committed, as numbered in the kernel's first PID namespace: not the number a container knows it by. */
  readonly pid: number;
  /** Its name, at most 15 bytes. */
  readonly processName: string;
  readonly port: number;
}

/** Messages were lost, generations among them perhaps: everything may have changed. */
export interface MonitorOverrun {
  readonly event: 'overrun';
  readonly cause: NetlinkError;
}

export type MonitorEvent = RulesetChange | RulesetGeneration | MonitorOverrun;

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWGEN = 15;
const NFGENMSG_BYTES = 4;

/** linux/netfilter/nf_tables.h, enum nf_tables_msg_types. */
const MESSAGES: ReadonlyMap<number, Pick<RulesetChange, 'action' | 'object'>> = new Map([
  [0, { action: 'add', object: 'table' }],
  [2, { action: 'delete', object: 'table' }],
  [3, { action: 'add', object: 'chain' }],
  [5, { action: 'delete', object: 'chain' }],
  [6, { action: 'add', object: 'rule' }],
  [8, { action: 'delete', object: 'rule' }],
  [9, { action: 'add', object: 'set' }],
  [11, { action: 'delete', object: 'set' }],
  [12, { action: 'add', object: 'element' }],
  [14, { action: 'delete', object: 'element' }],
  [18, { action: 'add', object: 'object' }],
  [20, { action: 'delete', object: 'object' }],
  [22, { action: 'add', object: 'flowtable' }],
  [24, { action: 'delete', object: 'flowtable' }],
]);

/** linux/netfilter.h, NFPROTO_*. */
const FAMILIES: ReadonlyMap<number, Family> = new Map([
  [1, 'inet'],
  [2, 'ip'],
  [3, 'arp'],
  [5, 'netdev'],
  [7, 'bridge'],
  [10, 'ip6'],
]);

/** The name of the table has the same number in all of them: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE … */
const NFTA_TABLE = 1;
const NFTA_GEN_ID = 1;
const NFTA_GEN_PROC_PID = 2;
const NFTA_GEN_PROC_NAME = 3;

/**
 * Reads one message of the group. Undefined for one of a kind that this version does not know: the generation that closes every
 * commit tells of it all the same.
 *
 * @throws MalformedError
 */
export function readMonitorMessage(message: Message): RulesetChange | RulesetGeneration | undefined {
  if (message.type >> 8 !== NFNL_SUBSYS_NFTABLES) return undefined;
  const type = message.type & 0xff;
  const { payload, port } = message;
  if (type === NFT_MSG_NEWGEN) {
    const attributes = readAttributes(afterHeader(payload));
    return {
      event: 'generation',
      id: required(attributes, NFTA_GEN_ID, 'the number of a generation').be32(),
      pid: attributes.get(NFTA_GEN_PROC_PID)?.be32() ?? 0,
      processName: attributes.get(NFTA_GEN_PROC_NAME)?.string() ?? '',
      port,
    };
  }
  const kind = MESSAGES.get(type);
  if (kind === undefined) return undefined;
  const table = required(readAttributes(afterHeader(payload)), NFTA_TABLE, 'the table of a change').string();
  const family = FAMILIES.get(payload[0] ?? 0);
  if (family === undefined) throw new MalformedError(`a change in a table of the unknown family ${payload[0]}`);
  return { event: 'change', ...kind, family, table, port, count: 1 };
}

function afterHeader(payload: Uint8Array): Uint8Array {
  if (payload.length < NFGENMSG_BYTES) throw new MalformedError(`a message of nf_tables of ${payload.length} bytes`);
  return payload.subarray(NFGENMSG_BYTES);
}

/**
 * Whether two messages of changes are about the same kind of object in the same table by the same maker, without decoding them:
 * true only if their types, ports and families are equal, and their first attributes, which have to be the name of the table.
 */
export function sameChange(
  message: Message,
  previous: { readonly type: number; readonly port: number; readonly head: Uint8Array },
): boolean {
  const { type, port, head } = previous;
  if (message.type !== type || message.port !== port || message.payload.length < head.length) return false;
  // By far the most frequent first difference first: none. Names are short, so a loop beats a native comparison.
  for (let at = 0; at < head.length; at++) {
    // Bytes 2 and 3 of struct nfgenmsg are the low half of the generation's number.
    if (message.payload[at] !== head[at] && at !== 2 && at !== 3) return false;
  }
  return true;
}

/** The part of a change's payload that {@link sameChange} compares, as a copy; undefined where it does not begin with the table. */
export function headOfChange(payload: Uint8Array): Uint8Array | undefined {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (payload.length < NFGENMSG_BYTES + 4 || (view.getUint16(NFGENMSG_BYTES + 2, true) & 0x3fff) !== NFTA_TABLE) return undefined;
  const end = NFGENMSG_BYTES + view.getUint16(NFGENMSG_BYTES, true);
  return end <= payload.length ? payload.slice(0, end) : undefined;
}
