/** What Prometheus is told of the network of this node. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import type { NetworkObject } from '../network/node-network.ts';
import { droppedLines } from './log-metrics.ts';

/** Read when somebody asks. */
export interface NetworkState {
  readonly ready: boolean;
  readonly peers: number;
  /** Peers with something wrong. */
  readonly troubledPeers: number;
  /** Neighbours, forwarding entries and routes that are wanted. */
  readonly entries: number;
  /** Things that the kernel refuses. */
  readonly refused: number;
}

const PREFIX = 'sluice_network_';

export class NetworkMetrics {
  readonly #registry = new Registry();
  readonly #changes: Counter<'object' | 'cause'>;
  readonly #comparisons: Histogram;
  readonly #failures: Counter;
  /** Set when somebody asks. */
  readonly #gauges: ((state: NetworkState) => void)[] = [];
  #state: (() => NetworkState) | undefined;

  constructor({ version }: { readonly version: string }) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    new Gauge({ name: 'sluice_build_info', help: 'Version of sluice; always 1.', labelNames: ['version'], registers }).set({ version }, 1);
    this.#changes = new Counter({
      name: `${PREFIX}changes_total`,
      help: 'Things made, changed or removed. cause: wanted (the cluster changed), repair (somebody else had changed it), stale (left over).',
      labelNames: ['object', 'cause'],
      registers,
    });
    this.#comparisons = new Histogram({
      name: `${PREFIX}comparison_seconds`,
      help: 'How long comparing everything with the kernel took.',
      buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
      registers,
    });
    this.#failures = new Counter({
      name: `${PREFIX}failures_total`,
      help: 'Things that could not be done; they are tried again.',
      registers,
    });
    const gauge = (name: string, help: string, value: (state: NetworkState) => number): void => {
      const of = new Gauge({ name: `${PREFIX}${name}`, help, registers });
      this.#gauges.push((state) => of.set(value(state)));
    };
    gauge('ready', '1 while everything that is wanted is in the kernel, and the peers have been told.', ({ ready }) => Number(ready));
    gauge('peers', 'Other nodes that have a lease.', ({ peers }) => peers);
    gauge('troubled_peers', 'Peers that cannot be reached as they should; the log says why.', ({ troubledPeers }) => troubledPeers);
    gauge('entries', 'Neighbours, forwarding entries and routes that are wanted.', ({ entries }) => entries);
    gauge('refused', 'Things that the kernel refuses at the moment.', ({ refused }) => refused);
  }

  /** What the gauges are read from. */
  describe(state: () => NetworkState): void {
    this.#state = state;
  }

  /** How many lines of the log were dropped, looked up when somebody asks. */
  describeLog(dropped: () => number): void {
    this.#registry.registerMetric(droppedLines(dropped));
  }

  changed(object: NetworkObject, cause: string): void {
    this.#changes.inc({ object, cause });
  }

  compared(durationMs: number): void {
    this.#comparisons.observe(durationMs / 1000);
  }

  failed(): void {
    this.#failures.inc();
  }

  async page(): Promise<{ status: number; type: string; body: string }> {
    const state = this.#state?.();
    if (state !== undefined) for (const set of this.#gauges) set(state);
    return { status: 200, type: this.#registry.contentType, body: await this.#registry.metrics() };
  }
}
