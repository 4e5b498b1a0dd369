/** `sluice bundle`: what the audit commands ask, in one file, to be asked somewhere else. */
import { counted } from '../output/counted.ts';
import { closeSync, fchmodSync, fstatSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { Command } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { type AtHand, lookAtHand } from '../audit/at-hand.ts';
import { type BundleDocument, packBundle } from '../audit/bundle-format.ts';
import { hashNames } from '../audit/bundle-names.ts';
import { keptFields } from '../audit/bundle-objects.ts';
import type { Inventory, MissingKind } from '../audit/inventory.ts';
import { storeKernelTable } from '../audit/kernel-table.ts';
import { requireNode } from '../audit/node-rules.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { paintFor } from '../output/colour.ts';
import { API_VERSION } from '../output/document.ts';
import { type Fields, isFields } from '../policy/problems.ts';
import { statusFileOption } from './enforcement-options.ts';
import { addInventoryOptions, type InventoryFlags, openInventory, withProgress } from './inventory-options.ts';
import { whichNode } from './node-at-hand.ts';

interface BundleFlags extends InventoryFlags {
  readonly node?: string;
  readonly statusFile?: string;
  readonly output?: string;
  readonly hashNames?: true;
}

export function command(): Command {
  const bundle = new Command('bundle').description(
    'Write what the audit commands ask into one file: the objects (only the fields that are read: no Secrets, no environment, no images), and of ' +
      'this node the kernel’s table inet sluice, the flags of its bridges and what its agent said. All audit commands read it with --bundle.',
  );
  return addInventoryOptions(bundle)
    .option('--node <name>', 'whose kernel this is (default: what the status file says, $NODE_NAME, or the name of this host)')
    .addOption(statusFileOption())
    .option('-o, --output <file>', 'where to write it; - is standard output (default: sluice-NODE-TIME.json.gz)')
    .option('--hash-names', 'put hashes in place of names, and of the keys and values of labels; the salt is forgotten')
    .addHelpText(
      'after',
      '\nExit status: 0 written; 1 not written, or written without the kernel state of the node that --node names; 2 called wrongly.' +
        '\nWithout CAP_NET_ADMIN, or away from a node, the bundle has no kernel state.',
    )
    .action(run);
}

async function run(flags: BundleFlags): Promise<void> {
  const objects = new Objects();
  const inventory = await openInventory(flags, { seen: (kind, value) => objects.add(kind, value) });
  // Objects with errors are in the bundle as they are.
  process.exitCode = 0;
  const hand = lookAtHand(inventory, flags);
  if (flags.node !== undefined) requireNode(whichNode(flags.node, hand, inventory), inventory);
  const { pods, namespaces, nodes, policies } = inventory;
  const missing = await withProgress('reading Services and workloads', () => readOthers(inventory));
  const made = await bundleOf(inventory, hand, objects, missing, flags);
  const paint = paintFor(process.stderr);
  if ('unread' in made.kernel) {
    console.error(`${paint('yellow', 'missing')}: the kernel state: ${made.kernel.unread}`);
    if (flags.node !== undefined) process.exitCode = 1;
  }
  const bundle = flags.hashNames === true ? await hashNames(made) : made;
  const packed = await packBundle(bundle);
  const file = flags.output ?? `sluice-${bundle.node ?? 'cluster'}-${made.createdAt.replaceAll(/[-:]|\.\d+/gu, '')}.json.gz`;
  write(file, packed);
  const held = [
    counted(pods.length, 'pod', 'pods'),
    counted(namespaces.length, 'namespace', 'namespaces'),
    counted(nodes.length, 'node', 'nodes'),
    counted(policies.length, 'policy', 'policies'),
    ...('table' in made.kernel ? ['the table'] : 'absent' in made.kernel ? ['a kernel without our table'] : []),
    ...(made.status === null ? [] : ['the status']),
  ];
  console.error(`${file === '-' ? 'written' : file}: ${(packed.length / 1024).toFixed(1)} KiB: ${held.join(', ')}`);
}

/** What the inventory reads only when asked; what cannot be read is missing. */
async function readOthers(inventory: Inventory): Promise<MissingKind[]> {
  const missing: MissingKind[] = [];
  for (const [what, read] of [
    ['services and endpointslices', () => inventory.services()],
    ['workloads', () => inventory.workloads()],
  ] as const) {
    try {
      await read();
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      missing.push({ what, reason: error.message, consequence: 'Questions that name one of them have no answer.' });
    }
  }
  return missing;
}

async function bundleOf(
  inventory: Inventory,
  hand: AtHand,
  objects: Objects,
  missing: readonly MissingKind[],
  { bundle }: BundleFlags,
): Promise<BundleDocument> {
  if (bundle !== undefined) {
    // To hash the names of one that is there.
    const { readBundle } = await import('../audit/bundle-format.ts');
    return readBundle(bundle);
  }
  return {
    apiVersion: API_VERSION,
    kind: 'Bundle',
    createdAt: new Date().toISOString(),
    version: packageJson.version,
    origin: inventory.origin,
    hashed: { names: false },
    node: hand.node ?? null,
    objects: objects.list(),
    // Kinds that are read later are known by now.
    missing: [...new Map([...inventory.missing, ...missing].map((each) => [each.what, each])).values()],
    kernel: readKernel(hand),
    bridges: hand.node === undefined ? null : (hand.readBridges()?.map((each) => ({ ...each })) ?? null),
    status: hand.status === undefined ? null : { ...hand.status },
  };
}

function readKernel(hand: AtHand): BundleDocument['kernel'] {
  if (hand.node === undefined) return { unread: 'nothing says which node’s kernel this is (--node)' };
  try {
    const table = hand.readTable();
    return table === undefined ? { absent: true } : { table: storeKernelTable(table) };
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return { unread: error.message };
  }
}

function write(file: string, packed: Uint8Array): void {
  if (file === '-') {
    process.stdout.write(packed);
    return;
  }
  let isFile = false;
  try {
    // It tells much of a cluster, and is for whoever made it to hand on.
    const descriptor = openSync(file, 'w', 0o600);
    try {
      isFile = fstatSync(descriptor).isFile();
      // One that was there keeps its mode otherwise.
      if (isFile) fchmodSync(descriptor, 0o600);
      writeFileSync(descriptor, packed);
    } finally {
      closeSync(descriptor);
    }
  } catch (cause) {
    // Half a bundle is none.
    if (isFile) rmSync(file, { force: true });
    throw new SluiceError('BUNDLE_NOT_WRITTEN', `the bundle ${file} cannot be written: ${systemErrorCode(cause) ?? String(cause)}`, {
      hint: 'Name another file with -o.',
      cause,
    });
  }
}

/** Objects as they were read, the fields in use of them; of one that is said twice the first. */
class Objects {
  readonly #objects = new Map<string, Fields>();

  add(kind: string, value: unknown): void {
    const fields = keptFields(kind, value);
    if (fields === undefined) return;
    const { namespace, name } = isFields(fields['metadata']) ? fields['metadata'] : {};
    // Whatever has no name cannot be said twice.
    const key = JSON.stringify([kind, namespace, name ?? this.#objects.size]);
    if (!this.#objects.has(key)) this.#objects.set(key, fields);
  }

  list(): Record<string, unknown>[] {
    return [...this.#objects.values()].map((fields) => ({ ...fields }));
  }
}
