/** `sluice matrix`: who reaches whom, as the policies alone say, in rows and columns that stay readable; no kernel is asked. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import { resolveEndpoint } from '../audit/endpoints.ts';
import type { Inventory } from '../audit/inventory.ts';
import { SluiceError } from '../errors.ts';
import { DEFAULT_NAMESPACE } from '../kubernetes/metadata.ts';
import { paintFor } from '../output/colour.ts';
import { Equivalence } from '../policy/equivalence.ts';
import type { Party } from '../policy/equivalence-parties.ts';
import type { PolicyProtocol } from '../policy/objects.ts';
import { PORT_MAX } from '../policy/ports.ts';
import { addInventoryOptions, type InventoryFlags, openInventory } from './inventory-options.ts';
import { type Endpoints, othersOf, selectEndpoints } from './matrix-endpoints.ts';
import { type Grid, gridOf, type PortSpan } from './matrix-grid.ts';
import { matrixTable } from './matrix-table.ts';

const FORMATS = ['table', 'json', 'yaml', 'csv', 'dot', 'html'] as const;
type Format = (typeof FORMATS)[number];

interface MatrixFlags extends InventoryFlags {
  readonly output: Format;
  readonly by: 'group' | 'pod';
  readonly from?: readonly string[];
  readonly to?: readonly string[];
  readonly port?: readonly PortSpan[];
  readonly external?: boolean;
}

export function command(): Command {
  const endpoint = 'namespace/pod, namespace/KIND/name (deploy, sts, svc …), namespace or an address; repeatable';
  return addInventoryOptions(
    new Command('matrix').description(
      'Show who may reach whom, as the policies say; no kernel is asked.\n' +
        'Asked is every pod about every other, on each container port that the destination declares; and about nodes and what is outside of\n' +
        'the cluster. Endpoints with equal labels and equal verdicts are one row.',
    ),
  )
    .addOption(
      new Option('-o, --output <format>', 'for people, for programs, for a spreadsheet, for Graphviz, or a page to search')
        .choices(FORMATS)
        .default('table'),
    )
    .addOption(new Option('--by <what>', 'one row for what is alike, or one for each pod').choices(['group', 'pod']).default('group'))
    .option('--from <name>', `only from: ${endpoint} (default: everybody)`, append)
    .option('--to <name>', `only to: ${endpoint} (default: everybody)`, append)
    .option('--port <port[/protocol]>', 'ask about this port, declared or not; TCP unless said; repeatable', appendPort)
    .option('--external', 'ask about nodes and the outside although --from or --to names others')
    .option('--no-external', 'ask about pods only')
    .addHelpText(
      'after',
      '\nA pod and itself are left out, and a pod and its own node: these are always allowed.' +
        '\nProblems of the objects go to stderr. Exit status: 0, or 1 if any of them is an error (the answer is printed all the same).',
    )
    .action(run);
}

function append(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function appendPort(text: string, before: readonly PortSpan[] = []): readonly PortSpan[] {
  const [, digits, name = 'TCP'] = /^(\d{1,5})(?:\/(\w+))?$/u.exec(text) ?? [];
  const port = Number(digits);
  const protocol = name.toUpperCase();
  if (!(port >= 1 && port <= PORT_MAX)) throw new InvalidArgumentError('A port is a number from 1 to 65535, as in 80 or 53/UDP.');
  if (protocol !== 'TCP' && protocol !== 'UDP' && protocol !== 'SCTP') {
    throw new InvalidArgumentError('The protocols are TCP, UDP and SCTP.');
  }
  return [...before, { protocol, first: port, last: port }];
}

async function run(flags: MatrixFlags): Promise<void> {
  const { output, from = [], to = [] } = flags;
  const named = from.length > 0 && to.length > 0 ? [...from, ...to].map((name) => name.split('/')[0] ?? '') : [];
  const inventory = await openInventory(flags, { namespaces: [...new Set(named)], assume: true });
  const grid = ask(inventory, { ...flags, from: await podsOf(inventory, from), to: await podsOf(inventory, to) });
  if (grid.blocks.length === 0 && from.length + to.length > 0) {
    console.error('there is nothing to ask: a pod and itself, a pod and its own node, two that are no pods, or no addresses of one family');
  }
  const facts = { grid, origin: inventory.origin, by: flags.by, missing: inventory.missing };
  const { stdout } = process;
  const write = async (text: Iterable<string>): Promise<void> => pipeline(Readable.from(inPieces(text)), stdout, { end: false });
  switch (output) {
    case 'table':
      // Some terminals do not know their width, and say 0.
      return await write(lines(matrixTable(grid, paintFor(stdout), stdout.columns > 0 ? stdout.columns : undefined)));
    case 'json':
    case 'yaml':
      return await write((await import('./matrix-document.ts')).matrixDocument(output, facts));
    case 'csv':
      return await write((await import('./matrix-document.ts')).matrixCsv(grid));
    case 'dot':
      return await write((await import('./matrix-dot.ts')).matrixDot(grid));
    case 'html':
      return await write((await import('./matrix-page.ts')).matrixPage(facts));
  }
}

/** In place of workloads and Services the pods that these are. @throws SluiceError where one is not there, or has no pod */
async function podsOf(inventory: Inventory, names: readonly string[]): Promise<string[]> {
  const pods = names.map(async (name) => {
    if (name.split('/').length !== 3) return [name];
    const found = await resolveEndpoint(inventory, name, DEFAULT_NAMESPACE);
    const own = found.kind === 'service' ? found.backends.flatMap(({ pod }) => pod ?? []) : 'pods' in found ? found.pods : [];
    if (found.kind === 'pod') return [`${found.pod.namespace}/${found.pod.name}`];
    if (own.length > 0) return own.map((pod) => `${pod.namespace}/${pod.name}`);
    throw new SluiceError('ENDPOINT_EMPTY', `${name} has no pods`, { exitStatus: 2, hint: 'Name pods, a namespace or an address.' });
  });
  return (await Promise.all(pods)).flat();
}

