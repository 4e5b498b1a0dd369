/** Putting drawn objects into an API server and taking them away again, as a tenant and the node of its pods would. */
import type { ApiClient } from '../../../src/kubernetes/api/client.ts';
import { ApiError } from '../../../src/kubernetes/api/errors.ts';
import type { HostileObject } from '../generator/draw.ts';

type Kind = HostileObject['object']['kind'];

const COLLECTIONS: Readonly<Record<Kind, (namespace: string) => string>> = {
  NetworkPolicy: (namespace) => `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`,
  Pod: (namespace) => `/api/v1/namespaces/${namespace}/pods`,
  Namespace: () => '/api/v1/namespaces',
  Node: () => '/api/v1/nodes',
};

const MERGE = 'application/merge-patch+json';
const RELABELLED = 8;

function collectionOf({ object }: HostileObject): string {
  return COLLECTIONS[object.kind](object.metadata.namespace ?? '');
}

function pathOf(hostile: HostileObject): string {
  return `${collectionOf(hostile)}/${hostile.object.metadata.name}`;
}

/** What the API server says against an object (and, of a pod, its status); undefined: it takes it. */
export async function refusalOf(admin: ApiClient, hostile: HostileObject): Promise<string | undefined> {
  try {
    await admin.call({ method: 'POST', path: collectionOf(hostile), query: { dryRun: 'All' }, body: hostile.object });
    return undefined;
  } catch (error) {
    return refusal(error);
  }
}

/** Makes it, and moves it as drawn. @returns what the API server says against its status, which it can only be asked about once the pod is there */
export async function create(admin: ApiClient, hostile: HostileObject): Promise<string | undefined> {
  await admin.call({ method: 'POST', path: collectionOf(hostile), body: hostile.object });
  const refused = await giveStatus(admin, hostile, true);
  if (refused !== undefined) return refused;
  await move(admin, hostile);
  return undefined;
}

async function giveStatus(admin: ApiClient, hostile: HostileObject, dryRun: boolean): Promise<string | undefined> {
  const { status } = hostile;
  if (status === undefined) return undefined;
  const patch = { method: 'PATCH', path: `${pathOf(hostile)}/status`, contentType: MERGE, body: { status } } as const;
  try {
    if (dryRun) await admin.call({ ...patch, query: { dryRun: 'All' } });
    await admin.call(patch);
    return undefined;
  } catch (error) {
    return refusal(error);
  }
}

async function move(admin: ApiClient, hostile: HostileObject): Promise<void> {
  const path = pathOf(hostile);
  switch (hostile.motion) {
    case undefined:
      return;
    case 'relabelled':
      for (let turn = 0; turn < RELABELLED; turn++) {
        const labels = { app: `v${turn}`, [`turn${turn}`]: 'yes', [`turn${turn - 1}`]: null };
        await admin.call({ method: 'PATCH', path, contentType: MERGE, body: { metadata: { labels } } });
      }
      return;
    case 'terminating':
      // Its node would end it, and does not.
      await admin.call({ method: 'DELETE', path, query: { gracePeriodSeconds: '3600' } });
      return;
    case 'replaced':
      await remove(admin, hostile);
      await admin.call({ method: 'POST', path: collectionOf(hostile), body: hostile.object });
      await giveStatus(admin, hostile, false);
      return;
    case 'status':
      for (const phase of ['Pending', 'Running', 'Succeeded', 'Running', 'Failed', 'Running']) {
        await admin.call({ method: 'PATCH', path: `${path}/status`, contentType: MERGE, body: { status: { phase } } });
      }
  }
}

/** Nothing is left of it, whatever keeps it. */
export async function remove(admin: ApiClient, hostile: HostileObject): Promise<void> {
  const path = pathOf(hostile);
  await admin.call({ method: 'PATCH', path, contentType: MERGE, body: { metadata: { finalizers: null } } }).catch(ignoring(404));
  // A pod that has been deleted with time to end is deleted anew, without.
  await admin.call({ method: 'DELETE', path, query: { gracePeriodSeconds: '0' } }).catch(ignoring(404));
  if (hostile.object.kind !== 'Namespace') return;
  const { name } = hostile.object.metadata;
  const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name }, spec: { finalizers: [] } };
  await admin.call({ method: 'PUT', path: `${path}/finalize`, body }).catch(ignoring(404));
}

function ignoring(status: number): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof ApiError) || error.status !== status) throw error;
  };
}

/** Of what the API server does not take, or takes longer than half a minute for; anything else is thrown on. */
function refusal(error: unknown): string {
  if (error instanceof ApiError && error.code === 'API_SILENT') return error.message;
  if (error instanceof ApiError && error.code === 'API_REFUSED' && (error.status ?? 500) < 500) return error.message;
  throw error;
}
