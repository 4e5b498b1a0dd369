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
/** More than the kernel puts into one: it offers as much as it was last asked for, and 32 KiB at most. */
const DATAGRAM_BYTES = 1 << 16;
const LISTING = 'listing conntrack entries';
const COUNTING = 'counting conntrack entries';

export class Conntrack {
  readonly #requests: NetlinkSocket;
  /** Apart, because a listing may be suspended between two of its entries while requests go on. */
  readonly #dumps: NetlinkSocket;
  /** True from the first entry of a listing to its end. */
  #listing = false;
  /** True while a thread has the socket of requests. */
  #requesting = false;
  #closed = false;

  private constructor(requests: NetlinkSocket, dumps: NetlinkSocket) {
    this.#requests = requests;
    this.#dumps = dumps;
  }

  /** Opens the table of this thread's network namespace. */
  static open(): Conntrack {
    const requests = NetlinkSocket.open(NETLINK_NETFILTER);
    try {
      return new Conntrack(requests, NetlinkSocket.open(NETLINK_NETFILTER, { nonBlocking: true }));
    } catch (error) {
      requests.close();
      throw error;
    }
  }

  /** Closes it; a listing that is going on is the last. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // Not before: a thread would go on with whatever gets the descriptor next.
    if (!this.#requesting) this.#requests.close();
    if (!this.#listing) this.#dumps.close();
  }

  /**
   * The flows that the filter holds for, or all of both families. Read part by part as they are asked for, so the caller may
   * pause; not a snapshot: what comes and goes meanwhile may be in it or not. Flows of other families are left out.
   *
   * @throws NetlinkError ERR_BUSY while another listing of this object is not at its end
   * @throws KernelError EPERM without CAP_NET_ADMIN
   */
  *flows(filter: FlowFilter = {}): Generator<Flow, void, undefined> {
    this.#beginListing(filter);
    let begun = false;
    try {
      for (const flow of this.#dump(filter, true)) {
        begun = true;
        yield flow;
      }
    } catch (error) {
      if (begun || !mayBeTheFilter(error, filter)) throw error;
      yield* this.#dump(filter, false);
    } finally {
      this.#endListing();
    }
  }

  /**
   * Like {@link flows}, without holding up the event loop while the kernel works: it walks its whole table before it can say that a filter holds for
   * nothing, 60 ms where there are 250,000 entries. Some hundred flows at a time; while the caller looks at them the next are being read.
   *
   * @throws NetlinkError ERR_BUSY, and KernelError, as {@link flows}
   */
  async *flowsAsync(filter: FlowFilter = {}): AsyncGenerator<readonly Flow[], void, undefined> {
    this.#beginListing(filter);
    let begun = false;
    try {
      for await (const flows of this.#dumpAsync(filter, true)) {
        begun = true;
        yield flows;
      }
    } catch (error) {
      if (begun || !mayBeTheFilter(error, filter)) throw error;
      yield* this.#dumpAsync(filter, false);
    } finally {
      this.#endListing();
    }
  }

  #beginListing(filter: FlowFilter): void {
    if (this.#closed) throw new NetlinkError('ERR_CLOSED', `${LISTING}: the netlink socket is closed`);
    if (this.#listing) throw new NetlinkError('ERR_BUSY', `${LISTING}: another listing has not been read to its end`);
    if (filtersTuples(filter) && filter.family === undefined)
      throw new NetlinkError('ERR_INVALID', `${LISTING}: a filter by tuple needs the family as well`);
    this.#listing = true;
  }

  #endListing(): void {
    this.#listing = false;
    if (this.#closed) this.#dumps.close();
  }

  *#dump(filter: FlowFilter, filterTuples: boolean): Generator<Flow, void, undefined> {
    const socket = this.#dumps;
    const dump = new Dump(filter, socket.nextSequence());
    socket.send(dump.request(filterTuples), LISTING);
    try {
      while (!dump.ended) yield* dump.read(socket.receive(LISTING));
    } finally {
      // Whoever stops early leaves the rest in the socket, and the kernel refuses the next listing until this one is at its end.
      if (!dump.ended) while (socket.receive(LISTING) !== undefined);
    }
  }

