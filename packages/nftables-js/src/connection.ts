/**
 * A connection to nf_tables of one network namespace: commits transactions, and lists what is there.
 *
 * Everything is synchronous but {@link NftConnection.commitAsync}: the kernel answers within the system call that asks. There are
 * two sockets, so that listing goes on while a commit is under way; all commits go through one of them, because the kernel knows
 * the owner of a table by its socket.
 *
 * Lists are empty where there is nothing, also where the table, chain or set that they are asked of does not exist. The functions for
 * one object return undefined where it does not exist.
 */
import { type MessageWriter, readAttributes, required } from './netlink/attributes.ts';
import { KernelError, MalformedError, NetlinkError } from './netlink/errors.ts';
import { NETLINK_NETFILTER, NetlinkSocket, NLM_F_DUMP } from './netlink/socket.ts';
import { readChain, writeChainName } from './nftables/chain.ts';
import { readCounter, writeCounterName } from './nftables/counter.ts';
import { copyKeys, readElements, repeatsElements, writeElementsReference } from './nftables/element.ts';
import { attributesOf, isMessage, messageType, NFT_MSG, writeHeader } from './nftables/message.ts';
import { readRule, writeRuleReference } from './nftables/rule.ts';
import { readSet, writeSetName } from './nftables/set.ts';
import { readTable, writeTableName } from './nftables/table.ts';
import { type Batch, describeBatch, encodeBatch, encodeBatchInSlices, readAnswers, type TransactionOptions } from './transaction.ts';
import type { Chain, Element, Family, NamedCounter, Operation, Rule, SetDefinition, Table } from './types.ts';

const NFTA_GEN_ID = 1;
const ENOENT = 2;
/** The kernel resizes a set of 100,000 elements within one or two listings. */
const LISTING_ATTEMPTS = 50;

export interface TableReference {
  readonly family: Family;
  readonly table: string;
}

export interface ObjectReference extends TableReference {
  readonly name: string;
}

export interface SetReference extends TableReference {
  readonly set: string;
}

/** What a listing asks for. */
interface Query {
  readonly get: number;
  /** The type of the messages that answer. */
  readonly answer: number;
  readonly family?: Family | undefined;
  readonly write?: (writer: MessageWriter) => void;
  readonly doing: string;
}

export class NftConnection {
  /** Of the socket that commits: the owner of tables with the flag `owner`, and what the monitor tells our own changes by. */
  readonly port: number;
  readonly #commits: NetlinkSocket;
  readonly #reads: NetlinkSocket;
  /** Settles, without failing, when the last asynchronous commit is over; undefined while there is none. */
  #pending: Promise<void> | undefined;
  #closed = false;

  private constructor(commits: NetlinkSocket, reads: NetlinkSocket) {
    this.#commits = commits;
    this.#reads = reads;
    this.port = commits.port;
  }

  /** Connects to the network namespace that this thread is in. @throws KernelError where the kernel has no nf_tables */
  static open(): NftConnection {
    const commits = NetlinkSocket.open(NETLINK_NETFILTER);
    try {
      return new NftConnection(commits, NetlinkSocket.open(NETLINK_NETFILTER));
    } catch (error) {
      commits.close();
      throw error;
    }
  }

