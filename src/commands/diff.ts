/** `sluice diff`: what would change if policies were applied, or deleted; nothing is. */
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { type AtHand, lookAtHand } from '../audit/at-hand.ts';
import { type FlowDifference, flowDifference, withLiveFlows } from '../audit/difference-flows.ts';
import { type Applied, apply, readChange, remove } from '../audit/difference-objects.ts';
import { differenceOf } from '../audit/difference.ts';
import type { Inventory } from '../audit/inventory.ts';
import { DEFAULT_CUT_MARK, type FlowJudge } from '../enforcement/conntrack/flow-sweep.ts';
import { SluiceError } from '../errors.ts';
import { paintFor } from '../output/colour.ts';
import { formatDocument } from '../output/document.ts';
import { formatProblem } from '../output/problems.ts';
import { visibleDocument } from '../output/visible-text.ts';
import { Equivalence } from '../policy/equivalence.ts';
import { type Auditing, ENFORCING, isAudited } from '../policy/mode.ts';
import { type World, worldOf } from '../policy/world.ts';
import { type DiffFacts, diffDocument, endText } from './diff-document.ts';
import { diffReport } from './diff-report.ts';
import { statusFileOption } from './enforcement-options.ts';
import { addInventoryOptions, type InventoryFlags, openInventory } from './inventory-options.ts';

interface DiffFlags extends InventoryFlags {
  readonly filename: readonly string[];
  readonly delete?: true;
  readonly namespace: string;
  readonly failOn?: 'denied' | 'allowed' | 'any';
  readonly output: 'table' | 'json' | 'yaml';
  readonly node?: string;
  readonly statusFile?: string;
}

export function command(): Command {
  return addInventoryOptions(
    new Command('diff')
      .description(
        'Show what would change if these policies were applied: connections that become allowed or denied, and live flows that would be cut.',
      )
      .requiredOption('-f, --filename <path>', 'file or directory with NetworkPolicies, - for standard input; repeatable', append),
  )
    .option('--delete', 'what if they were deleted')
    .option('-n, --namespace <name>', 'of objects that name none', 'default')
    .addOption(new Option('--fail-on <change>', 'exit with status 1 if a connection becomes so').choices(['denied', 'allowed', 'any']))
    .addOption(new Option('-o, --output <format>', 'for people or for programs').choices(['table', 'json', 'yaml']).default('table'))
    .option(
      '--node <name>',
      'whose kernel this is, and whose live flows (default: what the status file says, $NODE_NAME, or the host name)',
    )
    .addOption(statusFileOption())
    .addHelpText(
      'after',
      '\nAn object of the same name is replaced, others are added; nothing is written anywhere.' +
        '\nExit status: 0; 1 if --fail-on found something, or an object would be refused by the API; 2 if it was called wrongly.',
    )
    .action(run);
}

function append(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

async function run(flags: DiffFlags): Promise<void> {
  const written = readChange(flags.filename, flags.namespace, () => readFileSync(0, 'utf8'));
  const paintProblem = paintFor(process.stderr);
  for (const problem of written.problems) console.error(formatProblem(problem, paintProblem));
  const refused = written.problems.filter(({ severity }) => severity === 'error').length;
  if (refused > 0) {
    throw new SluiceError(
      'CHANGE_REFUSED',
      `this cannot be applied as it is: ${refused} ${refused === 1 ? 'error' : 'errors'}, listed above`,
      {
        hint: 'Mend the files; what would change otherwise cannot be said.',
      },
    );
  }
  for (const id of written.defaulted) console.error(`${id}: names no namespace, and is taken to be in ${flags.namespace} (-n)`);
  const namespaces = new Set(written.objects.map(({ kind, key }) => (kind === 'Namespace' ? key : (key.split('/')[0] ?? ''))));
  const inventory = await openInventory(flags, { namespaces: [...namespaces], assume: true });
  const applied = flags.delete === true ? remove(inventory, written.objects) : apply(inventory, written.objects);
  warnOfNamespaces(applied, namespaces);
  print(factsOf(inventory, applied, flags), flags);
}

/** A policy of a namespace that is not there would be refused. */
function warnOfNamespaces({ objects, done }: Applied, namespaces: ReadonlySet<string>): void {
  const known = new Set([...objects.namespaces.map(({ name }) => name), ...objects.pods.map(({ namespace }) => namespace)]);
  for (const namespace of namespaces) {
    const isNeeded = done.some(
      ({ kind, name, change }) => kind === 'NetworkPolicy' && change === 'created' && name.startsWith(`${namespace}/`),
    );
    if (isNeeded && !known.has(namespace))
      console.error(`there is no namespace ${namespace}, and no pod in it: its policies change nothing`);
  }
}

function factsOf(inventory: Inventory, { objects, done, onlyPolicies }: Applied, flags: DiffFlags): DiffFacts {
  const [was, is] = [inventory.world, worldOf(objects)];
  const before = new Equivalence(was, inventory.pods);
  const after = new Equivalence(is, objects.pods);
  const known = new Set(inventory.pods.map(({ namespace, name }) => `${namespace}/${name}`));
  const pods = objects.pods.filter(({ namespace, name }) => known.has(`${namespace}/${name}`));
  const difference = differenceOf({ before, after, pods, nodes: objects.nodes, onlyPolicies });
  const ofPod = (world: World, address: Parameters<World['podAt']>[0]): string | undefined => {
    const pod = world.podAt(address);
    return pod === undefined ? world.nodeAt(address)?.name : `${pod.namespace}/${pod.name}`;
  };
  return {
    origin: inventory.origin,
    missing: inventory.missing,
    done,
    difference,
    flows: liveFlows(inventory, lookAtHand(inventory, flags), is),
    nameOf: (question, end) => endText(ofPod(is, question[end]), question[end]),
  };
}

/** Undefined: no node is at hand, or its flows cannot be read (which is said on stderr). */
function liveFlows(inventory: Inventory, hand: AtHand, after: World): (FlowDifference & { readonly node: string }) | undefined {
  const { node, status } = hand;
  // A bundle holds no flows; and whoever asks somewhere else than on a node does not ask about flows.
  if (inventory.kind === 'bundle' || node === undefined) return undefined;
  const auditing: Auditing =
    status?.mode === undefined ? ENFORCING : { mode: status.mode, namespaces: status.enforcement?.auditNamespaces ?? false };
  const modes = new Map(inventory.namespaces.map(({ name, mode }) => [name, mode]));
  const judge = (world: World): FlowJudge => ({ world, node, isAudited: ({ namespace }) => isAudited(auditing, modes.get(namespace)) });
  try {
    const found = withLiveFlows((flows) =>
      flowDifference(flows, judge(inventory.world), judge(after), status?.enforcement?.cutMark ?? DEFAULT_CUT_MARK),
    );
    return { node, ...found };
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    console.error(`live flows of ${node} are not looked at: ${error.message}`);
    return undefined;
  }
}

function print(facts: DiffFacts, { output, failOn }: DiffFlags): void {
  const document = diffDocument(facts);
  const { stdout } = process;
  if (output === 'table') {
    const width = stdout.columns > 0 ? stdout.columns : undefined;
    for (const line of diffReport(facts, visibleDocument(document), paintFor(stdout), width)) stdout.write(`${line}\n`);
  } else stdout.write(formatDocument(output, document));
  const found = new Set(document.changes.map(({ becomes }) => becomes));
  if (failOn !== undefined && (failOn === 'any' ? found.size > 0 : found.has(failOn))) process.exitCode = 1;
}
