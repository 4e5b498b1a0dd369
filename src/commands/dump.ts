/** `sluice dump`: the effective rules of a node, as its agent would program them. */
import { Command, Option } from 'commander';
import { Cluster } from '../cluster/cluster.ts';
import { DEFAULT_CUT_MARK } from '../enforcement/conntrack/flow-sweep.ts';
import { rulesetText } from '../enforcement/nftables/text.ts';
import { SluiceError } from '../errors.ts';
import { type Paint, paintFor, plain } from '../output/colour.ts';
import { DEFAULT_WIDTH, wrapList } from '../output/lists.ts';
import { formatProblem } from '../output/problems.ts';
import { NodeRuleset } from '../ruleset/node-ruleset.ts';
import { type DirectoryContents, loadDirectory } from '../sources/load-directory.ts';
import type { SourceEvent } from '../sources/source.ts';
import { DEFAULT_LOG_GROUP } from './agent-defaults.ts';
import { dumpRecords, type IsolationRecord, type RuleRecord, type SetRecord } from './dump-records.ts';
import { nearest } from '../output/nearest.ts';

interface DumpFlags {
  readonly source: string;
  readonly node: string;
  readonly output: 'table' | 'json' | 'nft';
}

export function command(): Command {
  return new Command('dump')
    .description(
      'Show the effective rules of a node: for each isolated pod and direction the policies, and what they admit, names resolved to addresses.',
    )
    .requiredOption('--source <dir>', 'directory with the manifests of pods, namespaces, nodes and policies')
    .requiredOption('--node <name>', 'the node whose pods are meant')
    .addOption(
      new Option('-o, --output <format>', 'for people, for programs, or as nft(8) would list the table')
        .choices(['table', 'json', 'nft'])
        .default('table'),
    )
    .addHelpText(
      'after',
      '\nProblems of the manifests go to stderr. Exit status: 0, or 1 if any of them is an error (the answer is printed all the same).',
    )
    .action(run);
}

async function run({ source, node, output }: DumpFlags): Promise<void> {
  const contents = await loadDirectory(source);
  const paintProblem = paintFor(process.stderr);
  for (const problem of contents.problems) console.error(formatProblem(problem, paintProblem));
  if (contents.problems.some(({ severity }) => severity === 'error')) process.exitCode = 1;
  const names = new Set([...contents.nodes.map(({ name }) => name), ...contents.pods.map((pod) => pod.node)].filter((name) => name !== ''));
  if (!names.has(node)) {
    const near = nearest(node, names);
    throw new SluiceError('NODE_UNKNOWN', `no Node object and no pod in ${source} names node ${node}`, {
      hint: near === undefined ? undefined : `Perhaps ${near} is meant.`,
      exitStatus: 2,
    });
  }
  const cluster = new Cluster(node);
  const ruleset = new NodeRuleset(cluster);
  ruleset.update(cluster.apply(eventsOf(contents)));
  if (output === 'nft') {
    process.stdout.write(rulesetText(ruleset, { owned: false, logGroup: DEFAULT_LOG_GROUP, cutMark: DEFAULT_CUT_MARK }));
    return;
  }
  const records = dumpRecords(
    ruleset,
    contents.pods.filter((pod) => pod.node === node),
  );
  if (output === 'json') process.stdout.write(`${JSON.stringify(records, undefined, 2)}\n`);
  else
    for (const line of table(node, records, process.stdout.isTTY ? paintFor(process.stdout) : plain, process.stdout.columns))
      console.log(line);
}

function* eventsOf({ pods, namespaces, nodes, policies }: DirectoryContents): Generator<SourceEvent> {
  for (const object of namespaces) yield { type: 'upsert', kind: 'Namespace', key: object.name, object };
  for (const object of nodes) yield { type: 'upsert', kind: 'Node', key: object.name, object };
  for (const object of pods) yield { type: 'upsert', kind: 'Pod', key: `${object.namespace}/${object.name}`, object };
  for (const object of policies) yield { type: 'upsert', kind: 'NetworkPolicy', key: `${object.namespace}/${object.name}`, object };
}

function* table(node: string, records: readonly IsolationRecord[], paint: Paint, width = DEFAULT_WIDTH): Generator<string> {
  if (records.length === 0) yield `No policy isolates a pod of node ${node}: nothing is refused there.`;
  for (const { pod, direction, addresses, policies } of records) {
    const isolating = policies.map(({ policy }) => policy.slice(policy.indexOf('/') + 1)).join(', ');
    yield `${paint('bold', pod)}  ${direction}  ${paint('dim', addresses.join(', ') || 'no address yet')}`;
    yield `  isolated by ${isolating}`;
    let admits = false;
    for (const { policy, rules } of policies) {
      for (const rule of rules) {
        admits = true;
        yield `  ${paint('green', 'admits')} ${direction === 'ingress' ? 'from' : 'to'} ${whom(rule)}, ${what(rule)}  ${paint('dim', `${policy} ${rule.path}`)}`;
        for (const set of [rule.peer, rule.named]) yield* elements(set, paint, width);
      }
    }
    yield `  ${paint('red', admits ? 'refuses everything else' : 'refuses everything')}`;
    yield '';
  }
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
