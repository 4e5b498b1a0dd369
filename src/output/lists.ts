/** Laying out lists of names within the width of a terminal. */

/** What a terminal is taken to have where there is none. */
export const DEFAULT_WIDTH = 100;

/**
 * `items`, separated by commas, in lines of at most `width` characters; an item that is longer has a line of its own. At least
 * one line.
 */
export function wrapList(items: readonly string[], width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const [i, item] of items.entries()) {
    const piece = i < items.length - 1 ? `${item},` : item;
    if (line === '') line = piece;
    else if (line.length + 1 + piece.length <= width) line += ` ${piece}`;
    else {
      lines.push(line);
      line = piece;
    }
  }
  return [...lines, line];
}
