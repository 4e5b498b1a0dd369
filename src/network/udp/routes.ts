/** Where packets go: the peers' subnets, and the longest that holds an address. */

/** What a subnet is reached by. */
export interface NextHop {
  readonly address: number;
  readonly port: number;
  /** So many messages to it are still to go one packet each: trains of packets were refused. */
  trainsOffFor: number;
}

interface OfLength {
  readonly length: number;
  readonly mask: number;
  /** By network address, as a signed number. */
  readonly hops: Map<number, NextHop>;
}

/**
 * A hash table for each length of prefix in use, and the longest is asked first. Nodes of a cluster have subnets of one length, so
 * finding one takes a single look however many nodes there are. Addresses are numbers, signed or not.
 */
export class RouteTable {
  /** The longest first. */
  #lengths: OfLength[] = [];

  set(network: number, length: number, hop: NextHop): void {
    let of = this.#lengths.find((candidate) => candidate.length === length);
    if (of === undefined) {
      of = { length, mask: maskOf(length), hops: new Map() };
      this.#lengths = [...this.#lengths, of].toSorted((a, b) => b.length - a.length);
    }
    of.hops.set(network & of.mask, hop);
  }

  delete(network: number, length: number): void {
    this.#lengths.find((candidate) => candidate.length === length)?.hops.delete(network & maskOf(length));
    this.#lengths = this.#lengths.filter(({ hops }) => hops.size > 0);
  }

  find(address: number): NextHop | undefined {
    const lengths = this.#lengths;
    for (let index = 0; index < lengths.length; index++) {
      const of = lengths[index];
      const hop = of?.hops.get(address & of.mask);
      if (hop !== undefined) return hop;
    }
    return undefined;
  }
}

function maskOf(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}
