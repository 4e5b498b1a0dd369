/**
 * A packet's way for people: place by place and interface by interface, above each interface what led there. A frame that looks as it
 * did at the interface before is not written out again.
 */
import type { Paint } from '../../output/colour.ts';
import { formatAddress } from '../../policy/address.ts';
import { type Frame, IPPROTO, type Packet } from './frames.ts';
import { describePacket } from './request.ts';
import type { CountingRule } from './rule-counters.ts';
import type { Trace } from './trace.ts';

/** Where a hop begins: behind the time. */
const INDENT = 12;

/** @param width of the lines */
export function* traceReport(trace: Trace, paint: Paint, width: number): Generator<string> {
  const { request, hops } = trace;
  const to = request.to === undefined ? '' : ` to ${request.to}`;
  yield* wrapped(`One packet from ${request.from}${to}: ${describePacket(request)}`, 0, 2, width).map((line) => paint('bold', line));
  for (const [index, hop] of hops.entries()) {
    const before = hops[index - 1];
    if (before?.netns !== hop.netns) yield paint('bold', hop.place);
    for (const decision of hop.decisions) for (const line of wrapped(decision, 2, 8, width)) yield paint('dim', line);
    const time = timeText(hop.afterUs).padStart(9);
    const interfaceText = `${hop.interface} ${hop.direction}`;
    const lines = frameLines(hop.frame);
    const isAsBefore = before !== undefined && lines.join('\n') === frameLines(before.frame).join('\n');
    yield `${time}   ${paint('green', interfaceText)}${isAsBefore ? '  the same' : ''}`;
    if (!isAsBefore) for (const line of lines) yield* wrapped(line, INDENT + 2, INDENT + 8, width);
  }
  const isGood = trace.arrived;
  for (const line of wrapped(ending(trace), 0, 2, width)) yield paint(isGood ? 'green' : 'red', line);
}

/** Ethernet, IP and what it carries; of VXLAN the same of the frame inside. */
export function frameLines({ source, destination, packet }: Frame): string[] {
  const ethernet = `ether ${source} > ${destination}`;
  if (packet === undefined) return [ethernet];
  const lines = [ethernet, packetLine(packet)];
  if (packet.vxlan === undefined) return lines;
  return [...lines, `VXLAN id ${packet.vxlan.vni}`, ...frameLines(packet.vxlan.frame).map((line) => `  ${line}`)];
}

function packetLine({ header, source, destination }: Packet): string {
  const [ip, ttl] = header.family === 'ip' ? ['IP', 'ttl'] : ['IP6', 'hlim'];
  return `${ip} ${formatAddress(source)} > ${formatAddress(destination)} ${ttl} ${header.hopLimit}, ${transportText(header)}`;
}

function transportText({ protocol, sourcePort, destinationPort, tcpFlags, icmpType }: Packet['header']): string {
  const name = PROTOCOL_NAMES.get(protocol) ?? `protocol ${protocol}`;
  const ports = sourcePort === undefined || destinationPort === undefined ? '' : ` ${sourcePort} > ${destinationPort}`;
  const type = icmpType === undefined ? '' : ` ${ICMP_TYPES.get(icmpType) ?? `type ${icmpType}`}`;
  const flags = TCP_FLAGS.filter(([bit]) => ((tcpFlags ?? 0) & bit) !== 0).map(([, flag]) => flag);
  return `${name}${ports}${type}${flags.length === 0 ? '' : ` ${flags.join(' ')}`}`;
}

const PROTOCOL_NAMES: ReadonlyMap<number, string> = new Map([
  [IPPROTO.ICMP, 'ICMP'],
  [IPPROTO.TCP, 'TCP'],
  [IPPROTO.UDP, 'UDP'],
  [IPPROTO.ICMPV6, 'ICMPv6'],
  [IPPROTO.SCTP, 'SCTP'],
]);
/** RFC 792, RFC 4443. */
const ICMP_TYPES: ReadonlyMap<number, string> = new Map([
  [0, 'echo reply'],
  [8, 'echo request'],
  [128, 'echo request'],
  [129, 'echo reply'],
]);
/** RFC 9293. */
const TCP_FLAGS = [
  [2, 'SYN'],
  [16, 'ACK'],
  [1, 'FIN'],
  [4, 'RST'],
  [8, 'PSH'],
  [32, 'URG'],
] as const;

/** What became of the packet. */
function ending({ request, hops, arrived, answer, dropped, refused, obstacle }: Trace): string {
  const last = hops.at(-1);
  if (last === undefined) {
    const why = refused === undefined ? 'no interface saw it' : `the kernel did not take it (${refused})`;
    return `It did not leave ${request.from}: ${why}${obstacle === undefined ? '' : `; ${obstacle}`}.`;
  }
  if (arrived) {
    const back =
      answer === undefined
        ? 'no answer came back'
        : `the answer, ${transportText(answer.packet.header)}, after ${timeText(answer.afterUs)}`;
    return `It arrived after ${timeText(last.afterUs)}; ${back}.`;
  }
  return `It was last seen on ${last.place}, ${last.interface} ${last.direction}; ${lossText(dropped, obstacle)}.`;
}

function lossText(dropped: readonly CountingRule[] | 'noTable', obstacle: string | undefined): string {
  if (dropped !== 'noTable' && dropped.length > 0) {
    const chains = dropped.map(({ chain, place }) => `${chain}${place === undefined ? '' : ` (${place})`}`);
    return `there the table inet sluice dropped it, in the chain ${chains.join(', ')}`;
  }
  if (obstacle !== undefined) return obstacle;
  const judged = dropped === 'noTable' ? '' : 'no rule of the table inet sluice dropped it, and ';
  return `${judged}what became of it there is not known`;
}

/** @param us microseconds */
function timeText(us: number): string {
  return us < 10_000 ? `${us.toFixed(0)} µs` : `${(us / 1000).toFixed(0)} ms`;
}

/** Single blanks, but not before a unit. */
const BREAKS = /(?<=\S) (?=\S)(?!(?:µs|ms)\b)/u;

/** Broken at blanks, into lines of at most `width` where words allow it. @param indent of the first line @param more of the others */
function wrapped(text: string, indent: number, more: number, width: number): string[] {
  const lines: string[] = [];
  // Blanks at its start are the text's own indentation.
  const own = text.length - text.trimStart().length;
  let line = ' '.repeat(indent + own);
  for (const word of text.slice(own).split(BREAKS)) {
    const isEmpty = line.trim() === '';
    if (!isEmpty && line.length + 1 + word.length > width) {
      lines.push(line);
      line = ' '.repeat(more + own) + word;
    } else line += isEmpty ? word : ` ${word}`;
  }
  return [...lines, line];
}
