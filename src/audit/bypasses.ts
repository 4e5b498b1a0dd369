/**
 * What others may have in their own tables that takes packets past ours. An accept of theirs is none (it ends only their chain), and what
 * they drop is refused all the same; but a flow that is offloaded never comes to the forward hook again, and one that nobody tracks has no
 * replies that could be told.
 */
import type { NftConnection, Rule } from 'nftables-js';
import { FAMILY, TABLE } from '../enforcement/nftables/frame.ts';

export interface Bypass {
  readonly kind: 'offload' | 'notrack';
  /** `table inet fw chain forward` */
  readonly place: string;
}

/** The kernel's names of the expressions (net/netfilter/nft_flow_offload.c, nft_ct.c). */
const KINDS: Readonly<Record<string, Bypass['kind']>> = { flow_offload: 'offload', notrack: 'notrack' };

/** Reads the rules of all tables but ours. */
export function findBypasses(connection: Pick<NftConnection, 'tables' | 'rules'>): Bypass[] {
  const found = new Map<string, Bypass>();
  for (const { family, name } of connection.tables()) {
    if (family === FAMILY && name === TABLE) continue;
    for (const rule of connection.rules({ family, table: name })) {
      for (const kind of kindsOf(rule)) {
        const place = `table ${family} ${name} chain ${rule.chain}`;
        found.set(`${kind} ${place}`, { kind, place });
      }
    }
  }
  return [...found.values()];
}

function kindsOf({ expressions }: Rule): Bypass['kind'][] {
  return expressions.flatMap((expression) => (expression.expr === 'unknown' ? (KINDS[expression.name] ?? []) : []));
}

/** For people. */
export function describeBypass({ kind, place }: Bypass): string {
  return kind === 'offload'
    ? `${place} offloads flows (flow add): their packets do not come to policy again, and a change that forbids them does not cut them`
    : `${place} keeps packets from being tracked (notrack): replies to what is allowed may be refused`;
}
