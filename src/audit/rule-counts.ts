/** What the rules of a kernel's table have counted, rule by rule of the desired chains; of a rule that the kernel has not, nothing. */
import type { Expression } from 'nftables-js';
import type { TableOptions } from '../enforcement/nftables/frame.ts';
import { renderChain } from '../enforcement/nftables/render.ts';
import { canonicalOf } from '../enforcement/nftables/table-content.ts';
import type { DesiredChain } from '../ruleset/objects.ts';
import type { KernelTable } from './kernel-table.ts';

/** Since the rule was made. Of a rule that admits: first packets of connections. */
export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

export interface ChainCounts {
  /** In the order of the desired chain's rules; undefined of one that is not there or does not count. */
  readonly rules: readonly (Count | undefined)[];
  /** Of a pod's chain: what nothing admitted. */
  readonly refused: Count | undefined;
}

/** @param options with which the table was made */
export function countsOf({ chains }: KernelTable, options: TableOptions): (chain: DesiredChain) => ChainCounts {
  const byChain = new Map(chains.map(({ chain, rules }) => [chain.name, rules]));
  return (desired) => {
    const found = Map.groupBy(byChain.get(desired.name) ?? [], canonicalOf);
    const { rules, tail } = renderChain(desired, options);
    const take = (rule: (typeof rules)[number] | undefined): Count | undefined => {
      const same = rule === undefined ? undefined : found.get(canonicalOf(rule))?.shift();
      return same === undefined ? undefined : countOf(same.expressions);
    };
    return { rules: rules.map(take), refused: take(tail.at(-1)) };
  };
}

function countOf(expressions: readonly Expression[]): Count | undefined {
  const counter = expressions.find((expression) => expression.expr === 'counter');
  return counter === undefined ? undefined : { packets: Number(counter.packets), bytes: Number(counter.bytes) };
}
