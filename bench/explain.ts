/**
 * How long `sluice explain` takes beside a large cluster: the whole program, from its start to its end, with the objects from an API server
 * and from a directory. The ends are pods of different namespaces; what is asked is one port.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ApiServer } from '../src/lab/api/api-server.ts';
import { fillApiServer } from './api/fill.ts';
import { type Spread, spread } from './statistics.ts';
import { type ApiObject, type ClusterShape, SyntheticCluster } from './synthetic-cluster.ts';

export interface ExplainPlan {
  readonly shape: ClusterShape;
  readonly runs: number;
}

export const EXPLAIN_PLAN: ExplainPlan = {
  shape: { pods: 20_000, namespaces: 1_000, policies: 1_000, localPods: 110 },
  runs: 7,
};
export const QUICK_EXPLAIN_PLAN: ExplainPlan = { shape: { pods: 100, namespaces: 5, policies: 10, localPods: 10 }, runs: 1 };

export interface ExplainResult {
  readonly shape: ClusterShape;
  readonly cases: readonly ExplainCase[];
}

export interface ExplainCase {
  readonly name: string;
  readonly ms: Spread;
  /** Bytes of the objects as text; undefined of an API server's. */
  readonly bytes: number | undefined;
}

export async function measureExplain({ shape, runs }: ExplainPlan, progress: (text: string) => void): Promise<ExplainResult> {
  const root = mkdtempSync(join(tmpdir(), 'sluice-bench-explain-'));
  try {
    const synthetic = new SyntheticCluster(shape);
    const objects = [...synthetic.objects()];
    const ask = (flags: readonly string[]): Spread => spread(Array.from({ length: runs }, () => run(synthetic, flags)));
    const cases: ExplainCase[] = [];
    progress('an API server is filled');
    const api = await ApiServer.start({ state: join(root, 'api') });
    try {
      await fillApiServer(api, synthetic, progress);
      progress('explain, from the API server');
      cases.push({ name: 'an API server', ms: ask(['--kubeconfig', api.kubeconfig('admin')]), bytes: undefined });
    } finally {
      await api.close();
    }
    for (const [name, file, text] of directories(objects)) {
      progress(`explain, from ${name}`);
      const directory = join(root, file);
      mkdirSync(directory);
      writeFileSync(join(directory, file), text);
      cases.push({ name, ms: ask(['--source', directory]), bytes: Buffer.byteLength(text) });
    }
    return { shape, cases };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function directories(objects: readonly ApiObject[]): (readonly [name: string, file: string, text: string])[] {
  return [
    ['a directory, as JSON', 'all.json', JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })],
    ['a directory, as YAML', 'all.yaml', objects.map((object) => stringify(object)).join('---\n')],
  ];
}

function run(synthetic: SyntheticCluster, flags: readonly string[]): number {
  const program = new URL('../bin/sluice.js', import.meta.url).pathname;
  const name = (number: number): string => {
    const { namespace, name: own } = synthetic.pod(number).metadata;
    return `${namespace}/${own}`;
  };
  const started = performance.now();
  const args = [program, 'explain', ...flags, name(1), `${name(synthetic.shape.pods - 1)}:8080`];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  const ms = performance.now() - started;
  // Refused or allowed: an answer.
  if ((status !== 0 && status !== 1) || !/ (refused|allowed)\n/u.test(stdout))
    throw new Error(`sluice explain ended with status ${status}: ${stderr}`);
  return ms;
}
