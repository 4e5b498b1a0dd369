/** Probes at a constant rate, counted: for showing that nothing allowed is lost and nothing denied gets through while something changes. */
import { LabError } from '../errors.ts';
import { type Means, startAttempt } from './attempts.ts';
import type { Timer } from './loop.ts';
import type { StreamCounts, StreamRequest } from './protocol.ts';

interface Stream {
  readonly timer: Timer;
  /** Gives up what is under way. */
  readonly pending: Set<() => void>;
  started: number;
  answered: number;
  unanswered: number;
  readonly failed: Record<string, number>;
  slowestMs: number;
}

const RESEND_MS = 200;

export class Streams {
  readonly #streams = new Map<number, Stream>();
  #last = 0;

  start(means: Means, request: StreamRequest): number {
    const id = ++this.#last;
    const timer = means.loop.every(1000 / request.perSecond, () => this.#probe(means, id, request));
    this.#streams.set(id, { timer, pending: new Set(), started: 0, answered: 0, unanswered: 0, failed: {}, slowestMs: 0 });
    return id;
  }

  #probe(means: Means, id: number, request: StreamRequest): void {
    const stream = this.#stream(id);
    const startedAt = performance.now();
    const timers: Timer[] = [];
    const settle = (count: () => void): void => {
      for (const timer of timers) timer.cancel();
      attempt.close();
      stream.pending.delete(giveUp);
      count();
    };
    const giveUp = (): void => settle(() => stream.unanswered++);
    const attempt = startAttempt(means, request, (outcome) =>
      settle(() => {
        if (outcome.kind === 'answered') {
          stream.answered++;
          stream.slowestMs = Math.max(stream.slowestMs, performance.now() - startedAt);
        } else {
          stream.failed[outcome.detail] = (stream.failed[outcome.detail] ?? 0) + 1;
        }
      }),
    );
    stream.started++;
    stream.pending.add(giveUp);
    timers.push(
      means.loop.every(RESEND_MS, () => attempt.resend()),
      means.loop.after(request.timeoutMs, giveUp),
    );
  }

  #stream(id: number): Stream {
    const stream = this.#streams.get(id);
    if (stream === undefined) throw new LabError('LAB_PROBER', `stream ${id} is closed`);
    return stream;
  }

  counts(id: number): StreamCounts {
    const { started, answered, unanswered, failed, pending, slowestMs } = this.#stream(id);
    return { started, answered, unanswered, failed: { ...failed }, pending: pending.size, slowestMs };
  }

  /** Starts no more; `done` gets the counts when the last one has been answered or has timed out. */
  stop(means: Means, id: number, done: (counts: StreamCounts) => void): void {
    const stream = this.#stream(id);
    stream.timer.cancel();
    const wait = means.loop.every(20, () => {
      if (stream.pending.size > 0) return;
      wait.cancel();
      const counts = this.counts(id);
      this.#streams.delete(id);
      done(counts);
    });
  }

  closeAll(): void {
    for (const stream of this.#streams.values()) {
      stream.timer.cancel();
      for (const giveUp of stream.pending) giveUp();
    }
    this.#streams.clear();
  }
}
