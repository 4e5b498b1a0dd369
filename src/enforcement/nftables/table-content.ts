/**
 * A whole table as data, in two forms that can be compared: what is desired, and what the kernel has.
 *
 * Rules are compared by what they do and say (`canonicalRule`), not by handle; counters are left out. In a chain that Sluice writes
 * the order of the rules before `tail` has no meaning: all of them admit or jump.
 */
import {
  type Chain,
  canonicalRule,
  type Element,
  type NftConnection,
  type Operation,
  type Rule,
  type SetDefinition,
  sameDefinition,
  type Table,
} from 'nftables-js';
import { TimeSlices } from '../../time-slices.ts';
import { elementKey } from './render.ts';

export interface DesiredTableChain {
  readonly chain: Chain;
  /** In no order. */
  readonly rules: readonly Rule[];
  /** In this order, behind the others. */
  readonly tail: readonly Rule[];
}

export interface DesiredTableSet {
  readonly definition: SetDefinition;
  elements(): Iterable<Element>;
}

export interface DesiredTable {
  readonly table: Table;
  readonly sets: Iterable<DesiredTableSet>;
  readonly chains: Iterable<DesiredTableChain>;
}

/** What a table is read by: a connection to the kernel, or a table that was read before. */
export type TableReader = Pick<NftConnection, 'port' | 'table' | 'sets' | 'chains' | 'rules' | 'eachElement'>;

/** What a chain of the kernel holds, in its order. */
export interface KernelRule {
  readonly canonical: string;
  readonly handle: bigint;
}

/**
 * Brings the kernel from what `connection` reads to `desired`; empty where nothing differs. Pauses between sets: a large cluster's take
 * a while to read. Neither may change until it resolves.
 */
export async function differences(desired: DesiredTable, connection: TableReader): Promise<Operation[]> {
  const slices = new TimeSlices();
  const { family, name } = desired.table;
  const known = connection.table({ family, name });
  if (known === undefined) return createTable(desired);
  const reference = { family, table: name };
  const sets = new Map(connection.sets(reference).map((set) => [set.name, set]));
  const chains = new Map(connection.chains(reference).map((chain) => [chain.name, chain]));
  const wantedSets = [...desired.sets];
  const wantedChains = [...desired.chains];
  // What cannot be changed in place (the type of a set, the hook of a chain) is not worth more than a new table, made in the same
  // transaction. It only happens when another version, or somebody else, made the table.
  // Claims a table that a dead agent left, and fails where another one lives; wakes one that somebody put to sleep.
  const isUpdated = (desired.table.flags.includes('owner') && known.owner !== connection.port) || known.flags.includes('dormant');
  // The kernel takes no new base chain in a transaction that updates its table (nf_tables_newchain, __NFT_TABLE_F_UPDATE).
  const lacksBase = wantedChains.some(({ chain }) => chain.base !== undefined && !chains.has(chain.name));
  const immutable =
    (isUpdated && lacksBase) ||
    wantedSets.some(({ definition }) => !sameOrAbsent(sets.get(definition.name), definition)) ||
    wantedChains.some(({ chain }) => !sameHook(chains.get(chain.name), chain)) ||
    !isClaimable(known, desired.table);
  if (immutable) return replacement(desired, connection);

  const operations: Operation[] = [];
  if (isUpdated) operations.push({ op: 'add', table: desired.table });
  for (const { chain } of wantedChains) if (!chains.has(chain.name)) operations.push({ op: 'add', chain });
  const rulesByChain = new Map<string, KernelRule[]>();
  for (const rule of connection.rules(reference)) {
    const rules = rulesByChain.get(rule.chain);
    const entry = { canonical: canonicalOf(rule), handle: rule.handle ?? 0n };
    if (rules === undefined) rulesByChain.set(rule.chain, [entry]);
    else rules.push(entry);
  }
  const verdictMaps: Operation[] = [];
  for (const set of wantedSets) {
    await slices.pause();
    const { definition } = set;
    if (!sets.has(definition.name)) operations.push({ op: 'add', set: definition });
    const changes = elementDifferences(set, sets.has(definition.name) ? connection : undefined);
    // Their elements name chains, which have to be complete by then.
    const target = definition.data === undefined ? operations : verdictMaps;
    for (const change of changes) target.push(change);
  }
  for (const wanted of wantedChains) {
    for (const change of ruleDifferences(wanted, rulesByChain.get(wanted.chain.name) ?? [])) operations.push(change);
  }
  for (const each of verdictMaps) operations.push(each);
  const wantedNames = new Set(wantedChains.map(({ chain }) => chain.name));
  const leftChains = [...chains.keys()].filter((chain) => !wantedNames.has(chain));
  for (const chain of leftChains) operations.push({ op: 'flush', rules: { ...reference, chain } });
  for (const chain of leftChains) operations.push({ op: 'delete', chain: { ...reference, name: chain } });
  const wantedSetNames = new Set(wantedSets.map(({ definition }) => definition.name));
  for (const set of sets.values()) {
    // Anonymous sets go with the rule that has them.
    if (!wantedSetNames.has(set.name) && !set.name.startsWith('__'))
      operations.push({ op: 'delete', set: { ...reference, name: set.name } });
  }
  return operations;
}

