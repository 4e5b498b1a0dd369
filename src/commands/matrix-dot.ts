/** The matrix as a graph in the DOT language of Graphviz: who is reached by whom, by namespace. What is denied has no edge. */
import type { Grid } from './matrix-grid.ts';
import { answerOf, familiesWith, portLines } from './matrix-lines.ts';

/** Lines of the graph. An edge has the ports that are allowed; one that is allowed in one family only is dashed, and says which. */
export function* matrixDot(grid: Grid): Generator<string> {
  yield 'digraph sluice {\n';
  yield '  rankdir=LR;\n  node [shape=box, style=rounded, fontname="sans-serif"];\n  edge [fontname="sans-serif", fontsize=10];\n';
  const groups = new Map([...grid.sources, ...grid.blocks.map(({ destination }) => destination)].map((group) => [group.name, group]));
  const namespaces = new Map<string, string[]>();
  for (const { kind, namespace, name } of groups.values()) {
    const known = namespaces.get(kind === 'pod' ? namespace : '');
    if (known === undefined) namespaces.set(kind === 'pod' ? namespace : '', [name]);
    else known.push(name);
  }
  for (const [namespace, names] of namespaces) {
    const nodes = names.map((name) => `    ${quoted(name)};\n`).join('');
    yield namespace === ''
      ? nodes
      : `  subgraph ${quoted(`cluster_${namespace}`)} {\n    label=${quoted(namespace)}; color=gray;\n${nodes}  }\n`;
  }
  for (const block of grid.blocks) {
    const lines = portLines(block);
    for (const [row, source] of grid.sources.entries()) {
      const [whole, partly]: [string[], string[]] = [[], []];
      for (const { label, verdicts } of lines) {
        const answer = answerOf(grid, verdicts, row);
        if (answer === 'allowed') whole.push(label);
        if (answer !== 'mixed') continue;
        const families = familiesWith(grid, verdicts, row, true).map((family) => `IPv${family}`);
        partly.push(`${label} (${families.join()})`);
      }
      const edge = `  ${quoted(source.name)} -> ${quoted(block.destination.name)}`;
      if (whole.length > 0) yield `${edge} [label=${quoted(whole.join(', '))}];\n`;
      if (partly.length > 0) yield `${edge} [label=${quoted(partly.join(', '))}, style=dashed];\n`;
    }
  }
  yield '}\n';
}

/** A quoted ID of the DOT language: a quote is escaped; a backslash would begin an escape of labels. */
function quoted(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}
