/**
 * Transactions: operations as one datagram, and what the kernel answers to it. All operations take effect, or none does.
 *
 * The kernel works off every message of a batch even after one failed, and answers with an error for each at fault; the last
 * operation asks for an acknowledgement, so success is told too.
 *
 * What fails only when the whole is put in force (jumps that form a loop, an anonymous set that no rule uses) is answered with the
 * number of the first message, as if that had failed. So the first asks for an acknowledgement too: the kernel gives it to a message
 * that did not fail itself, and then no operation is to blame.
 */
import { MessageWriter, readMessages } from './netlink/attributes.ts';
import { KernelError, NetlinkError, OverrunError } from './netlink/errors.ts';
import {
  type Answer,
  type NetlinkSocket,
  NLM_F_ACK,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  readAnswer,
} from './netlink/socket.ts';
import { writeChain, writeChainName } from './nftables/chain.ts';
import { writeCounter, writeCounterName } from './nftables/counter.ts';
import { writeElements, writeElementsReference } from './nftables/element.ts';
import { messageType, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFT_MSG, writeBatchHeader, writeHeader } from './nftables/message.ts';
import { writeRule, writeRuleReference } from './nftables/rule.ts';
import { writeSet, writeSetName } from './nftables/set.ts';
import { writeTable, writeTableName } from './nftables/table.ts';
import type { Element, Family, Operation } from './types.ts';

const NFNL_BATCH_GENID = 1;

export interface TransactionOptions {
  /**
   * The generation that the operations were made for (`NftConnection.generation()`): if anyone changed the ruleset since, nothing is
   * done and the error's code is `ERESTART`.
   */
  readonly generation?: number;
}

/** A transaction that the kernel refused. Nothing of it was done. */
export class TransactionError extends KernelError {
  override readonly name: string = 'TransactionError';
  /** The first operation at fault; undefined where it is the transaction as a whole. */
  readonly operation: Operation | undefined;
  /** Its index in the transaction. */
  readonly index: number | undefined;

  constructor(errno: number, doing: string, kernelMessage?: string, at?: { readonly operation: Operation; readonly index: number }) {
    super(errno, doing, kernelMessage);
    this.operation = at?.operation;
    this.index = at?.index;
  }
}

/** A transaction ready to be sent. */
export interface Batch {
  readonly bytes: Uint8Array;
  readonly operations: readonly Operation[];
  /** The sequence number of each message of an operation, and the index of the operation. */
  readonly sequences: readonly number[];
  readonly indexes: readonly number[];
}

const VERBS = {
  add: 'adding',
  create: 'creating',
  delete: 'deleting',
  destroy: 'destroying',
  flush: 'flushing',
  append: 'appending',
  insert: 'inserting',
  replace: 'replacing',
} as const;

/** What an operation does to what, as errors say it: `adding chain inet sluice egress`. */
export function describeOperation(operation: Operation): string {
  return `${VERBS[operation.op]} ${describeObject(operation)}`;
}

function describeObject(operation: Operation): string {
  if ('table' in operation) return `table ${operation.table.family} ${operation.table.name}`;
  if ('chain' in operation) return `chain ${operation.chain.family} ${operation.chain.table} ${operation.chain.name}`;
  if ('rules' in operation) return `rules ${operation.rules.family} ${operation.rules.table} ${operation.rules.chain ?? ''}`.trimEnd();
  if ('set' in operation) return `set ${operation.set.family} ${operation.set.table} ${operation.set.name}`;
  if ('elements' in operation) return `elements ${operation.elements.family} ${operation.elements.table} ${operation.elements.set}`;
  if ('counter' in operation) return `counter ${operation.counter.family} ${operation.counter.table} ${operation.counter.name}`;
  const { rule } = operation;
  const comment = 'comment' in rule && rule.comment !== undefined ? ` "${rule.comment}"` : '';
  const handle = operation.op === 'delete' ? operation.rule.handle : operation.position;
  return `rule ${rule.family} ${rule.table} ${rule.chain}${handle === undefined ? '' : ` handle ${handle}`}${comment}`;
}

/**
 * Encodes operations. Their iterables are used up when it returns.
 *
 * @param nextSequence gives a number for each message
 * @returns undefined where there is nothing to do
 * @throws NetlinkError ERR_INVALID of an operation that no kernel could be told
 */
export function encodeBatch(
  operations: Iterable<Operation>,
  nextSequence: () => number,
  options: TransactionOptions = {},
): Batch | undefined {
  const encoder = new BatchEncoder(nextSequence, options);
  for (const operation of operations) encoder.add(operation);
  return encoder.end();
}

/** How long encoding keeps the event loop at a time. */
const SLICE_MS = 4;

/** Like {@link encodeBatch}, with pauses between operations: so many take longer than anybody should wait for the event loop. */
export async function encodeBatchInSlices(
  operations: Iterable<Operation>,
  nextSequence: () => number,
  options: TransactionOptions = {},
): Promise<Batch | undefined> {
  const encoder = new BatchEncoder(nextSequence, options);
  let sliceEnds = performance.now() + SLICE_MS;
  for (const operation of operations) {
    encoder.begin(operation);
    for (const part of parts(operation)) {
      encoder.write(part);
      if (performance.now() < sliceEnds) continue;
      await new Promise(setImmediate);
      sliceEnds = performance.now() + SLICE_MS;
    }
  }
  return encoder.end();
}

