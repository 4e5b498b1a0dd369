/**
 * Text of somebody else's making on a terminal: labels, names of ports and of files are whatever a manifest or a bundle says, and must not
 * move the cursor, colour what follows, or turn it round.
 */

/** Control characters but the end of a line (C0, DEL, C1), and those that change the direction of writing (Unicode, UAX #9). */
// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const UNSEEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/gu;

/** The text with `\u001b` in place of what a terminal would act on. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The same of every text in a document, keys apart. */
export function visibleDocument<T>(document: T): T {
  // Each value is replaced by one of its own kind.
  return visibleValue(document) as T;
}

function visibleValue(value: unknown): unknown {
  if (typeof value === 'string') return visible(value);
  if (Array.isArray(value)) return value.map(visibleValue);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, visibleValue(each)]));
}
