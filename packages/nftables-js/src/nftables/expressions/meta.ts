/** Loads what is known of the packet besides its bytes, or sets it (enum nft_meta_attributes, nft_meta_keys). */
import { required } from '../../netlink/attributes.ts';
import type { MetaKey } from '../../types.ts';
import type { Codec } from './codec.ts';
import { readRegister, writeRegister } from './register.ts';

const NFTA_META_DREG = 1;
const NFTA_META_KEY = 2;
const NFTA_META_SREG = 3;

/** enum nft_meta_keys */
const KEYS: Readonly<Record<MetaKey, number>> = {
  len: 0,
  protocol: 1,
  priority: 2,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  oiftype: 9,
  skuid: 10,
  skgid: 11,
  nfproto: 15,
  l4proto: 16,
  bri_iifname: 17,
  bri_oifname: 18,
  pkttype: 19,
  cpu: 20,
  cgroup: 23,
};
const KEY_NAMES: ReadonlyMap<number, MetaKey> = new Map(Object.entries(KEYS).map(([name, key]) => [key, name as MetaKey]));

export const meta: Codec<'meta' | 'metaSet'> = {
  name: 'meta',
  write(writer, { expr, key, register }) {
    writer.be32(NFTA_META_KEY, KEYS[key]);
    writeRegister(writer, expr === 'meta' ? NFTA_META_DREG : NFTA_META_SREG, register);
  },
  read(attributes) {
    const key = KEY_NAMES.get(required(attributes, NFTA_META_KEY, 'the key of a meta').be32());
    if (key === undefined) return undefined;
    const source = attributes.get(NFTA_META_SREG);
    if (source !== undefined) return { expr: 'metaSet', key, register: readRegister(source) };
    return { expr: 'meta', key, register: readRegister(required(attributes, NFTA_META_DREG, 'the register of a meta')) };
  },
};
