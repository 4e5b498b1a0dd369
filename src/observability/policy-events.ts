/**
 * Kubernetes Events about what is wrong with a NetworkPolicy, where its author looks: `kubectl events --for networkpolicy/NAME`.
 *
 * Every agent reads every policy, and one of them speaks: each policy has a node of its own, chosen by hash among the nodes that there
 * are, so nobody has to be elected. The same fault has the same name: said twice, by whomever, it is one Event. They are sent ten at
 * once at most, and one a second after that.
 */
import { createHash } from 'node:crypto';
import type { ApiClient } from '../kubernetes/api/client.ts';
import { ApiError } from '../kubernetes/api/errors.ts';
import type { Pod, Policy } from '../policy/objects.ts';
import { undeclaredPorts } from '../policy/undeclared-ports.ts';
import { TimeSlices } from '../time-slices.ts';
import type { SourceEvent, SourceProblem } from '../sources/source.ts';

export interface PolicyEventsOptions {
  readonly client: Pick<ApiClient, 'call'>;
  readonly node: string;
  /** An Event could not be sent; it is not tried again. */
  readonly onError: (error: unknown) => void;
  /** For tests: between Events once there were ten, and between looks for named ports. */
  readonly pauseMs?: number;
  readonly reviewMs?: number;
}

/** A policy, and the pods of its namespace. */
export interface PolicyWithPods {
  readonly policy: Policy;
  readonly pods: Iterable<Pod>;
  readonly podCount: number;
}

interface Fault {
  readonly namespace: string;
  readonly name: string;
  readonly problem: SourceProblem;
}

const BURST = 10;
const PAUSE_MS = 1_000;
const REVIEW_MS = 60_000;
/** What waits beyond this is dropped: a cluster of broken policies needs no thousand Events, and no namespace is to keep out the others. */
const WAITING_MAX = 1_000;
const WAITING_OF_A_NAMESPACE = 50;
/** Pods that one namespace's policies are compared with in one review, about: policies times pods. What is beyond is not looked at. */
const LOOKS_OF_A_NAMESPACE = 200_000;
/** The API takes up to so many bytes of a message. */
const MESSAGE_MAX = 1_000;

export class PolicyEvents {
  readonly #options: PolicyEventsOptions;
  readonly #nodes = new Set<string>();
  /** Faults that were found before everything had been read: only then it is known who speaks. */
  readonly #early = new Map<string, readonly SourceProblem[]>();
  readonly #said = new Set<string>();
  /** By namespace; the first is the next that is told of. */
  readonly #waiting = new Map<string, Fault[]>();
  #waitingCount = 0;
  readonly #stopping = new AbortController();
  #synced = false;
  /** How many may be sent at once, and when that was so. */
  #credit = BURST;
  #creditAt = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #review: NodeJS.Timeout | undefined;

  constructor(options: PolicyEventsOptions) {
    this.#options = options;
  }

  /** What the source says of objects: which nodes there are. */
  events(events: readonly SourceEvent[]): void {
    for (const event of events) {
      if (event.type === 'synced') {
        this.#synced = true;
        for (const [origin, problems] of this.#early) this.problems(origin, problems);
        this.#early.clear();
      } else if (event.kind === 'Node') {
        if (event.type === 'upsert') this.#nodes.add(event.key);
        else this.#nodes.delete(event.key);
      }
    }
  }

  /** What the source says is wrong with an object now. */
  problems(origin: string, problems: readonly SourceProblem[]): void {
    const [, namespace, name] = /^NetworkPolicy ([^/]+)\/(.+)$/.exec(origin) ?? [];
    if (namespace === undefined || name === undefined) return;
    if (!this.#synced) {
      this.#early.set(origin, problems);
      return;
    }
    if (speaker(`${namespace}/${name}`, this.#nodes) !== this.#options.node) return;
    for (const problem of problems) {
      if (problem.severity !== 'notice') this.#wait({ namespace, name, problem });
    }
    this.#send();
  }

  /**
   * Looks from time to time for named ports that nobody declares. What is found twice is told: pods come a little later than the policy
   * about them.
   */
  review(policies: () => Iterable<PolicyWithPods>): void {
    const { reviewMs = REVIEW_MS } = this.#options;
    let before: ReadonlySet<string> = new Set();
    const again = (): void => {
      this.#review = setTimeout(() => {
        void this.#look(policies(), before).then((found) => {
          before = found;
          if (!this.#stopping.signal.aborted) again();
        });
      }, reviewMs).unref();
    };
    again();
  }