function ask(inventory: Inventory, { from = [], to = [], port, external, by }: MatrixFlags): Grid {
  const { pods, nodes, world } = inventory;
  const equivalence = new Equivalence(world, pods);
  const others = external === false ? [] : othersOf(equivalence, nodes);
  const withOthers = (names: readonly string[]): Endpoints => {
    const { parties, leftOut } = selectEndpoints(names, pods, world);
    return { parties: names.length === 0 || external === true ? [...parties, ...others] : parties, leftOut };
  };
  const sources = withOthers(from);
  const destinations = withOthers(to);
  for (const [name, reason] of new Map([...sources.leftOut, ...destinations.leftOut].map(({ name, reason }) => [name, reason]))) {
    console.error(`${name} is left out: ${reason}`);
  }
  const declared = new Map(
    destinations.parties.map((party) => [
      party,
      port ?? (party.kind === 'pod' ? declaredPorts(party) : allPorts(equivalence, sources.parties, party)),
    ]),
  );
  const portsOf = (party: Party): readonly PortSpan[] => declared.get(party) ?? [];
  for (const party of destinations.parties) {
    if (portsOf(party).length === 0)
      console.error(`${party.name} is left out as a destination: it declares no ports (ask about one with --port)`);
  }
  const asked = destinations.parties.filter((party) => portsOf(party).length > 0);
  return gridOf({ equivalence, sources: sources.parties, destinations: asked, portsOf, by });
}

function declaredPorts({ pod }: Party): PortSpan[] {
  return (pod?.declaredPorts ?? []).map(({ protocol, port }) => ({ protocol, first: port, last: port }));
}

const PROTOCOLS: readonly PolicyProtocol[] = ['TCP', 'UDP', 'SCTP'];

/** Every port there is, cut where a policy of a source tells ports apart. */
function allPorts(equivalence: Equivalence, sources: readonly Party[], destination: Party): PortSpan[] {
  const ends = new Map(
    sources.flatMap(({ addresses }) => addresses.map((address) => equivalence.end(address))).map((end) => [end.class, end]),
  );
  const to = destination.addresses.map((address) => equivalence.end(address));
  return PROTOCOLS.flatMap((protocol) => {
    const cuts = new Set<number>();
    for (const source of ends.values()) for (const end of to) for (const cut of equivalence.portCuts(source, end, protocol)) cuts.add(cut);
    const firsts = [...cuts].sort((a, b) => a - b);
    return firsts.map((first, index) => ({ protocol, first, last: (firsts[index + 1] ?? PORT_MAX + 1) - 1 }));
  });
}

/** Many small texts are slow to write one by one. */
const PIECE = 65_536;

function* inPieces(texts: Iterable<string>): Generator<string> {
  let piece = '';
  for (const text of texts) {
    piece += text;
    if (piece.length < PIECE) continue;
    yield piece;
    piece = '';
  }
  if (piece !== '') yield piece;
}

function* lines(texts: Iterable<string>): Generator<string> {
  for (const text of texts) yield `${text}\n`;
}
