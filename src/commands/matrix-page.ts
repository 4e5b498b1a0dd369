/**
 * The matrix as a page: one file that asks nothing of the network. Its parts are beside this file, readable by themselves; what is put into
 * it is the data, as JSON that no name in it can break out of, and a policy that allows the page's own style and script and nothing else.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isAssumed } from '../audit/assumed-addresses.ts';
import type { Group } from '../policy/equivalence-parties.ts';
import type { Direction } from '../policy/objects.ts';
import type { MatrixFacts } from './matrix-document.ts';
import { type Grid, NO_PAIR } from './matrix-grid.ts';
import { countFlows, portLines } from './matrix-lines.ts';
import { type Reason, reasonOf } from './matrix-records.ts';

interface PageEnd {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly members: readonly string[];
}

interface PageLine {
  readonly label: string;
  readonly spans: readonly (readonly [protocol: string, first: number, last: number])[];
  /** The usual ingress reason. */
  readonly base: number;
  /** Exceptions of IPv4, in threes: row, egress reason, ingress reason (-1: there is no pair). */
  readonly x: readonly number[];
  /** Where IPv6 differs from IPv4, in threes. */
  readonly y: readonly number[];
}

/** What the page's script reads. */
interface PageData {
  readonly origin: string;
  /** What the answer lacks or assumes, a sentence or two each: whoever is sent the page has not seen what was said on stderr. */
  readonly notes: readonly string[];
  readonly allowed: number;
  readonly denied: number;
  readonly sources: readonly PageEnd[];
  readonly destinations: readonly (PageEnd & { readonly lines: readonly PageLine[] })[];
  /** Of each source its usual egress reason. */
  readonly rowBase: readonly number[];
  readonly reasons: readonly Reason[];
}

/** Text of the page, in pieces. */
export function* matrixPage(facts: MatrixFacts): Generator<string> {
  const part = (name: string): string => readFileSync(new URL(`./matrix-page.${name}`, import.meta.url), 'utf8');
  const [style, script] = [part('css'), part('js')];
  const policy = [
    `default-src 'none'`,
    `style-src ${hashOf(style)}`,
    `script-src ${hashOf(script)}`,
    `base-uri 'none'`,
    `form-action 'none'`,
  ];
  const parts: Readonly<Record<string, string>> = { style, script, policy: policy.join('; '), data: embedded(pageData(facts)) };
  for (const [index, piece] of part('html')
    .split(/\{\{(\w+)\}\}/u)
    .entries()) {
    yield index % 2 === 0 ? piece : (parts[piece] ?? '');
  }
}

/** As a Content-Security-Policy names an inline element (CSP level 3, section 2.3.1). */
function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** JSON in a script element: nothing in it may end the element, or begin a comment (HTML standard, section 4.12.1.3). */
function embedded(value: PageData): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

function pageData(facts: MatrixFacts): PageData {
  const { grid, origin } = facts;
  const reasons = new Reasons(grid);
  const blocks = grid.blocks.map(({ destination, columns }) => ({ destination, lines: portLines({ destination, columns }) }));
  const decoded = blocks.map(({ lines }) =>
    lines.map(({ verdicts }) => ({ 4: reasons.ofAll(verdicts[4]), 6: reasons.ofAll(verdicts[6]) })),
  );
  const sample = decoded.flat().slice(0, SAMPLE);
  const rowBase = grid.sources.map((_, row) => mostCommon(sample.map((line) => line[4].egress[row] ?? NO_PAIR)));
  const destinations = blocks.map(({ destination, lines }, block) => ({
    ...endOf(destination),
    lines: lines.map(({ label, spans }, index): PageLine => {
      const own = decoded[block]?.[index] ?? { 4: NOTHING, 6: NOTHING };
      const base = mostCommon(own[4].ingress);
      const [x, y]: [number[], number[]] = [[], []];
      for (const [row, usual] of rowBase.entries()) {
        const [egress, ingress] = [own[4].egress[row] ?? NO_PAIR, own[4].ingress[row] ?? NO_PAIR];
        const [egress6, ingress6] = [own[6].egress[row] ?? NO_PAIR, own[6].ingress[row] ?? NO_PAIR];
        if (egress !== usual || ingress !== base) x.push(row, egress, ingress);
        if (egress6 !== egress || ingress6 !== ingress) y.push(row, egress6, ingress6);
      }
      return { label, spans: spans.map(({ protocol, first, last }) => [protocol, first, last] as const), base, x, y };
    }),
  }));
  return {
    origin,
    notes: [...notesOf(facts)],
    ...countFlows(grid),
    sources: grid.sources.map(endOf),
    destinations,
    rowBase,
    reasons: reasons.list,
  };
}

