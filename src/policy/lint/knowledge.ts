/** What can be known where not the whole cluster is at hand. */
import type { Selector } from '../selector.ts';
import { NAMESPACE_NAME_LABEL } from '../world.ts';

/** Whether a selector of namespaces names them, so that none that is not known can match. */
export function isClosedSelector({ requirements }: Selector): boolean {
  return requirements.some(({ key, operator }) => key === NAMESPACE_NAME_LABEL && operator === 'In');
}
