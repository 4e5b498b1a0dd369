/** Handles on what goes on in the prober's thread: one long-lived flow, and one stream of probes at a constant rate. */
import type { Prober } from './prober/prober.ts';
import type { FlowCounts, FlowSide, StreamCounts } from './prober/protocol.ts';

const POLL_MS = 10;

/** A TCP connection or UDP exchange that is open. */
export class LabFlow {
  readonly #prober: Prober;
  readonly #flow: number;

  constructor(prober: Prober, flow: number) {
    this.#prober = prober;
    this.#flow = flow;
  }

  /** The client sends a message, or one every so many milliseconds until {@link stop}. */
  async clientSends(options: { readonly everyMs?: number } = {}): Promise<void> {
    await this.#prober.ask('sendOnFlow', { flow: this.#flow, from: 'client', everyMs: options.everyMs });
  }

  /** The same for the server. */
  async serverSends(options: { readonly everyMs?: number } = {}): Promise<void> {
    await this.#prober.ask('sendOnFlow', { flow: this.#flow, from: 'server', everyMs: options.everyMs });
  }

  /** Neither side sends any more; the flow stays open. */
  async stop(): Promise<void> {
    await this.#prober.ask('stopFlow', { flow: this.#flow });
  }

  /** How many messages each side has sent and received. Opening the flow has cost each side at least one. */
  counts(): Promise<FlowCounts> {
    return this.#prober.ask('countFlow', { flow: this.#flow });
  }

  /**
   * Sends messages from one side until one arrives at the other: true as soon as it does, false if none has within the time. What
   * was already there does not count; a TCP segment that was held up before does, as it would for a program.
   */
  async delivers(from: FlowSide, withinMs: number): Promise<boolean> {
    const to = from === 'client' ? 'server' : 'client';
    const before = (await this.counts())[to].received;
    const until = performance.now() + withinMs;
    for (let turn = 0; performance.now() < until; turn++) {
      // A UDP message can be lost; TCP repeats by itself.
      if (turn % 10 === 0) await this.#prober.ask('sendOnFlow', { flow: this.#flow, from, everyMs: undefined });
      await sleep(POLL_MS);
      if ((await this.counts())[to].received > before) return true;
    }
    return false;
  }

  /** Waits until nothing more arrives at either side for as long as `quietMs`. False where something still does after `withinMs`. */
  async fallsSilent(quietMs: number, withinMs: number): Promise<boolean> {
    const until = performance.now() + withinMs;
    let last = -1;
    let since = performance.now();
    while (performance.now() < until) {
      const { client, server } = await this.counts();
      const received = client.received + server.received;
      if (received !== last) {
        last = received;
        since = performance.now();
      } else if (performance.now() - since >= quietMs) return true;
      await sleep(POLL_MS);
    }
    return false;
  }

  close(): Promise<FlowCounts> {
    return this.#prober.ask('closeFlow', { flow: this.#flow });
  }
}

/** Probes at a constant rate, under way until {@link stop}. */
export class LabStream {
  readonly #prober: Prober;
  readonly #stream: number;

  constructor(prober: Prober, stream: number) {
    this.#prober = prober;
    this.#stream = stream;
  }

  counts(): Promise<StreamCounts> {
    return this.#prober.ask('countStream', { stream: this.#stream });
  }

  /** Starts no more probes, waits for those under way, and counts. */
  stop(): Promise<StreamCounts> {
    return this.#prober.ask('stopStream', { stream: this.#stream });
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
