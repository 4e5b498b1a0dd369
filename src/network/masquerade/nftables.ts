/**
 * The rules in nftables: the tables `ip flannel-ipv4` and `ip6 flannel-ipv6`, to the byte as flanneld writes them, so that each
 * program takes over from the other in place. For the same reason they have no owner: anybody may change them, and what somebody
 * changes is put right.
 *
 * A table is written as a whole and in one transaction, and only where something differs: no packet sees a moment without the rules,
 * and a restart leaves all of it alone.
 *
 * An `accept` ends only its own chain. The chain `forward` says that pod traffic is welcome; it cannot keep it from a chain of
 * another table that drops it, such as Docker's `ip filter FORWARD`.
 */
import { type Chain, canonicalRule, Monitor, NftConnection, type Operation, type Poller, type Rule, type Table } from 'nftables-js';
import { accept, ip, ip6, masquerade, meta, type Part, rule, verdict } from 'nftables-js/builder';
import { systemErrorCode } from '../../errors.ts';
import type { Family } from '../../policy/address.ts';
import { PacedCheck } from './paced-check.ts';
import { explainRefusal } from './refusal.ts';
import {
  type AddressMatch,
  forwardRules,
  KUBE_PROXY_MARK,
  type MasqueradeFamily,
  type MasqueradeRules,
  masqueradeRules,
  type TrafficRule,
} from './rules.ts';

export interface NftablesMasqueradeOptions extends MasqueradeRules {
  readonly poller: Poller;
  /** Somebody had changed something, and it is as it should be again. `what` is for the log. */
  readonly onRepair: (what: string) => void;
  /** A repair failed; it is tried again. */
  readonly onError: (error: unknown) => void;
}

/** A table with all that is in it. */
interface TableContent {
  readonly table: Table;
  readonly chains: readonly ChainContent[];
}

interface ChainContent {
  readonly chain: Chain;
  readonly rules: readonly Rule[];
}

const FAMILIES: readonly Family[] = [4, 6];
const NFT_FAMILY = { 4: 'ip', 6: 'ip6' } as const;
const ADDRESSES = { 4: ip, 6: ip6 } as const;
/** `filter` and `srcnat` of nft(8). */
const FILTER_PRIORITY = 0;
const SRCNAT_PRIORITY = 100;
/** Somebody who deletes the table just when it is to be replaced does not do so for ever. */
const TRIES = 10;

function tableName(family: Family): string {
  return `flannel-ipv${family}`;
}

export class NftablesMasquerade {
  readonly #tables: readonly TableContent[];
  readonly #options: NftablesMasqueradeOptions;
  readonly #connection = NftConnection.open();
  readonly #monitor: Monitor;
  readonly #check: PacedCheck;
  /** Whether everything was in the kernel once: what differs then has been changed by somebody. */
  #written = false;

