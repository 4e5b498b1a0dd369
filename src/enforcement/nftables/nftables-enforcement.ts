/**
 * Enforcement by nf_tables: the table `inet sluice`, patched or replaced in one transaction at a time.
 *
 * Rule handles are not remembered: where a chain has to be changed its rules are read first, which costs what the chain holds and
 * is always the truth. Elements need no handles. So there is nothing here that can be out of date except what {@link Enforcement}
 * says: after a failure or a change by somebody else the next commit is a comparison of everything.
 */
import { type KernelError, Monitor, NftConnection, type Operation, type Poller } from 'nftables-js';
import type { Direction } from '../../policy/objects.ts';
import { SluiceError } from '../../errors.ts';
import type { ObjectName, Ruleset, RulesetChanges, VerdictMap } from '../../ruleset/objects.ts';
import type { CommitReport, Enforcement } from '../enforcement.ts';
import { TimeSlices } from '../../time-slices.ts';
import { desiredTable, tableSet, verdictsOf } from './desired-table.ts';
import { DIRECTIONS, FAMILIES, FAMILY, TABLE, type TableOptions, verdictMapName } from './frame.ts';
import { Generations } from './generations.ts';
import { otherEngines } from './other-engines.ts';
import { renderChain, renderElements, renderVerdicts } from './render.ts';
import { canonicalOf, type DesiredTableChain, differences, replacement, ruleDifferences } from './table-content.ts';

/** Above this a commit is sent from another thread, so that it does not hold up the event loop. */
const LARGE_COMMIT_OPERATIONS = 2_000;
const LARGE_COMMIT_ELEMENTS = 10_000;

export interface NftablesOptions {
  /** `owned`: the kernel keeps everybody else from changing the table (Linux 6.9); `auto`: where it can. */
  readonly ownership: 'auto' | 'owned' | 'shared';
  /** NFLOG group that refused packets are sent to. */
  readonly logGroup: number | undefined;
  /** Bit of the ct mark by which flows are cut that have no room for a label. */
  readonly cutMark: number;
  readonly poller: Poller;
  /** Somebody else changed the table, or may have. `what` is for the log. */
  readonly onDrift: (what: string) => void;
  /** Replaces the look at what the kernel can do, for tests. */
  readonly canOwn?: (connection: NftConnection) => boolean;
}

/** What one rule has counted since it was made. */
export interface RuleCount {
  readonly chain: ObjectName;
  /** Of a policy's rule: where it stands in the policy, `ingress[0].from[1]`. */
  readonly place: string | undefined;
  readonly packets: number;
  /** What became of them: of a pod's chain `accept` where the pod is audited. */
  readonly verdict: 'accept' | 'drop';
}

export class NftablesEnforcement implements Enforcement {
  /** What became of `auto`. */
  readonly ownership: 'owned' | 'shared';
  readonly #connection: NftConnection;
  #patchRefused = false;
  readonly #monitor: Monitor;
  readonly #generations: Generations;
  readonly #table: TableOptions;

  private constructor(connection: NftConnection, monitor: Monitor, generations: Generations, table: TableOptions) {
    this.#connection = connection;
    this.#monitor = monitor;
    this.#generations = generations;
    this.#table = table;
    this.ownership = table.owned ? 'owned' : 'shared';
  }

