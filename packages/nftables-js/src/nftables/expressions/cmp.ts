/** Compares a register with a value; the rule goes on only if it holds (enum nft_cmp_attributes). */
import { required } from '../../netlink/attributes.ts';
import { MalformedError } from '../../netlink/errors.ts';
import type { ComparisonOp } from '../../types.ts';
import type { Codec } from './codec.ts';
import { readRegister, writeRegister } from './register.ts';
import { readValue, writeValue } from './value.ts';

const NFTA_CMP_SREG = 1;
const NFTA_CMP_OP = 2;
const NFTA_CMP_DATA = 3;

/** enum nft_cmp_ops */
const OPS: readonly ComparisonOp[] = ['eq', 'neq', 'lt', 'lte', 'gt', 'gte'];

export const cmp: Codec<'cmp'> = {
  name: 'cmp',
  write(writer, { op, register, value }) {
    writeRegister(writer, NFTA_CMP_SREG, register);
    writer.be32(NFTA_CMP_OP, OPS.indexOf(op));
    writeValue(writer, NFTA_CMP_DATA, value);
  },
  read(attributes) {
    const number = required(attributes, NFTA_CMP_OP, 'the operator of a cmp').be32();
    const op = OPS[number];
    if (op === undefined) throw new MalformedError(`the unknown operator ${number} of a cmp`);
    return {
      expr: 'cmp',
      op,
      register: readRegister(required(attributes, NFTA_CMP_SREG, 'the register of a cmp')),
      value: readValue(required(attributes, NFTA_CMP_DATA, 'the value of a cmp')),
    };
  },
};
