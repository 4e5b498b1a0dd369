/**
 * Leases of a cluster: Nodes and their annotations, as flannel's kube-subnet-mgr has them. Everything is a watch, one for all nodes; this
 * node's own annotations are compared with what was announced whenever its Node changes, so that what somebody removes comes back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../kubernetes/api/errors.ts';
import { Backoff } from '../kubernetes/api/backoff.ts';
import type { ApiClient } from '../kubernetes/api/client.ts';
import { Reflector } from '../kubernetes/api/reflector.ts';
import { parseAddress } from '../policy/address.ts';
import { isFields } from '../policy/problems.ts';
import { type Lease, type OwnNode, sameLease } from './lease.ts';
import type { Announcement, LeaseSource, LeaseSourceListener } from './lease-source.ts';
import type { NetConf } from './net-conf.ts';
import {
  type AnnotationNames,
  annotationNames,
  annotationsPatch,
  networkAvailablePatch,
  NO_NODE,
  ownAnnotations,
  ownSubnets,
  readNodeLease,
  storedVtepAddress,
} from './node-lease.ts';

const STRATEGIC = 'application/strategic-merge-patch+json';
const NODES = '/api/v1/nodes';

export interface KubernetesLeasesOptions {
  readonly client: ApiClient;
  readonly node: string;
  readonly conf: NetConf;
  /** Of annotations. */
  readonly prefix: string;
  /** Whether to tell that pods may come (the condition NetworkUnavailable). */
  readonly setsCondition: boolean;
  /** Somebody had changed what this node tells; it is told again. */
  readonly onRepair: (what: string) => void;
}

export class KubernetesLeases implements LeaseSource {
  readonly #options: KubernetesLeasesOptions;
  readonly #names: AnnotationNames;
  readonly #stopping = new AbortController();
  readonly #leases = new Map<string, Lease>();
  /** Nodes that a list under way has brought so far. */
  #seen: Set<string> | undefined;
  #listener: LeaseSourceListener | undefined;
  #reflector: Reflector | undefined;
  #synced = false;
  #own: OwnNode = NO_NODE;
  #announcement: Announcement | undefined;
  /** The announcement has been told once: a difference is somebody else's doing. */
  #announced = false;
  #telling: Promise<void> | undefined;

  /** @throws SluiceError `ANNOTATION_PREFIX_INVALID` */
  constructor(options: KubernetesLeasesOptions) {
    this.#options = options;
    this.#names = annotationNames(options.prefix);
  }

