/**
 * Says of an address that several pods claim who they are, once, and when that is over. While it lasts it may be a pod that has gone and whose
 * object is still there, or a node that says of its pods what is not so.
 */
import type { Cluster } from '../cluster/cluster.ts';
import type { Logger } from './log.ts';

/** So many are told of at a time: a faulty node may claim them all. */
const TOLD = 20;
/** How long one has to last: the address of a pod that ends is given to the next soon. */
const LASTS_MS = 10_000;

export class DisputedAddresses {
  readonly #cluster: Cluster;
  readonly #log: Logger;
  /** By address: since when (performance.now), and whether it has been told. */
  readonly #known = new Map<string, { readonly since: number; told: boolean }>();

  constructor(cluster: Cluster, log: Logger) {
    this.#cluster = cluster;
    this.#log = log;
  }

  /** Looks which there are now. To be called after every commit. */
  tell(now: number = performance.now()): void {
    const disputes = [...this.#cluster.disputes(TOLD)];
    if (disputes.length === 0 && this.#known.size === 0) return;
    for (const { address, owner, others, count } of disputes) {
      const known = this.#known.get(address);
      if (known === undefined) this.#known.set(address, { since: now, told: false });
      if (known === undefined || known.told || now - known.since < LASTS_MS) continue;
      known.told = true;
      const fields = { code: 'ADDRESS_DISPUTED', address, owner, others, claims: count };
      this.#log.warn(fields, 'several pods claim one address: as a peer it is the first one’s, and all isolate it that run on this node');
    }
    const current = new Set(disputes.map(({ address }) => address));
    for (const [address, { told }] of this.#known) {
      if (current.has(address)) continue;
      this.#known.delete(address);
      if (told) this.#log.info({ address }, 'the address is claimed by one pod');
    }
  }
}
