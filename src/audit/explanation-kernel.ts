/**
 * Whether the kernel of the node at hand does what the explanation of a flow says: its first packet is followed through the rules as they
 * are, in each direction that this node judges.
 */
import { type Address, familyOf } from '../policy/address.ts';
import { evaluate, type Question } from '../policy/evaluate.ts';
import { type Auditing, isAudited, type Mode } from '../policy/mode.ts';
import type { Direction } from '../policy/objects.ts';
import type { World } from '../policy/world.ts';
import type { Member } from './explanation-ends.ts';
import type { ExplainedFlow } from './explanation-flows.ts';
import { type Agreement, compareWithKernel, followKernel, type KernelVerdict, type KernelWay } from './kernel-path.ts';
import type { KernelTable } from './kernel-table.ts';

/** The kernel that is asked. */
export interface AskedKernel {
  readonly node: string;
  readonly table: KernelTable;
  /** Undefined: the agent has not said. */
  readonly auditing: Auditing | undefined;
  readonly world: World;
  /** What namespaces ask for. */
  readonly modes: ReadonlyMap<string, Mode | undefined>;
}

export type KernelAnswer =
  /** `reason` says why this kernel does not judge it, as a sentence without its end. */
  | { readonly judged: false; readonly reason: string }
  | ({
      readonly judged: true;
      /** The flow that is shown: the first where the kernel does otherwise, if it does anywhere. */
      readonly source: Member;
      readonly destination: Member;
      readonly question: Question;
      /** How many flows were followed; the same is said of all where it agrees. */
      readonly followed: number;
    } & KernelVerdict &
      Agreement);

/** Packets that are followed for one direction of an entry: a group of thousands is not followed to its end. */
const FOLLOWED_MAX = 64;

/** Undefined: no policy is asked in this direction, on no node. */
export function askKernel(kernel: AskedKernel, flow: ExplainedFlow, direction: Direction): KernelAnswer | undefined {
  const subjects = [...(direction === 'egress' ? flow.source : flow.destination).members].filter(
    ({ pod }) => pod !== undefined && !pod.hostNetwork,
  );
  if (subjects.length === 0) return undefined;
  if (!subjects.some(({ pod }) => pod?.node === kernel.node)) {
    const nodes = [...new Set(subjects.map(({ pod }) => pod?.node ?? ''))].filter((node) => node !== '');
    const [only] = nodes;
    const where =
      nodes.length === 1 && only !== undefined
        ? `node ${only} judges it`
        : nodes.length === 0
          ? 'it is on no node yet'
          : 'other nodes judge it';
    return { judged: false, reason: `${where}, and not ${kernel.node}` };
  }
  if (flow[direction].reason === 'own-node')
    return { judged: false, reason: 'what a node itself sends and receives is not forwarded, and no rule sees it' };
  let shown: KernelAnswer | undefined;
  let followed = 0;
  for (const { source, destination, question } of packetsOf(kernel, flow, direction)) {
    if (followed++ >= FOLLOWED_MAX) break;
    const way = followKernel(kernel.table, question);
    const agreement = agreementOf(kernel, question, direction, way);
    const verdict = way[direction] ?? { effect: 'unknown', via: [], rule: undefined, audited: false };
    const answer: KernelAnswer = { judged: true, source, destination, question, followed, ...verdict, ...agreement };
    if (shown === undefined || (shown.judged && RANK[agreement.agrees] > RANK[shown.agrees])) shown = answer;
    if (agreement.agrees === 'no') break;
  }
  if (shown === undefined) return { judged: false, reason: `no packet of it is forwarded by ${kernel.node}` };
  return shown.judged ? { ...shown, followed: Math.min(followed, FOLLOWED_MAX) } : shown;
}

const RANK: Readonly<Record<Agreement['agrees'], number>> = { yes: 0, unknown: 1, no: 2 };

function agreementOf({ world, auditing, modes }: AskedKernel, question: Question, direction: Direction, way: KernelWay): Agreement {
  const verdict = evaluate(world, question)[direction];
  const subject = world.podAt(direction === 'egress' ? question.source : question.destination);
  const audited = auditing === undefined || subject === undefined ? undefined : isAudited(auditing, modes.get(subject.namespace));
  const agreement = compareWithKernel(verdict, way[direction], audited);
  const foreign = way.others.find(({ verdict: of }) => of.effect !== 'accept');
  if (agreement.agrees !== 'yes' || foreign === undefined || !verdict.allowed) return agreement;
  return foreign.verdict.effect === 'drop'
    ? { agrees: 'no', difference: `policy admits it, and chain ${foreign.chain}, which no agent makes, drops it` }
    : { agrees: 'unknown', difference: `chain ${foreign.chain}, which no agent makes, may drop it` };
}

interface Packet {
  readonly source: Member;
  readonly destination: Member;
  readonly question: Question;
}

/** Those that this node forwards for a pod of its own; pods of the direction take turns, since each has a chain of its own. */
function* packetsOf(kernel: AskedKernel, flow: ExplainedFlow, direction: Direction): Generator<Packet> {
  const { world, node } = kernel;
  const sources = [...flow.source.members, ...flow.source.samples];
  const destinations = [...flow.destination.members, ...flow.destination.samples];
  const isEgress = direction === 'egress';
  for (const other of isEgress ? destinations : sources) {
    for (const subject of isEgress ? sources : destinations) {
      if (subject.pod?.node !== node) continue;
      const [source, destination] = isEgress ? [subject, other] : [other, subject];
      const isSame = source.pod !== undefined && source.name === destination.name;
      if (isSame !== flow.itself) continue;
      for (const ends of endsOf(source, destination, flow)) {
        const otherAddress = isEgress ? ends.destination : ends.source;
        if (world.podAt(otherAddress) === undefined && world.nodeAt(otherAddress)?.name === node) continue;
        const { protocol } = flow;
        if (protocol === 'ICMP') yield { source, destination, question: { ...ends, protocol } };
        else if (protocol === 'any') yield { source, destination, question: { ...ends, protocol: 'TCP', port: 1 } };
        else for (const { port } of flow.ports) yield { source, destination, question: { ...ends, protocol, port } };
      }
    }
  }
}

function endsOf(
  source: Member,
  destination: Member,
  { families }: ExplainedFlow,
): { readonly source: Address; readonly destination: Address }[] {
  return source.addresses.flatMap((from) =>
    destination.addresses.flatMap((to) =>
      familyOf(from) === familyOf(to) && families.includes(familyOf(from)) ? [{ source: from, destination: to }] : [],
    ),
  );
}

/** Whether any end has a pod of the node, so that its kernel has anything to say. */
export function concernsNode(flows: readonly ExplainedFlow[], node: string): boolean {
  const isOn = ({ pod }: Member): boolean => pod?.node === node;
  return flows.some(({ source, destination }) => source.members.some(isOn) || destination.members.some(isOn));
}
