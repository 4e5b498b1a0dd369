/**
 * One reader: what it asked for, its places in the logs, and what it has been sent. It is sent as much as it takes; where it takes no
 * more, the rest stays in the logs until they need the room.
 */
import { suggestPolicy } from '../../policy/suggest.ts';
import { TimeSlices } from '../../time-slices.ts';
import type { World } from '../../policy/world.ts';
import { API_VERSION, type Dropped, type FlowRecord, type ObservedRecord } from '../observed-flow.ts';
import type { ObservedFlow } from './describe.ts';
import type { FlowCursor, FlowLog } from './flow-log.ts';

/** Where a reader is. */
export interface Sink {
  write(text: string): void;
  /** Bytes that were written and have not been taken. */
  readonly pendingBytes: number;
}

/** So much is written ahead of a reader. */
export const PENDING_BYTES = 128 * 1024;
/** Of one reader in one turn: then it is somebody else's. It ends earlier where its time or the room before the reader does. */
const RECORDS_PER_TURN = 64;
/** Of the suggestions of one record: a pod may have thousands of labels, and each would be written out. */
const SUGGESTIONS_LENGTH = 64 * 1024;

export interface FlowReaderOptions {
  readonly sink: Sink;
  readonly node: string;
  /** Of what is refused first; then of what is allowed, where that is asked for. */
  readonly logs: readonly FlowLog<ObservedFlow>[];
  readonly wants: (flow: ObservedFlow) => boolean;
  /** ms since the epoch; undefined: nothing of what is remembered. */
  readonly since: number | undefined;
  /** Where it is given, what is refused is sent with what would admit it. */
  readonly suggestFrom: World | undefined;
  /** ms since the epoch. */
  readonly now: () => number;
  /** What was remembered has been sent. */
  readonly onLive: () => void;
}

interface Place {
  readonly cursor: FlowCursor<ObservedFlow>;
  /** The number of the first flow that was not there yet when the reader came. */
  readonly liveFrom: number;
}

export class FlowReader {
  readonly #options: FlowReaderOptions;
  readonly #places: readonly Place[];
  /** What it does not see and has not been told of, by whose records they would be and why; undefined: nobody knows how many. */
  readonly #dropped = new Map<`${Dropped['of']} ${Dropped['reason']}`, number | undefined>();
  #isLive = false;
  #hasToldLive = false;
  /** What it has to be told when it takes something again. Of several the last: it says how things are. */
  #untold: ObservedRecord | undefined;
  /** Lines of this turn. */
  #unsent = '';

  constructor(options: FlowReaderOptions) {
    this.#options = options;
    this.#places = options.logs.map((log) => ({ cursor: log.read(options.wants, options.since), liveFrom: log.end }));
  }

  close(): void {
    for (const { cursor } of this.#places) cursor.close();
  }

  /** Sends what there is, as far as it is taken and as a turn goes. @returns whether there may be more that it would take */
  pump(): boolean {
    if (this.isBlocked) return false;
    if (this.#untold !== undefined) this.#tell(this.#untold);
    this.#untold = undefined;
    this.#tellDropped();
    const slice = new TimeSlices();
    let isMore = false;
    let sent = 0;
    for (let flow = this.#take(); flow !== undefined; flow = this.#take()) {
      this.#unsent += `${this.#text(flow)}\n`;
      isMore = ++sent === RECORDS_PER_TURN || this.#unsent.length > PENDING_BYTES || slice.isOver;
      if (isMore) break;
    }
    this.#flush();
    if (this.#isLive && !this.#hasToldLive) {
      this.#hasToldLive = true;
      this.#options.onLive();
    }
    return isMore;
  }

  /** Sends a record that says how things are: at once, or where the reader takes nothing when it does again. */
  tell(record: ObservedRecord): void {
    if (this.isBlocked) {
      this.#untold = record;
      return;
    }
    this.#tell(record);
    this.#flush();
  }

  /** Whether so much is written ahead of the reader that it gets no more until it has taken some. */
  get isBlocked(): boolean {
    return this.#options.sink.pendingBytes > PENDING_BYTES;
  }

  /** Together: a system call costs more than a record. */
  #flush(): void {
    const text = this.#unsent;
    this.#unsent = '';
    if (text !== '') this.#options.sink.write(text);
  }

  #tell(record: ObservedRecord): void {
    this.#unsent += `${JSON.stringify(record)}\n`;
  }

