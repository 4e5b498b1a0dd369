/** What lint found, for people: object by object, wrapped at the width of the terminal. */
import type { Paint, Style } from '../output/colour.ts';
import { DEFAULT_WIDTH } from '../output/lists.ts';
import type { LintDocument, PlacedFinding } from './lint-document.ts';

const STYLES: Readonly<Record<PlacedFinding['severity'], Style>> = { error: 'red', warning: 'yellow', note: 'dim' };
const INDENT = ' '.repeat(11);

export function* lintTable(document: LintDocument, paint: Paint, width: number = DEFAULT_WIDTH): Iterable<string> {
  const byObject = Map.groupBy(document.findings, nameOf);
  for (const [name, findings] of byObject) {
    const file = findings[0]?.file;
    yield `${paint('bold', name)}${file === undefined ? '' : `  ${paint('dim', file)}`}`;
    for (const finding of findings) yield* lines(finding, paint, width);
    yield '';
  }
  for (const { codes, reason } of document.skipped) {
    yield* wrapped(`Not looked for, since ${reason}: ${codes.join(', ')}.`, width, '', '');
    yield '';
  }
  yield summary(document, paint);
}

function* lines({ severity, code, path, line, message, remedy, related }: PlacedFinding, paint: Paint, width: number): Iterable<string> {
  const at = [path, line === undefined ? '' : `line ${line}`].filter((part) => part !== '').join(', ');
  yield* wrapped(at === '' ? code : `${code} at ${at}`, width, `  ${paint(STYLES[severity], severity.padEnd(7))}  `, INDENT, INDENT.length);
  yield* wrapped(`${message}.`, width, INDENT, INDENT);
  for (const other of related) {
    const place = [other.path, other.file === undefined ? '' : `${other.file}:${other.line}`].filter((part) => part !== '').join(', ');
    yield* wrapped(`see ${nameOf(other)}${place === '' ? '' : ` (${place})`}: ${other.message}`, width, INDENT, `${INDENT}  `);
  }
  yield* wrapped(`Remedy: ${remedy}.`.replace(/\?\.$/u, '?'), width, INDENT, `${INDENT}  `);
}

/** `shop/web`; of a Namespace `namespace shop`. */
function nameOf({ object: { kind, namespace, name } }: Pick<PlacedFinding, 'object'>): string {
  return kind === 'Namespace' ? `namespace ${name}` : `${namespace}/${name}`;
}

/** `3 errors, 5 warnings, 2 notes in 41 policies` */
function summary({ errors, warnings, notes, hidden, policies }: LintDocument, paint: Paint): string {
  const said = [
    [errors, 'error', 'red'],
    [warnings, 'warning', 'yellow'],
    [notes, 'note', 'dim'],
  ] as const;
  const found = said.flatMap(([number, noun, style]) =>
    number === 0 ? [] : [paint(style, `${number} ${noun}${number === 1 ? '' : 's'}`)],
  );
  const where = `in ${policies} ${policies === 1 ? 'policy' : 'policies'}`;
  const more = hidden === 0 ? '' : `; ${hidden} below --severity ${hidden === 1 ? 'is' : 'are'} not shown`;
  return `${found.length === 0 ? 'nothing found' : found.join(', ')} ${where}${more}`;
}

/** @param firstWidth columns of `first`, where it has colours in it */
function* wrapped(text: string, width: number, first: string, others: string, firstWidth = first.length): Iterable<string> {
  let line = first;
  let used = firstWidth;
  let isEmpty = true;
  for (const word of text.split(' ')) {
    if (!isEmpty && used + 1 + word.length > width) {
      yield line;
      line = others;
      used = others.length;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    used += word.length + (isEmpty ? 0 : 1);
    isEmpty = false;
  }
  yield line;
}
