/** A lab that stays up: whoever edits the directory that the agents watch sees at once which verdicts change. */
import { type FSWatcher, watch } from 'node:fs';
import type { Paint } from '../output/colour.ts';
import { wrapList } from '../output/lists.ts';
import { SluiceError } from '../errors.ts';
import type { Scenario } from './scenario.ts';
import type { Stage } from './run-scenario.ts';
import { portsOf } from './verdict-table.ts';
import { type VerdictRecord, isAsExpected, measure } from './verdicts.ts';

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
  if (stage.api !== undefined)
    yield `  kubectl             ${enter} ${stage.api.kubectl} --kubeconfig ${stage.api.kubeconfig('admin')} get networkpolicies -A`;
  yield '';
  yield `Namespaces of the lab: ${lab.nodes.map((each) => each.netns).join(', ')}, ${lab.outsideNetns}, and NAMESPACE.NAME for each pod.`;
}

/** Follows the directory until `signal` ends it, printing each verdict that changes. */
export async function followEdits(
  stage: Stage,
  scenario: Scenario,
  print: (line: string) => void,
  paint: Paint,
  width: number,
  signal: AbortSignal,
): Promise<void> {
  let before = stage.reports.at(-1)?.records ?? [];
  const edits = new Edits(stage.cluster.directory);
  try {
    let isOpen = false;
    while (await edits.next(signal)) {
      try {
        if (!(await stage.cluster.adopt()) && !isOpen) continue;
        const after = await measure(stage.cluster, {
          step: 'edit',
          settings: scenario.settings,
          expectation: undefined,
          settleMs: SETTLE_MS,
          isOver: () => edits.noticed,
        });
        // Measured while the next edit came into force: neither the old state nor the new one.
        isOpen = edits.noticed && !after.every(isAsExpected);
        if (isOpen) continue;
        for (const line of differences(before, after, paint, width)) print(line);
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

  /** Whether there was another since the last. */
  get noticed(): boolean {
    return this.#noticed;
  }

  close(): void {
    this.#watcher.close();
  }
}

function keyOf({ source, destination, port, protocol, family }: VerdictRecord): string {
  return `${source} ${destination} ${port} ${protocol} ${family}`;
}

/** What changed, those of a pair that changed in the same way together; and what is not as the policies say, changed or not. */
export function* differences(
  before: readonly VerdictRecord[],
  after: readonly VerdictRecord[],
  paint: Paint,
  width: number,
): Generator<string> {
  const was = new Map(before.map((record) => [keyOf(record), record]));
  const groups = new Map<string, VerdictRecord[]>();
  const add = (record: VerdictRecord, what: string): void => {
    const text = `${record.source} -> ${record.destination} ${what}:`;
    groups.set(text, [...(groups.get(text) ?? []), record]);
  };
  let changes = 0;
  for (const record of after) {
    const old = was.get(keyOf(record))?.measured;
    was.delete(keyOf(record));
    if (old !== record.measured) changes++;
    if (record.measured !== record.predicted) add(record, `is ${record.measured}, but the policies say ${record.predicted}`);
    else if (old === undefined) add(record, `is new, ${record.measured}`);
    else if (old !== record.measured) add(record, `was ${old}, now ${record.measured}`);
  }
  const parties = new Set(after.flatMap(({ source, destination }) => [source, destination]));
  const gone = new Set([...was.values()].flatMap(({ source, destination }) => [source, destination]).filter((name) => !parties.has(name)));
  for (const name of gone) yield paint('dim', `${name} is gone`);
  for (const record of was.values()) if (!gone.has(record.source) && !gone.has(record.destination)) add(record, 'is not probed any more');
  for (const [text, records] of groups) {
    const style = text.includes(', but the ')
      ? 'red'
      : text.endsWith('now allowed:') || text.endsWith('new, allowed:')
        ? 'green'
        : 'yellow';
    const [first = '', ...more] = portsOf(records);
    for (const [index, line] of wrapList([`${text} ${first}`, ...more], width - 2).entries())
      yield paint(style, index === 0 ? line : `  ${line}`);
  }
  const wrong = after.filter(({ measured, predicted }) => measured !== predicted).length;
  yield paint('bold', `${after.length} probes, ${changes} changed, ${after.length - wrong} as the policies say`);
}
