/** What somebody does to the table while no agent holds it: the next agent puts it right, whatever it finds. n1's table is owned, n2's is open to all. */
import assert from 'node:assert/strict';
import { AgentLab } from '../support/agent-lab.ts';
import { policyObject, tcp } from '../support/objects.ts';

const TABLE = 'inet sluice';
const FLUSH = [`flush chain ${TABLE} ingress`, `delete chain ${TABLE} ingress`];
const DAMAGES: readonly (readonly [what: string, commands: readonly string[]])[] = [
  ['a base chain is missing', FLUSH],
  ['both base chains are missing', [...FLUSH, `flush chain ${TABLE} egress`, `delete chain ${TABLE} egress`]],
  ['its rules are gone', [`flush table ${TABLE}`]],
  ['the table is empty', [`flush table ${TABLE}`, 'EMPTY']],
  ['the table is gone', [`delete table ${TABLE}`]],
  ['a base chain has another priority', [...FLUSH, `add chain ${TABLE} ingress { type filter hook forward priority 7; }`]],
  ['a base chain is a plain one', [...FLUSH, `add chain ${TABLE} ingress`]],
  ['a set has another type', ['RETYPED']],
  ['a map is missing', [`flush chain ${TABLE} ingress`, `flush map ${TABLE} ingress-pods-v4`, `delete map ${TABLE} ingress-pods-v4`]],
  [
    'somebody’s chain jumps to one of a pod',
    [`add chain ${TABLE} strange { type filter hook input priority 3; }`, `add rule ${TABLE} strange jump ingress/shop/server-NODE`],
  ],
  ['somebody’s rule uses a set', [`add chain ${TABLE} strange`, `add rule ${TABLE} strange ip saddr @ingress-strange drop`]],
];

describe('a table that is not as the last agent left it', function () {
  this.timeout(120_000);
  let cluster: AgentLab;
  const nodes = ['n1', 'n2'] as const;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: nodes.map((name) => ({ name })),
      pods: nodes.flatMap((node) => ['client', 'server'].map((name) => ({ namespace: 'shop', name: `${name}-${node}`, node }))),
      podLabels: Object.fromEntries(nodes.map((node) => [`shop/server-${node}`, { app: 'server' }])),
      agentArgs: { n1: ['--ownership', 'owned'], n2: ['--ownership', 'shared'] },
      objects: [policyObject('shop', 'server', { podSelector: { matchLabels: { app: 'server' } }, ingress: [{ ports: tcp(80) }] })],
    });
  });
  after(() => cluster.close());

  /** The table without counters, each part of it once, since elements of a hash have no order. */
  async function rules(node: string): Promise<string[]> {
    const text = (await cluster.table(node))
      .replaceAll(/counter packets \d+ bytes \d+/g, 'counter')
      .replaceAll(/progname \S+/g, 'progname');
    return text
      .split(/[\n,{}]/)
      .map((part) => part.trim())
      .toSorted();
  }

  async function nft(node: string, command: string): Promise<void> {
    await cluster.lab.exec(`node/${node}`, ['nft', command]);
  }

  async function emptied(node: string): Promise<void> {
    const { stdout } = await cluster.lab.exec(`node/${node}`, ['nft', '-j', 'list', 'table', 'inet', 'sluice']);
    const { nftables } = JSON.parse(stdout) as { readonly nftables: readonly Readonly<Record<string, { readonly name: string }>>[] };
    const namesOf = (kind: string): string[] => nftables.flatMap((each) => each[kind]?.name ?? []);
    for (const map of namesOf('map')) await nft(node, `flush map ${TABLE} ${map}`);
    for (const chain of namesOf('chain')) await nft(node, `delete chain ${TABLE} ${chain}`);
    for (const map of namesOf('map')) await nft(node, `delete map ${TABLE} ${map}`);
    for (const set of namesOf('set')) await nft(node, `delete set ${TABLE} ${set}`);
  }

  async function damage(node: string, command: string): Promise<void> {
    if (command === 'EMPTY') return emptied(node);
    if (command === 'RETYPED') {
      await nft(node, `flush chain ${TABLE} ingress`);
      await nft(node, `flush map ${TABLE} ingress-pods-v4`);
      await nft(node, `delete map ${TABLE} ingress-pods-v4`);
      return nft(node, `add map ${TABLE} ingress-pods-v4 { type inet_service : verdict; }`);
    }
    if (command.includes('@ingress-strange')) {
      await nft(node, `add set ${TABLE} ingress-strange { type ipv4_addr; }`);
    }
    await nft(node, command.replace('NODE', node));
  }

  for (const [what, commands] of DAMAGES) {
    it(`is put right by the next one: ${what}`, async () => {
      const before = await Promise.all(nodes.map(rules));
      for (const node of nodes) {
        await cluster.agent(node).end('SIGKILL');
        for (const command of commands) await damage(node, command);
        cluster.start(node);
      }
      await cluster.settled();
      assert.deepEqual(await Promise.all(nodes.map(rules)), before);
      for (const node of nodes) {
        const flow = { from: `shop/client-${node}`, to: `shop/server-${node}`, protocols: ['TCP'] as const };
        await cluster.expect('allowed', flow);
        await cluster.expect('denied', { ...flow, port: 81 });
      }
    });
  }
});
