/**
 * The cluster as one node sees it: pods, namespaces, nodes and policies, with the indexes that tell what a change touches.
 *
 * Invariants, at the end of every {@link Cluster.apply}:
 * - a group's members are exactly the pods that are in sets (neither terminal nor hostNetwork) and that its selectors match;
 * - `member.addresses` of all pods together name each address at most once;
 * - what `apply` returns is all that differs from before, and its cost follows what differs.
 *
 * It answers the evaluator's questions ({@link World}) from the same indexes that the ruleset is made from.
 */
import { type Address, formatAddress, formatPrefix } from '../policy/address.ts';
import { BUDGETS, type Budgets, weightOf } from '../policy/budget.ts';
import type { Direction, Namespace, Node, Pod, Policy } from '../policy/objects.ts';
import { type Labels, sameLabels } from '../policy/labels.ts';
import type { Mode } from '../policy/mode.ts';
import { closedByNamespace, NamespaceBudget, namespaceReason } from '../policy/namespace-budget.ts';
import { selects } from '../policy/selector.ts';
import { defaultNamespaceLabels, localAddresses, ownsAddresses, togetherWith, type World } from '../policy/world.ts';
import type { SourceEvent } from '../sources/source.ts';
import { AddressOwners } from './address-owners.ts';
import { Bag } from './bag.ts';
import { GroupIndex } from './group-index.ts';
import type { Group, GroupDefinition } from './groups.ts';
import { Isolation } from './isolation.ts';
import { LabelSets } from './label-sets.ts';
import { type Member, membershipOf, type NamespaceRecord, NO_GROUPS, PodRecord } from './records.ts';

/** Of so many label sets of a namespace it is remembered what selects them. */
const REMEMBERED_ISOLATIONS = 1_000;
/** Policies and labels of all that is remembered of a namespace: thousands may select each of those label sets. */
const REMEMBERED_PARTS = 200_000;

const NO_RIVALS: ReadonlySet<PodRecord> = new Set();
const NO_POLICIES: readonly Policy[] = [];

/** Before and after of one thing; undefined where it was or is not there. */
export interface Change<T> {
  readonly before: T | undefined;
  readonly after: T | undefined;
}

/** What differs since the last time. Things that changed back within one batch may be listed with equal sides. */
export interface ClusterChanges {
  /** By `namespace/name`. */
  readonly policies: ReadonlyMap<string, Change<Policy>>;
  /** Pods of this node, now or before: something of them changed, or the mode that their namespace asks for. */
  readonly localPods: ReadonlySet<PodRecord>;
  /** Members that came, went, or changed address or port, in groups that existed before. */
  readonly groups: ReadonlyMap<Group, ReadonlyMap<PodRecord, Change<Member>>>;
}

/** An address that several pods claim. */
export interface Disputed {
  readonly address: string;
  /** `namespace/name` of the pod that it belongs to. */
  readonly owner: string;
  /** Of the others, the first few. */
  readonly others: readonly string[];
  /** How many claim it. */
  readonly count: number;
}

const OTHERS_NAMED = 5;

