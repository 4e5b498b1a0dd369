/**
 * Whose kernel is at hand: the node that this runs on, its table, and what its agent has said of itself. The agent need not be running.
 * Of a bundle it is the node that the bundle was made on, as it was then.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import * as z from 'zod';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { type BridgeState, readBridges } from './bridge-state.ts';
import { type Bypass, findBypasses } from './bypasses.ts';
import { type KernelTable, readKernelTable, withKernel } from './kernel-table.ts';

/** Where the manifests and the documentation have the agent's status file. */
export const DEFAULT_STATUS_FILE = '/run/sluice/status.json';

/** What an agent's table depends on besides the cluster. */
const ENFORCEMENT = z.looseObject({
  ownership: z.enum(['owned', 'shared']),
  /** Null: nothing is logged. */
  logGroup: z.number().nullable(),
  cutMark: z.number(),
  bridges: z.array(z.string()),
  auditNamespaces: z.boolean(),
});

/** Of {@link StatusDocument} (src/observability/status.ts) what is read here; an older agent's file lacks some of it. */
const STATUS = z.looseObject({
  node: z.string(),
  ready: z.boolean().optional(),
  revision: z.string().nullable().optional(),
  mode: z.enum(['enforce', 'audit']).optional(),
  enforcement: ENFORCEMENT.nullable().optional(),
});

export type KnownStatus = z.output<typeof STATUS>;

/** What a bundle holds of its node. */
export interface HeldNode {
  /** Undefined: it was made without a node. */
  readonly node: string | undefined;
  /** `absent`: there was no table. */
  readonly kernel: { readonly table: KernelTable } | { readonly absent: true } | { readonly unread: string };
  readonly bridges: readonly BridgeState[] | undefined;
  readonly status: KnownStatus | undefined;
}

/** What of an inventory says which node is at hand. */
export interface Surroundings {
  readonly origin: string;
  readonly nodes: Iterable<{ readonly name: string }>;
  readonly pods: Iterable<{ readonly node: string }>;
  /** Only of a bundle. */
  readonly held?: HeldNode;
}

export interface AtHandFlags {
  /** `--node`: the kernel of this network namespace is taken to be that node's, unless something says that it is another's. */
  readonly node?: string | undefined;
  /** `--status-file`; one that is named has to be there. */
  readonly statusFile?: string | undefined;
}

export interface AtHand {
  /** The node whose kernel is at hand; undefined: none is, as far as anybody says. */
  readonly node: string | undefined;
  /** How that is known, for people: `status file /run/sluice/status.json`, `$NODE_NAME`, `host name`, `--node`. */
  readonly saidBy: string;
  /** What the agent last said of itself; it may have ended since. */
  readonly status: KnownStatus | undefined;
  /**
   * The table as it is now (of a bundle: as it was); undefined where there is none.
   * @throws SluiceError `KERNEL_NOT_PERMITTED`, `KERNEL_UNREADABLE`, or `KERNEL_NOT_HELD` of a bundle made without it
   */
  readTable(): KernelTable | undefined;
  /** The flags of the bridges of these names, those that there are; without names of all. Undefined: they are not known. */
  readBridges(names?: readonly string[]): readonly BridgeState[] | undefined;
  /** What others have in their tables that takes packets past ours; of a bundle nothing is known. */
  readBypasses(): readonly Bypass[];
}

/** Where it says which host this is, apart from files; tests give their own. */
export interface Host {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly hostname: string;
}

/**
 * Which node is at hand: what the status file says, else `$NODE_NAME`, else the host name where a node has it, else `--node`.
 * @throws SluiceError `STATUS_FILE_UNREADABLE` where one was named and cannot be read
 */
export function lookAtHand(
  inventory: Surroundings,
  { node: asked, statusFile }: AtHandFlags = {},
  host: Host = { environment: process.env, hostname: hostname() },
): AtHand {
  const { held } = inventory;
  if (held !== undefined) return ofBundle(held, inventory.origin);
  const status = readStatus(statusFile);
  const [node, saidBy] = whichNode(inventory, status, statusFile ?? DEFAULT_STATUS_FILE, asked, host);
  return { node, saidBy, status, readTable: () => readKernelTable(), readBridges, readBypasses: () => withKernel(findBypasses) };
}

function whichNode(
  { nodes, pods }: Surroundings,
  status: KnownStatus | undefined,
  statusFile: string,
  asked: string | undefined,
  { environment, hostname: ownName }: Host,
): readonly [node: string | undefined, saidBy: string] {
  if (status !== undefined) return [status.node, `status file ${statusFile}`];
  const { NODE_NAME: named = '' } = environment;
  if (named !== '') return [named, '$NODE_NAME'];
  for (const { name } of nodes) if (name === ownName) return [name, 'host name'];
  for (const { node } of pods) if (node === ownName) return [node, 'host name'];
  return [asked, asked === undefined ? 'nothing' : '--node'];
}

function ofBundle({ node, kernel, bridges, status }: HeldNode, origin: string): AtHand {
  return {
    node,
    saidBy: origin,
    status,
    readTable: () => {
      if ('table' in kernel) return kernel.table;
      if ('absent' in kernel) return undefined;
      throw new SluiceError('KERNEL_NOT_HELD', `${origin} holds no kernel state: ${kernel.unread}`, {
        hint: 'Make the bundle on the node, with CAP_NET_ADMIN.',
      });
    },
    readBridges: (names) => bridges?.filter(({ name }) => names?.includes(name) !== false),
    readBypasses: () => [],
  };
}

/** The table where it can be read, else why not: for commands that answer without it too. */
export function tableAtHand(hand: Pick<AtHand, 'readTable'>): { readonly table: KernelTable } | { readonly reason: string } {
  try {
    const table = hand.readTable();
    return table === undefined ? { reason: 'this kernel has no table inet sluice' } : { table };
  } catch (error) {
    if (error instanceof SluiceError) return { reason: error.message };
    throw error;
  }
}

/**
 * What a status file, or a bundle, says of an agent.
 * @param where for people: of whose status it is
 * @throws SluiceError `STATUS_FILE_UNREADABLE`
 */
export function parseStatus(value: unknown, where: string): KnownStatus {
  const { success, data, error } = STATUS.safeParse(value);
  if (success) return data;
  throw new SluiceError('STATUS_FILE_UNREADABLE', `${where} is not what an agent writes: ${z.prettifyError(error).replaceAll('\n', ' ')}`, {
    hint: 'Name the file that the agent was given with --status-file.',
    exitStatus: 2,
  });
}

function readStatus(named: string | undefined): KnownStatus | undefined {
  const file = named ?? DEFAULT_STATUS_FILE;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (named === undefined) return undefined;
    throw new SluiceError('STATUS_FILE_UNREADABLE', `the status file ${file} cannot be read: ${systemErrorCode(error) ?? String(error)}`, {
      hint: 'Name the file that the agent was given with --status-file, or none.',
      exitStatus: 2,
      cause: error,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new SluiceError('STATUS_FILE_UNREADABLE', `the status file ${file} holds no JSON`, { exitStatus: 2, cause: error });
  }
  return parseStatus(value, `the status file ${file}`);
}
