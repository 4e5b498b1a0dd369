import assert from 'node:assert/strict';
import type { Endpoint, PortQuestion } from '../../../src/audit/endpoints.ts';
import { endsOf, type Member } from '../../../src/audit/explanation-ends.ts';
import { type ExplainedFlow, explainFlows } from '../../../src/audit/explanation-flows.ts';
import type { Inventory } from '../../../src/audit/inventory.ts';
import { type Address, familyOf, ipv4, type Prefix, prefixRange } from '../../../src/policy/address.ts';
import { evaluate, type Question, type Verdict } from '../../../src/policy/evaluate.ts';
import { contains } from '../../../src/policy/ranges.ts';
import { Dice } from '../../random/cluster.ts';
import { prefix } from '../policy/model.ts';
import { randomInventory } from './random-inventory.ts';

const WORLDS = 60;

async function ask(inventory: Inventory, source: Endpoint, destination: Endpoint, port: PortQuestion): Promise<readonly ExplainedFlow[]> {
  const ends = await endsOf(inventory, source, destination, { name: destination.name, port });
  const { flows, unanswered } = explainFlows(inventory, ends);
  // Pods that have ended are passed over in silence; the rest are pairs of different families.
  for (const { reason } of unanswered) assert.match(reason, /^no packet goes between them/u);
  return flows;
}

function everybody({ pods }: Inventory): Endpoint {
  return { kind: 'namespace', name: 'all', pods };
}

const PORTS: readonly PortQuestion[] = [
  { kind: 'port', port: 80, protocol: 'TCP' },
  { kind: 'port', port: 8080, protocol: 'UDP' },
  { kind: 'icmp' },
];

/** The verdict is the flow's, with the same reasons; and of a refusal the same policies isolate. */
function assertSame(flow: ExplainedFlow, verdict: Verdict, what: string): void {
  assert.equal(flow.allowed, verdict.allowed, what);
  for (const direction of ['egress', 'ingress'] as const) {
    const [said, is] = [flow[direction], verdict[direction]];
    assert.equal(said.reason, is.reason, `${what} ${direction}`);
    if (said.reason === 'refused' && is.reason === 'refused') {
      assert.deepEqual(
        said.isolatedBy,
        is.policies.map(({ namespace, name }) => ({ namespace, name })),
      );
    }
    if (said.reason === 'admitted' && is.reason === 'admitted') {
      assert.deepEqual(said.by.policy, { namespace: is.policy.namespace, name: is.policy.name });
      assert.ok(said.by.path.startsWith(`spec.${direction}[${is.rule}]`));
    }
  }
}

function questionsOf(flow: ExplainedFlow, from: Member | Address, to: Member | Address): Question[] {
  const addresses = (end: Member | Address): readonly Address[] => (typeof end === 'object' ? end.addresses : [end]);
  const ports = flow.ports.length === 0 ? [undefined] : flow.ports.map(({ port }) => port);
  return addresses(from).flatMap((source) =>
    addresses(to).flatMap((destination) =>
      familyOf(source) !== familyOf(destination) || !flow.families.includes(familyOf(source))
        ? []
        : ports.map((port) => ({ source, destination, protocol: flow.protocol === 'any' ? 'TCP' : flow.protocol, port })),
    ),
  );
}

