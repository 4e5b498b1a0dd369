/** Counts packets and bytes (enum nft_counter_attributes); named counters have the same data. */
import type { Attributes, MessageWriter } from '../../netlink/attributes.ts';
import type { Codec } from './codec.ts';

const NFTA_COUNTER_BYTES = 1;
const NFTA_COUNTER_PACKETS = 2;

interface Counts {
  readonly packets: bigint;
  readonly bytes: bigint;
}

export function writeCounts(writer: MessageWriter, { packets, bytes }: Counts): void {
  // Counters begin at zero by themselves; there may be tens of thousands of them.
  if (bytes !== 0n) writer.be64(NFTA_COUNTER_BYTES, bytes);
  if (packets !== 0n) writer.be64(NFTA_COUNTER_PACKETS, packets);
}

/** @throws MalformedError */
export function readCounts(attributes: Attributes): Counts {
  return {
    packets: attributes.get(NFTA_COUNTER_PACKETS)?.be64() ?? 0n,
    bytes: attributes.get(NFTA_COUNTER_BYTES)?.be64() ?? 0n,
  };
}

export const counter: Codec<'counter'> = {
  name: 'counter',
  write: writeCounts,
  read: (attributes) => ({ expr: 'counter', ...readCounts(attributes) }),
};
