import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { NftConnection, Poller } from 'nftables-js';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { NftablesEnforcement, type NftablesOptions } from '../../../src/enforcement/nftables/nftables-enforcement.ts';
import { rulesetText } from '../../../src/enforcement/nftables/text.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import { isEmpty } from '../../../src/ruleset/objects.ts';
import { ClusterGenerator } from '../../random/cluster.ts';
import { History, upsertOf } from '../../random/events.ts';

function nft(...args: string[]): string {
  return execFileSync('nft', args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
}

/** `nft list` of a table in a form that does not depend on the order of objects, elements, or rules that all admit. */
function normalised(listing: string): string[] {
  const blocks = listing
    .replaceAll(/counter packets \d+ bytes \d+/g, 'counter')
    .replaceAll(
      /elements = \{([^}]*)\}/g,
      (_, elements: string) =>
        `elements = ${elements
          .split(',')
          .map((element) => element.trim())
          .sort()
          .join(' ')}`,
    )
    .split(/\n(?=\t(?:set|map|chain) )/)
    .slice(1);
  return blocks
    .map((block) =>
      block
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '' && line !== '}')
        .sort()
        .join('\n'),
    )
    .sort();
}

/** A node whose history is enforced in this test's network namespace. */
class TestNode {
  readonly history: History;
  readonly cluster = new Cluster('node-a');
  readonly ruleset = new NodeRuleset(this.cluster, { mode: 'enforce', namespaces: true });
  readonly poller = new Poller();
  readonly drifts: string[] = [];
  readonly enforcement: NftablesEnforcement;

  constructor(seed: number, ownership: NftablesOptions['ownership']) {
    this.history = new History(new ClusterGenerator(seed), seed);
    this.enforcement = this.open(ownership);
  }

  open(ownership: NftablesOptions['ownership']): NftablesEnforcement {
    return NftablesEnforcement.open({
      ownership,
      logGroup: 100,
      cutMark: 0x2000,
      poller: this.poller,
      onDrift: (what) => this.drifts.push(what),
    });
  }

  update(): ReturnType<NodeRuleset['update']>['changes'] {
    return this.ruleset.update(this.cluster.apply(this.history.batch())).changes;
  }

  async start(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) this.update();
    await this.enforcement.synchronize(this.ruleset);
  }

  close(): void {
    this.enforcement.close();
    this.poller.close();
    try {
      nft('delete', 'table', 'inet', 'sluice');
    } catch {
      // It was not made.
    }
  }
}

/** The handle of each rule, set and chain, by what `nft` prints of it within what it stands in. */
function handles(): Map<string, string> {
  const listing = nft('-a', 'list', 'table', 'inet', 'sluice').replaceAll(/counter packets \d+ bytes \d+/g, 'counter');
  const found = new Map<string, string>();
  let block = '';
  for (const [, indent, text, handle] of listing.matchAll(/^(\t*)(\S.*) # handle (\d+)$/gm)) {
    if (indent === '\t') block = `${text}`;
    found.set(`${block} ${text}`, `${handle}`);
  }
  return found;
}

async function eventually(condition: () => boolean, what: string): Promise<void> {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; await sleep(5)) if (condition()) return;
  assert.fail(`waited in vain: ${what}`);
}

