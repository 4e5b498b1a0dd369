/** Which rules of the agents' table judged a packet: those whose counters have gone up meanwhile. */
import { NftConnection } from 'nftables-js';
import { FAMILY, TABLE } from '../../enforcement/nftables/frame.ts';
import { inNamespace } from '../namespaces.ts';

/** A rule with a counter. */
export interface CountingRule {
  readonly chain: string;
  /** Of a policy's rule: where it stands in the policy, `ingress[0].from[1]`. */
  readonly place: string | undefined;
  readonly verdict: 'accept' | 'drop';
}

/** What the rules of a node have counted; undefined: the node has no such table. */
export type RuleCounters = ReadonlyMap<string, { readonly rule: CountingRule; readonly packets: bigint }>;

export function readRuleCounters(netns: string): RuleCounters | undefined {
  const connection = inNamespace(netns, () => NftConnection.open());
  try {
    if (connection.table({ family: FAMILY, name: TABLE }) === undefined) return undefined;
    const counters = new Map<string, { rule: CountingRule; packets: bigint }>();
    for (const { chain, handle, comment, expressions } of connection.rules({ family: FAMILY, table: TABLE })) {
      const counter = expressions.find((expression) => expression.expr === 'counter');
      const verdict = expressions.find((expression) => expression.expr === 'verdict')?.verdict;
      if (counter === undefined || (verdict !== 'accept' && verdict !== 'drop')) continue;
      counters.set(`${chain} ${handle}`, { rule: { chain, place: comment, verdict }, packets: counter.packets });
    }
    return counters;
  } finally {
    connection.close();
  }
}

/** The rules that have counted something between two looks; one that was made anew in between counts from zero. */
export function rulesThatCounted(before: RuleCounters | undefined, after: RuleCounters | undefined): CountingRule[] {
  return [...(after ?? [])].filter(([key, { packets }]) => packets > (before?.get(key)?.packets ?? 0n)).map(([, { rule }]) => rule);
}
