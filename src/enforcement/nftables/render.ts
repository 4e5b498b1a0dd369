/** From the neutral terms of a ruleset to nf_tables objects. Pure: equal input gives equal objects, so that comparing them tells. */
import type { DataType, Element, Rule, SetDefinition } from 'nftables-js';
import {
  accept,
  type AddressField,
  concat,
  counter,
  drop,
  ip,
  ip6,
  jump,
  limit,
  log,
  meta,
  type Part,
  rule,
  sctp,
  tcp,
  th,
  udp,
} from 'nftables-js/builder';
import { type Address, addressBytes, type Family, familyOf } from '../../policy/address.ts';
import type { Direction, PolicyProtocol } from '../../policy/objects.ts';
import type { PortRange } from '../../policy/ports.ts';
import { addressAfter } from '../../policy/ranges.ts';
import type { AdmitRule, ChainRule, DesiredChain, ObjectName, SetDescription, SetElement } from '../../ruleset/objects.ts';
import { FAMILY, TABLE, type TableOptions } from './frame.ts';
import type { DesiredTableChain } from './table-content.ts';

/** linux/in.h */
const IPPROTO: Readonly<Record<PolicyProtocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
/** The kernel takes 128 bytes, its terminating zero included. */
const LONGEST_COMMENT = 127;
/** NF_LOG_PREFIXLEN is 128. */
export const LONGEST_LOG_PREFIX = 127;
/** Refused packets that a pod's chain sends to the log, a second. Dropping and counting are never behind a limit: that is a rule of its own. */
export const LOGGED_A_SECOND = 10;
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

function be16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
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
  const toRule = (parts: readonly Part[], comment?: string): Rule => ({
    family: FAMILY,
    table: TABLE,
    chain: chain.name,
    expressions: rule(FAMILY, ...parts),
    ...(comment === undefined ? {} : { comment: shortened(comment) }),
  });
  return {
    chain: { family: FAMILY, table: TABLE, name: chain.name, comment: shortened(chain.comment) },
    rules: chain.rules.map((of) => toRule(renderRule(of, chain.direction), of.kind === 'admit' ? of.comment : undefined)),
    tail: chain.kind === 'pod' ? refusal(chain, options).map((parts) => toRule(parts)) : [],
  };
}

/** The address of the side that a direction is not about. */
function peerAddress(direction: Direction, family: Family): AddressField {
  const fields = family === 4 ? ip : ip6;
  return direction === 'ingress' ? fields.saddr : fields.daddr;
}

function renderRule(of: ChainRule, direction: Direction): Part[] {
  switch (of.kind) {
    case 'self':
      return [peerAddress(direction, familyOf(of.address)).eq(addressBytes(of.address)), accept];
    case 'jump':
      return [jump(of.chain)];
    case 'admit':
      return [...renderMatches(of, direction), counter(), accept];
  }
}

const TRANSPORT = { TCP: tcp, UDP: udp, SCTP: sctp } as const;

function renderMatches({ family, peer, named, protocol, port }: AdmitRule, direction: Direction): Part[] {
  const parts: Part[] = [];
  if (family !== undefined && peer !== undefined) parts.push(peerAddress(direction, family).in(peer));
  if (family !== undefined && named !== undefined)
    parts.push(concat(family === 4 ? ip.daddr : ip6.daddr, meta.l4proto, th.dport).in(named));
  if (protocol === undefined) return parts;
  const { dport } = TRANSPORT[protocol];
  if (port === undefined) parts.push(meta.l4proto.eq(IPPROTO[protocol]));
  else if (typeof port === 'string') parts.push(dport.in(port));
  else parts.push(port.first === port.last ? dport.eq(port.first) : dport.range(port.first, port.last));
  return parts;
}

/** What a pod's chain ends with. An `accept` ends only the base chain that led here: the other direction of the other pod still decides. */
function refusal(chain: DesiredChain, { logGroup }: TableOptions): Part[][] {
  const refused = [counter(), chain.audited ? accept : drop];
  if (logGroup === undefined) return [refused];
  return [[limit(LOGGED_A_SECOND, 'second', { burst: LOGGED_AT_ONCE }), log({ prefix: logPrefix(chain), group: logGroup })], refused];
}

/** Begins the prefix of what was let through. No name of a chain has a blank. */
const AUDITED_PREFIX = 'audit ';

/** What a logged packet says of itself: which chain refused it, or would have (`audit ingress/dev/web`). */
export function logPrefix({ name, audited }: Pick<DesiredChain, 'name' | 'audited'>): string {
  return `${audited ? AUDITED_PREFIX : ''}${name}`.slice(0, LONGEST_LOG_PREFIX);
}

/** The other way round. Of a long name `chain` is only the beginning, and that of an audited chain is shorter. */
export function readLogPrefix(prefix: string): { readonly chain: ObjectName; readonly audited: boolean } {
  const audited = prefix.startsWith(AUDITED_PREFIX);
  return { chain: audited ? prefix.slice(AUDITED_PREFIX.length) : prefix, audited };
}

/** Unique in a set or map, data included. */
export function elementKey({ key, keyEnd, intervalEnd, data }: Element): string {
  let text = Buffer.from(key).toString('latin1');
  if (keyEnd !== undefined) text += `-${Buffer.from(keyEnd).toString('latin1')}`;
  if (intervalEnd === true) text += ' end';
  if (data !== undefined) text += data instanceof Uint8Array ? ` : ${Buffer.from(data).toString('latin1')}` : ` : ${JSON.stringify(data)}`;
  return text;
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
