/**
 * Many probes at once. It is over when every probe that is expected to be allowed has been answered and the others have had the
 * grace time on top: a slow machine gives no false "denied", and a path that is wrongly open is still seen.
 */
import { LabError } from '../errors.ts';
import { type Attempt, type Means, startAttempt } from './attempts.ts';
import type { Timer } from './loop.ts';
import type { BatchOptions, ProbeRequest, ProbeResult } from './protocol.ts';

/** Bounded by descriptors: each TCP or UDP probe holds one until the wave ends, and its server another. */
const WAVE = 1500;
const TICK_MS = 20;
/** Requests go out again after these times, and then every last one of them. */
const RESEND_MS: readonly number[] = [100, 200, 400, 800];

interface Entry {
  readonly request: ProbeRequest;
  attempt: Attempt | undefined;
  startedAt: number;
  sends: number;
  result: ProbeResult | undefined;
}

/** Runs all probes, in waves; `done` gets the results in the order of the requests. */
export function runBatch(
  means: Means,
  probes: readonly ProbeRequest[],
  options: BatchOptions,
  done: (results: readonly ProbeResult[] | LabError) => void,
): void {
  const results: ProbeResult[] = [];
  const next = (at: number): void => {
    if (at >= probes.length) {
      done(results);
      return;
    }
    const wave = new Wave(means, probes.slice(at, at + WAVE), options, (outcome) => {
      if (outcome instanceof LabError) {
        done(outcome);
        return;
      }
      for (const each of outcome) results.push(each);
      next(at + WAVE);
    });
    wave.start();
  };
  next(0);
}

class Wave {
  readonly #means: Means;
  readonly #options: BatchOptions;
  readonly #done: (results: readonly ProbeResult[] | LabError) => void;
  readonly #entries: readonly Entry[];
  #timer: Timer | undefined;
  /** Entries that are waited for as long as it takes, and are not answered yet. */
  #awaited: number;
  /** Entries without a result. */
  #open: number;
  /** When the last entry that had to be waited for was answered, and every probe was on its way. */
  #quietSince: number | undefined;
  #slowestMs = 0;
  #allStarted = false;
  #finished = false;

  constructor(
    means: Means,
    requests: readonly ProbeRequest[],
    options: BatchOptions,
    done: (results: readonly ProbeResult[] | LabError) => void,
  ) {
    this.#means = means;
    this.#options = options;
    this.#done = done;
    this.#entries = requests.map((request) => ({ request, attempt: undefined, startedAt: 0, sends: 1, result: undefined }));
    this.#open = requests.length;
    this.#awaited = requests.filter((request) => request.expected !== 'denied').length;
  }

  start(): void {
    const means = this.#means;
    this.#timer = means.loop.every(TICK_MS, () => this.#tick());
    for (const [index, entry] of this.#entries.entries()) {
      try {
        entry.startedAt = performance.now();
        entry.attempt = startAttempt(means, entry.request, (outcome) => {
          const latencyMs = performance.now() - entry.startedAt;
          if (outcome.kind === 'failed') this.#settle(entry, { measured: 'denied', detail: outcome.detail });
          else this.#settle(entry, { measured: 'allowed', latencyMs, ...(outcome.by === undefined ? {} : { answeredBy: outcome.by }) });
        });
      } catch (error) {
        this.#finish(error instanceof LabError ? error : new LabError('LAB_PROBER', String(error)));
        return;
      }
      // Servers answer while the rest is being sent, so that no receive buffer fills up.
      if (index % 32 === 31) means.loop.turn(0);
    }
    this.#allStarted = true;
    if (this.#awaited === 0) this.#quietSince = performance.now();
  }

  #settle(entry: Entry, result: ProbeResult): void {
    if (this.#finished || entry.result !== undefined) return;
    entry.result = result;
    this.#open--;
    if (result.latencyMs !== undefined) this.#slowestMs = Math.max(this.#slowestMs, result.latencyMs);
    if (entry.request.expected !== 'denied' && --this.#awaited === 0) this.#quietSince = performance.now();
  }

  #tick(): void {
    const now = performance.now();
    for (const entry of this.#entries) {
      if (entry.result !== undefined || entry.attempt === undefined) continue;
      const wait = RESEND_MS[Math.min(entry.sends, RESEND_MS.length) - 1] ?? 800;
      const due = entry.sends <= RESEND_MS.length ? wait : 800 * (entry.sends - RESEND_MS.length + 1);
      if (now - entry.startedAt < due) continue;
      entry.sends++;
      entry.attempt.resend();
    }
    if (!this.#allStarted) return;
    const started = this.#entries[0]?.startedAt ?? now;
    if (this.#open === 0) this.#finish();
    else if (this.#quietSince !== undefined) {
      if (now - this.#quietSince >= Math.max(this.#options.graceMs, 4 * this.#slowestMs)) this.#finish();
    } else if (now - started >= this.#options.deadlineMs) this.#finish();
  }

  #finish(error?: LabError): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#timer?.cancel();
    for (const entry of this.#entries) entry.attempt?.close();
    this.#done(error ?? this.#entries.map((entry) => entry.result ?? { measured: 'denied', detail: 'no answer' }));
  }
}
