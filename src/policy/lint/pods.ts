/**
 * A cluster's pods as checks of policies ask about them: in groups that no selector tells apart, with indexes, so that ten thousand
 * policies and twenty thousand pods are looked at in a second or two. What is asked is remembered.
 */
import type { Labels } from '../labels.ts';
import type { Direction, Peer, Pod, Policy } from '../objects.ts';
import { matches, type Selector } from '../selector.ts';
import { ownsAddresses } from '../world.ts';
import type { LintInput } from './input.ts';

/** Pods of one namespace that have the same labels, as far as any policy asks for them. */
export interface PodGroup {
  readonly namespace: string;
  /** Only those that some selector asks for. */
  readonly labels: Labels;
  /** Those that policy applies to: alive, and with a network of their own. */
  readonly pods: readonly Pod[];
  /** Of workloads (a Deployment's next pod), whether there are pods of them now or not; with a network of their own. */
  readonly templates: readonly Pod[];
  /** On the network of their node, pods and templates: neither subject nor peer (row 29). */
  readonly hostNetwork: readonly Pod[];
  /** Succeeded or Failed (row 33). */
  readonly ended: readonly Pod[];
}

/** Whether a policy can select anything of it, now or once its workload has pods. */
export function isSubject({ pods, templates }: PodGroup): boolean {
  return pods.length > 0 || templates.length > 0;
}

export class PodGroups {
  readonly #byNamespace: ReadonlyMap<string, readonly PodGroup[]>;
  /** By `namespace key=value`. */
  readonly #carrying: ReadonlyMap<string, readonly PodGroup[]>;
  readonly #selected = new Map<string, readonly PodGroup[]>();
  readonly #peers = new Map<string, readonly PodGroup[]>();
  readonly #subjects = new Map<readonly PodGroup[], readonly PodGroup[]>();
  readonly #namespaces: ReadonlyMap<string, Labels>;
  readonly #matchingNamespaces = new Map<string, readonly string[]>();
  #isolating: Readonly<Record<Direction, IsolatingPolicies>> | undefined;
  readonly #policies: readonly Policy[];

  constructor({ pods, templates, namespaces, policies, world }: LintInput) {
    this.#policies = policies;
    const asked = askedKeys(policies);
    const { byNamespace, carrying } = grouped(pods, templates, asked);
    this.#byNamespace = byNamespace;
    this.#carrying = carrying;
    const names = new Set([...namespaces.map(({ name }) => name), ...byNamespace.keys(), ...policies.map(({ namespace }) => namespace)]);
    this.#namespaces = new Map([...names].sort().map((name) => [name, world.namespaceLabels(name)]));
  }

  /** Every namespace that is known, by name, with its labels. */
  get namespaces(): ReadonlyMap<string, Labels> {
    return this.#namespaces;
  }

  ofNamespace(namespace: string): readonly PodGroup[] {
    return this.#byNamespace.get(namespace) ?? NO_GROUPS;
  }

