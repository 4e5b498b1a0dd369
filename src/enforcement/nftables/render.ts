/** From the neutral terms of a ruleset to nf_tables objects. Pure: equal input gives equal objects, so that comparing them tells. */
import type { DataType, Element, Expression, Rule, SetDefinition } from 'nftables-js';
import { type Address, addressBytes, type Family, familyOf } from '../../policy/address.ts';
import type { Direction } from '../../policy/objects.ts';
import type { PortRange } from '../../policy/ports.ts';
import { addressAfter } from '../../policy/ranges.ts';
import type { AdmitRule, ChainRule, DesiredChain, SetDescription, SetElement } from '../../ruleset/objects.ts';
import { FAMILY, TABLE, type TableOptions } from './frame.ts';
import {
  addressIn,
  addressIs,
  be16,
  counter,
  destinationIn,
  family,
  IPPROTO,
  peerSide,
  portBetween,
  portIn,
  protocol,
  verdict,
} from './match.ts';
import type { DesiredTableChain } from './table-content.ts';

/** The kernel takes 128 bytes, its terminating zero included. */
const LONGEST_COMMENT = 127;
/** NF_LOG_PREFIXLEN is 128. */
const LONGEST_LOG_PREFIX = 127;
/** Refused packets that a pod's chain sends to the log, a second. Dropping is never behind a limit: it is a rule of its own. */
export const LOGGED_A_SECOND = 10n;
export const LOGGED_AT_ONCE = 20;

const ADDRESS_TYPE: Readonly<Record<Family, DataType>> = { 4: 'ipv4_addr', 6: 'ipv6_addr' };

export function renderSet(set: SetDescription): SetDefinition {
  const definition = { family: FAMILY, table: TABLE, name: set.name, comment: shortened(set.comment) } as const;
  switch (set.kind) {
    case 'pods':
      return { ...definition, key: [ADDRESS_TYPE[set.family]], flags: [] };
    case 'named-ports':
      return { ...definition, key: [ADDRESS_TYPE[set.family], 'inet_proto', 'inet_service'], flags: [] };
    case 'block':
      return { ...definition, key: [ADDRESS_TYPE[set.family]], flags: ['interval'] };
    case 'ports':
      return { ...definition, key: ['inet_service'], flags: ['interval'] };
  }
}

/** All elements of a set: what is in it now, or what its description says. */
export function* renderSetElements(set: SetDescription, elements: Iterable<SetElement>): Generator<Element> {
  switch (set.kind) {
    case 'pods':
    case 'named-ports':
      yield* renderElements(elements);
      break;
    case 'block':
      for (const { first, last } of set.ranges) yield* interval(addressBytes(first), afterAddress(last));
      break;
    case 'ports':
      for (const { first, last } of set.ranges) yield* interval(be16(first), afterPort(last));
      break;
  }
}

export function* renderElements(elements: Iterable<SetElement>): Generator<Element> {
  for (const element of elements) yield { key: elementBytes(element) };
}

export function* renderVerdicts(verdicts: Iterable<readonly [address: Address, chain: string]>): Generator<Element> {
  for (const [address, chain] of verdicts) yield { key: addressBytes(address), data: { verdict: 'goto', chain } };
}

/** In a concatenation each part is padded to four bytes. */
function elementBytes(element: SetElement): Uint8Array {
  if (typeof element !== 'object') return addressBytes(element);
  const address = addressBytes(element.address);
  const bytes = new Uint8Array(address.length + 8);
  bytes.set(address);
  bytes[address.length] = IPPROTO[element.protocol];
  bytes.set(be16(element.port), address.length + 4);
  return bytes;
}

/** A range of an interval set opens at its first value and closes behind its last; one that reaches the end of all values stays open. */
function* interval(first: Uint8Array, behind: Uint8Array | undefined): Generator<Element> {
  yield { key: first };
  if (behind !== undefined) yield { key: behind, intervalEnd: true };
}

