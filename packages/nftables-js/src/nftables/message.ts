/**
 * What all messages of nf_tables have in common: their types, struct nfgenmsg, address families, and how a group of messages is
 * made a transaction (linux/netfilter/nfnetlink.h, nf_tables.h).
 */
import type { Message, MessageWriter } from '../netlink/attributes.ts';
import { MalformedError } from '../netlink/errors.ts';
import type { Family } from '../types.ts';

const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 16;
export const NFNL_MSG_BATCH_END = 17;

/** enum nf_tables_msg_types. The DESTROY messages are there since Linux 6.3; they succeed where there is nothing to delete. */
export const NFT_MSG = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  GETSET: 10,
  DELSET: 11,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  NEWGEN: 15,
  GETGEN: 16,
  NEWOBJ: 18,
  GETOBJ: 19,
  DELOBJ: 20,
  DESTROYTABLE: 26,
  DESTROYCHAIN: 27,
  DESTROYRULE: 28,
  DESTROYSET: 29,
  DESTROYSETELEM: 30,
  DESTROYOBJ: 31,
} as const;

/** The type of a message in the netlink header. */
export function messageType(type: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | type;
}

/** linux/netfilter.h, NFPROTO_* */
const FAMILIES: Readonly<Record<Family, number>> = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 };
const FAMILY_NAMES: ReadonlyMap<number, Family> = new Map(Object.entries(FAMILIES).map(([name, number]) => [number, name as Family]));

/** struct nfgenmsg; without a family it is for all of them. */
export function writeHeader(writer: MessageWriter, family: Family | undefined, resource = 0): void {
  writer.raw(Uint8Array.of(family === undefined ? 0 : FAMILIES[family], 0, resource >> 8, resource & 0xff));
}

/** BATCH_BEGIN and BATCH_END name the subsystem of the transaction. */
export function writeBatchHeader(writer: MessageWriter): void {
  writeHeader(writer, undefined, NFNL_SUBSYS_NFTABLES);
}

/** The bytes after struct nfgenmsg. @throws MalformedError */
export function attributesOf(payload: Uint8Array): Uint8Array {
  if (payload.length < 4) throw new MalformedError(`a message of nf_tables of ${payload.length} bytes`);
  return payload.subarray(4);
}

/** @throws MalformedError of a family that this package does not know */
export function familyOf(payload: Uint8Array): Family {
  const family = FAMILY_NAMES.get(payload[0] ?? 0);
  if (family === undefined) throw new MalformedError(`a message of the unknown address family ${payload[0]}`);
  return family;
}

/** Whether it is a message of nf_tables of this type (NFT_MSG). */
export function isMessage(message: Pick<Message, 'type'>, type: number): boolean {
  return message.type === messageType(type);
}
