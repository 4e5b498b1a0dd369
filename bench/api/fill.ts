/** A synthetic cluster in an API server. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiServer } from '../../src/lab/api/api-server.ts';
import type { ApiObject, SyntheticCluster } from '../synthetic-cluster.ts';

/** As many requests as keep the API server busy. */
const WRITERS = 16;

/** Into the storage: the API would take minutes, and set the pods' status in requests of their own. */
export async function fillApiServer(api: ApiServer, synthetic: SyntheticCluster, progress: (text: string) => void): Promise<void> {
  const objects = synthetic.objects();
  let count = 0;
  const write = async (): Promise<void> => {
    for (let next = objects.next(); next.done !== true; next = objects.next()) {
      await api.store(storagePath(next.value), stored(next.value));
      if (++count % 20_000 === 0) progress(`${count} objects are stored`);
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
  // The server's caches follow its storage.
  const last = synthetic.pod(synthetic.shape.pods - 1).metadata;
  const path = `/api/v1/namespaces/${last.namespace}/pods/${last.name}`;
  while (
    await api.admin.call({ method: 'GET', path, query: { resourceVersion: '0' } }).then(
      () => false,
      () => true,
    )
  )
    await sleep(50);
}

function storagePath({ kind, metadata: { name, namespace } }: ApiObject): string {
  const resource = { Pod: 'pods', Namespace: 'namespaces', Node: 'minions', NetworkPolicy: 'networkpolicies' }[kind];
  return namespace === undefined ? `${resource}/${name}` : `${resource}/${namespace}/${name}`;
}

/** As the API server would have stored it: the version is its own to say, and pods have an image. */
export function stored(object: ApiObject): Readonly<Record<string, unknown>> {
  const { resourceVersion: _version, ownerReferences: _owners, ...metadata } = object.metadata;
  return { ...object, metadata };
}
