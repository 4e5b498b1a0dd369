/** What differs between a kernel and what it should have, as a patch that people can read. */
import type { Difference, DifferenceLine } from '../audit/table-comparison.ts';
import type { Paint } from '../output/colour.ts';

const SIGNS = { desired: '-', kernel: '+', both: ' ' } as const;
const STYLES = { desired: 'red', kernel: 'green', both: 'dim' } as const;
const IS = { missing: ', which is missing', extra: ', which nobody asked for', different: '' } as const;

/** The lines of a unified difference from what is desired to what the kernel has; none where they are equal. */
export function* patch(differences: readonly Difference[], paint: Paint): Generator<string> {
  if (differences.length === 0) return;
  yield paint('bold', '--- desired');
  yield paint('bold', '+++ kernel');
  for (const { object, name, kernel, lines } of differences) {
    yield `@@ ${paint('bold', `${object} ${name}`)}${IS[kernel]} @@`;
    // A whole table, of which no more is said.
    if (lines.length === 0) yield paint(STYLES.desired, `${SIGNS.desired}${object} ${name}`);
    for (const line of lines) yield formatLine(line, paint);
  }
}

function formatLine({ side, text, handle }: DifferenceLine, paint: Paint): string {
  const note = handle === undefined || side === 'both' ? '' : paint('dim', `  # handle ${handle}`);
  return `${paint(STYLES[side], `${SIGNS[side]}${text}`)}${note}`;
}
