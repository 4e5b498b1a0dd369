/** A token bucket: the rule goes on while there are tokens, with `over` while there are none (enum nft_limit_attributes). */
import { required } from '../../netlink/attributes.ts';
import type { Codec, ExpressionOf } from './codec.ts';

const NFTA_LIMIT_RATE = 1;
const NFTA_LIMIT_UNIT = 2;
const NFTA_LIMIT_BURST = 3;
const NFTA_LIMIT_TYPE = 4;
const NFTA_LIMIT_FLAGS = 5;
const NFT_LIMIT_F_INV = 1;

/** enum nft_limit_type */
const UNITS: readonly ExpressionOf<'limit'>['unit'][] = ['packets', 'bytes'];

type Period = ExpressionOf<'limit'>['per'];
const SECONDS: Readonly<Record<Period, bigint>> = { second: 1n, minute: 60n, hour: 3600n, day: 86400n, week: 604800n };
const PERIODS: ReadonlyMap<bigint, Period> = new Map(Object.entries(SECONDS).map(([name, seconds]) => [seconds, name as Period]));

export const limit: Codec<'limit'> = {
  name: 'limit',
  write(writer, { unit, rate, per, burst, over }) {
    writer.be64(NFTA_LIMIT_RATE, rate);
    writer.be64(NFTA_LIMIT_UNIT, SECONDS[per]);
    writer.be32(NFTA_LIMIT_BURST, burst);
    writer.be32(NFTA_LIMIT_TYPE, UNITS.indexOf(unit));
    writer.be32(NFTA_LIMIT_FLAGS, over === true ? NFT_LIMIT_F_INV : 0);
  },
  read(attributes) {
    const flags = attributes.get(NFTA_LIMIT_FLAGS)?.be32() ?? 0;
    const unit = UNITS[attributes.get(NFTA_LIMIT_TYPE)?.be32() ?? 0];
    const per = PERIODS.get(required(attributes, NFTA_LIMIT_UNIT, 'the period of a limit').be64());
    if (unit === undefined || per === undefined || (flags & ~NFT_LIMIT_F_INV) !== 0) return undefined;
    return {
      expr: 'limit',
      unit,
      rate: required(attributes, NFTA_LIMIT_RATE, 'the rate of a limit').be64(),
      per,
      burst: attributes.get(NFTA_LIMIT_BURST)?.be32() ?? 0,
      ...(flags === NFT_LIMIT_F_INV && { over: true }),
    };
  },
};
