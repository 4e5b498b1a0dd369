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
import { evaluate, type Question } from '../../policy/evaluate.ts';
import type { Pod, Protocol } from '../../policy/objects.ts';
import type { World } from '../../policy/world.ts';
import { TimeSlices } from '../../time-slices.ts';

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

const PROTOCOLS: Readonly<Record<number, Protocol>> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMP', 132: 'SCTP' };

/** Of whom live flows are judged: the pods of one node, in one state of the cluster. */
export interface FlowJudge {
  readonly world: World;
  readonly node: string;
  /** Whether what a local pod refuses is let through; absent: it never is. */
  readonly isAudited?: ((pod: Pod) => boolean) | undefined;
}

export interface SweepOptions extends FlowJudge {
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

/**
 * Whether a flow may go on. One that has no end here which refuses anything may go on as far as this node goes: if it is cut, then on
 * account of a pod that had the address before, or before it was audited.
 */
export function mayGoOn(question: Question, { world, node, isAudited }: FlowJudge): boolean {
  const isEnforced = (pod: Pod | undefined): boolean => pod?.node === node && isAudited?.(pod) !== true;
  const judgesSource = isEnforced(world.podAt(question.source));
  const judgesDestination = isEnforced(world.podAt(question.destination));
  if (!judgesSource && !judgesDestination) return true;
  const verdict = evaluate(world, question);
  return (!judgesSource || verdict.egress.allowed) && (!judgesDestination || verdict.ingress.allowed);
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

  /** Judges the flows that have one of these addresses at either end, at once. */
  sweep(addresses: ReadonlySet<Address>): SweepResult {
    const tally = new Tally();
    for (const flow of this.#flows(addresses)) this.#take(flow, addresses, tally);
    for (const each of this.#apply(tally.takeChanges())) tally.failures.push(each);
    if (tally.cut + tally.stayCut > 0) this.#mayHaveCut = true;
    return tally;
  }

  /**
   * Judges all flows, a slice of time after the other: there may be hundreds of thousands, and whoever waits for the event loop
   * meanwhile need not wait for them. Until it resolves no other sweep may begin; what policy changes meanwhile has to be judged after.
   */
  async sweepAll(signal?: AbortSignal): Promise<SweepResult> {
    const tally = new Tally();
    const slices = new TimeSlices();
    for (const flow of this.#options.conntrack.flows()) {
      this.#take(flow, undefined, tally);
      if (!slices.isOver) continue;
      for (const each of this.#apply(tally.takeChanges())) tally.failures.push(each);
      await slices.pause();
      if (signal?.aborted === true) break;
    }
    for (const each of this.#apply(tally.takeChanges())) tally.failures.push(each);
    this.#mayHaveCut = tally.cut + tally.stayCut > 0 || signal?.aborted === true;
    return tally;
  }

  #take(flow: Flow, addresses: ReadonlySet<Address> | undefined, tally: Tally): void {
    const allowed = this.#judge(flow, addresses);
    if (allowed === undefined) return;
    tally.judged++;
    const { labelled, marked } = cutBy(flow, this.#options.cutMark);
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

  *#flows(addresses: ReadonlySet<Address>): Generator<Flow> {
    const { conntrack } = this.#options;
    if (addresses.size > FILTERED_ADDRESSES) {
      yield* conntrack.flows();
      return;
    }
    if ([...addresses].some((address) => familyOf(address) === 6)) yield* conntrack.flows({ family: 'ip6' });
    for (const address of addresses) {
      if (familyOf(address) === 6) continue;
      const source = addressBytes(address);
      yield* conntrack.flows({ family: 'ip', original: { source } });
      // Those that one of the addresses opened have been listed by it. (Their ids would not tell: ids are hashes, and collide.)
      for (const flow of conntrack.flows({ family: 'ip', reply: { source } })) {
        if (!addresses.has(addressFromBytes(flow.original.source))) yield flow;
      }
    }
  }

  /** Whether a flow may go on. Undefined: not a flow that is asked about. */
  #judge(flow: Flow, addresses: ReadonlySet<Address> | undefined): boolean | undefined {
    const question = questionOf(flow);
    if (addresses !== undefined && !addresses.has(question.source) && !addresses.has(question.destination)) return undefined;
    return mayGoOn(question, this.#options);
  }

  #apply(changes: readonly FlowChange[]): KernelError[] {
    const { conntrack, cutMark } = this.#options;
    const failures: KernelError[] = [];
    const marks: FlowChange[] = [];
    for (const [index, outcome] of conntrack.apply(changes).entries()) {
      const change = changes[index];
      if (outcome instanceof KernelError) failures.push(outcome);
      else if (outcome === 'no-labels' && change?.change === 'labels' && change.labels.value === CUT) {
        marks.push({ change: 'mark', flow: change.flow, mark: { value: cutMark, mask: cutMark } });
      }
    }
    for (const outcome of conntrack.apply(marks)) if (outcome instanceof KernelError) failures.push(outcome);
    return failures;
  }
}