  /** The groups of a namespace that a selector matches, whatever their pods are. */
  selected(namespace: string, selector: Selector): readonly PodGroup[] {
    const all = this.ofNamespace(namespace);
    if (selector.requirements.length === 0) return all;
    const key = `${namespace} ${selector.text}`;
    const known = this.#selected.get(key);
    if (known !== undefined) return known;
    const wanted = selector.requirements.find(({ operator }) => operator === 'In');
    const candidates =
      wanted === undefined ? all : wanted.values.flatMap((value) => this.#carrying.get(`${namespace} ${wanted.key}=${value}`) ?? []);
    const found = candidates.filter(({ labels }) => matches(selector, labels));
    this.#selected.set(key, found);
    return found;
  }

  /** The groups that a policy selects and can apply to. */
  subjects(policy: Policy): readonly PodGroup[] {
    return this.subjectsAmong(this.selected(policy.namespace, policy.subject));
  }

  /** Those to which policy applies; of the same list the same. */
  subjectsAmong(groups: readonly PodGroup[]): readonly PodGroup[] {
    let found = this.#subjects.get(groups);
    if (found === undefined) {
      found = groups.every(isSubject) ? groups : groups.filter(isSubject);
      this.#subjects.set(groups, found);
    }
    return found;
  }

  namespacesMatching(selector: Selector): readonly string[] {
    const known = this.#matchingNamespaces.get(selector.text);
    if (known !== undefined) return known;
    const found = [...this.#namespaces].flatMap(([name, labels]) => (matches(selector, labels) ? [name] : []));
    this.#matchingNamespaces.set(selector.text, found);
    return found;
  }

  /** The namespaces in which a peer looks for pods (rows 5, 9). */
  namespacesOf(peer: Extract<Peer, { kind: 'pods' }>, namespace: string): readonly string[] {
    return peer.namespaces === undefined ? [namespace] : this.namespacesMatching(peer.namespaces);
  }

  /** The groups that a peer of a policy of this namespace selects, whatever their pods are. */
  peers(peer: Extract<Peer, { kind: 'pods' }>, namespace: string): readonly PodGroup[] {
    const key = peer.namespaces === undefined ? `${namespace}\n${peer.pods.text}` : `\n${peer.namespaces.text}\n${peer.pods.text}`;
    const known = this.#peers.get(key);
    if (known !== undefined) return known;
    const found = this.namespacesOf(peer, namespace).flatMap((name) => this.selected(name, peer.pods));
    this.#peers.set(key, found);
    return found;
  }

  isIsolated(group: PodGroup, direction: Direction): boolean {
    return this.blanket(group.namespace, direction).length > 0 || this.selecting(group, direction).length > 0;
  }

  /** The policies that isolate the pods of a group: first those for the whole namespace. */
  isolating(group: PodGroup, direction: Direction): readonly Policy[] {
    return [...this.blanket(group.namespace, direction), ...this.selecting(group, direction)];
  }

  /** Of a namespace the policies that isolate every pod of it. */
  blanket(namespace: string, direction: Direction): readonly Policy[] {
    return this.#policiesOf(direction).blanket.get(namespace) ?? NONE;
  }

  /** The policies that isolate the pods of a group and not every pod of the namespace. */
  selecting(group: PodGroup, direction: Direction): readonly Policy[] {
    return this.#policiesOf(direction).selecting.get(group) ?? NONE;
  }

  #policiesOf(direction: Direction): IsolatingPolicies {
    this.#isolating ??= { ingress: this.#isolatingIn('ingress'), egress: this.#isolatingIn('egress') };
    return this.#isolating[direction];
  }

  /** Apart, because those of a whole namespace would be written down once for each of its groups. */
  #isolatingIn(direction: Direction): IsolatingPolicies {
    const blanket = new Map<string, Policy[]>();
    const selecting = new Map<PodGroup, Policy[]>();
    for (const policy of this.#policies) {
      if (policy[direction] === undefined) continue;
      if (policy.subject.requirements.length === 0) append(blanket, policy.namespace, policy);
      else for (const group of this.subjects(policy)) append(selecting, group, policy);
    }
    return { blanket, selecting };
  }
}

interface IsolatingPolicies {
  readonly blanket: ReadonlyMap<string, readonly Policy[]>;
  readonly selecting: ReadonlyMap<PodGroup, readonly Policy[]>;
}

const NONE: readonly Policy[] = [];
const NO_GROUPS: readonly PodGroup[] = [];

/** The keys of pod labels that any selector asks for. */
function askedKeys(policies: readonly Policy[]): ReadonlySet<string> {
  const keys = new Set<string>();
  const add = ({ requirements }: Selector): void => {
    for (const { key } of requirements) keys.add(key);
  };
  for (const { subject, ingress = [], egress = [] } of policies) {
    add(subject);
    for (const { peers = [] } of [...ingress, ...egress]) for (const peer of peers) if (peer.kind === 'pods') add(peer.pods);
  }
  return keys;
}

interface MutableGroup extends PodGroup {
  readonly pods: Pod[];
  readonly templates: Pod[];
  readonly hostNetwork: Pod[];
  readonly ended: Pod[];
}

function grouped(pods: readonly Pod[], templates: readonly Pod[], asked: ReadonlySet<string>) {
  const groups = new Map<string, MutableGroup>();
  const byNamespace = new Map<string, MutableGroup[]>();
  const carrying = new Map<string, MutableGroup[]>();
  const keys = [...asked].sort();
  const groupOf = (pod: Pod): MutableGroup => {
    const labels = keys.flatMap((key): [string, string][] => {
      const value = pod.labels.get(key);
      return value === undefined ? [] : [[key, value]];
    });
    const text = `${pod.namespace} ${labels.map(([key, value]) => `${key}=${value}`).join()}`;
    const known = groups.get(text);
    if (known !== undefined) return known;
    const group: MutableGroup = { namespace: pod.namespace, labels: new Map(labels), pods: [], templates: [], hostNetwork: [], ended: [] };
    groups.set(text, group);
    append(byNamespace, pod.namespace, group);
    for (const [key, value] of labels) append(carrying, `${pod.namespace} ${key}=${value}`, group);
    return group;
  };
  for (const pod of pods) {
    const group = groupOf(pod);
    (ownsAddresses(pod) ? group.pods : pod.terminal ? group.ended : group.hostNetwork).push(pod);
  }
  for (const template of templates) {
    const group = groupOf(template);
    (template.hostNetwork ? group.hostNetwork : group.templates).push(template);
  }
  return { byNamespace, carrying };
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
