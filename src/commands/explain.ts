/** `sluice explain`: whether one may reach another and why, down to the line of the policy and the rule of the kernel. */
import { Command, Option } from 'commander';
import { isAssumed } from '../audit/assumed-addresses.ts';
import { type AtHand, lookAtHand } from '../audit/at-hand.ts';
import { ENDPOINT_HELP, namespacesOf, parseDestination, podNamed, resolveEndpoint } from '../audit/endpoints.ts';
import type { DirectionExplanation } from '../audit/explanation.ts';
import { endsOf, type Member, type Note } from '../audit/explanation-ends.ts';
import { type ExplainedFlow, explainFlows, type Group } from '../audit/explanation-flows.ts';
import { askKernel, type AskedKernel, concernsNode, type KernelAnswer, NO_TABLE } from '../audit/explanation-kernel.ts';
import type { Inventory } from '../audit/inventory.ts';
import type { KernelTable } from '../audit/kernel-table.ts';
import { SluiceError } from '../errors.ts';
import { paintFor } from '../output/colour.ts';
import { API_VERSION, formatDocument } from '../output/document.ts';
import { DEFAULT_WIDTH } from '../output/lists.ts';
import { visibleDocument } from '../output/visible-text.ts';
import { familyOf, formatAddress, formatPrefix } from '../policy/address.ts';
import type { Question } from '../policy/evaluate.ts';
import type { Auditing } from '../policy/mode.ts';
import type { Direction } from '../policy/objects.ts';
import { suggestPolicy } from '../policy/suggest.ts';
import { enforcementOf } from './enforcement-options.ts';
import type { ExplainDocument } from './explain-document.ts';
import { disagrees, explainTable } from './explain-table.ts';
import { addInventoryOptions, type InventoryFlags, openInventory } from './inventory-options.ts';

export interface ExplainFlags extends InventoryFlags {
  readonly namespace: string;
  readonly suggest?: true;
  readonly node?: string;
  readonly statusFile?: string;
  readonly output: 'text' | 'json' | 'yaml';
}

/** Members of an end that a document lists. */
const LISTED_MAX = 100;

export function command(): Command {
  const explain = new Command('explain')
    .description(
      'Say whether SOURCE may reach DESTINATION, and why: what admits it, or what isolates and comes nearest to admitting it.\n' +
        'On a node whose kernel is at hand, also what the rules of the kernel do, and whether that agrees.',
    )
    .argument('<source>', ENDPOINT_HELP)
    .argument(
      '<destination>',
      'the same, with :PORT or :PORT/PROTOCOL (a name of a port will do), or :icmp; default: each port that it declares',
    )
    .option('-n, --namespace <name>', 'of names without one', 'default');
  return addInventoryOptions(explain)
    .option('--suggest', 'show the narrowest policies that would allow what is refused')
    .option('--node <name>', 'whose kernel this is (default: what the status file says, $NODE_NAME, or the name of this host)')
    .option('--status-file <file>', "the agent's, which says whose kernel this is (default: /run/sluice/status.json, where it is there)")
    .addOption(new Option('-o, --output <format>', 'for people or for programs').choices(['text', 'json', 'yaml']).default('text'))
    .addHelpText(
      'after',
      '\nA destination that is a Service stands for its endpoints. IPv6 addresses with a port are in brackets: [fd00::1]:80.' +
        '\nExit status: 0 everything that was asked is allowed; 1 something is refused or could not be answered, the kernel does not agree, or' +
        '\nan object is in error; 2 called wrongly, a name that stands for nothing included.',
    )
    .action(run);
}

async function run(source: string, destination: string, flags: ExplainFlags): Promise<void> {
  // Before anything is read: what is called wrongly is said at once.
  const { name } = parseDestination(destination);
  const namespaces = [...new Set([...namespacesOf(source, flags.namespace), ...namespacesOf(name, flags.namespace)])];
  const ends = [podNamed(source, flags.namespace), podNamed(name, flags.namespace)].filter((end) => end !== undefined);
  const inventory = await openInventory(flags, { namespaces, pods: ends.length === 2 ? ends : undefined, assume: true });
  const document = await explain(inventory, source, destination, flags);
  if (!document.allowed || document.flows.some(disagrees)) process.exitCode = 1;
  const { stdout } = process;
  if (flags.output !== 'text') {
    stdout.write(formatDocument(flags.output, document));
    return;
  }
  // Some terminals do not know their width, and say 0.
  const width = stdout.columns > 0 ? stdout.columns : DEFAULT_WIDTH;
  const lines = [...explainTable(visibleDocument(document), paintFor(stdout), width)];
  stdout.write(`${lines.join('\n').trimEnd()}\n`);
}

