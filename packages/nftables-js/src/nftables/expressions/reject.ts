/** Answers with an error and drops (enum nft_reject_attributes). `icmpx` chooses between ICMP and ICMPv6, for the family inet. */
import { required } from '../../netlink/attributes.ts';
import { MalformedError } from '../../netlink/errors.ts';
import type { Codec, ExpressionOf } from './codec.ts';

const NFTA_REJECT_TYPE = 1;
const NFTA_REJECT_ICMP_CODE = 2;

/** enum nft_reject_types */
const TYPES: readonly ExpressionOf<'reject'>['type'][] = ['icmp', 'tcp-reset', 'icmpx'];

export const reject: Codec<'reject'> = {
  name: 'reject',
  write(writer, { type, code = 0 }) {
    writer.be32(NFTA_REJECT_TYPE, TYPES.indexOf(type));
    writer.u8(NFTA_REJECT_ICMP_CODE, code);
  },
  read(attributes) {
    const number = required(attributes, NFTA_REJECT_TYPE, 'the type of a reject').be32();
    const type = TYPES[number];
    if (type === undefined) throw new MalformedError(`the unknown type ${number} of a reject`);
    const code = attributes.get(NFTA_REJECT_ICMP_CODE)?.u8();
    return { expr: 'reject', type, ...(code !== undefined && type !== 'tcp-reset' && { code }) };
  },
};
