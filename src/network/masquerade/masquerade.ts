/**
 * Masquerading and accepting the traffic of pods, in nftables or in iptables, as flanneld does: rules.ts says what the rules are,
 * nftables.ts and iptables.ts write them and keep them. `net.ipv4.ip_forward` is not touched here.
 *
 * To change the mode, start the new one first and remove the other then: at no time does a packet find no rules.
 */
import { KernelError, NftConnection, type Poller } from 'nftables-js';
import { IptablesMasquerade, removeIptablesChains } from './iptables.ts';
import type { Spawn } from './iptables-programs.ts';
import { NftablesMasquerade, removeNftablesTables } from './nftables.ts';
import { explainRefusal } from './refusal.ts';
import type { MasqueradeMode, MasqueradeRules } from './rules.ts';

export type { Spawn } from './iptables-programs.ts';
export type { MasqueradeFamily, MasqueradeMode, MasqueradeRules } from './rules.ts';

export interface MasqueradeOptions extends MasqueradeRules {
  readonly mode: MasqueradeMode;
  readonly poller: Poller;
  /** Of the mode iptables: how often to look at the rules (`--iptables-resync`). In nftables the kernel tells of every change. */
  readonly resyncSeconds: number;
  /** Somebody had changed something, and it is as it should be again. `what` is for the log. */
  readonly onRepair: (what: string) => void;
  /** A repair failed; it is tried again, up to every 30 seconds. */
  readonly onError: (error: unknown) => void;
  /** Of the mode iptables: starts its programs in the network namespace that is meant, where that is not the process's own. */
  readonly spawn?: Spawn | undefined;
}

export class Masquerade {
  readonly #keeper: { close(): void };

  private constructor(keeper: { close(): void }) {
    this.#keeper = keeper;
  }

  /**
   * Writes the rules, where they are not there already, and keeps them until {@link close}. They are in the kernel when the promise
   * resolves. All sockets are opened in the thread's network namespace before this returns; nothing later depends on it.
   *
   * @throws SluiceError `NOT_PERMITTED`, `TABLE_OWNED`; of the mode iptables `IPTABLES_MISSING`, `IPTABLES_FAILED`, `IPTABLES_DIFFER`
   */
  static async start(options: MasqueradeOptions): Promise<Masquerade> {
    return new Masquerade(await (options.mode === 'nftables' ? NftablesMasquerade.start(options) : IptablesMasquerade.start(options)));
  }

  /** Ends watching. The rules stay, and traffic goes on. */
  close(): void {
    this.#keeper.close();
  }
}

/**
 * Removes all that the modes leave in the kernel, whichever program wrote it: of the mode that is not in use any more, or of both to
 * clean up. Nothing is said of what is not there. Sockets are opened before this returns.
 *
 * @returns what was removed, each as a few words
 * @throws SluiceError `NOT_PERMITTED`, `TABLE_OWNED`, `IPTABLES_FAILED`; KernelError EBUSY where somebody else's rules jump to ours
 */
export async function removeMasquerade(
  modes: readonly MasqueradeMode[],
  { spawn }: { readonly spawn?: Spawn | undefined } = {},
): Promise<string[]> {
  const connection = openNftables();
  try {
    return [
      ...(modes.includes('nftables') && connection !== undefined ? removeNftablesTables(connection) : []),
      ...(modes.includes('iptables') ? await removeIptablesChains(connection, spawn) : []),
    ];
  } finally {
    connection?.close();
  }
}

/** Undefined: the kernel has no nftables. */
function openNftables(): NftConnection | undefined {
  let connection: NftConnection | undefined;
  try {
    connection = NftConnection.open();
    connection.generation();
    return connection;
  } catch (error) {
    connection?.close();
    if (error instanceof KernelError && WITHOUT_NFTABLES.has(error.code)) return undefined;
    throw explainRefusal(error);
  }
}

/** What the kernel says of a part of netfilter that it does not have, or of netfilter as a whole. */
const WITHOUT_NFTABLES: ReadonlySet<string> = new Set(['EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT']);
