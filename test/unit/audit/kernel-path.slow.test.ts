import assert from 'node:assert/strict';
import { compareWithKernel, followKernel, type KernelVerdict } from '../../../src/audit/kernel-path.ts';
import type { Endpoint } from '../../../src/audit/endpoints.ts';
import { endsOf } from '../../../src/audit/explanation-ends.ts';
import { type ExplainedFlow, explainFlows } from '../../../src/audit/explanation-flows.ts';
import { askKernel, type AskedKernel } from '../../../src/audit/explanation-kernel.ts';
import type { KernelTable } from '../../../src/audit/kernel-table.ts';
import { rulesOfNode } from '../../../src/audit/node-rules.ts';
import { desiredTable } from '../../../src/enforcement/nftables/desired-table.ts';
import { type Address, familyOf } from '../../../src/policy/address.ts';
import { type DirectionVerdict, evaluate, type Question } from '../../../src/policy/evaluate.ts';
import { type Auditing, ENFORCING } from '../../../src/policy/mode.ts';
import type { Inventory } from '../../../src/audit/inventory.ts';
import { Dice, NODES, OUTSIDE } from '../../random/cluster.ts';
import { address } from '../policy/model.ts';
import { randomInventory } from './random-inventory.ts';

const OPTIONS = { owned: false, logGroup: 7, cutMark: 0x8000 };

/** The table that an agent of the node makes, as the kernel would give it back. */
function kernelOf(inventory: Inventory, node: string, auditing: Auditing = ENFORCING): KernelTable {
  const desired = desiredTable(rulesOfNode(inventory, node, auditing), OPTIONS);
  let handle = 0n;
  return {
    generation: 1,
    consistent: true,
    table: desired.table,
    sets: [...desired.sets].map((set) => ({ definition: set.definition, elements: [...set.elements()] })),
    chains: [...desired.chains].map(({ chain, rules, tail }) => ({
      chain,
      rules: [...rules, ...tail].map((rule) => ({ ...rule, handle: ++handle })),
    })),
  };
}

function questions(inventory: Inventory, seed: number): Question[] {
  const dice = new Dice(seed);
  const ends: Address[] = [...inventory.pods.flatMap(({ addresses }) => addresses), ...OUTSIDE.map(address)];
  return Array.from({ length: 80 }, () => {
    const source = dice.pick(ends);
    const destination = dice.pick(ends.filter((end) => familyOf(end) === familyOf(source)));
    const protocol = dice.pick(['TCP', 'UDP', 'SCTP', 'ICMP'] as const);
    return { source, destination, protocol, ...(protocol === 'ICMP' ? {} : { port: dice.pick([80, 81, 8080]) }) };
  });
}

/** Questions about a direction that the node judges: for a pod of its own, and not about packets of the node itself. */
function* judged(seed: number, auditing?: Auditing) {
  const inventory = randomInventory(seed);
  const { world } = inventory;
  const node = NODES[seed % 2] ?? assert.fail('no node');
  const table = kernelOf(inventory, node, auditing);
  for (const question of questions(inventory, seed)) {
    for (const direction of ['egress', 'ingress'] as const) {
      const [own, other] = direction === 'egress' ? [question.source, question.destination] : [question.destination, question.source];
      if (world.podAt(own)?.node !== node) continue;
      if (world.podAt(other) === undefined && world.nodeAt(other)?.name === node) continue;
      const way = followKernel(table, question);
      yield { direction, way, verdict: evaluate(world, question)[direction] };
    }
  }
}

