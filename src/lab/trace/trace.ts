/**
 * Follows one packet through a lab. Every namespace that it may come through is listened to while it is on its way; what is seen of it
 * is put in the order of time, and beside each interface stands what in the kernel led the packet there.
 */
import type { Address } from '../../policy/address.ts';
import type { Lab } from '../lab.ts';
import { readNetworkState } from '../network-state.ts';
import type { ProbeProtocol } from '../prober/protocol.ts';
import { decisionsFor, isLocal, obstacle } from './decisions.ts';
import { type Frame, innermost, type Packet } from './frames.ts';
import { observe, type TimedPassage } from './observation.ts';
import { type CountingRule, readRuleCounters, rulesThatCounted } from './rule-counters.ts';

export interface TraceRequest {
  /** `namespace/pod`, `node/NAME`, or the name of a host outside. */
  readonly from: string;
  readonly source: Address;
  /** As `from`; undefined: nobody of the lab has the destination. */
  readonly to: string | undefined;
  /** Of the family of `source`. */
  readonly destination: Address;
  readonly protocol: ProbeProtocol;
  /** 0 with ICMP. */
  readonly port: number;
}

/** The packet at one interface. */
export interface Hop {
  /** Whose interface it is: `pod dev/web`, `node node-a`, `outside`. */
  readonly place: string;
  readonly netns: string;
  readonly interface: string;
  readonly direction: 'in' | 'out';
  /** Since the first hop, microseconds. */
  readonly afterUs: number;
  readonly frame: Frame;
  /** What led here: entries of the kernel's tables, and the policies' rules that were passed. */
  readonly decisions: readonly string[];
}

export interface Trace {
  readonly request: TraceRequest;
  /** In the order of time. */
  readonly hops: readonly Hop[];
  /** It came to somebody whose address it was for. */
  readonly arrived: boolean;
  /** What came back to the sender, and when, in microseconds since the first hop. */
  readonly answer: { readonly packet: Packet; readonly afterUs: number } | undefined;
  /** Where it was lost: the rules of the agent's table that dropped it. `noTable`: there is no such table there. */
  readonly dropped: readonly CountingRule[] | 'noTable';
  /** Why the kernel did not take it from the sender: `ENETUNREACH`. */
  readonly refused: string | undefined;
  /** Where it was lost: what the kernel lacks to send it on. A part of a sentence. */
  readonly obstacle: string | undefined;
}

export interface TraceOptions {
  /** How long nothing has to be seen of the packet and its answer until it counts as gone. Default: 500. */
  readonly quietMs?: number;
}

/**
 * Sends the packet, and follows it until its answer is there or nothing more is seen of it.
 * @throws LabError `LAB_SYSCALL`, `LAB_TRACE` where it could not be listened to
 */
export async function tracePacket(lab: Lab, request: TraceRequest, { quietMs = 500 }: TraceOptions = {}): Promise<Trace> {
  const places = placesOf(lab, request);
  const nodes = lab.nodes.map(({ netns }) => netns);
  const countersBefore = new Map(nodes.map((netns) => [netns, readRuleCounters(netns)]));
  const observation = await observe({ netns: lab.netns(request.from), ...request }, [...places.keys()], quietMs);
  const { passages, answer, refused, states } = observation;
  const [first] = passages;
  const since = (at: bigint): number => Number(at - (first?.at ?? at)) / 1000;
  const counted = (netns: string): CountingRule[] => rulesThatCounted(countersBefore.get(netns), readRuleCounters(netns));
  const judges = new Map(
    [...new Set(passages.map(({ netns }) => netns))].map((netns) => [netns, nodes.includes(netns) ? counted(netns) : []]),
  );
  const last = passages.at(-1);
  const state = last === undefined ? undefined : states.get(last.netns);
  const end = last === undefined ? undefined : innermost(last.frame);
  const isTaken = last?.direction === 'in' && last.link.master === undefined && last.frame.packet?.vxlan === undefined;
  const arrived = isTaken && end !== undefined && state !== undefined && isLocal(state, end.destination);
  return {
    request,
    hops: passages.map((passage, index): Hop => {
      const { netns, link, direction, frame, at } = passage;
      // Policy is in the hook `forward`: before the packet leaves the node's interfaces for the first time.
      const isForwarded = direction === 'out' && passages.findIndex((each) => each.netns === netns && each.direction === 'out') === index;
      const accepted = isForwarded ? (judges.get(netns) ?? []).filter(({ verdict }) => verdict === 'accept').map(ruleText) : [];
      const stateHere = states.get(netns);
      const [way, ...rest] = stateHere === undefined ? [] : decisionsFor(passage, passages[index - 1], stateHere);
      return {
        place: places.get(netns) ?? netns,
        netns,
        interface: link.name,
        direction,
        afterUs: since(at),
        frame,
        // The hook comes when the way out is known, and before it is taken.
        decisions: [...(way === undefined ? [] : [way]), ...accepted, ...rest],
      };
    }),
    arrived,
    answer: answer === undefined ? undefined : { packet: answer.packet, afterUs: since(answer.at) },
    dropped: arrived ? [] : droppedBy(last, judges, countersBefore),
    refused,
    obstacle: arrived ? undefined : obstacle(request.destination, last, state ?? readNetworkState(lab.netns(request.from)))?.text,
  };
}

/** Whose each namespace is that the packet may come through, by namespace: nodes and the host outside, and the pods it is about. */
function placesOf(lab: Lab, { from, to }: TraceRequest): ReadonlyMap<string, string> {
  const isConcerned = (key: string): boolean => to === undefined || key === from || key === to;
  return new Map([
    ...lab.pods.filter(({ hostNetwork, key }) => !hostNetwork && isConcerned(key)).map(({ netns, key }) => [netns, `pod ${key}`] as const),
    ...lab.nodes.map(({ netns, name }) => [netns, `node ${name}`] as const),
    [lab.outsideNetns, 'outside'] as const,
  ]);
}

function droppedBy(
  last: TimedPassage | undefined,
  judges: ReadonlyMap<string, readonly CountingRule[]>,
  counters: ReadonlyMap<string, unknown>,
): Trace['dropped'] {
  if (last === undefined || counters.get(last.netns) === undefined) return 'noTable';
  return (judges.get(last.netns) ?? []).filter(({ verdict }) => verdict === 'drop');
}

/** `rule  policy/dev/allow/ingress accept ingress[0].from[0]` */
function ruleText({ chain, place, verdict }: CountingRule): string {
  return `rule  ${chain} ${verdict}${place === undefined ? '' : ` ${place}`}`;
}
