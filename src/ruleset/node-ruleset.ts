/**
 * The desired state of one node, kept up to date by differences.
 *
 * A policy is *active* while it selects a local pod; only active policies have chains, and only sets that a chain names exist. So a
 * node carries what its own pods need, whatever the cluster holds.
 *
 * Invariants, at the end of every {@link NodeRuleset.update}:
 * - an isolated local pod has one chain for each direction in which a policy isolates it, and nothing else has;
 * - the verdict maps hold exactly the addresses that isolated local pods own;
 * - a set exists exactly while an active policy's chain names it;
 * - applying the returned changes to the state before gives the state now.
 */
import type { Change, Cluster, ClusterChanges } from '../cluster/cluster.ts';
import type { Group } from '../cluster/groups.ts';
import type { Member, PodRecord } from '../cluster/records.ts';
import type { Address, Family } from '../policy/address.ts';
import { familyOf } from '../policy/address.ts';
import { type Auditing, ENFORCING, isAudited } from '../policy/mode.ts';
import type { Direction, Policy } from '../policy/objects.ts';
import { COMPILE_LIMITS, type CompiledChain, type CompileLimits, compilePolicy } from './compile.ts';
import { podChainName, policiesChainName, policyChainName } from './names.ts';
import { addressOf, elementKey, elementsOf } from './elements.ts';
import type { ChainRule, DesiredChain, DesiredSet, ElementChanges, ObjectName, Ruleset, SetDescription, SetElement } from './objects.ts';
import { type RulesetUpdate, UpdateInProgress } from './update.ts';

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];
const FAMILIES: readonly Family[] = [4, 6];

interface ActivePolicy {
  policy: Policy;
  /** Keys of the local pods that it selects; never empty. */
  readonly subjects: Set<string>;
  compiled: readonly CompiledChain[];
}

/** The first policy, by name, that a pod's budget has no room for. */
export interface LeftOut {
  readonly policy: Policy;
  /** `namespace/name`. */
  readonly pod: string;
  readonly direction: Direction;
}

interface LocalPod {
  readonly member: Member;
  /** Keys of the policies that select it. */
  readonly policies: Set<string>;
  readonly audited: boolean;
  chains: readonly DesiredChain[];
}

/** Sorted by name of the chain, which the order of policies by name need not be. */
function policyChains(policies: readonly Policy[], direction: Direction): ObjectName[] {
  return policies.map(({ namespace, name }) => policyChainName(namespace, name, direction)).sort();
}

class SetState implements DesiredSet {
  readonly description: SetDescription;
  readonly groups: readonly Group[];
  references = 0;
  /** Of several groups: how many of them have each element. */
  readonly #counts = new Map<Address | string, { readonly element: SetElement; count: number }>();