  /** Opens the nf_tables of this thread's network namespace. Nothing is changed yet. */
  static open(options: NftablesOptions): NftablesEnforcement {
    const connection = NftConnection.open();
    const owned = options.ownership !== 'shared' && (options.canOwn ?? canOwnTables)(connection);
    if (options.ownership === 'owned' && !owned) {
      connection.close();
      throw new SluiceError('OWNERSHIP_UNSUPPORTED', 'this kernel cannot keep a table for its owner (flags owner and persist, Linux 6.9)', {
        hint: 'Use --ownership auto: changes by others are then noticed and repaired.',
        exitStatus: 2,
      });
    }
    const generations = new Generations(connection, () => options.onDrift('changes were lost: the monitor ran over'));
    // A commit is told of object by object, and closed by its generation: one call a commit.
    let changed: string | undefined;
    const monitor = Monitor.open({
      poller: options.poller,
      onEvent: (event) => {
        if (event.event === 'overrun') {
          changed = undefined;
          generations.lost();
        } else if (event.event === 'generation') {
          if (changed !== undefined) options.onDrift(changed);
          changed = undefined;
          generations.heard(event.id);
        } else if (event.family === FAMILY && event.table === TABLE && event.port !== connection.port) {
          changed ??= `${event.action} ${event.object}`;
        }
      },
    });
    return new NftablesEnforcement(connection, monitor, generations, { owned, logGroup: options.logGroup, cutMark: options.cutMark });
  }

  async synchronize(ruleset: Ruleset): Promise<CommitReport> {
    const started = performance.now();
    const desired = desiredTable(ruleset, this.#table);
    // Where the kernel has refused a patch, its table is not what it seems to be: it is made anew. Where it refuses that as well, what is
    // desired may be at fault, and a patch is tried again.
    const isReplaced = this.#patchRefused;
    this.#patchRefused = false;
    const operations = isReplaced ? replacement(desired, this.#connection) : await differences(desired, this.#connection);
    try {
      // May be of any size: what is made anew is not counted before it is sent.
      if (operations.length > 0) await this.#commitLarge(operations);
    } catch (error) {
      this.#patchRefused = !isReplaced && !(error instanceof SluiceError);
      throw error;
    }
    return { operations: countOf(operations), durationMs: performance.now() - started };
  }

  commit(changes: RulesetChanges): CommitReport | Promise<CommitReport> {
    const started = performance.now();
    const operations = this.#patch(changes);
    const report = (): CommitReport => ({ operations: countOf(operations), durationMs: performance.now() - started });
    const pending = this.#commit(operations);
    return pending === undefined ? report() : pending.then(report);
  }

  /**
   * What the rules of these chains have counted: of a pod's chain the packets that it refused (or would have, where it is audited), of a
   * policy's the connections that each rule admitted (their first packets). Reads one chain after the other, and lets others have their turn;
   * nothing of a chain that is not there.
   */
  async *counts(chains: Iterable<ObjectName>): AsyncGenerator<RuleCount> {
    const slices = new TimeSlices();
    for (const name of chains) {
      await slices.pause();
      for (const { chain, expressions, comment } of this.#connection.rules({ family: FAMILY, table: TABLE, chain: name })) {
        const counter = expressions.find((expression) => expression.expr === 'counter');
        const drops = expressions.some((expression) => expression.expr === 'verdict' && expression.verdict === 'drop');
        if (counter !== undefined) yield { chain, place: comment, packets: Number(counter.packets), verdict: drops ? 'drop' : 'accept' };
      }
    }
  }

  /** Policy engines that have left their chains here, by name. */
  otherEngines(): readonly string[] {
    return otherEngines(this.#connection);
  }

  close(): void {
    this.#monitor.close();
    this.#connection.close();
  }

  /** Undefined: it is done. */
  #commit(operations: readonly Operation[]): Promise<void> | undefined {
    if (operations.length >= LARGE_COMMIT_OPERATIONS || countOf(operations) >= LARGE_COMMIT_ELEMENTS) return this.#commitLarge(operations);
    try {
      this.#connection.commit(operations);
      return undefined;
    } catch (error) {
      throw this.#explain(error);
    }
  }

  async #commitLarge(operations: readonly Operation[]): Promise<void> {
    try {
      await this.#generations.during(() => this.#connection.commitAsync(operations));
    } catch (error) {
      throw this.#explain(error);
    }
  }

  #explain(error: unknown): unknown {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'EPERM') return error;
    const owner = this.#connection.table({ family: FAMILY, name: TABLE })?.owner;
    if (owner !== undefined && owner !== this.#connection.port) {
      return new SluiceError('TABLE_OWNED', `table ${FAMILY} ${TABLE} belongs to another program (netlink port ${owner})`, {
        hint: 'Another agent is running on this node; one of them has to go.',
        cause: error,
      });
    }
    return new SluiceError('NOT_PERMITTED', `changing table ${FAMILY} ${TABLE} is not permitted`, {
      hint: 'CAP_NET_ADMIN is needed.',
      cause: error,
    });
  }