  private constructor(options: NftablesMasqueradeOptions) {
    this.#options = options;
    this.#tables = FAMILIES.map((family) => tableContent(family, options));
    this.#check = new PacedCheck(() => this.#bring(), options.onError);
    let changed = false;
    try {
      this.#monitor = Monitor.open({
        poller: options.poller,
        onEvent: (event) => {
          if (event.event === 'change') {
            changed ||= event.port !== this.#connection.port && this.#isOurs(event.family, event.table);
            return;
          }
          // The end of a commit, or changes that nobody will ever tell of.
          if (changed || event.event === 'overrun') this.#check.due();
          changed = false;
        },
      });
    } catch (error) {
      this.#connection.close();
      throw explainRefusal(error);
    }
  }

  /**
   * Writes the rules, and watches over them until {@link close}. All sockets are opened, and the rules are in the kernel, when this
   * returns its promise.
   *
   * @throws SluiceError `TABLE_OWNED` where the kernel keeps a table for another program; `NOT_PERMITTED` without CAP_NET_ADMIN
   */
  static async start(options: NftablesMasqueradeOptions): Promise<NftablesMasquerade> {
    const keeper = new NftablesMasquerade(options);
    try {
      await keeper.#check.first();
    } catch (error) {
      keeper.close();
      throw error;
    }
    return keeper;
  }

  /** The rules stay. */
  close(): void {
    this.#check.close();
    this.#monitor.close();
    this.#connection.close();
  }

  #isOurs(family: string, table: string): boolean {
    return this.#tables.some((content) => content.table.family === family && content.table.name === table);
  }

  /** Where one table is refused, the other is seen to all the same. */
  #bring(): void {
    const errors: unknown[] = [];
    for (const content of this.#tables) {
      try {
        const what = replaceUnlessSame(this.#connection, content, this.#options.families);
        if (what !== undefined && this.#written) this.#options.onRepair(what);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
    this.#written = true;
  }
}

/** Deletes both tables. @returns what there was to delete */
export function removeNftablesTables(connection: NftConnection): string[] {
  return FAMILIES.flatMap((family) => {
    const table = { family: NFT_FAMILY[family], name: tableName(family) } as const;
    if (connection.table(table) === undefined) return [];
    try {
      connection.commit([{ op: 'delete', table }]);
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return [];
      throw explainRefusal(error, { connection, table });
    }
    return [`table ${table.family} ${table.name}`];
  });
}

/** What was different, and is not any more; undefined: nothing was. */
function replaceUnlessSame(connection: NftConnection, content: TableContent, families: readonly MasqueradeFamily[]): string | undefined {
  const { family, name } = content.table;
  for (let tries = 1; ; tries++) {
    const known = connection.table({ family, name });
    const difference = known === undefined ? 'it was missing' : differenceOf(connection, known, content);
    if (difference === undefined) return undefined;
    try {
      connection.commit([...(known === undefined ? [] : [{ op: 'delete', table: { family, name } } as const]), ...create(content)]);
      return `table ${family} ${name}: ${difference}`;
    } catch (error) {
      const code = systemErrorCode(error);
      // A kernel without IPv6, or without its nftables, needs no empty table for it.
      if ((code === 'EOPNOTSUPP' || code === 'EAFNOSUPPORT') && !families.some((each) => NFT_FAMILY[each.family] === family))
        return undefined;
      if (code !== 'ENOENT' || known === undefined || tries === TRIES) throw explainRefusal(error, { connection, table: content.table });
    }
  }
}

// --- what is wanted

/**
 * flanneld makes both tables, whatever the network has, and leaves the one that is not in use empty. It is of no use, and made all
 * the same: the nodes of a cluster, and one node before and after a change of the program, then have the same tables.
 */
function tableContent(family: Family, { families, masquerade, forward, randomFully }: MasqueradeRules): TableContent {
  const table = { family: NFT_FAMILY[family], name: tableName(family) } as const;
  const used = families.find((each) => each.family === family);
  const chains: ChainContent[] = [];
  const addChain = (chain: Pick<Chain, 'name' | 'base' | 'comment'>, rules: readonly TrafficRule[]): void => {
    chains.push({
      chain: { family: table.family, table: table.name, ...chain },
      rules: rules.map((each) => ({
        family: table.family,
        table: table.name,
        chain: chain.name,
        expressions: rule(table.family, ...render(each, family, randomFully)),
      })),
    });
  };
  if (used !== undefined && masquerade) {
    addChain(
      {
        name: 'postrtg',
        base: { type: 'nat', hook: 'postrouting', priority: SRCNAT_PRIORITY, policy: 'accept' },
        comment: 'chain to manage traffic masquerading by flannel',
      },
      masqueradeRules('nftables', used),
    );
  }
  if (used !== undefined && forward) {
    addChain(
      {
        name: 'forward',
        base: { type: 'filter', hook: 'forward', priority: FILTER_PRIORITY, policy: 'accept' },
        comment: 'chain to accept flannel traffic',
      },
      forwardRules(used),
    );
  }
  return { table: { ...table, flags: [], comment: `rules for ${table.name}` }, chains };
}

function render({ marked, source, destination, action }: TrafficRule, family: Family, randomFully: boolean): Part[] {
  const { saddr, daddr } = ADDRESSES[family];
  const match = (field: typeof saddr, { prefix, not }: AddressMatch): Part => (not ? field.notPrefix(prefix) : field.prefix(prefix));
  return [
    ...(marked === true ? [meta.mark.eq(KUBE_PROXY_MARK)] : []),
    ...(source === undefined ? [] : [match(saddr, source)]),
    ...(destination === undefined ? [] : [match(daddr, destination)]),
    action === 'accept' ? accept : action === 'return' ? verdict({ verdict: 'return' }) : masquerade({ fullyRandom: randomFully }),
  ];
}

function create({ table, chains }: TableContent): Operation[] {
  return [
    { op: 'add', table },
    ...chains.map(({ chain }): Operation => ({ op: 'add', chain })),
    ...chains.flatMap(({ rules }) => rules.map((rule): Operation => ({ op: 'append', rule }))),
  ];
}

// --- what there is

/** The first difference, for the log; undefined: the table is as it should be. Maps and sets of others are a difference too. */
function differenceOf(connection: NftConnection, known: Table, { table, chains }: TableContent): string | undefined {
  const reference = { family: table.family, table: table.name };
  if (known.flags.length > 0) return `it had the flag ${known.flags.join(' and ')}`;
  if (known.comment !== table.comment) return 'its comment was another';
  const knownChains = new Map(connection.chains(reference).map((chain) => [chain.name, chain]));
  const wantedNames = new Set(chains.map(({ chain }) => chain.name));
  for (const name of knownChains.keys()) if (!wantedNames.has(name)) return `it had a chain ${name}`;
  const rules = Map.groupBy(connection.rules(reference), ({ chain }) => chain);
  for (const wanted of chains) {
    const { name } = wanted.chain;
    const chain = knownChains.get(name);
    if (chain === undefined) return `chain ${name} was missing`;
    if (!sameChain(chain, wanted.chain)) return `chain ${name} was defined otherwise`;
    if (textOf(rules.get(name) ?? []) !== textOf(wanted.rules)) return `the rules of chain ${name} were others`;
  }
  return connection.sets(reference).length > 0 ? 'it had sets' : undefined;
}

function sameChain(known: Chain, wanted: Chain): boolean {
  const { base, comment } = known;
  return (
    comment === wanted.comment &&
    base?.type === wanted.base?.type &&
    base?.hook === wanted.base?.hook &&
    base?.priority === wanted.base?.priority &&
    base?.policy === wanted.base?.policy
  );
}

function textOf(rules: readonly Rule[]): string {
  return rules.map(({ expressions, comment }) => JSON.stringify([canonicalRule(expressions), comment])).join('\n');
}
