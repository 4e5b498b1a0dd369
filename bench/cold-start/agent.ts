/**
 * An agent that is started from nothing, with a source that has a large cluster ready: the process that is measured. Its source hands
 * API objects, already parsed, through the projections one by one, and emits them in pages.
 */
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { pino } from 'pino';
import { startAgent } from '../../src/agent.ts';
import { DEFAULT_CUT_MARK } from '../../src/enforcement/conntrack/flow-sweep.ts';
import { Sharing } from '../../src/kubernetes/sharing.ts';
import { ENFORCING } from '../../src/policy/mode.ts';
import type { Source, SourceListener } from '../../src/sources/source.ts';
import { pages } from '../feed.ts';
import { type ApiObject, type ClusterShape, LOCAL_NODE, SyntheticCluster } from '../synthetic-cluster.ts';
import type { ColdStart } from './cold-start.ts';

class SyntheticSource implements Source {
  readonly #cluster: SyntheticCluster;
  /** What making the objects took, ms: what would be reading and parsing. */
  generationMs = 0;

  constructor(shape: ClusterShape) {
    this.#cluster = new SyntheticCluster(shape);
  }

  async start(listener: SourceListener): Promise<void> {
    for (const page of pages(this.#timed(this.#cluster.objects()), new Sharing())) {
      listener.events(page);
      // Pages come over a network: the rest of the program gets its turn.
      await new Promise(setImmediate);
    }
    listener.events([{ type: 'synced' }]);
    listener.revision?.('all');
  }

  *#timed(objects: Iterator<ApiObject>): Generator<ApiObject> {
    for (;;) {
      const started = performance.now();
      const { done, value } = objects.next();
      this.generationMs += performance.now() - started;
      if (done === true) return;
      yield value;
    }
  }

  async stop(): Promise<void> {}
}

/** What /proc/self/status has, bytes. */
function memory(field: 'VmHWM' | 'VmRSS'): number {
  const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return Number(kibibytes) * 1024;
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

const shape = JSON.parse(process.argv[2] ?? '') as ClusterShape;
const source = new SyntheticSource(shape);
/** The agent tells what it has committed in its log. */
function line(text: string): void {
  const { message, commitMs } = JSON.parse(text) as { message: string; commitMs: number };
  if (message !== 'rules in force') {
    if (message !== 'reading the source') console.error(text);
    return;
  }
  const result: ColdStart = {
    // The clock of `performance` starts with the process.
    totalMs: performance.now(),
    cpuMs: cpuMs(),
    generationMs: source.generationMs,
    commitMs,
    peakBytes: memory('VmHWM'),
    heapBytes: process.memoryUsage().heapUsed,
  };
  // As the program does once it is in force.
  flushCompileCache();
  process.send?.(result, () => process.exit());
}

await startAgent({
  source,
  node: LOCAL_NODE,
  log: pino({ messageKey: 'message' }, { write: line }),
  bridges: ['cni0'],
  cutMark: DEFAULT_CUT_MARK,
  auditing: ENFORCING,
  nftables: { ownership: 'auto', logGroup: 100 },
  statusFile: undefined,
});
