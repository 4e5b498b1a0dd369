/**
 * Whether the kernel of the node at hand does what the explanation of a flow says: its first packet is followed through the rules as they
 * are, in each direction that this node judges.
 */
import { type Address, type Family, familyOf } from '../policy/address.ts';
import { evaluate, type Question } from '../policy/evaluate.ts';
import { type Auditing, isAudited, type Mode } from '../policy/mode.ts';
import type { Direction } from '../policy/objects.ts';
import type { World } from '../policy/world.ts';
import type { BridgeState } from './bridge-state.ts';
import type { Member } from './explanation-ends.ts';
import type { ExplainedFlow } from './explanation-flows.ts';
import { type Agreement, compareWithKernel, followKernel, type KernelVerdict, type KernelWay } from './kernel-path.ts';
import type { KernelTable } from './kernel-table.ts';

/** The kernel that is asked. */
export interface AskedKernel {
  readonly node: string;
  /** Undefined: there is none, and nothing is refused. */
  readonly table: KernelTable | undefined;
  /** Those that pods of the node meet on, as far as they are there. */
  readonly bridges: readonly BridgeState[];
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
  const { table } = kernel;
  if (table === undefined && flow[direction].allowed) return { judged: false, reason: NO_TABLE };
  let shown: KernelAnswer | undefined;
  let followed = 0;
  for (const { source, destination, question } of packetsOf(kernel, flow, direction)) {
    if (followed++ >= FOLLOWED_MAX) break;
    const idle = idleReason(table);
    const way = table === undefined || idle !== undefined ? IDLE : followKernel(table, question);
    const agreement = idle === undefined ? agreementOf(kernel, question, direction, way) : agreementWithIdle(idle, flow[direction].allowed);
    const verdict = way[direction] ?? { effect: 'unknown', via: [], rule: undefined, audited: false };
    const answer: KernelAnswer = { judged: true, source, destination, question, followed, ...verdict, ...agreement };
    if (shown === undefined || (shown.judged && RANK[agreement.agrees] > RANK[shown.agrees])) shown = answer;
    if (agreement.agrees === 'no') break;
  }
  if (shown === undefined) return { judged: false, reason: `no packet of it is forwarded by ${kernel.node}` };
  return shown.judged ? { ...shown, followed: Math.min(followed, FOLLOWED_MAX) } : shown;
}

export const NO_TABLE = 'this kernel has no table inet sluice';

/** A kernel whose rules, if it has any, are not asked. */
const PASSES: KernelVerdict = { effect: 'accept', via: [], rule: undefined, audited: false };
const IDLE: KernelWay = { egress: PASSES, ingress: PASSES, others: [] };

function idleReason(table: KernelTable | undefined): string | undefined {
  if (table === undefined) return NO_TABLE;
  return table.table.flags.includes('dormant') ? 'its table inet sluice is dormant' : undefined;
}

function agreementWithIdle(reason: string, allowed: boolean): Agreement {
  return allowed ? { agrees: 'yes' } : { agrees: 'no', difference: `policy refuses it, and ${reason}: nothing is refused` };
}

const RANK: Readonly<Record<Agreement['agrees'], number>> = { yes: 0, unknown: 1, no: 2 };

function agreementOf(kernel: AskedKernel, question: Question, direction: Direction, way: KernelWay): Agreement {
  const { world, auditing, modes } = kernel;
  const verdict = evaluate(world, question)[direction];
  const subject = world.podAt(direction === 'egress' ? question.source : question.destination);
  const audited = auditing === undefined || subject === undefined ? undefined : isAudited(auditing, modes.get(subject.namespace));
  const agreement = compareWithKernel(verdict, way[direction], audited);
  const foreign = way.others.find(({ verdict: of }) => of.effect !== 'accept');
  if (agreement.agrees !== 'yes') return agreement;
  if (!verdict.allowed) return unseenOnBridge(kernel, question) ?? agreement;
  if (foreign === undefined) return agreement;
  return foreign.verdict.effect === 'drop'
    ? { agrees: 'no', difference: `policy admits it, and chain ${foreign.chain}, which no agent makes, drops it` }
    : { agrees: 'unknown', difference: `chain ${foreign.chain}, which no agent makes, may drop it` };
}

/**
 * Rules refuse nothing that does not come to them: packets between two pods of the node meet on a bridge (see src/enforcement/bridge-filter.ts).
 */
function unseenOnBridge({ world, node, bridges }: AskedKernel, { source, destination }: Question): Agreement | undefined {
  if ([source, destination].some((address) => world.podAt(address)?.node !== node)) return undefined;
  const flag = BRIDGE_FLAGS[familyOf(source)];
  for (const { name, filtering } of bridges) {
    if (filtering === null)
      return { agrees: 'no', difference: `what stays on bridge ${name} does not come to these rules: br_netfilter is not loaded` };
    if (!filtering[flag]) {
      // The kernel takes either (br_netfilter_hooks.c); whoever looks at a bundle cannot see the sysctl.
      const difference = `what stays on bridge ${name} comes to these rules by the sysctl net.bridge.bridge-nf-call-${flag} alone: the bridge has nf_call_${flag} 0`;
      return { agrees: 'unknown', difference };
    }
  }
  return undefined;
}

const BRIDGE_FLAGS: Readonly<Record<Family, 'iptables' | 'ip6tables'>> = { 4: 'iptables', 6: 'ip6tables' };

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
