/** What rules do with a packet that matches. */
import type { Expression, Verdict } from '../types.ts';
import type { Part } from './context.ts';

function statement(expression: Expression): Part {
  return (rule) => rule.push(expression);
}

/** Any expression, for what the builder has no words for. */
export { statement as expression };

export const accept: Part = statement({ expr: 'verdict', verdict: 'accept' });
export const drop: Part = statement({ expr: 'verdict', verdict: 'drop' });

export function jump(chain: string): Part {
  return statement({ expr: 'verdict', verdict: 'jump', chain });
}

export function goto(chain: string): Part {
  return statement({ expr: 'verdict', verdict: 'goto', chain });
}

/** `verdict({ verdict: 'return' })` and all others. */
export function verdict(verdict: Verdict): Part {
  return statement({ expr: 'verdict', ...verdict });
}

/** A counter of the rule's own, or the named one. */
export function counter(name?: string): Part {
  return statement(name === undefined ? { expr: 'counter', packets: 0n, bytes: 0n } : { expr: 'objref', type: 'counter', name });
}

type Limit = Extract<Expression, { expr: 'limit' }>;

/** The rule goes on up to this rate; with `over` only above it. A burst of 5 packets is what nft takes, and does not show. */
export function limit(rate: number, per: Limit['per'], options: { readonly burst?: number; readonly over?: boolean } = {}): Part {
  const { burst = 5, over } = options;
  return statement({ expr: 'limit', unit: 'packets', rate: BigInt(rate), per, burst, ...(over === true && { over }) });
}

/** To the NFLOG group of `group`; without it to the kernel's log. */
export function log(options: Omit<Extract<Expression, { expr: 'log' }>, 'expr'>): Part {
  return statement({ expr: 'log', ...options });
}

/** linux/netfilter/nf_nat.h, NF_NAT_RANGE_* */
const RANDOM = 0x4;
const PERSISTENT = 0x8;
const FULLY_RANDOM = 0x10;

export interface MasqueradeOptions {
  readonly random?: boolean;
  readonly fullyRandom?: boolean;
  readonly persistent?: boolean;
}

export function masquerade({ random, fullyRandom, persistent }: MasqueradeOptions = {}): Part {
  const flags = (random === true ? RANDOM : 0) | (fullyRandom === true ? FULLY_RANDOM : 0) | (persistent === true ? PERSISTENT : 0);
  return statement({ expr: 'masquerade', ...(flags !== 0 && { flags }) });
}

/** NFT_REJECT_ICMPX_* */
const ICMPX = { 'no-route': 0, 'port-unreachable': 1, 'host-unreachable': 2, 'admin-prohibited': 3 } as const;

/** Answers by ICMP or ICMPv6, or resets a TCP connection, and drops. In tables of the family inet. */
export function reject(reason: keyof typeof ICMPX | 'tcp-reset' = 'port-unreachable'): Part {
  if (reason === 'tcp-reset')
    return (rule) => {
      rule.needTransport(6);
      rule.push({ expr: 'reject', type: 'tcp-reset' });
    };
  return statement({ expr: 'reject', type: 'icmpx', code: ICMPX[reason] });
}
