/** The grid in words: ports that have the same verdicts together, and who is let in and who is not. */
import type { Family } from '../policy/address.ts';
import { addressOf, type Group, isOnNode, isOwnNode, isPair, type Party } from '../policy/equivalence-parties.ts';
import type { PolicyProtocol } from '../policy/objects.ts';
import { PORT_MAX } from '../policy/ports.ts';
import { type Block, type Column, type Grid, NO_PAIR, type PortSpan, type Verdicts } from './matrix-grid.ts';

/** Ports of a destination that have the same verdicts from everybody. */
export interface PortLine {
  /** `5432/TCP`, `any port`, `other TCP ports`. */
  readonly label: string;
  readonly spans: readonly PortSpan[];
  readonly verdicts: Verdicts;
}

const PROTOCOLS: readonly PolicyProtocol[] = ['TCP', 'UDP', 'SCTP'];

/** Whether the block is about all ports there are, cut into pieces, and not about some that were named or declared. */
function isAboutAllPorts(columns: readonly Column[]): boolean {
  return sizeOf(columns) === PROTOCOLS.length * (PORT_MAX + 1);
}

function sizeOf(spans: readonly PortSpan[]): number {
  return spans.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

export function portLines({ columns }: Block): PortLine[] {
  if (!isAboutAllPorts(columns)) return columns.map((column) => ({ label: spanText(column), spans: [column], verdicts: column.verdicts }));
  const ofProtocols = PROTOCOLS.map((protocol) => {
    const lines: { readonly spans: Column[]; readonly verdicts: Verdicts }[] = [];
    for (const column of columns.filter((each) => each.protocol === protocol)) {
      const alike = lines.find(({ verdicts }) => sameVerdicts(verdicts, column.verdicts));
      if (alike !== undefined) alike.spans.push(column);
      else lines.push({ spans: [column], verdicts: column.verdicts });
    }
    return { protocol, lines };
  });
  const [first, ...others] = ofProtocols.map(({ lines }) => (lines.length === 1 ? lines[0] : undefined));
  if (first !== undefined && others.every((line) => line !== undefined && sameVerdicts(line.verdicts, first.verdicts))) {
    const spans = PROTOCOLS.map((protocol) => ({ protocol, first: 0, last: PORT_MAX }));
    return [{ label: 'any port', spans, verdicts: first.verdicts }];
  }
  return ofProtocols.flatMap(({ protocol, lines }) => {
    const [largest] = lines.toSorted((a, b) => sizeOf(b.spans) - sizeOf(a.spans));
    return [...lines.filter((line) => line !== largest), ...(largest === undefined ? [] : [largest])].map(({ spans, verdicts }) => {
      const joined = joinSpans(spans);
      const named = `${joined.map(rangeText).join(',')}/${protocol}`;
      const label = lines.length === 1 ? `any ${protocol} port` : spans === largest?.spans ? `other ${protocol} ports` : named;
      return { label, spans: joined, verdicts };
    });
  });
}

/** Neighbours become one. @param spans of one protocol, ascending */
export function joinSpans(spans: readonly PortSpan[]): PortSpan[] {
  const joined: { protocol: PolicyProtocol; first: number; last: number }[] = [];
  for (const { protocol, first, last } of spans) {
    const previous = joined.at(-1);
    if (previous !== undefined && previous.last + 1 === first) previous.last = last;
    else joined.push({ protocol, first, last });
  }
  return joined;
}

export function spanText(span: PortSpan): string {
  return `${rangeText(span)}/${span.protocol}`;
}

function rangeText({ first, last }: Pick<PortSpan, 'first' | 'last'>): string {
  return first === last ? String(first) : `${first}-${last}`;
}

function sameVerdicts(a: Verdicts, b: Verdicts): boolean {
  return ([4, 6] as const).every((family) => a[family].every((verdict, row) => verdict === b[family][row]));
}

/** `mixed`: one family is allowed, and the other is not; `none`: there is nothing to ask. */
export type Answer = 'allowed' | 'denied' | 'mixed' | 'none';

export function answerOf({ equivalence }: Grid, verdicts: Verdicts, row: number): Answer {
  const [v4 = NO_PAIR, v6 = NO_PAIR] = [verdicts[4][row], verdicts[6][row]];
  if (v4 === NO_PAIR && v6 === NO_PAIR) return 'none';
  const allowed4 = v4 !== NO_PAIR && equivalence.isAllowed(v4);
  const allowed6 = v6 !== NO_PAIR && equivalence.isAllowed(v6);
  if (allowed4 !== allowed6 && v4 !== NO_PAIR && v6 !== NO_PAIR) return 'mixed';
  return allowed4 || allowed6 ? 'allowed' : 'denied';
}

/** Families of a source that have this verdict. */
export function familiesWith({ equivalence }: Grid, verdicts: Verdicts, row: number, allowed: boolean): Family[] {
  return ([4, 6] as const).filter((family) => {
    const number = verdicts[family][row] ?? NO_PAIR;
    return number !== NO_PAIR && equivalence.isAllowed(number) === allowed;
  });
}

/** More entries than this are not listed where the others are fewer. */
const LISTED = 6;
/** As many may be listed where there are no others. */
const LISTED_ALL = 3;

/** Sources that are shown as one where they agree: those of a namespace, and what is outside. */
interface Place {
  readonly kind: Group['kind'];
  readonly text: string;
  readonly rows: readonly number[];
}

export interface Entries {
  readonly allowed: readonly string[];
  readonly denied: readonly string[];
}

/** For each verdict that there is, the sources that have it: `shop/* (3 pods)` where a whole namespace has. */
export class SourceEntries {
  readonly #grid: Grid;
  readonly #places: readonly Place[];
  /** By names of parties. */
  readonly #rowOf: ReadonlyMap<string, number>;
  #last: { readonly destination: Group; readonly verdicts: Verdicts; readonly entries: Entries } | undefined;

  constructor(grid: Grid) {
    this.#grid = grid;
    const places = new Map<string, { kind: Group['kind']; text: string; rows: number[] }>();
    for (const [row, { kind, name, namespace }] of grid.sources.entries()) {
      const isOutside = kind === 'outside' && name.startsWith('outside');
      const key = kind === 'pod' ? `pods ${namespace}` : isOutside ? 'outside' : name;
      const known = places.get(key);
      if (known === undefined)
        places.set(key, { kind, text: kind === 'pod' ? `${namespace}/*` : isOutside ? 'outside' : name, rows: [row] });
      else known.rows.push(row);
    }
    this.#places = [...places.values()];
    this.#rowOf = new Map(grid.sources.flatMap(({ parties }, row) => parties.map(({ name }) => [name, row] as const)));
  }

  of(destination: Group, verdicts: Verdicts): Entries {
    // One port after the other of one destination, and many ports share their verdicts.
    if (this.#last?.destination !== destination || this.#last.verdicts !== verdicts) {
      this.#last = { destination, verdicts, entries: this.#make(destination, verdicts) };
    }
    return this.#last.entries;
  }

  #make(destination: Group, verdicts: Verdicts): Entries {
    const answers = this.#grid.sources.map((_, row) => answerOf(this.#grid, verdicts, row));
    const counted = { allowed: this.#count(answers, 'allowed'), denied: this.#count(answers, 'denied') };
    const partial = {
      allowed: this.#partial(answers, verdicts, true, destination),
      denied: this.#partial(answers, verdicts, false, destination),
    };
    const entries = (own: 'allowed' | 'denied', other: 'allowed' | 'denied'): string[] => {
      const isAlone = counted[other] + partial[other].length + partial[own].length === 0;
      if (counted[own] > (isAlone ? LISTED_ALL : LISTED) && counted[own] > counted[other]) {
        return [...partial[own], `${isAlone ? 'everyone' : 'everyone else'} (${this.#crowd(answers, own, destination)})`];
      }
      return [...partial[own], ...this.#whole(answers, own, destination)];
    };
    return { allowed: entries('allowed', 'denied'), denied: entries('denied', 'allowed') };
  }

  /** How many entries {@link #whole} would have. */
  #count(answers: readonly Answer[], answer: Answer): number {
    let count = 0;
    for (const { rows } of this.#places) {
      let matching = 0;
      let asked = 0;
      for (const row of rows) {
        if (answers[row] === answer) matching++;
        if (answers[row] !== 'none') asked++;
      }
      count += matching === asked && matching > 1 ? 1 : matching;
    }
    return count;
  }

  #whole(answers: readonly Answer[], answer: Answer, destination: Group): string[] {
    return this.#places.flatMap(({ kind, text, rows }) => {
      const matching = this.#groups(rows.filter((row) => answers[row] === answer));
      const asked = rows.filter((row) => answers[row] !== 'none').length;
      if (matching.length < asked || matching.length < 2) return matching.map(({ name }) => name);
      return [kind === 'pod' ? `${text} (${countText(podsAmong(matching, destination), 'pod')})` : text];
    });
  }

  #partial(answers: readonly Answer[], verdicts: Verdicts, allowed: boolean, destination: Group): string[] {
    if (!answers.includes('mixed')) return [];
    return ([4, 6] as const).flatMap((family) => {
      const isOf = (row: number): boolean => familiesWith(this.#grid, verdicts, row, allowed).includes(family);
      const own = answers.map((answer, row) => (answer !== 'mixed' || isOf(row) ? answer : 'allowed'));
      return this.#whole(own, 'mixed', destination).map((text) => `${text} (IPv${family})`);
    });
  }

  #crowd(answers: readonly Answer[], answer: Answer, destination: Group): string {
    const counts = { pod: 0, node: 0, outside: 0 };
    for (const [row, { kind, parties }] of this.#grid.sources.entries()) if (answers[row] === answer) counts[kind] += parties.length;
    const [only, ...others] = destination.parties;
    // A single pod is not among those that reach it.
    const own = only === undefined || others.length > 0 ? undefined : this.#rowOf.get(only.name);
    if (own !== undefined && answers[own] === answer) counts.pod--;
    return [
      ...(counts.pod > 0 ? [countText(counts.pod, 'pod')] : []),
      ...(counts.node > 0 ? ['nodes'] : []),
      ...(counts.outside > 0 ? ['outside'] : []),
    ].join(', ');
  }

  #groups(rows: readonly number[]): Group[] {
    return rows.flatMap((row) => this.#grid.sources[row] ?? []);
  }
}

