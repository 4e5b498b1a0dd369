/** Comparing what flanneld and sluice leave on the same node, entry by entry, but for what is meant to differ. */
import type { Snapshot } from './snapshot.ts';

/** What sluice does otherwise, and why. */
export interface KnownDifference {
  readonly reason: string;
  /** Name of a section of a snapshot, such as `links`. */
  readonly section: string;
  /** What an entry of flanneld's says, and what sluice's says in its place. */
  readonly flanneld: string;
  readonly sluice: string;
  /** Whoever comes next leaves it as it finds it. */
  readonly stays: boolean;
}

/** What a snapshot of flanneld's would be like if sluice had written it. A known difference that is none is told, so that they stay true. */
export function asBySluice(flanneld: Snapshot, known: readonly KnownDifference[]): { expected: Snapshot; stale: readonly string[] } {
  const stale = known.filter(({ section, flanneld: said }) => !flanneld[section]?.some((entry) => entry.includes(said)));
  return {
    expected: known.reduce((snapshot, { section, flanneld: said, sluice }) => replaced(snapshot, section, said, sluice), flanneld),
    stale: stale.map(({ section, flanneld: said, reason }) => `${section}: flanneld does not say ${said} (${reason})`),
  };
}

/** Without what says which of the two made something that the other has taken over. */
export function byEither(snapshot: Snapshot, known: readonly KnownDifference[]): Snapshot {
  const staying = known.filter(({ stays }) => stays);
  return staying.reduce((result, { section, flanneld, sluice }) => replaced(result, section, flanneld, sluice), snapshot);
}

function replaced(snapshot: Snapshot, section: string, what: string, by: string): Snapshot {
  return { ...snapshot, [section]: (snapshot[section] ?? []).map((entry) => entry.replaceAll(what, () => by)) };
}

/** `section: - entry` for what is not there and should be, `section: + entry` for what is there and should not. */
export function differences(expected: Snapshot, actual: Snapshot): readonly string[] {
  const found: string[] = [];
  for (const section of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    const [wanted, is] = [expected[section] ?? [], actual[section] ?? []];
    const missing = wanted.filter((entry) => !is.includes(entry));
    const more = is.filter((entry) => !wanted.includes(entry));
    found.push(...missing.map((entry) => `${section}: - ${entry}`), ...more.map((entry) => `${section}: + ${entry}`));
    if (missing.length + more.length === 0 && wanted.join('\n') !== is.join('\n')) {
      found.push(`${section}: in another order, or another number of times:\n${is.join('\n')}`);
    }
  }
  return found;
}
