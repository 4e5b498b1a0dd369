/**
 * The table `inet sluice` of a kernel as plain data: what is in force at one moment, apart from the process that reads it. It can be
 * compared, looked at, and kept in a file ({@link storeKernelTable}); nothing is changed by reading it.
 */
import { type Chain, type Element, KernelError, NftConnection, type Rule, type SetDefinition, type Table } from 'nftables-js';
import * as z from 'zod';
import { FAMILY, TABLE } from '../enforcement/nftables/frame.ts';
import type { TableReader } from '../enforcement/nftables/table-content.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';

export interface KernelSet {
  readonly definition: SetDefinition;
  readonly elements: readonly Element[];
}

export interface KernelChain {
  readonly chain: Chain;
  /** In their order, with handles, comments, and what counters have counted. */
  readonly rules: readonly Rule[];
}

export interface KernelTable {
  /** The number of the ruleset's generation; every transaction by anyone makes another. */
  readonly generation: number;
  /** False: something was committed all the while, so that parts of it are of different moments. */
  readonly consistent: boolean;
  readonly table: Table;
  /** Anonymous sets of rules (`__set0`) included. */
  readonly sets: readonly KernelSet[];
  readonly chains: readonly KernelChain[];
}

/** How long to try for a table that nobody changes meanwhile. kube-proxy's commits count as well. */
const PATIENCE_MS = 2_000;

/**
 * Reads it in this thread's network namespace, again where somebody commits meanwhile. Undefined: there is no such table.
 * @throws SluiceError `KERNEL_NOT_PERMITTED` without CAP_NET_ADMIN, `KERNEL_UNREADABLE` where the kernel has no nf_tables
 */
export function readKernelTable(patienceMs = PATIENCE_MS): KernelTable | undefined {
  return withKernel((connection) => {
    const until = performance.now() + patienceMs;
    for (;;) {
      const read = readOnce(connection);
      if (read === undefined || read.consistent || performance.now() > until) return read;
    }
  });
}

/** With a connection that is only read from. @throws SluiceError as {@link readKernelTable} */
export function withKernel<T>(read: (connection: NftConnection) => T): T {
  try {
    const connection = NftConnection.open();
    try {
      return read(connection);
    } finally {
      connection.close();
    }
  } catch (error) {
    throw explain(error);
  }
}

function readOnce(connection: NftConnection): KernelTable | undefined {
  const generation = connection.generation();
  const table = connection.table({ family: FAMILY, name: TABLE });
  if (table === undefined) return undefined;
  const reference = { family: FAMILY, table: TABLE } as const;
  const sets = connection.sets(reference).map(
    (definition): KernelSet => ({
      definition,
      elements: connection.elements({ ...reference, set: definition.name }),
    }),
  );
  const rules = Map.groupBy(connection.rules(reference), ({ chain }) => chain);
  const chains = connection.chains(reference).map((chain): KernelChain => ({ chain, rules: rules.get(chain.name) ?? [] }));
  return { generation, consistent: connection.generation() === generation, table, sets, chains };
}

function explain(error: unknown): unknown {
  if (!(error instanceof KernelError)) return error;
  if (systemErrorCode(error) === 'EPERM') {
    return new SluiceError('KERNEL_NOT_PERMITTED', `reading table ${FAMILY} ${TABLE} of this kernel is not permitted`, {
      hint: 'CAP_NET_ADMIN is needed, in the network namespace of the node: as root on the node, or by kubectl exec in the pod of its agent.',
      cause: error,
    });
  }
  return new SluiceError('KERNEL_UNREADABLE', `table ${FAMILY} ${TABLE} of this kernel cannot be read: ${error.message}`, {
    hint: 'nf_tables has to be there (modprobe nf_tables).',
    cause: error,
  });
}

/** What compares tables reads it as it would read the kernel. */
export function readerOf({ table, sets, chains }: KernelTable): TableReader {
  const isOurs = ({ family, name }: { readonly family: string; readonly name: string }): boolean =>
    family === table.family && name === table.name;
  const asked = (reference: { readonly family: string; readonly table: string }): boolean =>
    isOurs({ family: reference.family, name: reference.table });
  return {
    port: table.owner ?? 0,
    table: (reference) => (isOurs(reference) ? table : undefined),
    sets: (reference) => (asked(reference) ? sets.map(({ definition }) => definition) : []),
    chains: (reference) => (asked(reference) ? chains.map(({ chain }) => chain) : []),
    rules: (reference) =>
      asked(reference)
        ? chains.flatMap(({ chain, rules }) => (reference.chain === undefined || reference.chain === chain.name ? rules : []))
        : [],
    eachElement: (reference) =>
      (asked(reference) ? (sets.find(({ definition }) => definition.name === reference.set)?.elements ?? []) : []).values(),
  };
}

// --- kept in a file

/**
 * As JSON text can hold it, without loss: bytes become `{ "$bytes": "0af40002" }`, 64-bit numbers `{ "$bigint": "42" }`. Everything else
 * is as it is.
 */
