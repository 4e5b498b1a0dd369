/**
 * The desired state of one node, kept up to date by differences.
 *
 * A policy is *active* while it selects a local pod; only active policies have chains, and only sets that a chain names exist. So a
 * node carries what its own pods need, whatever the cluster holds.
 *
 * Invariants, at the end of every {@link NodeRuleset.update}:
 * - an isolated local pod has one chain for each direction in which a policy isolates it, and nothing else has;
 * - the verdict maps hold exactly the addresses that isolated local pods own;
 * - a set exists exactly while an active policy's chain names it, or will when the policy is prepared;
 * - applying the returned changes to the state before gives the state now.
 */
import type { Change, Cluster, ClusterChanges } from '../cluster/cluster.ts';
import type { Group } from '../cluster/groups.ts';
import type { Member, PodRecord } from '../cluster/records.ts';
import type { Address, Family } from '../policy/address.ts';
import { familyOf } from '../policy/address.ts';
import { type Auditing, ENFORCING, isAudited } from '../policy/mode.ts';
import { isDisputed } from '../policy/world.ts';
import type { Direction, Policy } from '../policy/objects.ts';
import { COMPILE_LIMITS, type CompiledChain, type CompileLimits, compilePolicy } from './compile.ts';
import { podChainName, policiesChainName, policyChainName } from './names.ts';
import { beyondElements, elementsReason, NAMESPACE_ELEMENTS, type PolicyElements, SET_ELEMENTS } from './element-budget.ts';
import { addressOf } from './elements.ts';
import type { ChainRule, DesiredChain, DesiredSet, ObjectName, Ruleset, SetDescription } from './objects.ts';
import { SetState } from './set-state.ts';
import { type RulesetUpdate, UpdateInProgress } from './update.ts';

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];
const FAMILIES: readonly Family[] = [4, 6];

/**
 * When a policy is *prepared*. One whose groups would take too long to be made at once has them made, and its sets filled, little by little, while
 * everything else goes on. Until then its former rules are in force, if it had any. Pods that it did not select before are not selected
 * yet; a pod that came after the policy is isolated from the beginning.
 */
export interface RulesetLimits extends CompileLimits {
  /** Pods that are looked at, and ranges of blocks that are made, with one update. What needs more is prepared. */
  readonly looks: number;
  readonly ranges: number;
  /** Of sets that are being filled so many elements are handed out with one update. */
  readonly handedOut: number;
  /** As of {@link NAMESPACE_ELEMENTS}. */
  readonly elements: number;
}

export const RULESET_LIMITS: RulesetLimits = {
  ...COMPILE_LIMITS,
  looks: 20_000,
  ranges: 4_000,
  handedOut: 2_000,
  elements: NAMESPACE_ELEMENTS,
};

/** How long the preparation of policies may take of one update, ms. */
const PREPARING_MS = 4;
/** It is looked at the clock after so many pods. */
const STEPS_BETWEEN_LOOKS = 64;
/** Policies that have more elements than there is room for are counted again after so long, ms: pods may have gone. */
const COUNT_AGAIN_MS = 60_000;

interface ActivePolicy {
  policy: Policy;
  /** Keys of the local pods that it selects; never empty. */
  readonly subjects: Set<string>;
  /** What is in force of it: of a policy that is being prepared, what was so before. */
  compiled: readonly CompiledChain[];
  preparation: Preparation | undefined;
}

