/** The comparison that is shown to people finds a difference exactly where the one that the agent repairs by finds something to do. */
import assert from 'node:assert/strict';
import type { Element, Rule } from 'nftables-js';
import { type KernelTable, readerOf } from '../../../src/audit/kernel-table.ts';
import { compareBridges, compareTable, prepare } from '../../../src/audit/table-comparison.ts';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { desiredTable } from '../../../src/enforcement/nftables/desired-table.ts';
import { type DesiredTable, differences } from '../../../src/enforcement/nftables/table-content.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import { ClusterGenerator, Dice } from '../../random/cluster.ts';
import { History } from '../../random/events.ts';

function desiredOf(seed: number): DesiredTable {
  const history = new History(new ClusterGenerator(seed), seed);
  const cluster = new Cluster('node-a');
  const ruleset = new NodeRuleset(cluster, { mode: 'enforce', namespaces: true });
  for (let step = 0; step < 40; step++) ruleset.update(cluster.apply(history.batch()));
  return desiredTable(ruleset, { owned: false, logGroup: 100, cutMark: 0x1000 });
}

/** What a kernel has that was given exactly this; rules whose order has no meaning in another one. */
function kernelWith(desired: DesiredTable, dice: Dice): KernelTable {
  let handle = 0n;
  return {
    generation: 1,
    consistent: true,
    table: { ...desired.table },
    sets: [...desired.sets].map((set) => ({ definition: set.definition, elements: dice.shuffle([...set.elements()]) })),
    chains: [...desired.chains].map(({ chain, rules, tail }) => ({
      chain,
      rules: [...dice.shuffle(rules), ...tail].map((rule): Rule => ({ ...rule, handle: ++handle })),
    })),
  };
}

/** One thing of it changed, of which somebody might hope that nobody sees it. */
function tampered(table: KernelTable, dice: Dice): KernelTable {
  const { chains, sets } = table;
  const at = dice.roll(chains.length);
  const changeRules = (change: (rules: readonly Rule[]) => readonly Rule[]): KernelTable => ({
    ...table,
    chains: chains.map((chain, index) => (index === at ? { ...chain, rules: change(chain.rules) } : chain)),
  });
  const changeElements = (change: (elements: readonly Element[]) => readonly Element[]): KernelTable => {
    const which = dice.roll(sets.length);
    return { ...table, sets: sets.map((set, index) => (index === which ? { ...set, elements: change(set.elements) } : set)) };
  };
  const chain = chains[at]?.chain.name ?? assert.fail();
  const accept: Rule = { family: 'inet', table: 'sluice', chain, expressions: [{ expr: 'verdict', verdict: 'accept' }], handle: 999n };
  switch (dice.roll(8)) {
    case 0:
      return { ...table, table: { ...table.table, flags: ['dormant'] } };
    case 1:
      return changeRules((rules) => [accept, ...rules]);
    case 2:
      return changeRules((rules) => rules.slice(1));
    case 3:
      return changeRules((rules) => rules.toReversed());
    case 4:
      return changeElements((elements) => elements.slice(1));
    case 5:
      return changeElements((elements) =>
        elements.map((element) => (element.data === undefined ? element : { ...element, data: { verdict: 'accept' } })),
      );
    case 6:
      return { ...table, chains: chains.toSpliced(at, 1) };
    default:
      return { ...table, sets: sets.toSpliced(dice.roll(sets.length), 1) };
  }
}

describe('a kernel’s table beside the desired one', () => {
  it('is equal in whatever order rules and elements come that have none', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const desired = desiredOf(seed);
      const kernel = kernelWith(desired, new Dice(seed));
      assert.deepEqual(compareTable(prepare(desired), kernel), [], `seed ${seed}`);
      assert.deepEqual(await differences(desired, readerOf(kernel)), [], `seed ${seed}`);
    }
  });

  it('differs exactly where the agent would find something to repair', async () => {
    const counts = { equal: 0, different: 0 };
    for (let seed = 1; seed <= 300; seed++) {
      const desired = desiredOf(seed % 20);
      const dice = new Dice(seed);
      const kernel = tampered(kernelWith(desired, dice), dice);
      const repairs = await differences(desired, readerOf(kernel));
      const found = compareTable(prepare(desired), kernel);
      assert.equal(found.length > 0, repairs.length > 0, `seed ${seed}: ${JSON.stringify(found)}`);
      counts[found.length > 0 ? 'different' : 'equal']++;
    }
    // Reversing a single rule, or changing the data of a set that has none, is no change.
    assert.ok(counts.different > 150 && counts.equal > 10, JSON.stringify(counts));
  });

  it('is one difference where there is none', () => {
    assert.deepEqual(compareTable(prepare(desiredOf(1)), undefined), [
      { object: 'table', name: 'inet sluice', kernel: 'missing', lines: [] },
    ]);
  });

  it('asks of bridges both flags, and br_netfilter', () => {
    const on = { iptables: true, ip6tables: true };
    assert.deepEqual(compareBridges([{ name: 'cni0', filtering: on }]), []);
    assert.deepEqual(
      compareBridges([
        { name: 'cni0', filtering: { ...on, ip6tables: false } },
        { name: 'cni1', filtering: null },
      ]),
      [
        {
          object: 'bridge',
          name: 'cni0',
          kernel: 'different',
          lines: [
            { side: 'desired', text: 'nf_call_ip6tables 1' },
            { side: 'kernel', text: 'nf_call_ip6tables 0' },
          ],
        },
        { object: 'bridge', name: 'cni1', kernel: 'different', lines: [{ side: 'desired', text: 'br_netfilter' }] },
      ],
    );
  });
});
