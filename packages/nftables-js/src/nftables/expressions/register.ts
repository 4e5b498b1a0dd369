/**
 * Registers: 64 bytes, addressed as sixteen of 4 bytes (NFT_REG32_00 … 15) or four of 16 (NFT_REG_1 … 4), which are the same place.
 * This package counts in units of 4 bytes, and speaks like nft(8) and the kernel's own dumps: a register that begins one of the
 * four large ones is called by that name.
 */
import type { Attribute, MessageWriter } from '../../netlink/attributes.ts';
import { MalformedError, NetlinkError } from '../../netlink/errors.ts';
import type { Register } from '../../types.ts';

const NFT_REG_VERDICT = 0;
const NFT_REG_1 = 1;
const NFT_REG_4 = 4;
const NFT_REG32_00 = 8;
const COUNT = 16;

/** @throws NetlinkError ERR_INVALID unless it is from 0 to 15 */
export function writeRegister(writer: MessageWriter, attribute: number, register: Register | 'verdict'): void {
  if (register === 'verdict') {
    writer.be32(attribute, NFT_REG_VERDICT);
    return;
  }
  if (!Number.isInteger(register) || register < 0 || register >= COUNT)
    throw new NetlinkError('ERR_INVALID', `register ${register}: they are numbered from 0 to ${COUNT - 1}`);
  writer.be32(attribute, register % 4 === 0 ? NFT_REG_1 + register / 4 : NFT_REG32_00 + register);
}

/** @throws MalformedError where it is none of the registers for data */
export function readRegister(attribute: Attribute): Register {
  const register = readRegisterOrVerdict(attribute);
  if (register === 'verdict') throw new MalformedError('the verdict register where data are');
  return register;
}

/** @throws MalformedError */
export function readRegisterOrVerdict(attribute: Attribute): Register | 'verdict' {
  const number = attribute.be32();
  if (number === NFT_REG_VERDICT) return 'verdict';
  if (number <= NFT_REG_4) return (number - NFT_REG_1) * 4;
  if (number >= NFT_REG32_00 && number < NFT_REG32_00 + COUNT) return number - NFT_REG32_00;
  throw new MalformedError(`the unknown register ${number}`);
}