  // --- by differences

  #patch(changes: RulesetChanges): Operation[] {
    const reference = { family: FAMILY, table: TABLE } as const;
    const operations: Operation[] = [];
    for (const set of changes.addedSets) {
      const added = tableSet(set);
      const { definition } = added;
      operations.push({ op: 'add', set: definition });
      operations.push({ op: 'add', elements: { ...reference, set: definition.name, elements: [...added.elements()] } });
    }
    for (const [name, { add, remove }] of changes.elements) {
      if (remove.length > 0)
        operations.push({ op: 'delete', elements: { ...reference, set: name, elements: [...renderElements(remove)] } });
      if (add.length > 0) operations.push({ op: 'add', elements: { ...reference, set: name, elements: [...renderElements(add)] } });
    }
    const added = changes.addedChains.map((chain) => renderChain(chain, this.#table));
    for (const { chain } of added) operations.push({ op: 'add', chain });
    for (const chain of added) for (const operation of ruleDifferences(chain, [])) operations.push(operation);
    for (const chain of changes.changedChains) {
      for (const operation of this.#patchChain(renderChain(chain, this.#table))) operations.push(operation);
    }
    for (const direction of DIRECTIONS) {
      const { set, remove } = changes.verdicts[direction];
      for (const operation of verdictOperations('delete', direction, remove)) operations.push(operation);
      for (const operation of verdictOperations('add', direction, set)) operations.push(operation);
    }
    for (const { name } of changes.removedChains) operations.push({ op: 'flush', rules: { ...reference, chain: name } });
    for (const { name } of changes.removedChains) operations.push({ op: 'delete', chain: { ...reference, name } });
    for (const { name } of changes.removedSets) operations.push({ op: 'delete', set: { ...reference, name } });
    return operations;
  }

  #patchChain(chain: DesiredTableChain): Operation[] {
    const rules = this.#connection.rules({ family: FAMILY, table: TABLE, chain: chain.chain.name });
    return ruleDifferences(
      chain,
      rules.map((rule) => ({ canonical: canonicalOf(rule), handle: rule.handle ?? 0n })),
    );
  }
}

function verdictOperations(op: 'add' | 'delete', direction: Direction, verdicts: VerdictMap): Operation[] {
  return FAMILIES.flatMap((family): Operation[] => {
    const elements = [...renderVerdicts(verdictsOf(verdicts, family))];
    return elements.length === 0
      ? []
      : [{ op, elements: { family: FAMILY, table: TABLE, set: verdictMapName(direction, family), elements } }];
  });
}

/** Elements count one each, as far as they are held: a set that is made anew by a comparison counts one. */
function countOf(operations: readonly Operation[]): number {
  let count = 0;
  for (const operation of operations) {
    if ('elements' in operation && 'elements' in operation.elements && Array.isArray(operation.elements.elements))
      count += operation.elements.elements.length;
    else count++;
  }
  return count;
}

/** Whether the kernel knows both flags: a table with them is made and deleted in one transaction, so nobody ever sees it. */
export function canOwnTables(connection: NftConnection): boolean {
  const probe = { family: FAMILY, name: `sluice-probe-${process.pid}` } as const;
  try {
    connection.commit([
      { op: 'create', table: { ...probe, flags: ['owner', 'persist'] } },
      { op: 'delete', table: probe },
    ]);
    return true;
  } catch (error) {
    const { code } = error as KernelError;
    if (code === 'EOPNOTSUPP' || code === 'EINVAL') return false;
    throw error;
  }
}
