/** Counts packets and bytes (enum nft_counter_attributes); named counters have the same data. */
import { type Attributes, type MessageWriter, required } from '../../netlink/attributes.ts';
import type { Codec } from './codec.ts';

const NFTA_COUNTER_BYTES = 1;
const NFTA_COUNTER_PACKETS = 2;

interface Counts {
  readonly packets: bigint;
  readonly bytes: bigint;
}

export function writeCounts(writer: MessageWriter, { packets, bytes }: Counts): void {
  writer.be64(NFTA_COUNTER_BYTES, bytes);
  writer.be64(NFTA_COUNTER_PACKETS, packets);
}

/** @throws MalformedError */
export function readCounts(attributes: Attributes): Counts {
  return {
    packets: required(attributes, NFTA_COUNTER_PACKETS, 'the packets of a counter').be64(),
    bytes: required(attributes, NFTA_COUNTER_BYTES, 'the bytes of a counter').be64(),
  };
}

export const counter: Codec<'counter'> = {
  name: 'counter',
  write: writeCounts,
  read: (attributes) => ({ expr: 'counter', ...readCounts(attributes) }),
};
