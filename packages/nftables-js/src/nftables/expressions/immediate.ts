/** Puts a value into a register, or decides: a verdict is an immediate for the verdict register (enum nft_immediate_attributes). */
import { required } from '../../netlink/attributes.ts';
import type { Codec } from './codec.ts';
import { readVerdict, writeVerdict } from '../verdict.ts';
import { readRegister, writeRegister } from './register.ts';
import { readValue, writeValue } from './value.ts';

const NFTA_IMMEDIATE_DREG = 1;
const NFTA_IMMEDIATE_DATA = 2;

export const immediate: Codec<'immediate' | 'verdict'> = {
  name: 'immediate',
  write(writer, expression) {
    if (expression.expr === 'immediate') {
      writeRegister(writer, NFTA_IMMEDIATE_DREG, expression.register);
      writeValue(writer, NFTA_IMMEDIATE_DATA, expression.value);
      return;
    }
    writeRegister(writer, NFTA_IMMEDIATE_DREG, 'verdict');
    const nest = writer.beginNested(NFTA_IMMEDIATE_DATA);
    writeVerdict(writer, expression);
    writer.endNested(nest);
  },
  read(attributes) {
    const data = required(attributes, NFTA_IMMEDIATE_DATA, 'the data of an immediate');
    const verdict = readVerdict(data.nested());
    if (verdict !== undefined) return { expr: 'verdict', ...verdict };
    const register = readRegister(required(attributes, NFTA_IMMEDIATE_DREG, 'the register of an immediate'));
    return { expr: 'immediate', register, value: readValue(data) };
  },
};
