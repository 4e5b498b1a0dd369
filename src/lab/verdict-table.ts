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
export function legend(paint: Paint): string {
  const sign = (each: Sign): string => paint(STYLES[each], each);
  return `row reaches column: ${sign('+')} all of it   ${sign('-')} none   ${sign('~')} some, as listed   ${paint('red', '+/-')} expected/seen where they differ`;
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
  const nameWidth = Math.min(NAME_WIDTH_MAX, Math.max(...names.map((name) => name.length)));
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
  yield* mistakes(records, paint);
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

/** `80/TCP, 53/UDP (IPv4)`; what is allowed of a cell's probes. */
function allowedPart(records: readonly VerdictRecord[]): string {
  const allowed = records.filter((record) => record.measured === 'allowed');
  const kinds = new Map<string, Set<number>>();
  for (const { port, protocol, family } of allowed) {
    const kind = portText(port, protocol);
    const families = kinds.get(kind) ?? new Set();
    kinds.set(kind, families.add(family));
  }
  const probed = new Set(records.map((record) => record.family));
  return [...kinds].map(([kind, families]) => (families.size === probed.size ? kind : `${kind} (IPv${[...families][0]})`)).join(', ');
}

function portText(port: number, protocol: ProbeProtocol): string {
  return protocol === 'ICMP' ? protocol : `${port}/${protocol}`;
}

function* mistakes(records: readonly VerdictRecord[], paint: Paint): Generator<string> {
  const wrong = records.filter((record) => !isAsExpected(record));
  for (const record of wrong.slice(0, MISTAKES_MAX)) {
    const { source, destination, port, protocol, family, expected, predicted, measured, answeredBy } = record;
    const evaluator = predicted === expected ? '' : `, the evaluator says ${predicted}`;
    const answer = answeredBy === undefined ? '' : `, ${answeredBy} answered`;
    yield paint(
      'red',
      `! ${source} -> ${destination} ${portText(port, protocol)} IPv${family}: expected ${expected}, seen ${measured}${evaluator}${answer}`,
    );
  }
  if (wrong.length > MISTAKES_MAX) yield paint('red', `! and ${wrong.length - MISTAKES_MAX} more (-o json lists all)`);
}
