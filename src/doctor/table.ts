/** The report for people, to be read in 80 columns. Commands begin in the first column and are never broken, so that they can be copied. */
import type { Paint, Style } from '../output/colour.ts';
import { wrapList } from '../output/lists.ts';
import type { CheckResult, DoctorReport, Finding, Severity } from './report.ts';

const SEVERITIES: readonly (readonly [severity: Severity, title: string, style: Style])[] = [
  ['error', 'Errors', 'red'],
  ['warning', 'Warnings', 'yellow'],
  ['notice', 'Worth knowing', 'dim'],
];
/** What is longer is for programs: `-o json` has all of it. */
const EVIDENCE_LINES_MAX = 12;
const REMEDY_LINES_MAX = 60;

/** Lines of the table. */
export function* doctorTable(node: string, { findings, checks }: DoctorReport, paint: Paint, width: number): Generator<string> {
  for (const [severity, title, style] of SEVERITIES) {
    const list = findings.filter((finding) => finding.severity === severity);
    if (list.length === 0) continue;
    yield paint('bold', `${title} (${list.length})`);
    yield '';
    for (const finding of list) yield* findingLines(finding, style, paint, width);
  }
  yield* summary(node, checks, paint, width);
}

function* findingLines(
  { code, subject, message, evidence, remedy }: Finding,
  style: Style,
  paint: Paint,
  width: number,
): Generator<string> {
  yield `${paint(style, code)}  ${subject}`;
  yield* wrapped(`${message.charAt(0).toUpperCase()}${message.slice(1)}.`, width, '  ', '  ');
  for (const line of evidence.slice(0, EVIDENCE_LINES_MAX)) yield* wrapped(line, width, '  - ', '    ');
  if (evidence.length > EVIDENCE_LINES_MAX) yield `  - … and ${evidence.length - EVIDENCE_LINES_MAX} more: -o json has them all`;
  yield '';
  const lines = remedy.split('\n');
  for (const line of lines.slice(0, REMEDY_LINES_MAX)) {
    if (line.startsWith('#')) for (const part of wrapped(line.slice(2), width, '# ', '# ')) yield paint('dim', part);
    else yield line;
  }
  if (lines.length > REMEDY_LINES_MAX) yield paint('dim', `# … and ${lines.length - REMEDY_LINES_MAX} lines more: -o json has them all`);
  yield '';
}

/** A text in lines; a word that is longer than the width is not broken. */
function wrapped(text: string, width: number, first: string, others: string): string[] {
  const lines: string[] = [];
  let line = first;
  let isEmpty = true;
  for (const word of text.split(' ')) {
    if (!isEmpty && line.length + 1 + word.length > width) {
      lines.push(line);
      [line, isEmpty] = [others, true];
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line];
}

function* summary(node: string, checks: readonly CheckResult[], paint: Paint, width: number): Generator<string> {
  const blind = checks.filter((check) => check.blind === true);
  const idle = checks.filter((check) => check.result === 'skipped' && check.blind !== true);
  const found = checks.filter(({ result }) => result === 'findings');
  const ok = checks.filter(({ result }) => result === 'ok');
  const counts = [
    `${ok.length} in order`,
    ...(found.length === 0 ? [] : [`${found.length} with findings`]),
    ...(idle.length === 0 ? [] : [`${idle.length} with nothing to look at`]),
    ...(blind.length === 0 ? [] : [`${blind.length} that could not be made, or only in part`]),
  ];
  yield* wrapped(`${node}: ${checks.length} checks: ${counts.join(', ')}.`, width, '', '  ');
  // One reason keeps many checks from being made.
  for (const [title, list, style] of [
    ['Could not be made', blind, 'yellow'],
    ['Nothing to look at', idle, 'dim'],
  ] as const) {
    if (list.length === 0) continue;
    yield '';
    yield paint(style, title);
    for (const [reason, group] of Map.groupBy(list, (check) => check.reason ?? '')) {
      for (const line of wrapList(
        group.map(({ name }) => name),
        width - 2,
      ))
        yield `  ${line}`;
      yield* wrapped(reason, width, '    ', '    ');
    }
  }
}