  constructor(description: SetDescription, groups: readonly Group[]) {
    this.description = description;
    this.groups = groups;
    if (!this.#isUnion) return;
    for (const group of groups)
      for (const { member } of group.members) for (const element of this.#elementsOf(member)) this.#count(element, 1);
  }

  get #isUnion(): boolean {
    return this.groups.length > 1;
  }

  *elements(): Generator<SetElement> {
    if (this.#isUnion) for (const { element } of this.#counts.values()) yield element;
    else for (const { member } of this.groups[0]?.members ?? []) yield* this.#elementsOf(member);
  }

  /** Follows what became of members of its groups. What one lost and another (or the same) has now stays where it is. */
  follow(changes: Iterable<ReadonlyMap<PodRecord, Change<Member>>>): ElementChanges {
    const add = new Map<Address | string, SetElement>();
    const remove = new Map<Address | string, SetElement>();
    const gone: SetElement[] = [];
    const come: SetElement[] = [];
    for (const members of changes) {
      for (const { before, after } of members.values()) {
        for (const element of this.#elementsOf(before)) gone.push(element);
        for (const element of this.#elementsOf(after)) come.push(element);
      }
    }
    for (const element of gone) if (this.#count(element, -1)) remove.set(elementKey(element), element);
    for (const element of come) if (this.#count(element, 1)) add.set(elementKey(element), element);
    for (const key of add.keys()) if (remove.delete(key)) add.delete(key);
    return { add: [...add.values()], remove: [...remove.values()] };
  }

  #elementsOf(member: Member | undefined): readonly SetElement[] {
    return member === undefined ? [] : elementsOf(this.description, member);
  }

  /** Whether the set has it now and had not, or the other way round. An element of one group is of one member. */
  #count(element: SetElement, by: 1 | -1): boolean {
    if (!this.#isUnion) return true;
    const key = elementKey(element);
    const known = this.#counts.get(key);
    if (known === undefined) {
      if (by === 1) this.#counts.set(key, { element, count: 1 });
      return by === 1;
    }
    known.count += by;
    if (known.count === 0) this.#counts.delete(key);
    return known.count === 0;
  }
}

export class NodeRuleset implements Ruleset {
  readonly #cluster: Cluster;
  readonly #auditing: Auditing;
  readonly #limits: CompileLimits;
  readonly #policies = new Map<string, ActivePolicy>();
  readonly #pods = new Map<string, LocalPod>();
  readonly #closed = new Map<string, string>();
  readonly #sets = new Map<ObjectName, SetState>();
  readonly #setsByGroup = new Map<Group, Set<SetState>>();
  readonly #chains = new Map<ObjectName, DesiredChain>();
  readonly #verdicts = { ingress: new Map<Address, ObjectName>(), egress: new Map<Address, ObjectName>() };
  /** By pod and direction. */
  readonly #leftOut = new Map<string, LeftOut>();
  /** Of the lists that the cluster hands out: what the chain of their jumps is called. */
  readonly #sharedNames = new WeakMap<readonly Policy[], ObjectName>();
  /** How many chains of pods jump to each of them. */
  readonly #sharedUsers = new Map<ObjectName, number>();
  readonly #addressCount: Record<Family, number> = { 4: 0, 6: 0 };

  constructor(cluster: Cluster, auditing: Auditing = ENFORCING, limits: CompileLimits = COMPILE_LIMITS) {
    this.#cluster = cluster;
    this.#auditing = auditing;
    this.#limits = limits;
  }

  get sets(): ReadonlyMap<ObjectName, DesiredSet> {
    return this.#sets;
  }

  get chains(): ReadonlyMap<ObjectName, DesiredChain> {
    return this.#chains;
  }

  get verdicts(): Ruleset['verdicts'] {
    return this.#verdicts;
  }

  chainOfPod(pod: string, direction: Direction): DesiredChain | undefined {
    return this.#pods.get(pod)?.chains.find((chain) => chain.direction === direction);
  }

  /** Local pods that a policy isolates in this direction. */
  isolatedPods(direction: Direction): number {
    let count = 0;
    for (const { chains } of this.#pods.values()) if (chains.some((chain) => chain.direction === direction)) count++;
    return count;
  }

  /** Local pods that a policy isolates in either direction, and that are audited. */
  get auditedPods(): number {
    let count = 0;
    for (const { chains } of this.#pods.values()) if (chains.some(({ audited }) => audited)) count++;
    return count;
  }

  get activePolicies(): number {
    return this.#policies.size;
  }

  /** Follows what {@link Cluster.apply} returned; to be called after each of its calls, before the next. */
  update(changes: ClusterChanges): RulesetUpdate {
    const update = new UpdateInProgress();
    const families = this.#families();
    for (const [key, { after }] of changes.policies) this.#reselect(key, after, update);
    for (const record of changes.localPods) this.#refreshPod(record.key, update);
    if (this.#families().length !== families.length || this.#families()[0] !== families[0]) {
      for (const key of this.#policies.keys()) update.dirtyPolicies.add(key);
    }
    return this.#finish(update, changes.groups);
  }

  /** Policies that isolate and admit nothing, whatever they say, and why: what they say cannot be brought into force. */
  get closed(): ReadonlyMap<string, string> {
    return this.#closed;
  }

  /** Of every local pod that is isolated by more policies than its budget has room for: the first of those that are left out. */
  get leftOut(): ReadonlyMap<string, LeftOut> {
    return this.#leftOut;
  }

  /**
   * Closes policies for a reason, or (without one) opens them again. A policy that changes is opened as well: its new version has not been tried.
   * What it returns is as of {@link update}, and as that to be brought into force.
   */
  setClosed(policies: Iterable<string>, reason: string | undefined): RulesetUpdate {
    const update = new UpdateInProgress();
    for (const key of policies) {
      if (reason === undefined) this.#closed.delete(key);
      else this.#closed.set(key, reason);
      update.dirtyPolicies.add(key);
    }
    return this.#finish(update, new Map());
  }

  /** Rules and elements that a policy has here; those of sets that several policies share count for each. */
  costOf(policy: string): number {
    let cost = 0;
    for (const { chain, sets } of this.#policies.get(policy)?.compiled ?? []) {
      cost += chain.rules.length;
      for (const description of sets.values()) {
        if (description.kind === 'block' || description.kind === 'ports') cost += description.ranges.length;
        else for (const group of this.#sets.get(description.name)?.groups ?? []) cost += group.members.size;
      }
    }
    return cost;
  }

  #finish(update: UpdateInProgress, groups: ClusterChanges['groups']): RulesetUpdate {
    for (const key of update.dirtyPolicies) this.#recompile(key, update);
    this.#dropUnusedSets(update);
    this.#followGroups(groups, update);
    for (const key of update.dirtyPods) this.#rebuildPodChains(key, update);
    this.#dropUnusedShared(update);
    const changes = update.finish(this.#chains, this.#sets, this.#verdicts);
    return { changes, ...this.#affectedFlows(update), compiled: update.dirtyPolicies };
  }

  // --- who is selected by what

  #families(): readonly Family[] {
    return FAMILIES.filter((family) => this.#addressCount[family] > 0);
  }

  /** A policy came, changed or went: find its subjects anew. */
  #reselect(key: string, policy: Policy | undefined, update: UpdateInProgress): void {
    const active = this.#policies.get(key);
    for (const subject of active?.subjects ?? []) {
      this.#pods.get(subject)?.policies.delete(key);
      update.dirtyPods.add(subject);
    }
    active?.subjects.clear();
    update.dirtyPolicies.add(key);
    this.#closed.delete(key);
    if (policy === undefined) return;
    for (const record of this.#cluster.localMembers(policy.namespace)) {
      if (!this.#cluster.selects(policy, record)) continue;
      // A pod of the same batch that is not known yet is found by #refreshPod.
      if (this.#pods.has(record.key)) this.#select(key, policy, record.key, update);
    }
    const now = this.#policies.get(key);
    if (now !== undefined) now.policy = policy;
  }

  #select(key: string, policy: Policy, podKey: string, update: UpdateInProgress): void {
    let active = this.#policies.get(key);
    if (active === undefined) {
      active = { policy, subjects: new Set(), compiled: [] };
      this.#policies.set(key, active);
      update.dirtyPolicies.add(key);
    }
    active.subjects.add(podKey);
    this.#pods.get(podKey)?.policies.add(key);
    update.dirtyPods.add(podKey);
  }

  /** A local pod came, changed or went: find its policies anew. */
  #refreshPod(key: string, update: UpdateInProgress): void {
    const record = this.#cluster.pod(key);
    const member = record !== undefined && this.#cluster.isLocal(record.pod) ? record.member : undefined;
    const known = this.#pods.get(key);
    for (const address of known?.member.addresses ?? []) this.#addressCount[familyOf(address)]--;
    for (const address of member?.addresses ?? []) this.#addressCount[familyOf(address)]++;
    update.dirtyPods.add(key);
    if (record === undefined || member === undefined) {
      for (const policy of known?.policies ?? []) this.#unselect(policy, key, update);
      if (known !== undefined) update.oldChains(key, known.chains, known.member.addresses);
      this.#pods.delete(key);
      return;
    }
    const selecting = new Map(this.#cluster.policiesSelecting(record).map((policy) => [`${policy.namespace}/${policy.name}`, policy]));
    for (const policy of known?.policies ?? []) if (!selecting.has(policy)) this.#unselect(policy, key, update);
    if (known !== undefined) update.oldChains(key, known.chains, known.member.addresses);
    const audited = isAudited(this.#auditing, this.#cluster.namespaceMode(record.pod.namespace));
    this.#pods.set(key, { member, policies: new Set(selecting.keys()), audited, chains: known?.chains ?? [] });
    for (const [policyKey, policy] of selecting) this.#select(policyKey, policy, key, update);
  }

  #unselect(key: string, podKey: string, update: UpdateInProgress): void {
    const active = this.#policies.get(key);
    if (active === undefined) return;
    active.subjects.delete(podKey);
    if (active.subjects.size === 0) update.dirtyPolicies.add(key);
  }

  // --- policies: chains and sets

  #recompile(key: string, update: UpdateInProgress): void {
    const active = this.#policies.get(key);
    if (active === undefined) return;
    const before = active.compiled;
    const families = this.#families();
    const isActive = active.subjects.size > 0;
    active.compiled = isActive
      ? DIRECTIONS.filter((direction) => active.policy[direction] !== undefined).map((direction) =>
          this.#compile(key, active.policy, direction, families),
        )
      : [];
    if (!isActive) this.#policies.delete(key);
    for (const { chain, sets } of active.compiled) {
      for (const description of sets.values()) this.#acquireSet(description, update);
      this.#setChain(chain, update);
    }
    const names = new Set(active.compiled.map(({ chain }) => chain.name));
    for (const { chain, sets } of before) {
      for (const name of sets.keys()) this.#releaseSet(name, update);
      if (!names.has(chain.name)) this.#removeChain(chain.name, update);
    }
    for (const subject of active.subjects) {
      // The jumps of its pods change only where a direction came or went.
      if (before.length !== active.compiled.length || before.some(({ chain }) => !names.has(chain.name))) update.dirtyPods.add(subject);
      update.affectedPods.add(subject);
    }
  }

  /** A policy whose compilation fails, which is a defect of Sluice, isolates and admits nothing. */
  #compile(key: string, policy: Policy, direction: Direction, families: readonly Family[]): CompiledChain {
    const nothing: Policy = { ...policy, [direction]: [] };
    if (this.#closed.has(key)) return compilePolicy(nothing, direction, families, this.#limits);
    try {
      return compilePolicy(policy, direction, families, this.#limits);
    } catch (error) {
      this.#closed.set(
        key,
        `making its rules failed, which is a defect of Sluice: ${error instanceof Error ? error.message : 'of no known kind'}`,
      );
      return compilePolicy(nothing, direction, families, this.#limits);
    }
  }

  #acquireSet(description: SetDescription, update: UpdateInProgress): void {
    let set = this.#sets.get(description.name);
    if (set === undefined) {
      const groups = 'groups' in description ? description.groups.map((group) => this.#cluster.acquireGroup(group)) : [];
      set = new SetState(description, groups);
      this.#sets.set(description.name, set);
      update.addedSets.set(description.name, set);
      for (const group of groups) {
        const sets = this.#setsByGroup.get(group);
        if (sets === undefined) this.#setsByGroup.set(group, new Set([set]));
        else sets.add(set);
      }
    }
    set.references++;
  }

  #releaseSet(name: ObjectName, update: UpdateInProgress): void {
    const set = this.#sets.get(name);
    if (set !== undefined && --set.references === 0) update.unusedSets.add(name);
  }

  /** At the end of the update, because what one policy no longer names another may name now. */
  #dropUnusedSets(update: UpdateInProgress): void {
    for (const name of update.unusedSets) {
      const set = this.#sets.get(name);
      if (set === undefined || set.references > 0) continue;
      this.#sets.delete(name);
      if (!update.addedSets.delete(name)) update.removedSets.push(set.description);
      for (const group of set.groups) {
        const sets = this.#setsByGroup.get(group);
        sets?.delete(set);
        if (sets?.size === 0) this.#setsByGroup.delete(group);
        this.#cluster.releaseGroup(group);
      }
    }
  }

  #followGroups(changes: ClusterChanges['groups'], update: UpdateInProgress): void {
    /** Of a set of several groups each change is taken in once. */
    const bySet = new Map<SetState, ReadonlyMap<PodRecord, Change<Member>>[]>();
    for (const [group, members] of changes) {
      for (const set of this.#setsByGroup.get(group) ?? []) {
        // Made of the members of now.
        if (update.addedSets.has(set.description.name)) continue;
        const known = bySet.get(set);
        if (known === undefined) bySet.set(set, [members]);
        else known.push(members);
      }
    }
    for (const [set, members] of bySet) {
      const elements = set.follow(members);
      if (elements.add.length + elements.remove.length > 0) update.elements.set(set.description.name, elements);
    }
  }

  // --- pods: chains and verdicts

  #rebuildPodChains(key: string, update: UpdateInProgress): void {
    const pod = this.#pods.get(key);
    const before = pod?.chains ?? [];
    for (const direction of DIRECTIONS) this.#leftOut.delete(`${key} ${direction}`);
    if (pod !== undefined) {
      update.oldChains(key, before, pod.member.addresses);
      pod.chains = DIRECTIONS.flatMap((direction) => this.#podChain(pod, direction, update) ?? []);
      for (const chain of pod.chains) this.#setChain(chain, update);
      for (const chain of pod.chains) this.#countShared(chain, 1, update);
    }
    for (const chain of pod === undefined ? (update.chainsBefore.get(key)?.chains ?? []) : before) this.#countShared(chain, -1, update);
    const old = update.chainsBefore.get(key);
    for (const chain of old?.chains ?? []) {
      if (pod === undefined || !pod.chains.some(({ name }) => name === chain.name)) this.#removeChain(chain.name, update);
      for (const address of old?.addresses ?? []) {
        update.verdictBefore(chain.direction, address, chain.name);
        if (this.#verdicts[chain.direction].get(address) === chain.name) this.#verdicts[chain.direction].delete(address);
      }
    }
    for (const chain of pod?.chains ?? []) {
      for (const address of pod?.member.addresses ?? []) {
        update.verdictBefore(chain.direction, address, this.#verdicts[chain.direction].get(address));
        this.#verdicts[chain.direction].set(address, chain.name);
      }
    }
  }

  /** Asks the policies that the evaluator asks, in the same order. */
  #podChain({ member, audited }: LocalPod, direction: Direction, update: UpdateInProgress): DesiredChain | undefined {
    const { namespace, name } = member.pod;
    const isolating = this.#cluster.isolating(member.pod, direction);
    if (isolating.length === 0) return undefined;
    const [leftOut] = this.#cluster.leftOut(member.pod, direction);
    if (leftOut !== undefined)
      this.#leftOut.set(`${namespace}/${name} ${direction}`, { policy: leftOut, pod: `${namespace}/${name}`, direction });
    const policies =
      isolating.length > this.#limits.jumps ? [this.#sharedJumps(isolating, direction, update)] : policyChains(isolating, direction);
    const rules: ChainRule[] = policies.map((chain) => ({ kind: 'jump', chain }));
    // Behind the policies: a pod that calls itself is rare.
    for (const address of member.addresses) rules.push({ kind: 'self', address });
    return {
      name: podChainName(direction, namespace, name),
      direction,
      kind: 'pod',
      of: `${namespace}/${name}`,
      audited,
      rules,
      comment: `pod ${namespace}/${name}, ${direction}`,
    };
  }

  /**
   * The chain of the jumps to these policies, made where there is none yet.
   *
   * @param isolating the same list for all pods of equal labels, until one of its policies changes
   */
  #sharedJumps(isolating: readonly Policy[], direction: Direction, update: UpdateInProgress): ObjectName {
    let name = this.#sharedNames.get(isolating);
    if (name !== undefined && this.#chains.has(name)) return name;
    const namespace = isolating[0]?.namespace ?? '';
    name = policiesChainName(namespace, direction, isolating);
    this.#sharedNames.set(isolating, name);
    if (this.#chains.has(name)) return name;
    const rules = policyChains(isolating, direction).map((chain): ChainRule => ({ kind: 'jump', chain }));
    const comment = `${rules.length} NetworkPolicies of ${namespace}, ${direction}`;
    this.#setChain({ name, direction, kind: 'policies', of: namespace, audited: false, rules, comment }, update);
    return name;
  }

  /** The chain of policies that a pod's chain shares is used by one more, or one less; by none, it goes. */
  #countShared(chain: DesiredChain, by: 1 | -1, update: UpdateInProgress): void {
    const [first] = chain.rules;
    if (first?.kind !== 'jump' || this.#chains.get(first.chain)?.kind !== 'policies') return;
    const users = (this.#sharedUsers.get(first.chain) ?? 0) + by;
    this.#sharedUsers.set(first.chain, users);
    if (users === 0) update.unusedShared.add(first.chain);
  }

  /** At the end of the update: what one pod no longer shares another may share now. */
  #dropUnusedShared(update: UpdateInProgress): void {
    for (const name of update.unusedShared) {
      if ((this.#sharedUsers.get(name) ?? 0) > 0) continue;
      this.#sharedUsers.delete(name);
      this.#removeChain(name, update);
    }
  }

  #setChain(chain: DesiredChain, update: UpdateInProgress): void {
    update.chainBefore(chain.name, this.#chains.get(chain.name));
    this.#chains.set(chain.name, chain);
  }

  #removeChain(name: ObjectName, update: UpdateInProgress): void {
    update.chainBefore(name, this.#chains.get(name));
    this.#chains.delete(name);
  }

  #affectedFlows(update: UpdateInProgress): Pick<RulesetUpdate, 'tightened' | 'loosened'> {
    const tightened = new Set<Address>();
    const loosened = new Set<Address>();
    for (const { addresses } of update.chainsBefore.values()) for (const address of addresses) tightened.add(address);
    for (const keys of [update.dirtyPods, update.affectedPods]) {
      for (const key of keys) for (const address of this.#pods.get(key)?.member.addresses ?? []) tightened.add(address);
    }
    for (const { add, remove } of update.elements.values()) {
      for (const element of remove) tightened.add(addressOf(element));
      for (const element of add) loosened.add(addressOf(element));
    }
    return { tightened, loosened };
  }
}
