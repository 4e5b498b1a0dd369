/**
 * How long a change takes to be in force on a pod that many policies select and that has many live flows, and what it costs others that all of
 * these are cut at once. One process a number of flows, all alive at once and measured in turns.
 */
import { MeasuringProcess } from '../measuring-process.ts';
import { type Latency, latency } from '../statistics.ts';
import type { Answer, MassCut, Request, Stream } from './protocol.ts';

export interface LiveFlowsPlan {
  readonly policies: number;
  readonly flows: readonly number[];
  readonly rounds: number;
  /** In a round. */
  readonly changes: number;
  readonly everyMs: number;
  /** So many flows are cut at once; as many as the kernel's table has room for. */
  readonly cutFlows: number;
  readonly cuts: number;
}

export const LIVE_FLOWS_PLAN: LiveFlowsPlan = {
  policies: 500,
  flows: [0, 1_000, 10_000, 100_000],
  rounds: 5,
  changes: 100,
  everyMs: 50,
  cutFlows: 262_000,
  cuts: 5,
};

export const QUICK_LIVE_FLOWS_PLAN: LiveFlowsPlan = {
  policies: 20,
  flows: [0, 1_000],
  rounds: 1,
  changes: 20,
  everyMs: 20,
  cutFlows: 5_000,
  cuts: 1,
};

export interface BusyPodResult {
  readonly flows: number;
  /** From when it is due to the kernel's answer. */
  readonly change: Latency;
  readonly longestStallMs: number;
}

export interface CutResult {
  readonly flows: number;
  /** The fewest that were cut in any of the times: all of them, or a flow has escaped. */
  readonly cut: number;
  readonly others: Latency;
  readonly longestStallMs: number;
  readonly lastCutMs: readonly number[];
  /** At most, more than before. */
  readonly growthBytes: number;
  readonly peakBytes: number;
}

export interface LiveFlowsResult {
  readonly policies: number;
  readonly pods: readonly BusyPodResult[];
  readonly cut: CutResult;
}

export async function measureLiveFlows(plan: LiveFlowsPlan, progress: (text: string) => void): Promise<LiveFlowsResult> {
  const nodes: { readonly flows: number; readonly process: MeasuringProcess<Request, Answer>; readonly streams: Stream[] }[] = [];
  try {
    for (const flows of plan.flows) {
      progress(`a pod with ${flows} flows`);
      nodes.push({ flows, process: await start(plan.policies, flows), streams: [] });
    }
    for (let round = 1; round <= plan.rounds; round++) {
      progress(`round ${round} of ${plan.rounds}`);
      for (const { process, streams } of nodes) {
        const answer = await process.ask({ changes: plan.changes, everyMs: plan.everyMs });
        if ('stream' in answer) streams.push(answer.stream);
      }
    }
  } finally {
    for (const { process } of nodes) process.stop();
  }
  const pods = nodes.map(({ flows, streams }) => ({ flows, ...summary(streams) }));
  return {
    policies: plan.policies,
    pods: pods.map(({ latency: change, ...rest }) => ({ change, ...rest })),
    cut: await measureCuts(plan, progress),
  };
}

async function measureCuts({ policies, cutFlows, cuts }: LiveFlowsPlan, progress: (text: string) => void): Promise<CutResult> {
  const process = await start(policies, cutFlows);
  try {
    const results: MassCut[] = [];
    for (let count = 1; count <= cuts; count++) {
      progress(`${cutFlows} flows are cut: ${count} of ${cuts}`);
      const answer = await process.ask({ cut: { everyMs: 10 } });
      if ('massCut' in answer) results.push(answer.massCut);
    }
    const { latency: others, longestStallMs } = summary(results.map((result) => result.others));
    return {
      flows: cutFlows,
      cut: Math.min(...results.map(({ cut }) => cut)),
      others,
      longestStallMs,
      lastCutMs: results.map(({ lastCutMs }) => lastCutMs),
      growthBytes: Math.max(...results.map(({ beforeBytes, peakBytes }) => peakBytes - beforeBytes)),
      peakBytes: Math.max(...results.map(({ peakBytes }) => peakBytes)),
    };
  } finally {
    process.stop();
  }
}

async function start(policies: number, flows: number): Promise<MeasuringProcess<Request, Answer>> {
  const process = new MeasuringProcess<Request, Answer>(new URL('node.ts', import.meta.url), { nodeFlags: ['--max-semi-space-size=2'] });
  const answer = await process.ask({ start: { policies, flows } });
  if (!('started' in answer) || answer.started.flows < flows) throw new Error(`the kernel has no room for ${flows} flows`);
  return process;
}

function summary(streams: readonly Stream[]): { readonly latency: Latency; readonly longestStallMs: number } {
  return {
    latency: latency(streams.flatMap(({ latenciesMs }) => latenciesMs)),
    longestStallMs: Math.max(...streams.map(({ longestStallMs }) => longestStallMs)),
  };
}
