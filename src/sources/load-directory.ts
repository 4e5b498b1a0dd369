/** A directory read once, for commands that answer and end. */
import { Sharing } from '../kubernetes/sharing.ts';
import type { Namespace, Node, Pod, Policy } from '../policy/objects.ts';
import { DirectoryReader, directoryError } from './directory-reader.ts';
import { listTree } from './directory-tree.ts';
import type { ManifestVisitor } from './manifest.ts';
import { ManifestSet } from './manifest-set.ts';
import type { SourceProblem } from './source.ts';

/** Each list ordered by namespace and name; problems by file and position. */
export interface DirectoryContents {
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly policies: readonly Policy[];
  readonly problems: readonly SourceProblem[];
}

/** Throws a SluiceError where there is no such directory; all that is wrong in it is among the problems. */
export async function loadDirectory(directory: string, visitor?: ManifestVisitor): Promise<DirectoryContents> {
  const tree = listTree(directory);
  const root = tree.unlisted.find(({ path }) => path === '');
  if (root !== undefined) throw directoryError(directory, root);
  const set = new ManifestSet();
  const reader = new DirectoryReader(directory, set, new Sharing(), visitor);
  await reader.apply(reader.compare(tree), tree.unlisted);
  return contentsOf(set);
}

/** Everything that the set's files say, for whoever does not watch it. */
export function contentsOf(set: ManifestSet): DirectoryContents {
  const { events, problems } = set.commit();
  const pods: Pod[] = [];
  const namespaces: Namespace[] = [];
  const nodes: Node[] = [];
  const policies: Policy[] = [];
  for (const event of events) {
    if (event.type !== 'upsert') continue;
    if (event.kind === 'Pod') pods.push(event.object);
    else if (event.kind === 'Namespace') namespaces.push(event.object);
    else if (event.kind === 'Node') nodes.push(event.object);
    else policies.push(event.object);
  }
  return { pods, namespaces, nodes, policies, problems: [...problems.values()].flat() };
}