function afterAddress(last: Address): Uint8Array | undefined {
  const bytes = addressBytes(last);
  return bytes.every((byte) => byte === 0xff) ? undefined : addressBytes(addressAfter(last));
}

function afterPort(last: PortRange['last']): Uint8Array | undefined {
  return last === 65_535 ? undefined : be16(last + 1);
}

export function renderChain(chain: DesiredChain, options: TableOptions): DesiredTableChain {
  const rule = (expressions: Expression[], comment?: string): Rule => ({
    family: FAMILY,
    table: TABLE,
    chain: chain.name,
    expressions,
    ...(comment === undefined ? {} : { comment: shortened(comment) }),
  });
  return {
    chain: { family: FAMILY, table: TABLE, name: chain.name, comment: shortened(chain.comment) },
    rules: chain.rules.map((of) => rule(renderRule(of, chain.direction), of.kind === 'admit' ? of.comment : undefined)),
    tail: chain.kind === 'pod' ? refusal(chain, options).map((expressions) => rule(expressions)) : [],
  };
}

function renderRule(rule: ChainRule, direction: Direction): Expression[] {
  switch (rule.kind) {
    case 'self':
      return [...addressIs(familyOf(rule.address), peerSide(direction), addressBytes(rule.address)), verdict({ verdict: 'accept' })];
    case 'jump':
      return [verdict({ verdict: 'jump', chain: rule.chain })];
    case 'admit':
      return [...renderMatches(rule, direction), counter(), verdict({ verdict: 'accept' })];
  }
}

function renderMatches(rule: AdmitRule, direction: Direction): Expression[] {
  const expressions: Expression[] = [];
  if (rule.family !== undefined) {
    if (rule.peer !== undefined) expressions.push(...addressIn(rule.family, peerSide(direction), rule.peer));
    // Said once: a second `meta nfproto` would compare what is known already.
    if (rule.named !== undefined)
      expressions.push(...destinationIn(rule.family, rule.named).slice(rule.peer === undefined ? 0 : family(rule.family).length));
  }
  if (rule.protocol !== undefined) expressions.push(...protocol(rule.protocol));
  if (typeof rule.port === 'string') expressions.push(...portIn(rule.port));
  else if (rule.port !== undefined) expressions.push(...portBetween(rule.port.first, rule.port.last));
  return expressions;
}

/** What a pod's chain ends with. */
function refusal(chain: DesiredChain, { logGroup }: TableOptions): Expression[][] {
  const drop = [counter(), verdict({ verdict: 'drop' })];
  if (logGroup === undefined) return [drop];
  return [
    [
      { expr: 'limit', unit: 'packets', rate: LOGGED_A_SECOND, per: 'second', burst: LOGGED_AT_ONCE },
      { expr: 'log', prefix: logPrefix(chain), group: logGroup },
    ],
    drop,
  ];
}

/** Unique in a set or map, data included. */
export function elementKey({ key, keyEnd, intervalEnd, data }: Element): string {
  let text = Buffer.from(key).toString('latin1');
  if (keyEnd !== undefined) text += `-${Buffer.from(keyEnd).toString('latin1')}`;
  if (intervalEnd === true) text += ' end';
  if (data !== undefined) text += data instanceof Uint8Array ? ` : ${Buffer.from(data).toString('latin1')}` : ` : ${JSON.stringify(data)}`;
  return text;
}

/** What a logged packet says of itself: which chain refused it. */
export function logPrefix({ name }: DesiredChain): string {
  return name.slice(0, LONGEST_LOG_PREFIX);
}

/** A comment as long as the kernel takes. */
export function shortened(comment: string): string {
  const bytes = Buffer.from(comment);
  return bytes.length <= LONGEST_COMMENT
    ? comment
    : `${bytes
        .subarray(0, LONGEST_COMMENT - 3)
        .toString()
        .replaceAll('\ufffd', '')}…`;
}
