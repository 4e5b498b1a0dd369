/** A lab that stays up: whoever edits the directory that the agents watch sees at once which verdicts change. */
import { type FSWatcher, watch } from 'node:fs';
import type { Paint } from '../output/colour.ts';
import { SluiceError } from '../errors.ts';
import type { Scenario } from './scenario.ts';
import type { Stage } from './run-scenario.ts';
import { type VerdictRecord, measure } from './verdicts.ts';

/** Editors write a file in several steps. */
const QUIET_MS = 100;
const SETTLE_MS = 5000;

/** How to play with the lab: what is where, as seen from outside the sandbox. */
export function* playInstructions(stage: Stage): Generator<string> {
  const { lab, directory } = stage.cluster;
  const pid = process.env['SLUICE_SANDBOX_PID'] ?? String(process.pid);
  const enter = `nsenter -t ${pid} -a`;
  const [node] = lab.nodes;
  const pod = lab.pods.find((each) => !each.hostNetwork);
  yield 'The lab stays up until Ctrl-C. What changes is probed and shown here. From another terminal:';
  yield '';
  yield `  edit the cluster    cd /proc/${pid}/root${directory}`;
  if (node !== undefined) yield `  rules of a node     ${enter} ip netns exec ${node.netns} nft list table inet sluice`;
  if (pod !== undefined) yield `  a shell in a pod    ${enter} ip netns exec ${pod.netns} sh`;
  if (node !== undefined && stage.agents !== undefined)
    yield `  log of an agent     tail -f /proc/${pid}/root${stage.agents.logFile(node.name)}`;
  yield '';
  yield `Namespaces of the lab: ${lab.nodes.map((each) => each.netns).join(', ')}, ${lab.outsideNetns}, and NAMESPACE.NAME for each pod.`;
}

/** Follows the directory until `signal` ends it, printing each verdict that changes. */
export async function followEdits(
  stage: Stage,
  scenario: Scenario,
  print: (line: string) => void,
  paint: Paint,
  signal: AbortSignal,
): Promise<void> {
  let before = stage.reports.at(-1)?.records ?? [];
  const edits = new Edits(stage.cluster.directory);
  try {
    while (await edits.next(signal)) {
      try {
        const commits = stage.agents?.commits();
        await stage.cluster.adopt();
        if (commits !== undefined) await stage.agents?.committed(commits, SETTLE_MS / 5);
        const after = await measure(stage.cluster, {
          step: 'edit',
          settings: scenario.settings,
          expectation: undefined,
          settleMs: SETTLE_MS,
        });
        edits.forget();
        for (const line of differences(before, after, paint)) print(line);
        before = after;
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        print(paint('red', error.message));
      }
    }
  } finally {
    edits.close();
  }
}

/** Notices of changes below a directory, taken together while they follow one another. */
class Edits {
  readonly #watcher: FSWatcher;
  #noticed = false;
  #wake: () => void = () => undefined;

  constructor(directory: string) {
    this.#watcher = watch(directory, { recursive: true }, () => {
      this.#noticed = true;
      this.#wake();
    });
  }

  /** Resolves after the next edit; false when `signal` has ended it. */
  async next(signal: AbortSignal): Promise<boolean> {
    const wake = (): void => this.#wake();
    signal.addEventListener('abort', wake);
    try {
      while (!signal.aborted && !this.#noticed) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      while (!signal.aborted && this.#noticed) {
        this.#noticed = false;
        await new Promise((resolve) => {
          setTimeout(resolve, QUIET_MS);
        });
      }
      return !signal.aborted;
    } finally {
      signal.removeEventListener('abort', wake);
    }
  }

  /** What was noticed so far was the lab's own writing. */
  forget(): void {
    this.#noticed = false;
  }

  close(): void {
    this.#watcher.close();
  }
}

function keyOf({ source, destination, port, protocol, family }: VerdictRecord): string {
  return `${source} -> ${destination}  ${protocol === 'ICMP' ? protocol : `${port}/${protocol}`}  IPv${family}`;
}

function* differences(before: readonly VerdictRecord[], after: readonly VerdictRecord[], paint: Paint): Generator<string> {
  const was = new Map(before.map((record) => [keyOf(record), record.measured]));
  let changes = 0;
  for (const record of after) {
    const { measured, predicted } = record;
    const old = was.get(keyOf(record));
    was.delete(keyOf(record));
    if (measured !== predicted) yield paint('red', `! ${keyOf(record)}  ${measured}, and the policies say ${predicted}`);
    else if (old !== measured)
      yield `  ${keyOf(record)}  ${old === undefined ? '' : `${old}, now `}${paint(measured === 'allowed' ? 'green' : 'yellow', measured)}`;
    if (old !== measured) changes++;
  }
  for (const key of was.keys()) yield paint('dim', `  ${key}  gone`);
  const wrong = after.filter(({ measured, predicted }) => measured !== predicted).length;
  yield paint('bold', `${after.length} probes, ${changes} changed, ${after.length - wrong} as the policies say`);
}
