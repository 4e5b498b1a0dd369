/**
 * From what a policy means to the rules of its chains. Pure: a chain and the sets that its rules name are functions of the policy
 * and of the families in use on the node, and of nothing else; who is in the sets is not its business.
 */
import type { GroupDefinition } from '../cluster/groups.ts';
import type { Family } from '../policy/address.ts';
import { formatAddress, type Range } from '../policy/address.ts';
import { union } from '../policy/ranges.ts';
import type { Direction, Peer, Policy, PolicyProtocol, Rule } from '../policy/objects.ts';
import { groupPorts, type PortGroup, type PortRange } from '../policy/ports.ts';
import { EVERYTHING } from '../policy/selector.ts';
import { blockSetName, describeGroup, namedPortSetName, podSetName, policyChainName, portSetName } from './names.ts';
import type { AdmitRule, DesiredChain, ObjectName, SetDescription } from './objects.ts';

export interface CompiledChain {
  readonly chain: DesiredChain;
  /** Every set that a rule of the chain names. */
  readonly sets: ReadonlyMap<ObjectName, SetDescription>;
}

type BlockPeer = Extract<Peer, { kind: 'block' }>;

/**
 * Up to so many ipBlocks of a rule have a set and a rule each, which tells them apart in counters and answers. More are united: the
 * kernel's cost grows faster than the number of sets, and whoever may write a policy could stop a node with thousands.
 */
const SEPARATE_BLOCKS = 16;

/** A peer in one family: no set means any address. `group` is there where the peer is pods. */
interface PeerMatch {
  readonly family: Family | undefined;
  readonly set: SetDescription | undefined;
  readonly group?: GroupDefinition;
  readonly path: string;
}

/** @param families of the local pods: rules for another would never see a packet. */
export function compilePolicy(policy: Policy, direction: Direction, families: readonly Family[]): CompiledChain {
  const compiler = new ChainCompiler(policy, direction, families);
  for (const rule of policy[direction] ?? []) compiler.addRule(rule);
  return compiler.finish();
}

class ChainCompiler {
  readonly #policy: Policy;
  readonly #direction: Direction;
  readonly #families: readonly Family[];
  readonly #rules: AdmitRule[] = [];
  readonly #sets = new Map<ObjectName, SetDescription>();

  constructor(policy: Policy, direction: Direction, families: readonly Family[]) {
    this.#policy = policy;
    this.#direction = direction;
    this.#families = families;
  }

  addRule(rule: Rule): void {
    const ports = rule.ports === undefined ? undefined : groupPorts(rule.ports);
    for (const peer of this.#peers(rule)) {
      if (ports === undefined) this.#admit(peer, undefined, undefined, undefined);
      else for (const group of ports) this.#admitPorts(peer, group);
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

  #peers(rule: Rule): PeerMatch[] {
    const path = `${this.#direction}[${rule.index}]`;
    if (rule.peers === undefined) return [{ family: undefined, set: undefined, path }];
    const side = `${path}.${this.#direction === 'ingress' ? 'from' : 'to'}`;
    const blocks = rule.peers.filter((peer) => peer.kind === 'block');
    if (blocks.length <= SEPARATE_BLOCKS) return rule.peers.flatMap((peer) => this.#peer(peer, `${side}[${peer.index}]`));
    const others = rule.peers.filter((peer) => peer.kind !== 'block');
    return [...others.flatMap((peer) => this.#peer(peer, `${side}[${peer.index}]`)), ...this.#unitedBlocks(blocks, side)];
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
      case 'pods': {
        const group = { namespace: peer.namespaces ?? this.#policy.namespace, pods: peer.pods, local: false };
        return this.#families.map((family) => ({ family, set: podSet(family, group), group, path }));
      }
    }
  }

  #admitPorts(peer: PeerMatch, { protocol, ranges, names }: PortGroup): void {
    const [first, second] = ranges;
    if (first !== undefined && second === undefined) {
      const everyPort = first.first === 0 && first.last === 65535;
      this.#admit(peer, protocol, everyPort ? undefined : first, undefined);
    } else if (first !== undefined) {
      this.#admit(peer, protocol, this.#use(portSet(ranges)), undefined);
    }
    for (const port of names) {
      for (const family of peer.family === undefined ? this.#families : [peer.family])
        this.#admitNamedPort({ ...peer, family }, family, protocol, port);
    }
  }

  /**
   * A named port is the destination's own (row 15). For ingress that is a pod that the policy selects, of this node: no other is
   * judged here. For egress it is any pod that the rule may reach; where the peer is pods, the set of their ports says both who and
   * which port, and the peer's own set is not needed. Never an external address (row 17), never a hostNetwork pod.
   */
  #admitNamedPort(peer: PeerMatch, family: Family, protocol: PolicyProtocol, port: string): void {
    const ingress = this.#direction === 'ingress';
    const group = ingress ? { namespace: this.#policy.namespace, pods: this.#policy.subject, local: true } : (peer.group ?? ALL_PODS);
    const name = namedPortSetName(family, group, protocol, port);
    const comment = `${protocol} port ${port} of ${describeGroup(group)}`;
    const named = this.#use({ kind: 'named-ports', name, family, group, port, protocol, comment });
    const peerSaidByName = !ingress && peer.group !== undefined;
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

function podSet(family: Family, group: GroupDefinition): SetDescription {
  return { kind: 'pods', name: podSetName(family, group), family, group, comment: describeGroup(group) };
}

function portSet(ranges: readonly PortRange[]): SetDescription {
  return { kind: 'ports', name: portSetName(ranges), ranges, comment: 'ports' };
}
