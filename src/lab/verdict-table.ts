/**
 * A step's verdicts for people: a matrix of who (row) reaches whom (column), and below it in words what does not fit into a sign.
 * Where packets, scenario and evaluator agree there is one sign; where they do not, `expected/seen`.
 */
import type { Paint, Style } from '../output/colour.ts';
import { wrapList } from '../output/lists.ts';
import type { ProbeProtocol } from './prober/protocol.ts';
import { type VerdictRecord, isAsExpected } from './verdicts.ts';

type Sign = '+' | '-' | '~';

const STYLES: Readonly<Record<Sign, Style>> = { '+': 'green', '-': 'dim', '~': 'yellow' };
const CELL_WIDTH = 4;
const NAME_WIDTH_MAX = 40;
/** More than these many lines of what went wrong help nobody. */
const MISTAKES_MAX = 20;

/** What the signs mean: once, above the first matrix. */
export function legend(paint: Paint): readonly string[] {
  const sign = (each: Sign): string => paint(STYLES[each], each);
  return [
    `Row reaches column: ${sign('+')} on all that was probed, ${sign('-')} on nothing, ${sign('~')} as listed below it;`,
    `${paint('red', '+/-')} where it was expected and not seen, ${paint('red', '-/+')} where it was seen and not expected.`,
  ];
}

/** @param names rows and columns, in order */
export function* verdictTable(records: readonly VerdictRecord[], names: readonly string[], paint: Paint, width: number): Generator<string> {
  const cells = new Map<string, VerdictRecord[]>();
  for (const record of records) {
    const key = `${record.source} ${record.destination}`;
    const cell = cells.get(key);
    if (cell === undefined) cells.set(key, [record]);
    else cell.push(record);
  }
  const digits = String(names.length).length;
  const nameWidth = Math.min(
    NAME_WIDTH_MAX,
    names.reduce((most, name) => Math.max(most, name.length), 0),
  );
  const labelWidth = digits + 1 + nameWidth;
  const perBlock = Math.max(4, Math.floor((width - labelWidth) / CELL_WIDTH));
  for (let first = 0; first < names.length; first += perBlock) {
    const columns = names.slice(first, first + perBlock);
    yield ' '.repeat(labelWidth) + columns.map((_, index) => String(first + index + 1).padStart(CELL_WIDTH)).join('');
    for (const [index, source] of names.entries()) {
      const label = `${String(index + 1).padStart(digits)} ${clipped(source, nameWidth).padEnd(nameWidth)}`;
      yield `${label}${columns.map((destination) => cellText(cells.get(`${source} ${destination}`), paint)).join('')}`.trimEnd();
    }
  }
  yield* partly(cells, names, width);
  yield* mistakes(records, paint, width);
}

function clipped(name: string, width: number): string {
  return name.length <= width ? name : `${name.slice(0, width - 1)}…`;
}

function signOf(verdicts: readonly string[]): Sign {
  if (verdicts.every((verdict) => verdict === 'allowed')) return '+';
  return verdicts.every((verdict) => verdict === 'denied') ? '-' : '~';
}

function cellText(records: readonly VerdictRecord[] | undefined, paint: Paint): string {
  if (records === undefined) return ' '.repeat(CELL_WIDTH);
  const expected = signOf(records.map((record) => record.expected));
  const seen = signOf(records.map((record) => record.measured));
  if (records.every(isAsExpected)) return ' '.repeat(CELL_WIDTH - 1) + paint(STYLES[seen], seen);
  return ' '.repeat(CELL_WIDTH - 3) + paint('red', `${expected}/${seen}`);
}

/** Cells with `~`, those alike together: `1 4 5 -> 2: 80/TCP`. */
function* partly(cells: ReadonlyMap<string, readonly VerdictRecord[]>, names: readonly string[], width: number): Generator<string> {
  const groups = new Map<string, Map<string, number[]>>();
  for (const [from, source] of names.entries()) {
    for (const [to, destination] of names.entries()) {
      const records = cells.get(`${source} ${destination}`);
      if (records === undefined || !records.every(isAsExpected) || signOf(records.map((record) => record.measured)) !== '~') continue;
      const what = allowedPart(records);
      const bySources = groups.get(what) ?? new Map<string, number[]>();
      groups.set(what, bySources);
      const sources = bySources.get(String(to + 1)) ?? [];
      bySources.set(String(to + 1), [...sources, from + 1]);
    }
  }
  for (const [what, byDestination] of groups) {
    const bySources = new Map<string, string[]>();
    for (const [destination, sources] of byDestination) {
      const key = sources.join(' ');
      bySources.set(key, [...(bySources.get(key) ?? []), destination]);
    }
    for (const [sources, destinations] of bySources) {
      const lines = wrapList([`~ ${sources} -> ${destinations.join(' ')}: only ${what}`], width);
      yield* lines;
    }
  }
}

/** `80/TCP, 53/UDP (IPv4)`: what is allowed of a cell's probes. */
function allowedPart(records: readonly VerdictRecord[]): string {
  const allowed = records.filter((record) => record.measured === 'allowed');
  const families = new Set(records.map((record) => record.family));
  return portsOf(allowed, families.size).join(', ');
}

/** `80/TCP`, `81/TCP (IPv4)`: ports with their protocol, and the family where it is not all of so many. */
export function portsOf(records: readonly VerdictRecord[], families = 2): readonly string[] {
  const kinds = new Map<string, Set<number>>();
  for (const { port, protocol, family } of records) {
    const kind = portText(port, protocol);
    kinds.set(kind, (kinds.get(kind) ?? new Set()).add(family));
  }
  return [...kinds].map(([kind, found]) => (found.size === families ? kind : `${kind} (IPv${[...found].join(', IPv')})`));
}

function portText(port: number, protocol: ProbeProtocol): string {
  return protocol === 'ICMP' ? protocol : `${port}/${protocol}`;
}

/** What differs, those of a pair that differ in the same way together. */
function* mistakes(records: readonly VerdictRecord[], paint: Paint, width: number): Generator<string> {
  const groups = new Map<string, VerdictRecord[]>();
  for (const record of records) {
    if (isAsExpected(record)) continue;
    const { source, destination, expected, predicted, measured, answeredBy } = record;
    const evaluator = predicted === expected ? '' : `, and the evaluator says ${predicted}`;
    const answer = answeredBy === undefined ? '' : `, and ${answeredBy} answered`;
    const text = `! ${source} -> ${destination}: expected ${expected}, seen ${measured}${evaluator}${answer}:`;
    groups.set(text, [...(groups.get(text) ?? []), record]);
  }
  for (const [text, group] of [...groups].slice(0, MISTAKES_MAX)) {
    const [first = '', ...more] = wrapList([`${text} ${portsOf(group)[0] ?? ''}`, ...portsOf(group).slice(1)], width);
    yield paint('red', first);
    for (const line of more) yield paint('red', `  ${line}`);
  }
  if (groups.size > MISTAKES_MAX) yield paint('red', `! and ${groups.size - MISTAKES_MAX} more pairs (-o json lists every probe)`);
}
