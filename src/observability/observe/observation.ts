/**
 * What the agent remembers and tells of connections: reads the log group of refused packets, and new tracked flows while somebody asks
 * for them; names what it reads at once; and gives it to whoever comes to the socket.
 *
 * Nothing here may stand in policy's way, whatever the network does: of a flood so many packets are described and the rest is counted,
 * and a reader that is slow is never waited for (see FlowLog).
 */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { ConntrackEvents, type Flow, type Poller } from 'nftables-js';
import { addressFromBytes } from '../../policy/address.ts';
import type { World } from '../../policy/world.ts';
import type { Logger } from '../log.ts';
import { errorFields } from '../log.ts';
import { connectionBound } from '../connections.ts';
import { API_VERSION, type Failed, OBSERVE_REQUEST, type ObserveRequest, type Observing } from '../observed-flow.ts';
import { bytesOf, describeAllowed, describeDenied, namespaceOfPrefix, type ObservedFlow, type Viewpoint } from './describe.ts';
import { FlowFilter } from './flow-filter.ts';
import { FlowLog } from './flow-log.ts';
import { FlowReader } from './flow-reader.ts';
import { ObserveServer } from './observe-server.ts';
import { type RefusedCount, RefusedCounts } from './refused-counts.ts';
import { RefusedLog } from './refused-log.ts';
import { DescribingTime, SampleBudget } from './sample-budget.ts';

/** The names that there are, for those who mistype one. */
export interface KnownNames {
  namespaceNames(): Iterable<string>;
  /** Of the pods of a namespace; empty where there is no such namespace. */
  podNames(namespace: string): Iterable<string>;
}

export interface ObservationMetrics {
  /** A flow was described. */
  observed(kind: 'Denied' | 'Allowed'): void;
  /** Flows were not, undefined: nobody knows how many. */
  unobserved(kind: 'Denied' | 'Allowed', reason: 'sampling' | 'overrun', count: number | undefined): void;
}

export interface ObservationOptions {
  readonly node: string;
  readonly world: World & KnownNames;
  readonly poller: Poller;
  readonly log: Logger;
  /** Undefined: refused packets are not logged. */
  readonly logGroup: number | undefined;
  /** The socket's file. */
  readonly socket: string;
  /** What the refusing rules have counted. Reads the kernel's table, which takes its time. */
  readonly refused: () => AsyncIterable<RefusedCount>;
  /** Whether the world is known as a whole: before that a name that it lacks may exist, and nobody can say what policy allows. */
  readonly isSynced: () => boolean;
  readonly metrics?: ObservationMetrics | undefined;
}

/** How many flows are remembered: of what is refused, so that `--since` has something to tell, more than of what is allowed. */
export const REMEMBERED = { Denied: 4_096, Allowed: 1_024 } as const;
/** Of memory: so many ordinary flows fit twice; of those whose names are as long as names may be, a quarter does. */
export const REMEMBERED_BYTES = { Denied: 16 << 20, Allowed: 4 << 20 } as const;
/** So many packets are described a second, while somebody reads and while nobody does; the kernel logs no more than 10 a second for each pod and direction. */
export const DESCRIBED_A_SECOND = { observed: 1_000, unobserved: 100 } as const;
const DESCRIBED_AT_ONCE = 200;
/** The counters of all rules are looked at so often at most, and no more than this share of the time. */
const LOOK_MS = 1_000;
const LOOK_SHARE = 1 / 50;
/** Within this time after a look at the counters, the packets that they count have arrived here. */
const ARRIVED_MS = 250;
const READERS = 32;
/** Of all connections at least this part, and no more than so many, beside those of readers: who is told that there are too many, or what was wrong. */
const LEAVING_PART = 1 / 4;
const LEAVING = 8;
/** Who is sent away has so much time to read why. */
const LEAVE_MS = 1_000;
/** A request is a line of so many bytes at most, and comes within this time. */
const REQUEST_BYTES = 64 * 1024;
const REQUEST_MS = 10_000;
/** Who has said nothing for so long gives way to whoever comes while all places are taken. */
const SILENT_MS = 1_000;
/** Of `known` names that are sent to find the nearest among. */
const KNOWN_NAMES = 2_000;
/** For some five thousand flows; with more the kernel drops what nobody could read in time. */
const ALLOWED_RECEIVE_BYTES = 2 << 20;

