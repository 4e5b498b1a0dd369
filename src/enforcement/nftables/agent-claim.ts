/**
 * One agent a node. Two would undo each other's work, and `sluice cleanup` beside an agent would clean up for nothing.
 *
 * Whoever works on a node holds an empty table that the kernel keeps for its owner (flag `owner`, Linux 5.12) and removes when the
 * owner ends, however it ends. Taking it needs CAP_NET_ADMIN, it belongs to the network namespace as the rules do, and a flush of
 * the ruleset passes it by: nothing of that could be said of a file or a socket. A kernel without the flag has no claims, and
 * everybody gets one.
 */
import { NftConnection, type Operation } from 'nftables-js';
import { SluiceError, systemErrorCode } from '../../errors.ts';
import { FAMILY } from './frame.ts';

export const CLAIM_TABLE = 'sluice-agent';
const CLAIM = { family: FAMILY, name: CLAIM_TABLE } as const;

export class AgentClaim {
  readonly #connection: NftConnection;

  private constructor(connection: NftConnection) {
    this.#connection = connection;
  }

  /** @throws SluiceError `AGENT_RUNNING` where another process holds it @throws KernelError EPERM without CAP_NET_ADMIN */
  static take(): AgentClaim {
    const connection = NftConnection.open();
    try {
      // Without an owner it is nobody's claim, and in the way.
      const known = connection.table(CLAIM);
      const stray: Operation[] = known === undefined || known.owner !== undefined ? [] : [{ op: 'delete', table: CLAIM }];
      connection.commit([...stray, { op: 'create', table: { ...CLAIM, flags: ['owner'] } }]);
    } catch (error) {
      try {
        if (!isUnsupported(error)) throw explain(error, connection);
      } catch (reason) {
        connection.close();
        throw reason;
      }
    }
    return new AgentClaim(connection);
  }

  release(): void {
    this.#connection.close();
  }
}

function isUnsupported(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'EOPNOTSUPP' || code === 'EINVAL';
}

function explain(error: unknown, connection: NftConnection): unknown {
  const owner = connection.table(CLAIM)?.owner;
  if (owner === undefined) return error;
  return new SluiceError('AGENT_RUNNING', `another agent is running on this node (netlink port ${owner})`, {
    hint: 'Stop the agent first, then try again.',
    cause: error,
  });
}
