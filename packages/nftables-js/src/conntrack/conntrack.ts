/**
 * The connection tracking table of a network namespace: list it, count it, and change or delete its entries.
 *
 * Cutting a flow takes a change, not a deletion: after a deletion the next packet of either side opens an entry anew, perhaps in
 * the other direction. A label (or a bit of the mark) that the first rule drops stops both directions at once.
 */
import { MessageWriter, readAttributes, readMessages, required } from '../netlink/attributes.ts';
import { KernelError, NetlinkError } from '../netlink/errors.ts';
import {
  doneErrno,
  NETLINK_NETFILTER,
  NetlinkSocket,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  readAnswer,
} from '../netlink/socket.ts';
import { CT_GET, CT_GET_STATS, CT_NEW, CTA_STATS_GLOBAL_ENTRIES, CTA_STATS_GLOBAL_MAX_ENTRIES } from './attributes.ts';
import { type FlowChange, type FlowKey, type MaskedLabels, type MaskedMark, messageType, writeChange } from './change.ts';
import { addressFamily, type FlowFilter, filtersTuples, flowMatches, writeFilter } from './filter.ts';
import { type Flow, readFlow } from './flow.ts';

/**
 * What became of a change: `done`; `gone`: there is no such entry any more; `no-labels`: the entry was made while no rule with
 * `ct label` was loaded, and can get none. Anything else is the kernel's error.
 */
export type FlowOutcome = 'done' | 'gone' | 'no-labels' | KernelError;

/** So many requests go in one datagram; the answers to them all, should all fail, fit into the default receive buffer. */
const REQUESTS_PER_DATAGRAM = 64;
const ENOENT = 2;
const ENOSPC = 28;
const NFGENMSG_BYTES = 4;

export class Conntrack {
  readonly #requests: NetlinkSocket;
  /** Apart, because a listing may be suspended between two of its entries while requests go on. */
  readonly #dumps: NetlinkSocket;
  /** True from the first entry of a listing to its end. */
  #listing = false;

  private constructor(requests: NetlinkSocket, dumps: NetlinkSocket) {
    this.#requests = requests;
    this.#dumps = dumps;
  }

  /** Opens the table of this thread's network namespace. */
  static open(): Conntrack {
    const requests = NetlinkSocket.open(NETLINK_NETFILTER);
    try {
      return new Conntrack(requests, NetlinkSocket.open(NETLINK_NETFILTER));
    } catch (error) {
      requests.close();
      throw error;
    }
  }

  close(): void {
    this.#requests.close();
    this.#dumps.close();
  }

