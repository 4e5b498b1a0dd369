/** A bundle as an inventory: its objects are read as if the cluster that they are from gave them, so that they mean the same. */
import type { ApiAnswer } from '../kubernetes/api/client.ts';
import type { ObjectKind } from '../kubernetes/projections.ts';
import { WATCHED } from '../sources/kubernetes.ts';
import { SluiceError } from '../errors.ts';
import { type HeldNode, parseStatus, type Surroundings } from './at-hand.ts';
import { type BundleDocument, readBundle } from './bundle-format.ts';
import { readCluster, WORKLOAD_PATHS } from './cluster-inventory.ts';
import type { Inventory } from './inventory.ts';
import { restoreKernelTable } from './kernel-table.ts';

/** Where the API has what a bundle has by kind. */
const PATHS: ReadonlyMap<string, string> = new Map([
  ...(Object.entries(WATCHED) as [ObjectKind, string][]).map(([kind, path]) => [path, kind] as const),
  ['/api/v1/services', 'Service'],
  ['/apis/discovery.k8s.io/v1/endpointslices', 'EndpointSlice'],
  ...Object.entries(WORKLOAD_PATHS).map(([kind, path]) => [path, kind] as const),
]);

export type BundleInventory = Inventory & Required<Pick<Surroundings, 'held'>>;

/** @throws SluiceError where the file is no bundle, damaged, or of a newer version */
export async function openBundle(file: string): Promise<BundleInventory> {
  return await inventoryOfBundle(readBundle(file), `the bundle ${file}`);
}

/** @param origin for people */
export async function inventoryOfBundle(bundle: BundleDocument, origin: string): Promise<BundleInventory> {
  const objects = Map.groupBy(bundle.objects, ({ kind }) => String(kind));
  const client = {
    call: ({ path }: { readonly path: string }): Promise<ApiAnswer> => {
      const kind = PATHS.get(path);
      return Promise.resolve({ status: 200, object: { metadata: {}, items: kind === undefined ? [] : (objects.get(kind) ?? []) } });
    },
  };
  const inventory = await readCluster({ client, server: origin, namespaces: [] });
  return { ...inventory, kind: 'bundle', origin, missing: [...inventory.missing, ...bundle.missing], held: heldBy(bundle, origin) };
}

function heldBy({ node, kernel, bridges, status }: BundleDocument, origin: string): HeldNode {
  return {
    node: node ?? undefined,
    kernel:
      'table' in kernel ? { table: restored(kernel.table, origin) } : 'absent' in kernel ? { absent: true } : { unread: kernel.unread },
    bridges: bridges ?? undefined,
    status: status === null ? undefined : parseStatus(status, `the status in ${origin}`),
  };
}

function restored(table: unknown, origin: string): ReturnType<typeof restoreKernelTable> {
  try {
    return restoreKernelTable(table);
  } catch (cause) {
    throw new SluiceError('BUNDLE_INVALID', `${origin} is damaged: its kernel state cannot be read`, {
      hint: 'Make it again; nothing of it can be trusted.',
      exitStatus: 2,
      cause,
    });
  }
}
