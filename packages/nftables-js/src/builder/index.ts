/**
 * Rules in the words of nft(8):
 *
 *     rule('inet', ip.saddr.in('blocked'), tcp.dport.eq(80), counter(), drop)
 *
 * gives the expressions that nft makes of `ip saddr @blocked tcp dport 80 counter drop`, with the same registers and the same matches
 * of protocols before the headers, so that `nft list` shows that text, and a rule that is read back compares equal.
 */
import type { Expression, Family } from '../types.ts';
import { type Part, RuleContext } from './context.ts';

export type { Part } from './context.ts';
export { AddressField, BitField, concat, Field, Key } from './field.ts';
export { arp, ct, type CtState, type CtStatus, ether, icmp, icmpv6, ip, ip6, meta, sctp, tcp, type TcpFlag, th, udp } from './fields.ts';
export * from './statements.ts';

/**
 * The expressions of a rule in a table of this family.
 * @throws NetlinkError ERR_INVALID of values that there are not, and of parts that exclude each other
 */
export function rule(family: Family, ...parts: readonly Part[]): Expression[] {
  const context = new RuleContext(family);
  for (const part of parts) part(context);
  return context.expressions;
}
