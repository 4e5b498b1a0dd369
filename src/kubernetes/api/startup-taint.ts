/**
 * A taint that keeps pods off a node until its agent is ready: nodes are registered with it (`kubelet --register-with-taints`), and the
 * agent takes it away. So no pod runs on a new node before policy is enforced there.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isFields } from '../../policy/problems.ts';
import type { ApiClient } from './client.ts';
import { Backoff } from './backoff.ts';
import { ApiError } from './errors.ts';

export interface StartupTaintOptions {
  readonly client: Pick<ApiClient, 'call'>;
  readonly node: string;
  /** `sluice/agent-not-ready`; its value and effect do not matter. */
  readonly key: string;
  readonly signal: AbortSignal;
  /** It is tried again. */
  readonly onError: (error: unknown) => void;
}

/** Resolves when the node does not have the taint any more; whether it had it. */
export async function removeStartupTaint(options: StartupTaintOptions): Promise<boolean> {
  const backoff = new Backoff();
  for (;;) {
    try {
      return await removeOnce(options);
    } catch (error) {
      if (options.signal.aborted) return false;
      // Somebody else changed the taints meanwhile: look again.
      const isRace = error instanceof ApiError && (error.status === 409 || error.status === 422);
      if (!isRace) options.onError(error);
      await sleep(backoff.failed(error instanceof ApiError ? error.retryAfterMs : undefined), undefined, { signal: options.signal }).catch(
        () => undefined,
      );
    }
  }
}

async function removeOnce({ client, node, key, signal }: StartupTaintOptions): Promise<boolean> {
  const path = `/api/v1/nodes/${encodeURIComponent(node)}`;
  const { object } = await client.call({ method: 'GET', path, signal });
  const spec = isFields(object) ? object['spec'] : undefined;
  const taints = isFields(spec) && Array.isArray(spec['taints']) ? (spec['taints'] as unknown[]) : [];
  const rest = taints.filter((taint) => !isFields(taint) || taint['key'] !== key);
  if (rest.length === taints.length) return false;
  // The test makes it a race that is noticed, and not a taint of somebody else's that is lost.
  const body = [
    { op: 'test', path: '/spec/taints', value: taints },
    { op: 'replace', path: '/spec/taints', value: rest },
  ];
  await client.call({ method: 'PATCH', path, contentType: 'application/json-patch+json', body, signal });
  return true;
}