interface Preparation {
  readonly policy: Policy;
  readonly families: string;
  readonly compiled: readonly CompiledChain[];
  /** Sets that it has made so far. */
  readonly sets: SetState[];
  /** Ends by itself where the policy turns out to be more than there is room for; else when it is told to. */
  readonly work: Generator<undefined, void>;
  /** Pods that are not subject to it yet. */
  waiting: ReadonlySet<string>;
  isReady: boolean;
  /** `work` has ended. */
  isOver: boolean;
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

/** The directions in which a policy isolates. */
function isolatedBy(policy: Policy): Direction[] {
  return DIRECTIONS.filter((direction) => policy[direction] !== undefined);
}

function defect(error: unknown): string {
  return `making its rules failed, which is a defect of Sluice: ${error instanceof Error ? error.message : 'of no known kind'}`;
}

export class NodeRuleset implements Ruleset {
  readonly #cluster: Cluster;
  readonly #auditing: Auditing;
  readonly #limits: RulesetLimits;
  readonly #policies = new Map<string, ActivePolicy>();
  readonly #pods = new Map<string, LocalPod>();
  readonly #closed = new Map<string, string>();
  /** Keys of the active policies, by namespace. */
  readonly #byNamespace = new Map<string, Set<string>>();
  /** Of `#closed`: those that have more elements than there is room for. */
  readonly #tooManyElements = new Set<string>();
  #countedAt = Number.NEGATIVE_INFINITY;
  /** By namespace: elements that have come into its sets since they were counted. */
  readonly #growth = new Map<string, number>();
  /** Policies that are being prepared, by namespace; the first namespace is the next to be gone on with. */
  readonly #preparing = new Map<string, Map<string, Preparation>>();
  /** The last step of a preparation took longer than most: it is time for a look at the clock. */
  #stepIsLong = false;
  /** The update that is being made. */
  #update: UpdateInProgress | undefined;
  /** Sets that nothing names any more, since the last update. */
  readonly #unused = new Set<ObjectName>();
  /** Active policies that have a preparation, ready or not. */
  readonly #underWay = new Set<string>();
  /** To be compiled with the next update. */
  readonly #due = new Set<string>();
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

  constructor(cluster: Cluster, auditing: Auditing = ENFORCING, limits: RulesetLimits = RULESET_LIMITS) {
    this.#cluster = cluster;
    this.#auditing = auditing;
    this.#limits = limits;
  }

