/** One update of a node's ruleset: what it has found so far, and in the end what differs from the state before it. */
import type { Address } from '../policy/address.ts';
import type { Direction } from '../policy/objects.ts';
import type {
  ChainRule,
  DesiredChain,
  DesiredSet,
  ElementChanges,
  ObjectName,
  Ruleset,
  RulesetChanges,
  SetDescription,
  VerdictChanges,
} from './objects.ts';

export interface RulesetUpdate {
  readonly changes: RulesetChanges;
  /** Every flow that could go on (it was allowed, or audited) and may not any more has one of these addresses at one of its ends. */
  readonly tightened: ReadonlySet<Address>;
  /** Every flow that was stopped and may go on now has one of these, or of `tightened`. */
  readonly loosened: ReadonlySet<Address>;
  /** Keys of the policies whose rules were made anew. */
  readonly compiled: ReadonlySet<string>;
}

/** What one update has found so far. */
export class UpdateInProgress {
  readonly dirtyPolicies = new Set<string>();
  readonly dirtyPods = new Set<string>();
  /** Of policies that came or changed: the pods that they select and did not before. */
  readonly newSubjects = new Map<string, ReadonlySet<string>>();
  /** Pods that were looked at for new sets, and ranges of those that have such. */
  looks = 0;
  ranges = 0;
  /** Local pods that a policy selects whose rules were compiled anew. */
  readonly affectedPods = new Set<string>();
  readonly addedSets = new Map<ObjectName, DesiredSet>();
  readonly unusedSets = new Set<ObjectName>();
  /** Chains of policies that a pod has ceased to share, and nobody may. */
  readonly unusedShared = new Set<ObjectName>();
  readonly removedSets: SetDescription[] = [];
  readonly elements = new Map<ObjectName, ElementChanges>();
  /** Of each pod that was rebuilt: what it had at the start of the update. */
  readonly chainsBefore = new Map<string, { readonly chains: readonly DesiredChain[]; readonly addresses: readonly Address[] }>();
  readonly #chains = new Map<ObjectName, DesiredChain | undefined>();
  readonly #verdicts = { ingress: new Map<Address, ObjectName | undefined>(), egress: new Map<Address, ObjectName | undefined>() };

  oldChains(key: string, chains: readonly DesiredChain[], addresses: readonly Address[]): void {
    if (!this.chainsBefore.has(key)) this.chainsBefore.set(key, { chains, addresses });
  }

  chainBefore(name: ObjectName, chain: DesiredChain | undefined): void {
    if (!this.#chains.has(name)) this.#chains.set(name, chain);
  }

  verdictBefore(direction: Direction, address: Address, chain: ObjectName | undefined): void {
    if (!this.#verdicts[direction].has(address)) this.#verdicts[direction].set(address, chain);
  }

  finish(
    chains: ReadonlyMap<ObjectName, DesiredChain>,
    sets: ReadonlyMap<ObjectName, DesiredSet>,
    verdicts: Ruleset['verdicts'],
  ): RulesetChanges {
    const addedChains: DesiredChain[] = [];
    const changedChains: DesiredChain[] = [];
    const removedChains: DesiredChain[] = [];
    for (const [name, before] of this.#chains) {
      const after = chains.get(name);
      if (after === undefined) {
        if (before !== undefined) removedChains.push(before);
      } else if (before === undefined) addedChains.push(after);
      else if (before.audited !== after.audited || !sameRules(before.rules, after.rules)) changedChains.push(after);
    }
    return {
      addedSets: [...this.addedSets.values()].filter(({ description }) => sets.has(description.name)),
      removedSets: this.removedSets,
      elements: this.elements,
      addedChains,
      changedChains,
      removedChains,
      verdicts: {
        ingress: verdictChanges(this.#verdicts.ingress, verdicts.ingress),
        egress: verdictChanges(this.#verdicts.egress, verdicts.egress),
      },
    };
  }
}

function verdictChanges(before: ReadonlyMap<Address, ObjectName | undefined>, now: ReadonlyMap<Address, ObjectName>): VerdictChanges {
  const set = new Map<Address, ObjectName>();
  const remove = new Map<Address, ObjectName>();
  for (const [address, old] of before) {
    const chain = now.get(address);
    if (chain === old) continue;
    if (old !== undefined) remove.set(address, old);
    if (chain !== undefined) set.set(address, chain);
  }
  return { set, remove };
}

/** The same for rules that do the same and say the same of themselves. */
function ruleKey(rule: ChainRule): string {
  switch (rule.kind) {
    case 'self':
      return `self ${rule.address}`;
    case 'jump':
      return `jump ${rule.chain}`;
    case 'admit':
      return JSON.stringify([rule.family, rule.peer, rule.protocol, rule.port, rule.named, rule.comment]);
  }
}

function sameRules(a: readonly ChainRule[], b: readonly ChainRule[]): boolean {
  return a.length === b.length && a.every((rule, index) => ruleKey(rule) === ruleKey(b[index] ?? rule));
}
