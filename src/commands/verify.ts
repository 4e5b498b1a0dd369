/** `sluice verify`: whether this kernel has what the cluster asks of it, object by object, without a word from the agent. */
import { counted } from '../output/counted.ts';
import { Command, Option } from 'commander';
import { type AtHand, lookAtHand } from '../audit/at-hand.ts';
import { describeBypass } from '../audit/bypasses.ts';
import type { Inventory } from '../audit/inventory.ts';
import type { KernelTable } from '../audit/kernel-table.ts';
import { requireNode, rulesOfNode } from '../audit/node-rules.ts';
import { compareBridges, compareTable, type Difference, prepare } from '../audit/table-comparison.ts';
import { type Comparison, type Verification, verify } from '../audit/verification.ts';
import { desiredTable } from '../enforcement/nftables/desired-table.ts';
import { SluiceError } from '../errors.ts';
import { paintFor, plain } from '../output/colour.ts';
import { API_VERSION, formatDocument } from '../output/document.ts';
import { visibleDocument } from '../output/visible-text.ts';
import type { NodeRuleset } from '../ruleset/node-ruleset.ts';
import { addEnforcementOptions, type EnforcementFlags, enforcementOf } from './enforcement-options.ts';
import { addInventoryOptions, type InventoryFlags, openInventory, readInventory, withProgress } from './inventory-options.ts';
import { whichNode } from './node-at-hand.ts';
import { seconds } from './seconds.ts';
import type { VerificationDocument } from './verify-document.ts';
import { patch } from './verify-patch.ts';

interface VerifyFlags extends InventoryFlags, EnforcementFlags {
  readonly node?: string;
  readonly settle: number;
  readonly output: 'patch' | 'json' | 'yaml';
}

/** As long as a running agent may take to bring something into force, several times over. */
const SETTLE_S = 5;

export function command(): Command {
  const verifyCommand = new Command('verify').description(
    'Compare the rules of this kernel with what the objects ask of it, computed anew, and show the difference as a patch. Nothing is asked of ' +
      'the agent, and nothing is changed. Needs CAP_NET_ADMIN in the network namespace of the node.',
  );
  addInventoryOptions(verifyCommand).option(
    '--node <name>',
    'whose kernel this is (default: what the status file says, $NODE_NAME, or the name of this host)',
  );
  return addEnforcementOptions(verifyCommand)
    .addOption(
      new Option('--settle <seconds>', 'how long to look, where something differs, for what differs all the time; 0: once')
        .default(SETTLE_S)
        .argParser(seconds),
    )
    .addOption(new Option('-o, --output <format>', 'for people or for programs').choices(['patch', 'json', 'yaml']).default('patch'))
    .addHelpText(
      'after',
      '\nExit status: 0 the kernel has what it should; 1 it has not, or it could not be looked at; 2 called wrongly.' +
        '\nA table that is missing is in order where no pod of the node is isolated.',
    )
    .action(run);
}

async function run(flags: VerifyFlags): Promise<void> {
  const inventory = await openInventory(flags);
  // It is the comparison that counts: an object with an error is in force as far as it can be read.
  process.exitCode = 0;
  refuseIncomplete(inventory);
  const hand = lookAtHand(inventory, flags);
  const node = whichNode(flags.node, hand, inventory);
  requireNode(node, inventory);
  const work = new Work(flags, hand, node, inventory);
  const settleMs = inventory.kind === 'bundle' ? 0 : flags.settle * 1_000;
  const verification = await withProgress(`comparing the kernel of ${node}`, () => verify({ readCluster: () => work.read(), settleMs }));
  const document = work.document(verification);
  if (!document.equal) process.exitCode = 1;
  print(document, flags.output);
}

/** Without all policies and pods nobody can tell what the kernel should have. */
function refuseIncomplete({ missing, origin }: Inventory): void {
  const [fault] = missing.filter(({ what }) => !what.startsWith('nodes'));
  if (fault === undefined) return;
  throw new SluiceError('VERIFY_INCOMPLETE', `${origin} does not show ${fault.what}: ${fault.reason}`, {
    hint: 'What the kernel should have depends on all pods, namespaces and policies: list and watch of them in the whole cluster is needed.',
  });
}