/**
 * The whole answer. @throws SluiceError where a name stands for nothing or for several things, or a port is needed and there is none
 *
 * @param hand the kernel at hand; undefined: look for one
 */
export async function explain(
  inventory: Inventory,
  source: string,
  destination: string,
  flags: Pick<ExplainFlags, 'namespace' | 'suggest' | 'node' | 'statusFile'>,
  hand: AtHand = lookAtHand(inventory, flags),
): Promise<ExplainDocument> {
  const asked = parseDestination(destination);
  const from = await resolveEndpoint(inventory, source, flags.namespace);
  const to = await resolveEndpoint(inventory, asked.name, flags.namespace);
  const ends = await endsOf(inventory, from, to, asked);
  const { flows, unanswered } = explainFlows(inventory, ends);
  const kernel = kernelOf(inventory, hand, flows);
  const asks = kernel !== undefined && !('unread' in kernel) ? kernel : undefined;
  const left = [...ends.unanswered, ...unanswered];
  const documents = flows.map((flow) => flowDocument(flow, inventory, asks, flags.suggest === true));
  // Where it disagrees, having none has been its answer.
  const unread =
    kernel === undefined || asks?.table !== undefined || documents.some(disagrees)
      ? undefined
      : 'unread' in kernel
        ? kernel.unread
        : NO_TABLE;
  return {
    apiVersion: API_VERSION,
    kind: 'Explanation',
    origin: inventory.origin,
    question: { source, destination, namespace: flags.namespace },
    allowed: left.length === 0 && flows.length > 0 && flows.every(({ allowed }) => allowed),
    flows: documents,
    unanswered: left,
    notes: [...ends.notes, ...auditNotes(inventory, hand, flows)],
    ...(kernel === undefined ? {} : { kernel: { node: kernel.node, saidBy: hand.saidBy, ...(unread === undefined ? {} : { unread }) } }),
    missing: [...inventory.missing],
  };
}

/** Undefined: no kernel is at hand, or one that these flows do not concern. */
function kernelOf(
  inventory: Inventory,
  hand: AtHand,
  flows: readonly ExplainedFlow[],
): AskedKernel | { readonly node: string; readonly unread: string } | undefined {
  const { node } = hand;
  if (node === undefined || !concernsNode(flows, node)) return undefined;
  let table: KernelTable | undefined;
  try {
    table = hand.readTable();
  } catch (error) {
    if (error instanceof SluiceError) return { node, unread: error.message };
    throw error;
  }
  const modes = new Map(inventory.namespaces.map(({ name, mode }) => [name, mode]));
  const bridges = hand.readBridges(enforcementOf({}, hand).bridges) ?? [];
  return { node, table, bridges, auditing: auditingOf(hand), world: inventory.world, modes };
}

function auditingOf({ status }: AtHand): Auditing | undefined {
  const { mode, enforcement } = status ?? {};
  if (mode === undefined || enforcement === undefined || enforcement === null) return undefined;
  return { mode, namespaces: enforcement.auditNamespaces };
}

/** Where what is refused may be let through all the same. */
function auditNotes(inventory: Inventory, hand: AtHand, flows: readonly ExplainedFlow[]): Note[] {
  const auditing = auditingOf(hand);
  if (auditing?.mode === 'audit') {
    return [
      {
        code: 'AUDIT',
        message: `the agent of ${hand.node ?? 'this node'} runs with --mode audit: it refuses nothing, and counts what it would refuse`,
      },
    ];
  }
  const refusing = new Set(
    flows
      .flatMap(({ source, destination, egress, ingress }) => [
        ...(egress.allowed ? [] : source.members),
        ...(ingress.allowed ? [] : destination.members),
      ])
      .map(({ pod }) => pod?.namespace),
  );
  const audited = inventory.namespaces.filter(({ name, mode }) => mode === 'audit' && refusing.has(name)).map(({ name }) => name);
  if (audited.length === 0 || auditing?.namespaces === false) return [];
  return [
    {
      code: 'AUDIT',
      message: `${audited.length === 1 ? 'namespace' : 'namespaces'} ${audited.join(', ')} ${audited.length === 1 ? 'asks' : 'ask'} to be audited: where the agent honours that, what is refused to pods there is let through and counted`,
    },
  ];
}

type FlowDocument = ExplainDocument['flows'][number];

