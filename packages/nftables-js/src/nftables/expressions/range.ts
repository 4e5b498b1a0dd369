/** Compares a register with a range, both ends inclusive (enum nft_range_attributes). */
import { required } from '../../netlink/attributes.ts';
import { MalformedError } from '../../netlink/errors.ts';
import type { Codec } from './codec.ts';
import { readRegister, writeRegister } from './register.ts';
import { readValue, writeValue } from './value.ts';

const NFTA_RANGE_SREG = 1;
const NFTA_RANGE_OP = 2;
const NFTA_RANGE_FROM_DATA = 3;
const NFTA_RANGE_TO_DATA = 4;

/** enum nft_range_ops */
const OPS = ['eq', 'neq'] as const;

export const range: Codec<'range'> = {
  name: 'range',
  write(writer, { op, register, from, to }) {
    writeRegister(writer, NFTA_RANGE_SREG, register);
    writer.be32(NFTA_RANGE_OP, OPS.indexOf(op));
    writeValue(writer, NFTA_RANGE_FROM_DATA, from);
    writeValue(writer, NFTA_RANGE_TO_DATA, to);
  },
  read(attributes) {
    const number = required(attributes, NFTA_RANGE_OP, 'the operator of a range').be32();
    const op = OPS[number];
    if (op === undefined) throw new MalformedError(`the unknown operator ${number} of a range`);
    return {
      expr: 'range',
      op,
      register: readRegister(required(attributes, NFTA_RANGE_SREG, 'the register of a range')),
      from: readValue(required(attributes, NFTA_RANGE_FROM_DATA, 'the beginning of a range')),
      to: readValue(required(attributes, NFTA_RANGE_TO_DATA, 'the end of a range')),
    };
  },
};
