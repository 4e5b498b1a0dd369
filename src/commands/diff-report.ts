/** A difference for people: what is done to objects, who becomes isolated, and which connections become denied and which allowed. */
import type { AppliedObject } from '../audit/difference-objects.ts';
import { type Change, type IsolationChange, isWhole, otherPorts, type PortSet, PROTOCOLS, turning } from '../audit/difference.ts';
import { DEFAULT_WIDTH, wrapList } from '../output/lists.ts';
import type { Paint } from '../output/colour.ts';
import type { Group, Party } from '../policy/equivalence-parties.ts';
import type { DirectionVerdict } from '../policy/evaluate.ts';
import type { Direction } from '../policy/objects.ts';
import type { PortRange } from '../policy/ports.ts';
import type { DiffDocument, DiffFacts, LiveFlow } from './diff-document.ts';
import { reasonOf } from './matrix-records.ts';

const LABEL_WIDTH = 8;

/** @param document of the same facts */
export function* diffReport(
  { done, difference }: DiffFacts,
  { flows }: DiffDocument,
  paint: Paint,
  width = DEFAULT_WIDTH,
): Generator<string> {
  for (const each of done) yield objectLine(each, paint);
  yield '';
  const { changes, isolation } = difference;
  const crowds = new Crowds(difference.parties);
  for (const each of isolation) yield* isolationLines(each, crowds, paint, width);
  if (isolation.length > 0) yield '';
  const sorted = [...changes.filter(({ becomes }) => becomes === 'denied'), ...changes.filter(({ becomes }) => becomes === 'allowed')];
  for (const change of sorted) {
    yield* changeLines(change, crowds, paint, width);
    yield '';
  }
  if (changes.length === 0) yield 'No connection becomes allowed or denied.';
  if (flows !== undefined) yield* flowLines(flows, paint);
}

const MARKS: Readonly<Record<AppliedObject['change'], string>> = {
  created: '+',
  configured: '~',
  deleted: '-',
  unchanged: ' ',
  absent: ' ',
};

function objectLine({ change, kind, name }: AppliedObject, paint: Paint): string {
  const text = `${MARKS[change]} ${kind} ${name} ${change === 'absent' ? 'is not there' : change}`;
  return change === 'unchanged' || change === 'absent' ? paint('dim', text) : text;
}

function* isolationLines(
  { direction, becomes, pods, policies }: IsolationChange,
  crowds: Crowds,
  paint: Paint,
  width: number,
): Generator<string> {
  const by = namesText(policies.map(({ namespace, name }) => `${namespace}/${name}`));
  const text =
    becomes === 'isolated' ? `isolated for ${direction} from now on, by ${by}:` : `no longer isolated for ${direction} (was by ${by}):`;
  const [first = '', ...more] = wrapped(text, width - 4);
  yield paint('yellow', first);
  for (const line of more) yield `    ${paint('yellow', line)}`;
  for (const line of wrapList(crowds.names(pods, []), width - 2)) yield `  ${line}`;
}

function* changeLines(change: Change, crowds: Crowds, paint: Paint, width: number): Generator<string> {
  const { becomes, sources, destinations, families, ports } = change;
  const only = families.length === 1 && isOfBoth(sources, destinations) ? `, IPv${families[0]} only` : '';
  const head = `becomes ${becomes}: `;
  const [first = '', ...more] = wrapped(`${portsText(ports)}${only}`, width - head.length);
  yield `${paint(becomes === 'denied' ? 'red' : 'green', head.slice(0, -2))}: ${paint('bold', first)}`;
  for (const line of more) yield `${' '.repeat(head.length)}${paint('bold', line)}`;
  const lines = (items: readonly string[]): string[] => wrapList(items, Math.max(20, width - LABEL_WIDTH - 2));
  yield* labelled('from', lines(crowds.names(sources, destinations)));
  yield* labelled('to', lines(crowds.names(destinations, sources)));
  for (const line of reasons(change)) yield* labelled('because', wrapped(line, width - LABEL_WIDTH - 2));
}

/** Names groups, and together those that are everybody of a namespace: `dev/* (12 pods)`. */
class Crowds {
  readonly #sizes = new Map<string, number>();

  constructor(parties: readonly Party[]) {
    for (const { kind, namespace } of parties) if (kind === 'pod') this.#sizes.set(namespace, (this.#sizes.get(namespace) ?? 0) + 1);
  }