  /** Closes it, after an asynchronous commit that is under way. Tables that it owns go, unless they have the flag `persist`. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reads.close();
    // Not before: the thread that writes would write to whatever gets the descriptor next.
    if (this.#pending === undefined) this.#commits.close();
    else void this.#pending.then(() => this.#commits.close());
  }

  /**
   * Does all of it or nothing. Nothing happens where there are no operations.
   *
   * @throws TransactionError where the kernel refuses; names the first operation at fault
   * @throws KernelError EMSGSIZE where it is more than one datagram may hold: net.core.wmem_max without CAP_NET_ADMIN in the first user namespace
   * @throws NetlinkError ERR_INVALID where an operation cannot be told to the kernel, ERR_BUSY while an asynchronous commit is under way
   */
  commit(operations: Iterable<Operation>, options?: TransactionOptions): void {
    if (this.#pending !== undefined)
      throw new NetlinkError(
        'ERR_BUSY',
        'a commit while an asynchronous commit is under way; wait for it, or use commitAsync, which queues',
      );
    const batch = this.#encode(operations, options);
    if (batch === undefined) return;
    this.#commits.send(batch.bytes, describeBatch(batch));
    readAnswers(this.#commits, batch);
  }

  /**
   * Like {@link commit}, without holding up the event loop while it is encoded or the kernel works: for thousands of elements and more.
   * The operations must not change until it resolves; commits are done in the order of the calls.
   */
  async commitAsync(operations: Iterable<Operation>, options?: TransactionOptions): Promise<void> {
    this.#checkOpen();
    const before = this.#pending;
    const commit = this.#send(operations, options, before);
    const over = commit.then(noop, noop);
    this.#pending = over;
    try {
      await commit;
    } finally {
      if (this.#pending === over) this.#pending = undefined;
    }
  }

  async #send(operations: Iterable<Operation>, options: TransactionOptions | undefined, before: Promise<void> | undefined): Promise<void> {
    await before;
    const batch = await encodeBatchInSlices(operations, () => this.#commits.nextSequence(), options);
    if (batch === undefined) return;
    await this.#commits.sendAsync(batch.bytes, describeBatch(batch));
    readAnswers(this.#commits, batch);
  }

  #encode(operations: Iterable<Operation>, options?: TransactionOptions): Batch | undefined {
    this.#checkOpen();
    return encodeBatch(operations, () => this.#commits.nextSequence(), options);
  }

  #checkOpen(): void {
    if (this.#closed) throw new NetlinkError('ERR_CLOSED', 'a commit on a closed connection');
  }

  /** The number of the ruleset's generation; every transaction by anyone makes another. */
  generation(): number {
    const doing = 'reading the generation of the ruleset';
    const answer = this.#one({ get: NFT_MSG.GETGEN, answer: NFT_MSG.NEWGEN, doing });
    if (answer === undefined) throw new NetlinkError('ERR_NO_ANSWER', `${doing}: the kernel gave no answer`);
    return required(readAttributes(attributesOf(answer)), NFTA_GEN_ID, 'the number of a generation').be32();
  }

  /** All tables, those of a family, or those of a name. */
  tables({ family, name }: { readonly family?: Family; readonly name?: string } = {}): Table[] {
    if (family !== undefined && name !== undefined) {
      const table = this.table({ family, name });
      return table === undefined ? [] : [table];
    }
    const tables = this.#dump({ get: NFT_MSG.GETTABLE, answer: NFT_MSG.NEWTABLE, family, doing: 'listing tables' }).map(readTable);
    return name === undefined ? tables : tables.filter((table) => table.name === name);
  }

  table({ family, name }: { readonly family: Family; readonly name: string }): Table | undefined {
    const write = (writer: MessageWriter): void => writeTableName(writer, name);
    return this.#read(readTable, {
      get: NFT_MSG.GETTABLE,
      answer: NFT_MSG.NEWTABLE,
      family,
      write,
      doing: `reading table ${family} ${name}`,
    });
  }

  /** The chains of a table. The kernel lists those of all tables of the family. */
  chains({ family, table }: TableReference): Chain[] {
    const doing = `listing chains ${family} ${table}`;
    return this.#dump({ get: NFT_MSG.GETCHAIN, answer: NFT_MSG.NEWCHAIN, family, doing })
      .map(readChain)
      .filter((chain) => chain.table === table);
  }

  chain({ family, table, name }: ObjectReference): Chain | undefined {
    const write = (writer: MessageWriter): void => writeChainName(writer, table, name);
    const doing = `reading chain ${family} ${table} ${name}`;
    return this.#read(readChain, { get: NFT_MSG.GETCHAIN, answer: NFT_MSG.NEWCHAIN, family, write, doing });
  }

  /** The rules of a table or of one chain, in their order. Of one chain it costs nothing how many others there are. */
  rules({ family, table, chain }: TableReference & { readonly chain?: string }): Rule[] {
    const write = (writer: MessageWriter): void => writeRuleReference(writer, table, chain);
    const doing = `listing rules ${family} ${table} ${chain ?? ''}`.trimEnd();
    return this.#dump({ get: NFT_MSG.GETRULE, answer: NFT_MSG.NEWRULE, family, write, doing }).map(readRule);
  }

  /** The sets and maps of a table, without their elements. */
  sets({ family, table }: TableReference): SetDefinition[] {
    const write = (writer: MessageWriter): void => writeSetName(writer, table);
    const doing = `listing sets ${family} ${table}`;
    return this.#dump({ get: NFT_MSG.GETSET, answer: NFT_MSG.NEWSET, family, write, doing }).map(readSet);
  }

  set({ family, table, name }: ObjectReference): SetDefinition | undefined {
    const write = (writer: MessageWriter): void => writeSetName(writer, table, name);
    const doing = `reading set ${family} ${table} ${name}`;
    return this.#read(readSet, { get: NFT_MSG.GETSET, answer: NFT_MSG.NEWSET, family, write, doing });
  }

  /** The elements of a set, in no particular order. */
  elements(reference: SetReference): Element[] {
    return [...this.eachElement(reference)];
  }

  /** The elements of a set one by one, decoded when they are asked for. What it yields is as of the call. */
  eachElement(reference: SetReference): IterableIterator<Element> {
    return readAll(this.#elementMessages(reference));
  }

  /**
   * The keys alone, one behind the other in one array: for sets of 100,000 elements without data.
   * @throws MalformedError where the keys of the set are not `keyBytes` long
   */
  elementKeys(reference: SetReference, keyBytes: number): Uint8Array {
    const messages = this.#elementMessages(reference);
    const keys = new Uint8Array(messages.reduce((sum, payload) => sum + payload.length, 0));
    let end = 0;
    for (const payload of messages) end = copyKeys(payload, keyBytes, keys, end);
    return keys.subarray(0, end);
  }

  #elementMessages({ family, table, set }: SetReference): Uint8Array[] {
    const write = (writer: MessageWriter): void => writeElementsReference(writer, table, set);
    const doing = `listing elements ${family} ${table} ${set}`;
    for (let attempt = 1; attempt <= LISTING_ATTEMPTS; attempt++) {
      const messages = this.#dump({ get: NFT_MSG.GETSETELEM, answer: NFT_MSG.NEWSETELEM, family, write, doing });
      if (!repeatsElements(messages)) return messages;
    }
    throw new NetlinkError('ERR_INTERRUPTED', `${doing}: the set was being resized ${LISTING_ATTEMPTS} times; try again later`);
  }

  /** The named counters of a table, with their counts. */
  counters({ family, table }: TableReference): NamedCounter[] {
    const write = (writer: MessageWriter): void => writeCounterName(writer, table);
    const doing = `listing counters ${family} ${table}`;
    return this.#dump({ get: NFT_MSG.GETOBJ, answer: NFT_MSG.NEWOBJ, family, write, doing }).map(readCounter);
  }

  counter({ family, table, name }: ObjectReference): NamedCounter | undefined {
    const write = (writer: MessageWriter): void => writeCounterName(writer, table, name);
    const doing = `reading counter ${family} ${table} ${name}`;
    return this.#read(readCounter, { get: NFT_MSG.GETOBJ, answer: NFT_MSG.NEWOBJ, family, write, doing });
  }

  #read<T>(read: (payload: Uint8Array) => T, query: Query): T | undefined {
    const payload = this.#one(query);
    return payload === undefined ? undefined : read(payload);
  }

  /** The payload of the one message that answers; undefined on ENOENT. */
  #one(query: Query): Uint8Array | undefined {
    return this.#request(query, 0)[0];
  }

  /** The payloads of a dump that nothing changed underneath; none on ENOENT. */
  #dump(query: Query): Uint8Array[] {
    return this.#request(query, NLM_F_DUMP);
  }

  #request({ get, answer, family, write, doing }: Query, flags: number): Uint8Array[] {
    const payloads: Uint8Array[] = [];
    try {
      this.#reads.request(
        messageType(get),
        flags,
        (writer) => {
          writeHeader(writer, family);
          write?.(writer);
        },
        (message) => {
          if (!isMessage(message, answer)) throw new MalformedError(`${doing}: an answer of type ${message.type}`);
          payloads.push(message.payload.slice());
        },
        doing,
        () => {
          payloads.length = 0;
        },
      );
    } catch (error) {
      if (error instanceof KernelError && error.errno === ENOENT) return [];
      throw error;
    }
    return payloads;
  }
}

function noop(): void {}

function* readAll(messages: readonly Uint8Array[]): Generator<Element> {
  for (const payload of messages) yield* readElements(payload);
}
