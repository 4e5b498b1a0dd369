/**
 * Whether a kernel has what the cluster asks of it, although both may be in motion: the cluster is read and the kernel is read, again and
 * again for a while, and only what differed every time is a difference. A running agent makes each other difference go away within
 * milliseconds; what nobody mends stays.
 *
 * It goes by lines (a rule, an element), not by objects: a set that changes all the time does not hide an element that somebody added.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Difference, DifferenceLine } from './table-comparison.ts';

/** One reading of the kernel beside the desired state. */
export interface Comparison {
  readonly differences: readonly Difference[];
  /** Equal as long as nothing is committed; undefined where that is not known. */
  readonly generation: number | undefined;
}

export interface VerificationOptions {
  /** Reads the cluster, and tells how to compare the kernel with it. Called for every look. */
  readonly readCluster: () => Promise<() => Comparison>;
  /** How long to look at most, in ms; 0: once. */
  readonly settleMs: number;
  readonly clock?: Clock;
}

export interface Clock {
  now(): number;
  sleep(ms: number): Promise<unknown>;
}

export interface Verification {
  /** Those that were there in every look, with the lines that were. */
  readonly differences: readonly Difference[];
  /** How often the cluster was read, and the kernel. */
  readonly looks: { readonly cluster: number; readonly kernel: number };
  /** Lines that differed in some look and not in all: something is in motion. */
  readonly passing: number;
}

/** Where nothing at all moves, one who looks no longer than this has seen enough: an agent repairs within 100 ms. */
const STILL_MS = 1_000;
const FIRST_WAIT_MS = 500;
const KERNEL_EVERY_MS = 50;
/** Share of the time that reading the kernel takes at most. */
const KERNEL_SHARE = 1 / 4;

const REAL: Clock = { now: () => performance.now(), sleep };

/** What has been seen so far. */
class Evidence {
  readonly #clock: Clock;
  readonly #seen = new Set<string>();
  /** What differed every time; undefined before the first time. */
  #standing: ReadonlySet<string> | undefined;
  #last: Comparison | undefined;
  #stillSince = 0;
  /** What the last comparison took, in ms. */
  costMs = 0;
  count = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(compare: () => Comparison): void {
    const startedAt = this.#clock.now();
    const now = compare();
    this.costMs = this.#clock.now() - startedAt;
    this.count++;
    const keys = keysOf(now.differences);
    for (const key of keys) this.#seen.add(key);
    const before = this.#standing;
    this.#standing = before === undefined ? keys : before.intersection(keys);
    const isSame = before !== undefined && before.size === keys.size && this.#standing.size === keys.size;
    if (!isSame || now.generation !== this.#last?.generation) this.#stillSince = this.#clock.now();
    this.#last = now;
  }

  get isInOrder(): boolean {
    return this.#standing?.size === 0;
  }

  /** For how long every comparison has given the same, and nothing was committed, in ms. */
  get stillMs(): number {
    return this.#clock.now() - this.#stillSince;
  }

  get passing(): number {
    return this.#seen.size - (this.#standing?.size ?? 0);
  }

  get differences(): readonly Difference[] {
    return only(this.#last?.differences ?? [], this.#standing ?? new Set());
  }
}

export async function verify({ readCluster, settleMs, clock = REAL }: VerificationOptions): Promise<Verification> {
  const startedAt = clock.now();
  const evidence = new Evidence(clock);
  let clusterLooks = 0;
  for (let waitMs = FIRST_WAIT_MS; ; waitMs *= 2) {
    const compare = await readCluster();
    clusterLooks++;
    evidence.add(compare);
    const leftMs = settleMs - (clock.now() - startedAt);
    if (evidence.isInOrder || leftMs <= 0 || (clusterLooks > 1 && evidence.stillMs >= STILL_MS)) break;
    const until = clock.now() + Math.min(waitMs, leftMs);
    while (clock.now() < until && !evidence.isInOrder) {
      await clock.sleep(Math.max(KERNEL_EVERY_MS, evidence.costMs / KERNEL_SHARE));
      evidence.add(compare);
    }
    if (evidence.isInOrder) break;
  }
  const { differences, passing, count } = evidence;
  return { differences, looks: { cluster: clusterLooks, kernel: count }, passing };
}

function objectKey({ object, name, kernel }: Difference): string {
  return `${object} ${name} ${kernel}`;
}

/** A key for each line that differs, and for each object that is missing or too many. */
function keysOf(differences: readonly Difference[]): Set<string> {
  const keys = new Set<string>();
  for (const difference of differences) {
    if (difference.kernel !== 'different') keys.add(objectKey(difference));
    for (const [key] of keyedLines(difference)) if (key !== undefined) keys.add(key);
  }
  return keys;
}

/** Lines with their keys; those on both sides have none. Equal lines are told apart by counting them. */
function* keyedLines({ object, name, lines }: Difference): Generator<readonly [string | undefined, DifferenceLine]> {
  const counts = new Map<string, number>();
  for (const line of lines) {
    if (line.side === 'both') {
      yield [undefined, line];
      continue;
    }
    const key = `${object} ${name} ${line.side} ${line.text}`;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    yield [`${key} #${count}`, line];
  }
}

/** What is left of differences when only these keys count. */
function only(differences: readonly Difference[], keys: ReadonlySet<string>): Difference[] {
  return differences.flatMap((difference): Difference[] => {
    const isWhole = difference.kernel !== 'different' && keys.has(objectKey(difference));
    const lines = [...keyedLines(difference)].filter(([key]) => key === undefined || keys.has(key)).map(([, line]) => line);
    if (!isWhole && lines.every(({ side }) => side === 'both')) return [];
    return [{ ...difference, lines }];
  });
}
