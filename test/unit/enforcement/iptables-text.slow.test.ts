/**
 * The rendering for iptables means what policy means: a small iptables, written here from its manual, runs the text on packets, and the
 * evaluator says what should have become of them.
 */
import assert from 'node:assert/strict';
import { rulesOfNode } from '../../../src/audit/node-rules.ts';
import { iptablesText } from '../../../src/enforcement/iptables/text.ts';
import { type Address, familyOf, formatAddress, parseAddress, parsePrefix, prefixRange } from '../../../src/policy/address.ts';
import { evaluate, type Question } from '../../../src/policy/evaluate.ts';
import type { Namespace, Node, Pod, Policy } from '../../../src/policy/objects.ts';
import { contains } from '../../../src/policy/ranges.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { ClusterGenerator } from '../../random/cluster.ts';
import { History } from '../../random/events.ts';

interface Packet extends Question {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'other';
  readonly port: number;
}

/** What `ipset test` and a walk through `FORWARD` say of the first packet of a flow. */
class SmallIptables {
  readonly #sets = new Map<string, { readonly type: string; readonly elements: Set<string> }>();
  readonly #chains = new Map<string, string[][]>();

  constructor(sets: string, rules: string) {
    for (const line of sets.split('\n').filter((each) => each !== '')) {
      const [verb, name = '', rest = ''] = line.split(' ');
      assert.ok(name.length <= 31, name);
      if (verb === 'create') this.#sets.set(name, { type: rest, elements: new Set() });
      else (this.#sets.get(name) ?? assert.fail(`no set ${name}`)).elements.add(rest);
    }
    for (const line of rules.split('\n')) {
      const declared = /^:(\S+) /.exec(line)?.[1];
      if (declared !== undefined) {
        assert.ok(declared.length <= 28, declared);
        this.#chains.set(declared, []);
      } else if (line.startsWith('-A ')) {
        const [, chain = '', ...words] = line.match(/"[^"]*"|\S+/g) ?? [];
        (this.#chains.get(chain) ?? assert.fail(`no chain ${chain}`)).push(words);
      } else assert.ok(['*filter', 'COMMIT', ''].includes(line), line);
    }
  }

  /** Whether it gets to the end of FORWARD. */
  passes(packet: Packet): boolean {
    return this.#run('FORWARD', packet) !== 'drop';
  }

  #run(chain: string, packet: Packet): 'drop' | 'return' {
    for (const words of this.#chains.get(chain) ?? assert.fail(`no chain ${chain}`)) {
      const action = this.#match(words, packet);
      if (action === undefined || action[1] === 'NFLOG') continue;
      const [flag, target] = action;
      if (target === 'DROP') return 'drop';
      if (target === 'RETURN') return 'return';
      const result = this.#run(target, packet);
      // What returns from a chain that was gone to returns to where this chain was called.
      if (result === 'drop' || flag === '-g') return result;
    }
    return 'return';
  }

  #match(words: readonly string[], packet: Packet): readonly ['-j' | '-g', string] | undefined {
    let negated = false;
    for (let at = 0; at < words.length; at++) {
      const [word = '', value = '', third = ''] = words.slice(at);
      let holds = true;
      switch (word) {
        case '-m':
          if (value === 'limit' || value === 'comment') break;
          // Of a first packet of a new flow none of these is true.
          if (['connlabel', 'connmark', 'conntrack', 'hl'].includes(value)) return undefined;
          break;
        case '!':
          negated = true;
          continue;
        case '-p':
          holds = packet.protocol.toLowerCase() === value;
          break;
        case '-s':
        case '-d':
          holds = inPrefix(value, word === '-s' ? packet.source : packet.destination);
          break;
        case '--dport':
        case '--dports':
          holds = value.split(',').some((range) => {
            const [first, last = first] = range.split(':').map(Number);
            return packet.port >= Number(first) && packet.port <= Number(last);
          });
          break;
        case '--match-set':
          holds = this.#inSet(value, third, packet);
          at++;
          break;
        case '-j':
        case '-g':
          return [word, value];
        case '--comment':
        case '--limit':
        case '--limit-burst':
        case '--icmp-type':
        case '--icmpv6-type':
          break;
        default:
          assert.fail(`${word}?`);
      }
      if (holds === negated) return undefined;
      negated = false;
      at++;
    }
    return assert.fail(`a rule without a target: ${words.join(' ')}`);
  }

