/**
 * From what a policy means to the rules of its chains. Pure: a chain and the sets that its rules name are functions of the policy
 * and of the families in use on the node, and of nothing else; who is in the sets is not its business.
 */
import { type GroupDefinition, groupKey } from '../cluster/groups.ts';
import type { Family } from '../policy/address.ts';
import { formatAddress, type Range } from '../policy/address.ts';
import { union } from '../policy/ranges.ts';
import type { Direction, Peer, Policy, PolicyProtocol, Rule } from '../policy/objects.ts';
import { groupPorts, type PortRange } from '../policy/ports.ts';
import { EVERYTHING } from '../policy/selector.ts';
import { blockSetName, describeGroups, namedPortSetName, podSetName, policyChainName, portSetName } from './names.ts';
import type { AdmitRule, DesiredChain, ObjectName, PortName, SetDescription } from './objects.ts';

export interface CompiledChain {
  readonly chain: DesiredChain;
  /** Every set that a rule of the chain names. */
  readonly sets: ReadonlyMap<ObjectName, SetDescription>;
}

type BlockPeer = Extract<Peer, { kind: 'block' }>;
type PodPeer = Extract<Peer, { kind: 'pods' }>;

/**
 * What a policy's rule may be in the kernel. Peers and ports of a rule are a product there, a kernel rule for each pair, and both are as many as
 * whoever writes the policy likes: 260 of each, 16 kB of JSON, were 67,600 rules, which no kernel takes in a second.
 */
export interface CompileLimits {
  /** Up to so many ipBlocks of a rule, and as many selectors, have a set and a kernel rule each, which tells them apart in counters and answers. */
  readonly peers: number;
  /**
   * Of a policy with more rules than this in a direction, peers of a rule are not told apart: 1,000 rules of 16 blocks each were 16,000 sets, and
   * the kernel, which looks for a set by walking through all that there are, took seconds for them.
   */
  readonly rulesWithPeersApart: number;
  /** Up to so many kernel rules in one family. With more, selectors, blocks and names of ports are one set each: sums, and no product. */
  readonly rules: number;
  /** Of one pod. With more, pods that are isolated by the same policies share one chain of the jumps to them. */
  readonly jumps: number;
}

export const COMPILE_LIMITS: CompileLimits = { peers: 16, rulesWithPeersApart: 64, rules: 32, jumps: 32 };

/** A peer in one family: no set means any address. `groups` is there where the peer is pods. */
interface PeerMatch {
  readonly family: Family | undefined;
  readonly set: SetDescription | undefined;
  readonly groups?: readonly GroupDefinition[];
  readonly path: string;
}

/** @param families of the local pods: rules for another would never see a packet. */
export function compilePolicy(
  policy: Policy,
  direction: Direction,
  families: readonly Family[],
  limits: CompileLimits = COMPILE_LIMITS,
): CompiledChain {
  const compiler = new ChainCompiler(policy, direction, families, limits);
  const rules = policy[direction] ?? [];
  const apart = rules.length > limits.rulesWithPeersApart ? 1 : limits.peers;
  for (const rule of rules) compiler.addRule(rule, apart);
  return compiler.finish();
}

class ChainCompiler {
  readonly #policy: Policy;
  readonly #direction: Direction;
  readonly #families: readonly Family[];
  readonly #limits: CompileLimits;
  readonly #rules: AdmitRule[] = [];
  readonly #sets = new Map<ObjectName, SetDescription>();

  constructor(policy: Policy, direction: Direction, families: readonly Family[], limits: CompileLimits) {
    this.#policy = policy;
    this.#direction = direction;
    this.#families = families;
    this.#limits = limits;
  }

