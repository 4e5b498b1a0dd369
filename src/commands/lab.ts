/** `sluice lab`: clusters of network namespaces on this machine, for seeing policies enforced on real packets. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { SluiceError } from '../errors.ts';
import { type Paint, plain, paintFor } from '../output/colour.ts';
import type { StepReport } from '../lab/run-scenario.ts';
import type { ScenarioCluster } from '../lab/scenario-cluster.ts';
import type { Scenario } from '../lab/scenario.ts';
import type { TraceWish } from '../lab/trace/request.ts';

interface RunFlags {
  readonly output: 'table' | 'json';
  readonly keep: boolean;
  readonly agents: boolean;
  readonly api: boolean;
  /** True: given without a value. */
  readonly trace?: string | true;
}

/** Of a terminal; a pipe gets what fits anywhere. */
const WIDTH = 80;
const STATE = '/run/sluice-lab';

export function command(): Command {
  const lab = new Command('lab').description(
    'Run clusters of network namespaces on this machine; the machine’s own network is not touched.',
  );
  lab
    .command('run')
    .description(
      'Play a scenario: set up its nodes and pods, start an agent on each node, apply its steps, ' +
        'and probe after each who reaches whom. Exit status 0 only if all was as expected.',
    )
    .argument('<directory>', 'the scenario: Kubernetes YAML in numbered steps (docs/lab.md)')
    .addOption(new Option('-o, --output <format>', 'for people or for programs').choices(['table', 'json']).default('table'))
    .option('--keep', 'leave the lab up until Ctrl-C, and show what changes when the directory is edited', false)
    .option('--api', 'give the agents their objects by a real API server, which is started for it, and not by a directory', false)
    .option(
      '--trace [from,to]',
      'after the last step, follow one packet from interface to interface: FROM,TO or FROM,TO,PORT/PROTOCOL; without a value ' +
        'between the first two pods on different nodes',
    )
    .option('--no-agents', 'enforce nothing; for trying the lab, or another engine in it')
    .action(run);
  return lab;
}

async function run(directory: string, flags: RunFlags): Promise<void> {
  const [{ readScenario }, { checkTraceNames, parseTraceWish }] = await Promise.all([
    import('../lab/scenario.ts'),
    import('../lab/trace/request.ts'),
  ]);
  // Before the sandbox: what is wrong with it is said at once.
  const scenario = readScenario(directory);
  const wish = flags.trace === undefined ? undefined : parseTraceWish(flags.trace === true ? '' : flags.trace);
  if (process.env['SLUICE_SANDBOX'] === undefined) enterSandbox();

  const [{ playScenario, summary }, { followEdits, playInstructions }, { networkView }, { legend, verdictTable }, { isAsExpected }] =
    await Promise.all([
      import('../lab/run-scenario.ts'),
      import('../lab/keep.ts'),
      import('../lab/network-view.ts'),
      import('../lab/verdict-table.ts'),
      import('../lab/verdicts.ts'),
    ]);
  const paint = process.stdout.isTTY ? paintFor(process.stdout) : plain;
  const paintProgress = process.stderr.isTTY ? paintFor(process.stderr) : plain;
  // Some terminals say that they have no columns.
  const columns = process.stdout.isTTY ? process.stdout.columns : 0;
  const width = columns > 0 ? columns : WIDTH;
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const progress = (text: string): void => void process.stderr.write(`${paintProgress('dim', text)}\n`);

  const showStep = (report: StepReport): void => {
    const { step, changes, names, records } = report;
    print('');
    print(paint('bold', step));
    for (const { change, id } of changes) print(`  ${id} ${change}`);
    for (const line of verdictTable(records, names, paint, width)) print(line);
    print(paint('dim', summary(report)));
  };
  const say = flags.output === 'table' ? print : progress;
  const paintSaid = flags.output === 'table' ? paint : paintProgress;
  if (flags.output === 'table') print(paint('bold', scenario.title));
  const stage = await playScenario(scenario, {
    state: STATE,
    agents: flags.agents,
    api: flags.api,
    paint: paintProgress,
    progress,
    clusterUp: (cluster) => {
      if (wish !== undefined) checkTraceNames(wish, namesOf(scenario, cluster));
      if (flags.output !== 'table') return;
      print('');
      for (const line of networkView(cluster.lab, paint)) print(line);
      print('');
      for (const line of legend(paint)) print(line);
    },
    stepDone: (report) => {
      if (flags.output === 'table') showStep(report);
      else progress(`${report.step}: ${summary(report)}`);
    },
  });
  try {
    if (wish !== undefined) await showTrace(stage.cluster, wish, scenario, { say, paint: paintSaid, width });
    const records = stage.reports.flatMap((report) => report.records);
    const right = records.filter(isAsExpected).length;
    if (flags.output === 'json') {
      print(records.length === 0 ? '[]' : `[\n${records.map((record) => JSON.stringify(record)).join(',\n')}\n]`);
      progress(summary({ records }));
    } else {
      print('');
      print(paint(right === records.length ? 'green' : 'red', summary({ records })));
    }
    if (right < records.length) process.exitCode = 1;
    if (flags.keep) {
      const interrupted = new AbortController();
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
      say('');
      for (const line of playInstructions(stage)) say(line);
      await followEdits(stage, scenario, say, paintSaid, width, interrupted.signal);
    }
  } finally {
    await stage.close();
  }
}

