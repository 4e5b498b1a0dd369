/** Uses a named object (enum nft_objref_attributes). Objects chosen by a map are not covered. */
import { required } from '../../netlink/attributes.ts';
import type { ObjectType } from '../../types.ts';
import type { Codec } from './codec.ts';

const NFTA_OBJREF_IMM_TYPE = 1;
const NFTA_OBJREF_IMM_NAME = 2;

/** NFT_OBJECT_* */
const TYPES: Readonly<Record<ObjectType, number>> = { counter: 1, quota: 2, limit: 4 };
const TYPE_NAMES: ReadonlyMap<number, ObjectType> = new Map(Object.entries(TYPES).map(([name, type]) => [type, name as ObjectType]));

export const objref: Codec<'objref'> = {
  name: 'objref',
  write(writer, { type, name }) {
    writer.be32(NFTA_OBJREF_IMM_TYPE, TYPES[type]);
    writer.string(NFTA_OBJREF_IMM_NAME, name);
  },
  read(attributes) {
    const number = attributes.get(NFTA_OBJREF_IMM_TYPE)?.be32();
    const type = number === undefined ? undefined : TYPE_NAMES.get(number);
    if (type === undefined) return undefined;
    return { expr: 'objref', type, name: required(attributes, NFTA_OBJREF_IMM_NAME, 'the name of an objref').string() };
  },
};
