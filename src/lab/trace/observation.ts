/**
 * One packet under observation: it is sent while every namespace that it may come through is listened to, and what was seen of it is put
 * in the order of time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { LabError } from '../errors.ts';
import { type NetworkState, readNetworkState } from '../network-state.ts';
import { Capture, type CapturedFrame } from './capture.ts';
import { obstacle, type Passage } from './decisions.ts';
import { fingerprint, type Frame, innermost, type Packet, readFrame } from './frames.ts';
import { type PacketOrder, TracedPacket } from './traced-packet.ts';

const POLL_MS = 2;
/** A neighbour is asked three times, a second apart (ip-sysctl: mcast_solicit, retrans_time_ms), and there may be several on the way. */
const LONGEST_MS = 15_000;
const HELD_POLL_MS = 50;

export interface TimedPassage extends Passage {
  /** Nanoseconds since 1970. */
  readonly at: bigint;
}

/** The links of each namespace, by index. */
type LinksByNamespace = ReadonlyMap<string, NetworkState['links']>;

/** What was seen of a packet. */
export interface Observation {
  /** In the order of time. */
  readonly passages: readonly TimedPassage[];
  readonly answer: { readonly packet: Packet; readonly at: bigint } | undefined;
  readonly refused: string | undefined;
  /** Of the namespaces that the packet was seen in, by namespace. */
  readonly states: ReadonlyMap<string, NetworkState>;
}

/**
 * Sends the packet, and listens until its answer is there or nothing more is seen of it.
 * @param namespaces to listen in
 * @param quietMs how long nothing has to be seen of it until it counts as gone
 * @throws LabError `LAB_SYSCALL`, `LAB_TRACE`
 */
export async function observe(order: PacketOrder, namespaces: readonly string[], quietMs: number): Promise<Observation> {
  const links = new Map(namespaces.map((name) => [name, readNetworkState(name).links]));
  const vxlanPorts = new Set([...links.values()].flatMap((each) => [...each.values()].flatMap(({ vxlan }) => vxlan?.port ?? [])));
  const packet = TracedPacket.open(order);
  const captures: Capture[] = [];
  try {
    for (const name of namespaces) captures.push(Capture.open(name));
    await captures[0]?.timed();
    const sightings = new Sightings(packet, vxlanPorts);
    const refused = packet.send();
    if (refused === undefined) await listen(captures, sightings, order, links, quietMs);
    // The answer is the last that is waited for; what was seen of the packet before it may not all have been read.
    for (const capture of captures) sightings.take(capture.read());
    const lost = captures.find((capture) => capture.lost() > 0);
    if (lost !== undefined)
      throw new LabError(
        'LAB_TRACE',
        `following a packet: ${lost.netns} had more traffic than could be read, and its way would have holes`,
      );
    return sightings.observation(refused, links);
  } finally {
    packet.close();
    for (const capture of captures) capture.close();
  }
}

/** Resolves when the answer is there, or nothing more is seen of the packet. */
async function listen(
  captures: readonly Capture[],
  sightings: Sightings,
  { destination, netns }: PacketOrder,
  links: LinksByNamespace,
  quietMs: number,
): Promise<void> {
  const startedAt = performance.now();
  let quietSince = startedAt;
  let isHeld = false;
  while (sightings.answer === undefined && performance.now() - startedAt < LONGEST_MS) {
    await sleep(POLL_MS);
    const news = captures.flatMap((capture) => sightings.take(capture.read()));
    const now = performance.now();
    if (news.length > 0) quietSince = now;
    if (now - quietSince < quietMs) continue;
    // A packet is held as long as the kernel asks for its neighbour, and goes on when that answers.
    const last = sightings.last(links);
    if (obstacle(destination, last, readNetworkState(last?.netns ?? netns))?.isAsked === true) {
      isHeld = true;
      await sleep(HELD_POLL_MS);
    } else if (isHeld) {
      // It was let go since the captures were read.
      isHeld = false;
      quietSince = performance.now();
    } else return;
  }
}

interface Sighting {
  readonly captured: CapturedFrame;
  readonly frame: Frame;
}

/** What was seen of one packet and of its answer. */
class Sightings {
  readonly #packet: TracedPacket;
  readonly #vxlanPorts: ReadonlySet<number>;
  /** By namespace, in the order of each. */
  readonly #seen = new Map<string, Sighting[]>();
  #fingerprint: string | undefined;
  #answer: { readonly packet: Packet; readonly at: bigint | undefined } | undefined;
  /** Of namespaces that were read before the sender's: it is not known yet which of them is the packet. */
  #undecided: CapturedFrame[] = [];