interface Reader {
  readonly flows: FlowReader;
  readonly socket: Socket;
  readonly filter: FlowFilter;
  readonly wantsAllowed: boolean;
}

export class Observation {
  readonly #options: ObservationOptions;
  readonly #denied = new FlowLog<ObservedFlow>({ entries: REMEMBERED.Denied, bytes: REMEMBERED_BYTES.Denied, bytesOf });
  readonly #allowed = new FlowLog<ObservedFlow>({ entries: REMEMBERED.Allowed, bytes: REMEMBERED_BYTES.Allowed, bytesOf });
  readonly #describingTime = { Denied: new DescribingTime(), Allowed: new DescribingTime() };
  readonly #budgets = {
    Denied: new SampleBudget(DESCRIBED_A_SECOND.unobserved, DESCRIBED_AT_ONCE, performance.now()),
    Allowed: new SampleBudget(DESCRIBED_A_SECOND.observed, DESCRIBED_AT_ONCE, performance.now()),
  };
  readonly #refusedLog: RefusedLog | undefined;
  readonly #server: ObserveServer;
  readonly #readers = new Set<Reader>();
  /** How many may be connected at once, and how many of them read. */
  readonly #bound = connectionBound(READERS + LEAVING);
  readonly #places = this.#bound - Math.min(LEAVING, Math.ceil(this.#bound * LEAVING_PART));
  #connections = 0;
  /** Whose request has not come yet, and since when (ms); the oldest first. */
  readonly #silent = new Map<Socket, number>();
  /** Who has been told all, and takes its time to read it. */
  readonly #finishing = new Set<Socket>();
  /** Of all allowed flows, while somebody reads them. */
  #conntrack: ConntrackEvents | undefined;
  /** While somebody reads. */
  #counts: RefusedCounts | undefined;
  #lookTimer: NodeJS.Timeout | undefined;
  #pumping: NodeJS.Immediate | undefined;
  /** Flows that began and were not described, since it was told last. */
  #sampledOut = 0;
  #isOverrun = false;

  constructor(options: ObservationOptions) {
    const { poller, logGroup, log, socket, metrics } = options;
    this.#options = options;
    this.#server = new ObserveServer({
      path: socket,
      onReader: (reader) => this.#greet(reader),
      connections: this.#bound,
      onFault: (error) => log.warn({ ...errorFields(error), socket }, 'sluice observe cannot reach this agent; tried again until it can'),
    });
    if (logGroup === undefined) return;
    this.#refusedLog = new RefusedLog({
      poller,
      group: logGroup,
      onPacket: (packet) => {
        const now = performance.now();
        const namespace = namespaceOfPrefix(packet.prefix);
        if (!this.#describingTime.Denied.isFree(namespace, now) || !this.#budgets.Denied.take(now))
          metrics?.unobserved('Denied', 'sampling', 1);
        else this.#take('Denied', namespace, () => describeDenied(this.#view, packet, Date.now()));
      },
      onLost: (count) => metrics?.unobserved('Denied', 'overrun', count),
      onFault: (error) => {
        log.warn(
          { ...errorFields(error), code: 'LOG_GROUP_TAKEN', logGroup },
          'refused packets cannot be read: another program reads their log group (see /proc/net/netfilter/nfnetlink_log); tried again until it is free',
        );
        this.#tellState();
      },
      onReading: () => this.#tellState(),
    });
  }

  close(): void {
    this.#counts = undefined;
    clearTimeout(this.#lookTimer);
    clearImmediate(this.#pumping);
    this.#refusedLog?.close();
    this.#conntrack?.close();
    this.#server.close();
  }

  get #view(): Viewpoint {
    const { world, node, isSynced } = this.#options;
    return { world, node, isSynced: isSynced() };
  }

  /** What goes wrong with one packet or one reader is told, and is of no account for policy. */
  #attempt<T>(doing: string, action: () => T): T | undefined {
    try {
      return action();
    } catch (error) {
      this.#options.log.error({ ...errorFields(error), doing }, 'observing failed; please report it');
      return undefined;
    }
  }

  /** @param account who pays for the time that it takes */
  #take(kind: 'Denied' | 'Allowed', account: string, describe: () => ObservedFlow | undefined): void {
    const before = performance.now();
    const flow = this.#attempt('describing a packet', describe);
    const now = performance.now();
    this.#describingTime[kind].used(account, now - before, now);
    if (flow === undefined) return;
    (kind === 'Denied' ? this.#denied : this.#allowed).push(flow);
    this.#options.metrics?.observed(kind);
    if (flow.refusedBy !== undefined) this.#counts?.described(flow.refusedBy.direction, flow.refusedBy.pod, flow.at);
    if (this.#readers.size > 0) this.#pumpSoon();
  }

  // --- readers

  #pumpSoon(): void {
    this.#pumping ??= setImmediate(() => {
      this.#pumping = undefined;
      let isMore = false;
      for (const reader of this.#readers) isMore = this.#attempt('telling a reader', () => reader.flows.pump()) === true || isMore;
      if (isMore) this.#pumpSoon();
    });
  }

  /** Reads the request of one who has come. */
  #greet(socket: Socket): void {
    if (this.#connections >= this.#places && !this.#makeRoom()) {
      listenToNothing(socket);
      sendAway(socket, failure('READERS_TOO_MANY', `${this.#places} readers are there already`));
      return;
    }
    this.#connections++;
    this.#silent.set(socket, performance.now());
    const timer = setTimeout(() => socket.destroy(), REQUEST_MS).unref();
    socket.on('close', () => {
      this.#connections--;
      this.#silent.delete(socket);
      this.#finishing.delete(socket);
      clearTimeout(timer);
    });
    let text = '';
    socket.setEncoding('utf8');
    const read = (chunk: string): void => {
      // In what is new: a client may send a byte at a time.
      const end = chunk.indexOf('\n');
      text += end < 0 ? chunk : chunk.slice(0, end);
      if (end < 0 && text.length < REQUEST_BYTES) return;
      clearTimeout(timer);
      this.#silent.delete(socket);
      socket.off('data', read);
      listenToNothing(socket);
      this.#admit(socket, text.slice(0, REQUEST_BYTES));
    };
    socket.on('data', read);
  }

  /**
   * Ends who has been silent for longest, or where nobody is who takes nothing of what it was told. @returns whether there is a place now
   */
  #makeRoom(): boolean {
    const [oldest] = this.#silent;
    if (oldest !== undefined && performance.now() - oldest[1] >= SILENT_MS) {
      // Ended before its place is given away, so that there are never more.
      oldest[0].destroy();
      this.#silent.delete(oldest[0]);
      return true;
    }
    for (const { flows, socket } of this.#readers) {
      // One that is about to be gone has given its place to somebody before.
      if (!flows.isBlocked || socket.destroyed) continue;
      socket.destroy();
      return true;
    }
    for (const socket of this.#finishing) {
      socket.destroy();
      this.#finishing.delete(socket);
      return true;
    }
    return false;
  }

  #admit(socket: Socket, text: string): void {
    const refuse = (failed: Failed): void => sendAway(socket, failed);
    const request = readRequest(text);
    if (request === undefined) {
      return refuse(
        failure('REQUEST_UNREADABLE', `this agent speaks ${API_VERSION}, and cannot read the request; is the program of the same version?`),
      );
    }
    const filter = FlowFilter.read(request.filter);
    if ('unreadable' in filter) return refuse(failure('REQUEST_UNREADABLE', `${filter.unreadable} is no name, address or CIDR`));
    const unknown = this.#unknownName(filter);
    if (unknown !== undefined) return refuse(unknown);
    if (this.#options.logGroup === undefined && !request.allowed) {
      return refuse(failure('LOG_GROUP_OFF', 'this agent logs no refused packets (--log-group 0), and so sees none'));
    }
    this.#serve(socket, request, filter);
  }

  #serve(socket: Socket, request: ObserveRequest, filter: FlowFilter): void {
    const sink = {
      write: (text: string) => void socket.write(text),
      get pendingBytes() {
        return socket.writableLength;
      },
    };
    const flows = new FlowReader({
      sink,
      node: this.#options.node,
      logs: request.allowed ? [this.#denied, this.#allowed] : [this.#denied],
      wants: (flow) => filter.wants(flow),
      since: request.since === undefined ? undefined : Date.parse(request.since),
      suggestFrom: request.suggest ? this.#options.world : undefined,
      now: Date.now,
      onLive: () => {
        if (!request.follow) leave();
      },
    });
    const reader: Reader = { flows, filter, socket, wantsAllowed: request.allowed };
    this.#readers.add(reader);
    this.#readersChanged();
    flows.tell(this.#state(reader));
    socket.on('drain', () => this.#pumpSoon());
    const leave = (): void => {
      if (!this.#readers.delete(reader)) return;
      flows.close();
      this.#readersChanged();
      socket.end();
      this.#finishing.add(socket);
    };
    socket.on('close', leave);
    this.#pumpSoon();
  }

  #readersChanged(): void {
    const isObserved = this.#readers.size > 0;
    this.#budgets.Denied.perSecond = DESCRIBED_A_SECOND[isObserved ? 'observed' : 'unobserved'];
    if (isObserved && this.#counts === undefined) {
      this.#counts = new RefusedCounts();
      void this.#look();
    } else if (!isObserved) {
      this.#counts = undefined;
      clearTimeout(this.#lookTimer);
    }
    const wantsAllowed = [...this.#readers].some((reader) => reader.wantsAllowed);
    if (wantsAllowed && this.#conntrack === undefined) this.#conntrack = this.#attempt('following new flows', () => this.#followFlows());
    else if (!wantsAllowed) {
      this.#conntrack?.close();
      this.#conntrack = undefined;
      this.#sampledOut = 0;
      this.#isOverrun = false;
    }
  }

  #followFlows(): ConntrackEvents {
    const { poller, metrics } = this.#options;
    return ConntrackEvents.open({
      poller,
      events: ['new'],
      receiveBytes: ALLOWED_RECEIVE_BYTES,
      onEvent: (event) => {
        if (event.event === 'overrun') {
          this.#isOverrun = true;
          metrics?.unobserved('Allowed', 'overrun', undefined);
          return;
        }
        const { flow } = event;
        const now = performance.now();
        const account = accountOf(this.#options.world, flow);
        if (this.#describingTime.Allowed.isFree(account, now) && this.#budgets.Allowed.take(now))
          this.#take('Allowed', account, () => describeAllowed(this.#view, flow, Date.now()));
        else {
          this.#sampledOut++;
          metrics?.unobserved('Allowed', 'sampling', 1);
        }
      },
    });
  }

  /** The name in a filter that neither the cluster has nor a flow that is remembered. Looks at everything once, however many names there are. */
  #unknownName({ names }: FlowFilter): Failed | undefined {
    const { world, isSynced } = this.#options;
    if (!isSynced()) return undefined;
    if (names.length === 0) return undefined;
    const remembered = this.#rememberedNames();
    const namespaces = new Set(world.namespaceNames());
    const pods = new Map<string, ReadonlySet<string>>();
    for (const name of names) {
      const { namespace } = name;
      if (remembered.has(name.kind === 'namespace' ? namespace : `${namespace}/${name.pod}`)) continue;
      if (!namespaces.has(namespace)) {
        return {
          ...failure('NAME_UNKNOWN', `there is no namespace ${namespace}`),
          name: namespace,
          known: firstOf(namespaces),
        };
      }
      if (name.kind === 'namespace') continue;
      const podsThere = pods.get(namespace) ?? new Set(world.podNames(namespace));
      pods.set(namespace, podsThere);
      if (!podsThere.has(name.pod)) {
        return {
          ...failure('NAME_UNKNOWN', `there is no pod ${name.pod} in namespace ${namespace}`),
          name: name.pod,
          known: firstOf(podsThere),
        };
      }
    }
    return undefined;
  }

  /** Of all flows that are remembered: `namespace`, and `namespace/pod`. */
  #rememberedNames(): ReadonlySet<string> {
    const names = new Set<string>();
    for (const log of [this.#denied, this.#allowed]) {
      for (const { record } of log.entries()) {
        for (const { namespace, pod } of [record.source, record.destination]) {
          if (namespace === undefined) continue;
          names.add(namespace);
          names.add(`${namespace}/${pod}`);
        }
      }
    }
    return names;
  }

  #state({ wantsAllowed }: Reader): Observing {
    const { node, logGroup } = this.#options;
    return {
      kind: 'Observing',
      apiVersion: API_VERSION,
      time: new Date().toISOString(),
      node,
      denied: this.#refusedLog === undefined ? 'off' : this.#refusedLog.isReading ? 'on' : 'busy',
      allowed: !wantsAllowed ? 'not asked for' : this.#conntrack !== undefined && hasFlowEvents() ? 'on' : 'unavailable',
      ...(logGroup === undefined ? {} : { logGroup }),
    };
  }

  #tellState(): void {
    for (const reader of this.#readers) reader.flows.tell(this.#state(reader));
  }

  // --- what is not shown

  async #look(): Promise<void> {
    const counts = this.#counts;
    if (counts === undefined) return;
    const before = performance.now();
    try {
      // Not before: whose chains there are is not known, and what was counted earlier would be taken for new.
      if (this.#options.isSynced()) {
        const refused = await Array.fromAsync(this.#options.refused());
        counts.look(refused, Date.now());
      }
    } catch (error) {
      // The table may be gone, or being replaced; it is counted again at the next look.
      this.#options.log.debug(errorFields(error), 'the counters cannot be read');
    }
    // Nobody may be asking any more.
    if (this.#counts !== counts) return;
    const tookMs = performance.now() - before;
    this.#lookTimer = setTimeout(() => {
      this.#tellDropped(counts);
      this.#lookTimer = setTimeout(() => void this.#look(), Math.max(LOOK_MS - ARRIVED_MS, tookMs / LOOK_SHARE)).unref();
    }, ARRIVED_MS).unref();
  }

  #tellDropped(counts: RefusedCounts): void {
    const missed = [...counts.takeMissed()];
    for (const { flows, filter, wantsAllowed } of this.#readers) {
      const count = missed.reduce((sum, each) => sum + (filter.mayWant(each.direction, each.pod) ? each.count : 0), 0);
      if (count > 0) flows.drop('Denied', 'rate', count);
      if (wantsAllowed && this.#sampledOut > 0) flows.drop('Allowed', 'sampling', this.#sampledOut);
      if (wantsAllowed && this.#isOverrun) flows.drop('Allowed', 'overrun', undefined);
    }
    this.#sampledOut = 0;
    this.#isOverrun = false;
    this.#pumpSoon();
  }
}

/** The namespace whose rules a new flow is described by, and that pays for it: of the pod that it comes to, or that it comes from. */
function accountOf(world: World, { original, reply }: Pick<Flow, 'original' | 'reply'>): string {
  const pod = world.podAt(addressFromBytes(reply.source)) ?? world.podAt(addressFromBytes(original.source));
  return pod?.namespace ?? '';
}

/** As many as are sent. */
function firstOf(names: Iterable<string>): string[] {
  const first: string[] = [];
  for (const name of names) {
    if (first.length === KNOWN_NAMES) break;
    first.push(name);
  }
  return first;
}

/** Whether the kernel tells of new flows (net.netfilter.nf_conntrack_events; 2 is "while somebody listens"). */
function hasFlowEvents(): boolean {
  try {
    return readFileSync('/proc/sys/net/netfilter/nf_conntrack_events', 'utf8').trim() !== '0';
  } catch {
    // Kernels before 5.19 without CONFIG_NF_CONNTRACK_EVENTS have no such file, nor do containers that hide it.
    return true;
  }
}

/** What it says is of no account, but its end has to be heard; and who says much nevertheless is not listened to any more. */
function listenToNothing(socket: Socket): void {
  let length = 0;
  socket.on('data', (chunk: string | Uint8Array) => {
    length += chunk.length;
    if (length > REQUEST_BYTES) socket.destroy();
  });
}

function sendAway(socket: Socket, failed: Failed): void {
  socket.end(line(failed));
  endWithin(socket, LEAVE_MS);
}

/** Who does not end its side would keep the descriptor. */
function endWithin(socket: Socket, ms: number): void {
  const timer = setTimeout(() => socket.destroy(), ms).unref();
  socket.once('close', () => clearTimeout(timer));
}

function readRequest(text: string): ObserveRequest | undefined {
  try {
    return OBSERVE_REQUEST.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function failure(code: string, message: string): Failed {
  return { kind: 'Failed', apiVersion: API_VERSION, code, message };
}

function line(record: Failed): string {
  return `${JSON.stringify(record)}\n`;
}
