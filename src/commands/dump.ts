/** `sluice dump`: the effective rules of nodes, as their agents would program them, with what the kernel has counted where it is at hand. */
import { Command, Option } from 'commander';
import { type AtHand, lookAtHand, tableAtHand } from '../audit/at-hand.ts';
import type { Inventory } from '../audit/inventory.ts';
import { nodeNames, requireNode, rulesOfNode } from '../audit/node-rules.ts';
import { countsOf } from '../audit/rule-counts.ts';
import { iptablesDump } from '../enforcement/iptables/text.ts';
import { rulesetText } from '../enforcement/nftables/text.ts';
import { SluiceError } from '../errors.ts';
import { type Paint, paintFor } from '../output/colour.ts';
import { API_VERSION, formatDocument } from '../output/document.ts';
import { DEFAULT_WIDTH, wrapList } from '../output/lists.ts';
import { nearest } from '../output/nearest.ts';
import { visibleDocument } from '../output/visible-text.ts';
import type { Pod } from '../policy/objects.ts';
import type { DumpDocument, IsolationRecord, RuleRecord, SetRecord } from './dump-document.ts';
import { dumpRecords } from './dump-records.ts';
import { addEnforcementOptions, type EnforcementFlags, enforcementOf } from './enforcement-options.ts';
import { addInventoryOptions, type InventoryFlags, openInventory } from './inventory-options.ts';

interface DumpFlags extends InventoryFlags, EnforcementFlags {
  readonly node?: string;
  readonly namespace?: string;
  readonly pod?: string;
  readonly output: 'table' | 'json' | 'yaml' | 'nft' | 'iptables';
}

export function command(): Command {
  const dump = new Command('dump').description(
    'Show the effective rules: for each isolated pod and direction the policies, and what they admit, names resolved to addresses; with what ' +
      'the rules have counted where the kernel of the node is at hand.',
  );
  addInventoryOptions(dump)
    .option('--node <name>', 'the node whose pods are meant (default: the one whose kernel is at hand, else all)')
    .option('-n, --namespace <name>', 'only pods of this namespace')
    .option('--pod <name>', 'only this pod: a name, or namespace/name')
    .addOption(
      new Option(
        '-o, --output <format>',
        'for people, for programs, or the whole table of a node as nft(8), or iptables and ipset, would list it',
      )
        .choices(['table', 'json', 'yaml', 'nft', 'iptables'])
        .default('table'),
    );
  return addEnforcementOptions(dump)
    .addHelpText(
      'after',
      '\nThe agent’s flags matter to -o nft and iptables, and to counters. Problems of the objects go to stderr.' +
        '\nExit status: 0, or 1 if any object has an error (the answer is printed all the same); 2 called wrongly.',
    )
    .action(run);
}

async function run(flags: DumpFlags): Promise<void> {
  const inventory = await openInventory(flags, flags.namespace === undefined ? {} : { namespaces: [flags.namespace] });
  // That a node is asked about does not say that this is its kernel.
  const hand = lookAtHand(inventory, { statusFile: flags.statusFile });
  if (flags.output === 'nft' || flags.output === 'iptables') {
    process.stdout.write(wholeTable(flags, inventory, hand, flags.output));
    return;
  }
  const nodes = whichNodes(flags, inventory, hand);
  const pods = whichPods(flags, inventory);
  const document = documentOf(flags, inventory, hand, nodes, pods);
  if (flags.output !== 'table') process.stdout.write(formatDocument(flags.output, document));
  else {
    const width = process.stdout.columns > 0 ? process.stdout.columns : DEFAULT_WIDTH;
    for (const line of table(visibleDocument(document), paintFor(process.stdout), width)) console.log(line);
  }
}

function whichNodes({ node, pod }: DumpFlags, inventory: Inventory, hand: AtHand): readonly string[] {
  if (node !== undefined) {
    requireNode(node, inventory);
    return [node];
  }
  const names = nodeNames(inventory);
  // A pod that is named is meant wherever it is.
  return pod === undefined && hand.node !== undefined && names.includes(hand.node) ? [hand.node] : names;
}

/** @throws SluiceError `NAMESPACE_UNKNOWN`, `POD_UNKNOWN`, `POD_AMBIGUOUS` */
function whichPods({ namespace: within, pod: named }: DumpFlags, { pods, namespaces, origin }: Inventory): readonly Pod[] {
  const known = new Set([...namespaces.map(({ name }) => name), ...pods.map(({ namespace }) => namespace)]);
  if (within !== undefined && !known.has(within)) throw unknown('NAMESPACE_UNKNOWN', `no namespace ${within} in ${origin}`, within, known);
  const there = within === undefined ? pods : pods.filter(({ namespace }) => namespace === within);
  if (named === undefined) return there;
  const [first = '', second] = named.split('/');
  const found = there.filter(({ namespace, name }) => (second === undefined ? name === first : namespace === first && name === second));
  if (found.length === 0) {
    const names = there.map(({ namespace, name }) => (second === undefined ? name : `${namespace}/${name}`));
    throw unknown('POD_UNKNOWN', `no pod ${named} in ${within === undefined ? origin : `namespace ${within}`}`, named, names);
  }
  if (found.length > 1) {
    throw new SluiceError('POD_AMBIGUOUS', `${named} may be ${found.map(({ namespace, name }) => `${namespace}/${name}`).join(' or ')}`, {
      hint: 'Say which with --namespace.',
      exitStatus: 2,
    });
  }
  return found;
}

