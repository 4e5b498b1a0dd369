/** What to say where the kernel refuses to have its rules read or changed. */
import type { NftConnection, Table } from 'nftables-js';
import { SluiceError, systemErrorCode } from '../../errors.ts';

/**
 * In place of the kernel's EPERM an error that says who is in the way, or what is missing; any other error as it is.
 * @param changing the table that was to be changed
 */
export function explainRefusal(
  error: unknown,
  changing?: { readonly connection: NftConnection; readonly table: Pick<Table, 'family' | 'name'> },
): unknown {
  if (systemErrorCode(error) !== 'EPERM') return error;
  const owner = changing?.connection.table(changing.table)?.owner;
  if (changing !== undefined && owner !== undefined) {
    const { family, name } = changing.table;
    return new SluiceError('TABLE_OWNED', `table ${family} ${name} belongs to another program (netlink port ${owner})`, {
      hint: 'Another network daemon is running on this node; one of them has to go.',
      cause: error,
    });
  }
  return new SluiceError('NOT_PERMITTED', 'reading and writing the masquerade rules is not permitted', {
    hint: 'CAP_NET_ADMIN is needed, in the network namespace of the node.',
    cause: error,
  });
}
