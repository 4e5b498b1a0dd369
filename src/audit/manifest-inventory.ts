/** An inventory from manifests: a directory of them, or what a bundle holds. */
import { type EndpointSlice, projectEndpointSlice, projectService, type Service } from '../kubernetes/service.ts';
import { Sharing } from '../kubernetes/sharing.ts';
import { projectWorkload, type Workload, WORKLOAD_KINDS } from '../kubernetes/workload.ts';
import { worldOf } from '../policy/world.ts';
import type { Address } from '../policy/address.ts';
import { type DirectoryContents, loadDirectory } from '../sources/load-directory.ts';
import { mayMatter } from '../sources/relevance.ts';
import type { ManifestVisitor, WrittenObject } from '../sources/manifest.ts';
import type { SourceProblem } from '../sources/source.ts';
import type { Inventory, MissingKind, Place, PodName, Seen, ServiceInventory, WrittenPolicy } from './inventory.ts';

/** Kinds that are taken in beside those that policy is made of, by the group that they are of. */
const OTHER_KINDS: ReadonlyMap<string, string> = new Map([
  ['Service', ''],
  ['EndpointSlice', 'discovery.k8s.io'],
  ...WORKLOAD_KINDS.map((kind) => [kind, groupOfWorkload(kind)] as const),
]);

function groupOfWorkload(kind: (typeof WORKLOAD_KINDS)[number]): string {
  if (kind === 'ReplicationController') return '';
  return kind === 'Job' || kind === 'CronJob' ? 'batch' : 'apps';
}

/** Keeps of a file's objects what an inventory needs beside what policy does. */
export class WrittenObjects implements ManifestVisitor {
  readonly #policies = new Map<string, WrittenObject>();
  readonly #others: WrittenObject[] = [];
  readonly #seen: Seen | undefined;
  readonly matters: ManifestVisitor['matters'];

  constructor(seen?: Seen, matters?: ManifestVisitor['matters']) {
    this.#seen = seen;
    this.matters = matters;
  }

  /** Of a policy that is said twice the first counts, as for {@link ManifestSet}. */
  read(object: WrittenObject): void {
    const { kind, key = '', value } = object;
    this.#seen?.(kind, value);
    if (kind === 'NetworkPolicy' && !this.#policies.has(key)) this.#policies.set(key, object);
  }

  other(object: WrittenObject): boolean {
    const { kind, apiVersion = '' } = object;
    const group = OTHER_KINDS.get(kind);
    if (group === undefined || group !== groupOf(apiVersion)) return false;
    this.#others.push(object);
    this.#seen?.(kind, object.value);
    return true;
  }

  written({ namespace, name }: { readonly namespace: string; readonly name: string }): WrittenPolicy | undefined {
    const object = this.#policies.get(`${namespace}/${name}`);
    if (object === undefined) return undefined;
    return { spec: object.value['spec'], place: (path) => placeOf(object, path) };
  }

  ofKind(...kinds: readonly string[]): readonly WrittenObject[] {
    return this.#others.filter(({ kind }) => kinds.includes(kind));
  }
}

function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

function placeOf({ origin, line }: WrittenObject, path: string): Place {
  return { file: origin.replace(/#\d+$/u, ''), line: line(path), path };
}

export interface DirectoryQuestion {
  readonly seen?: Seen | undefined;
  /** The question is about these pods, and about nobody else: of YAML no more is read than that takes. */
  readonly pods?: readonly PodName[] | undefined;
}

/** @throws SluiceError where there is no such directory; what is wrong in it is among the problems */
export async function readDirectory(directory: string, { seen, pods }: DirectoryQuestion = {}): Promise<Inventory> {
  return (pods && (await readAround(directory, pods))) ?? (await readOnce(directory, new WrittenObjects(seen)));
}

async function readOnce(directory: string, written: WrittenObjects): Promise<Inventory> {
  return inventoryOf('directory', `the directory ${directory}`, await loadDirectory(directory, written), written, []);
}

/**
 * What a verdict between these pods depends on: the pods, others that claim one of their addresses, their nodes, the policies and labels of
 * their namespaces. First the pods are found by their names, then all by what these have. Undefined: one of them is not there, or has no
 * address, and then everything is needed to say what that means.
 */
async function readAround(directory: string, names: readonly PodName[]): Promise<Inventory | undefined> {
  const words = {
    pods: new Set(names.map(({ name }) => name)),
    namespaces: new Set(names.map(({ namespace }) => namespace)),
    nodes: new Set<string>(),
    addresses: new Set<Address>(),
  };
  let passedOver = 0;
  const read = (): Promise<Inventory> => {
    const matters = (text: string): boolean => {
      const isWanted = mayMatter(text, words);
      if (!isWanted) passedOver++;
      return isWanted;
    };
    return readOnce(directory, new WrittenObjects(undefined, matters));
  };
  const first = await read();
  const found = names.map(({ namespace, name }) => first.pods.find((pod) => pod.namespace === namespace && pod.name === name));
  if (passedOver === 0) return first;
  for (const pod of found) {
    if (pod === undefined || pod.addresses.length === 0) return undefined;
    for (const address of pod.addresses) words.addresses.add(address);
    if (pod.node !== '') words.nodes.add(pod.node);
  }
  return await read();
}

/** An inventory of what manifests say. */
export function inventoryOf(
  kind: Inventory['kind'],
  origin: string,
  contents: DirectoryContents,
  written: WrittenObjects,
  missing: readonly MissingKind[],
): Inventory {
  const { services, slices, workloads, problems } = projectOthers(written);
  const found: ServiceInventory = { services, slices };
  return {
    ...contents,
    kind,
    origin,
    problems: [...contents.problems, ...problems],
    missing,
    world: worldOf(contents),
    written: (policy) => written.written(policy),
    services: () => Promise.resolve(found),
    workloads: () => Promise.resolve(workloads),
  };
}

interface Others {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  readonly workloads: readonly Workload[];
  readonly problems: readonly SourceProblem[];
}

function projectOthers(written: WrittenObjects): Others {
  const sharing = new Sharing();
  const problems: SourceProblem[] = [];
  /** Those that can be read; of one that is said twice the first. */
  const all = <T extends { readonly namespace: string; readonly name: string }>(
    kinds: readonly string[],
    project: (object: WrittenObject) => T | string,
  ): T[] => {
    const read = new Map<string, T>();
    for (const object of written.ofKind(...kinds)) {
      const projected = project(object);
      if (typeof projected === 'string') {
        const { origin, kind } = object;
        const message = `${projected.replaceAll('\n', '; ')}; the ${kind} is left out`;
        problems.push({ severity: 'warning', origin, line: object.line(''), path: '', code: 'OBJECT_LEFT_OUT', message });
        continue;
      }
      const key = `${object.kind} ${projected.namespace}/${projected.name}`;
      if (!read.has(key)) read.set(key, projected);
    }
    return [...read.values()].sort(byName);
  };
  const services = all(['Service'], ({ value }) => projectService(value));
  const slices = all(['EndpointSlice'], ({ value }) => projectEndpointSlice(value));
  const workloads = all(WORKLOAD_KINDS, ({ kind, value }) => {
    const known = WORKLOAD_KINDS.find((one) => one === kind);
    return known === undefined ? `${kind} is no workload` : projectWorkload(known, value, sharing);
  });
  return { services, slices, workloads, problems };
}

interface Named {
  readonly namespace: string;
  readonly name: string;
}

/** By namespace and then by name, by code units. */
export function byName(a: Named, b: Named): number {
  return compare(a.namespace, b.namespace) || compare(a.name, b.name);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
