/** From the start of an agent's process to its first commit, beside a large cluster; and what the objects would take to parse. */
import { readFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { readDocuments } from '../../src/sources/documents.ts';
import { MeasuringProcess, type ProcessOptions } from '../measuring-process.ts';
import { median } from '../statistics.ts';
import { type ClusterShape, SyntheticCluster } from '../synthetic-cluster.ts';

/** Of one start. */
export interface ColdStart {
  /** From the start of the process to the kernel's answer, ms. */
  readonly totalMs: number;
  /** CPU time of all its threads, of which compiling and collecting garbage go on beside the main one. */
  readonly cpuMs: number;
  /** Of that, making the objects: it takes the place of reading and parsing them. */
  readonly generationMs: number;
  readonly commitMs: number;
  /** Largest resident set up to the commit (VmHWM). */
  readonly peakBytes: number;
  /** V8's heap at the commit, garbage included. */
  readonly heapBytes: number;
}

export interface ColdStartPlan {
  readonly shape: ClusterShape;
  readonly starts: number;
  /** Objects that are parsed as JSON, and a tenth of them as YAML. */
  readonly parsed: number;
}

export const COLD_START_PLAN: ColdStartPlan = {
  shape: { pods: 100_000, namespaces: 5_000, policies: 10_000, localPods: 110 },
  starts: 7,
  parsed: 10_000,
};
export const QUICK_COLD_START_PLAN: ColdStartPlan = {
  shape: { pods: 2_000, namespaces: 100, policies: 200, localPods: 110 },
  starts: 1,
  parsed: 100,
};

export interface ColdStartResult {
  readonly shape: ClusterShape;
  readonly starts: readonly ColdStart[];
  /** For all objects of the cluster, ms. */
  readonly parsing: { readonly jsonMs: number; readonly yamlMs: number; readonly jsonBytes: number };
}

export async function measureColdStart(plan: ColdStartPlan, progress: (text: string) => void): Promise<ColdStartResult> {
  const starts: ColdStart[] = [];
  for (let start = 1; start <= plan.starts; start++) {
    progress(`start ${start} of ${plan.starts}`);
    const agent = new MeasuringProcess<never, ColdStart>(new URL('agent.ts', import.meta.url), {
      ...asTheProgram(),
      args: [JSON.stringify(plan.shape)],
    });
    try {
      starts.push(await agent.answer());
    } finally {
      agent.stop();
    }
  }
  progress('parsing');
  return { shape: plan.shape, starts, parsing: parsing(plan) };
}

/** How bin/sluice.js starts: the flags of its first line, and its cache of compiled code. */
export function asTheProgram(): ProcessOptions {
  const [first = ''] = readFileSync(new URL('../../bin/sluice.js', import.meta.url), 'utf8').split('\n');
  return {
    nodeFlags: first.split(' ').filter((word) => word.startsWith('--')),
    env: { NODE_COMPILE_CACHE: new URL('../../node_modules/.cache/sluice', import.meta.url).pathname },
  };
}

function parsing({ shape, parsed }: ColdStartPlan): ColdStartResult['parsing'] {
  const objects = [...new SyntheticCluster(shape).objects()];
  // Every so many of them, so that each kind has its share.
  const sample = objects.filter((_, index) => index % Math.ceil(objects.length / parsed) === 0);
  const texts = sample.map((object) => JSON.stringify(object));
  const yaml = sample.filter((_, index) => index % 10 === 0).map((object) => stringify(object));
  const timed = (action: () => void): number => {
    const times = [1, 2, 3].map(() => {
      const started = performance.now();
      action();
      return performance.now() - started;
    });
    return median(times);
  };
  const share = objects.length / sample.length;
  return {
    jsonMs: timed(() => texts.forEach((text) => JSON.parse(text))) * share,
    yamlMs: timed(() => yaml.forEach((text) => readDocuments(text))) * (objects.length / yaml.length),
    jsonBytes: texts.reduce((sum, text) => sum + text.length, 0) * share,
  };
}