  /** Looks at one policy after the other, and lets others have their turn. Which of them name ports that nobody declares. */
  async #look(policies: Iterable<PolicyWithPods>, before: ReadonlySet<string>): Promise<ReadonlySet<string>> {
    const found = new Set<string>();
    const looks = new Map<string, number>();
    const slices = new TimeSlices();
    for (const { policy, pods, podCount } of policies) {
      await slices.pause();
      if (this.#stopping.signal.aborted) break;
      if (!namesPorts(policy)) continue;
      const used = (looks.get(policy.namespace) ?? 0) + podCount;
      looks.set(policy.namespace, used);
      if (used > LOOKS_OF_A_NAMESPACE) continue;
      const key = `${policy.namespace}/${policy.name}`;
      const problems = undeclaredPorts(policy, pods);
      if (problems.length === 0) continue;
      found.add(key);
      const origin = `NetworkPolicy ${key}`;
      if (before.has(key))
        this.problems(
          origin,
          problems.map((problem) => ({ ...problem, severity: 'warning', origin })),
        );
    }
    return found;
  }

  stop(): void {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#review);
  }

  #send(): void {
    if (this.#timer !== undefined || this.#stopping.signal.aborted) return;
    const { pauseMs = PAUSE_MS } = this.#options;
    while (this.#waitingCount > 0) {
      const now = performance.now();
      this.#credit = Math.min(BURST, this.#credit + (now - this.#creditAt) / pauseMs);
      this.#creditAt = now;
      if (this.#credit < 1) {
        this.#timer = setTimeout(
          () => {
            this.#timer = undefined;
            this.#send();
          },
          (1 - this.#credit) * pauseMs,
        ).unref();
        return;
      }
      this.#tell(this.#takeNext());
    }
  }

  #wait(fault: Fault): void {
    const own = this.#waiting.get(fault.namespace);
    if (this.#waitingCount >= WAITING_MAX || (own?.length ?? 0) >= WAITING_OF_A_NAMESPACE) return;
    this.#waitingCount++;
    if (own === undefined) this.#waiting.set(fault.namespace, [fault]);
    else own.push(fault);
  }

  /** Namespaces take turns. */
  #takeNext(): Fault | undefined {
    const [namespace, faults] = this.#waiting.entries().next().value ?? [];
    if (namespace === undefined || faults === undefined) return undefined;
    this.#waiting.delete(namespace);
    const fault = faults.shift();
    if (faults.length > 0) this.#waiting.set(namespace, faults);
    this.#waitingCount--;
    return fault;
  }

  #tell(fault: Fault | undefined): void {
    if (fault === undefined) return;
    const event = eventOf(fault, this.#options.node);
    if (this.#said.has(event.metadata.name)) return;
    if (this.#said.size > 10 * WAITING_MAX) this.#said.clear();
    this.#said.add(event.metadata.name);
    this.#credit--;
    void this.#options.client
      .call({ method: 'POST', path: `/api/v1/namespaces/${fault.namespace}/events`, body: event, signal: this.#stopping.signal })
      .catch((error: unknown) => {
        // It has been said before, by an agent before this one.
        if (error instanceof ApiError && error.status === 409) return;
        if (!this.#stopping.signal.aborted) this.#options.onError(error);
      });
  }
}

function namesPorts({ ingress = [] }: Policy): boolean {
  return ingress.some(({ ports = [] }) => ports.some(({ kind }) => kind === 'name'));
}

/** The node that speaks for a policy: the one whose hash with it is the greatest, so that few change when a node comes or goes. */
export function speaker(policy: string, nodes: Iterable<string>): string | undefined {
  let best: { readonly node: string; readonly hash: string } | undefined;
  for (const node of nodes) {
    const hash = createHash('sha1').update(`${policy} ${node}`).digest('hex');
    if (best === undefined || hash > best.hash) best = { node, hash };
  }
  return best?.node;
}

function eventOf({ namespace, name, problem }: Fault, node: string) {
  const { path, code, message } = problem;
  const hash = createHash('sha1')
    .update(JSON.stringify([code, path, message]))
    .digest('hex')
    .slice(0, 16);
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { namespace, name: `${name.slice(0, 230)}.${hash}` },
    involvedObject: { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', namespace, name },
    // What is only a notice is not told.
    type: 'Warning',
    reason: reasonOf(code),
    message: `${path}: ${message}`.slice(0, MESSAGE_MAX),
    source: { component: 'sluice', host: node },
    reportingComponent: 'sluice',
    reportingInstance: node,
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  };
}

/** `CIDR_INVALID` as Events write it: `CidrInvalid`. */
function reasonOf(code: string): string {
  return code
    .toLowerCase()
    .split('_')
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join('');
}