  /** @param apart up to so many blocks, and selectors, each by itself */
  addRule(rule: Rule, apart: number): void {
    const ports = rule.ports === undefined ? undefined : groupPorts(rule.ports);
    const portMatches =
      ports === undefined ? 1 : ports.reduce((sum, { ranges, names }) => sum + (ranges.length > 0 ? 1 : 0) + names.length, 0);
    const isLarge = (rule.peers?.length ?? 1) * portMatches > this.#limits.rules;
    const names = (ports ?? []).flatMap((group) => group.names.map((name): PortName => ({ name, protocol: group.protocol })));
    const namesTogether = isLarge && names.length > 0 ? [names] : names.map((name) => [name]);
    for (const peer of this.#peers(rule, isLarge ? 1 : apart)) {
      if (ports === undefined) this.#admit(peer, undefined, undefined, undefined);
      for (const { protocol, ranges } of ports ?? []) this.#admitNumbers(peer, protocol, ranges);
      for (const together of namesTogether) {
        for (const family of peer.family === undefined ? this.#families : [peer.family])
          this.#admitNamedPorts({ ...peer, family }, family, together);
      }
    }
  }

  finish(): CompiledChain {
    const { namespace, name } = this.#policy;
    return {
      chain: {
        name: policyChainName(namespace, name, this.#direction),
        direction: this.#direction,
        kind: 'policy',
        of: `${namespace}/${name}`,
        audited: false,
        rules: this.#rules,
        comment: `NetworkPolicy ${namespace}/${name}, ${this.#direction}`,
      },
      sets: this.#sets,
    };
  }

  /** @param separate up to so many blocks, and selectors, each by itself */
  #peers(rule: Rule, separate: number): PeerMatch[] {
    const path = `${this.#direction}[${rule.index}]`;
    if (rule.peers === undefined) return [{ family: undefined, set: undefined, path }];
    const side = `${path}.${this.#direction === 'ingress' ? 'from' : 'to'}`;
    const blocks = rule.peers.filter((peer) => peer.kind === 'block');
    const pods = rule.peers.filter((peer) => peer.kind === 'pods');
    const apart = rule.peers.filter((peer) => (peer.kind === 'block' ? blocks : pods).length <= separate);
    return [
      ...apart.flatMap((peer) => this.#peer(peer, `${side}[${peer.index}]`)),
      ...(pods.length > separate ? this.#unitedPods(pods, side) : []),
      ...(blocks.length > separate ? this.#unitedBlocks(blocks, side) : []),
    ];
  }

  #unitedPods(peers: readonly PodPeer[], path: string): PeerMatch[] {
    const groups = new Map(peers.map((peer) => this.#groupOf(peer)).map((group) => [groupKey(group), group]));
    return this.#podPeers([...groups.values()], path);
  }

  #podPeers(groups: readonly GroupDefinition[], path: string): PeerMatch[] {
    return this.#families.map((family) => ({ family, set: podSet(family, groups), groups, path }));
  }

  #groupOf(peer: PodPeer): GroupDefinition {
    return { namespace: peer.namespaces ?? this.#policy.namespace, pods: peer.pods, local: false };
  }

  #unitedBlocks(blocks: readonly BlockPeer[], path: string): PeerMatch[] {
    return this.#families.flatMap((family) => {
      const ranges = union(blocks.flatMap((block) => (block.family === family ? block.ranges : [])));
      return this.#blockPeer(family, ranges, `${blocks.length} blocks`, path);
    });
  }

  #blockPeer(family: Family, ranges: readonly Range[], text: string, path: string): PeerMatch[] {
    if (ranges.length === 0 || !this.#families.includes(family)) return [];
    const exact = ranges.map(({ first, last }) => `${formatAddress(first)}-${formatAddress(last)}`).join(',');
    const name = blockSetName(family, text, exact);
    return [{ family, set: { kind: 'block', name, family, ranges, comment: text }, path }];
  }

  #peer(peer: Peer, path: string): PeerMatch[] {
    switch (peer.kind) {
      case 'nothing':
        return [];
      case 'block':
        return this.#blockPeer(peer.family, peer.ranges, peer.text, path);
      case 'pods':
        return this.#podPeers([this.#groupOf(peer)], path);
    }
  }

  #admitNumbers(peer: PeerMatch, protocol: PolicyProtocol, ranges: readonly PortRange[]): void {
    const [first, second] = ranges;
    if (first !== undefined && second === undefined) {
      const everyPort = first.first === 0 && first.last === 65535;
      this.#admit(peer, protocol, everyPort ? undefined : first, undefined);
    } else if (first !== undefined) {
      this.#admit(peer, protocol, this.#use(portSet(ranges)), undefined);
    }
  }

  /**
   * A named port is the destination's own (row 15). For ingress that is a pod that the policy selects, of this node: no other is
   * judged here. For egress it is any pod that the rule may reach; where the peer is pods, the set of their ports says both who and
   * which port, and the peer's own set is not needed. Never an external address (row 17), never a hostNetwork pod.
   */
  #admitNamedPorts(peer: PeerMatch, family: Family, ports: readonly PortName[]): void {
    const ingress = this.#direction === 'ingress';
    const groups = ingress ? [{ namespace: this.#policy.namespace, pods: this.#policy.subject, local: true }] : (peer.groups ?? [ALL_PODS]);
    const name = namedPortSetName(family, groups, ports);
    const [only] = ports;
    const what = only !== undefined && ports.length === 1 ? `${only.protocol} port ${only.name}` : `${ports.length} named ports`;
    const comment = `${what} of ${describeGroups(groups)}`;
    const named = this.#use({ kind: 'named-ports', name, family, groups, ports, comment });
    const peerSaidByName = !ingress && peer.groups !== undefined;
    this.#admit(peerSaidByName ? { family, set: undefined, path: peer.path } : peer, undefined, undefined, named);
  }

  #admit(peer: PeerMatch, protocol: AdmitRule['protocol'], port: PortRange | ObjectName | undefined, named: ObjectName | undefined): void {
    const set = peer.set === undefined ? undefined : this.#use(peer.set);
    this.#rules.push({ kind: 'admit', family: peer.family, peer: set, protocol, port, named, comment: peer.path });
  }

  #use(set: SetDescription): ObjectName {
    this.#sets.set(set.name, set);
    return set.name;
  }
}

const ALL_PODS: GroupDefinition = { namespace: EVERYTHING, pods: EVERYTHING, local: false };

function podSet(family: Family, groups: readonly GroupDefinition[]): SetDescription {
  return { kind: 'pods', name: podSetName(family, groups), family, groups, comment: describeGroups(groups) };
}

function portSet(ranges: readonly PortRange[]): SetDescription {
  return { kind: 'ports', name: portSetName(ranges), ranges, comment: 'ports' };
}
