/**
 * The matrix for people: for each destination and port who is let in and who is not. Destinations with the same verdicts are one block;
 * lists wrap at the terminal's width.
 */
import { DEFAULT_WIDTH, wrapList } from '../output/lists.ts';
import type { Paint } from '../output/colour.ts';
import type { Block, Grid } from './matrix-grid.ts';
import { countFlows, portLines, SourceEntries } from './matrix-lines.ts';

/** Lines of the table. Pairs of a pod with itself, which are always allowed (row 30), are not shown. */
export function* matrixTable(grid: Grid, paint: Paint, width = DEFAULT_WIDTH): Generator<string> {
  const blocks = new Map<string, string[]>();
  const entries = new SourceEntries(grid);
  for (const block of grid.blocks) {
    const body = blockLines(entries, block, paint, width).join('\n');
    if (body === '') continue;
    const known = blocks.get(body);
    if (known === undefined) blocks.set(body, [block.destination.name]);
    else known.push(block.destination.name);
  }
  const outside = grid.blocks.map(({ destination }) => destination.name).filter((name) => name.startsWith('outside'));
  for (const [body, names] of blocks) {
    for (const line of wrapList(withoutParts(names, outside), width)) yield paint('bold', line);
    yield body;
    yield '';
  }
  const { allowed, denied } = countFlows(grid);
  yield `${allowed + denied} ${allowed + denied === 1 ? 'flow' : 'flows'}: ${allowed} allowed, ${denied} denied`;
}

function blockLines(sources: SourceEntries, block: Block, paint: Paint, width: number): string[] {
  const ports = portLines(block);
  const indent = ports.reduce((most, { label }) => Math.max(most, label.length), 0) + '    '.length;
  const verdictWidth = 'allowed  '.length;
  const lines: string[] = [];
  for (const { label, verdicts } of ports) {
    let head = `  ${label}`.padEnd(indent);
    const entries = sources.of(block.destination, verdicts);
    for (const verdict of ['allowed', 'denied'] as const) {
      if (entries[verdict].length === 0) continue;
      const [first = '', ...more] = wrapList(entries[verdict], Math.max(20, width - indent - verdictWidth));
      lines.push(`${head}${paint(verdict === 'allowed' ? 'green' : 'red', verdict.padEnd(verdictWidth))}${first}`);
      for (const line of more) lines.push(' '.repeat(indent + verdictWidth) + line);
      head = ' '.repeat(indent);
    }
  }
  return lines;
}

/** Where all of the outside is among them, it is one. */
function withoutParts(names: readonly string[], outside: readonly string[]): readonly string[] {
  if (outside.length < 2 || !outside.every((name) => names.includes(name))) return names;
  return [...names.filter((name) => !outside.includes(name)), 'outside'];
}