  start(listener: LeaseSourceListener): void {
    this.#listener = listener;
    this.#reflector = new Reflector({
      path: NODES,
      client: this.#options.client,
      receiver: {
        listing: () => {
          this.#seen = new Set();
        },
        listed: () => this.#listed(),
        upsert: (object) => this.#upsert(object),
        remove: (object) => this.#removed(object),
        flush: () => undefined,
      },
      observer: {
        failed: (error, retryMs) => listener.failed('following the nodes of the cluster', error, retryMs),
        heard: () => undefined,
        listing: () => undefined,
      },
    });
    this.#reflector.start();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#reflector?.stop();
    await this.#telling?.catch(() => undefined);
  }

  // --- reading

  #listed(): void {
    const seen = this.#seen ?? new Set<string>();
    this.#seen = undefined;
    for (const node of this.#leases.keys()) if (!seen.has(node)) this.#forget(node);
    if (!seen.has(this.#options.node)) this.#setOwn(NO_NODE);
    if (this.#synced) return;
    this.#synced = true;
    this.#listener?.synced();
  }

  #upsert(object: unknown): void {
    const { prefix, conf, node } = this.#options;
    const { name, lease, reason, unreadable, own } = readNodeLease(object, { prefix, ipv4: conf.enableIPv4, ipv6: conf.enableIPv6 });
    if (name === undefined) return;
    this.#seen?.add(name);
    if (name === node) {
      this.#setOwn(own);
      return;
    }
    // What cannot be read leaves what was known: a typing error cuts nobody off.
    this.#listener?.problems(name, reason !== undefined && (unreadable || lease !== undefined) ? [reason] : []);
    if (lease === undefined) {
      if (!unreadable) this.#forget(name);
      return;
    }
    if (sameLease(this.#leases.get(name), lease)) return;
    this.#leases.set(name, lease);
    this.#listener?.upsert(lease);
  }

  #removed(object: unknown): void {
    const metadata = isFields(object) ? object['metadata'] : undefined;
    const name = isFields(metadata) ? metadata['name'] : undefined;
    // Nobody can tell which node is gone: a new list will.
    if (typeof name !== 'string') throw new ApiError('API_GONE', 'a Node without a name was deleted');
    if (name === this.#options.node) this.#setOwn(NO_NODE);
    else this.#forget(name);
  }

  #forget(node: string): void {
    if (this.#leases.delete(node)) this.#listener?.remove(node);
  }

  #setOwn(own: OwnNode): void {
    this.#own = own;
    const { conf } = this.#options;
    let lease: Parameters<LeaseSourceListener['own']>[0];
    try {
      const subnets = ownSubnets(own, conf);
      const address = (name: string) => parseAddress(own.annotations.get(name) ?? '');
      lease =
        'waiting' in subnets
          ? subnets
          : {
              v4: subnets.v4,
              v6: subnets.v6,
              vtep: { 4: storedVtepAddress(own.annotations, 4), 6: storedVtepAddress(own.annotations, 6) },
              publicAddress: { 4: address('node-public-ip'), 6: address('node-public-ipv6') },
            };
    } catch (error) {
      lease = { waiting: error instanceof Error ? error.message : String(error) };
    }
    this.#listener?.problems(this.#options.node, own.problems);
    this.#listener?.own(lease);
    // Somebody may have changed what was announced.
    if (this.#announced && own.exists && this.#difference() !== undefined) {
      // A Node that was made anew has lost the condition too.
      void this.#tell()
        .then(() => this.available())
        .catch(() => undefined);
    }
  }

  // --- telling

  #difference(): Record<string, string> | undefined {
    const announcement = this.#announcement;
    return announcement === undefined ? undefined : ownAnnotations(announcement, this.#own.annotations, this.#names);
  }

  async announce(announcement: Announcement): Promise<void> {
    this.#announcement = announcement;
    this.#announced = false;
    await this.#tell();
    this.#announced = true;
  }

  /** Until it is told, or there is nothing to tell. One at a time. */
  async #tell(): Promise<void> {
    await this.#telling?.catch(() => undefined);
    this.#telling = this.#tellNow();
    await this.#telling;
  }

  async #tellNow(): Promise<void> {
    const wasAnnounced = this.#announced;
    const { client, node } = this.#options;
    await this.#persist('telling the peers of this node', async () => {
      // What the watch has brought may be older than what was told last.
      const { object } = await client.call({ method: 'GET', path: `${NODES}/${encodeURIComponent(node)}`, signal: this.#stopping.signal });
      this.#own = this.#readOwn(object);
      const difference = this.#difference();
      if (difference === undefined) return;
      this.#own = this.#readOwn((await this.#patch(annotationsPatch(difference))).object);
      if (wasAnnounced) this.#options.onRepair(`annotations written again: ${Object.keys(difference).join(', ')}`);
    });
  }

  #readOwn(object: unknown): OwnNode {
    return readNodeLease(object, { prefix: this.#options.prefix, ipv4: true, ipv6: true }).own;
  }

  async available(): Promise<void> {
    if (!this.#options.setsCondition) return;
    await this.#persist('telling that the network of this node is available', () => this.#patch(networkAvailablePatch(new Date())));
  }

  #patch(body: string) {
    const path = `${NODES}/${encodeURIComponent(this.#options.node)}/status`;
    return this.#options.client.call({ method: 'PATCH', path, contentType: STRATEGIC, body, signal: this.#stopping.signal });
  }

  /** Tries until it works or this is stopped. */
  async #persist(doing: string, action: () => Promise<unknown>): Promise<void> {
    const backoff = new Backoff();
    const { signal } = this.#stopping;
    for (;;) {
      try {
        await action();
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        const wait = backoff.failed(error instanceof ApiError ? error.retryAfterMs : undefined);
        this.#listener?.failed(doing, error, wait);
        await sleep(wait, undefined, { signal });
      }
    }
  }
}