/** Elements of a part: about as many as a message holds. */
const PART_ELEMENTS = 4_096;

/** The operation, or where it has many elements the same of some of them at a time. They may be one and the same object, filled anew. */
function* parts(operation: Operation): Generator<Operation, void> {
  if (!('elements' in operation) || operation.op === 'flush') {
    yield operation;
    return;
  }
  const { elements, ...reference } = operation.elements;
  const iterator = elements[Symbol.iterator]();
  for (let next = iterator.next(); next.done !== true; ) {
    const some = function* (): Generator<Element, void> {
      for (let count = 0; count < PART_ELEMENTS && next.done !== true; count++, next = iterator.next()) yield next.value;
    };
    yield { ...operation, elements: { ...reference, elements: some() } };
  }
}

class BatchEncoder {
  readonly #writer = new MessageWriter(1 << 14);
  readonly #nextSequence: () => number;
  readonly #operations: Operation[] = [];
  readonly #sequences: number[] = [];
  readonly #indexes: number[] = [];
  #firstMessage = -1;
  #lastMessage = -1;
  #setId = 0;

  constructor(nextSequence: () => number, { generation }: TransactionOptions) {
    this.#nextSequence = nextSequence;
    const start = this.#writer.beginMessage(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, nextSequence());
    writeBatchHeader(this.#writer);
    if (generation !== undefined) this.#writer.be32(NFNL_BATCH_GENID, generation);
    this.#writer.endMessage(start);
  }

  add(operation: Operation): void {
    this.begin(operation);
    this.write(operation);
  }

  /** What is written from now on is told of as this operation. */
  begin(operation: Operation): void {
    this.#operations.push(operation);
  }

  write(operation: Operation): void {
    try {
      this.#write(operation);
    } catch (error) {
      if (!(error instanceof NetlinkError || error instanceof RangeError)) throw error;
      throw new NetlinkError('ERR_INVALID', `${describeOperation(operation)}: ${error.message}`, { cause: error });
    }
  }

  end(): Batch | undefined {
    if (this.#lastMessage < 0) return undefined;
    this.#writer.addFlags(this.#firstMessage, NLM_F_ACK);
    this.#writer.addFlags(this.#lastMessage, NLM_F_ACK);
    const start = this.#writer.beginMessage(NFNL_MSG_BATCH_END, NLM_F_REQUEST, this.#nextSequence());
    writeBatchHeader(this.#writer);
    this.#writer.endMessage(start);
    return { bytes: this.#writer.bytes(), operations: this.#operations, sequences: this.#sequences, indexes: this.#indexes };
  }

  #begin(type: number, flags: number, family: Family): number {
    const sequence = this.#nextSequence();
    this.#sequences.push(sequence);
    this.#indexes.push(this.#operations.length - 1);
    this.#lastMessage = this.#writer.beginMessage(messageType(type), NLM_F_REQUEST | flags, sequence);
    if (this.#firstMessage < 0) this.#firstMessage = this.#lastMessage;
    writeHeader(this.#writer, family);
    return this.#lastMessage;
  }

  #message(type: number, flags: number, family: Family, write: (writer: MessageWriter) => void): void {
    const start = this.#begin(type, flags, family);
    write(this.#writer);
    this.#writer.endMessage(start);
  }

  #write(operation: Operation): void {
    if ('table' in operation) this.#table(operation);
    else if ('chain' in operation) this.#chain(operation);
    else if ('rule' in operation) this.#rule(operation);
    else if ('rules' in operation) this.#flushRules(operation);
    else if ('set' in operation) this.#set(operation);
    else if ('elements' in operation) this.#elements(operation);
    else this.#counter(operation);
  }

  #table(operation: Extract<Operation, { table: unknown }>): void {
    const { table } = operation;
    if (operation.op === 'add' || operation.op === 'create')
      this.#message(NFT_MSG.NEWTABLE, creation(operation.op), table.family, (writer) => writeTable(writer, operation.table));
    else {
      const type = operation.op === 'delete' ? NFT_MSG.DELTABLE : NFT_MSG.DESTROYTABLE;
      this.#message(type, 0, table.family, (writer) => writeTableName(writer, table.name));
    }
  }

  #chain(operation: Extract<Operation, { chain: unknown }>): void {
    const { chain } = operation;
    if (operation.op === 'add' || operation.op === 'create')
      this.#message(NFT_MSG.NEWCHAIN, creation(operation.op), chain.family, (writer) => writeChain(writer, operation.chain));
    else {
      const type = operation.op === 'delete' ? NFT_MSG.DELCHAIN : NFT_MSG.DESTROYCHAIN;
      this.#message(type, 0, chain.family, (writer) => writeChainName(writer, chain.table, chain.name));
    }
  }

  #rule(operation: Extract<Operation, { rule: unknown }>): void {
    if (operation.op === 'delete') {
      const { family, table, chain, handle } = operation.rule;
      this.#message(NFT_MSG.DELRULE, 0, family, (writer) => writeRuleReference(writer, table, chain, handle));
      return;
    }
    const { op, rule, position } = operation;
    const flags = op === 'replace' ? NLM_F_REPLACE : op === 'append' ? NLM_F_CREATE | NLM_F_APPEND : NLM_F_CREATE;
    const place = position === undefined ? {} : op === 'replace' ? { handle: position } : { position };
    this.#message(NFT_MSG.NEWRULE, flags, rule.family, (writer) => writeRule(writer, rule, place));
  }

  #flushRules({ rules }: Extract<Operation, { rules: unknown }>): void {
    this.#message(NFT_MSG.DELRULE, 0, rules.family, (writer) => writeRuleReference(writer, rules.table, rules.chain));
  }