describe('nftables enforcement', () => {
  let node: TestNode;
  afterEach(() => node.close());

  it('puts into the kernel, by differences, what nft makes of the text of the ruleset', async () => {
    const tails = { drop: 0, accept: 0 };
    for (let seed = 1; seed <= 6; seed++) {
      node = new TestNode(seed, 'shared');
      await node.start(0);
      for (let step = 1; step <= 40; step++) {
        const changes = node.update();
        if (!isEmpty(changes)) await node.enforcement.commit(changes);
        if (step % 8 !== 0) continue;
        const text = rulesetText(node.ruleset, { owned: false, logGroup: 100, cutMark: 0x2000 });
        execFileSync('nft', ['-f', '-'], { input: text.replace('table inet sluice {', 'table inet copy {') });
        tails.drop += text.match(/log prefix "(in|e)gress\/.* group 100\n\t\tcounter packets 0 bytes 0 drop\n/g)?.length ?? 0;
        tails.accept += text.match(/log prefix "audit (in|e)gress\/.* group 100\n\t\tcounter packets 0 bytes 0 accept\n/g)?.length ?? 0;
        assert.deepEqual(
          normalised(nft('list', 'table', 'inet', 'sluice')),
          normalised(nft('list', 'table', 'inet', 'copy')),
          `seed ${seed}, step ${step}`,
        );
        nft('delete', 'table', 'inet', 'copy');
        assert.equal(
          (await node.enforcement.synchronize(node.ruleset)).operations,
          0,
          `seed ${seed}, step ${step}: a comparison finds nothing to do`,
        );
      }
      if (seed < 6) node.close();
    }
    assert.ok(tails.drop > 20 && tails.accept > 20, `too few of both modes: ${JSON.stringify(tails)}`);
  });

  it('switches a namespace to audit and back in one transaction each', async () => {
    node = new TestNode(17, 'shared');
    await node.start(40);
    const namespace = ['x', 'y', 'z'].find((name) => [...node.ruleset.chains.values()].some((chain) => chain.of.startsWith(`${name}/`)));
    const chainsOf = (): string[] =>
      nft('list', 'table', 'inet', 'sluice')
        .split(/\n(?=\tchain )/)
        .filter((block) => new RegExp(`^\tchain (in|e)gress/${namespace}/`).test(block));
    const switchTo = async (mode: string): Promise<void> => {
      const annotations = { 'sluice.dev/mode': mode };
      const event = upsertOf({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: `${namespace}`, annotations } });
      const { changes } = node.ruleset.update(node.cluster.apply([event]));
      await node.enforcement.commit(changes);
      assert.equal((await node.enforcement.synchronize(node.ruleset)).operations, 0);
    };
    const connection = NftConnection.open();
    /** The handle of each jump, by its chain. */
    const jumps = (): readonly string[] =>
      [...handles()].filter(([text]) => / jump /.test(text)).map(([text, handle]) => `${text}: ${handle}`);
    const before = jumps();
    assert.ok(before.length > 3);
    for (const [mode, verdict, prefix] of [
      ['audit', 'accept', 'audit '],
      ['enforce', 'drop', ''],
      ['audit', 'accept', 'audit '],
    ] as const) {
      const generation = connection.generation();
      await switchTo(mode);
      assert.ok(chainsOf().length > 0);
      for (const block of chainsOf()) {
        assert.match(block, new RegExp(`log prefix "${prefix}(in|e)gress/.* group 100\n\t+counter packets 0 bytes 0 ${verdict}\n`));
      }
      assert.equal(connection.generation() - generation, 1);
      assert.deepEqual(jumps(), before, 'nothing else of a chain is touched');
    }
    connection.close();
  });

  for (const ownership of ['owned', 'shared'] as const) {
    it(`adopts what a dead agent left (${ownership}): equal objects keep their handles, the rest changes`, async () => {
      node = new TestNode(11, ownership);
      await node.start(40);
      const before = handles();
      node.enforcement.close();
      let changes = node.update();
      while (isEmpty(changes)) changes = node.update();
      const again = node.open(ownership);
      try {
        await again.synchronize(node.ruleset);
        const after = handles();
        const common = [...before].filter(([text]) => after.has(text));
        assert.ok(common.length > 20, `${common.length} objects in common are too few to tell`);
        for (const [text, handle] of common) assert.equal(after.get(text), handle, text);
        assert.ok(!isEmpty(changes) && after.size > 0);
        assert.equal((await again.synchronize(node.ruleset)).operations, 0);
      } finally {
        again.close();
      }
    });
  }

  it('lets nobody else change an owned table, nor a flush of the whole ruleset', async () => {
    node = new TestNode(12, 'owned');
    await node.start(40);
    const before = nft('list', 'table', 'inet', 'sluice');
    assert.throws(() => nft('flush', 'chain', 'inet', 'sluice', 'ingress'), /not permitted/);
    assert.throws(() => nft('delete', 'table', 'inet', 'sluice'), /not permitted/);
    nft('flush', 'ruleset');
    assert.equal(nft('list', 'table', 'inet', 'sluice'), before);
    assert.deepEqual(node.drifts, []);
  });

  it('says who holds the table where another agent has it', async () => {
    node = new TestNode(13, 'owned');
    await node.start(10);
    const second = node.open('owned');
    await assert.rejects(second.synchronize(node.ruleset), { code: 'TABLE_OWNED' });
    second.close();
  });

  const tamperings: readonly (readonly [what: string, ...commands: string[][]])[] = [
    ['the whole ruleset flushed', ['flush', 'ruleset']],
    ['the table deleted', ['delete', 'table', 'inet', 'sluice']],
    ['a chain flushed', ['flush', 'chain', 'inet', 'sluice', 'ingress']],
    ['the table put to sleep', ['add', 'table', 'inet', 'sluice', '{ flags dormant; }']],
    ['a rule added', ['insert', 'rule', 'inet', 'sluice', 'ingress', 'accept']],
    ['a map emptied', ['flush', 'map', 'inet', 'sluice', 'ingress-pods-v4']],
    [
      'a chain and a set of strangers',
      ['add', 'chain', 'inet', 'sluice', 'stranger'],
      ['add', 'set', 'inet', 'sluice', 'strange', '{ type mark; }'],
    ],
    [
      'a table of its own kind with another hook',
      ['delete', 'table', 'inet', 'sluice'],
      ['add', 'table', 'inet', 'sluice'],
      ['add', 'chain', 'inet', 'sluice', 'ingress', '{ type filter hook input priority 0; }'],
    ],
  ];
  for (const [what, ...commands] of tamperings) {
    it(`notices and repairs in a shared table: ${what}`, async () => {
      node = new TestNode(14, 'shared');
      await node.start(40);
      const before = normalised(nft('list', 'table', 'inet', 'sluice'));
      await sleep(20);
      node.drifts.length = 0;
      for (const command of commands) nft(...command);
      await eventually(() => node.drifts.length > 0, 'the change is noticed');
      assert.ok((await node.enforcement.synchronize(node.ruleset)).operations > 0);
      assert.deepEqual(normalised(nft('list', 'table', 'inet', 'sluice')), before);
    });
  }

  it('does not take its own commits for those of others', async () => {
    node = new TestNode(15, 'shared');
    await node.start(40);
    for (let step = 0; step < 10; step++) await node.enforcement.commit(node.update());
    nft('add', 'table', 'inet', 'unrelated');
    nft('delete', 'table', 'inet', 'unrelated');
    nft('add', 'set', 'inet', 'sluice', 'last', '{ type mark; }');
    await eventually(() => node.drifts.length > 0, 'the last change is noticed');
    assert.deepEqual([...new Set(node.drifts)], ['add set']);
  });

  it('uses no ownership where the kernel has none', async () => {
    node = new TestNode(16, 'shared');
    const poller = new Poller();
    const options = { logGroup: undefined, cutMark: 0x2000, poller, onDrift: () => undefined, canOwn: () => false };
    const enforcement = NftablesEnforcement.open({ ...options, ownership: 'auto' });
    assert.equal(enforcement.ownership, 'shared');
    enforcement.close();
    assert.throws(() => NftablesEnforcement.open({ ...options, ownership: 'owned' }), { code: 'OWNERSHIP_UNSUPPORTED' });
    poller.close();
    const connection = NftConnection.open();
    assert.equal(connection.table({ family: 'inet', name: 'sluice' }), undefined, 'nothing is made before the first commit');
    connection.close();
  });
});