/** Everybody that the lab has now or, after some step, will have. */
function namesOf({ steps }: Scenario, { lab }: ScenarioCluster): string[] {
  const later = steps.flatMap(({ objects }) => objects.filter(({ kind }) => kind === 'Pod'));
  return [
    ...lab.pods.map(({ key }) => key),
    ...later.map(({ namespace, name }) => `${namespace}/${name}`),
    ...lab.nodes.map(({ name }) => `node/${name}`),
    ...lab.outside.keys(),
  ];
}

/** Follows a packet, and says how it went. That it could not be followed is said too, and changes nothing else. */
async function showTrace(
  { lab }: ScenarioCluster,
  wish: TraceWish,
  { settings }: Scenario,
  { say, paint, width }: { readonly say: (line: string) => void; readonly paint: Paint; readonly width: number },
): Promise<void> {
  const [{ resolveTrace }, { tracePacket }, { traceReport }] = await Promise.all([
    import('../lab/trace/request.ts'),
    import('../lab/trace/trace.ts'),
    import('../lab/trace/report.ts'),
  ]);
  say('');
  try {
    const trace = await tracePacket(lab, resolveTrace(lab, wish, settings.probe.ports));
    for (const line of traceReport(trace, paint, width)) say(line);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    say(paint('red', error.hint === undefined ? error.message : `${error.message}\n${error.hint}`));
  }
}

/** What the lab calls, and the Debian packages that have it. */
const PROGRAMS: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  bridge: 'iproute2',
  nft: 'nftables',
  unshare: 'util-linux',
  setpriv: 'util-linux',
};

/** Becomes the same program in namespaces of its own; returns only by throwing. */
function enterSandbox(): never {
  const path = `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`;
  const missing = Object.keys(PROGRAMS).filter(
    (program) => !path.split(delimiter).some((directory) => isExecutable(join(directory, program))),
  );
  if (missing.length > 0) {
    throw new SluiceError('LAB_PROGRAM_MISSING', `the lab needs ${missing.join(', ')}, which this machine lacks`, {
      hint: `Install what is missing with: apt-get install ${[...new Set(missing.map((program) => PROGRAMS[program]))].join(' ')}`,
    });
  }
  const script = fileURLToPath(new URL('../../scripts/sandbox.sh', import.meta.url));
  // Replaced, not a child: one process to interrupt, and none left over when this one is killed.
  process.execve?.('/bin/sh', ['sh', script, process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
    ...process.env,
    PATH: path,
  });
  throw new SluiceError(
    'LAB_PLATFORM',
    'the sandbox could not be started: this system cannot replace a running program; the lab needs Linux',
  );
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
