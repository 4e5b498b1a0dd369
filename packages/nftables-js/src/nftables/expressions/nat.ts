/**
 * Source or destination NAT to what is in registers (enum nft_nat_attributes).
 * The kernel answers with more than it was told: an upper end equal to the lower, and the flags that say that there are addresses
 * or ports. Both are left away when reading.
 */
import { type Attributes, type MessageWriter, required } from '../../netlink/attributes.ts';
import type { Register } from '../../types.ts';
import type { Codec, ExpressionOf } from './codec.ts';
import { readRegister, writeRegister } from './register.ts';

const NFTA_NAT_TYPE = 1;
const NFTA_NAT_FAMILY = 2;
const NFTA_NAT_REG_ADDR_MIN = 3;
const NFTA_NAT_REG_ADDR_MAX = 4;
const NFTA_NAT_REG_PROTO_MIN = 5;
const NFTA_NAT_REG_PROTO_MAX = 6;
const NFTA_NAT_FLAGS = 7;
const NF_NAT_RANGE_MAP_IPS = 0x1;
const NF_NAT_RANGE_PROTO_SPECIFIED = 0x2;

/** enum nft_nat_types */
const TYPES: readonly ExpressionOf<'nat'>['type'][] = ['snat', 'dnat'];
const FAMILIES: Readonly<Record<ExpressionOf<'nat'>['family'], number>> = { ip: 2, ip6: 10 };

function writeOptional(writer: MessageWriter, attribute: number, register: Register | undefined): void {
  if (register !== undefined) writeRegister(writer, attribute, register);
}

function readOptional(attributes: Attributes, type: number): Register | undefined {
  const attribute = attributes.get(type);
  return attribute === undefined ? undefined : readRegister(attribute);
}

export const nat: Codec<'nat'> = {
  name: 'nat',
  write(writer, { type, family, addressMin, addressMax, portMin, portMax, flags }) {
    writer.be32(NFTA_NAT_TYPE, TYPES.indexOf(type));
    writer.be32(NFTA_NAT_FAMILY, FAMILIES[family]);
    writeOptional(writer, NFTA_NAT_REG_ADDR_MIN, addressMin);
    writeOptional(writer, NFTA_NAT_REG_ADDR_MAX, addressMax);
    writeOptional(writer, NFTA_NAT_REG_PROTO_MIN, portMin);
    writeOptional(writer, NFTA_NAT_REG_PROTO_MAX, portMax);
    const allFlags = (flags ?? 0) | (portMin === undefined ? 0 : NF_NAT_RANGE_PROTO_SPECIFIED);
    if (allFlags !== 0) writer.be32(NFTA_NAT_FLAGS, allFlags);
  },
  read(attributes) {
    const type = TYPES[required(attributes, NFTA_NAT_TYPE, 'the type of a nat').be32()];
    const number = required(attributes, NFTA_NAT_FAMILY, 'the family of a nat').be32();
    const family = number === FAMILIES.ip ? 'ip' : number === FAMILIES.ip6 ? 'ip6' : undefined;
    if (type === undefined || family === undefined) return undefined;
    const addressMin = readOptional(attributes, NFTA_NAT_REG_ADDR_MIN);
    const addressMax = readOptional(attributes, NFTA_NAT_REG_ADDR_MAX);
    const portMin = readOptional(attributes, NFTA_NAT_REG_PROTO_MIN);
    const portMax = readOptional(attributes, NFTA_NAT_REG_PROTO_MAX);
    const flags = (attributes.get(NFTA_NAT_FLAGS)?.be32() ?? 0) & ~(NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED);
    return {
      expr: 'nat',
      type,
      family,
      ...(addressMin !== undefined && { addressMin }),
      ...(addressMax !== undefined && addressMax !== addressMin && { addressMax }),
      ...(portMin !== undefined && { portMin }),
      ...(portMax !== undefined && portMax !== portMin && { portMax }),
      ...(flags !== 0 && { flags }),
    };
  },
};
