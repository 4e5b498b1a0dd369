import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { Poller } from 'nftables-js';
import { readKernelTable } from '../../../src/audit/kernel-table.ts';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { NftablesEnforcement } from '../../../src/enforcement/nftables/nftables-enforcement.ts';
import { elementTexts, hookLine, ruleText, setHead, setLines } from '../../../src/enforcement/nftables/object-text.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import { ClusterGenerator } from '../../random/cluster.ts';
import { History } from '../../random/events.ts';

function nft(...args: string[]): string {
  return execFileSync('nft', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
}

/** Blocks of `nft list table`: lines by `chain egress`, without comments of objects and the elements' line breaks. */
function blocksOf(listing: string): Map<string, string[]> {
  const blocks = new Map<string, string[]>();
  let lines: string[] = [];
  const joined = listing.replaceAll(/,\n\t\t\t {5}/g, ', ').replaceAll(/ elements = \{ ([^}]*) \}/g, ' elements = { $1 }');
  for (const line of joined.split('\n')) {
    const head = /^\t(\S.*) \{$/.exec(line)?.[1];
    if (head !== undefined) blocks.set(head, (lines = []));
    else if (line.startsWith('\t\t') && !line.startsWith('\t\tcomment ')) lines.push(line.trim());
  }
  return blocks;
}

describe('objects of the kernel in the words of nft', () => {
  it('are what nft itself prints, of everything that a node is given', async () => {
    let seen = 0;
    for (let seed = 1; seed <= 6; seed++) {
      const history = new History(new ClusterGenerator(seed), seed);
      const cluster = new Cluster('node-a');
      const ruleset = new NodeRuleset(cluster, { mode: 'enforce', namespaces: true });
      const poller = new Poller();
      const enforcement = NftablesEnforcement.open({
        ownership: 'shared',
        logGroup: 100,
        cutMark: 0x2000,
        poller,
        onDrift: () => undefined,
      });
      try {
        for (let step = 1; step <= 60; step++) ruleset.update(cluster.apply(history.batch()));
        await enforcement.synchronize(ruleset);
        const table = readKernelTable() ?? assert.fail('no table');
        assert.equal(table.consistent, true);
        const listed = blocksOf(
          nft('-y', 'list', 'table', 'inet', 'sluice')
            // nft leaves out the protocol before a negated type, although it means another match when it reads that again.
            .replaceAll(
              / (icmp type != |icmpv6 type != )/g,
              (_, match: string) => ` meta l4proto ${match.startsWith('icmp ') ? 'icmp' : 'ipv6-icmp'} ${match}`,
            ),
        );
        for (const { definition, elements } of table.sets) {
          const lines = listed.get(setHead(definition)) ?? assert.fail(definition.name);
          const last = lines.at(-1)?.startsWith('elements') === true ? lines.pop() : undefined;
          assert.deepEqual(setLines(definition), lines);
          const expected =
            last === undefined
              ? []
              : last
                  .slice('elements = { '.length, -' }'.length)
                  .split(', ')
                  .map((text) => text.trim());
          assert.deepEqual(elementTexts(definition, elements).toSorted(), expected.toSorted(), definition.name);
          listed.delete(setHead(definition));
          seen++;
        }
        for (const { chain, rules } of table.chains) {
          const hook = hookLine(chain);
          const lines = [...(hook === undefined ? [] : [hook]), ...rules.map((rule) => ruleText(rule, { counts: true }))];
          assert.deepEqual(lines, listed.get(`chain ${chain.name}`), chain.name);
          listed.delete(`chain ${chain.name}`);
          seen += rules.length;
        }
        assert.deepEqual([...listed.keys()], [], 'everything is read');
      } finally {
        enforcement.close();
        poller.close();
        nft('delete', 'table', 'inet', 'sluice');
      }
    }
    assert.ok(seen > 300, String(seen));
  });
});