  /** It will be told, when it takes something again, that it does not see so many; undefined: nobody knows how many. */
  drop(of: Dropped['of'], reason: Dropped['reason'], count: number | undefined): void {
    const key = `${of} ${reason}` as const;
    const before = this.#dropped.has(key) ? this.#dropped.get(key) : 0;
    this.#dropped.set(key, before === undefined || count === undefined ? undefined : before + count);
  }

  #take(): ObservedFlow | undefined {
    for (const { cursor } of this.#places) {
      const flow = cursor.take();
      // Before a flow that was not there when it came, and after all that were.
      if (this.#places.every((place) => place.cursor.next - (flow !== undefined && place.cursor === cursor ? 1 : 0) >= place.liveFrom))
        this.#tellLive();
      if (flow !== undefined) return flow;
    }
    return undefined;
  }

  #tellDropped(): void {
    const { node, now } = this.#options;
    for (const { cursor } of this.#places) {
      const count = cursor.takeLost();
      // The place says which log it is of.
      if (count > 0) this.drop(cursor === this.#places[0]?.cursor ? 'Denied' : 'Allowed', 'reader', count);
    }
    for (const [key, count] of this.#dropped) {
      const [of, reason] = key.split(' ') as [Dropped['of'], Dropped['reason']];
      this.#tell({
        kind: 'Dropped',
        apiVersion: API_VERSION,
        time: new Date(now()).toISOString(),
        node,
        of,
        reason,
        ...(count === undefined ? {} : { count }),
      });
    }
    this.#dropped.clear();
  }

  #tellLive(): void {
    if (this.#isLive) return;
    this.#isLive = true;
    this.#tell({ kind: 'Live', apiVersion: API_VERSION, time: new Date(this.#options.now()).toISOString() });
  }

  #text({ record, question }: ObservedFlow): string {
    const { suggestFrom } = this.#options;
    if (suggestFrom === undefined || record.kind !== 'Denied') return JSON.stringify(record satisfies FlowRecord);
    const isKnown = record.reason !== 'unknown' && !isCutOff(record) && isStillSo(suggestFrom, record, question);
    const suggestions = JSON.stringify(isKnown ? suggestPolicy(suggestFrom, question) : []);
    const text = JSON.stringify(record satisfies FlowRecord);
    return `${text.slice(0, -1)},"suggestions":${suggestions.length > SUGGESTIONS_LENGTH ? '[]' : suggestions}}`;
  }
}

/** TCP, UDP, SCTP (linux/in.h); of IPv6 the headers that come before another (linux/in6.h): hop-by-hop, routing, fragment, destination options. */
const NOT_ALL: ReadonlySet<number> = new Set([6, 17, 132, 0, 43, 44, 60]);

/**
 * Whether the packet holds, or was copied with, too little to say what it is: what would admit it is then every protocol and port, and
 * whoever can send such a packet should not be able to have that suggested.
 */
function isCutOff({ protocol, protocolNumber }: FlowRecord): boolean {
  return protocol === 'other' && NOT_ALL.has(protocolNumber);
}

/** Whether the addresses are still those of the pods that are named. */
function isStillSo(world: World, { source, destination }: FlowRecord, question: ObservedFlow['question']): boolean {
  return (
    [
      [source, question.source],
      [destination, question.destination],
    ] as const
  ).every(([end, address]) => {
    const pod = world.podAt(address);
    return pod?.namespace === end.namespace && pod?.name === end.pod;
  });
}
