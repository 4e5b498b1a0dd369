/**
 * The rules in iptables: the chains `nat FLANNEL-POSTRTG` and `filter FLANNEL-FWD`, with jumps to them at the end of POSTROUTING and
 * FORWARD, as flanneld writes them. Here an ACCEPT in FLANNEL-FWD does override a policy of FORWARD that drops, such as Docker's.
 *
 * Each family is written by one `iptables-restore`, a table all at once, and only where something differs. The programs are asked
 * every few seconds. Where they keep their rules in nftables, the kernel tells at once of changes, and a look at the rules there
 * tells whether they were to ours; then the programs are asked only if they were. kube-proxy commits often.
 */
import { canonicalRule, KernelError, Monitor, NftConnection, type Operation, type Poller } from 'nftables-js';
import { SluiceError } from '../../errors.ts';
import type { Family } from '../../policy/address.ts';
import { Iptables, type Spawn, spawnHere } from './iptables-programs.ts';
import { FLANNEL_CHAINS, iptablesChange, type WantedIptablesChain, wantedIptablesChains } from './iptables-text.ts';
import { PacedCheck } from './paced-check.ts';
import type { MasqueradeRules } from './rules.ts';

export interface IptablesMasqueradeOptions extends MasqueradeRules {
  readonly poller: Poller;
  /** How often to look at the rules. */
  readonly resyncSeconds: number;
  /** Somebody had changed something, and it is as it should be again. `what` is for the log. */
  readonly onRepair: (what: string) => void;
  /** A repair failed; it is tried again. */
  readonly onError: (error: unknown) => void;
  /** Where the programs run that write the rules; the network namespace of this process unless told. */
  readonly spawn?: Spawn | undefined;
}

/** One family, once its programs are found. */
interface Keeping {
  readonly family: Family;
  readonly programs: Iptables;
  readonly wanted: readonly WantedIptablesChain[];
  /** What nftables had of our chains when they were last seen to be right; undefined where that says nothing. */
  seen: string | undefined;
}

