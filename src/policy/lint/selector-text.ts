/** Selectors in sentences. */
import type { Selector } from '../selector.ts';

/** As `kubectl get -l` would take it; of the empty one, which matches everything, what it is. */
export function formatSelector({ text }: Selector): string {
  return text === '' ? '{} (everything)' : text;
}
