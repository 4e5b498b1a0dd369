/**
 * What the kernel of a node does with the first packet of a flow, read from its own rules and sets and not from what they should be: the
 * packet is followed through the table as it is, so that a rule that somebody else put there, or took out, is seen.
 */
import type { Expression, Rule } from 'nftables-js';
import { ruleText } from '../doctor/rule-text.ts';
import { type ChainOutcome, type Hit, PROTOCOL, type TestPacket, walk } from '../doctor/rule-walk.ts';
import type { Rules } from '../doctor/evidence.ts';
import { type Address, familyOf, widthOf } from '../policy/address.ts';
import type { DirectionVerdict, Question } from '../policy/evaluate.ts';
import type { Direction, Protocol } from '../policy/objects.ts';
import type { KernelTable } from './kernel-table.ts';

/** A rule of the kernel, for people and programs. */
export interface KernelRule {
  readonly chain: string;
  /** As `nft -a` shows it. */
  readonly handle: string | undefined;
  /** Of a policy's rule: where it stands in the policy, `ingress[0].from[1]`. */
  readonly comment: string | undefined;
  /** Nearly as nft would print it. */
  readonly text: string;
  /** What its counter has counted; undefined: it has none. */
  readonly packets: number | undefined;
  readonly bytes: number | undefined;
}

/** What a base chain does with the packet. */
export interface KernelVerdict {
  /** `unknown`: it depends on what cannot be seen from outside, or on what only the kernel can read. */
  readonly effect: 'accept' | 'drop' | 'unknown';
  /** The rules that led to {@link rule}, from the base chain on. */
  readonly via: readonly KernelRule[];
  /** The one that decides; undefined: none did, and the policy of the base chain holds. */
  readonly rule: KernelRule | undefined;
  /** It is let through by the end of its pod's chain, which counts what policy refuses and audits it. */
  readonly audited: boolean;
}

/** A packet's way: egress of its sender, then ingress of its receiver. A chain of the table that nobody knows is `other`. */
export interface KernelWay extends Readonly<Record<Direction, KernelVerdict | undefined>> {
  readonly others: readonly { readonly chain: string; readonly verdict: KernelVerdict }[];
}

export interface Agreement {
  readonly agrees: 'yes' | 'no' | 'unknown';
  /** How they differ, as a sentence without its end. */
  readonly difference?: string;
}

/** Follows the first packet of a flow (ICMP: an echo request) through the hook `forward`. */
export function followKernel(table: KernelTable, question: Question): KernelWay {
  const outcomes = walk(rulesOf(table), packetOf(question));
  const of = (direction: Direction): KernelVerdict | undefined => {
    const outcome = outcomes.find(({ chain }) => chain.name === direction);
    return outcome && verdictOf(table, outcome, direction);
  };
  const others = outcomes
    .filter(({ chain }) => chain.name !== 'egress' && chain.name !== 'ingress')
    .map((outcome) => ({ chain: outcome.chain.name, verdict: verdictOf(table, outcome, undefined) }));
  return { egress: of('egress'), ingress: of('ingress'), others };
}

/**
 * Whether the kernel does what the evaluator says.
 *
 * @param audited whether what is refused is to be let through (`isAudited`); undefined: not known, and then the kernel is believed
 */
