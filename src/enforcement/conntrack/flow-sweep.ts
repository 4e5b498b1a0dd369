/**
 * Cuts the live flows that policy no longer allows, and only those (row 27).
 *
 * Rules judge the first packet of a flow; what is established passes. So a flow that a change forbids has to be found among the
 * tracked ones and marked as cut, and the first rule of both chains drops what is marked. Deleting the entry would not do: the next
 * packet of the *server* opens a new entry in the other direction, which policy may allow, and the flow goes on.
 *
 * The mark is a conntrack label. An entry that was made before any rule with `ct label` was loaded has no room for labels; it gets
 * one bit of the ct mark instead. (Deleting such an entry and refusing TCP that does not begin with SYN would cut it too, but would
 * also break allowed flows whose entry is lost for other reasons.)
 *
 * A flow is judged by who opened it and who really answers (original source, reply source and port): never by a Service's address.
 * What an audited pod would refuse goes on. A cut flow that may go on again loses its mark.
 */
import { type Conntrack, type Flow, type FlowChange, hasLabel, KernelError, labelBits } from 'nftables-js';
import { type Address, addressBytes, addressFromBytes, familyOf } from '../../policy/address.ts';
import type { Question } from '../../policy/evaluate.ts';
import type { Protocol } from '../../policy/objects.ts';
import { TimeSlices } from '../../time-slices.ts';
import { FlowVerdicts, type MovingFlowJudge } from './flow-verdicts.ts';

/** The label of a flow that is cut. High, because people who use labels begin at 0. */
export const CUT_LABEL = 100;
/** Free of what is known to use marks: kube-proxy (0x4000, 0x8000), the portmap plugin (0x2000), Calico (0xffff0000), Cilium (0x0f00). */
export const DEFAULT_CUT_MARK = 0x1000;
const CUT = labelBits(CUT_LABEL);
const NO_LABEL = new Uint8Array(CUT.length);
/**
 * Up to so many addresses the kernel looks for their flows (two listings an address); for more, one listing of all is cheaper.
 * For IPv6 it cannot (see FlowFilter): one listing of that family serves them all.
 */
const FILTERED_ADDRESSES = 4;
/** In a table of so few entries, one listing of them all is cheaper than two: the kernel walks as many buckets for each. */
const FEW_ENTRIES = 2_000;

const PROTOCOLS: Readonly<Record<number, Protocol>> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMP', 132: 'SCTP' };

/** Whose flows are judged. */
export type SweepScope = ReadonlySet<Address> | 'all';

export interface SweepOptions extends MovingFlowJudge {
  readonly conntrack: Conntrack;
  /** The bit of the ct mark that stands in for the label; nothing else on the node may use it. */
  readonly cutMark: number;
}

/** A flow as policy sees it: who opened it, and who really answers and on which port (rows 18, 26). */
export function questionOf(flow: Flow): Question {
  return {
    source: addressFromBytes(flow.original.source),
    destination: addressFromBytes(flow.reply.source),
    protocol: PROTOCOLS[flow.original.protocol] ?? 'other',
    port: flow.reply.sourcePort,
  };
}

/** How a flow is marked as cut, by label or in its place by mark; neither: it is not. */
export function cutBy(flow: Flow, cutMark: number): { readonly labelled: boolean; readonly marked: boolean } {
  return { labelled: hasLabel(flow, CUT_LABEL), marked: (flow.mark & cutMark) !== 0 };
}

export interface SweepResult {
  /** Flows that were looked at. */
  readonly judged: number;
  /** Flows that are cut from now on. */
  readonly cut: number;
  /** Flows that were cut and go on. */
  readonly restored: number;
  /** Changes that the kernel refused, of flows that still exist. Non-empty: the sweep has to be repeated. */
  readonly failures: readonly KernelError[];
}

/** What a sweep has found so far. */
class Tally implements SweepResult {
  judged = 0;
  cut = 0;
  restored = 0;
  /** Flows that were cut before, rightly. */
  stayCut = 0;
  readonly failures: KernelError[] = [];
  changes: FlowChange[] = [];

  takeChanges(): readonly FlowChange[] {
    const { changes } = this;
    this.changes = [];
    return changes;
  }
}

export class FlowSweep {
  readonly #options: SweepOptions;
  /** False only after a sweep of all flows found none that is cut, and as long as none has been cut since. */
  #mayHaveCut = true;

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** Whether a flow may be cut now: if not, what is allowed anew changes nothing for live flows. */
  get mayHaveCut(): boolean {
    return this.#mayHaveCut;
  }

