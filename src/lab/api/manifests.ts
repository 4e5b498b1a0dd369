/** What an agent needs in an API server, from manifests/base: the very roles that it has in a cluster. */
import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import type { ApiClient } from '../../kubernetes/api/client.ts';

const RBAC = new URL('../../../manifests/base/rbac.yaml', import.meta.url);
const ROLES = '/apis/rbac.authorization.k8s.io/v1';
const PATHS: Readonly<Record<string, string>> = {
  ClusterRole: `${ROLES}/clusterroles`,
  ClusterRoleBinding: `${ROLES}/clusterrolebindings`,
};

export async function applyRoles(admin: ApiClient): Promise<void> {
  for (const document of parseAllDocuments(readFileSync(RBAC, 'utf8'))) {
    const object = document.toJS() as { readonly kind: string; readonly metadata: { readonly name: string } };
    const path = PATHS[object.kind];
    // Service accounts are for pods; the lab's agents have a token instead.
    if (path === undefined) continue;
    const query = { fieldManager: 'sluice-lab', force: 'true' };
    await admin.call({
      method: 'PATCH',
      path: `${path}/${object.metadata.name}`,
      query,
      contentType: 'application/apply-patch+yaml',
      body: object,
    });
  }
}
