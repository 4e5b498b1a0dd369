/**
 * How long it takes until one changed pod or policy is in force, beside clusters and nodes of different sizes. One process a size, all
 * alive at once and measured in turns: whatever else the machine does meets them alike.
 */
import { MeasuringProcess } from '../measuring-process.ts';
import { type Latency, latency } from '../statistics.ts';
import { type ClusterShape, proportionalShape } from '../synthetic-cluster.ts';
import { type Answer, CHANGES, type ChangeKind, type NodeDescription, type Request, type Sample } from './protocol.ts';

export interface ChangesPlan {
  readonly shapes: readonly ClusterShape[];
  readonly rounds: number;
  /** Of each kind, in a round. */
  readonly events: number;
}

export const CHANGES_PLAN: ChangesPlan = {
  shapes: [
    proportionalShape(100, 100),
    proportionalShape(10_000, 110),
    proportionalShape(100_000, 110),
    proportionalShape(100_000, 1_000),
    proportionalShape(100_000, 10_000),
  ],
  rounds: 10,
  events: 30,
};

export const QUICK_CHANGES_PLAN: ChangesPlan = {
  shapes: [proportionalShape(100, 100), proportionalShape(1_000, 110)],
  rounds: 2,
  events: 10,
};

export interface ChangeLatencies {
  readonly total: Latency;
  readonly compute: Latency;
  readonly commit: Latency;
  readonly busy: Latency;
  /** Median. */
  readonly operations: number;
}

export interface ChangesResult {
  readonly node: NodeDescription;
  readonly changes: Readonly<Record<ChangeKind, ChangeLatencies>>;
}

export async function measureChanges(plan: ChangesPlan, progress: (text: string) => void): Promise<ChangesResult[]> {
  const nodes: Node[] = [];
  try {
    for (const shape of plan.shapes) {
      progress(`starting a node with ${shape.localPods} of ${shape.pods} pods`);
      nodes.push(await Node.start(shape));
    }
    // The first round warms up.
    for (let round = 0; round <= plan.rounds; round++) {
      progress(round === 0 ? 'warming up' : `round ${round} of ${plan.rounds}`);
      for (const kind of CHANGES) for (const node of nodes) await node.measure(kind, plan.events, round > 0);
    }
    return nodes.map((node) => node.result());
  } finally {
    for (const node of nodes) node.stop();
  }
}

class Node {
  readonly #process = new MeasuringProcess<Request, Answer>(new URL('node.ts', import.meta.url));
  readonly #samples = new Map<ChangeKind, Sample[]>(CHANGES.map((kind) => [kind, []]));
  #description: NodeDescription | undefined;

  static async start(shape: ClusterShape): Promise<Node> {
    const node = new Node();
    const answer = await node.#process.ask({ start: shape });
    if ('started' in answer) node.#description = answer.started;
    return node;
  }

  async measure(kind: ChangeKind, events: number, counts: boolean): Promise<void> {
    const answer = await this.#process.ask({ measure: kind, events });
    if (counts && 'samples' in answer) this.#samples.get(kind)?.push(...answer.samples);
  }

  result(): ChangesResult {
    if (this.#description === undefined) throw new Error('the node has not been started');
    const entries = [...this.#samples].map(([kind, samples]) => [kind, summary(samples)] as const);
    return { node: this.#description, changes: Object.fromEntries(entries) as ChangesResult['changes'] };
  }

  stop(): void {
    this.#process.stop();
  }
}

function summary(samples: readonly Sample[]): ChangeLatencies {
  const of = (field: keyof Sample): Latency => latency(samples.map((sample) => sample[field]));
  return { total: of('total'), compute: of('compute'), commit: of('commit'), busy: of('busy'), operations: of('operations').p50 };
}
