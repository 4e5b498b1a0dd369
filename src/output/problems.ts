/** Problems of a source as lines that people and editors can follow: `file.yaml:12: error: NetworkPolicy dev/web: spec…: …`. */
import type { SourceProblem } from '../sources/source.ts';
import type { Paint } from './colour.ts';
import { visible } from './visible-text.ts';

const STYLES = { error: 'red', warning: 'yellow', notice: 'dim' } as const;

export function formatProblem(problem: SourceProblem, paint: Paint): string {
  const { severity, origin, line, object, path, message, code } = problem;
  // The number of the document is for places that have no line.
  const place = line === undefined ? origin : `${origin.replace(/#\d+$/u, '')}:${line}`;
  const said = [object, path, `${message} [${code}]`].filter((part) => part !== undefined && part !== '').join(': ');
  return `${visible(place)}: ${paint(STYLES[severity], severity)}: ${visible(said)}`;
}
