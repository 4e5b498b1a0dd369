/** Lets the event loop have its turn in a long computation: nobody should wait for it longer than a slice. */

/** Several computations may have theirs within one turn: four watches are read at the start, and garbage is collected. */
const SLICE_MS = 4;

export class TimeSlices {
  #endsAt = performance.now() + SLICE_MS;

  /** Cheaper than a pause that is none, in a loop of many small steps. */
  get isOver(): boolean {
    return performance.now() >= this.#endsAt;
  }

  /** Pauses where the slice is over; otherwise goes on at once. */
  async pause(): Promise<void> {
    if (!this.isOver) return;
    await new Promise(setImmediate);
    this.#endsAt = performance.now() + SLICE_MS;
  }
}
