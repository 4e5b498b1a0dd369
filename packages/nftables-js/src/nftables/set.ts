/** Sets and maps, without their elements (enum nft_set_attributes). */
import { type MessageWriter, readAttributes, required } from '../netlink/attributes.ts';
import { NetlinkError } from '../netlink/errors.ts';
import type { DataType, SetDefinition, SetFlag } from '../types.ts';
import { type ByteOrder, byteOrderOf, lengthOf, partLengths, typeNumber, typesOf } from './data-types.ts';
import { attributesOf, familyOf } from './message.ts';
import { commentEntry, readComment, readUserdata, type UserdataEntry, writeUserdata } from './userdata.ts';

const NFTA_SET_TABLE = 1;
const NFTA_SET_NAME = 2;
const NFTA_SET_FLAGS = 3;
const NFTA_SET_KEY_TYPE = 4;
const NFTA_SET_KEY_LEN = 5;
const NFTA_SET_DATA_TYPE = 6;
const NFTA_SET_DATA_LEN = 7;
const NFTA_SET_DESC = 9;
const NFTA_SET_ID = 10;
const NFTA_SET_TIMEOUT = 11;
const NFTA_SET_USERDATA = 13;
const NFTA_SET_HANDLE = 16;
const NFTA_SET_DESC_SIZE = 1;
const NFTA_SET_DESC_CONCAT = 2;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_FIELD_LEN = 1;

/** enum nft_set_flags */
const FLAGS: Readonly<Record<SetFlag, number>> = { anonymous: 0x1, constant: 0x2, interval: 0x4, timeout: 0x10, dynamic: 0x20 };
const FLAG_NAMES = Object.keys(FLAGS) as SetFlag[];
const NFT_SET_MAP = 0x8;
const NFT_SET_CONCAT = 0x80;

/** NFTNL_UDATA_SET_*: by the byte orders nft knows how to print elements. Numbers in them are 32 bits in host order. */
const KEY_BYTE_ORDER = 0;
const DATA_BYTE_ORDER = 1;
const MERGE_ELEMENTS = 2;
const SET_COMMENT = 7;
const BYTE_ORDERS: Readonly<Record<ByteOrder, number>> = { none: 0, host: 1, network: 2 };

/**
 * What follows struct nfgenmsg in NFT_MSG_NEWSET.
 * @param id a number of its own in the transaction
 */
export function writeSet(writer: MessageWriter, set: SetDefinition, id: number): void {
  const concatenatedRanges = set.key.length > 1 && set.flags.includes('interval');
  let flags = set.flags.reduce((flags, flag) => flags | FLAGS[flag], 0);
  if (set.data !== undefined) flags |= NFT_SET_MAP;
  if (concatenatedRanges) flags |= NFT_SET_CONCAT;

  writeSetName(writer, set.table, set.name);
  writer.be32(NFTA_SET_FLAGS, flags);
  writer.be32(NFTA_SET_KEY_TYPE, typeNumber(set.key));
  writer.be32(NFTA_SET_KEY_LEN, bytesOf('key', set.key, set.keyBytes));
  if (set.data !== undefined) {
    writer.be32(NFTA_SET_DATA_TYPE, typeNumber(set.data));
    writer.be32(NFTA_SET_DATA_LEN, bytesOf('data', set.data, set.dataBytes));
  }
  writer.be32(NFTA_SET_ID, id);
  if (set.size !== undefined || concatenatedRanges) writeDescription(writer, set, concatenatedRanges);
  if (set.timeoutMs !== undefined) writer.be64(NFTA_SET_TIMEOUT, set.timeoutMs);
  writeUserdata(writer, NFTA_SET_USERDATA, userdataOf(set));
}

export function writeSetName(writer: MessageWriter, table: string, name?: string): void {
  writer.string(NFTA_SET_TABLE, table);
  if (name !== undefined) writer.string(NFTA_SET_NAME, name);
}