  #inSet(name: string, sides: string, { source, destination, protocol, port }: Packet): boolean {
    const { type, elements } = this.#sets.get(name) ?? assert.fail(`no set ${name}`);
    const address = sides.startsWith('src') ? source : destination;
    if (type === 'hash:ip') return elements.has(formatAddress(address));
    if (type === 'hash:ip,port') return elements.has(`${formatAddress(address)},${protocol.toLowerCase()}:${port}`);
    return elements.values().some((element) => inPrefix(element, address));
  }
}

function inPrefix(text: string, address: Address): boolean {
  const prefix = parsePrefix(text) ?? single(text);
  return familyOf(prefix.address) === familyOf(address) && contains([prefixRange(prefix)], address);
}

function single(text: string): { address: Address; length: number } {
  const address = parseAddress(text) ?? assert.fail(text);
  return { address, length: familyOf(address) === 4 ? 32 : 128 };
}

describe('the rendering for iptables', () => {
  it('lets through and refuses what policy does, on random clusters', () => {
    const counts = { allowed: 0, denied: 0 };
    for (let seed = 1; seed <= 30; seed++) {
      const history = new History(new ClusterGenerator(seed));
      for (let step = 0; step < 40; step++) history.batch();
      const objects = { pods: [] as Pod[], namespaces: [] as Namespace[], nodes: [] as Node[], policies: [] as Policy[] };
      for (const event of history.state.values()) {
        if (event.kind === 'Pod') objects.pods.push(event.object);
        else if (event.kind === 'Namespace') objects.namespaces.push(event.object);
        else if (event.kind === 'Node') objects.nodes.push(event.object);
        else objects.policies.push(event.object);
      }
      const world = worldOf(objects);
      const node = 'node-a';
      const { sets, rules } = iptablesText(rulesOfNode(objects, node), { owned: false, logGroup: 100, cutMark: 0x1000 });
      const tables = { 4: new SmallIptables(sets, rules[4]), 6: new SmallIptables(sets, rules[6]) };
      const addresses = [
        ...objects.pods.flatMap((pod) => pod.addresses.filter((address) => world.podAt(address) === pod)),
        ...['192.0.2.1', '10.0.0.1', '2001:db8::1'].map((text) => parseAddress(text) ?? assert.fail(text)),
      ];
      for (const source of addresses) {
        for (const destination of addresses) {
          if (familyOf(source) !== familyOf(destination)) continue;
          for (const [protocol, port] of [
            ['TCP', 80],
            ['TCP', 8080],
            ['UDP', 53],
            ['SCTP', 80],
            ['other', 0],
          ] as const) {
            const packet: Packet = { source, destination, protocol, port };
            const { egress, ingress } = evaluate(world, packet);
            // Of this node's pods alone, and not what a node itself sends: that does not come through FORWARD.
            if (egress.reason === 'own-node' || ingress.reason === 'own-node') continue;
            const judged = [
              world.podAt(source)?.node === node ? egress.allowed : true,
              world.podAt(destination)?.node === node ? ingress.allowed : true,
            ];
            const expected = judged.every((allowed) => allowed);
            const passes = tables[familyOf(source)].passes(packet);
            assert.equal(passes, expected, `seed ${seed}: ${formatAddress(source)} to ${formatAddress(destination)}, ${protocol} ${port}`);
            counts[expected ? 'allowed' : 'denied']++;
          }
        }
      }
    }
    assert.ok(counts.allowed > 2_000 && counts.denied > 2_000, JSON.stringify(counts));
  });
});
