/**
 * Leases of a cluster: Nodes and their annotations, as flannel's kube-subnet-mgr has them. Everything is a watch, one for all nodes; this
 * node's own annotations are compared with what was announced whenever its Node changes, so that what somebody removes comes back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../kubernetes/api/errors.ts';
import { Backoff } from '../kubernetes/api/backoff.ts';
import type { ApiClient } from '../kubernetes/api/client.ts';
import { Reflector, versionOf } from '../kubernetes/api/reflector.ts';
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
/** Between two repairs, so that somebody who insists on something else costs little. */
const REPAIR_GAP_MS = 500;

export interface KubernetesLeasesOptions {
  readonly client: Pick<ApiClient, 'get' | 'call'>;
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
  /** Nodes of which something wrong has been told. */
  readonly #troubled = new Set<string>();
  /** Nodes that a list under way has brought so far. */
  #seen: Set<string> | undefined;
  #listener: LeaseSourceListener | undefined;
  #reflector: Reflector | undefined;
  #synced = false;
  #own: OwnNode = NO_NODE;
  /** Version of the own Node that the watch brought last. */
  #heardVersion: string | undefined;
  /** The watch brought another version while a request was under way: nobody can tell which of the two is the older. */
  #isOutdated = false;
  /** Whether the own Node says anything of its network being available. */
  #hasCondition = false;
  #announcement: Announcement | undefined;
  /** The announcement has been told once: a difference is somebody else's doing. */
  #announced = false;
  /** So has that the network is available. */
  #available = false;
  #telling: Promise<void> = Promise.resolve();
  /** What is told after that. */
  #next: Promise<void> | undefined;
  #repairTimer: NodeJS.Timeout | undefined;
  #repairedAt = Number.NEGATIVE_INFINITY;

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
    clearTimeout(this.#repairTimer);
    await this.#reflector?.stop();
    await this.#next?.catch(() => undefined);
    await this.#telling.catch(() => undefined);
  }

  // --- reading

  #listed(): void {
    const seen = this.#seen ?? new Set<string>();
    this.#seen = undefined;
    for (const node of [...this.#leases.keys(), ...this.#troubled]) if (!seen.has(node)) this.#forget(node);
    if (!seen.has(this.#options.node)) this.#setOwn(NO_NODE, false);
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
      this.#heardVersion = versionOf(object);
      this.#setOwn(own, hasNetworkCondition(object));
      return;
    }
    // What cannot be read leaves what was known: a typing error cuts nobody off.
    this.#tellProblems(name, reason !== undefined && (unreadable || lease !== undefined) ? [reason] : []);
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
    if (name === this.#options.node) this.#setOwn(NO_NODE, false);
    else this.#forget(name);
  }

  #forget(node: string): void {
    if (this.#leases.delete(node)) this.#listener?.remove(node);
    this.#tellProblems(node, []);
  }

  #tellProblems(node: string, problems: readonly string[]): void {
    const wasTroubled = this.#troubled.delete(node);
    if (problems.length > 0) this.#troubled.add(node);
    else if (!wasTroubled) return;
    this.#listener?.problems(node, problems);
  }

  #setOwn(own: OwnNode, hasCondition: boolean): void {
    this.#own = own;
    this.#hasCondition = hasCondition;
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
    this.#tellProblems(this.#options.node, own.problems);
    this.#listener?.own(lease);
    this.#repairSoon();
  }

  // --- telling

  #difference(): Record<string, string> | undefined {
    const announcement = this.#announcement;
    return announcement === undefined ? undefined : ownAnnotations(announcement, this.#own.annotations, this.#names);
  }

  /** Somebody may have changed what was announced; a Node that was made anew says nothing of it. */
  get #isChanged(): boolean {
    return this.#own.exists && this.#announced && (this.#isOutdated || this.#difference() !== undefined || this.#lacksCondition);
  }

  /** Gone, that is: who sets it to something else may know better. */
  get #lacksCondition(): boolean {
    return this.#available && this.#options.setsCondition && !this.#hasCondition;
  }

  #repairSoon(): void {
    if (!this.#isChanged || this.#stopping.signal.aborted) return;
    const waitMs = Math.max(0, this.#repairedAt + REPAIR_GAP_MS - performance.now());
    this.#repairTimer ??= setTimeout(() => void this.#repair(), waitMs);
  }

  async #repair(): Promise<void> {
    try {
      // What this daemon has told itself may come after what was there before.
      if (this.#isChanged) {
        this.#repairedAt = performance.now();
        this.#isOutdated = false;
        await this.#tell();
        if (this.#own.exists && this.#lacksCondition) {
          await this.available();
          this.#options.onRepair('condition NetworkUnavailable written again');
        }
      }
    } catch {
      // It has been stopped.
    }
    this.#repairTimer = undefined;
    this.#repairSoon();
  }

  async announce(announcement: Announcement): Promise<void> {
    this.#announcement = announcement;
    this.#announced = false;
    await this.#tell();
    this.#announced = true;
    this.#repairSoon();
  }

  /** Until it is told, or there is nothing to tell. One at a time; all who come meanwhile are served by the next one. */
  #tell(): Promise<void> {
    this.#next ??= this.#telling
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        this.#telling = this.#tellNow();
        return this.#telling;
      });
    return this.#next;
  }

  async #tellNow(): Promise<void> {
    const wasAnnounced = this.#announced;
    const { client, node } = this.#options;
    await this.#persist('telling the peers of this node', async () => {
      try {
        // What the watch has brought may be older than what was told last.
        const path = `${NODES}/${encodeURIComponent(node)}`;
        await this.#take(client.call({ method: 'GET', path, signal: this.#stopping.signal }));
      } catch (error) {
        if (!wasAnnounced || !(error instanceof ApiError) || error.status !== 404) throw error;
        // The watch says when it comes back.
        this.#own = NO_NODE;
        return;
      }
      const difference = this.#difference();
      if (difference === undefined) return;
      await this.#take(this.#patch(annotationsPatch(difference)));
      if (wasAnnounced) this.#options.onRepair(`annotations written again: ${Object.keys(difference).join(', ')}`);
    });
  }

  /** The own Node, as an answer has it. */
  async #take(answer: Promise<{ readonly object: unknown }>): Promise<void> {
    const heard = this.#heardVersion;
    const { object } = await answer;
    // Somebody may have changed it behind what is answered, and the watch was faster.
    if (this.#heardVersion !== heard && this.#heardVersion !== versionOf(object)) this.#isOutdated = true;
    this.#own = readNodeLease(object, { prefix: this.#options.prefix, ipv4: true, ipv6: true }).own;
    this.#hasCondition = hasNetworkCondition(object);
  }

  async available(): Promise<void> {
    if (!this.#options.setsCondition) return;
    await this.#persist('telling that the network of this node is available', async () => {
      await this.#take(this.#patch(networkAvailablePatch(new Date())));
    });
    this.#available = true;
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

function hasNetworkCondition(node: unknown): boolean {
  const status = isFields(node) ? node['status'] : undefined;
  const conditions = isFields(status) ? status['conditions'] : undefined;
  return Array.isArray(conditions) && conditions.some((each: unknown) => isFields(each) && each['type'] === 'NetworkUnavailable');
}
