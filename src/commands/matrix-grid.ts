/**
 * The matrix: who reaches whom on which port, with one row for sources that are alike and have the same verdicts everywhere, and one
 * column for such destinations. Verdicts are those of {@link Equivalence}, and so the evaluator's.
 *
 * A pod and itself are no pair (row 30: always allowed), nor are a pod and the node that it runs on (row 28), where the node is asked about
 * as such or the pods of the group have others to reach. Between two that are no pods nothing is judged, and nothing is shown.
 */
import type { Family } from '../policy/address.ts';
import type { End, Equivalence } from '../policy/equivalence.ts';
import { addressOf, type Group, groupParties, likenessOf, nameGroups, pairAmong, type Party } from '../policy/equivalence-parties.ts';
import type { PolicyProtocol } from '../policy/objects.ts';

/** Ports that are asked about as one; both ends inclusive. */
export interface PortSpan {
  readonly protocol: PolicyProtocol;
  readonly first: number;
  readonly last: number;
}

/** By source and family the number of the verdict ({@link Equivalence.verdictNumbered}); {@link NO_PAIR}: there is nothing to ask. */
export type Verdicts = Readonly<Record<Family, Float64Array>>;

export const NO_PAIR = -1;

export interface Column extends PortSpan {
  readonly verdicts: Verdicts;
}

export interface Block {
  readonly destination: Group;
  readonly columns: readonly Column[];
}

export interface Grid {
  readonly equivalence: Equivalence;
  readonly sources: readonly Group[];
  readonly blocks: readonly Block[];
}

export interface GridQuestion {
  readonly equivalence: Equivalence;
  readonly sources: readonly Party[];
  readonly destinations: readonly Party[];
  readonly portsOf: (destination: Party) => readonly PortSpan[];
  /** `pod`: every party by itself. */
  readonly by: 'group' | 'pod';
}

export function gridOf({ equivalence, sources, destinations, portsOf, by }: GridQuestion): Grid {
  const classesOf = ({ name, addresses }: Party): string =>
    by === 'pod' ? name : addresses.map((address) => equivalence.end(address).class).join(' ');
  const spans = (party: Party): string =>
    portsOf(party)
      .map(({ protocol, first, last }) => `${protocol} ${first} ${last}`)
      .join();
  const rows = groupParties(sources, classesOf);
  const targets = groupParties(destinations, (party) => `${classesOf(party)}\n${spans(party)}`);
  const judge = new Judge(equivalence);
  const judged = targets.map((destination): DraftBlock => {
    // A group has at least one party.
    const ports = portsOf(destination.parties[0] as Party);
    const pairs = judge.pairs(rows, destination);
    return { parties: destination.parties, ports, verdicts: judge.columns(pairs, ports) };
  });
  if (by === 'pod') {
    return withPairs({ equivalence, sources: rows, blocks: judged.map((block, index) => blockOf(targets[index] as Group, block)) });
  }
  const blocks = mergeAlike(judged, ({ parties, ports }) => `${likenessOf(parties[0] as Party)}\n${ports.map(textOf).join()}`, absorbBlock);
  const lines = mergeAlike(
    rows.map(({ parties }, row): DraftRow => ({ parties, row })),
    ({ parties }) => likenessOf(parties[0] as Party),
    (into, one) => absorbRow(blocks, into, one),
  );
  const named = nameGroups(
    lines.map(({ parties }) => parties),
    sources,
  );
  const namedTargets = nameGroups(
    blocks.map(({ parties }) => parties),
    destinations,
  );
  const kept = lines.map(({ row }) => row);
  return withPairs({
    equivalence,
    sources: named,
    blocks: blocks.map((block, index) => {
      const only = (column: Float64Array): Float64Array =>
        kept.length === column.length ? column : Float64Array.from(kept, (row) => column[row] ?? NO_PAIR);
      const shared = new Map([...new Set(block.verdicts)].map((own) => [own, { 4: only(own[4]), 6: only(own[6]) }] as const));
      const verdicts = block.verdicts.map((own) => shared.get(own) ?? own);
      return blockOf(namedTargets[index] as Group, { ...block, verdicts });
    }),
  });
}

/** Without those of whom there is nothing to ask: a node whose pods are all there are. */
function withPairs({ equivalence, sources, blocks }: Grid): Grid {
  const isPair = ({ 4: v4, 6: v6 }: Verdicts, row: number): boolean => v4[row] !== NO_PAIR || v6[row] !== NO_PAIR;
  const rows = sources.map((_, row) => blocks.some(({ columns }) => columns.some(({ verdicts }) => isPair(verdicts, row))));
  const asked = blocks.filter(({ columns }) =>
    columns.some(({ verdicts }) => rows.some((isAsked, row) => isAsked && isPair(verdicts, row))),
  );
  if (rows.every(Boolean)) return { equivalence, sources, blocks: asked };
  const only = (numbers: Float64Array): Float64Array => numbers.filter((_, row) => rows[row]);
  return {
    equivalence,
    sources: sources.filter((_, row) => rows[row]),
    blocks: asked.map(({ destination, columns }) => ({
      destination,
      columns: columns.map(({ verdicts, ...port }) => ({ ...port, verdicts: { 4: only(verdicts[4]), 6: only(verdicts[6]) } })),
    })),
  };
}

interface DraftBlock {
  readonly parties: readonly Party[];
  readonly ports: readonly PortSpan[];
  /** By port. */
  readonly verdicts: readonly Verdicts[];
}

interface DraftRow {
  readonly parties: readonly Party[];
  readonly row: number;
}

