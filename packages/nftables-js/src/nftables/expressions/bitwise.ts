/** (source & mask) ^ xor (enum nft_bitwise_attributes). Shifts, and the operations on two registers of Linux 6.13, are not covered. */
import { required } from '../../netlink/attributes.ts';
import { NetlinkError } from '../../netlink/errors.ts';
import type { Codec } from './codec.ts';
import { readRegister, writeRegister } from './register.ts';
import { readValue, writeValue } from './value.ts';

const NFTA_BITWISE_SREG = 1;
const NFTA_BITWISE_DREG = 2;
const NFTA_BITWISE_LEN = 3;
const NFTA_BITWISE_MASK = 4;
const NFTA_BITWISE_XOR = 5;
const NFTA_BITWISE_OP = 6;
const NFT_BITWISE_MASK_XOR = 0;

export const bitwise: Codec<'bitwise'> = {
  name: 'bitwise',
  write(writer, { source, destination, mask, xor }) {
    if (mask.length !== xor.length)
      throw new NetlinkError('ERR_INVALID', `a bitwise with a mask of ${mask.length} bytes and an xor of ${xor.length}`);
    writeRegister(writer, NFTA_BITWISE_SREG, source);
    writeRegister(writer, NFTA_BITWISE_DREG, destination);
    // Without NFTA_BITWISE_OP, which kernels before 5.6 do not know, it is mask and xor.
    writer.be32(NFTA_BITWISE_LEN, mask.length);
    writeValue(writer, NFTA_BITWISE_MASK, mask);
    writeValue(writer, NFTA_BITWISE_XOR, xor);
  },
  read(attributes) {
    if ((attributes.get(NFTA_BITWISE_OP)?.be32() ?? NFT_BITWISE_MASK_XOR) !== NFT_BITWISE_MASK_XOR) return undefined;
    return {
      expr: 'bitwise',
      source: readRegister(required(attributes, NFTA_BITWISE_SREG, 'the source of a bitwise')),
      destination: readRegister(required(attributes, NFTA_BITWISE_DREG, 'the destination of a bitwise')),
      mask: readValue(required(attributes, NFTA_BITWISE_MASK, 'the mask of a bitwise')),
      xor: readValue(required(attributes, NFTA_BITWISE_XOR, 'the xor of a bitwise')),
    };
  },
};
