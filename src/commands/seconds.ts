/** Durations on the command line. */
import { InvalidArgumentError } from 'commander';

/** Seconds as a number: `5`, `0.5`, or `5s`. */
export function seconds(text: string): number {
  const [, digits] = /^(\d+(?:\.\d+)?)s?$/u.exec(text) ?? [];
  if (digits === undefined) throw new InvalidArgumentError('It is a number of seconds, such as 5 or 0.5.');
  return Number(digits);
}
