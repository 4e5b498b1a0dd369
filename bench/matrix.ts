/**
 * How long `sluice matrix` takes beside a few thousand pods: the whole program, from its start to the last byte that it prints. In an
 * ordinary cluster, whose pods share their labels with others; and where every pod has a label of its own and policies of its own about it,
 * so that no two can be put together.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { type Spread, spread } from './statistics.ts';
import { type ApiObject, proportionalShape, SyntheticCluster } from './synthetic-cluster.ts';

export interface MatrixPlan {
  readonly pods: number;
  readonly runs: number;
}

export const MATRIX_PLAN: MatrixPlan = { pods: 2_000, runs: 7 };
export const QUICK_MATRIX_PLAN: MatrixPlan = { pods: 100, runs: 1 };

export interface MatrixResult {
  readonly pods: number;
  readonly cases: readonly MatrixCase[];
}

export interface MatrixCase {
  readonly name: string;
  readonly ms: Spread;
  /** What the answer is about, as its last line says. */
  readonly flows: number;
}

export function measureMatrix({ pods, runs }: MatrixPlan, progress: (text: string) => void): MatrixResult {
  const root = mkdtempSync(join(tmpdir(), 'sluice-bench-matrix-'));
  try {
    const shared = [...new SyntheticCluster(proportionalShape(pods, Math.min(pods, 110))).objects()];
    const yaml = shared.map((object) => stringify(object)).join('---\n');
    const cases: readonly (readonly [name: string, file: string, text: string, format: string])[] = [
      ['shared labels, objects as JSON', 'all.json', listOf(shared), 'table'],
      ['the same, objects as YAML', 'all.yaml', yaml, 'table'],
      ['the same, the page', 'all.json', listOf(shared), 'html'],
      ['a label and a policy for each pod', 'all.json', listOf(particular(shared)), 'table'],
    ];
    return {
      pods,
      cases: cases.map(([name, file, text, format], index) => {
        progress(name);
        const directory = join(root, String(index));
        mkdirSync(directory);
        writeFileSync(join(directory, file), text);
        const ran = Array.from({ length: runs }, () => run(directory, format));
        return { name, ms: spread(ran.map(({ ms }) => ms)), flows: ran[0]?.flows ?? 0 };
      }),
    };
  } finally {
    rmSync(root, { recursive: true });
  }
}

function listOf(items: readonly ApiObject[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

/** The same pods, each with a label of its own; in place of the policies one for each pod, with one peer in either direction. */
function particular(objects: readonly ApiObject[]): ApiObject[] {
  const pods = objects.filter(({ kind }) => kind === 'Pod');
  const only = (index: number): unknown => ({
    namespaceSelector: {},
    podSelector: { matchLabels: { own: `p${index % pods.length}` } },
  });
  const labelled = pods.map((pod, index) => {
    const labels = { ...(pod.metadata['labels'] as Record<string, string>), own: `p${index}` };
    return { ...pod, metadata: { ...pod.metadata, labels } };
  });
  const policies = pods.map(
    (pod, index): ApiObject => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: pod.metadata.namespace ?? '', name: `own-${index}` },
      spec: {
        podSelector: { matchLabels: { own: `p${index}` } },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [only(index * 7 + 1)] }],
        egress: [{ to: [only(index * 11 + 1)] }],
      },
    }),
  );
  return [...objects.filter(({ kind }) => kind !== 'Pod' && kind !== 'NetworkPolicy'), ...labelled, ...policies];
}

function run(directory: string, format: string): { readonly ms: number; readonly flows: number } {
  const program = new URL('../bin/sluice.js', import.meta.url).pathname;
  const started = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'matrix', '--source', directory, '-o', format], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  const ms = performance.now() - started;
  if (status !== 0) throw new Error(`sluice matrix ended with status ${status}: ${stderr}`);
  const [, allowed, denied] = /"allowed":(\d+),"denied":(\d+)/u.exec(stdout) ?? /: (\d+) allowed, (\d+) denied\n$/u.exec(stdout) ?? [];
  return { ms, flows: Number(allowed) + Number(denied) };
}
