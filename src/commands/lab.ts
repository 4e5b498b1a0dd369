/** `sluice lab`: clusters of network namespaces on this machine, for seeing policies enforced on real packets. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { SluiceError } from '../errors.ts';
import { plain, paintFor } from '../output/colour.ts';
import type { StepReport } from '../lab/run-scenario.ts';

interface RunFlags {
  readonly output: 'table' | 'json';
  readonly keep: boolean;
  readonly agents: boolean;
  readonly api: boolean;
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
    .option('--no-agents', 'enforce nothing; for trying the lab, or another engine in it')
    .action(run);
  return lab;
}

async function run(directory: string, flags: RunFlags): Promise<void> {
  const { readScenario } = await import('../lab/scenario.ts');
  // Before the sandbox: what is wrong with it is said at once.
  const scenario = readScenario(directory);
  if (process.env['SLUICE_SANDBOX'] === undefined) enterSandbox();

  const [{ playScenario, summary }, { followEdits, playInstructions }, { legend, verdictTable }, { isAsExpected }] = await Promise.all([
    import('../lab/run-scenario.ts'),
    import('../lab/keep.ts'),
    import('../lab/verdict-table.ts'),
    import('../lab/verdicts.ts'),
  ]);
  const paint = process.stdout.isTTY ? paintFor(process.stdout) : plain;
  const paintProgress = process.stderr.isTTY ? paintFor(process.stderr) : plain;
  const width = process.stdout.isTTY ? (process.stdout.columns ?? WIDTH) : WIDTH;
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
  if (flags.output === 'table') {
    print(paint('bold', scenario.title));
    for (const line of legend(paint)) print(line);
  }
  const stage = await playScenario(scenario, {
    state: STATE,
    agents: flags.agents,
    api: flags.api,
    paint: paintProgress,
    progress,
    stepDone: (report) => {
      if (flags.output === 'table') showStep(report);
      else progress(`${report.step}: ${summary(report)}`);
    },
  });
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
    const say = flags.output === 'table' ? print : progress;
    say('');
    for (const line of playInstructions(stage)) say(line);
    await followEdits(stage, scenario, say, flags.output === 'table' ? paint : paintProgress, width, interrupted.signal);
  }
  await stage.close();
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