describe('the explanations of many flows at once', function () {
  this.timeout(60_000);

  it('are those of each, and each is there once', async () => {
    let entries = 0;
    let pairs = 0;
    for (let seed = 1; seed <= WORLDS; seed++) {
      const inventory = randomInventory(seed);
      for (const port of PORTS) {
        const flows = await ask(inventory, everybody(inventory), everybody(inventory), port);
        const seen = new Map<string, number>();
        for (const flow of flows) {
          entries++;
          for (const from of flow.source.members) {
            for (const to of flow.destination.members) {
              if ((from.name === to.name) !== flow.itself) continue;
              for (const question of questionsOf(flow, from, to)) {
                const key = `${from.name} ${to.name} IPv${familyOf(question.source)}`;
                seen.set(key, (seen.get(key) ?? 0) + 1);
                assertSame(flow, evaluate(inventory.world, question), `${seed}: ${key}`);
              }
            }
          }
        }
        const living = inventory.pods.filter(({ terminal }) => !terminal);
        for (const from of living) {
          for (const to of living) {
            for (const family of [4, 6]) {
              const isAsked = [from, to].every(({ addresses }) => addresses.some((address) => familyOf(address) === family));
              const key = `${from.namespace}/${from.name} ${to.namespace}/${to.name} IPv${family}`;
              assert.equal(seen.get(key) ?? 0, isAsked ? 1 : 0, `${seed}: ${key}`);
              if (isAsked) pairs++;
            }
          }
        }
      }
    }
    assert.ok(entries * 3 < pairs, `${entries} entries for ${pairs} flows`);
  });

  for (const end of ['source', 'destination'] as const) {
    it(`are those of every address of a block that is the ${end}, and each is in one part`, async () => {
      for (let seed = 1; seed <= WORLDS; seed++) {
        const inventory = randomInventory(seed);
        const dice = new Dice(seed);
        const block = dice.pick(['0.0.0.0/0', '10.0.0.0/8', '10.244.1.0/24', '172.30.0.0/16', '::/0', 'fd00:244::/32'].map(prefix));
        const named: Endpoint = { kind: 'block', name: 'the block', prefix: block };
        const everyone = everybody(inventory);
        const port = PORTS[seed % 2] ?? assert.fail('no port');
        const flows = await ask(inventory, end === 'source' ? named : everyone, end === 'source' ? everyone : named, port);
        for (const address of addressesOf(inventory, block, flows, dice)) {
          const owner = inventory.world.podAt(address);
          const isNode = inventory.world.nodeAt(address) !== undefined;
          for (const other of inventory.pods.filter(({ terminal }) => !terminal)) {
            if (owner !== undefined && owner.name === other.name && owner.namespace === other.namespace) continue;
            const otherName = `${other.namespace}/${other.name}`;
            const about = flows.filter((flow) => {
              const [block, others] = end === 'source' ? [flow.source, flow.destination] : [flow.destination, flow.source];
              if (flow.itself || !others.members.some(({ name }) => name === otherName)) return false;
              if (!flow.families.includes(familyOf(address))) return false;
              if (owner !== undefined || isNode) return block.members.some(({ addresses }) => addresses.includes(address));
              return block.blocks.some((part) => contains([prefixRange(part)], address));
            });
            const otherAddress = other.addresses.find((of) => familyOf(of) === familyOf(address));
            assert.equal(about.length, otherAddress === undefined ? 0 : 1, `${seed}: ${String(address)} and ${otherName}`);
            const [flow] = about;
            if (flow === undefined || otherAddress === undefined) continue;
            const [from, to] = end === 'source' ? [address, otherAddress] : [otherAddress, address];
            for (const question of questionsOf(flow, from, to)) {
              assertSame(flow, evaluate(inventory.world, question), `${seed}: ${String(address)} ${otherName}`);
            }
          }
        }
      }
    });
  }
});

/** Of the block: those of pods and nodes, the ends of its parts, and some at random. */
function addressesOf({ pods, nodes }: Inventory, block: Prefix, flows: readonly ExplainedFlow[], dice: Dice): Address[] {
  const range = prefixRange(block);
  const ends = flows.flatMap(({ source, destination }) =>
    [...source.blocks, ...destination.blocks].flatMap((part) => {
      const { first, last } = prefixRange(part);
      return [first, last];
    }),
  );
  const random = Array.from({ length: 10 }, () =>
    typeof range.first === 'number' ? ipv4(Number(range.first) + dice.roll(Number(range.last) - Number(range.first) + 1)) : range.last,
  );
  const own = [...pods, ...nodes].flatMap(({ addresses }) => addresses);
  const all = [...own, ...ends, ...random].filter((address) => contains([range], address));
  return [...new Set(all)];
}
