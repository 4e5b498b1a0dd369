/** A flood of connections that are refused, from one pod, by a thread of its own. */
import { Worker } from 'node:worker_threads';
import type { Address } from '../../src/policy/address.ts';

export interface FloodOptions {
  /** Network namespace of the sender. */
  readonly netns: string;
  /** IPv4; tried in turn. */
  readonly targets: readonly Address[];
  readonly port: number;
  readonly perSecond: number;
}

export interface FloodWorkerData extends FloodOptions {
  readonly shared: SharedArrayBuffer;
}

/** Places in the shared memory: whether to go on, and how many were tried. */
export const FLOODING = 0;
export const STARTED = 1;

export class Flood {
  readonly #worker: Worker;
  readonly #counters: Int32Array;

  constructor(options: FloodOptions) {
    const shared = new SharedArrayBuffer(8);
    this.#counters = new Int32Array(shared);
    this.#worker = new Worker(new URL('flood-worker.ts', import.meta.url), {
      workerData: { ...options, shared } satisfies FloodWorkerData,
    });
  }

  set flooding(flooding: boolean) {
    Atomics.store(this.#counters, FLOODING, Number(flooding));
  }

  /** Connections that were tried since it was made. */
  get started(): number {
    return Atomics.load(this.#counters, STARTED);
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
