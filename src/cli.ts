/**
 * The program. It knows its commands by name and a line each; what a command takes and does is in src/commands/, and is loaded
 * when it is called or its help is asked for, so that `sluice --version` and the like stay quick.
 *
 * Exit statuses: 0, done and in order; 1, failed or found something (a command says what); 2, called wrongly. A command throws a
 * SluiceError, or sets process.exitCode to 1 and returns.
 */
import { Command, CommanderError } from 'commander';
import packageJson from '../package.json' with { type: 'json' };
import { SluiceError, systemErrorCode } from './errors.ts';
import { visible } from './output/visible-text.ts';

interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<{ command(): Command }>;
}

/** In the order of `sluice --help`. */
const COMMANDS: readonly CommandEntry[] = [
  { name: 'agent', summary: "enforce policy on this node's pods", load: () => import('./commands/agent.ts') },
  { name: 'network', summary: 'be the pod network of this node, as flanneld is', load: () => import('./commands/network.ts') },
  {
    name: 'observe',
    summary: 'show connections that policy refuses on this node, as they are tried',
    load: () => import('./commands/observe.ts'),
  },
  { name: 'doctor', summary: 'find what is wrong with the pod network of this node', load: () => import('./commands/doctor.ts') },
  { name: 'cleanup', summary: 'take all rules that sluice made out of this kernel', load: () => import('./commands/cleanup.ts') },
  { name: 'explain', summary: 'say whether one may reach another, and why', load: () => import('./commands/explain.ts') },
  { name: 'matrix', summary: 'show who may reach whom, by the policies alone', load: () => import('./commands/matrix.ts') },
  { name: 'lint', summary: 'find policies that are wrong, or not what they seem to be', load: () => import('./commands/lint.ts') },
  { name: 'diff', summary: 'show what would change if policies were applied or deleted', load: () => import('./commands/diff.ts') },
  { name: 'dump', summary: 'show the rules that a node would be given', load: () => import('./commands/dump.ts') },
  { name: 'verify', summary: 'compare the rules of this kernel with what they should be', load: () => import('./commands/verify.ts') },
  { name: 'completion', summary: 'print the completion of a shell', load: () => import('./commands/completion.ts') },
  { name: 'bundle', summary: 'write all that the audit commands ask into one file', load: () => import('./commands/bundle.ts') },
  { name: 'lab', summary: 'run a scenario with network namespaces for nodes and pods', load: () => import('./commands/lab.ts') },
];

/** For shells: not listed. */
const COMPLETE: CommandEntry = {
  name: '__complete',
  summary: 'for shells',
  load: async () => {
    const { completeCommand } = await import('./commands/complete.ts');
    return { command: () => completeCommand(COMMANDS) };
  },
};

/**
 * Runs `sluice` with these arguments, and sets the exit status.
 *
 * @param name what people call it: as a plugin `kubectl sluice`
 */
export async function main(args: readonly string[], name = 'sluice'): Promise<void> {
  endQuietlyWithTheReader();
  const isVerbose = args.includes('--verbose') || (process.env['SLUICE_DEBUG'] ?? '') !== '';
  try {
    const program = await buildProgram(args, name);
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    process.exitCode = report(error, isVerbose);
  }
}

async function buildProgram(args: readonly string[], programName: string): Promise<Command> {
  const program = new Command(programName)
    .description('Kubernetes NetworkPolicy on nftables.')
    .version(packageJson.version)
    .option('--verbose', 'print the stack of errors (also: SLUICE_DEBUG=1)')
    .showHelpAfterError('Add --help for what can be said here.')
    .addHelpText('after', '\nExit status: 0 in order, 1 failed or found something, 2 called wrongly. NO_COLOR is honoured.')
    .exitOverride();
  const called = calledCommand(args);
  for (const { name, summary, load } of COMMANDS) {
    if (name === called) addWithSettings(program, (await load()).command().summary(summary));
    // Only listed: the command that is called is always loaded.
    else program.command(name).description(summary);
  }
  if (called === COMPLETE.name) {
    program.enablePositionalOptions();
    program.addCommand((await COMPLETE.load()).command(), { hidden: true });
  }
  return program;
}

/** The first word, or the second of `help matrix`; the program's own options take no values. */
function calledCommand(args: readonly string[]): string | undefined {
  const [first, second] = args.filter((arg) => !arg.startsWith('-'));
  return first === 'help' ? second : first;
}

/** Commander hands settings on to commands that are made from their parent; these come from files of their own. */
function addWithSettings(parent: Command, child: Command): void {
  const inherit = (command: Command, from: Command): void => {
    command.copyInheritedSettings(from);
    for (const below of command.commands) inherit(below, command);
  };
  inherit(child, parent);
  parent.addCommand(child);
}

/** Says what went wrong, for people; returns the exit status. */
function report(error: unknown, isVerbose: boolean): number {
  // Commander has said it already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (systemErrorCode(error) === 'EPIPE') return Number(process.exitCode ?? 0);
  if (!(error instanceof SluiceError)) {
    console.error('sluice: this is a defect of sluice, please report it:');
    console.error(error);
    return 1;
  }
  console.error(`sluice: ${visible(error.message)}`);
  if (error.hint !== undefined) console.error(visible(error.hint));
  if (isVerbose) console.error(error);
  return error.exitStatus;
}

/** `sluice … | head` is no error. */
function endQuietlyWithTheReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      const code = systemErrorCode(error);
      if (code === 'EPIPE') process.exit();
      if (code === undefined) throw error;
      if (stream === process.stdout) console.error(`sluice: standard output cannot be written: ${code}`);
      process.exit(1);
    });
  }
}
