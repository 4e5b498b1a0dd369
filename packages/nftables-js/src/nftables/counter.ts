/** Named counters: stateful objects of the type NFT_OBJECT_COUNTER (enum nft_object_attributes). */
import { type MessageWriter, readAttributes, required } from '../netlink/attributes.ts';
import type { NamedCounter } from '../types.ts';
import { readCounts, writeCounts } from './expressions/counter.ts';
import { attributesOf, familyOf } from './message.ts';
import { readComment, writeComment } from './userdata.ts';

const NFTA_OBJ_TABLE = 1;
const NFTA_OBJ_NAME = 2;
const NFTA_OBJ_TYPE = 3;
const NFTA_OBJ_DATA = 4;
const NFTA_OBJ_HANDLE = 6;
const NFTA_OBJ_USERDATA = 8;
const NFT_OBJECT_COUNTER = 1;

/** What follows struct nfgenmsg in NFT_MSG_NEWOBJ. */
export function writeCounter(writer: MessageWriter, counter: NamedCounter): void {
  writeCounterName(writer, counter.table, counter.name);
  writeComment(writer, NFTA_OBJ_USERDATA, counter.comment);
  const nest = writer.beginNested(NFTA_OBJ_DATA);
  writeCounts(writer, counter);
  writer.endNested(nest);
}

/** The name is unique among the objects of its type. Without a name: all counters of the table. */
export function writeCounterName(writer: MessageWriter, table: string, name?: string): void {
  writer.string(NFTA_OBJ_TABLE, table);
  if (name !== undefined) writer.string(NFTA_OBJ_NAME, name);
  writer.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
}

/** @throws MalformedError */
export function readCounter(payload: Uint8Array): NamedCounter {
  const attributes = readAttributes(attributesOf(payload));
  const handle = attributes.get(NFTA_OBJ_HANDLE)?.be64();
  return {
    family: familyOf(payload),
    table: required(attributes, NFTA_OBJ_TABLE, "an object's table").string(),
    name: required(attributes, NFTA_OBJ_NAME, "an object's name").string(),
    ...readCounts(required(attributes, NFTA_OBJ_DATA, "a counter's data").nested()),
    ...(handle !== undefined && { handle }),
    ...readComment(attributes.get(NFTA_OBJ_USERDATA)?.data),
  };
}