export function compareWithKernel(verdict: DirectionVerdict, kernel: KernelVerdict | undefined, audited: boolean | undefined): Agreement {
  if (kernel === undefined) {
    return verdict.allowed
      ? { agrees: 'no', difference: 'the base chain of this direction is missing' }
      : { agrees: 'no', difference: 'the base chain of this direction is missing, so that nothing is refused' };
  }
  if (kernel.effect === 'unknown') return { agrees: 'unknown', difference: 'what the kernel does cannot be told from its rules alone' };
  if (verdict.allowed) {
    if (kernel.audited)
      return { agrees: 'no', difference: 'policy admits it, and the kernel would refuse it: it is let through by audit alone' };
    return kernel.effect === 'accept' ? { agrees: 'yes' } : { agrees: 'no', difference: 'policy admits it, and the kernel drops it' };
  }
  if (kernel.effect === 'drop') {
    return audited === true ? { agrees: 'no', difference: 'the pod is audited, and the kernel drops it all the same' } : { agrees: 'yes' };
  }
  if (!kernel.audited) return { agrees: 'no', difference: 'policy refuses it, and the kernel lets it through' };
  return audited === false
    ? { agrees: 'no', difference: 'policy refuses it, and the kernel audits the pod where it should not' }
    : { agrees: 'yes' };
}

/** Reading the whole table anew for every flow would cost more than following it. */
const converted = new WeakMap<KernelTable, Rules>();

function rulesOf(table: KernelTable): Rules {
  const known = converted.get(table);
  if (known !== undefined) return known;
  const rules: Rules = {
    tables: [table.table],
    chains: table.chains.map(({ chain }) => chain),
    rules: table.chains.flatMap((chain) => chain.rules),
    sets: table.sets.map(({ definition, elements }) => ({ ...definition, elements })),
  };
  converted.set(table, rules);
  return rules;
}

/** RFC 792 and RFC 4443: echo request. */
const ECHO_REQUEST = { 4: 8, 6: 128 } as const;

function packetOf({ source, destination, protocol, port }: Question): TestPacket {
  const exactly = (address: Address): TestPacket['source'] => ({ address, length: widthOf(familyOf(address)) });
  const ends = { hook: 'forward', source: exactly(source), destination: exactly(destination) } as const;
  const family = familyOf(destination);
  if (protocol === 'ICMP') {
    return { ...ends, protocol: family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6, icmpType: ECHO_REQUEST[family] };
  }
  return { ...ends, protocol: NUMBERS[protocol], ...(port === undefined ? {} : { destinationPort: port }) };
}

/** `other` is a number for experiments (RFC 3692), which no rule of policy names. */
const NUMBERS: Readonly<Record<Exclude<Protocol, 'ICMP'>, number>> = {
  TCP: PROTOCOL.tcp,
  UDP: PROTOCOL.udp,
  SCTP: PROTOCOL.sctp,
  other: 253,
};

function verdictOf(table: KernelTable, { hits }: ChainOutcome, direction: Direction | undefined): KernelVerdict {
  const [first] = hits;
  if (first === undefined) return { effect: 'unknown', via: [], rule: undefined, audited: false };
  const isCertain = hits.every(({ effect }) => effect === first.effect);
  return {
    effect: isCertain && first.effect !== 'translate' ? first.effect : 'unknown',
    via: first.via.map(describeKernelRule),
    rule: first.rule && describeKernelRule(first.rule),
    audited: isCertain && direction !== undefined && isAuditEnd(table, first, direction),
  };
}

/** The last rule of a pod's chain, which counts and lets through, and asks for nothing. */
function isAuditEnd(table: KernelTable, { rule, effect }: Hit, direction: Direction): boolean {
  if (rule === undefined || effect !== 'accept' || !rule.chain.startsWith(`${direction}/`)) return false;
  const rules = table.chains.find(({ chain }) => chain.name === rule.chain)?.rules;
  return rules?.at(-1) === rule && rule.expressions.map(({ expr }) => expr).join(' ') === 'counter verdict';
}

export function describeKernelRule(rule: Rule): KernelRule {
  const counter = rule.expressions.find(
    (expression): expression is Extract<Expression, { expr: 'counter' }> => expression.expr === 'counter',
  );
  return {
    chain: rule.chain,
    handle: rule.handle?.toString(),
    comment: rule.comment,
    text: ruleText(rule),
    packets: counter?.packets === undefined ? undefined : Number(counter.packets),
    bytes: counter?.bytes === undefined ? undefined : Number(counter.bytes),
  };
}
