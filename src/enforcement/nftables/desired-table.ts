/** The whole table that a ruleset asks for: what the agent brings into force, and what `sluice verify` compares a kernel with. */
import { type Address, type Family, familyOf } from '../../policy/address.ts';
import type { DesiredSet, ObjectName, Ruleset, VerdictMap } from '../../ruleset/objects.ts';
import { DIRECTIONS, FAMILIES, frameChains, tableDefinition, type TableOptions, verdictMapDefinition } from './frame.ts';
import { renderChain, renderSet, renderSetElements, renderVerdicts } from './render.ts';
import type { DesiredTable, DesiredTableSet } from './table-content.ts';

/** A view of the ruleset: its elements are read when they are asked for. */
export function desiredTable(ruleset: Ruleset, options: TableOptions): DesiredTable {
  return {
    table: tableDefinition(options),
    sets: [...verdictSets(ruleset), ...[...ruleset.sets.values()].map(tableSet)],
    chains: [...frameChains(options), ...[...ruleset.chains.values()].map((chain) => renderChain(chain, options))],
  };
}

export function tableSet(set: DesiredSet): DesiredTableSet {
  return { definition: renderSet(set.description), elements: () => renderSetElements(set.description, set.elements()) };
}

function verdictSets(ruleset: Ruleset): DesiredTableSet[] {
  return DIRECTIONS.flatMap((direction) =>
    FAMILIES.map((family) => ({
      definition: verdictMapDefinition(direction, family),
      elements: () => renderVerdicts(verdictsOf(ruleset.verdicts[direction], family)),
    })),
  );
}

/** Those of one family. */
export function* verdictsOf(verdicts: VerdictMap, family: Family): Generator<readonly [address: Address, chain: ObjectName]> {
  for (const entry of verdicts) if (familyOf(entry[0]) === family) yield entry;
}