/** Reads both sides for one look after the other, and remembers what the answer says of them. */
class Work {
  readonly #flags: VerifyFlags;
  readonly #hand: AtHand;
  readonly #node: string;
  #inventory: Inventory | undefined;
  #rules: NodeRuleset | undefined;
  #kernel: KernelTable | undefined;

  /** @param inventory of the first look */
  constructor(flags: VerifyFlags, hand: AtHand, node: string, inventory: Inventory) {
    this.#flags = flags;
    this.#hand = hand;
    this.#node = node;
    this.#inventory = inventory;
  }

  async read(): Promise<() => Comparison> {
    const inventory = this.#inventory ?? (await readInventory(this.#flags));
    this.#inventory = undefined;
    this.#kernel = this.#hand.readTable();
    const { table, auditing, bridges } = enforcementOf(this.#flags, this.#hand, this.#kernel);
    const rules = rulesOfNode(inventory, this.#node, auditing);
    this.#rules = rules;
    const desired = prepare(desiredTable(rules, table));
    return () => {
      this.#kernel = this.#hand.readTable();
      const isNeeded = this.#kernel !== undefined || isolatedPods(rules) > 0;
      const differences: Difference[] = isNeeded ? compareTable(desired, this.#kernel) : [];
      for (const each of compareBridges(this.#hand.readBridges(bridges) ?? [])) differences.push(each);
      return { differences, generation: this.#kernel?.generation };
    };
  }

  document({ differences, looks, passing }: Verification): VerificationDocument {
    const rules = this.#rules;
    return {
      apiVersion: API_VERSION,
      kind: 'Verification',
      node: this.#node,
      equal: differences.length === 0,
      table: this.#kernel === undefined ? 'absent' : 'present',
      desired: {
        // With the two base chains, and the four maps.
        chains: (rules?.chains.size ?? 0) + 2,
        sets: (rules?.sets.size ?? 0) + 4,
        isolatedPods: rules === undefined ? 0 : isolatedPods(rules),
      },
      differences: differences.map(({ lines, ...difference }) => ({ ...difference, lines: [...lines] })),
      looks,
      passing,
      notes: this.#notes(differences),
    };
  }

  #notes(differences: readonly Difference[]): string[] {
    const notes: string[] = [];
    const table = this.#kernel?.table;
    if (table?.flags.includes('persist') === true && table.owner === undefined)
      notes.push('nobody owns the table: the agent of this node is not running');
    if (this.#hand.status?.mode === 'audit') notes.push('the agent is in audit mode: nothing is refused');
    if (differences.length > 0 && this.#hand.status?.ready === false) notes.push('the agent said last that it was not ready');
    for (const bypass of this.#hand.readBypasses()) notes.push(describeBypass(bypass));
    return notes;
  }
}

function isolatedPods(rules: NodeRuleset): number {
  const pods = new Set<string>();
  for (const { kind, of } of rules.chains.values()) if (kind === 'pod') pods.add(of);
  return pods.size;
}

function print(document: VerificationDocument, output: VerifyFlags['output']): void {
  if (output !== 'patch') {
    process.stdout.write(formatDocument(output, document));
    return;
  }
  const { node, differences, notes } = visibleDocument(document);
  const paint = process.stdout.isTTY ? paintFor(process.stdout) : plain;
  for (const line of patch(differences, paint)) console.log(line);
  const paintNote = paintFor(process.stderr);
  if (differences.length === 0) console.log(verdict(document));
  else
    console.error(
      `${node}: ${counted(differences.length, 'object is', 'objects are')} not as ${differences.length === 1 ? 'it' : 'they'} should be`,
    );
  for (const note of notes) console.error(`${paintNote('yellow', 'note')}: ${note}`);
}

function verdict({ node, table, desired: { chains, sets, isolatedPods: pods } }: VerificationDocument): string {
  if (table === 'absent') return `${node}: there is no table inet sluice, and no pod is isolated: nothing is to be refused`;
  return `${node}: the kernel has what it should: ${chains} chains and ${sets} sets, for ${counted(pods, 'isolated pod', 'isolated pods')}`;
}
