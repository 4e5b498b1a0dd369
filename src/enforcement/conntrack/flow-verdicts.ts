/** Whether live flows may go on: what is asked of policy about a flow of this node, and answers that are remembered within one sweep. */
import type { Address } from '../../policy/address.ts';
import { Admission } from '../../policy/admission.ts';
import { askedAbout, evaluateOne, type Flow, type Question } from '../../policy/evaluate.ts';
import type { Direction, Pod, Protocol } from '../../policy/objects.ts';
import type { World } from '../../policy/world.ts';

/** Of whom live flows are judged: the pods of one node, in one state of the cluster. */
export interface FlowJudge {
  readonly world: World;
  readonly node: string;
  /** Whether what a local pod refuses is let through; absent: it never is. */
  readonly isAudited?: ((pod: Pod) => boolean) | undefined;
}

/** The same, of a cluster that moves. */
export interface MovingFlowJudge extends FlowJudge {
  /** `version` is another in every other state. */
  readonly world: World & { readonly version: number };
}

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP', 'other'];
const PORTS = 65_536;

const DIRECTIONS = {
  none: [],
  egress: ['egress'],
  ingress: ['ingress'],
  both: ['egress', 'ingress'],
} as const satisfies Record<string, readonly Direction[]>;

/**
 * Whether a flow may go on. One that has no end here which refuses anything may go on as far as this node goes: if it is cut, then on
 * account of a pod that had the address before, or before it was audited.
 */
export function mayGoOn(question: Question, judge: FlowJudge): boolean {
  const { world } = judge;
  const flow: Flow = { ...question, sourcePod: world.podAt(question.source), destinationPod: world.podAt(question.destination) };
  return judgedIn(flow, judge).every((direction) => evaluateOne(world, question, direction).allowed);
}

/** The directions in which a pod of this node decides about a flow. */
function judgedIn({ sourcePod, destinationPod }: Flow, { node, isAudited }: FlowJudge): readonly Direction[] {
  const isEnforced = (pod: Pod | undefined): boolean => pod?.node === node && isAudited?.(pod) !== true;
  if (isEnforced(sourcePod)) return isEnforced(destinationPod) ? DIRECTIONS.both : DIRECTIONS.egress;
  return isEnforced(destinationPod) ? DIRECTIONS.ingress : DIRECTIONS.none;
}

/**
 * {@link mayGoOn} for hundreds of thousands of flows. What is remembered holds for one state of the cluster: in another, all of it is forgotten. What
 * has been prepared of the policies follows from them alone (admission.ts), and stays.
 */
export class FlowVerdicts {
  readonly #judge: MovingFlowJudge;
  readonly #admission = new Admission();
  readonly #remembered = new RememberedVerdicts();
  #version: number;

  constructor(judge: MovingFlowJudge) {
    this.#judge = judge;
    this.#version = judge.world.version;
  }

  /** As {@link mayGoOn} says in the state that the cluster is in. */
  mayGoOn(question: Question): boolean {
    const { version } = this.#judge.world;
    if (version !== this.#version) this.#remembered.forget();
    this.#version = version;
    const known = this.#remembered.get(question);
    if (known !== undefined) return known;
    const verdict = this.#judged(question);
    this.#remembered.set(question, verdict);
    return verdict;
  }

  /** Does what {@link mayGoOn} would otherwise do at once, in steps of some milliseconds at most; between two of them the cluster may change. */
  *prepare(question: Question): Generator<void> {
    const flow = this.#flowOf(question);
    for (const direction of judgedIn(flow, this.#judge)) {
      const asked = askedAbout(this.#judge.world, flow, direction);
      if (!('allowed' in asked)) yield* this.#admission.prepare(asked, direction);
    }
  }

  /** Whether {@link prepare} has nothing to do. */
  isPrepared(question: Question): boolean {
    if (this.#judge.world.version === this.#version && this.#remembered.get(question) !== undefined) return true;
    const flow = this.#flowOf(question);
    return judgedIn(flow, this.#judge).every((direction) => {
      const asked = askedAbout(this.#judge.world, flow, direction);
      return 'allowed' in asked || this.#admission.isPrepared(asked, direction);
    });
  }

  #judged(question: Question): boolean {
    const { world } = this.#judge;
    const flow = this.#flowOf(question);
    return judgedIn(flow, this.#judge).every((direction) => {
      const asked = askedAbout(world, flow, direction);
      return 'allowed' in asked ? asked.allowed : this.#admission.admits(world, asked, flow, direction);
    });
  }

  #flowOf({ source, destination, protocol, port }: Question): Flow {
    const { world } = this.#judge;
    return { source, destination, protocol, port, sourcePod: world.podAt(source), destinationPod: world.podAt(destination) };
  }
}

/** So many answers, each in a place of its own that another takes when it comes to the same. */
const PLACES = 1 << 14;

/**
 * Answers by source, destination, protocol and port. Tables of a fixed size, and no object an answer: where all flows are different there would be
 * a quarter of a million, and collecting them would take longer than judging.
 */
class RememberedVerdicts {
  readonly #sources: (Address | undefined)[] = Array.from({ length: PLACES });
  readonly #destinations: (Address | undefined)[] = Array.from({ length: PLACES });
  /** Protocol and port. */
  readonly #ports = new Uint32Array(PLACES);
  /** 0: none; otherwise the round that it was given in, and whether it was yes. */
  readonly #answers = new Float64Array(PLACES);
  #round = 1;

  get({ source, destination, protocol, port }: Question): boolean | undefined {
    const ports = portKey(protocol, port);
    const place = placeOf(source, destination, ports);
    const answer = this.#answers[place] ?? 0;
    if (answer < this.#round * 2 || this.#ports[place] !== ports) return undefined;
    if (this.#sources[place] !== source || this.#destinations[place] !== destination) return undefined;
    return answer === this.#round * 2 + 1;
  }

  set({ source, destination, protocol, port }: Question, verdict: boolean): void {
    const ports = portKey(protocol, port);
    const place = placeOf(source, destination, ports);
    this.#sources[place] = source;
    this.#destinations[place] = destination;
    this.#ports[place] = ports;
    this.#answers[place] = this.#round * 2 + (verdict ? 1 : 0);
  }

  forget(): void {
    this.#round++;
  }
}

function portKey(protocol: Protocol, port: number | undefined): number {
  return PROTOCOLS.indexOf(protocol) * PORTS + (port ?? 0);
}

function placeOf(source: Address, destination: Address, ports: number): number {
  const mixed = Math.imul(lowBits(source), 0x9e3779b1) ^ Math.imul(lowBits(destination), 0x85ebca6b) ^ Math.imul(ports, 0xc2b2ae35);
  return (mixed ^ (mixed >>> 15)) & (PLACES - 1);
}

function lowBits(address: Address): number {
  return typeof address === 'number' ? address : Number(BigInt.asUintN(32, address ^ (address >> 64n)));
}
