/** What to say where the kernel refuses: the commands that change rules, flows and bridges need a capability. */
import { SluiceError, systemErrorCode } from '../errors.ts';

/** In place of the kernel's EPERM, what is missing; any other error as it is. `who` as in "… is not permitted to …". */
export function explainRefusal(error: unknown, who: string): unknown {
  if (error instanceof SluiceError || systemErrorCode(error) !== 'EPERM') return error;
  return new SluiceError('NOT_PERMITTED', `${who} is not permitted to read and change nf_tables`, {
    hint: 'CAP_NET_ADMIN is needed, in the network namespace of the node.',
    cause: error,
  });
}
