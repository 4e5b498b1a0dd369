/** `sluice agent`: enforce the policies of a source on this node until told to stop. */
import { accessSync, constants } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { startAgent } from '../agent.ts';
import { SluiceError } from '../errors.ts';
import { createLog, errorFields, type LogLevel } from '../observability/log.ts';
import { DirectorySource } from '../sources/directory.ts';
import { bridgeOption, cutMarkOption, DEFAULT_LOG_GROUP } from './agent-defaults.ts';
import { explainRefusal } from './net-admin.ts';

interface AgentFlags {
  readonly source: string;
  readonly node: string;
  readonly bridge: readonly string[];
  readonly ownership: 'auto' | 'owned' | 'shared';
  readonly logGroup: number;
  readonly cutMark: number;
  readonly statusFile?: string;
  readonly logLevel: LogLevel;
}

export function command(): Command {
  return new Command('agent')
    .description('Enforce NetworkPolicies on this node until told to stop; the rules stay in force afterwards.')
    .requiredOption(
      '--source <directory>',
      'directory of Kubernetes YAML or JSON that is watched: Pods, Namespaces, Nodes, NetworkPolicies',
    )
    .addOption(
      new Option('--node <name>', 'name of the node whose pods are enforced').default(
        process.env['NODE_NAME'] ?? hostname(),
        '$NODE_NAME, or the name of this host',
      ),
    )
    .addOption(bridgeOption('bridges that pods are attached to; one that is not there yet is waited for'))
    .addOption(
      new Option(
        '--ownership <mode>',
        'whether the kernel keeps others from changing the rules (needs Linux 6.9); shared: changes are noticed and repaired',
      )
        .choices(['auto', 'owned', 'shared'])
        .default('auto'),
    )
    .addOption(
      new Option('--log-group <number>', 'NFLOG group that refused packets are sent to; 0: none')
        .default(DEFAULT_LOG_GROUP)
        .argParser(groupNumber),
    )
    .addOption(cutMarkOption('bit of the ct mark that cuts flows older than the first rule'))
    .option('--status-file <file>', 'keep the agent’s state in this file, as JSON')
    .addOption(new Option('--log-level <level>', 'least severity to log').choices(['debug', 'info', 'warn', 'error']).default('info'))
    .addHelpText(
      'after',
      '\nIt logs one JSON object a line. Exit status: 0 when it was told to stop (SIGTERM, SIGINT), 1 when it could not start, 2 called wrongly.',
    )
    .action(run);
}

async function run(flags: AgentFlags): Promise<void> {
  if (flags.statusFile !== undefined) checkDirectory(flags.statusFile);
  const log = createLog(flags.logLevel, { node: flags.node });
  const agent = await startAgent({
    source: new DirectorySource(flags.source),
    node: flags.node,
    log,
    bridges: flags.bridge,
    cutMark: flags.cutMark,
    nftables: { ownership: flags.ownership, logGroup: flags.logGroup === 0 ? undefined : flags.logGroup },
    statusFile: flags.statusFile,
  }).catch((error: unknown) => {
    throw explainRefusal(error, 'the agent');
  });
  // Otherwise written at a regular end, and the next start needs it above all when this agent is killed.
  flushCompileCache();
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'stopping');
    agent.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error(errorFields(error), 'stopping failed');
        process.exit(1);
      },
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  // Nothing else keeps the process alive while nothing happens: the kernel is waited for in a thread that does not.
  setInterval(() => undefined, 2 ** 31 - 1);
}

/** Said before anything is done: once rules are in force, a file that cannot be written helps nobody. */
function checkDirectory(statusFile: string): void {
  try {
    accessSync(dirname(statusFile), constants.W_OK);
  } catch (error) {
    throw new SluiceError('STATUS_FILE', `the status file ${statusFile} cannot be written`, {
      hint: `Its directory ${dirname(statusFile)} has to exist and be writable.`,
      exitStatus: 2,
      cause: error,
    });
  }
}

function groupNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535) throw new InvalidArgumentError('It has to be a number from 0 to 65535.');
  return value;
}