  constructor(packet: TracedPacket, vxlanPorts: ReadonlySet<number>) {
    this.#packet = packet;
    this.#vxlanPorts = vxlanPorts;
  }

  get answer(): unknown {
    return this.#answer;
  }

  /** Those of the frames that are the packet or its answer. */
  take(frames: readonly CapturedFrame[]): CapturedFrame[] {
    if (this.#fingerprint === undefined) {
      const first = frames.find((captured) => this.#isFirst(captured));
      if (first === undefined) {
        for (const each of frames) this.#undecided.push(each);
        return [];
      }
      const packet = this.#packetOf(first);
      this.#fingerprint = packet === undefined ? undefined : fingerprint(packet);
    }
    const all = [...this.#undecided, ...frames];
    this.#undecided = [];
    return all.filter((captured) => this.#takeOne(captured));
  }

  #packetOf({ bytes }: CapturedFrame): Packet | undefined {
    const frame = readFrame(bytes, this.#vxlanPorts);
    return frame === undefined ? undefined : innermost(frame);
  }

  #isFirst(captured: CapturedFrame): boolean {
    if (captured.netns !== this.#packet.order.netns || captured.direction !== 'out') return false;
    const packet = this.#packetOf(captured);
    return packet !== undefined && this.#packet.isThis(packet);
  }

  #takeOne(captured: CapturedFrame): boolean {
    const frame = readFrame(captured.bytes, this.#vxlanPorts);
    const packet = frame === undefined ? undefined : innermost(frame);
    if (frame === undefined || packet === undefined) return false;
    if (fingerprint(packet) === this.#fingerprint) {
      const seen = this.#seen.get(captured.netns);
      if (seen === undefined) this.#seen.set(captured.netns, [{ captured, frame }]);
      else seen.push({ captured, frame });
      return true;
    }
    const isAnswer = captured.netns === this.#packet.order.netns && captured.direction === 'in' && this.#packet.isAnswer(packet);
    if (isAnswer) this.#answer ??= { packet, at: captured.at };
    return isAnswer;
  }

  /** Where it was seen last. */
  last(links: LinksByNamespace): Passage | undefined {
    return this.#passages(links).at(-1);
  }

  #passages(links: LinksByNamespace): (Passage & { readonly at: bigint | undefined })[] {
    return inOrderOfTime([...this.#seen.values()]).flatMap(({ captured, frame }) => {
      const { netns, direction, at, forOthers } = captured;
      const link = links.get(netns)?.get(captured.link);
      // What a switch gave to everybody, and who it was not for throws away.
      return link === undefined || (forOthers && link.master === undefined) ? [] : [{ netns, link, direction, frame, at }];
    });
  }

  observation(refused: string | undefined, links: LinksByNamespace): Observation {
    const passages: TimedPassage[] = [];
    for (const passage of this.#passages(links)) {
      const { at } = passage;
      if (at === undefined) throw untimed();
      passages.push({ ...passage, at });
    }
    const { at, packet } = this.#answer ?? {};
    if (packet !== undefined && at === undefined) throw untimed();
    return {
      passages,
      answer: packet === undefined || at === undefined ? undefined : { packet, at },
      refused,
      states: new Map([...new Set(passages.map(({ netns }) => netns))].map((netns) => [netns, readNetworkState(netns)])),
    };
  }
}

/**
 * One list of many, each of them in order. By time alone it cannot be told: what goes up through the interfaces of a namespace can have
 * one time at all of them.
 */
function inOrderOfTime(lists: readonly (readonly Sighting[])[]): Sighting[] {
  const rest = lists.map((list) => [...list]);
  const all: Sighting[] = [];
  for (;;) {
    let earliest: Sighting[] | undefined;
    for (const list of rest) {
      const [head] = list;
      if (head === undefined) continue;
      if (earliest === undefined || (head.captured.at ?? 0n) < (earliest[0]?.captured.at ?? 0n)) earliest = list;
    }
    const next = earliest?.shift();
    if (next === undefined) return all;
    all.push(next);
  }
}

function untimed(): LabError {
  return new LabError('LAB_TRACE', 'following a packet: the kernel did not note when it saw each frame');
}