  /** @param others at the other end: a pod that is alone there does not reach itself, and need not be among them */
  names(groups: readonly Group[], others: readonly Group[]): string[] {
    const alone = others.length === 1 && others[0]?.parties.length === 1 ? others[0].parties[0] : undefined;
    const namespaces = new Map<string, Group[]>();
    const names: string[] = [];
    for (const group of groups) {
      const known = namespaces.get(group.namespace);
      if (group.kind !== 'pod') names.push(group.name);
      else if (known === undefined) namespaces.set(group.namespace, [group]);
      else known.push(group);
    }
    const ofPods = [...namespaces].flatMap(([namespace, own]) => {
      const members = own.reduce((sum, { parties }) => sum + parties.length, 0);
      const isAlone = alone?.kind === 'pod' && alone.namespace === namespace && !own.some(({ parties }) => parties.includes(alone));
      const isWhole = own.length > 1 && members + (isAlone ? 1 : 0) === this.#sizes.get(namespace);
      return isWhole ? [`${namespace}/* (${members} pods)`] : own.map(({ name }) => name);
    });
    return [...ofPods, ...names];
  }
}

/** Whether any of them could be reached in both families. */
function isOfBoth(sources: readonly Group[], destinations: readonly Group[]): boolean {
  const both = (groups: readonly Group[]): boolean => groups.some(({ parties }) => parties.some(({ addresses }) => addresses.length > 1));
  return both(sources) && both(destinations);
}

function* labelled(label: string, [first = '', ...more]: readonly string[]): Generator<string> {
  yield `  ${label.padEnd(LABEL_WIDTH)}${first}`;
  for (const line of more) yield `  ${' '.repeat(LABEL_WIDTH)}${line}`;
}

/** Of each direction that turns, what does it. */
function reasons(change: Change): string[] {
  return turning(change).map((direction) => {
    const is = change.after[direction];
    return `${direction}: ${is.allowed ? allowedText(is, direction) : refusedText(is, direction)}`;
  });
}

function refusedText(verdict: DirectionVerdict, direction: Direction): string {
  const { policies } = reasonOf(verdict, direction);
  return `isolated by ${namesText(policies)}, ${policies.length === 1 ? 'which does not admit it' : 'none of which admits it'}`;
}

function allowedText(verdict: DirectionVerdict, direction: Direction): string {
  if (verdict.reason !== 'admitted') return verdict.reason === 'not-isolated' ? 'no policy isolates it any more' : verdict.reason;
  const { policies, fields = [] } = reasonOf(verdict, direction);
  return `${policies.join()} admits it (${fields.join(', ')})`;
}

/** More policies than this are not listed. */
const POLICIES_SHOWN = 5;

function namesText(names: readonly string[]): string {
  const more = names.length - POLICIES_SHOWN;
  return `${names.slice(0, POLICIES_SHOWN).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Breaks a line at spaces, and behind commas. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const piece of text.split(/(?<= )|(?<=,)(?! )/u)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + piece.trimEnd().length <= width) lines[lines.length - 1] = last + piece;
    else lines.push(piece);
  }
  return lines.map((line) => line.trimEnd());
}

/** `5432/TCP`, `any port`, `every TCP port but 80`. */
export function portsText(ports: readonly PortSet[]): string {
  const whole = ports.filter(isWhole).map(({ protocol }) => protocol);
  if (whole.length === PROTOCOLS.length) return 'every port and protocol';
  const parts = ports.filter((set) => !isWhole(set)).map(partText);
  const named = whole.filter((protocol) => protocol !== 'ICMP' && protocol !== 'other');
  if (named.length > 0) parts.push(`every ${named.join(' and ')} port`);
  if (whole.includes('ICMP')) parts.push('ICMP');
  if (whole.includes('other')) parts.push('other protocols');
  return parts.join('; ');
}

function partText({ protocol, ranges }: PortSet): string {
  const others = otherPorts(ranges);
  if (others.length <= ranges.length && sizeOf(others) < sizeOf(ranges)) return `every ${protocol} port but ${rangesText(others)}`;
  return `${rangesText(ranges)}/${protocol}`;
}

function rangesText(ranges: readonly PortRange[]): string {
  return ranges.map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`)).join(',');
}

function sizeOf(ranges: readonly PortRange[]): number {
  return ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

/** More flows than this are counted, and not listed. */
const FLOWS_SHOWN = 20;

function* flowLines({ node, judged, cut, restored }: NonNullable<DiffDocument['flows']>, paint: Paint): Generator<string> {
  yield `Of ${judged} live ${judged === 1 ? 'flow' : 'flows'} of node ${node}, ${cut.length} would be cut, and ${restored.length} that are cut would go on.`;
  for (const [style, word, flows] of [
    ['red', 'cut', cut],
    ['green', 'goes on', restored],
  ] as const) {
    for (const flow of flows.slice(0, FLOWS_SHOWN)) yield `  ${paint(style, word)}  ${flowText(flow)}`;
    if (flows.length > FLOWS_SHOWN) yield `  and ${flows.length - FLOWS_SHOWN} more (-o json has them)`;
  }
}

function flowText({ source, destination, protocol, port }: LiveFlow): string {
  return `${source} → ${destination} ${port === undefined || protocol === 'ICMP' || protocol === 'other' ? protocol : `${port}/${protocol}`}`;
}
