/** Tables (enum nft_table_attributes). */
import { type MessageWriter, readAttributes, required } from '../netlink/attributes.ts';
import type { Table, TableFlag } from '../types.ts';
import { attributesOf, familyOf } from './message.ts';
import { readComment, writeComment } from './userdata.ts';

const NFTA_TABLE_NAME = 1;
const NFTA_TABLE_FLAGS = 2;
const NFTA_TABLE_HANDLE = 4;
const NFTA_TABLE_USERDATA = 6;
const NFTA_TABLE_OWNER = 7;

/** enum nft_table_flags */
const FLAGS: Readonly<Record<TableFlag, number>> = { dormant: 0x1, owner: 0x2, persist: 0x4 };
const FLAG_NAMES = Object.keys(FLAGS) as TableFlag[];

/** What follows struct nfgenmsg in NFT_MSG_NEWTABLE. */
export function writeTable(writer: MessageWriter, table: Table): void {
  writeTableName(writer, table.name);
  writer.be32(
    NFTA_TABLE_FLAGS,
    table.flags.reduce((flags, flag) => flags | FLAGS[flag], 0),
  );
  writeComment(writer, NFTA_TABLE_USERDATA, table.comment);
}

export function writeTableName(writer: MessageWriter, name: string): void {
  writer.string(NFTA_TABLE_NAME, name);
}

/** @throws MalformedError */
export function readTable(payload: Uint8Array): Table {
  const attributes = readAttributes(attributesOf(payload));
  const flags = attributes.get(NFTA_TABLE_FLAGS)?.be32() ?? 0;
  const handle = attributes.get(NFTA_TABLE_HANDLE)?.be64();
  const owner = attributes.get(NFTA_TABLE_OWNER)?.be32();
  return {
    family: familyOf(payload),
    name: required(attributes, NFTA_TABLE_NAME, "a table's name").string(),
    flags: FLAG_NAMES.filter((name) => (flags & FLAGS[name]) !== 0),
    ...(handle !== undefined && { handle }),
    ...(owner !== undefined && { owner }),
    ...readComment(attributes.get(NFTA_TABLE_USERDATA)?.data),
  };
}
