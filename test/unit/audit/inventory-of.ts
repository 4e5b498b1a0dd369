/** Inventories of clusters that are written down in a test. */
import type { Inventory } from '../../../src/audit/inventory.ts';
import { inventoryOf, WrittenObjects } from '../../../src/audit/manifest-inventory.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { contentsOf } from '../../../src/sources/load-directory.ts';
import { ManifestSet } from '../../../src/sources/manifest-set.ts';
import { readManifest } from '../../../src/sources/manifest.ts';

/** What a directory with one file, `cluster.yaml`, would be read as. */
export function inventory(yaml: string): Inventory {
  const written = new WrittenObjects();
  const set = new ManifestSet();
  set.put('cluster.yaml', readManifest('cluster.yaml', yaml, new Sharing(), written));
  return inventoryOf('directory', 'the directory shop', contentsOf(set), written, []);
}
