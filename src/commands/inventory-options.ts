/** Where an audit command has its objects from: the flags that all of them share, and what they come to. */
import type { Command } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { SluiceError } from '../errors.ts';
import type { Assumption } from '../audit/assumed-addresses.ts';
import type { Inventory, PodName, Seen } from '../audit/inventory.ts';
import { paintFor } from '../output/colour.ts';
import { formatProblem } from '../output/problems.ts';

export interface InventoryFlags {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly source?: string;
  readonly bundle?: string;
}

export interface InventoryQuestion {
  /** Namespaces that the question is about: whoever may not list the whole cluster has at least these. */
  readonly namespaces?: readonly string[];
  /** The question is about these pods, and about nobody else: of a cluster, and of YAML, no more is read than that takes. */
  readonly pods?: readonly PodName[] | undefined;
  /** Not told of what a bundle holds. */
  readonly seen?: Seen;
  /** Pods of a directory that have no address, and workloads that have no pods, take part in the answer (see assumed-addresses.ts). */
  readonly assume?: boolean;
}

/** After this long a person wants to know what takes so long. */
const PATIENCE_MS = 1_000;

export function addInventoryOptions(command: Command): Command {
  return command
    .option(
      '--kubeconfig <file>',
      'how to reach the API server; default: $KUBECONFIG, ~/.kube/config, or the service account of the pod that this runs in',
    )
    .option('--context <name>', 'context of the kubeconfig; default: its current one')
    .option('--source <dir>', 'instead of an API server, a directory with manifests of pods, namespaces, nodes and policies')
    .option('--bundle <file>', 'instead of an API server, what sluice bundle has written');
}

/**
 * Reads the objects, and says on stderr what is wrong with them and what is missing. Errors of objects set the exit status to 1: the answer
 * is given all the same.
 *
 * @throws SluiceError where nothing can be read, or two places are named
 */
export async function openInventory(flags: InventoryFlags, question: InventoryQuestion = {}): Promise<Inventory> {
  const { inventory, pods, workloads } = await withProgress(`reading ${placeOf(flags)}`, async () => {
    const read = await readInventory(flags, question);
    // Of a cluster such pods have not come up yet: nobody reaches them.
    return question.assume === true && read.kind === 'directory' ? await assume(read) : { inventory: read, pods: [], workloads: [] };
  });
  const paint = paintFor(process.stderr);
  for (const problem of inventory.problems) console.error(formatProblem(problem, paint));
  if (inventory.problems.some(({ severity }) => severity === 'error')) process.exitCode = 1;
  for (const { what, reason, consequence } of inventory.missing) {
    console.error(`${paint('yellow', 'missing')}: ${what}: ${reason}. ${consequence}`);
  }
  for (const line of assumptions(pods, workloads)) console.error(`${paint('yellow', 'assumed')}: ${line}`);
  return inventory;
}

async function assume(inventory: Inventory): Promise<Assumption> {
  const { assumeAddresses } = await import('../audit/assumed-addresses.ts');
  return await assumeAddresses(inventory);
}

/** Names that a line lists. */
const LISTED = 5;

function* assumptions(pods: Assumption['pods'], workloads: Assumption['workloads']): Generator<string> {
  const list = (names: readonly string[]): string =>
    names.length > LISTED ? `${names.slice(0, LISTED).join(', ')} and ${names.length - LISTED} more` : names.join(', ');
  if (workloads.length > 0) {
    const named = workloads.map(
      ({ workload, pods: made }) => `${made.join(' and ')} of ${workload.kind} ${workload.namespace}/${workload.name}`,
    );
    yield `pods that are not there yet: ${list(named)}`;
  }
  if (pods.length > 0) yield `an address for pods that have none: ${list(pods)}`;
  if (pods.length + workloads.length > 0)
    yield 'of ipBlocks only those of the whole address space hold these addresses (0.0.0.0/0 and ::/0, whatever they except)';
}

/** Reads the objects, and says nothing: for a second look. @throws SluiceError as {@link openInventory} */
export async function readInventory(
  { kubeconfig, context, source, bundle }: InventoryFlags,
  { namespaces = [], pods, seen }: InventoryQuestion = {},
): Promise<Inventory> {
  const given = Object.entries({ '--kubeconfig': kubeconfig ?? context, '--source': source, '--bundle': bundle });
  const named = given.flatMap(([flag, value]) => (value === undefined ? [] : [flag]));
  if (named.length > 1) {
    throw new SluiceError('SOURCE_AMBIGUOUS', `objects are read from one place, and ${named.join(' and ')} name several`, {
      hint: 'Leave all but one of them out.',
      exitStatus: 2,
    });
  }
  if (source !== undefined) return await (await import('../audit/manifest-inventory.ts')).readDirectory(source, { seen, pods });
  if (bundle !== undefined) return await (await import('../audit/bundle-inventory.ts')).openBundle(bundle);
  const [{ ApiClient }, { readCluster }] = await Promise.all([
    import('../kubernetes/api/client.ts'),
    import('../audit/cluster-inventory.ts'),
  ]);
  const client = await ApiClient.open({ file: kubeconfig, context, userAgent: `sluice/${packageJson.version}` });
  // Connections that are kept alive do not hold the process up; what is read later goes over the same ones.
  return await readCluster({ client, server: await client.server(), namespaces, pods, seen });
}

function placeOf({ source, bundle }: InventoryFlags): string {
  if (source !== undefined) return `the directory ${source}`;
  return bundle === undefined ? 'the cluster' : `the bundle ${bundle}`;
}

/** Says on a terminal what is going on, once it takes more than a second. */
export async function withProgress<T>(what: string, work: () => Promise<T>): Promise<T> {
  const { stderr } = process;
  if (!stderr.isTTY) return await work();
  let shown = false;
  const timer = setTimeout(() => {
    shown = true;
    stderr.write(`${what} …`);
  }, PATIENCE_MS);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
    // Back to the beginning of the line, which is erased (ECMA-48, EL).
    if (shown) stderr.write('\r\u001b[K');
  }
}
