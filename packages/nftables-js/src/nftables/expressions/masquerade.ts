/** Source NAT to the address of the outgoing interface (enum nft_masq_attributes). Port ranges are not covered. */
import type { Codec } from './codec.ts';

const NFTA_MASQ_FLAGS = 1;
const NFTA_MASQ_REG_PROTO_MIN = 2;

export const masquerade: Codec<'masquerade'> = {
  name: 'masq',
  write(writer, { flags }) {
    if (flags !== undefined && flags !== 0) writer.be32(NFTA_MASQ_FLAGS, flags);
  },
  read(attributes) {
    if (attributes.has(NFTA_MASQ_REG_PROTO_MIN)) return undefined;
    const flags = attributes.get(NFTA_MASQ_FLAGS)?.be32() ?? 0;
    return { expr: 'masquerade', ...(flags !== 0 && { flags }) };
  },
};
