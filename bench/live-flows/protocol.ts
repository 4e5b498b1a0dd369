/** What the process that measures beside live flows is told and tells. */

/** A change is due at a fixed time, whatever goes on; ms from then to the kernel's answer. */
export interface Stream {
  readonly latenciesMs: readonly number[];
  /** Of the event loop, ms: what a change would have waited for it, at most. */
  readonly longestStallMs: number;
}

/** All flows of the pod are forbidden by one change, while others' changes go on. */
export interface MassCut {
  readonly others: Stream;
  /** From the change that forbids them to the mark on the last of them. */
  readonly lastCutMs: number;
  /** As the kernel lists them afterwards. */
  readonly cut: number;
  /** Resident memory before it and at most meanwhile. */
  readonly beforeBytes: number;
  readonly peakBytes: number;
}

export type Request =
  | { readonly start: { readonly policies: number; readonly flows: number } }
  | { readonly changes: number; readonly everyMs: number }
  | { readonly cut: { readonly everyMs: number } };
export type Answer = { readonly started: { readonly flows: number } } | { readonly stream: Stream } | { readonly massCut: MassCut };
