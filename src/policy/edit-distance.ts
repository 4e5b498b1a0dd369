/** How much two texts differ. */

/**
 * Levenshtein distance: insertions, deletions and replacements of a character (of UTF-16).
 *
 * @param limit what is at least as far is said to be so far, which costs less
 */
export function editDistance(a: string, b: string, limit = Number.POSITIVE_INFINITY): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const replaced = (above[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const distance = Math.min(replaced, (above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1);
      row.push(distance);
      least = Math.min(least, distance);
    }
    // Distances never become smaller further down.
    if (least >= limit) return limit;
  }
  return Math.min(limit, row[b.length] ?? 0);
}
