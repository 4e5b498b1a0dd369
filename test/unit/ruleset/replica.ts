/**
 * A ruleset held as a kernel would: nothing but names, elements and rules, changed only by what an update says. It refuses what a
 * kernel would refuse (a chain that is not there, an element that is), and it judges packets by the rules alone.
 */
import assert from 'node:assert/strict';
import { type Address, familyOf } from '../../../src/policy/address.ts';
import type { Direction, Protocol } from '../../../src/policy/objects.ts';
import { contains } from '../../../src/policy/ranges.ts';
import type { ChainRule, DesiredChain, Ruleset, RulesetChanges, SetDescription, SetElement } from '../../../src/ruleset/objects.ts';

export interface Packet {
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: Protocol;
  readonly port?: number;
}

function text(element: SetElement): string {
  return typeof element === 'object' ? `${element.address}.${element.protocol}.${element.port}` : `${element}`;
}

export class Replica {
  readonly sets = new Map<string, { readonly description: SetDescription; readonly elements: Set<string> }>();
  readonly chains = new Map<string, readonly ChainRule[]>();
  /** Chains that let through what nothing admits. */
  readonly audited = new Set<string>();
  readonly verdicts = { ingress: new Map<Address, string>(), egress: new Map<Address, string>() };

  static of(ruleset: Ruleset): Replica {
    const replica = new Replica();
    for (const { description, elements } of [...ruleset.sets.values()].map((set) => ({
      description: set.description,
      elements: [...set.elements()],
    }))) {
      replica.sets.set(description.name, { description, elements: new Set(elements.map(text)) });
      assert.equal(new Set(elements.map(text)).size, elements.length, `an element of ${description.name} is there twice`);
    }
    for (const chain of ruleset.chains.values()) replica.#take(chain);
    for (const direction of ['ingress', 'egress'] as const) {
      for (const [address, chain] of ruleset.verdicts[direction]) replica.verdicts[direction].set(address, chain);
    }
    return replica;
  }

  /** @param isPreparing sets may be there that no rule names yet */
  apply(changes: RulesetChanges, isPreparing = false): void {
    for (const set of changes.addedSets) {
      assert.ok(!this.sets.has(set.description.name), `set ${set.description.name} is there already`);
      this.sets.set(set.description.name, { description: set.description, elements: new Set([...set.elements()].map(text)) });
    }
    for (const [name, { add, remove }] of changes.elements) {
      const elements = this.sets.get(name)?.elements;
      assert.ok(elements !== undefined, `elements for set ${name}, which is not there`);
      for (const element of remove) assert.ok(elements.delete(text(element)), `element ${text(element)} of ${name} is not there`);
      for (const element of add) {
        assert.ok(!elements.has(text(element)), `element ${text(element)} of ${name} is there already`);
        elements.add(text(element));
      }
    }
    for (const chain of changes.addedChains) {
      assert.ok(!this.chains.has(chain.name), `chain ${chain.name} is there already`);
      this.#take(chain);
    }
    for (const chain of changes.changedChains) {
      assert.ok(this.chains.has(chain.name), `chain ${chain.name} is not there`);
      this.#take(chain);
    }
    for (const direction of ['ingress', 'egress'] as const) {
      const map = this.verdicts[direction];
      for (const [address, chain] of changes.verdicts[direction].remove) {
        assert.equal(map.get(address), chain, 'a verdict is removed that is not there');
        map.delete(address);
      }
      for (const [address, chain] of changes.verdicts[direction].set) {
        assert.ok(!map.has(address), 'a verdict is there already');
        map.set(address, chain);
      }
    }
    for (const { name } of changes.removedChains) {
      assert.ok(this.chains.delete(name), `chain ${name} is not there`);
      this.audited.delete(name);
    }
    for (const { name } of changes.removedSets) assert.ok(this.sets.delete(name), `set ${name} is not there`);
    this.#check(isPreparing);
  }

  #take({ name, kind, rules, audited }: DesiredChain): void {
    assert.ok(!audited || kind === 'pod', `${name} is no pod's, and audited`);
    this.chains.set(name, rules);
    if (audited) this.audited.add(name);
    else this.audited.delete(name);
  }

  /** Nothing dangles, nothing is left over. */
  #check(isPreparing: boolean): void {
    const used = { sets: new Set<string>(), chains: new Set([...this.verdicts.ingress.values(), ...this.verdicts.egress.values()]) };
    for (const rules of this.chains.values()) {
      for (const rule of rules) {
        if (rule.kind === 'jump') used.chains.add(rule.chain);
        if (rule.kind !== 'admit') continue;
        for (const name of [rule.peer, rule.named, typeof rule.port === 'string' ? rule.port : undefined])
          if (name !== undefined) used.sets.add(name);
      }
    }
    for (const name of used.sets) assert.ok(this.sets.has(name), `a rule names set ${name}, which is not there`);
    for (const name of used.chains) assert.ok(this.chains.has(name), `chain ${name} is called and not there`);
    if (!isPreparing) for (const name of this.sets.keys()) assert.ok(used.sets.has(name), `set ${name} is used by nobody`);
    for (const name of this.chains.keys())
      assert.ok(!name.startsWith('policies/') || used.chains.has(name), `chain ${name} is called by nobody`);
  }

  /** What the rules of one direction make of a first packet; `audited`: none admits it, and it passes all the same. */
  judges(direction: Direction, packet: Packet): 'admitted' | 'audited' | 'refused' {
    const chain = this.verdicts[direction].get(direction === 'ingress' ? packet.destination : packet.source);
    if (chain === undefined || this.#runs(chain, direction, packet)) return 'admitted';
    return this.audited.has(chain) ? 'audited' : 'refused';
  }

  #runs(chain: string, direction: Direction, packet: Packet): boolean {
    return (this.chains.get(chain) ?? []).some((rule) => {
      switch (rule.kind) {
        case 'self':
          return (direction === 'ingress' ? packet.source : packet.destination) === rule.address;
        case 'jump':
          return this.#runs(rule.chain, direction, packet);
        case 'admit': {
          const peer = direction === 'ingress' ? packet.source : packet.destination;
          if (rule.family !== undefined && rule.family !== familyOf(packet.destination)) return false;
          if (rule.peer !== undefined && !this.#has(rule.peer, peer)) return false;
          if (rule.protocol !== undefined && rule.protocol !== packet.protocol) return false;
          if (
            rule.named !== undefined &&
            !this.#has(rule.named, { address: packet.destination, protocol: packet.protocol as 'TCP', port: packet.port ?? -1 })
          )
            return false;
          if (rule.port === undefined) return true;
          const { port } = packet;
          if (port === undefined) return false;
          if (typeof rule.port !== 'string') return rule.port.first <= port && port <= rule.port.last;
          const { description } = this.sets.get(rule.port) ?? {};
          return description?.kind === 'ports' && description.ranges.some(({ first, last }) => first <= port && port <= last);
        }
      }
    });
  }

  #has(name: string, element: SetElement): boolean {
    const set = this.sets.get(name);
    if (set?.description.kind === 'block' && typeof element !== 'object') return contains(set.description.ranges, element);
    return set?.elements.has(text(element)) ?? false;
  }
}