function* notesOf({ grid: { sources, blocks }, missing }: MatrixFacts): Generator<string> {
  for (const { what, reason, consequence } of missing) yield `Missing are ${what}: ${reason}. ${consequence}`;
  const pods = [...sources, ...blocks.map(({ destination }) => destination)].filter(({ kind }) => kind === 'pod');
  if (pods.some(({ parties }) => parties.some(({ addresses }) => addresses.some(isAssumed)))) {
    yield 'Pods that have no address yet are asked about as well: of ipBlocks only those of the whole address space are taken to hold them.';
  }
}

/** What is usual is looked for in so many lines: it only has to be right often. */
const SAMPLE = 200;

interface ReasonNumbers {
  /** By row; -1: there is no pair. */
  readonly egress: Int32Array;
  readonly ingress: Int32Array;
}

const NOTHING: ReasonNumbers = { egress: new Int32Array(), ingress: new Int32Array() };

/** Numbers the reasons of a grid's verdicts. */
class Reasons {
  readonly list: Reason[] = [];
  readonly #grid: Grid;
  readonly #byText = new Map<string, number>();
  /** By numbers of the answers, of which there are far fewer than verdicts. */
  readonly #byAnswer: Readonly<Record<Direction, number[]>> = { egress: [], ingress: [] };
  /** Ports that no policy tells apart share their verdicts. */
  readonly #byVerdicts = new Map<Float64Array, ReasonNumbers>();

  constructor(grid: Grid) {
    this.#grid = grid;
  }

  ofAll(verdicts: Float64Array): ReasonNumbers {
    const known = this.#byVerdicts.get(verdicts);
    if (known !== undefined) return known;
    const numbers = { egress: new Int32Array(verdicts.length).fill(NO_PAIR), ingress: new Int32Array(verdicts.length).fill(NO_PAIR) };
    const { equivalence } = this.#grid;
    for (const [row, number] of verdicts.entries()) {
      if (number === NO_PAIR) continue;
      const answers = equivalence.directionNumbers(number);
      for (const direction of ['egress', 'ingress'] as const) {
        numbers[direction][row] = this.#byAnswer[direction][answers[direction]] ??= this.#number(
          reasonOf(equivalence.verdictNumbered(number)[direction], direction),
        );
      }
    }
    this.#byVerdicts.set(verdicts, numbers);
    return numbers;
  }

  #number(reason: Reason): number {
    const text = JSON.stringify(reason);
    let number = this.#byText.get(text);
    if (number === undefined) {
      number = this.list.length;
      this.#byText.set(text, number);
      this.list.push(reason);
    }
    return number;
  }
}

function endOf({ name, kind, namespace, labels, parties }: Group): PageEnd {
  return {
    name,
    ...(kind === 'pod' ? { namespace, labels: Object.fromEntries(labels) } : {}),
    members: parties.map((party) => party.name),
  };
}

/** Of those that are there; -1 where none is. */
function mostCommon(numbers: Iterable<number>): number {
  const counts = new Map<number, number>();
  for (const number of numbers) if (number !== NO_PAIR) counts.set(number, (counts.get(number) ?? 0) + 1);
  let [best, most] = [NO_PAIR, 0];
  for (const [number, count] of counts) if (count > most) [best, most] = [number, count];
  return best;
}