  /**
   * Judges the flows that have one of these addresses at either end, or all, a slice of time after the other: there may be hundreds of thousands, and
   * whoever waits for the event loop meanwhile need not wait for them. Until it resolves no other sweep may begin.
   *
   * The cluster may change between two slices. A flow is judged by the state of the moment; what was judged before a change has to be judged again
   * for the addresses that the change touches, what it allows included ({@link mayHaveCut} says so before the first flow is cut).
   *
   * @param signal ends it early
   */
  async sweep(scope: SweepScope, signal?: AbortSignal): Promise<SweepResult> {
    const tally = new Tally();
    const verdicts = new FlowVerdicts(this.#options);
    // One batch is being marked while the next is judged.
    let marking = Promise.resolve();
    try {
      for await (const flows of this.#listed(scope)) {
        await this.#judgeSome(flows, scope, verdicts, tally);
        await marking;
        marking = this.#mark(tally);
        marking.catch(() => undefined);
        if (signal?.aborted === true) break;
      }
    } finally {
      await marking;
    }
    if (scope === 'all') this.#mayHaveCut = tally.cut + tally.stayCut + tally.failures.length > 0 || signal?.aborted === true;
    return tally;
  }

  async #judgeSome(flows: readonly Flow[], scope: SweepScope, verdicts: FlowVerdicts, tally: Tally): Promise<void> {
    const slices = new TimeSlices();
    for (const flow of flows) {
      const question = questionOf(flow);
      if (scope !== 'all' && !scope.has(question.source) && !scope.has(question.destination)) continue;
      if (!verdicts.isPrepared(question)) for (const _ of verdicts.prepare(question)) if (slices.isOver) await slices.pause();
      if (slices.isOver) await slices.pause();
      this.#take(flow, verdicts.mayGoOn(question), tally);
    }
  }

  #take(flow: Flow, allowed: boolean, tally: Tally): void {
    tally.judged++;
    const { labelled, marked } = cutBy(flow, this.#options.cutMark);
    if (!allowed) this.#mayHaveCut = true;
    if (!allowed && (labelled || marked)) tally.stayCut++;
    if (!allowed && !labelled && !marked) {
      tally.cut++;
      tally.changes.push({ change: 'labels', flow, labels: { value: CUT, mask: CUT } });
    } else if (allowed && (labelled || marked)) {
      tally.restored++;
      if (labelled) tally.changes.push({ change: 'labels', flow, labels: { value: NO_LABEL, mask: CUT } });
      if (marked) tally.changes.push({ change: 'mark', flow, mark: { value: 0, mask: this.#options.cutMark } });
    }
  }

  async *#listed(scope: SweepScope): AsyncGenerator<readonly Flow[]> {
    const { conntrack } = this.#options;
    if (scope === 'all' || scope.size > FILTERED_ADDRESSES || (await conntrack.countAsync()).entries <= FEW_ENTRIES) {
      yield* conntrack.flowsAsync();
      return;
    }
    if ([...scope].some((address) => familyOf(address) === 6)) yield* conntrack.flowsAsync({ family: 'ip6' });
    for (const address of scope) {
      if (familyOf(address) === 6) continue;
      const source = addressBytes(address);
      yield* conntrack.flowsAsync({ family: 'ip', original: { source } });
      // Those that one of the addresses opened have been listed by it. (Their ids would not tell: ids are hashes, and collide.)
      for await (const flows of conntrack.flowsAsync({ family: 'ip', reply: { source } }))
        yield flows.filter((flow) => !scope.has(addressFromBytes(flow.original.source)));
    }
  }

  /** Tells the kernel what has been found. */
  async #mark(tally: Tally): Promise<void> {
    const { conntrack, cutMark } = this.#options;
    const changes = tally.takeChanges();
    const marks: FlowChange[] = [];
    for (const [index, outcome] of (await conntrack.applyAsync(changes)).entries()) {
      const change = changes[index];
      if (outcome instanceof KernelError) tally.failures.push(outcome);
      else if (outcome === 'no-labels' && change?.change === 'labels' && change.labels.value === CUT) {
        marks.push({ change: 'mark', flow: change.flow, mark: { value: cutMark, mask: cutMark } });
      }
    }
    for (const outcome of await conntrack.applyAsync(marks)) if (outcome instanceof KernelError) tally.failures.push(outcome);
  }
}
