/** `sluice lint`: what is wrong with policies, or not what it seems to be, by the objects alone. */
import { Command, Option } from 'commander';
import { lintInput } from '../audit/lint-inventory.ts';
import type { Inventory } from '../audit/inventory.ts';
import { SluiceError } from '../errors.ts';
import { paintFor } from '../output/colour.ts';
import { formatDocument } from '../output/document.ts';
import { DEFAULT_WIDTH } from '../output/lists.ts';
import { nearest } from '../output/nearest.ts';
import { formatProblem } from '../output/problems.ts';
import { isLintCode, type LintCode } from '../policy/lint/codes.ts';
import { LINT_SEVERITIES, type LintSeverity } from '../policy/lint/finding.ts';
import { lint } from '../policy/lint/lint.ts';
import type { SourceProblem } from '../sources/source.ts';
import { addInventoryOptions, type InventoryFlags, readInventory, withProgress } from './inventory-options.ts';
import { explanationOf, listOfCodes, parseCode } from './lint-codes.ts';
import type { LintDocument } from './lint-document.ts';
import { isAtLeast, lintDocument, type LintSelection, wantedCodes } from './lint-report.ts';
import { sarif } from './lint-sarif.ts';
import { visibleDocument } from '../output/visible-text.ts';
import { lintTable } from './lint-table.ts';

interface LintFlags extends InventoryFlags {
  readonly namespace?: readonly string[];
  readonly only?: readonly LintCode[];
  readonly ignore?: readonly LintCode[];
  readonly severity: LintSeverity;
  readonly failOn: LintSeverity | 'never';
  readonly output: 'table' | 'json' | 'yaml' | 'sarif';
  readonly list?: true;
  readonly explain?: LintCode;
}

export function command(): Command {
  const lintCommand = new Command('lint').description(
    'Find what is wrong with NetworkPolicies, or does not mean what it seems to: policies that select nothing, peers that match nothing,\n' +
      'rules without effect, DNS forgotten, and whatever else is accepted and hardly meant. No kernel is asked.',
  );
  return addInventoryOptions(lintCommand)
    .option('-n, --namespace <name>', 'only policies of this namespace; repeatable (default: all)', append)
    .option('--only <codes>', 'look for these alone: CODE[,CODE]; repeatable', appendCodes)
    .option('--ignore <codes>', 'do not look for these: CODE[,CODE]; repeatable', appendCodes)
    .addOption(new Option('--severity <severity>', 'the least that is shown').choices(LINT_SEVERITIES).default('note'))
    .addOption(
      new Option('--fail-on <severity>', 'the least of what is shown that makes the exit status 1')
        .choices([...LINT_SEVERITIES, 'never'])
        .default('warning'),
    )
    .addOption(
      new Option('-o, --output <format>', 'for people or for programs').choices(['table', 'json', 'yaml', 'sarif']).default('table'),
    )
    .option('--list', 'print all codes, and end')
    .option('--explain <code>', 'print what a code means, with an example and its remedy, and end', parseCode)
    .addHelpText(
      'after',
      '\nExit status: 0 nothing was found that --fail-on names; 1 something was, or an object could not be read; 2 called wrongly.',
    )
    .action(run);
}

function append(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function appendCodes(value: string, before: readonly LintCode[] = []): readonly LintCode[] {
  return [...before, ...value.split(',').map(parseCode)];
}

async function run(flags: LintFlags): Promise<void> {
  const { stdout } = process;
  const paint = paintFor(stdout);
  // Some terminals do not know their width, and say 0.
  const width = stdout.columns > 0 ? stdout.columns : DEFAULT_WIDTH;
  if (flags.list === true) stdout.write(listOfCodes(paint));
  else if (flags.explain !== undefined) stdout.write(explanationOf(flags.explain, width, paint));
  else {
    const document = await readAndLint(flags);
    if (isFailure(document, flags.failOn)) process.exitCode = 1;
    if (flags.output === 'sarif') stdout.write(`${JSON.stringify(sarif(document, flags.source, process.cwd()), undefined, 2)}\n`);
    else if (flags.output === 'table') for (const line of lintTable(visibleDocument(document), paint, width)) stdout.write(`${line}\n`);
    else stdout.write(formatDocument(flags.output, document));
  }
}

async function readAndLint(flags: LintFlags): Promise<LintDocument> {
  const { namespace: namespaces = [], only = [], ignore = [], severity } = flags;
  const inventory = await withProgress('reading objects', () => readInventory(flags, { namespaces }));
  const unread = inventory.problems.filter((problem) => !isFinding(problem));
  const paint = paintFor(process.stderr);
  for (const problem of unread) console.error(formatProblem(problem, paint));
  if (unread.some(({ severity }) => severity === 'error')) process.exitCode = 1;
  for (const name of namespaces) requireNamespace(name, inventory);
  const document = await lintInventory(inventory, { only, ignore, severity, namespaces });
  for (const { what, reason, consequence } of document.missing) {
    console.error(`${paint('yellow', 'missing')}: ${what}: ${reason}. ${consequence}`);
  }
  return document;
}

/** The whole answer. @throws SluiceError where Services or workloads cannot be asked for */
export async function lintInventory(inventory: Inventory, selection: LintSelection): Promise<LintDocument> {
  return lintDocument(inventory, lint(await lintInput(inventory), wantedCodes(selection)), selection);
}

/** What was wrong with a policy when it was read is among the findings, unless it was not asked for: then nobody wants to hear of it. */
function isFinding({ code, object, severity }: SourceProblem): boolean {
  return isLintCode(code) && severity !== 'notice' && object?.startsWith('NetworkPolicy ') === true;
}

function isFailure({ findings }: Pick<LintDocument, 'findings'>, failOn: LintFlags['failOn']): boolean {
  return failOn !== 'never' && findings.some(({ severity }) => isAtLeast(severity, failOn));
}

function requireNamespace(name: string, { namespaces, policies, pods, origin }: Inventory): void {
  const known = new Set([
    ...namespaces.map(({ name }) => name),
    ...policies.map(({ namespace }) => namespace),
    ...pods.map(({ namespace }) => namespace),
  ]);
  if (known.has(name)) return;
  const near = nearest(name, known);
  throw new SluiceError('NAMESPACE_UNKNOWN', `there is no namespace ${JSON.stringify(name)} in ${origin}`, {
    hint: near === undefined ? `Known are ${[...known].slice(0, 5).join(', ')}.` : `Did you mean ${near}?`,
    exitStatus: 2,
  });
}