function flowDocument(flow: ExplainedFlow, inventory: Inventory, kernel: AskedKernel | undefined, suggest: boolean): FlowDocument {
  const { itself, families, protocol, ports, allowed } = flow;
  const suggestions = suggest && !allowed ? suggestionsFor(flow, inventory) : undefined;
  return {
    source: endDocument(flow.source),
    destination: endDocument(flow.destination),
    itself,
    families: [...families],
    protocol,
    ports: ports.map((port) => ({ ...port })),
    allowed,
    egress: directionDocument(flow, 'egress', kernel),
    ingress: directionDocument(flow, 'ingress', kernel),
    ...(suggestions === undefined ? {} : { suggestions }),
  };
}

function endDocument({ name, of, members, blocks }: Group): FlowDocument['source'] {
  return {
    name,
    of,
    count: members.length,
    members: members.slice(0, LISTED_MAX).map((member) => ({
      name: member.name,
      addresses: member.addresses.filter((address) => !isAssumed(address)).map(formatAddress),
      ...(member.pod === undefined || member.pod.node === '' ? {} : { node: member.pod.node }),
    })),
    blocks: blocks.map(formatPrefix),
  };
}

function directionDocument(flow: ExplainedFlow, direction: Direction, kernel: AskedKernel | undefined): FlowDocument['egress'] {
  const answer = kernel && askKernel(kernel, flow, direction);
  return { ...explanationDocument(flow[direction]), ...(answer === undefined ? {} : { kernel: kernelDocument(answer, direction) }) };
}

function explanationDocument(explanation: DirectionExplanation): FlowDocument['egress'] {
  switch (explanation.reason) {
    case 'admitted': {
      const { allowed, reason, by, port } = explanation;
      return { allowed, reason, by, ...(port === undefined ? {} : { port }) };
    }
    case 'refused': {
      const { allowed, reason, isolatedBy, misses, missesLeftOut, missesVary, beyondBudget } = explanation;
      return {
        allowed,
        reason,
        isolatedBy: [...isolatedBy],
        misses: misses.map((miss) => ({ ...miss, faults: [...miss.faults] })),
        missesLeftOut,
        ...(beyondBudget.length === 0 ? {} : { beyondBudget: [...beyondBudget] }),
        ...(missesVary === undefined ? {} : { missesVary }),
      };
    }
    case 'external':
    case 'node':
    case 'not-isolated':
    case 'same-pod':
    case 'own-node':
      return { allowed: true, reason: explanation.reason };
  }
}

function kernelDocument(answer: KernelAnswer, direction: Direction): NonNullable<FlowDocument['egress']['kernel']> {
  if (!answer.judged) return { judged: false, reason: answer.reason };
  const { effect, via, rule, audited, agrees, difference, followed, source, destination } = answer;
  return {
    judged: true,
    effect,
    chain: rule?.chain ?? direction,
    ...(rule === undefined
      ? {}
      : {
          rule: {
            ...(rule.handle === undefined ? {} : { handle: rule.handle }),
            text: rule.text,
            ...(rule.comment === undefined ? {} : { place: rule.comment }),
            ...(rule.packets === undefined ? {} : { packets: rule.packets }),
            ...(rule.bytes === undefined ? {} : { bytes: rule.bytes }),
          },
        }),
    via: via.map(({ chain }) => chain),
    audited,
    agrees,
    ...(difference === undefined ? {} : { difference }),
    followed,
    source: source.name,
    destination: destination.name,
  };
}

/** For the first source and destination: what would admit others of the entry as well is in the notes of each. */
function suggestionsFor(flow: ExplainedFlow, inventory: Inventory): NonNullable<FlowDocument['suggestions']> {
  const question = questionOf(flow);
  if (question === undefined) return [];
  return suggestPolicy(inventory.world, question).map(({ direction, policy, admits, notes }) => ({
    direction,
    admits,
    notes: [...notes],
    policy: { ...policy },
  }));
}

function questionOf({ source, destination, protocol, ports, families }: ExplainedFlow): Question | undefined {
  if (protocol === 'any') return undefined;
  const of = (member: Member): Question['source'] | undefined => member.addresses.find((address) => familyOf(address) === families[0]);
  for (const from of [...source.members, ...source.samples]) {
    for (const to of [...destination.members, ...destination.samples]) {
      const [a, b] = [of(from), of(to)];
      // A pod and itself are never refused.
      if (a === undefined || b === undefined || from.name === to.name) continue;
      return { source: a, destination: b, protocol, ...(ports[0] === undefined ? {} : { port: ports[0].port }) };
    }
  }
  return undefined;
}
