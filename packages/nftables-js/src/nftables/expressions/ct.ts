/** Loads what connection tracking knows of the packet's flow, or sets it (enum nft_ct_attributes, nft_ct_keys). */
import { type Attribute, type MessageWriter, required } from '../../netlink/attributes.ts';
import { MalformedError } from '../../netlink/errors.ts';
import type { CtKey } from '../../types.ts';
import type { Codec, ExpressionOf } from './codec.ts';
import { readRegister, writeRegister } from './register.ts';

const NFTA_CT_DREG = 1;
const NFTA_CT_KEY = 2;
const NFTA_CT_DIRECTION = 3;
const NFTA_CT_SREG = 4;

/** enum nft_ct_keys */
const KEYS: Readonly<Record<CtKey, number>> = {
  state: 0,
  direction: 1,
  status: 2,
  mark: 3,
  expiration: 5,
  helper: 6,
  l3protocol: 7,
  protocol: 10,
  proto_src: 11,
  proto_dst: 12,
  labels: 13,
  zone: 17,
  src_ip: 19,
  dst_ip: 20,
  src_ip6: 21,
  dst_ip6: 22,
  id: 23,
};
const KEY_NAMES: ReadonlyMap<number, CtKey> = new Map(Object.entries(KEYS).map(([name, key]) => [key, name as CtKey]));

type Direction = NonNullable<ExpressionOf<'ct'>['direction']>;
/** enum ip_conntrack_dir */
const DIRECTIONS: readonly Direction[] = ['original', 'reply'];

function writeDirection(writer: MessageWriter, direction: Direction | undefined): void {
  if (direction !== undefined) writer.u8(NFTA_CT_DIRECTION, DIRECTIONS.indexOf(direction));
}

function readDirection(attribute: Attribute | undefined): { readonly direction?: Direction } {
  if (attribute === undefined) return {};
  const direction = DIRECTIONS[attribute.u8()];
  if (direction === undefined) throw new MalformedError(`the unknown direction ${attribute.u8()} of a ct`);
  return { direction };
}

export const ct: Codec<'ct' | 'ctSet'> = {
  name: 'ct',
  write(writer, { expr, key, register, direction }) {
    writer.be32(NFTA_CT_KEY, KEYS[key]);
    writeRegister(writer, expr === 'ct' ? NFTA_CT_DREG : NFTA_CT_SREG, register);
    writeDirection(writer, direction);
  },
  read(attributes) {
    const key = KEY_NAMES.get(required(attributes, NFTA_CT_KEY, 'the key of a ct').be32());
    if (key === undefined) return undefined;
    const source = attributes.get(NFTA_CT_SREG);
    const register = source ?? required(attributes, NFTA_CT_DREG, 'the register of a ct');
    return {
      expr: source === undefined ? 'ct' : 'ctSet',
      key,
      register: readRegister(register),
      ...readDirection(attributes.get(NFTA_CT_DIRECTION)),
    };
  },
};