const FAMILIES: readonly Family[] = [4, 6];
const NFT_FAMILY = { 4: 'ip', 6: 'ip6' } as const;
/** Somebody may change the rules between the look at them and the change. */
const TRIES = 3;
/** Node takes anything longer for one millisecond. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export class IptablesMasquerade {
  readonly #options: IptablesMasqueradeOptions;
  readonly #nftables: NftablesView | undefined;
  readonly #check: PacedCheck;
  #keeping: readonly Keeping[] = [];
  #resync: NodeJS.Timeout | undefined;
  #closed = false;
  /** Whether everything was in the kernel once: what differs then has been changed by somebody. */
  #written = false;

  private constructor(options: IptablesMasqueradeOptions) {
    this.#options = options;
    this.#check = new PacedCheck(() => this.#bring(), options.onError);
    this.#nftables = NftablesView.open(options.poller, () => {
      // The first check has its own time, and sees what changes before it.
      if (this.#keeping.length > 0) this.#check.due();
    });
  }

  /**
   * Writes the rules, and watches over them until {@link close}; the rules are in the kernel when the promise resolves. Sockets are
   * opened before this returns.
   *
   * @throws SluiceError `IPTABLES_MISSING`; `IPTABLES_FAILED` with what a program says
   */
  static async start(options: IptablesMasqueradeOptions): Promise<IptablesMasquerade> {
    const keeper = new IptablesMasquerade(options);
    try {
      keeper.#keeping = await findPrograms(options);
      await keeper.#check.first();
    } catch (error) {
      keeper.close();
      throw error;
    }
    if (keeper.#keeping.every(({ programs }) => programs.abilities.variant === 'legacy')) keeper.#nftables?.close();
    keeper.#resync = setInterval(() => keeper.#check.due(), Math.min(options.resyncSeconds * 1_000, TIMER_MAX_MS)).unref();
    return keeper;
  }

  /** The rules stay. A program that is running ends by itself. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#resync);
    this.#check.close();
    this.#nftables?.close();
  }

  /** Where one family is refused, the other is seen to all the same. */
  async #bring(): Promise<void> {
    const errors: unknown[] = [];
    for (const each of this.#keeping) {
      try {
        const repaired = await this.#bringFamily(each);
        if (this.#written && !this.#closed) for (const what of repaired) this.#options.onRepair(`${each.programs.program} ${what}`);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
    this.#written = true;
  }

  async #bringFamily(keeping: Keeping): Promise<readonly string[]> {
    const { family, programs, wanted } = keeping;
    const repaired: string[] = [];
    for (let tries = 1; !this.#closed; tries++) {
      // Before the programs look: what changes meanwhile is then seen next time.
      const seen = programs.abilities.variant === 'nftables' ? this.#nftables?.fingerprint(family) : undefined;
      if (seen !== undefined && seen === keeping.seen) break;
      const change = iptablesChange(wanted, await programs.save());
      if (change === undefined) {
        keeping.seen = seen;
        break;
      }
      if (tries > TRIES) {
        throw new SluiceError(
          'IPTABLES_DIFFER',
          `${programs.program}: rules are not as they were written, ${TRIES} times: ${change.what.join('; ')}`,
          {
            hint: `Somebody else may be changing them all the time. Compare ${programs.program}-save with what another node has.`,
          },
        );
      }
      if (this.#closed) break;
      try {
        await programs.restore(change.input);
      } catch (error) {
        // A rule to delete was gone already, or a program of another version was quicker.
        if (tries === TRIES || (error instanceof SluiceError && error.code === 'IPTABLES_MISSING')) throw error;
        continue;
      }
      for (const each of change.what) repaired.push(each);
    }
    return repaired;
  }
}

async function findPrograms({ families, spawn = spawnHere, ...rules }: IptablesMasqueradeOptions): Promise<readonly Keeping[]> {
  return await Promise.all(
    families.map(async (network): Promise<Keeping> => {
      const programs = await Iptables.find(network.family, spawn);
      const randomFully = rules.randomFully && programs.abilities.randomFully;
      return { family: network.family, programs, wanted: wantedIptablesChains(network, { ...rules, randomFully }), seen: undefined };
    }),
  );
}

/**
 * Removes the chains and the jumps to them. flanneld looks for FLANNEL-FWD in the table nat and does not delete jumps, so what it
 * wrote stays where it changes to nftables; here both go, jumps first. No program is needed for what is in nftables. Rules of the
 * older form are only found where its programs are installed.
 *
 * @param connection undefined where the kernel has no nftables
 * @returns what there was to remove
 */
export async function removeIptablesChains(connection: NftConnection | undefined, spawn: Spawn = spawnHere): Promise<string[]> {
  // Before the first wait, like everything that needs the thread to be in the network namespace that is meant.
  const removed = connection === undefined ? [] : FAMILIES.flatMap((family) => removeFromNftables(connection, family));
  const wanted = FLANNEL_CHAINS.map((chain) => ({ ...chain, rules: undefined }));
  for (const family of FAMILIES) {
    const programs = await Iptables.findLegacy(family, spawn);
    const change = programs === undefined ? undefined : iptablesChange(wanted, await programs.save());
    if (programs === undefined || change === undefined) continue;
    await programs.restore(change.input);
    for (const chain of change.chains) removed.push(`${programs.program} ${chain}`);
  }
  return removed;
}

/** In one transaction. Rules of others that jump to our chains from chains of their own are left, and keep ours from going. */
function removeFromNftables(connection: NftConnection, family: Family): string[] {
  const operations: Operation[] = [];
  const removed: string[] = [];
  for (const { table, chain, base } of FLANNEL_CHAINS) {
    const reference = { family: NFT_FAMILY[family], table };
    if (connection.chain({ ...reference, name: chain }) === undefined) continue;
    for (const { expressions, handle } of connection.rules({ ...reference, chain: base })) {
      if (handle !== undefined && jumpsTo(expressions, chain))
        operations.push({ op: 'delete', rule: { ...reference, chain: base, handle } });
    }
    operations.push({ op: 'flush', rules: { ...reference, chain } }, { op: 'delete', chain: { ...reference, name: chain } });
    removed.push(`${family === 4 ? 'iptables' : 'ip6tables'} ${table} ${chain}`);
  }
  connection.commit(operations);
  return removed;
}

function jumpsTo(expressions: Parameters<typeof canonicalRule>[0], chain: string): boolean {
  return expressions.some((each) => each.expr === 'verdict' && each.verdict === 'jump' && each.chain === chain);
}

/** What the newer form of iptables has made in nftables, and word of its changes. */
class NftablesView {
  readonly #connection: NftConnection;
  readonly #monitor: Monitor;
  #closed = false;

  private constructor(connection: NftConnection, poller: Poller, onChange: () => void) {
    this.#connection = connection;
    let changed = false;
    this.#monitor = Monitor.open({
      poller,
      onEvent: (event) => {
        if (event.event === 'change') {
          changed ||= FLANNEL_CHAINS.some(({ table }) => table === event.table) && (event.family === 'ip' || event.family === 'ip6');
          return;
        }
        if (changed || event.event === 'overrun') onChange();
        changed = false;
      },
    });
  }

  /** Undefined: there is no nftables here, or no leave to look. Then the programs have to tell. */
  static open(poller: Poller, onChange: () => void): NftablesView | undefined {
    let connection: NftConnection | undefined;
    try {
      connection = NftConnection.open();
      return new NftablesView(connection, poller, onChange);
    } catch (error) {
      connection?.close();
      if (error instanceof KernelError) return undefined;
      throw error;
    }
  }

  /** All that concerns us, handles included: whoever writes a rule anew, even the same, changes it. */
  fingerprint(family: Family): string | undefined {
    if (this.#closed) return undefined;
    const lines = FLANNEL_CHAINS.flatMap(({ table, chain, base }) => {
      const reference = { family: NFT_FAMILY[family], table };
      const ours = this.#connection.rules({ ...reference, chain });
      const jumps = this.#connection.rules({ ...reference, chain: base }).filter(({ expressions }) => jumpsTo(expressions, chain));
      return [...jumps, ...ours].map((rule) => `${table} ${rule.chain} ${rule.handle} ${canonicalRule(rule.expressions)}`);
    });
    return lines.join('\n');
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#monitor.close();
    this.#connection.close();
  }
}
