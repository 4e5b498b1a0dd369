/**
 * A scenario's objects in an API server: applied as `kubectl apply --server-side` would, with the status that the components of a real
 * cluster would fill in.
 *
 * What the API refuses (and what says of itself what only the API may say: uid, creationTimestamp, deletionTimestamp) is written into
 * the API server's storage, as an older version may have left it there: it has to be in force as far as it can be read.
 */
import { ApiError } from '../../kubernetes/api/errors.ts';
import { isObjectKind, KINDS, type ObjectKind, readKey } from '../../kubernetes/projections.ts';
import { Sharing } from '../../kubernetes/sharing.ts';
import { WATCHED, revisionOf } from '../../sources/kubernetes.ts';
import { versionOf } from '../../kubernetes/api/reflector.ts';
import { isRecord, type ScenarioObject } from '../manifests.ts';
import type { ApiServer } from './api-server.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Where the API server keeps a kind, below `/registry/`. */
const STORED: Readonly<Record<ObjectKind, string>> = {
  Namespace: 'namespaces',
  Node: 'minions',
  NetworkPolicy: 'networkpolicies',
  Pod: 'pods',
};
/** What other objects are in comes first. */
const ORDER: readonly string[] = ['Namespace', 'Node', 'NetworkPolicy', 'Pod'];
const ONLY_THE_API = ['uid', 'creationTimestamp', 'deletionTimestamp'];
const MANAGER = 'sluice-lab';

export class ApiObjects {
  readonly #server: ApiServer;
  /** Objects that are written into the storage, by id. */
  readonly #stored = new Set<string>();

  constructor(server: ApiServer) {
    this.#server = server;
  }

  /** Brings the API server's objects from one state to another; kinds that agents do not read are left out. */
  async replace(before: ReadonlyMap<string, ScenarioObject>, after: ReadonlyMap<string, ScenarioObject>): Promise<void> {
    const order = ({ kind }: ScenarioObject): number => ORDER.indexOf(kind);
    const gone = [...before].filter(([id]) => !after.has(id)).map(([, object]) => object);
    for (const object of gone.sort((a, b) => order(b) - order(a))) await this.#delete(object);
    const changed = [...after].filter(([id, { text }]) => before.get(id)?.text !== text).map(([, object]) => object);
    for (const object of changed.sort((a, b) => order(a) - order(b))) await this.#apply(object);
  }

  /** What an agent that has taken in everything says is in force (see KubernetesSource). */
  async revision(): Promise<string> {
    const objects: { kind: ObjectKind; key: string; version: string }[] = [];
    const sharing = new Sharing();
    for (const [kind, path] of Object.entries(WATCHED) as [ObjectKind, string][]) {
      const { object } = await this.#server.admin.call({ method: 'GET', path });
      const items = isRecord(object) && Array.isArray(object['items']) ? (object['items'] as unknown[]) : [];
      for (const item of items) {
        const key = readKey(kind, item, sharing);
        if (key !== undefined) objects.push({ kind, key, version: versionOf(item) ?? '' });
      }
    }
    return revisionOf(objects);
  }

  async #apply({ id, kind, namespace, name, value }: ScenarioObject): Promise<void> {
    if (!isObjectKind(kind)) return;
    const object = completed(kind, namespace, name, value);
    if (!this.#stored.has(id) && !saysWhatTheApiSays(value)) {
      try {
        await this.#applyByApi(kind, namespace, name, object);
        return;
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== 'API_REFUSED' || (error.status ?? 500) >= 500) throw error;
      }
    }
    this.#stored.add(id);
    await this.#server.store([STORED[kind], ...(namespace === '' ? [] : [namespace]), name].join('/'), object);
  }

  async #applyByApi(kind: ObjectKind, namespace: string, name: string, object: Fields): Promise<void> {
    const { admin } = this.#server;
    const path = pathOf(kind, namespace, name);
    const { status, ...body } = object;
    await admin.call({
      method: 'PATCH',
      path,
      query: { fieldManager: MANAGER, force: 'true', fieldValidation: 'Ignore' },
      contentType: 'application/apply-patch+yaml',
      body,
    });
    if (status === undefined || (kind !== 'Pod' && kind !== 'Node')) return;
    await admin.call({ method: 'PATCH', path: `${path}/status`, contentType: 'application/merge-patch+json', body: { status } });
  }

  async #delete({ id, kind, namespace, name }: ScenarioObject): Promise<void> {
    if (!isObjectKind(kind)) return;
    this.#stored.delete(id);
    const { admin } = this.#server;
    const path = pathOf(kind, namespace, name);
    await admin.call({ method: 'DELETE', path, query: { gracePeriodSeconds: '0' } }).catch(ignoreMissing);
    // Nobody else empties a namespace that is deleted, and lets it go.
    if (kind === 'Namespace') {
      const body = { apiVersion: 'v1', kind, metadata: { name }, spec: { finalizers: [] } };
      await admin.call({ method: 'PUT', path: `${path}/finalize`, body }).catch(ignoreMissing);
    }
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof ApiError) || error.status !== 404) throw error;
}

function pathOf(kind: ObjectKind, namespace: string, name: string): string {
  const all = WATCHED[kind];
  if (namespace === '') return `${all}/${name}`;
  const slash = all.lastIndexOf('/');
  return `${all.slice(0, slash)}/namespaces/${namespace}${all.slice(slash)}/${name}`;
}

function saysWhatTheApiSays(value: Fields): boolean {
  const { metadata } = value;
  return isRecord(metadata) && ONLY_THE_API.some((field) => metadata[field] !== undefined && metadata[field] !== null);
}

/** With what the API wants to be told and policy does not care about: images, and names of containers. */
function completed(kind: ObjectKind, namespace: string, name: string, value: Fields): Fields {
  const metadata = { ...(isRecord(value['metadata']) ? value['metadata'] : {}), name, ...(namespace === '' ? {} : { namespace }) };
  const object: Fields = { ...value, apiVersion: KINDS[kind].apiVersion, kind, metadata };
  if (kind !== 'Pod') return object;
  const spec = isRecord(object['spec']) ? object['spec'] : {};
  return { ...object, spec: { ...spec, containers: containers(spec['containers'], 'main'), ...initContainers(spec) } };
}

function initContainers(spec: Fields): Fields {
  return Array.isArray(spec['initContainers']) && spec['initContainers'].length > 0
    ? { initContainers: containers(spec['initContainers'], 'init') }
    : {};
}

function containers(list: unknown, name: string): unknown {
  if (list !== undefined && list !== null && !Array.isArray(list)) return list;
  const given = (list ?? []) as unknown[];
  return (given.length === 0 ? [{}] : given).map((container, index) =>
    isRecord(container) ? { name: index === 0 ? name : `${name}-${index}`, image: 'registry.invalid/none', ...container } : container,
  );
}
