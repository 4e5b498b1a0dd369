/**
 * One agent a node, and one `sluice network`. Two would undo each other's work, and `sluice cleanup` beside an agent would clean up for
 * nothing.
 *
 * Whoever works on a node holds an empty table that the kernel keeps for its owner (flag `owner`, Linux 5.12) and removes when the
 * owner ends, however it ends. Taking it needs CAP_NET_ADMIN, it belongs to the network namespace as the rules do, and a flush of
 * the ruleset passes it by: nothing of that could be said of a file or a socket. A kernel without the flag has no claims, and
 * everybody gets one.
 */
import { NftConnection, type Operation } from 'nftables-js';
import { SluiceError, systemErrorCode } from '../../errors.ts';
import { FAMILY } from './frame.ts';

/** Who may be there once. */
export interface ClaimedRole {
  /** The name of the table that is held. */
  readonly table: string;
  /** Of the error where another process has it. */
  readonly code: string;
  /** As in "another … is running on this node". */
  readonly what: string;
}

export const AGENT_ROLE: ClaimedRole = { table: 'sluice-agent', code: 'AGENT_RUNNING', what: 'agent' };
export const NETWORK_ROLE: ClaimedRole = { table: 'sluice-network', code: 'NETWORK_RUNNING', what: 'sluice network' };

const TRIES = 10;

export class AgentClaim {
  readonly #connection: NftConnection;

  private constructor(connection: NftConnection) {
    this.#connection = connection;
  }

  /** @throws SluiceError `AGENT_RUNNING`, `NETWORK_RUNNING` where another process holds it @throws KernelError EPERM without CAP_NET_ADMIN */
  static take(role: ClaimedRole = AGENT_ROLE): AgentClaim {
    const connection = NftConnection.open();
    try {
      // As often as agents may come and go meanwhile: a kernel that refuses for another reason is not asked for ever.
      for (let tries = 1; !tryTo(connection, role, tries < TRIES); tries++);
      return new AgentClaim(connection);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  release(): void {
    this.#connection.close();
  }
}

function isUnsupported(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'EOPNOTSUPP' || code === 'EINVAL';
}

/** False: whoever held it has let go between the refusal and the look at who it was. */
function tryTo(connection: NftConnection, role: ClaimedRole, mayTryAgain: boolean): boolean {
  const claim = { family: FAMILY, name: role.table } as const;
  try {
    // Reading needs CAP_NET_ADMIN as writing does: what is refused after it is refused on account of somebody else.
    const known = connection.table(claim);
    // Without an owner it is nobody's claim, and in the way.
    const stray: Operation[] = known === undefined || known.owner !== undefined ? [] : [{ op: 'delete', table: claim }];
    connection.commit([...stray, { op: 'create', table: { ...claim, flags: ['owner'] } }]);
    return true;
  } catch (error) {
    if (isUnsupported(error)) return true;
    const owner = connection.table(claim)?.owner;
    if (owner !== undefined) throw refusal(role, owner, error);
    const code = systemErrorCode(error);
    if (!mayTryAgain || (code !== 'EPERM' && code !== 'EEXIST' && code !== 'ENOENT')) throw error;
    return false;
  }
}

function refusal({ code, what }: ClaimedRole, owner: number, error: unknown): SluiceError {
  return new SluiceError(code, `another ${what} is running on this node (netlink port ${owner})`, {
    hint: `Stop the ${what} first, then try again.`,
    cause: error,
  });
}