describe('the way of a packet through the rules of a kernel', function () {
  this.timeout(60_000);

  it('ends as the evaluator says, in the chain of the pod or of the policy, for every direction that the node judges', () => {
    const met = { accept: 0, drop: 0 };
    for (let seed = 1; seed <= 60; seed++) {
      for (const { way, direction, verdict } of judged(seed)) {
        const kernel = way[direction] ?? assert.fail('no base chain');
        assert.equal(kernel.effect, verdict.allowed ? 'accept' : 'drop', `${seed}: ${direction} ${verdict.reason}`);
        assert.deepEqual(compareWithKernel(verdict, kernel, false), { agrees: 'yes' });
        assert.deepEqual(way.others, []);
        met[kernel.effect]++;
        if (verdict.reason === 'refused') {
          assert.match(kernel.rule?.chain ?? '', new RegExp(`^${direction}/`, 'u'));
          assert.equal(kernel.rule?.text, 'counter drop');
        }
        if (verdict.reason === 'admitted') {
          assert.match(kernel.rule?.chain ?? '', /^policy\//u);
          assert.match(kernel.rule?.comment ?? '', new RegExp(`^${direction}\\[`, 'u'));
          assert.deepEqual(
            kernel.via.map(({ chain }) => chain.split('/')[0]),
            [direction, direction],
          );
        }
        if (verdict.reason === 'not-isolated') assert.equal(kernel.rule, undefined);
      }
    }
    assert.ok(met.accept > 500 && met.drop > 500, JSON.stringify(met));
  });

  it('ends in letting through what is refused, where the pod is audited, and says that it is that', () => {
    let audited = 0;
    for (let seed = 1; seed <= 10; seed++) {
      for (const { way, direction, verdict } of judged(seed, { mode: 'audit', namespaces: false })) {
        const kernel = way[direction] ?? assert.fail('no base chain');
        assert.equal(kernel.effect, 'accept');
        assert.equal(kernel.audited, !verdict.allowed);
        assert.deepEqual(compareWithKernel(verdict, kernel, true), { agrees: 'yes' });
        if (kernel.audited) audited++;
      }
    }
    assert.ok(audited > 50);
  });
});

describe('the kernel of a node, asked about every flow of a cluster', function () {
  this.timeout(60_000);

  async function flowsOf(cluster: Inventory, seed: number): Promise<readonly ExplainedFlow[]> {
    const everybody: Endpoint = { kind: 'namespace', name: 'all', pods: cluster.pods };
    const port = seed % 3 === 0 ? ({ kind: 'icmp' } as const) : ({ kind: 'port', port: 80, protocol: 'TCP' } as const);
    return explainFlows(cluster, await endsOf(cluster, everybody, everybody, { name: 'all', port })).flows;
  }

  function asked(cluster: Inventory, seed: number, table: KernelTable | undefined, bridges: AskedKernel['bridges'] = []): AskedKernel {
    const node = NODES[seed % 2] ?? assert.fail('no node');
    return { node, table, bridges, auditing: ENFORCING, world: cluster.world, modes: new Map() };
  }

  it('agrees of all that it judges, and says which it does not', async () => {
    const met = { judged: 0, elsewhere: 0, nobody: 0 };
    for (let seed = 1; seed <= 30; seed++) {
      const cluster = randomInventory(seed);
      const node = NODES[seed % 2] ?? assert.fail('no node');
      const kernel = asked(cluster, seed, kernelOf(cluster, node));
      for (const flow of await flowsOf(cluster, seed)) {
        for (const direction of ['egress', 'ingress'] as const) {
          const answer = askKernel(kernel, flow, direction);
          const { members } = direction === 'egress' ? flow.source : flow.destination;
          const own = members.filter(({ pod }) => pod !== undefined && !pod.hostNetwork);
          if (answer === undefined) {
            assert.equal(own.length, 0);
            met.nobody++;
          } else if (answer.judged) {
            assert.equal(answer.agrees, 'yes', answer.difference ?? '');
            assert.ok(answer.followed > 0);
            met.judged++;
          } else if (!own.some(({ pod }) => pod?.node === node)) {
            assert.match(answer.reason, /node node-[ab] judges it, and not node-[ab]$/u);
            met.elsewhere++;
          }
        }
      }
    }
    assert.ok(met.judged > 500 && met.elsewhere > 50 && met.nobody > 10, JSON.stringify(met));
  });

  it('agrees of no refusal where its maps are empty', async () => {
    let refused = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const cluster = randomInventory(seed);
      const table = kernelOf(cluster, NODES[seed % 2] ?? assert.fail('no node'));
      const sets = table.sets.map((set) => (set.definition.data === undefined ? set : { ...set, elements: [] }));
      for (const flow of await flowsOf(cluster, seed)) {
        for (const direction of ['egress', 'ingress'] as const) {
          const answer = askKernel(asked(cluster, seed, { ...table, sets }), flow, direction);
          if (answer?.judged !== true) continue;
          assert.equal(answer.agrees, flow[direction].allowed ? 'yes' : 'no');
          if (!flow[direction].allowed) refused++;
        }
      }
    }
    assert.ok(refused > 50);
  });

  for (const [what, change] of [
    ['there is no table', () => undefined],
    ['somebody has put the table to sleep', (table) => ({ ...table, table: { ...table.table, flags: ['dormant'] } })],
  ] satisfies [string, (table: KernelTable) => KernelTable | undefined][]) {
    it(`agrees of no refusal where ${what}, and of all that is allowed`, async () => {
      let refused = 0;
      for (let seed = 1; seed <= 10; seed++) {
        const cluster = randomInventory(seed);
        const table = change(kernelOf(cluster, NODES[seed % 2] ?? assert.fail('no node')));
        for (const flow of await flowsOf(cluster, seed)) {
          for (const direction of ['egress', 'ingress'] as const) {
            const answer = askKernel(asked(cluster, seed, table), flow, direction);
            if (answer?.judged !== true) continue;
            assert.equal(answer.agrees, flow[direction].allowed ? 'yes' : 'no');
            assert.equal(answer.effect, 'accept');
            if (!flow[direction].allowed) refused++;
          }
        }
      }
      assert.ok(refused > 50);
    });
  }

  it('does not take a rule that refuses for a refusal, where packets between pods of the node do not come to it', async () => {
    const met = { within: 0, across: 0 };
    for (let seed = 1; seed <= 10; seed++) {
      const cluster = randomInventory(seed);
      const node = NODES[seed % 2] ?? assert.fail('no node');
      const table = kernelOf(cluster, node);
      for (const flow of await flowsOf(cluster, seed)) {
        for (const direction of ['egress', 'ingress'] as const) {
          const ask = (filtering: AskedKernel['bridges'][number]['filtering']) =>
            askKernel(asked(cluster, seed, table, [{ name: 'cni0', filtering }]), flow, direction);
          const answer = ask(null);
          if (answer?.judged !== true) continue;
          const isRefused = !flow[direction].allowed;
          const isWithin = answer.source.pod?.node === node && answer.destination.pod?.node === node;
          if (answer.agrees === 'no') {
            assert.ok(isRefused && isWithin);
            met.within++;
            const family = flow.families.length === 1 ? flow.families[0] : undefined;
            if (family === undefined) continue;
            // Each family has its own flag; the sysctl may stand in for it.
            const off = ask({ iptables: family === 6, ip6tables: family === 4 });
            assert.ok(off?.judged === true && off.agrees === 'unknown');
            const on = ask({ iptables: family === 4, ip6tables: family === 6 });
            assert.ok(on?.judged === true && on.agrees === 'yes');
          } else {
            assert.equal(answer.agrees, 'yes');
            if (isRefused) met.across++;
          }
        }
      }
    }
    assert.ok(met.within > 10 && met.across > 10, JSON.stringify(met));
  });
});

