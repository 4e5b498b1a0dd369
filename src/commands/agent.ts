/** `sluice agent`: enforce the policies of a source on this node until told to stop. */
import { hostname } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import { startAgent } from '../agent.ts';
import { DEFAULT_CUT_MARK } from '../enforcement/conntrack/flow-sweep.ts';
import { createLog, errorFields, type LogLevel } from '../observability/log.ts';
import { DirectorySource } from '../sources/directory.ts';
import { DEFAULT_LOG_GROUP } from './agent-defaults.ts';

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
    .option('--node <name>', 'name of the node whose pods are enforced', process.env['NODE_NAME'] ?? hostname())
    .option('--bridge <name...>', 'bridges that pods are attached to', ['cni0'])
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
    .addOption(
      new Option('--cut-mark <bit>', 'bit of the ct mark that cuts flows older than the first rule')
        .default(DEFAULT_CUT_MARK, `0x${DEFAULT_CUT_MARK.toString(16)}`)
        .argParser(markBit),
    )
    .option('--status-file <file>', 'keep the agent’s state in this file, as JSON')
    .addOption(new Option('--log-level <level>', 'least severity to log').choices(['debug', 'info', 'warn', 'error']).default('info'))
    .action(run);
}

async function run(flags: AgentFlags): Promise<void> {
  const log = createLog(flags.logLevel, { node: flags.node });
  const agent = await startAgent({
    source: new DirectorySource(flags.source),
    node: flags.node,
    log,
    bridges: flags.bridge,
    cutMark: flags.cutMark,
    nftables: { ownership: flags.ownership, logGroup: flags.logGroup === 0 ? undefined : flags.logGroup },
    statusFile: flags.statusFile,
  });
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

function groupNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535) throw new InvalidArgumentError('It has to be a number from 0 to 65535.');
  return value;
}

function markBit(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value <= 0 || value > 0x8000_0000 || (value & (value - 1)) !== 0) {
    throw new InvalidArgumentError('It has to be a single bit of 32, such as 0x2000.');
  }
  return value;
}