export function storeKernelTable(table: KernelTable): unknown {
  return store(table);
}

/** The other way round. @throws z.ZodError where it is not what {@link storeKernelTable} gives */
export function restoreKernelTable(stored: unknown): KernelTable {
  // The schema tells what is there and of which kind; the types of nftables-js are finer (names of flags, hooks and the like).
  return SCHEMA.parse(restore(stored)) as unknown as KernelTable;
}

function store(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex') };
  if (typeof value === 'bigint') return { $bigint: value.toString() };
  if (Array.isArray(value)) return value.map(store);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).flatMap(([key, each]) => (each === undefined ? [] : [[key, store(each)]])));
}

function restore(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(restore);
  if (typeof value !== 'object' || value === null) return value;
  if ('$bytes' in value && typeof value.$bytes === 'string' && /^([0-9a-f]{2})*$/u.test(value.$bytes))
    return Uint8Array.from(Buffer.from(value.$bytes, 'hex'));
  if ('$bigint' in value && typeof value.$bigint === 'string' && /^\d{1,20}$/u.test(value.$bigint)) return BigInt(value.$bigint);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, restore(each)]));
}

const bytes = z.instanceof(Uint8Array);
const family = z.enum(['ip', 'ip6', 'inet', 'arp', 'bridge', 'netdev']);
const types = z.array(z.string());
const jump = z.object({ verdict: z.enum(['jump', 'goto']), chain: z.string() });
const end = z.object({ verdict: z.enum(['accept', 'drop', 'continue', 'return', 'break']) });
const element = z.looseObject({
  key: bytes,
  keyEnd: bytes.optional(),
  intervalEnd: z.boolean().optional(),
  data: z.union([bytes, jump, end]).optional(),
});
const numbers = z.number().int().nonnegative();
const registers = { register: numbers };
const text = z.string();
/** What each expression has to have (nftables-js, types.ts); keys, types and flags that are only named are left to whoever prints them. */
const expression = z.union([
  z.discriminatedUnion('expr', [
    z.looseObject({ expr: z.literal('payload'), base: text, offset: numbers, length: numbers, ...registers }),
    z.looseObject({ expr: z.enum(['meta', 'metaSet', 'ct', 'ctSet']), key: text, ...registers }),
    z.looseObject({ expr: z.literal('cmp'), op: text, value: bytes, ...registers }),
    z.looseObject({ expr: z.literal('range'), op: text, from: bytes, to: bytes, ...registers }),
    z.looseObject({ expr: z.literal('bitwise'), source: numbers, destination: numbers, mask: bytes, xor: bytes }),
    z.looseObject({ expr: z.literal('lookup'), set: text, destination: z.union([numbers, z.literal('verdict')]).optional(), ...registers }),
    z.looseObject({ expr: z.literal('immediate'), value: bytes, ...registers }),
    z.looseObject({ expr: z.literal('counter'), packets: z.bigint(), bytes: z.bigint() }),
    z.looseObject({ expr: z.literal('objref'), type: text, name: text }),
    z.looseObject({ expr: z.literal('limit'), unit: text, rate: z.bigint(), per: text, burst: numbers }),
    z.looseObject({ expr: z.literal('log'), prefix: text.optional(), group: numbers.optional() }),
    z.looseObject({ expr: z.literal('reject'), type: text, code: numbers.optional() }),
    z.looseObject({ expr: z.literal('masquerade'), flags: numbers.optional() }),
    z.looseObject({ expr: z.literal('nat'), type: text, family: text, flags: numbers.optional() }),
    z.looseObject({ expr: z.literal('unknown'), name: text, data: bytes }),
  ]),
  z.looseObject({ expr: z.literal('verdict'), ...jump.shape }),
  z.looseObject({ expr: z.literal('verdict'), ...end.shape }),
]);
const SCHEMA = z.looseObject({
  generation: numbers,
  consistent: z.boolean(),
  table: z.looseObject({ family, name: z.string(), flags: z.array(z.string()), owner: numbers.optional() }),
  sets: z.array(
    z.looseObject({
      definition: z.looseObject({
        family,
        table: z.string(),
        name: z.string(),
        key: types,
        data: types.optional(),
        flags: z.array(z.string()),
      }),
      elements: z.array(element),
    }),
  ),
  chains: z.array(
    z.looseObject({
      chain: z.looseObject({
        family,
        table: z.string(),
        name: z.string(),
        base: z
          .looseObject({ type: z.string(), hook: z.string(), priority: z.number().int(), policy: z.enum(['accept', 'drop']) })
          .optional(),
      }),
      rules: z.array(
        z.looseObject({
          family,
          table: z.string(),
          chain: z.string(),
          expressions: z.array(expression),
          comment: z.string().optional(),
          handle: z.bigint().optional(),
        }),
      ),
    }),
  ),
});