describe('the kernel and the evaluator', () => {
  const allowed: DirectionVerdict = { allowed: true, reason: 'not-isolated' };
  const refused: DirectionVerdict = { allowed: false, reason: 'refused', policies: [] };
  const verdict = (effect: KernelVerdict['effect'], audited = false): KernelVerdict => ({ effect, audited, via: [], rule: undefined });

  for (const [what, said, kernel, isAudited, agrees] of [
    ['both let it through', allowed, verdict('accept'), undefined, 'yes'],
    ['both refuse it', refused, verdict('drop'), false, 'yes'],
    ['the kernel drops what is admitted', allowed, verdict('drop'), undefined, 'no'],
    ['the kernel lets through what is refused', refused, verdict('accept'), undefined, 'no'],
    ['the kernel lets through what is refused in a pod that is to be audited, and not by audit', refused, verdict('accept'), true, 'no'],
    ['the kernel audits what is refused, and is to', refused, verdict('accept', true), true, 'yes'],
    ['the kernel audits what is refused, and nobody knows whether it is to', refused, verdict('accept', true), undefined, 'yes'],
    ['the kernel audits what is refused, and is not to', refused, verdict('accept', true), false, 'no'],
    ['the kernel lets through by audit alone what is admitted', allowed, verdict('accept', true), true, 'no'],
    ['the kernel drops what is to be audited', refused, verdict('drop'), true, 'no'],
    ['the base chain is missing', allowed, undefined, undefined, 'no'],
    ['the rules do not tell', allowed, verdict('unknown'), undefined, 'unknown'],
  ] as const) {
    it(`${agrees === 'yes' ? 'agree' : agrees === 'no' ? 'do not agree' : 'may agree'} where ${what}`, () => {
      const agreement = compareWithKernel(said, kernel, isAudited);
      assert.equal(agreement.agrees, agrees);
      assert.equal(agreement.difference === undefined, agrees === 'yes');
    });
  }
});