  /**
   * The flows that the filter holds for, or all of both families. Read part by part as they are asked for, so the caller may
   * pause; not a snapshot: what comes and goes meanwhile may be in it or not. Flows of other families are left out.
   *
   * @throws NetlinkError ERR_BUSY while another listing of this object is not at its end
   * @throws KernelError EPERM without CAP_NET_ADMIN
   */
  *flows(filter: FlowFilter = {}): Generator<Flow, void, undefined> {
    const doing = 'listing conntrack entries';
    if (this.#listing) throw new NetlinkError('ERR_BUSY', `${doing}: another listing has not been read to its end`);
    if (filtersTuples(filter) && filter.family === undefined)
      throw new NetlinkError('ERR_INVALID', `${doing}: a filter by tuple needs the family as well`);
    this.#listing = true;
    let begun = false;
    try {
      for (const flow of this.#dump(filter, true, doing)) {
        begun = true;
        yield flow;
      }
    } catch (error) {
      // Refused because of the filter, perhaps; without it the answer is as right, and only slower.
      if (begun || !filtersTuples(filter) || !(error instanceof KernelError) || error.code === 'EPERM') throw error;
      yield* this.#dump(filter, false, doing);
    } finally {
      this.#listing = false;
    }
  }

  *#dump(filter: FlowFilter, filterTuples: boolean, doing: string): Generator<Flow, void, undefined> {
    const socket = this.#dumps;
    const sequence = socket.nextSequence();
    const writer = new MessageWriter(256);
    const start = writer.beginMessage(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, sequence);
    writer.raw(new Uint8Array([addressFamily(filter.family), 0, 0, 0]));
    writeFilter(writer, filter, filterTuples);
    writer.endMessage(start);
    socket.send(writer.bytes(), doing);
    let ended = false;
    try {
      for (;;) {
        const datagram = socket.receive(doing);
        if (datagram === undefined) throw new NetlinkError('ERR_NO_ANSWER', `${doing}: the kernel gave no answer`);
        for (const message of readMessages(datagram)) {
          if (message.sequence !== sequence) continue;
          if (message.type === CT_NEW) {
            const flow = readFlow(message.payload);
            if (flow !== undefined && flowMatches(flow, filter)) yield flow;
          } else if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
            ended = true;
            const errno = message.type === NLMSG_DONE ? doneErrno(message) : readAnswer(message).errno;
            if (errno !== 0) throw new KernelError(errno, doing);
            return;
          }
        }
      }
    } finally {
      // Whoever stops early leaves the rest in the socket, and the kernel refuses the next listing until this one is at its end.
      if (!ended) while (socket.receive(doing) !== undefined);
    }
  }

  /** How many entries there are, and how many there may be (net.netfilter.nf_conntrack_max; undefined before Linux 5.9). */
  count(): { readonly entries: number; readonly max: number | undefined } {
    let entries = 0;
    let max: number | undefined;
    this.#requests.request(
      CT_GET_STATS,
      0,
      (writer) => writer.raw(new Uint8Array(NFGENMSG_BYTES)),
      (message) => {
        if (message.type !== CT_GET_STATS) return;
        const attributes = readAttributes(message.payload.subarray(NFGENMSG_BYTES));
        entries = required(attributes, CTA_STATS_GLOBAL_ENTRIES, 'the number of conntrack entries').be32();
        max = attributes.get(CTA_STATS_GLOBAL_MAX_ENTRIES)?.be32();
      },
      'counting conntrack entries',
    );
    return { entries, max };
  }

  /**
   * Sets the labels of `mask` to those of `value` and leaves the others.
   * @throws KernelError anything but that the flow is gone or has no room for labels
   */
  setLabels(flow: FlowKey, labels: MaskedLabels): 'done' | 'gone' | 'no-labels' {
    return successful(this.apply([{ change: 'labels', flow, labels }])[0]);
  }

  /**
   * Sets the bits of `mask` to those of `value` and leaves the others.
   * @throws KernelError anything but that the flow is gone
   */
  setMark(flow: FlowKey, mark: MaskedMark): 'done' | 'gone' {
    return successful(this.apply([{ change: 'mark', flow, mark }])[0]) === 'done' ? 'done' : 'gone';
  }

  /**
   * Deletes this entry, and no later one with the same tuples.
   * @throws KernelError anything but that the flow is gone
   */
  delete(flow: FlowKey): 'done' | 'gone' {
    return successful(this.apply([{ change: 'delete', flow }])[0]) === 'done' ? 'done' : 'gone';
  }

  /** Makes many changes with few system calls. Each succeeds or fails on its own; the outcomes are in the order of the changes. */
  apply(changes: readonly FlowChange[]): FlowOutcome[] {
    const outcomes: FlowOutcome[] = [];
    const writer = new MessageWriter(REQUESTS_PER_DATAGRAM * 160);
    for (let from = 0; from < changes.length; from += REQUESTS_PER_DATAGRAM) {
      writer.truncate(0);
      this.#applySome(changes.slice(from, from + REQUESTS_PER_DATAGRAM), writer, outcomes);
    }
    return outcomes;
  }

  /** A success is not acknowledged, except that of the last request: by then the answers to all before it are there. */
  #applySome(changes: readonly FlowChange[], writer: MessageWriter, outcomes: FlowOutcome[]): void {
    const doing = `changing ${changes.length} conntrack entries`;
    const first = outcomes.length;
    const indexes = new Map<number, number>();
    for (const [index, change] of changes.entries()) {
      const sequence = this.#requests.nextSequence();
      indexes.set(sequence, index);
      const start = writer.beginMessage(messageType(change), NLM_F_REQUEST | (index === changes.length - 1 ? NLM_F_ACK : 0), sequence);
      writeChange(writer, change);
      writer.endMessage(start);
      outcomes.push('done');
    }
    this.#requests.send(writer.bytes(), doing);
    for (;;) {
      const datagram = this.#requests.receive(doing);
      if (datagram === undefined) throw new NetlinkError('ERR_NO_ANSWER', `${doing}: the kernel gave no answer`);
      for (const message of readMessages(datagram)) {
        const index = indexes.get(message.sequence);
        const change = index === undefined ? undefined : changes[index];
        if (message.type !== NLMSG_ERROR || index === undefined || change === undefined) continue;
        const answer = readAnswer(message);
        outcomes[first + index] = outcomeOf(answer.errno, change, answer.kernelMessage);
        if (index === changes.length - 1) return;
      }
    }
  }
}

function outcomeOf(errno: number, change: FlowChange, kernelMessage: string | undefined): FlowOutcome {
  if (errno === 0) return 'done';
  if (errno === ENOENT) return 'gone';
  if (errno === ENOSPC && change.change === 'labels') return 'no-labels';
  const verb = change.change === 'delete' ? 'deleting' : `setting the ${change.change} of`;
  return new KernelError(errno, `${verb} conntrack entry ${change.flow.id}`, kernelMessage);
}

function successful(outcome: FlowOutcome | undefined): 'done' | 'gone' | 'no-labels' {
  if (outcome instanceof KernelError) throw outcome;
  if (outcome === undefined) throw new NetlinkError('ERR_NO_ANSWER', 'changing a conntrack entry: no outcome');
  return outcome;
}
