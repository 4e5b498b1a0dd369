/** An inverted index: who is found under a key. Keys without entries are dropped. */
import { Bag } from './bag.ts';

export type Postings<T extends object, K = string> = Map<K, Bag<T>>;

export function post<T extends object, K>(index: Postings<T, K>, key: K, entry: T): void {
  let entries = index.get(key);
  if (entries === undefined) {
    entries = new Bag();
    index.set(key, entries);
  }
  entries.add(entry);
}

export function unpost<T extends object, K>(index: Postings<T, K>, key: K, entry: T): void {
  const entries = index.get(key);
  if (entries?.delete(entry) === true && entries.size === 0) index.delete(key);
}