/** The table anew, whatever it holds, in one transaction: no packet sees a state between. Counters begin at zero. */
export function replacement(desired: DesiredTable, connection: Pick<TableReader, 'table'>): Operation[] {
  const { family, name } = desired.table;
  const created = createTable(desired);
  return connection.table({ family, name }) === undefined ? created : [{ op: 'delete', table: { family, name } }, ...created];
}

function createTable(desired: DesiredTable): Operation[] {
  const operations: Operation[] = [{ op: 'add', table: desired.table }];
  const sets = [...desired.sets];
  const chains = [...desired.chains];
  for (const { definition } of sets) operations.push({ op: 'add', set: definition });
  for (const { chain } of chains) operations.push({ op: 'add', chain });
  const fill = (set: DesiredTableSet): void => {
    for (const change of elementDifferences(set, undefined)) operations.push(change);
  };
  for (const set of sets) if (set.definition.data === undefined) fill(set);
  for (const chain of chains) for (const change of ruleDifferences(chain, [])) operations.push(change);
  for (const set of sets) if (set.definition.data !== undefined) fill(set);
  return operations;
}

/** A table without the flags it should have cannot be given them: the kernel claims only tables made for it (persist). */
function isClaimable(known: Table, desired: Table): boolean {
  return known.flags.includes('persist') === desired.flags.includes('persist');
}

function sameOrAbsent(known: SetDefinition | undefined, desired: SetDefinition): boolean {
  return known === undefined || sameDefinition(known, desired);
}

function sameHook(known: Chain | undefined, desired: Chain): boolean {
  if (known === undefined) return true;
  const { base } = known;
  const wanted = desired.base;
  if (base === undefined || wanted === undefined) return base === wanted;
  return base.type === wanted.type && base.hook === wanted.hook && base.priority === wanted.priority && base.policy === wanted.policy;
}

/** @param connection undefined: the set is new. Its elements are then handed on one by one, and never all held at once. */
function elementDifferences(set: DesiredTableSet, connection: TableReader | undefined): Operation[] {
  const { definition } = set;
  const reference = { family: definition.family, table: definition.table, set: definition.name };
  if (connection === undefined) return [{ op: 'add', elements: { ...reference, elements: set.elements() } }];
  const left = new Map<string, Element>();
  for (const element of connection.eachElement(reference)) left.set(elementKey(element), element);
  const add: Element[] = [];
  for (const element of set.elements()) if (!left.delete(elementKey(element))) add.push(element);
  const operations: Operation[] = [];
  if (left.size > 0) operations.push({ op: 'delete', elements: { ...reference, elements: [...left.values()] } });
  if (add.length > 0) operations.push({ op: 'add', elements: { ...reference, elements: add } });
  return operations;
}

/** Brings a chain's rules to what is wanted; rules that are there already stay, with their handles and counters. */
export function ruleDifferences({ chain, rules, tail }: DesiredTableChain, known: readonly KernelRule[]): Operation[] {
  const reference = { family: chain.family, table: chain.table, chain: chain.name };
  const end = known.length - tail.length;
  const tailIsThere = end >= 0 && tail.every((rule, index) => known[end + index]?.canonical === canonicalOf(rule));
  const left = new Map<string, bigint[]>();
  for (const { canonical, handle } of tailIsThere ? known.slice(0, end) : known)
    left.set(canonical, [...(left.get(canonical) ?? []), handle]);
  const missing = rules.filter((rule) => left.get(canonicalOf(rule))?.pop() === undefined);
  const operations: Operation[] = [];
  if (!tailIsThere && missing.length === rules.length) {
    // Nothing of it can stay.
    if (known.length > 0) operations.push({ op: 'flush', rules: reference });
    for (const rule of [...rules, ...tail]) operations.push({ op: 'append', rule });
    return operations;
  }
  // Inserted one by one at the beginning, the last comes to stand first: so the last goes first. A chain without a tail is appended to.
  if (tail.length === 0) for (const rule of missing) operations.push({ op: 'append', rule });
  else for (const rule of missing.toReversed()) operations.push({ op: 'insert', rule });
  for (const handles of left.values()) for (const handle of handles) operations.push({ op: 'delete', rule: { ...reference, handle } });
  // Behind what stays; what was the tail is among what was left.
  if (!tailIsThere) for (const rule of tail) operations.push({ op: 'append', rule });
  return operations;
}

export function canonicalOf(rule: Pick<Rule, 'expressions' | 'comment'>): string {
  return `${canonicalRule(rule.expressions)} ${rule.comment ?? ''}`;
}