  /** Something is being prepared: {@link update} has more to do, without any change. */
  get preparing(): boolean {
    return this.#preparing.size + this.#due.size + this.#unused.size > 0 || this.#cluster.hasLeftovers;
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

  /** Policies that are being prepared isolate all pods that they select from now on, and admit nothing until they are ready. */
  isolatePrepared(): RulesetUpdate {
    const update = new UpdateInProgress();
    for (const preparations of this.#preparing.values()) {
      for (const [key, preparation] of preparations) {
        preparation.waiting = new Set();
        update.dirtyPolicies.add(key);
        for (const subject of this.#policies.get(key)?.subjects ?? []) update.dirtyPods.add(subject);
      }
    }
    return this.#finish(update, new Map());
  }

  /** Follows what {@link Cluster.apply} returned; to be called after each of its calls, before the next. */
  update(changes: ClusterChanges): RulesetUpdate {
    const update = new UpdateInProgress();
    const families = this.#families();
    for (const key of this.#due) update.dirtyPolicies.add(key);
    this.#due.clear();
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
    this.#prepareSome(update);
    for (const key of update.dirtyPods) {
      // Their isolation is that of each other.
      const record = this.#pods.has(key) ? this.#cluster.pod(key) : undefined;
      if (record !== undefined) for (const rival of this.#cluster.rivalsOf(record)) update.dirtyPods.add(rival.key);
      this.#rebuildPodChains(key, update);
    }
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
    const before = new Set(active?.preparation === undefined ? active?.subjects : active.subjects.difference(active.preparation.waiting));
    for (const subject of active?.subjects ?? []) {
      this.#pods.get(subject)?.policies.delete(key);
      update.dirtyPods.add(subject);
    }
    active?.subjects.clear();
    update.dirtyPolicies.add(key);
    this.#closed.delete(key);
    this.#tooManyElements.delete(key);
    if (policy === undefined) return;
    for (const record of this.#cluster.localMembers(policy.namespace)) {
      if (!this.#cluster.selects(policy, record)) continue;
      // A pod of the same batch that is not known yet is found by #refreshPod.
      if (this.#pods.has(record.key)) this.#select(key, policy, record.key, update);
    }
    const now = this.#policies.get(key);
    if (now === undefined) return;
    now.policy = policy;
    update.newSubjects.set(key, now.subjects.difference(before));
  }

  #select(key: string, policy: Policy, podKey: string, update: UpdateInProgress): void {
    let active = this.#policies.get(key);
    if (active === undefined) {
      active = { policy, subjects: new Set(), compiled: [], preparation: undefined };
      this.#policies.set(key, active);
      const known = this.#byNamespace.get(policy.namespace);
      if (known === undefined) this.#byNamespace.set(policy.namespace, new Set([key]));
      else known.add(key);
      update.dirtyPolicies.add(key);
    }
    // It may be the first pod that is subject to it already.
    if (active.preparation !== undefined) update.dirtyPolicies.add(key);
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
    const isActive = active.subjects.size > 0;
    const wasPrepared = active.preparation;
    const compiled = isActive ? this.#compiledNow(key, active, update) : [];
    active.compiled = compiled;
    if (!isActive) this.#deactivate(key, active.policy.namespace);
    if (compiled !== before) {
      const { namespace } = active.policy;
      for (const { chain, sets } of compiled) {
        for (const description of sets.values()) this.#acquireSet(description, namespace, update);
        this.#setChain(chain, update);
      }
      const names = new Set(compiled.map(({ chain }) => chain.name));
      for (const { chain, sets } of before) {
        for (const name of sets.keys()) this.#releaseSet(name, namespace, update);
        if (!names.has(chain.name)) this.#removeChain(chain.name, update);
      }
      // The jumps of its pods change only where a direction came or went.
      const areSame = before.length === compiled.length && before.every(({ chain }) => names.has(chain.name));
      for (const subject of active.subjects) {
        if (!areSame) update.dirtyPods.add(subject);
        update.affectedPods.add(subject);
      }
    }
    if (wasPrepared === undefined || active.preparation === wasPrepared) return;
    // What it holds has been taken over, or is not needed any more.
    if (active.preparation === undefined) this.#prepared(key, active.policy.namespace);
    wasPrepared.work.return();
    for (const subject of wasPrepared.waiting) update.dirtyPods.add(subject);
    for (const subject of active.subjects) update.dirtyPods.add(subject);
  }

  #deactivate(key: string, namespace: string): void {
    const active = this.#policies.get(key);
    if (active !== undefined) active.preparation = undefined;
    this.#underWay.delete(key);
    this.#policies.delete(key);
    const known = this.#byNamespace.get(namespace);
    known?.delete(key);
    if (known?.size === 0) this.#byNamespace.delete(namespace);
  }

  /** What is to be in force of a policy now. Where that takes long, its preparation begins. */
  #compiledNow(key: string, active: ActivePolicy, update: UpdateInProgress): readonly CompiledChain[] {
    const { policy, preparation } = active;
    const families = this.#families();
    if (
      preparation?.isReady === true &&
      preparation.policy === policy &&
      preparation.families === families.join() &&
      !this.#closed.has(key)
    ) {
      active.preparation = undefined;
      this.#underWay.delete(key);
      return preparation.compiled;
    }
    const isUnderWay = preparation !== undefined && preparation.policy === policy && preparation.families === families.join();
    if (!isUnderWay || this.#closed.has(key)) {
      const compiled = this.#compileAll(key, policy, families);
      active.preparation = undefined;
      this.#underWay.delete(key);
      if (!this.#isLarge(compiled, update)) return compiled;
      const waiting = update.newSubjects.get(key) ?? new Set<string>();
      active.preparation = this.#startPreparing(key, policy, families, compiled, waiting);
      this.#underWay.add(key);
    }
    if (active.compiled.length > 0) return active.compiled;
    const { waiting } = active.preparation ?? { waiting: new Set<string>() };
    return active.subjects.isSubsetOf(waiting) ? active.compiled : this.#compileClosed(policy, families);
  }

  #compileAll(key: string, policy: Policy, families: readonly Family[]): readonly CompiledChain[] {
    return isolatedBy(policy).map((direction) => this.#compile(key, policy, direction, families));
  }

  #compileClosed(policy: Policy, families: readonly Family[]): readonly CompiledChain[] {
    return isolatedBy(policy).map((direction) => this.#compileNothing(policy, direction, families));
  }

  // --- large policies: little by little

  #startPreparing(
    key: string,
    policy: Policy,
    families: readonly Family[],
    compiled: readonly CompiledChain[],
    waiting: ReadonlySet<string>,
  ): Preparation {
    const started = { compiled, sets: [], isReady: false, isOver: false };
    const preparation = Object.assign(started, {
      policy,
      families: families.join(),
      waiting,
      work: this.#prepare(key, policy.namespace, started),
    });
    const known = this.#preparing.get(policy.namespace);
    if (known === undefined) this.#preparing.set(policy.namespace, new Map([[key, preparation]]));
    else {
      known.delete(key);
      known.set(key, preparation);
    }
    return preparation;
  }

  /** Whether making it at once, beside what this update makes, would be noticed. */
  #isLarge(compiled: readonly CompiledChain[], update: UpdateInProgress): boolean {
    let [looks, ranges] = [0, 0];
    for (const { sets } of compiled) {
      for (const description of sets.values()) {
        if (this.#sets.has(description.name)) continue;
        if ('groups' in description) for (const group of description.groups) looks += this.#cluster.looksForGroup(group);
        else ranges += description.ranges.length;
      }
    }
    if (update.looks + looks > this.#limits.looks || update.ranges + ranges > this.#limits.ranges) return true;
    update.looks += looks;
    update.ranges += ranges;
    return false;
  }

  /** Goes on preparing, for a short while: now for the one namespace, now for the next. */
  #prepareSome(update: UpdateInProgress): void {
    this.#countAgain();
    const endsAt = performance.now() + PREPARING_MS;
    this.#update = update;
    const [namespace, preparations = new Map<string, Preparation>()] = this.#preparing.entries().next().value ?? [];
    let room = this.#limits.handedOut;
    for (const [key, preparation] of preparations) {
      while (!preparation.isReady && !preparation.isOver && performance.now() < endsAt) {
        this.#goOn(key, preparation);
      }
      if (!preparation.isReady && !preparation.isOver) break;
      room -= this.#handOut(preparation.sets, room, update);
      if (room === 0) break;
      this.#due.add(key);
      preparations.delete(key);
    }
    if (namespace !== undefined) {
      this.#preparing.delete(namespace);
      if (preparations.size > 0) this.#preparing.set(namespace, preparations);
    }
    this.#update = undefined;
    while (this.#cluster.hasLeftovers && performance.now() < endsAt) this.#cluster.dropLeftovers(STEPS_BETWEEN_LOOKS);
  }

  #goOn(key: string, preparation: Preparation): void {
    try {
      this.#stepIsLong = false;
      for (let step = 0; step < STEPS_BETWEEN_LOOKS && !preparation.isReady && !preparation.isOver && !this.#stepIsLong; step++)
        preparation.isOver = preparation.work.next().done === true;
    } catch (error) {
      preparation.isOver = true;
      this.#closed.set(key, defect(error));
    }
  }

  #prepared(key: string, namespace: string): void {
    const known = this.#preparing.get(namespace);
    known?.delete(key);
    if (known?.size === 0) this.#preparing.delete(namespace);
  }

  /** Makes the groups and sets that a policy needs, and holds them until it is told to return. */
  *#prepare(
    key: string,
    namespace: string,
    preparation: Pick<Preparation, 'compiled' | 'sets'> & { isReady: boolean },
  ): Generator<undefined, void> {
    const wanted = new Map<ObjectName, SetDescription>();
    for (const { sets } of preparation.compiled) for (const [name, set] of sets) if (!this.#sets.has(name)) wanted.set(name, set);
    // Counted first, which needs no memory.
    const counts = new Map<ObjectName, number>();
    for (const { sets } of preparation.compiled) for (const name of sets.keys()) counts.set(name, this.#sets.get(name)?.size ?? 0);
    for (const [name, description] of wanted) {
      let count = 0;
      if ('groups' in description) for (const group of description.groups) count += yield* this.#cluster.countGroup(group);
      else count = description.ranges.length;
      counts.set(name, count);
    }
    this.#makeRoom(namespace, { key, sets: counts });
    if (this.#closed.has(key)) return;
    const groups: Group[] = [];
    try {
      for (const description of wanted.values()) {
        const own: Group[] = [];
        if ('groups' in description) {
          for (const definition of description.groups) {
            const group = yield* this.#cluster.fillGroup(definition);
            groups.push(group);
            own.push(group);
          }
        }
        // What this update removes comes back with the next.
        while (this.#update?.removedSets.some(({ name }) => name === description.name) === true) yield;
        // Another policy may have made it meanwhile.
        if (this.#sets.has(description.name)) continue;
        const set = this.#addSet(description, []);
        preparation.sets.push(set);
        set.references++;
        if (own.length > 0) {
          set.isPartial = true;
          this.#update?.addedSets.set(description.name, { description, size: 0, elements: () => [] });
        }
        for (const group of own) {
          // Another policy may have needed it as a whole meanwhile.
          if (!set.isPartial) break;
          this.#join(set, this.#cluster.acquireGroup(group.definition));
          // As many elements as the group has members, and not one pod.
          this.#stepIsLong = true;
          yield;
        }
      }
      preparation.isReady = true;
      yield;
    } finally {
      for (const set of preparation.sets) if (--set.references === 0) this.#unused.add(set.description.name);
      for (const group of groups) this.#cluster.releaseGroup(group);
    }
  }

  /** Hands out elements of the sets of a policy that is prepared; how many. */
  #handOut(sets: readonly SetState[], room: number, update: UpdateInProgress): number {
    let count = 0;
    for (const set of sets) {
      if (count >= room) break;
      const taken = set.takePending(room - count);
      if (taken.length === 0) continue;
      count += taken.length;
      const known = update.elements.get(set.description.name);
      update.elements.set(set.description.name, { add: [...(known?.add ?? []), ...taken], remove: known?.remove ?? [] });
    }
    return count;
  }

  /** Closes policies of a namespace where all of them, and one that is being prepared, have more elements than there is room for. */
  #makeRoom(namespace: string, more?: PolicyElements): void {
    this.#growth.delete(namespace);
    const policies: PolicyElements[] = [];
    for (const key of this.#byNamespace.get(namespace) ?? []) {
      if (key === more?.key) continue;
      const sets = new Map<ObjectName, number>();
      for (const chain of this.#policies.get(key)?.compiled ?? []) {
        for (const name of chain.sets.keys()) sets.set(name, this.#sets.get(name)?.size ?? 0);
      }
      if (sets.size > 0) policies.push({ key, sets });
    }
    if (more !== undefined) policies.push(more);
    for (const [key, elements] of beyondElements(policies, this.#limits.elements)) {
      this.#closed.set(key, elementsReason(namespace, elements, this.#limits.elements));
      this.#tooManyElements.add(key);
      if (key !== more?.key) this.#due.add(key);
    }
  }

  /** Now and then: pods may have gone, or policies. */
  #countAgain(): void {
    if (this.#tooManyElements.size === 0) return;
    const now = performance.now();
    if (now - this.#countedAt < COUNT_AGAIN_MS) return;
    this.#countedAt = now;
    for (const key of this.#tooManyElements) {
      this.#closed.delete(key);
      this.#due.add(key);
    }
    this.#tooManyElements.clear();
  }

  /** A policy whose compilation fails, which is a defect of Sluice, isolates and admits nothing. */
  #compile(key: string, policy: Policy, direction: Direction, families: readonly Family[]): CompiledChain {
    if (this.#closed.has(key)) return this.#compileNothing(policy, direction, families);
    try {
      return compilePolicy(policy, direction, families, this.#limits);
    } catch (error) {
      this.#closed.set(key, defect(error));
      return this.#compileNothing(policy, direction, families);
    }
  }

  /** What isolates, and admits nothing. */
  #compileNothing(policy: Policy, direction: Direction, families: readonly Family[]): CompiledChain {
    return compilePolicy({ ...policy, [direction]: [] }, direction, families, this.#limits);
  }

  #acquireSet(description: SetDescription, namespace: string, update: UpdateInProgress): void {
    this.#update = update;
    let set = this.#sets.get(description.name);
    if (set === undefined) {
      const groups = 'groups' in description ? description.groups.map((group) => this.#cluster.acquireGroup(group)) : [];
      set = this.#addSet(description, groups);
      this.#grew(namespace, SET_ELEMENTS + set.size);
    } else if (set.isPartial) this.#complete(set, update);
    set.references++;
    set.namespaces.set(namespace, (set.namespaces.get(namespace) ?? 0) + 1);
  }

  /** Makes and hands out at once what a set lacks that is being filled. */
  #complete(set: SetState, update: UpdateInProgress): void {
    const { description } = set;
    if ('groups' in description)
      for (const definition of description.groups.slice(set.groups.length)) this.#join(set, this.#cluster.acquireGroup(definition));
    this.#handOut([set], Number.POSITIVE_INFINITY, update);
    set.isPartial = false;
  }

  /** @param groups acquired; released when the set goes */
  #addSet(description: SetDescription, groups: readonly Group[]): SetState {
    const set = new SetState(description, groups);
    this.#sets.set(description.name, set);
    // What is pending is handed out later.
    this.#update?.addedSets.set(description.name, set);
    for (const group of groups) this.#follow(group, set);
    return set;
  }

  /** One more group of a set that is made little by little. */
  #join(set: SetState, group: Group): void {
    set.include(group);
    this.#follow(group, set);
  }

  #follow(group: Group, set: SetState): void {
    const sets = this.#setsByGroup.get(group);
    if (sets === undefined) this.#setsByGroup.set(group, new Set([set]));
    else sets.add(set);
  }

  #releaseSet(name: ObjectName, namespace: string, update: UpdateInProgress): void {
    const set = this.#sets.get(name);
    if (set === undefined) return;
    const users = (set.namespaces.get(namespace) ?? 1) - 1;
    if (users === 0) set.namespaces.delete(namespace);
    else set.namespaces.set(namespace, users);
    if (--set.references === 0) update.unusedSets.add(name);
  }

  /** At the end of the update, because what one policy no longer names another may name now. */
  #dropUnusedSets(update: UpdateInProgress): void {
    for (const name of this.#unused) update.unusedSets.add(name);
    this.#unused.clear();
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
      for (const namespace of set.namespaces.keys()) this.#grew(namespace, elements.add.length);
      if (elements.add.length + elements.remove.length > 0) update.elements.set(set.description.name, elements);
    }
  }

  /** Pods come, and no policy: now and then it is counted how many elements there are. */
  #grew(namespace: string, elements: number): void {
    const growth = (this.#growth.get(namespace) ?? 0) + elements;
    this.#growth.set(namespace, growth);
    if (growth > this.#limits.elements / 100) this.#makeRoom(namespace);
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
  #podChain({ member, audited, chains }: LocalPod, direction: Direction, update: UpdateInProgress): DesiredChain | undefined {
    const { namespace, name } = member.pod;
    const selecting = this.#cluster.isolating(member.pod, direction);
    if (selecting.length === 0) return undefined;
    const isolating = this.#inForce(selecting, `${namespace}/${name}`, direction);
    // Where the policies of before have gone, and those of now are being prepared, it stays isolated.
    if (isolating.length === 0 && !chains.some((chain) => chain.direction === direction)) return undefined;
    const [leftOut] = this.#cluster.leftOut(member.pod, direction);
    if (leftOut !== undefined)
      this.#leftOut.set(`${namespace}/${name} ${direction}`, { policy: leftOut, pod: `${namespace}/${name}`, direction });
    const jumps = (): ObjectName[] =>
      isolating.length > this.#limits.jumps ? [this.#sharedJumps(isolating, direction, update)] : policyChains(isolating, direction);
    const policies = isDisputed(isolating) ? [] : jumps();
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

  /** Those of the policies that the pod is subject to now: not to one that is still being prepared, and was not there before. */
  #inForce(policies: readonly Policy[], pod: string, direction: Direction): readonly Policy[] {
    if (this.#underWay.size === 0) return policies;
    return policies.filter(({ namespace, name }) => {
      const preparation = this.#policies.get(`${namespace}/${name}`)?.preparation;
      if (preparation === undefined) return true;
      return !preparation.waiting.has(pod) && this.#chains.has(policyChainName(namespace, name, direction));
    });
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
