/** `sluice matrix`: the evaluator's verdict for every pair of pods, without any kernel; what the rules are to agree with. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import { SluiceError } from '../errors.ts';
import { paintFor } from '../output/colour.ts';
import { formatProblem } from '../output/problems.ts';
import { worldOf } from '../policy/world.ts';
import { loadDirectory } from '../sources/load-directory.ts';
import { type Endpoint, selectEndpoints } from './matrix-endpoints.ts';
import { matrix, type MatrixRecord, type Port } from './matrix-records.ts';
import { matrixTable } from './matrix-table.ts';

interface MatrixOptions {
  readonly source: string;
  readonly output: 'table' | 'json';
  readonly from?: readonly string[];
  readonly to?: readonly string[];
  readonly port?: readonly Port[];
}

export function command(): Command {
  const endpoint = 'namespace/pod, namespace/*, namespace or an address; repeatable (default: every pod)';
  return new Command('matrix')
    .description(
      'Show who may reach whom, as the policies in a directory of manifests say; no kernel is asked.\n' +
        'Asked is every pair of pods, on each container port that the destination declares.',
    )
    .requiredOption('--source <dir>', 'directory with the manifests of pods, namespaces, nodes and policies')
    .addOption(new Option('-o, --output <format>', 'for people or for programs').choices(['table', 'json']).default('table'))
    .option('--from <name>', `only from: ${endpoint}`, append)
    .option('--to <name>', `only to: ${endpoint}`, append)
    .option('--port <port[/protocol]>', 'ask about this port, declared or not; TCP unless said; repeatable', appendPort)
    .addHelpText(
      'after',
      '\nThe table leaves out pairs of a pod with itself, which are always allowed; json has them.' +
        '\nProblems of the manifests go to stderr. Exit status: 0, or 1 if any of them is an error (the answer is printed all the same).',
    )
    .action(run);
}

function append(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function appendPort(text: string, before: readonly Port[] = []): readonly Port[] {
  const [, digits, name = 'TCP'] = /^(\d{1,5})(?:\/(\w+))?$/u.exec(text) ?? [];
  const port = Number(digits);
  const protocol = name.toUpperCase();
  if (!(port >= 1 && port <= 65_535)) throw new InvalidArgumentError('A port is a number from 1 to 65535, as in 80 or 53/UDP.');
  if (protocol !== 'TCP' && protocol !== 'UDP' && protocol !== 'SCTP') {
    throw new InvalidArgumentError('The protocols are TCP, UDP and SCTP.');
  }
  return [...before, { port, protocol }];
}

async function run(options: MatrixOptions): Promise<void> {
  const contents = await loadDirectory(options.source);
  const paintProblem = paintFor(process.stderr);
  for (const problem of contents.problems) console.error(formatProblem(problem, paintProblem));
  if (contents.problems.some(({ severity }) => severity === 'error')) process.exitCode = 1;

  const world = worldOf(contents);
  const sources = selectEndpoints(options.from ?? [], contents.pods, world);
  const destinations = selectEndpoints(options.to ?? [], contents.pods, world);
  for (const [name, reason] of new Map([...sources.leftOut, ...destinations.leftOut].map(({ name, reason }) => [name, reason]))) {
    console.error(`${name} is left out: ${reason}`);
  }
  const portsOf = (destination: Endpoint): readonly Port[] => options.port ?? destination.pod?.declaredPorts ?? [];
  explainMissingPorts(destinations.endpoints.filter((destination) => portsOf(destination).length === 0));

  const records = matrix(world, sources.endpoints, destinations.endpoints, portsOf);
  await print(records, options.output);
}

/** A destination without ports has no record, which must not look like an answer. */
function explainMissingPorts(destinations: readonly Endpoint[]): void {
  const address = destinations.find(({ pod }) => pod === undefined);
  if (address !== undefined) {
    throw new SluiceError('PORT_MISSING', `--to ${address.name} is an address, and declares no ports`, {
      hint: 'Say which port is meant with --port.',
      exitStatus: 2,
    });
  }
  for (const { name } of destinations)
    console.error(`${name} is left out as a destination: it declares no ports (ask about one with --port)`);
}

async function print(records: Iterable<MatrixRecord>, format: 'table' | 'json'): Promise<void> {
  const { stdout } = process;
  // Some terminals do not know their width, and say 0.
  const width = stdout.columns > 0 ? stdout.columns : undefined;
  const lines = format === 'json' ? jsonArray(records) : withNewlines(matrixTable(records, paintFor(stdout), width));
  await pipeline(Readable.from(lines), stdout, { end: false });
}

/** A JSON array with a record on each line, so that it can be read by line as well. */
function* jsonArray(records: Iterable<MatrixRecord>): Generator<string> {
  let separator = '[\n';
  for (const record of records) {
    yield `${separator}${JSON.stringify(record)}`;
    separator = ',\n';
  }
  yield separator === '[\n' ? '[]\n' : '\n]\n';
}

function* withNewlines(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}