  async *#dumpAsync(filter: FlowFilter, filterTuples: boolean): AsyncGenerator<readonly Flow[], void, undefined> {
    const socket = this.#dumps;
    const dump = new Dump(filter, socket.nextSequence());
    await socket.sendAsync(dump.request(filterTuples), LISTING);
    const receive = (buffer: Uint8Array): Promise<Uint8Array | undefined> => {
      const datagram = socket.receiveAsync(buffer, LISTING);
      // It is waited for below; until then a failure is nobody's.
      datagram.catch(() => undefined);
      return datagram;
    };
    let [buffer, other] = [new Uint8Array(DATAGRAM_BYTES), new Uint8Array(DATAGRAM_BYTES)];
    let next = receive(buffer);
    try {
      while (!dump.ended) {
        const datagram = await next;
        const flows = [...dump.read(datagram)];
        [buffer, other] = [other, buffer];
        if (!dump.ended) next = receive(buffer);
        if (flows.length > 0) yield flows;
      }
    } finally {
      while (!dump.ended && (await next.catch(() => undefined)) !== undefined) next = receive(buffer);
    }
  }

  /** How many entries there are, and how many there may be (net.netfilter.nf_conntrack_max; undefined before Linux 5.9). */
  count(): ConntrackCount {
    this.#checkFree(COUNTING);
    let count: ConntrackCount = { entries: 0, max: undefined };
    this.#requests.request(
      CT_GET_STATS,
      0,
      (writer) => writer.raw(new Uint8Array(NFGENMSG_BYTES)),
      (message) => {
        if (message.type === CT_GET_STATS) count = readCount(message.payload);
      },
      COUNTING,
    );
    return count;
  }

  /**
   * Like {@link count}, without holding up the event loop: whoever asks connection tracking for something waits in the kernel while anybody, in any
   * network namespace, begins to list it.
   *
   * @throws NetlinkError ERR_BUSY while something else has been asked for that is not over
   */
  async countAsync(): Promise<ConntrackCount> {
    const sequence = this.#requests.nextSequence();
    const writer = new MessageWriter(64);
    const start = writer.beginMessage(CT_GET_STATS, NLM_F_REQUEST | NLM_F_ACK, sequence);
    writer.raw(new Uint8Array(NFGENMSG_BYTES));
    writer.endMessage(start);
    await this.#sendAsync(writer.bytes(), COUNTING);
    let count: ConntrackCount = { entries: 0, max: undefined };
    for (;;) {
      const datagram = this.#requests.receive(COUNTING);
      if (datagram === undefined) throw new NetlinkError('ERR_NO_ANSWER', `${COUNTING}: the kernel gave no answer`);
      for (const message of readMessages(datagram)) {
        if (message.sequence !== sequence) continue;
        if (message.type === CT_GET_STATS) count = readCount(message.payload);
        if (message.type !== NLMSG_ERROR) continue;
        const { errno } = readAnswer(message);
        if (errno !== 0) throw new KernelError(errno, COUNTING);
        return count;
      }
    }
  }

  /** What is sent is worked off in a thread; the answers are there when it resolves. */
  async #sendAsync(bytes: Uint8Array, doing: string): Promise<void> {
    this.#checkFree(doing);
    this.#requesting = true;
    try {
      await this.#requests.sendAsync(bytes, doing);
    } finally {
      this.#requesting = false;
      if (this.#closed) this.#requests.close();
    }
  }

  #checkFree(doing: string): void {
    if (this.#requesting) throw new NetlinkError('ERR_BUSY', `${doing}: what was asked for before is not over; wait for it`);
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
    for (let from = 0; from < changes.length; from += REQUESTS_PER_DATAGRAM) {
      const batch = this.#batch(changes.slice(from, from + REQUESTS_PER_DATAGRAM));
      this.#checkFree(batch.doing);
      this.#requests.send(batch.bytes, batch.doing);
      for (const outcome of this.#outcomes(batch)) outcomes.push(outcome);
    }
    return outcomes;
  }

  /**
   * Like {@link apply}, without holding up the event loop while the kernel works (see {@link countAsync}).
   *
   * @throws NetlinkError ERR_BUSY while something else has been asked for that is not over
   */
  async applyAsync(changes: readonly FlowChange[]): Promise<FlowOutcome[]> {
    const outcomes: FlowOutcome[] = [];
    for (let from = 0; from < changes.length; from += REQUESTS_PER_DATAGRAM) {
      const batch = this.#batch(changes.slice(from, from + REQUESTS_PER_DATAGRAM));
      await this.#sendAsync(batch.bytes, batch.doing);
      for (const outcome of this.#outcomes(batch)) outcomes.push(outcome);
    }
    return outcomes;
  }

  /** A success is not acknowledged, except that of the last request: by then the answers to all before it are there. */
  #batch(changes: readonly FlowChange[]): ChangeBatch {
    const writer = new MessageWriter(REQUESTS_PER_DATAGRAM * 160);
    const indexes = new Map<number, number>();
    for (const [index, change] of changes.entries()) {
      const sequence = this.#requests.nextSequence();
      indexes.set(sequence, index);
      const start = writer.beginMessage(messageType(change), NLM_F_REQUEST | (index === changes.length - 1 ? NLM_F_ACK : 0), sequence);
      writeChange(writer, change);
      writer.endMessage(start);
    }
    return { changes, indexes, bytes: writer.bytes(), doing: `changing ${changes.length} conntrack entries` };
  }

  #outcomes({ changes, indexes, doing }: ChangeBatch): FlowOutcome[] {
    const outcomes: FlowOutcome[] = changes.map(() => 'done');
    for (;;) {
      const datagram = this.#requests.receive(doing);
      if (datagram === undefined) throw new NetlinkError('ERR_NO_ANSWER', `${doing}: the kernel gave no answer`);
      for (const message of readMessages(datagram)) {
        const index = indexes.get(message.sequence);
        const change = index === undefined ? undefined : changes[index];
        if (message.type !== NLMSG_ERROR || index === undefined || change === undefined) continue;
        const answer = readAnswer(message);
        outcomes[index] = outcomeOf(answer.errno, change, answer.kernelMessage);
        if (index === changes.length - 1) return outcomes;
      }
    }
  }
}