function unknown(code: string, message: string, name: string, known: Iterable<string>): SluiceError {
  const near = nearest(name, known);
  return new SluiceError(code, message, { hint: near === undefined ? undefined : `Perhaps ${near} is meant.`, exitStatus: 2 });
}

function wholeTable(flags: DumpFlags, inventory: Inventory, hand: AtHand, output: 'nft' | 'iptables'): string {
  if (flags.namespace !== undefined || flags.pod !== undefined) {
    throw new SluiceError('OUTPUT_WHOLE', `-o ${output} is the whole table of a node; --namespace and --pod have no part in it`, {
      hint: 'Leave them out, or take -o table, json or yaml.',
      exitStatus: 2,
    });
  }
  const nodes = whichNodes(flags, inventory, hand);
  const [node, another] = nodes;
  if (node === undefined || another !== undefined) {
    throw new SluiceError('NODE_MISSING', `-o ${output} is the table of one node, and ${inventory.origin} has ${nodes.length}`, {
      hint: `Say which with --node${nodes.length === 0 ? '' : `: ${nodes.slice(0, 10).join(', ')}${nodes.length > 10 ? ', …' : ''}`}.`,
      exitStatus: 2,
    });
  }
  const { table: options, auditing } = enforcementOf(flags, hand.node === node ? hand : { status: undefined });
  const ruleset = rulesOfNode(inventory, node, auditing);
  return output === 'nft' ? rulesetText(ruleset, options) : iptablesDump(ruleset, options);
}

function documentOf(flags: DumpFlags, inventory: Inventory, hand: AtHand, nodes: readonly string[], pods: readonly Pod[]): DumpDocument {
  let countedOn: string | null = null;
  const records: IsolationRecord[] = [];
  for (const node of nodes) {
    const own = pods.filter((pod) => pod.node === node);
    if (own.length === 0) continue;
    const isAtHand = hand.node === node;
    const kernel = isAtHand ? tableAtHand(hand) : undefined;
    // Whoever only has the name of a node has not asked for its kernel.
    if (kernel !== undefined && 'reason' in kernel && hand.saidBy !== 'host name') console.error(`nothing is counted: ${kernel.reason}`);
    const table = kernel !== undefined && 'table' in kernel ? kernel.table : undefined;
    const { table: options, auditing } = enforcementOf(flags, isAtHand ? hand : { status: undefined }, table);
    if (table !== undefined) countedOn = node;
    const counts = table === undefined ? undefined : countsOf(table, options);
    for (const each of dumpRecords(rulesOfNode(inventory, node, auditing), own, counts)) records.push(each);
  }
  return { apiVersion: API_VERSION, kind: 'Dump', nodes: [...nodes], countedOn, pods: records };
}

function* table({ nodes, pods }: DumpDocument, paint: Paint, width: number): Generator<string> {
  if (pods.length === 0)
    yield `No policy isolates a pod of ${nodes.length === 1 ? `node ${nodes[0]}` : 'any node'} that was asked about: nothing is refused there.`;
  for (const { pod, node, direction, audited, addresses, policies, refused } of pods) {
    const isolating = policies.map(({ policy }) => policy.slice(policy.indexOf('/') + 1)).join(', ');
    const where = nodes.length === 1 ? '' : `  ${node}`;
    yield `${paint('bold', pod)}  ${direction}${where}  ${paint('dim', addresses.join(', ') || 'no address yet')}`;
    yield `  isolated by ${isolating}`;
    let admits = false;
    for (const { policy, rules } of policies) {
      for (const rule of rules) {
        admits = true;
        const counted = rule.counted === undefined ? '' : `, ${connections(rule.counted.packets)}`;
        yield `  ${paint('green', 'admits')} ${direction === 'ingress' ? 'from' : 'to'} ${whom(rule)}, ${what(rule)}${counted}  ${paint('dim', `${policy} ${rule.path}`)}`;
        for (const set of [rule.peer, rule.named]) yield* elements(set, paint, width);
      }
    }
    const rest = admits ? 'everything else' : 'everything';
    const counted = refused === undefined ? '' : `: ${refused.packets} ${refused.packets === 1 ? 'packet' : 'packets'} so far`;
    yield `  ${audited ? paint('yellow', `would refuse ${rest}, and lets it through (audit)`) : paint('red', `refuses ${rest}`)}${counted}`;
    yield '';
  }
}

function connections(count: number): string {
  return `${count} ${count === 1 ? 'connection' : 'connections'}`;
}

function whom({ peer, family, named }: RuleRecord): string {
  if (peer !== undefined) return `${peer.of}${family === 6 ? ' (IPv6)' : ''}`;
  return named === undefined ? 'anywhere' : `its peers${family === 6 ? ' (IPv6)' : ''}`;
}

function what({ protocol, ports, named }: RuleRecord): string {
  if (named !== undefined) return named.of;
  if (protocol === undefined) return 'every protocol';
  return ports === undefined ? `every ${protocol} port` : `${protocol} ${ports.join(', ')}`;
}

/** What a selector comes to now; a block without exceptions says itself what it is. */
function* elements(set: SetRecord | undefined, paint: Paint, width: number): Generator<string> {
  if (set === undefined || (set.elements.length === 1 && set.elements[0] === set.of)) return;
  if (set.elements.length === 0) yield paint('yellow', '      nothing now');
  else for (const line of wrapList(set.elements, width - 6)) yield paint('dim', `      ${line}`);
}
