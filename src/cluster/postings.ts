/** An inverted index: who is found under a key. Keys without entries are dropped. */
export type Postings<T> = Map<string, Set<T>>;

export function post<T>(index: Postings<T>, key: string, entry: T): void {
  const entries = index.get(key);
  if (entries === undefined) index.set(key, new Set([entry]));
  else entries.add(entry);
}

export function unpost<T>(index: Postings<T>, key: string, entry: T): void {
  const entries = index.get(key);
  if (entries?.delete(entry) === true && entries.size === 0) index.delete(key);
}
