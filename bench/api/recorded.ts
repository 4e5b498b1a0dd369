/**
 * A recorded stream of watch events, played at a steady rate into a source and a reconciler of this process, with the real kernel behind
 * them: whether they keep up.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Poller } from 'nftables-js';
import { Cluster } from '../../src/cluster/cluster.ts';
import { DEFAULT_CUT_MARK } from '../../src/enforcement/conntrack/flow-sweep.ts';
import { NftablesEnforcement } from '../../src/enforcement/nftables/nftables-enforcement.ts';
import { Reconciler } from '../../src/enforcement/reconciler.ts';
import type { ListClient, ListRequest } from '../../src/kubernetes/api/reflector.ts';
import { NodeRuleset } from '../../src/ruleset/node-ruleset.ts';
import { KubernetesSource, WATCHED } from '../../src/sources/kubernetes.ts';
import { type Latency, latency } from '../statistics.ts';
import { type ApiObject, type ClusterShape, LOCAL_NODE, SyntheticCluster } from '../synthetic-cluster.ts';

export interface RecordedResult {
  readonly perSecond: number;
  readonly events: number;
  readonly commits: number;
  /** From when an event was due until it was in force, ms. */
  readonly latency: Latency;
  /** From when the last event was due until all were in force, ms. */
  readonly backlogMs: number;
}

export async function replay(shape: ClusterShape, perSecond: number, seconds: number): Promise<RecordedResult> {
  const synthetic = new SyntheticCluster(shape);
  const cluster = new Cluster(LOCAL_NODE);
  const poller = new Poller();
  const ruleset = new NodeRuleset(cluster);
  const enforcement = NftablesEnforcement.open({
    ownership: 'auto',
    logGroup: 100,
    cutMark: DEFAULT_CUT_MARK,
    poller,
    onDrift: () => reconciler.drifted(),
  });
  let commits = 0;
  const fail = (error: unknown): never => {
    throw error;
  };
  const reconciler = new Reconciler({
    cluster,
    ruleset,
    enforcement,
    sweep: undefined,
    observer: { committed: () => void commits++, failed: fail, swept: () => undefined, sweepFailed: fail },
  });
  const recording = new Recording(synthetic);
  const ignore = (): void => undefined;
  const source = new KubernetesSource({
    client: recording,
    observer: { failed: (_kind, error) => fail(error), heard: ignore, listing: ignore, listed: ignore },
  });
  const synced = Promise.withResolvers<void>();
  await source.start({
    events(events) {
      reconciler.push(events);
      if (events.some(({ type }) => type === 'synced')) synced.resolve();
    },
    problems: ignore,
  });
  await synced.promise;
  await reconciler.idle();
  commits = 0;
  const latencies: number[] = [];
  const count = perSecond * seconds;
  const lines = Array.from({ length: count }, (_, index) => recording.change(index));
  const startedAt = performance.now();
  for (let index = 0; index < count; ) {
    const due = Math.min(count, Math.floor(((performance.now() - startedAt) / 1000) * perSecond));
    if (index >= due) {
      await sleep(1);
      continue;
    }
    const first = index;
    for (; index < due; index++) recording.emit(lines[index] ?? fail(index));
    await recording.taken();
    await reconciler.idle();
    const now = performance.now();
    for (let each = first; each < due; each++) latencies.push(now - startedAt - (each / perSecond) * 1000);
  }
  const backlogMs = performance.now() - startedAt - (count / perSecond) * 1000;
  await source.stop();
  await reconciler.stop();
  enforcement.close();
  poller.close();
  return { perSecond, events: count, commits, latency: latency(latencies), backlogMs: Math.max(0, backlogMs) };
}

interface Line {
  readonly path: string;
  readonly text: string;
}

/** Lists what is in a synthetic cluster, and then sends what it is told to. */
class Recording implements ListClient {
  readonly #synthetic: SyntheticCluster;
  readonly #waiting = new Map<string, (lines: string[]) => void>();
  readonly #pending = new Map<string, string[]>();
  #version = 1_000_000_000;

  constructor(synthetic: SyntheticCluster) {
    this.#synthetic = synthetic;
  }

  async get({ path, signal }: ListRequest): Promise<AsyncIterable<Buffer>> {
    return this.#body(path, signal);
  }

  async *#body(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
    for (const object of this.#synthetic.objects()) if (WATCHED[object.kind] === path) yield this.#event('ADDED', object);
    const metadata = { resourceVersion: '1', annotations: { 'k8s.io/initial-events-end': 'true' } };
    yield Buffer.from(`${JSON.stringify({ type: 'BOOKMARK', object: { metadata } })}\n`);
    while (!signal.aborted) {
      const lines = this.#pending.get(path) ?? (await this.#next(path, signal));
      this.#pending.delete(path);
      if (lines.length > 0) yield Buffer.from(lines.join(''));
    }
  }

  #next(path: string, signal: AbortSignal): Promise<string[]> {
    return new Promise((resolve) => {
      this.#waiting.set(path, resolve);
      signal.addEventListener('abort', () => resolve([]), { once: true });
    });
  }

  #event(type: string, object: ApiObject): Buffer {
    return Buffer.from(`${JSON.stringify({ type, object: versioned(object, ++this.#version) })}\n`);
  }

  /** Of ten: eight pods that say they are alive, one that joins another application or its own again, and a policy with another port. */
  change(index: number): Line {
    const { pods, policies } = this.#synthetic.shape;
    const ten = Math.floor(index / 10);
    const object =
      index % 10 === 0
        ? this.#synthetic.policy((ten * 3) % policies, ten)
        : index % 10 === 5
          ? inApplication(this.#synthetic.pod((ten * 7) % pods), ten)
          : this.#synthetic.pod((index * 7) % pods);
    return { path: WATCHED[object.kind], text: this.#event('MODIFIED', object).toString() };
  }

  emit({ path, text }: Line): void {
    const pending = this.#pending.get(path);
    if (pending === undefined) this.#pending.set(path, [text]);
    else pending.push(text);
  }

  /** Hands over what was emitted; resolves when it has been taken. */
  async taken(): Promise<void> {
    for (const [path, lines] of this.#pending) {
      const waiting = this.#waiting.get(path);
      if (waiting === undefined) continue;
      this.#waiting.delete(path);
      this.#pending.delete(path);
      waiting(lines);
    }
    await new Promise(setImmediate);
  }
}

function versioned(object: ApiObject, version: number): object {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
}

function inApplication(pod: ApiObject, variant: number): ApiObject {
  if (variant % 2 === 0) return pod;
  const labels = pod.metadata['labels'] as Readonly<Record<string, string>>;
  return { ...pod, metadata: { ...pod.metadata, labels: { ...labels, app: labels['app'] === 'web' ? 'api' : 'web' } } };
}