export class Cluster implements World {
  /** The node whose pods are the local ones; undefined: none are. */
  readonly node: string | undefined;
  readonly #budgets: Budgets;
  readonly #namespaces = new Map<string, NamespaceRecord>();
  readonly #nodes = new Map<string, Node>();
  readonly #nodesByAddress = new Map<Address, Node[]>();
  readonly #labelSets = new LabelSets();
  readonly #owners: AddressOwners;
  readonly #groups = new GroupIndex({
    labelSets: this.#labelSets,
    isLocal: (pod) => this.isLocal(pod),
    namespaces: () => this.#namespaces.values(),
    podCount: (namespace) => (namespace === undefined ? this.#podCount : (this.#namespaces.get(namespace)?.pods.size ?? 0)),
    namespace: (name) => this.#namespace(name),
    released: (namespace) => this.#dropIfUnused(namespace),
  });
  /** Policies that the budgets of their namespaces have no room for, and why. */
  readonly #closed = new Map<string, string>();
  /** Those of them that there is room for now: their rules have not been kept. */
  readonly #unread = new Set<string>();
  #podCount = 0;
  #policyCount = 0;
  #localPods = 0;
  /** The batch that is being applied: every pod it touches, with the state before. */
  #touched = new Map<PodRecord, Member | undefined>();
  #touchedLocal = new Set<PodRecord>();

  constructor(node?: string, budgets: Budgets = BUDGETS) {
    this.node = node;
    this.#budgets = budgets;
    this.#owners = new AddressOwners({ node, nodeOf: (name) => this.#nodes.get(name) });
  }

  get podCount(): number {
    return this.#podCount;
  }

  get policyCount(): number {
    return this.#policyCount;
  }

  /** Policies that isolate and admit nothing because the budgets of their namespaces have no room for them, and why (namespace-budget.ts). */
  get closedPolicies(): ReadonlyMap<string, string> {
    return this.#closed;
  }

  /** Closed policies that there is room for again. What they admit has not been kept: they have to be read, and applied, once more. */
  get unreadPolicies(): ReadonlySet<string> {
    return this.#unread;
  }

  /** Whether an object names this node: a Node, or a pod that runs on it. */
  get knowsNode(): boolean {
    return this.#localPods > 0 || (this.node !== undefined && this.#nodes.has(this.node));
  }

  /** Takes a batch of events in. Labels of whatever object count from then on, without a change of any policy (row 38). */
  apply(events: Iterable<SourceEvent>): ClusterChanges {
    const policies = new Map<string, Change<Policy>>();
    this.#touched = new Map();
    this.#touchedLocal = new Set();
    for (const event of events) {
      if (event.type === 'synced') continue;
      const object = event.type === 'upsert' ? event : undefined;
      switch (event.kind) {
        case 'Pod':
          this.#setPod(event.key, object?.kind === 'Pod' ? object.object : undefined);
          break;
        case 'Namespace':
          this.#setNamespace(event.key, object?.kind === 'Namespace' ? object.object : undefined);
          break;
        case 'Node':
          this.#setNode(event.key, object?.kind === 'Node' ? object.object : undefined);
          break;
        case 'NetworkPolicy':
          for (const [key, { before, after }] of this.#setPolicy(event.key, object?.kind === 'NetworkPolicy' ? object.object : undefined))
            policies.set(key, { before: policies.has(key) ? policies.get(key)?.before : before, after });
          break;
      }
    }
    this.#settleMembers();
    return { policies, localPods: this.#touchedLocal, groups: this.#settleGroups() };
  }

  // --- objects

  #setPod(key: string, pod: Pod | undefined): void {
    let record = this.pod(key);
    if (pod === undefined) {
      if (record === undefined) return;
      this.#touch(record);
      for (const address of record.pod.addresses) this.#release(address, record);
      record.namespace.pods.delete(record.pod.name);
      this.#podCount--;
      if (record.namespace.localPods.delete(record)) this.#localPods--;
      this.#labelSets.release(record.labelSet, record);
      this.#dropIfUnused(record.namespace);
      return;
    }
    if (record === undefined) {
      const namespace = this.#namespace(pod.namespace);
      record = new PodRecord(namespace, pod, (owner) => this.#labelSets.acquire(pod.labels, owner));
      namespace.pods.set(pod.name, record);
      this.#podCount++;
      this.#touch(record);
    } else {
      // Most updates of a pod (heartbeats, conditions) change nothing of what is read here.
      if (isSameState(record.pod, pod)) return;
      this.#touch(record);
      for (const address of record.pod.addresses) this.#release(address, record);
      if (record.pod.labels !== pod.labels) {
        const before = record.labelSet;
        record.labelSet = this.#labelSets.acquire(pod.labels, record);
        if (record.labelSet !== before) this.#labelSets.release(before, record);
      }
      record.pod = pod;
    }
    const { localPods } = record.namespace;
    if (!this.isLocal(pod)) this.#localPods -= Number(localPods.delete(record));
    else if (!localPods.has(record)) {
      localPods.add(record);
      this.#localPods++;
    }
    this.#touch(record);
    if (ownsAddresses(pod)) for (const address of pod.addresses) this.#claim(address, record);
  }

  #setNamespace(name: string, object: Namespace | undefined): void {
    const namespace = this.#namespace(name);
    if (namespace.object?.mode !== object?.mode) for (const record of namespace.localPods) this.#touchedLocal.add(record);
    namespace.object = object;
    const labels = object?.labels ?? defaultNamespaceLabels(name);
    namespace.labels = labels;
    if (this.#groups.placeNamespace(namespace)) for (const record of namespace.pods.values()) this.#touch(record);
    this.#dropIfUnused(namespace);
  }

  #setNode(name: string, node: Node | undefined): void {
    const before = this.#nodes.get(name);
    if (before !== undefined) {
      for (const address of localAddresses(before)) {
        const rest = (this.#nodesByAddress.get(address) ?? []).filter((other) => other.name !== name);
        if (rest.length > 0) this.#nodesByAddress.set(address, rest);
        else this.#nodesByAddress.delete(address);
      }
    }
    if (node === undefined) this.#nodes.delete(name);
    else {
      this.#nodes.set(name, node);
      for (const address of localAddresses(node)) this.#nodesByAddress.set(address, [...(this.#nodesByAddress.get(address) ?? []), node]);
    }
    // Heartbeats come all the time, and disputes are few.
    if (sameItems(before?.podCIDRs.map(formatPrefix) ?? [], node?.podCIDRs.map(formatPrefix) ?? [])) return;
    for (const address of this.#owners.disputed()) for (const record of this.#owners.judgeAgain(address)) this.#touch(record);
  }

  /** What became of the policy, and of others of its namespace that there is room for or not, now. */
  #setPolicy(key: string, policy: Policy | undefined): [key: string, change: Change<Policy>][] {
    const slash = key.indexOf('/');
    const [name, namespace] = [key.slice(slash + 1), this.#namespace(key.slice(0, slash))];
    const weight = policy && weightOf(policy);
    const others = namespace.budget.set(name, weight);
    const isClosed = namespace.budget.isClosed(name);
    const changes = [this.#replacePolicy(namespace, key, isClosed ? policy && closedByNamespace(policy, weight ?? 0) : policy)];
    this.#note(key, isClosed ? namespaceReason(namespace.name, weight ?? 0) : undefined);
    for (const other of others) {
      const [otherKey, otherPolicy] = [`${namespace.name}/${other}`, namespace.policies.get(`${namespace.name}/${other}`)];
      if (otherPolicy === undefined) continue;
      if (namespace.budget.isClosed(other)) {
        // Of one that is closed already, and has not been read again, the rules are not here to be weighed.
        const otherWeight = namespace.budget.weightOf(other);
        changes.push(this.#replacePolicy(namespace, otherKey, closedByNamespace(otherPolicy, otherWeight)));
        this.#note(otherKey, namespaceReason(namespace.name, otherWeight));
      } else this.#unread.add(otherKey);
    }
    this.#policyCount += Number(policy !== undefined) - Number(changes[0]?.[1].before !== undefined);
    for (const [, change] of changes) this.#followPolicy(namespace, change);
    this.#dropIfUnused(namespace);
    return changes;
  }

  #replacePolicy(namespace: NamespaceRecord, key: string, policy: Policy | undefined): [key: string, change: Change<Policy>] {
    const before = namespace.policies.get(key);
    if (policy === undefined) namespace.policies.delete(key);
    else namespace.policies.set(key, policy);
    return [key, { before, after: policy }];
  }

  /** Brings what is remembered of who is selected up to date. */
  #followPolicy(namespace: NamespaceRecord, { before, after }: Change<Policy>): void {
    for (const [{ labels }, known] of namespace.isolation) {
      if (before !== undefined && selects(before.subject, labels)) {
        known.remove(before);
        namespace.isolationParts--;
      }
      if (after !== undefined && selects(after.subject, labels)) {
        known.add(after);
        namespace.isolationParts++;
      }
    }
    if (namespace.isolationParts <= REMEMBERED_PARTS) return;
    namespace.isolation.clear();
    namespace.isolationParts = 0;
  }

  /** Whether a policy is closed, and why. What has come or gone has been read. */
  #note(key: string, closed: string | undefined): void {
    this.#unread.delete(key);
    if (closed === undefined) this.#closed.delete(key);
    else this.#closed.set(key, closed);
  }

  #namespace(name: string): NamespaceRecord {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const namespace: NamespaceRecord = {
      name,
      object: undefined,
      labels: defaultNamespaceLabels(name),
      pods: new Map(),
      localPods: new Bag(),
      policies: new Map(),
      budget: new NamespaceBudget(this.#budgets.namespace.entries),
      scopes: new Bag(),
      isolation: new Map(),
      isolationParts: 0,
    };
    this.#namespaces.set(name, namespace);
    this.#groups.placeNamespace(namespace);
    return namespace;
  }

  #dropIfUnused(namespace: NamespaceRecord): void {
    if (namespace.object !== undefined || namespace.pods.size > 0 || namespace.policies.size > 0) return;
    for (const scope of namespace.scopes) {
      if (scope.namespace === namespace.name) return;
    }
    this.#groups.removeNamespace(namespace);
    this.#namespaces.delete(namespace.name);
  }

  // --- pods: addresses and groups

  /** Whether the pod runs on this node. */
  isLocal(pod: Pod): boolean {
    return this.node !== undefined && pod.node === this.node;
  }

  #touch(record: PodRecord): void {
    if (!this.#touched.has(record)) this.#touched.set(record, record.member);
    if (this.isLocal(record.pod)) this.#touchedLocal.add(record);
  }

  /** Whoever else claims the address may win or lose it. */
  #claim(address: Address, record: PodRecord): void {
    for (const other of this.#owners.claim(address, record)) this.#touch(other);
  }

  #release(address: Address, record: PodRecord): void {
    for (const other of this.#owners.release(address, record)) this.#touch(other);
  }

  #settleMembers(): void {
    for (const record of this.#touched.keys()) {
      const { pod } = record;
      if (record.namespace.pods.get(pod.name) !== record || !ownsAddresses(pod)) {
        record.member = undefined;
        continue;
      }
      const owned = pod.addresses.filter((address) => this.#owners.owner(address) === record);
      const addresses = owned.length === pod.addresses.length ? pod.addresses : owned;
      if (record.member?.pod !== pod || !sameItems(record.member.addresses, addresses)) record.member = { pod, addresses };
    }
  }

  #settleGroups(): Map<Group, Map<PodRecord, Change<Member>>> {
    const changes = new Map<Group, Map<PodRecord, Change<Member>>>();
    const note = (group: Group, record: PodRecord, before: Member | undefined, after: Member | undefined): void => {
      let members = changes.get(group);
      if (members === undefined) {
        members = new Map();
        changes.set(group, members);
      }
      members.set(record, { before, after });
    };
    for (const [record, before] of this.#touched) {
      const groups = record.member === undefined ? NO_GROUPS : this.#groups.groupsOf(record);
      const isIn = membershipOf(groups);
      const wasIn = membershipOf(record.groups);
      for (const group of record.groups) {
        if (isIn(group)) {
          if (before !== record.member) note(group, record, before, record.member);
          continue;
        }
        group.members.delete(record);
        note(group, record, before, undefined);
      }
      for (const group of groups) {
        if (wasIn(group)) continue;
        group.members.add(record);
        note(group, record, undefined, record.member);
      }
      record.groups = groups;
    }
    return changes;
  }

  /** The group of a definition, with its members; it is kept up to date until it has been released as often as acquired. */
  acquireGroup(definition: GroupDefinition): Group {
    return this.#groups.acquire(definition);
  }

  /** See {@link GroupIndex.looksFor}. */
  looksForGroup(definition: GroupDefinition): number {
    return this.#groups.looksFor(definition);
  }

  /** See {@link GroupIndex.count}. */
  countGroup(definition: GroupDefinition): Generator<undefined, number> {
    return this.#groups.count(definition);
  }

  /** See {@link GroupIndex.fill}. */
  fillGroup(definition: GroupDefinition): Generator<undefined, Group> {
    return this.#groups.fill(definition);
  }

  /** See {@link GroupIndex.hasLeftovers}. */
  get hasLeftovers(): boolean {
    return this.#groups.hasLeftovers;
  }

  dropLeftovers(count: number): void {
    this.#groups.dropLeftovers(count);
  }

  releaseGroup(group: Group): void {
    this.#groups.release(group);
  }

  // --- World

  podAt(address: Address): Pod | undefined {
    return this.#owners.owner(address)?.pod;
  }

  /** The pods on the node of this one that claim an address of it too. */
  rivalsOf({ pod }: PodRecord): ReadonlySet<PodRecord> {
    let rivals: Set<PodRecord> | undefined;
    for (const address of pod.addresses) {
      for (const other of this.#owners.claimsOn(address, pod.node)) if (other.pod !== pod) (rivals ??= new Set()).add(other);
    }
    return rivals ?? NO_RIVALS;
  }

  /** The first addresses that several pods claim. */
  *disputes(count: number): Generator<Disputed> {
    for (const address of this.#owners.disputed().take(count)) {
      const [owner, ...others] = this.#owners.claims(address).take(1 + OTHERS_NAMED);
      if (owner !== undefined) {
        const claims = this.#owners.count(address);
        yield { address: formatAddress(address), owner: owner.key, others: others.map(({ key }) => key), count: claims };
      }
    }
  }

  nodeAt(address: Address): Node | undefined {
    // Two nodes that claim one address are a fault of the cluster; the evaluator has to be certain all the same.
    return this.#nodesByAddress.get(address)?.reduce((first, node) => (node.name < first.name ? node : first));
  }

  namespaceLabels(namespace: string): Labels {
    return this.#namespaces.get(namespace)?.labels ?? defaultNamespaceLabels(namespace);
  }

  isolating(pod: Pod, direction: Direction): readonly Policy[] {
    const record = this.#namespaces.get(pod.namespace)?.pods.get(pod.name);
    if (record === undefined) return NO_POLICIES;
    const rivals = this.rivalsOf(record);
    const own = this.#carriedBy(record, direction);
    return rivals.size === 0
      ? own
      : togetherWith(
          own,
          [...rivals].map((rival) => this.#carriedBy(rival, direction)),
        );
  }

  #carriedBy(record: PodRecord, direction: Direction): readonly Policy[] {
    if (record.namespace.policies.size === 0 || !ownsAddresses(record.pod)) return NO_POLICIES;
    return this.#isolation(record).carried(direction);
  }

  leftOut(pod: Pod, direction: Direction): readonly Policy[] {
    const record = this.#namespaces.get(pod.namespace)?.pods.get(pod.name);
    return record === undefined || record.namespace.policies.size === 0 ? [] : this.#isolation(record).leftOut(direction);
  }

  /** What selects the pod, and those of the same labels. Asking again costs nothing until a policy that does comes, changes or goes. */
  #isolation({ namespace, labelSet }: PodRecord): Isolation {
    const { isolation, policies } = namespace;
    const known = isolation.get(labelSet);
    if (known !== undefined) return known;
    const selecting = [...policies.values()].filter(({ subject }) => selects(subject, labelSet.labels));
    const found = new Isolation(selecting, this.#budgets.pod);
    const parts = selecting.length + labelSet.labels.size;
    // Who asks about every pod of a cluster, once, is not to make every change of a policy dear, nor to have all of it kept.
    if (isolation.size >= REMEMBERED_ISOLATIONS || namespace.isolationParts + parts > REMEMBERED_PARTS) {
      isolation.clear();
      namespace.isolationParts = 0;
    }
    namespace.isolationParts += parts;
    isolation.set(labelSet, found);
    return found;
  }

  // --- what the ruleset asks

  /** The mode that a namespace asks for; whether it gets it is not said here. */
  namespaceMode(namespace: string): Mode | undefined {
    return this.#namespaces.get(namespace)?.object?.mode;
  }

  /** The record of a pod, while it exists. */
  pod(key: string): PodRecord | undefined {
    const slash = key.indexOf('/');
    return this.#namespaces.get(key.slice(0, slash))?.pods.get(key.slice(slash + 1));
  }

  /** Namespaces that have an object, pods or policies. */
  namespaceNames(): Iterable<string> {
    return this.#namespaces.keys();
  }

  /** Names of the pods of a namespace, whatever their state; none where there is no such namespace. */
  podNames(namespace: string): Iterable<string> {
    return this.#namespaces.get(namespace)?.pods.keys() ?? [];
  }

  /** All policies, each with the pods of its namespace. */
  *policiesWithPods(): Generator<{ readonly policy: Policy; readonly pods: Iterable<Pod>; readonly podCount: number }> {
    for (const { policies, pods } of this.#namespaces.values()) {
      for (const policy of policies.values()) yield { policy, pods: pods.values().map(({ pod }) => pod), podCount: pods.size };
    }
  }

  /** The local pods of a namespace that are in sets. */
  *localMembers(namespace: string): Generator<PodRecord> {
    for (const record of this.#namespaces.get(namespace)?.localPods ?? []) if (record.member !== undefined) yield record;
  }

  /** Whether a policy of the pod's namespace selects it. */
  selects(policy: Policy, record: PodRecord): boolean {
    return selects(policy.subject, record.labelSet.labels);
  }

  /** The policies of the pod's namespace that select it, ordered by name. */
  policiesSelecting(record: PodRecord): readonly Policy[] {
    return record.namespace.policies.size === 0 ? [] : this.#isolation(record).selecting;
  }
}

/** Equal parts of pods are mostly shared by whoever reads them (see Sharing), and then need not be looked at. */
function isSameState(a: Pod, b: Pod): boolean {
  return (
    sameLabels(a.labels, b.labels) &&
    (a.ports === b.ports || samePorts(a.ports, b.ports)) &&
    (a.declaredPorts === b.declaredPorts || samePorts(a.declaredPorts, b.declaredPorts)) &&
    a.uid === b.uid &&
    a.node === b.node &&
    a.hostNetwork === b.hostNetwork &&
    a.terminal === b.terminal &&
    a.createdAt === b.createdAt &&
    sameItems(a.addresses, b.addresses)
  );
}

type Port = Pod['declaredPorts'][number] & { readonly name?: string };

function samePorts(a: readonly Port[], b: readonly Port[]): boolean {
  if (a.length !== b.length) return false;
  return a.every(({ name, protocol, port }, index) => {
    const other = b[index];
    return other !== undefined && other.name === name && other.protocol === protocol && other.port === port;
  });
}

function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
