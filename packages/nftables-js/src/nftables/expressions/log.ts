/**
 * Logs the packet: to an NFLOG group, or to the kernel's log (enum nft_log_attributes).
 * The kernel answers with level 4 (warning) where none was given, so this level is left away when reading.
 */
import type { Codec } from './codec.ts';

const NFTA_LOG_GROUP = 1;
const NFTA_LOG_PREFIX = 2;
const NFTA_LOG_SNAPLEN = 3;
const NFTA_LOG_QTHRESHOLD = 4;
const NFTA_LOG_LEVEL = 5;
const NFTA_LOG_FLAGS = 6;
const LEVEL_WARNING = 4;

export const log: Codec<'log'> = {
  name: 'log',
  write(writer, { prefix, group, snaplen, queueThreshold, level, flags }) {
    if (prefix !== undefined) writer.string(NFTA_LOG_PREFIX, prefix);
    if (group !== undefined) writer.be16(NFTA_LOG_GROUP, group);
    if (snaplen !== undefined) writer.be32(NFTA_LOG_SNAPLEN, snaplen);
    if (queueThreshold !== undefined) writer.be16(NFTA_LOG_QTHRESHOLD, queueThreshold);
    if (level !== undefined) writer.be32(NFTA_LOG_LEVEL, level);
    if (flags !== undefined) writer.be32(NFTA_LOG_FLAGS, flags);
  },
  read(attributes) {
    const prefix = attributes.get(NFTA_LOG_PREFIX)?.string();
    const group = attributes.get(NFTA_LOG_GROUP)?.be16();
    const snaplen = attributes.get(NFTA_LOG_SNAPLEN)?.be32();
    const queueThreshold = attributes.get(NFTA_LOG_QTHRESHOLD)?.be16();
    const level = attributes.get(NFTA_LOG_LEVEL)?.be32();
    const flags = attributes.get(NFTA_LOG_FLAGS)?.be32();
    return {
      expr: 'log',
      ...(prefix !== undefined && { prefix }),
      ...(group !== undefined && { group }),
      ...(snaplen !== undefined && { snaplen }),
      ...(queueThreshold !== undefined && { queueThreshold }),
      ...(level !== undefined && level !== LEVEL_WARNING && { level }),
      ...(flags !== undefined && { flags }),
    };
  },
};
