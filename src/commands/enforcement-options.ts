/**
 * What a node's table depends on besides the cluster, for commands that make it anew: what was said on the command line, else what the
 * agent's status file says, else the agent's defaults.
 */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type AtHand, DEFAULT_STATUS_FILE } from '../audit/at-hand.ts';
import type { KernelTable } from '../audit/kernel-table.ts';
import { DEFAULT_CUT_MARK } from '../enforcement/conntrack/flow-sweep.ts';
import type { TableOptions } from '../enforcement/nftables/frame.ts';
import { type Auditing, MODES, type Mode } from '../policy/mode.ts';
import { cutMarkOption, DEFAULT_LOG_GROUP } from './agent-defaults.ts';

export interface EnforcementFlags {
  readonly statusFile?: string;
  readonly ownership?: 'auto' | 'owned' | 'shared';
  readonly logGroup?: number;
  readonly cutMark?: number;
  readonly mode?: Mode;
  readonly auditNamespaces?: true;
  readonly bridge?: readonly string[];
}

export interface Enforcement {
  readonly table: TableOptions;
  readonly auditing: Auditing;
  readonly bridges: readonly string[];
}

const ELSE = 'default: as the status file says, else';

/** `--status-file` alone, for commands that only ask whose kernel is at hand. */
export function statusFileOption(): Option {
  return new Option('--status-file <file>', `the status file of this node’s agent (default: ${DEFAULT_STATUS_FILE}, where it is there)`);
}

/** The flags of `sluice agent` that its rules depend on. */
export function addEnforcementOptions(command: Command): Command {
  return command
    .addOption(statusFileOption())
    .addOption(
      new Option('--ownership <mode>', `auto, owned or shared, as the agent was told (${ELSE} as the table is)`).choices([
        'auto',
        'owned',
        'shared',
      ]),
    )
    .addOption(
      new Option('--log-group <number>', `NFLOG group of refused packets, 0: none (${ELSE} ${DEFAULT_LOG_GROUP})`).argParser(group),
    )
    .addOption(cutMarkOption(`bit of the ct mark that cuts flows (${ELSE} 0x${DEFAULT_CUT_MARK.toString(16)})`).default(undefined))
    .addOption(new Option('--mode <mode>', `of the agent (${ELSE} enforce)`).choices(MODES))
    .option('--audit-namespaces', `that namespaces may ask to be audited (${ELSE} not)`)
    .addOption(new Option('--bridge <name...>', `bridges that pods are attached to (${ELSE} cni0)`));
}

function group(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535) throw new InvalidArgumentError('It is a number from 0 to 65535.');
  return value;
}

/**
 * @param kernel only says whether the table is owned, where nobody else does: an agent that was told `auto` owns it where it can, and a
 * table that is not owned is not less in force
 */
export function enforcementOf(flags: EnforcementFlags, { status }: Pick<AtHand, 'status'>, kernel?: KernelTable): Enforcement {
  const said = status?.enforcement ?? undefined;
  const ownership = flags.ownership === 'auto' ? undefined : flags.ownership;
  const ownedByKernel = kernel?.table.flags.includes('persist') ?? false;
  const logGroup = flags.logGroup ?? (said === undefined ? DEFAULT_LOG_GROUP : (said.logGroup ?? 0));
  return {
    table: {
      owned: (ownership ?? said?.ownership ?? (ownedByKernel ? 'owned' : 'shared')) === 'owned',
      logGroup: logGroup === 0 ? undefined : logGroup,
      cutMark: flags.cutMark ?? said?.cutMark ?? DEFAULT_CUT_MARK,
    },
    auditing: {
      mode: flags.mode ?? status?.mode ?? 'enforce',
      namespaces: flags.auditNamespaces ?? said?.auditNamespaces ?? false,
    },
    bridges: flags.bridge ?? said?.bridges ?? ['cni0'],
  };
}
