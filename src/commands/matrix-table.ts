/**
 * The matrix for people: for each destination and port who is let in and who is not. Sources of one namespace that have the same
 * verdict are one entry, destinations with the same verdicts one block; lists wrap at the terminal's width.
 */
import { DEFAULT_WIDTH, wrapList } from '../output/lists.ts';
import type { Paint } from '../output/colour.ts';
import type { MatrixRecord } from './matrix-records.ts';

/** Lines of the table. Pairs of a pod with itself, which are always allowed (row 30), are not shown. */
export function* matrixTable(records: Iterable<MatrixRecord>, paint: Paint, width = DEFAULT_WIDTH): Generator<string> {
  const destinations = new Map<string, Map<string, MatrixRecord[]>>();
  let allowed = 0;
  let denied = 0;
  for (const record of records) {
    if (record.source === record.destination) continue;
    if (record.allowed) allowed++;
    else denied++;
    const port = `${record.port}/${record.protocol}`;
    const ports = ensure(destinations, record.destination, () => new Map<string, MatrixRecord[]>());
    ensure(ports, port, () => []).push(record);
  }
  const blocks = new Map<string, string[]>();
  for (const [destination, ports] of destinations) {
    const body = portLines(ports, paint, width).join('\n');
    ensure(blocks, body, () => []).push(destination);
  }
  for (const [body, names] of blocks) {
    for (const line of wrapList(names, width)) yield paint('bold', line);
    yield body;
    yield '';
  }
  yield `${allowed + denied} flows: ${allowed} allowed, ${denied} denied`;
}

function portLines(ports: ReadonlyMap<string, readonly MatrixRecord[]>, paint: Paint, width: number): string[] {
  const indent = Math.max(...[...ports.keys()].map((port) => port.length)) + '    '.length;
  const verdictWidth = 'allowed  '.length;
  const lines: string[] = [];
  for (const [port, records] of ports) {
    let label = `  ${port}`.padEnd(indent);
    for (const verdict of ['allowed', 'denied'] as const) {
      const entries = sourceEntries(records, verdict === 'allowed');
      if (entries.length === 0) continue;
      const [first = '', ...more] = wrapList(entries, Math.max(20, width - indent - verdictWidth));
      lines.push(`${label}${paint(verdict === 'allowed' ? 'green' : 'red', verdict.padEnd(verdictWidth))}${first}`);
      lines.push(...more.map((line) => ' '.repeat(indent + verdictWidth) + line));
      label = ' '.repeat(indent);
    }
  }
  return lines;
}

/** The sources with this verdict: `shop/* (3 pods)` where the whole namespace has it, `shop/web (IPv6)` where one family has. */
function sourceEntries(records: readonly MatrixRecord[], allowed: boolean): string[] {
  const bySource = new Map<string, MatrixRecord[]>();
  for (const record of records) ensure(bySource, record.source, () => []).push(record);
  const namespaces = new Map<string, { readonly entries: string[]; agreeing: number; asked: number }>();
  for (const [source, ofSource] of bySource) {
    // Addresses are no namespace's, and are listed one by one.
    const namespace = source.includes('/') ? source.slice(0, source.indexOf('/')) : source;
    const group = ensure(namespaces, namespace, () => ({ entries: [], agreeing: 0, asked: 0 }));
    group.asked++;
    const matching = ofSource.filter((record) => record.allowed === allowed);
    if (matching.length === ofSource.length) {
      group.agreeing++;
      group.entries.push(source);
    } else group.entries.push(...matching.map(({ family }) => `${source} (IPv${family})`));
  }
  return [...namespaces].flatMap(([namespace, { entries, agreeing, asked }]) =>
    asked > 1 && agreeing === asked ? [`${namespace}/* (${asked} pods)`] : entries,
  );
}

function ensure<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