function blockOf(destination: Group, { ports, verdicts }: DraftBlock): Block {
  const columns = ports.flatMap((port, index) => {
    const own = verdicts[index];
    return own === undefined ? [] : [{ ...port, verdicts: own }];
  });
  return { destination, columns };
}

function textOf({ protocol, first, last }: PortSpan): string {
  return `${protocol} ${first} ${last}`;
}

/** An end of a group, of one family. */
interface Candidate {
  readonly party: Party;
  readonly end: End;
}

type Pair = readonly [source: Candidate, destination: Candidate];

/** For each source and family two ends of whose pair no policy tells any other pair of the two groups; undefined: there is none. */
type Pairs = Readonly<Record<Family, readonly (Pair | undefined)[]>>;

class Judge {
  readonly #equivalence: Equivalence;
  readonly #candidates = new Map<Group, Readonly<Record<Family, readonly Candidate[]>>>();

  constructor(equivalence: Equivalence) {
    this.#equivalence = equivalence;
  }

  pairs(sources: readonly Group[], destination: Group): Pairs {
    const to = this.#candidatesOf(destination);
    const from = sources.map((source) => this.#candidatesOf(source));
    const of = (family: Family): (Pair | undefined)[] => from.map((source) => pairAmong(source[family], to[family]));
    return { 4: of(4), 6: of(6) };
  }

  /** For each port, in order. Ports that no policy tells apart share their verdicts. */
  columns(pairs: Pairs, ports: readonly PortSpan[]): Verdicts[] {
    const known = new Map<string, Verdicts>();
    return ports.map((port) => {
      const piece = `${port.protocol} ${this.#equivalence.portPiece(port.protocol, port.first)}`;
      let verdicts = known.get(piece);
      if (verdicts === undefined) {
        verdicts = this.#column(pairs, port);
        known.set(piece, verdicts);
      }
      return verdicts;
    });
  }

  #column(pairs: Pairs, { protocol, first }: PortSpan): Verdicts {
    const count = pairs[4].length;
    const verdicts = { 4: new Float64Array(count).fill(NO_PAIR), 6: new Float64Array(count).fill(NO_PAIR) };
    for (let row = 0; row < count; row++) {
      const [v4, v6] = [pairs[4][row], pairs[6][row]];
      if (v4 !== undefined) verdicts[4][row] = this.#equivalence.verdictNumber(v4[0].end, v4[1].end, protocol, first);
      if (v6 === undefined) continue;
      const isAlike = v4 !== undefined && v4[0].end.likeness === v6[0].end.likeness && v4[1].end.likeness === v6[1].end.likeness;
      verdicts[6][row] = isAlike ? (verdicts[4][row] ?? NO_PAIR) : this.#equivalence.verdictNumber(v6[0].end, v6[1].end, protocol, first);
    }
    return verdicts;
  }

  #candidatesOf(group: Group): Readonly<Record<Family, readonly Candidate[]>> {
    let known = this.#candidates.get(group);
    if (known === undefined) {
      const of = (family: Family): Candidate[] =>
        group.parties.flatMap((party) => {
          const address = addressOf(party, family);
          return address === undefined ? [] : [{ party, end: this.#equivalence.end(address) }];
        });
      known = { 4: of(4), 6: of(6) };
      this.#candidates.set(group, known);
    }
    return known;
  }
}

/** Of things of one likeness not more are compared with one another: what differs so much is better shown apart. */
const COMPARED = 32;

/** Puts together what is alike and can be absorbed; what is first stays. */
function mergeAlike<T extends { readonly parties: readonly Party[] }>(
  items: readonly T[],
  likeness: (item: T) => string,
  absorb: (into: T, item: T) => boolean,
): T[] {
  const alike = new Map<string, T[]>();
  const added = new Map<T, T[]>();
  const kept: T[] = [];
  for (const item of items) {
    const key = likeness(item);
    let known = alike.get(key);
    if (known === undefined) {
      known = [];
      alike.set(key, known);
    }
    const into = known.find((other) => absorb(other, item));
    if (into !== undefined) {
      added.get(into)?.push(item);
      continue;
    }
    if (known.length < COMPARED) known.push(item);
    added.set(item, []);
    kept.push(item);
  }
  return kept.map((item) => ({ ...item, parties: [item, ...(added.get(item) ?? [])].flatMap(({ parties }) => parties) }));
}

/** Where one of the two has no pair the other's verdict counts: it is that of a pod that is like it. */
function absorbBlock(into: DraftBlock, one: DraftBlock): boolean {
  const columns = (block: DraftBlock): Float64Array[] => block.verdicts.flatMap(({ 4: v4, 6: v6 }) => [v4, v6]);
  const [own, others] = [columns(into), columns(one)];
  const fits = own.every((column, index) => {
    const other = others[index];
    return other !== undefined && column.every((verdict, row) => agree(verdict, other[row]));
  });
  if (fits) {
    for (const [index, column] of own.entries()) {
      for (const [row, verdict] of others[index]?.entries() ?? []) if (column[row] === NO_PAIR) column[row] = verdict;
    }
  }
  return fits;
}

function absorbRow(blocks: readonly DraftBlock[], into: DraftRow, one: DraftRow): boolean {
  const columns = blocks.flatMap(({ verdicts }) => verdicts.flatMap(({ 4: v4, 6: v6 }) => [v4, v6]));
  if (!columns.every((column) => agree(column[into.row], column[one.row]))) return false;
  for (const column of columns) if (column[into.row] === NO_PAIR) column[into.row] = column[one.row] ?? NO_PAIR;
  return true;
}

function agree(a: number | undefined, b: number | undefined): boolean {
  return a === b || a === NO_PAIR || b === NO_PAIR;
}