function bytesOf(what: 'key' | 'data', types: readonly DataType[], given: number | undefined): number {
  const bytes = given ?? lengthOf(types);
  if (bytes === undefined)
    throw new NetlinkError(
      'ERR_INVALID',
      `${what} of the type ${types.join(' . ')}, which has no length of its own; say it with ${what}Bytes`,
    );
  return bytes;
}

function writeDescription(writer: MessageWriter, { key, size }: SetDefinition, concatenatedRanges: boolean): void {
  const description = writer.beginNested(NFTA_SET_DESC);
  if (size !== undefined) writer.be32(NFTA_SET_DESC_SIZE, size);
  if (concatenatedRanges) {
    const lengths = partLengths(key);
    if (lengths === undefined)
      throw new NetlinkError('ERR_INVALID', `ranges of ${key.join(' . ')}: not all parts have a length of their own`);
    const fields = writer.beginNested(NFTA_SET_DESC_CONCAT);
    for (const length of lengths) {
      const field = writer.beginNested(NFTA_LIST_ELEM);
      writer.be32(NFTA_SET_FIELD_LEN, length);
      writer.endNested(field);
    }
    writer.endNested(fields);
  }
  writer.endNested(description);
}

function userdataOf({ key, data, autoMerge, comment }: SetDefinition): UserdataEntry[] {
  const entries = [numberEntry(KEY_BYTE_ORDER, BYTE_ORDERS[byteOrderOf(key)])];
  if (data !== undefined) entries.push(numberEntry(DATA_BYTE_ORDER, BYTE_ORDERS[byteOrderOf(data)]));
  if (autoMerge === true) entries.push(numberEntry(MERGE_ELEMENTS, 1));
  if (comment !== undefined) entries.push(commentEntry(SET_COMMENT, comment));
  return entries;
}

function numberEntry(type: number, value: number): UserdataEntry {
  return [type, Uint8Array.of(value, 0, 0, 0)];
}

/** @throws MalformedError */
export function readSet(payload: Uint8Array): SetDefinition {
  const attributes = readAttributes(attributesOf(payload));
  const flags = attributes.get(NFTA_SET_FLAGS)?.be32() ?? 0;
  const key = typesOf(attributes.get(NFTA_SET_KEY_TYPE)?.be32() ?? 0);
  const keyBytes = required(attributes, NFTA_SET_KEY_LEN, "the length of a set's key").be32();
  const size = attributes.get(NFTA_SET_DESC)?.nested().get(NFTA_SET_DESC_SIZE)?.be32();
  const timeoutMs = attributes.get(NFTA_SET_TIMEOUT)?.be64();
  const handle = attributes.get(NFTA_SET_HANDLE)?.be64();
  // Maps of objects have no type of data.
  const dataType = (flags & NFT_SET_MAP) === 0 ? undefined : attributes.get(NFTA_SET_DATA_TYPE)?.be32();
  const data = dataType === undefined ? undefined : typesOf(dataType);
  const dataBytes = attributes.get(NFTA_SET_DATA_LEN)?.be32();
  const userdata = attributes.get(NFTA_SET_USERDATA)?.data;
  return {
    family: familyOf(payload),
    table: required(attributes, NFTA_SET_TABLE, "a set's table").string(),
    name: required(attributes, NFTA_SET_NAME, "a set's name").string(),
    key,
    ...(keyBytes !== lengthOf(key) && { keyBytes }),
    ...(data !== undefined && { data }),
    ...(data !== undefined && data[0] !== 'verdict' && dataBytes !== undefined && dataBytes !== lengthOf(data) && { dataBytes }),
    flags: FLAG_NAMES.filter((name) => (flags & FLAGS[name]) !== 0),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(size !== undefined && { size }),
    ...(handle !== undefined && { handle }),
    ...(readUserdata(userdata).get(MERGE_ELEMENTS)?.[0] === 1 && { autoMerge: true }),
    ...readComment(userdata, SET_COMMENT),
  };
}
