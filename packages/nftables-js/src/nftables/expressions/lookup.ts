/** Looks a register up in a set or map (enum nft_lookup_attributes). */
import { required } from '../../netlink/attributes.ts';
import type { Codec } from './codec.ts';
import { readRegister, readRegisterOrVerdict, writeRegister } from './register.ts';

const NFTA_LOOKUP_SET = 1;
const NFTA_LOOKUP_SREG = 2;
const NFTA_LOOKUP_DREG = 3;
const NFTA_LOOKUP_FLAGS = 5;
const NFT_LOOKUP_F_INV = 1;

export const lookup: Codec<'lookup'> = {
  name: 'lookup',
  write(writer, { set, register, destination, invert }) {
    writeRegister(writer, NFTA_LOOKUP_SREG, register);
    if (destination !== undefined) writeRegister(writer, NFTA_LOOKUP_DREG, destination);
    writer.string(NFTA_LOOKUP_SET, set);
    if (invert === true) writer.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  },
  read(attributes) {
    const destination = attributes.get(NFTA_LOOKUP_DREG);
    const flags = attributes.get(NFTA_LOOKUP_FLAGS)?.be32() ?? 0;
    if ((flags & ~NFT_LOOKUP_F_INV) !== 0) return undefined;
    return {
      expr: 'lookup',
      set: required(attributes, NFTA_LOOKUP_SET, 'the set of a lookup').string(),
      register: readRegister(required(attributes, NFTA_LOOKUP_SREG, 'the register of a lookup')),
      ...(destination !== undefined && { destination: readRegisterOrVerdict(destination) }),
      ...(flags === NFT_LOOKUP_F_INV && { invert: true }),
    };
  },
};