/** Changes that go to the kernel in one datagram. */
interface ChangeBatch {
  readonly changes: readonly FlowChange[];
  /** By sequence number. */
  readonly indexes: ReadonlyMap<number, number>;
  readonly bytes: Uint8Array;
  readonly doing: string;
}

export interface ConntrackCount {
  readonly entries: number;
  readonly max: number | undefined;
}

function readCount(payload: Uint8Array): ConntrackCount {
  const attributes = readAttributes(payload.subarray(NFGENMSG_BYTES));
  return {
    entries: required(attributes, CTA_STATS_GLOBAL_ENTRIES, 'the number of conntrack entries').be32(),
    max: attributes.get(CTA_STATS_GLOBAL_MAX_ENTRIES)?.be32(),
  };
}

/** One listing, as it is asked for and answered. */
class Dump {
  readonly #filter: FlowFilter;
  readonly #sequence: number;
  #ended = false;

  constructor(filter: FlowFilter, sequence: number) {
    this.#filter = filter;
    this.#sequence = sequence;
  }

  /** Whether the kernel has said that this was all. */
  get ended(): boolean {
    return this.#ended;
  }

  request(filterTuples: boolean): Uint8Array {
    const writer = new MessageWriter(256);
    const start = writer.beginMessage(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, this.#sequence);
    writer.raw(new Uint8Array([addressFamily(this.#filter.family), 0, 0, 0]));
    writeFilter(writer, this.#filter, filterTuples);
    writer.endMessage(start);
    return writer.bytes();
  }

  /** The flows of one datagram that the filter holds for. */
  *read(datagram: Uint8Array | undefined): Generator<Flow, void, undefined> {
    if (datagram === undefined) throw new NetlinkError('ERR_NO_ANSWER', `${LISTING}: the kernel gave no answer`);
    for (const message of readMessages(datagram)) {
      if (message.sequence !== this.#sequence) continue;
      if (message.type === CT_NEW) {
        const flow = readFlow(message.payload);
        if (flow !== undefined && flowMatches(flow, this.#filter)) yield flow;
      } else if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
        this.#ended = true;
        const errno = message.type === NLMSG_DONE ? doneErrno(message) : readAnswer(message).errno;
        if (errno !== 0) throw new KernelError(errno, LISTING);
        return;
      }
    }
  }
}

/** Whether a listing was refused because of its filter, perhaps; without it the answer is as right, and only slower. */
function mayBeTheFilter(error: unknown, filter: FlowFilter): boolean {
  return filtersTuples(filter) && error instanceof KernelError && error.code !== 'EPERM';
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
