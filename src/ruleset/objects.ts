/**
 * The desired state of one node in terms that every backend has: sets of addresses and ports, chains of rules, and maps from a
 * pod's address to its chain. Plain data, keyed by name; what a name stands for never changes while it is in use, except for
 * elements and rules.
 */
import type { Address, Family, Range } from '../policy/address.ts';
import type { Direction, PolicyProtocol } from '../policy/objects.ts';
import type { PortRange } from '../policy/ports.ts';
import type { GroupDefinition } from '../cluster/groups.ts';

/** Letters, digits, `/`, `-`, `_` and `.`, at most 200 bytes; unique in a table. */
export type ObjectName = string;

export type SetDescription =
  /** The addresses of one family of the members of any of these groups. */
  | {
      readonly kind: 'pods';
      readonly name: ObjectName;
      readonly family: Family;
      /** Each once. */
      readonly groups: readonly GroupDefinition[];
      readonly comment: string;
    }
  /** `address . protocol . port` of each member's container ports of any of these names and protocols (rows 15 and 16). */
  | {
      readonly kind: 'named-ports';
      readonly name: ObjectName;
      readonly family: Family;
      /** Each once. */
      readonly groups: readonly GroupDefinition[];
      /** Each once. */
      readonly ports: readonly PortName[];
      readonly comment: string;
    }
  /** What an ipBlock leaves of itself: disjoint, ascending. Never changes. */
  | {
      readonly kind: 'block';
      readonly name: ObjectName;
      readonly family: Family;
      readonly ranges: readonly Range[];
      readonly comment: string;
    }
  /** Several port ranges. Never changes. */
  | { readonly kind: 'ports'; readonly name: ObjectName; readonly ranges: readonly PortRange[]; readonly comment: string };

/** The name of a container port, and its protocol. */
export interface PortName {
  readonly name: string;
  readonly protocol: PolicyProtocol;
}

export interface NamedPortElement {
  readonly address: Address;
  readonly protocol: PolicyProtocol;
  readonly port: number;
}

/** Of `pods` an address, of `named-ports` a triple. Sets of the other kinds have no elements beside their description. */
export type SetElement = Address | NamedPortElement;

/** A set with its elements of now. */
export interface DesiredSet {
  readonly description: SetDescription;
  /** How many elements, or ranges, it has. */
  readonly size: number;
  elements(): Iterable<SetElement>;
}

/** What a rule of a policy chain asks; all that is present has to hold. */
export interface AdmitRule {
  readonly kind: 'admit';
  /** Undefined: both families, and then neither `peer` nor `named` is present. */
  readonly family: Family | undefined;
  /** The other side's address is in this set. */
  readonly peer: ObjectName | undefined;
  /** Undefined: every protocol, or the one that `named` says. */
  readonly protocol: PolicyProtocol | undefined;
  /** The destination port: one range, or a `ports` set. */
  readonly port: PortRange | ObjectName | undefined;
  /** Destination address, protocol and port are in this `named-ports` set. */
  readonly named: ObjectName | undefined;
  /** For people: where in the policy this is. */
  readonly comment: string;
}

export type ChainRule =
  | AdmitRule
  /** A pod reaches itself (row 30). */
  | { readonly kind: 'self'; readonly address: Address }
  | { readonly kind: 'jump'; readonly chain: ObjectName };

/**
 * A chain whose rules admit or jump: their order has no meaning. A pod's chain ends by refusing what nothing admitted, or by counting it
 * and letting it through; a policy's chain returns to the pod's. Where many policies isolate a pod, the jumps to them are a chain of their own
 * (`policies`), which all pods that are isolated by the same ones share: so a policy that comes or goes is not as dear as there are pods.
 */
export interface DesiredChain {
  readonly name: ObjectName;
  readonly direction: Direction;
  readonly kind: 'pod' | 'policy' | 'policies';
  /** `namespace/name` of the pod or policy; the namespace of several policies. */
  readonly of: string;
  /** Of a pod's chain: what nothing admitted is let through. Never of a policy's. */
  readonly audited: boolean;
  readonly rules: readonly ChainRule[];
  readonly comment: string;
}

/** Which chain judges the packets of an address: `ingress` by destination, `egress` by source. */
export type VerdictMap = ReadonlyMap<Address, ObjectName>;

/** The desired state. Views of live maps: read them between updates only. */
export interface Ruleset {
  readonly sets: ReadonlyMap<ObjectName, DesiredSet>;
  readonly chains: ReadonlyMap<ObjectName, DesiredChain>;
  readonly verdicts: Readonly<Record<Direction, VerdictMap>>;
  /** The chain of a local pod (`namespace/name`); undefined where no policy isolates it in this direction. */
  chainOfPod(pod: string, direction: Direction): DesiredChain | undefined;
}

export interface ElementChanges {
  readonly add: readonly SetElement[];
  readonly remove: readonly SetElement[];
}

/** What has to be done to bring what was desired before to what is desired now. */
export interface RulesetChanges {
  readonly addedSets: readonly DesiredSet[];
  readonly removedSets: readonly SetDescription[];
  /** Of sets that were there before and still are. */
  readonly elements: ReadonlyMap<ObjectName, ElementChanges>;
  readonly addedChains: readonly DesiredChain[];
  readonly changedChains: readonly DesiredChain[];
  readonly removedChains: readonly DesiredChain[];
  readonly verdicts: Readonly<Record<Direction, VerdictChanges>>;
}

export interface VerdictChanges {
  /** New addresses, and known ones that another chain judges now. */
  readonly set: VerdictMap;
  /** Every address of before that is gone or in `set`, with the chain that judged it. */
  readonly remove: VerdictMap;
}

export function isEmpty(changes: RulesetChanges): boolean {
  const { ingress, egress } = changes.verdicts;
  return (
    changes.addedSets.length + changes.removedSets.length + changes.elements.size === 0 &&
    changes.addedChains.length + changes.changedChains.length + changes.removedChains.length === 0 &&
    ingress.set.size + ingress.remove.size + egress.set.size + egress.remove.size === 0
  );
}

/** Names of the chains of the policies that a pod's chain asks, one after the other. */
export function policyChainsOf({ chains }: Pick<Ruleset, 'chains'>, pod: DesiredChain): ObjectName[] {
  return pod.rules.flatMap((rule) => {
    if (rule.kind !== 'jump') return [];
    const target = chains.get(rule.chain);
    return target?.kind === 'policies' ? policyChainsOf({ chains }, target) : [rule.chain];
  });
}