/** Pods among the sources that have the destination to reach: where it is one pod, not that one. */
function podsAmong(sources: readonly Group[], { parties: [only, ...others], namespace }: Group): number {
  let count = 0;
  for (const { kind, namespace: own, parties } of sources) {
    if (kind !== 'pod') continue;
    const isAmong = others.length === 0 && own === namespace && parties.some(({ name }) => name === only?.name);
    count += parties.length - (isAmong ? 1 : 0);
  }
  return count;
}

function countText(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

export interface FlowCount {
  readonly allowed: number;
  readonly denied: number;
}

/** How many connections there are between two of those asked about, on ports that were named or declared; a family each. */
export function countFlows({ equivalence, sources, blocks }: Grid): FlowCount {
  const counts = { allowed: 0, denied: 0 };
  const rowOf = new Map(sources.flatMap(({ parties }, row) => parties.map(({ name }) => [name, row] as const)));
  const onNodes = [...sources.entries()].filter(([, source]) => isOnNodes(source));
  for (const family of [4, 6] as const) {
    const having = ({ parties }: Group): number => parties.filter((party) => addressOf(party, family) !== undefined).length;
    const sizes = sources.map(having);
    for (const { destination, columns } of blocks) {
      if (isAboutAllPorts(columns)) continue;
      const own = having(destination);
      const pairs = sizes.map((size) => size * own);
      // A pod and itself are no pair, wherever it is among the sources.
      for (const party of destination.parties) {
        const row = rowOf.get(party.name);
        if (row !== undefined && addressOf(party, family) !== undefined) pairs[row] = (pairs[row] ?? 0) - 1;
      }
      // Nor are a pod and its own node; and of two pods of which one is on that node's network each reaches the other.
      for (const [row, source] of isOnNodes(destination) ? sources.entries() : onNodes) {
        const own = ownNodePairs(source, destination, family);
        pairs[row] = (pairs[row] ?? 0) - own;
        if (source.kind === 'pod' && destination.kind === 'pod') counts.allowed += own * columns.length;
      }
      // Ports that no policy tells apart share their verdicts.
      for (const [verdicts, times] of timesOf(columns)) {
        const numbers = verdicts[family];
        for (let row = 0; row < numbers.length; row++) {
          const number = numbers[row] ?? NO_PAIR;
          if (number !== NO_PAIR) counts[equivalence.isAllowed(number) ? 'allowed' : 'denied'] += times * (pairs[row] ?? 0);
        }
      }
    }
  }
  return counts;
}

/** Whether the addresses of its members are nodes'. */
function isOnNodes({ parties: [first] }: Group): boolean {
  return first !== undefined && isOnNode(first);
}

function ownNodePairs(source: Group, destination: Group, family: Family): number {
  const having = ({ parties }: Group): Party[] => parties.filter((party) => addressOf(party, family) !== undefined);
  const destinations = having(destination);
  let count = 0;
  for (const one of having(source)) for (const other of destinations) if (isPair(one, other) && isOwnNode(one, other)) count++;
  return count;
}

function timesOf(columns: readonly Column[]): Map<Verdicts, number> {
  const times = new Map<Verdicts, number>();
  for (const { verdicts } of columns) times.set(verdicts, (times.get(verdicts) ?? 0) + 1);
  return times;
}
