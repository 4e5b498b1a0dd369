/** Loads bytes of the packet into a register (enum nft_payload_attributes). Writing to the packet is not covered. */
import { required } from '../../netlink/attributes.ts';
import type { Codec, ExpressionOf } from './codec.ts';
import { readRegister, writeRegister } from './register.ts';

const NFTA_PAYLOAD_DREG = 1;
const NFTA_PAYLOAD_BASE = 2;
const NFTA_PAYLOAD_OFFSET = 3;
const NFTA_PAYLOAD_LEN = 4;

/** enum nft_payload_bases */
const BASES: readonly ExpressionOf<'payload'>['base'][] = ['link', 'network', 'transport', 'inner'];

export const payload: Codec<'payload'> = {
  name: 'payload',
  write(writer, { base, offset, length, register }) {
    writeRegister(writer, NFTA_PAYLOAD_DREG, register);
    writer.be32(NFTA_PAYLOAD_BASE, BASES.indexOf(base));
    writer.be32(NFTA_PAYLOAD_OFFSET, offset);
    writer.be32(NFTA_PAYLOAD_LEN, length);
  },
  read(attributes) {
    const register = attributes.get(NFTA_PAYLOAD_DREG);
    const base = BASES[required(attributes, NFTA_PAYLOAD_BASE, 'the base of a payload').be32()];
    if (register === undefined || base === undefined) return undefined;
    return {
      expr: 'payload',
      base,
      offset: required(attributes, NFTA_PAYLOAD_OFFSET, 'the offset of a payload').be32(),
      length: required(attributes, NFTA_PAYLOAD_LEN, 'the length of a payload').be32(),
      register: readRegister(register),
    };
  },
};