  #set(operation: Extract<Operation, { set: unknown }>): void {
    const { set } = operation;
    if (operation.op === 'add' || operation.op === 'create')
      this.#message(NFT_MSG.NEWSET, creation(operation.op), set.family, (writer) => writeSet(writer, operation.set, ++this.#setId));
    else {
      const type = operation.op === 'delete' ? NFT_MSG.DELSET : NFT_MSG.DESTROYSET;
      this.#message(type, 0, set.family, (writer) => writeSetName(writer, set.table, set.name));
    }
  }

  #elements(operation: Extract<Operation, { elements: unknown }>): void {
    const { family, table, set } = operation.elements;
    if (operation.op === 'flush') {
      this.#message(NFT_MSG.DELSETELEM, 0, family, (writer) => writeElementsReference(writer, table, set));
      return;
    }
    const { op } = operation;
    const adding = op === 'add' || op === 'create';
    const type = adding ? NFT_MSG.NEWSETELEM : op === 'delete' ? NFT_MSG.DELSETELEM : NFT_MSG.DESTROYSETELEM;
    const flags = adding ? creation(op) : 0;
    const writer = this.#writer;
    const begin = (): number => {
      const start = this.#begin(type, flags, family);
      writeElementsReference(writer, table, set);
      return start;
    };
    writeElements(writer, operation.elements.elements, begin, (start) => writer.endMessage(start));
  }

  #counter(operation: Extract<Operation, { counter: unknown }>): void {
    const { counter } = operation;
    if (operation.op === 'add' || operation.op === 'create')
      this.#message(NFT_MSG.NEWOBJ, creation(operation.op), counter.family, (writer) => writeCounter(writer, operation.counter));
    else {
      const type = operation.op === 'delete' ? NFT_MSG.DELOBJ : NFT_MSG.DESTROYOBJ;
      this.#message(type, 0, counter.family, (writer) => writeCounterName(writer, counter.table, counter.name));
    }
  }
}

function creation(op: 'add' | 'create'): number {
  return op === 'create' ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_CREATE;
}

/**
 * Reads the answers to a batch that was sent on this socket.
 * @throws TransactionError
 */
export function readAnswers(socket: NetlinkSocket, batch: Batch): void {
  const { sequences } = batch;
  const first = sequences[0];
  const last = sequences.at(-1);
  const doing = describeBatch(batch);
  let failure: Answer | undefined;
  let firstAcknowledged = false;
  let done = false;
  // After a failure as far as there are answers, because one for the first message may come behind.
  while (!done || failure !== undefined) {
    const datagram = receive(socket, doing);
    if (datagram === undefined) break;
    for (const message of readMessages(datagram)) {
      if (message.type !== NLMSG_ERROR) continue;
      const answer = readAnswer(message);
      if (answer.errno !== 0) failure ??= answer;
      else if (answer.sequence === first) firstAcknowledged = true;
      if (answer.sequence === last) done = true;
    }
  }
  if (failure !== undefined) throw transactionError(batch, failure, failure.sequence === first && firstAcknowledged);
  if (!done) throw new NetlinkError('ERR_NO_ANSWER', `${doing}: the kernel gave no answer`);
}

/** The next answers. Where there were so many errors that not all of them found room, the first are there. */
function receive(socket: NetlinkSocket, doing: string): Uint8Array | undefined {
  try {
    return socket.receive(doing);
  } catch (error) {
    if (error instanceof OverrunError) return socket.receive(doing);
    throw error;
  }
}

function transactionError(batch: Batch, { errno, sequence, kernelMessage }: Answer, asAWhole: boolean): TransactionError {
  const index = asAWhole ? undefined : batch.indexes[batch.sequences.indexOf(sequence)];
  const operation = index === undefined ? undefined : batch.operations[index];
  if (index === undefined || operation === undefined) return new TransactionError(errno, describeBatch(batch), kernelMessage);
  return new TransactionError(errno, describeOperation(operation), kernelMessage, { operation, index });
}

/** What is being done with the batch as a whole. */
export function describeBatch({ operations }: Batch): string {
  const [first] = operations;
  return operations.length === 1 && first !== undefined ? describeOperation(first) : `a transaction of ${operations.length} operations`;
}
