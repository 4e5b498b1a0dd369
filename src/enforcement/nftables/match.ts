/**
 * The few matches and statements that rules are made of, as nf_tables expressions in the very form `nft` gives them: what is read
 * back compares equal, and `nft list` shows `ip saddr @…` and `tcp dport 80`, not raw payloads.
 */
import type { CtKey, Expression, MetaKey, Verdict } from 'nftables-js';
import type { Family } from '../../policy/address.ts';
import type { Direction, PolicyProtocol } from '../../policy/objects.ts';

/** linux/netfilter.h, and linux/in.h */
const NFPROTO: Readonly<Record<Family, number>> = { 4: 2, 6: 10 };
export const IPPROTO: Readonly<Record<PolicyProtocol | 'ICMP' | 'ICMPv6', number>> = { ICMP: 1, TCP: 6, UDP: 17, ICMPv6: 58, SCTP: 132 };

/** Where the addresses stand in the network header: offset and length, bytes. */
const ADDRESS: Readonly<Record<Family, Readonly<Record<'source' | 'destination', readonly [offset: number, length: number]>>>> = {
  4: { source: [12, 4], destination: [16, 4] },
  6: { source: [8, 16], destination: [24, 16] },
};
/** The destination port of TCP, UDP and SCTP, in the transport header. */
const PORT_OFFSET = 2;
const PORT_LENGTH = 2;
const HOP_LIMIT_OFFSET = 7;

type Side = 'source' | 'destination';

/** The side that a direction is *not* about. */
export function peerSide(direction: Direction): Side {
  return direction === 'ingress' ? 'source' : 'destination';
}

function meta(key: MetaKey, value: number): Expression[] {
  return [
    { expr: 'meta', key, register: 0 },
    { expr: 'cmp', op: 'eq', register: 0, value: Uint8Array.of(value) },
  ];
}

export function family(family: Family): Expression[] {
  return meta('nfproto', NFPROTO[family]);
}

export function protocol(protocol: keyof typeof IPPROTO): Expression[] {
  return meta('l4proto', IPPROTO[protocol]);
}

function loadAddress(of: Family, side: Side, register = 0): Expression {
  const [offset, length] = ADDRESS[of][side];
  return { expr: 'payload', base: 'network', offset, length, register };
}

function loadPort(register = 0): Expression {
  return { expr: 'payload', base: 'transport', offset: PORT_OFFSET, length: PORT_LENGTH, register };
}

/** The address is this one. */
export function addressIs(of: Family, side: Side, value: Uint8Array): Expression[] {
  return [...family(of), loadAddress(of, side), { expr: 'cmp', op: 'eq', register: 0, value }];
}

/** The address is in a set. */
export function addressIn(of: Family, side: Side, set: string): Expression[] {
  return [...family(of), loadAddress(of, side), { expr: 'lookup', set, register: 0 }];
}

/** The verdict that a map has for the address; none: the next rule. */
export function addressVerdict(of: Family, side: Side, map: string): Expression[] {
  return [...family(of), loadAddress(of, side), { expr: 'lookup', set: map, register: 0, destination: 'verdict' }];
}

/** Destination address, protocol and port are in a set. */
export function destinationIn(of: Family, set: string): Expression[] {
  const portRegister = ADDRESS[of].destination[1] / 4 + 1;
  return [
    ...family(of),
    loadAddress(of, 'destination'),
    { expr: 'meta', key: 'l4proto', register: portRegister - 1 },
    loadPort(portRegister),
    { expr: 'lookup', set, register: 0 },
  ];
}

/** Both inclusive. `nft` makes two comparisons of a range. */
export function portBetween(first: number, last: number): Expression[] {
  if (first === last) return [loadPort(), { expr: 'cmp', op: 'eq', register: 0, value: be16(first) }];
  return [
    loadPort(),
    { expr: 'cmp', op: 'gte', register: 0, value: be16(first) },
    { expr: 'cmp', op: 'lte', register: 0, value: be16(last) },
  ];
}

export function portIn(set: string): Expression[] {
  return [loadPort(), { expr: 'lookup', set, register: 0 }];
}

/** The type of an ICMP or ICMPv6 message; the protocol has to have been matched. */
export function icmpType(op: 'eq' | 'neq', type: number): Expression[] {
  return [
    { expr: 'payload', base: 'transport', offset: 0, length: 1, register: 0 },
    { expr: 'cmp', op, register: 0, value: Uint8Array.of(type) },
  ];
}

export function hopLimit(value: number): Expression[] {
  return [
    ...family(6),
    { expr: 'payload', base: 'network', offset: HOP_LIMIT_OFFSET, length: 1, register: 0 },
    { expr: 'cmp', op: 'eq', register: 0, value: Uint8Array.of(value) },
  ];
}

/** A value of conntrack has a bit; host byte order. */
function ctBit(key: CtKey, mask: Uint8Array): Expression[] {
  const zero = new Uint8Array(mask.length);
  return [
    { expr: 'ct', key, register: 0 },
    { expr: 'bitwise', source: 0, destination: 0, mask, xor: zero },
    { expr: 'cmp', op: 'neq', register: 0, value: zero },
  ];
}

/** linux/netfilter/nf_conntrack_common.h: NF_CT_STATE_BIT */
const CT_STATE = { established: 1 << 1, related: 1 << 2 } as const;

export function ctState(state: keyof typeof CT_STATE): Expression[] {
  return ctBit('state', le32(CT_STATE[state]));
}

export function ctLabel(bits: Uint8Array): Expression[] {
  return ctBit('labels', bits);
}

export function ctMark(bit: number): Expression[] {
  return ctBit('mark', le32(bit));
}

export function counter(): Expression {
  return { expr: 'counter', packets: 0n, bytes: 0n };
}

export function verdict(verdict: Verdict): Expression {
  return { expr: 'verdict', ...verdict };
}

export function be16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}

/** Every machine that Node runs on is little-endian. */
function le32(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}
