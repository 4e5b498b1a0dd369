/** `sluice explain` on a node: the way through the rules that the kernel has, what these have counted, and who disagrees. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ExplainDocument } from '../../../src/commands/explain-document.ts';
import { familyOf, formatAddress, formatPrefix } from '../../../src/policy/address.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { PROGRAM } from '../support/agent-process.ts';
import { podObject, policyObject } from '../support/objects.ts';

type Flow = ExplainDocument['flows'][number];
type Kernel = Extract<NonNullable<Flow['ingress']['kernel']>, { judged: true }>;

const TABLE = ['inet', 'sluice'] as const;

describe('sluice explain on a node', function () {
  this.timeout(120_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        ...['db', 'web', 'other'].map((name) => ({ namespace: 'shop', name, node: 'n1' })),
        { namespace: 'shop', name: 'far', node: 'n2' },
        { namespace: 'shop', name: 'host', node: 'n1', hostNetwork: true },
      ],
      agents: false,
      objects: [
        policyObject('shop', 'db', {
          podSelector: { matchLabels: { app: 'db' } },
          ingress: [
            {
              from: [{ podSelector: { matchLabels: { app: 'web' } } }],
              ports: [{ port: 'pg' }, { port: 80 }, { protocol: 'UDP', port: 79, endPort: 80 }],
            },
            { from: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8'] } }, { podSelector: { matchLabels: { app: 'far' } } }] },
          ],
        }),
        policyObject('shop', 'web', {
          podSelector: { matchLabels: { app: 'web' } },
          egress: [{ to: [{ podSelector: { matchLabels: { app: 'db' } } }], ports: [{ port: 'pg' }, { port: 80 }] }],
        }),
      ],
    });
    for (const pod of cluster.lab.pods) {
      const ports = pod.name === 'db' ? [{ name: 'pg', containerPort: 5432 }] : [];
      cluster.write(podObject(pod, { labels: { app: pod.name }, ports }));
    }
    for (const { name, addresses, podCIDRs } of cluster.lab.nodes) {
      cluster.write({
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name },
        spec: { podCIDRs: podCIDRs.map(formatPrefix) },
        status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address: formatAddress(address) })) },
      });
    }
    await repair();
  });

  after(() => cluster.close());

  /** What an agent makes of the table, and no agent that would keep it so. */
  async function repair(): Promise<void> {
    cluster.start('n1', { args: ['--ownership', 'shared'] });
    await cluster.settled(['n1']);
    await cluster.agent('n1').end('SIGKILL');
  }

  async function sluice(
    ...args: readonly string[]
  ): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }> {
    const argv = [process.execPath, PROGRAM, 'explain', ...args, '--source', cluster.directory, '--node', 'n1'];
    return await cluster.lab.exec('node/n1', argv, { check: false });
  }

  async function explain(...args: readonly string[]): Promise<{ readonly status: number; readonly flows: readonly Flow[] }> {
    const { status, stdout, stderr } = await sluice(...args, '-o', 'json');
    assert.match(stdout, /^\{/, stderr);
    const document = ExplainDocument.parse(JSON.parse(stdout));
    assert.deepEqual(document.kernel, { node: 'n1', saidBy: '--node' });
    return { status, flows: document.flows };
  }

  /** Of the agent that was started last. */
  function statusFile(): string {
    const directory = dirname(cluster.directory);
    const files = readdirSync(directory).filter((name) => name.endsWith('.status.json'));
    const newest = files.map((name) => join(directory, name)).toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
    return newest ?? assert.fail('no agent has said anything');
  }

  function judged(flow: Flow | undefined, direction: 'egress' | 'ingress'): Kernel {
    const kernel = flow?.[direction].kernel;
    assert.ok(kernel?.judged === true, JSON.stringify(flow));
    return kernel;
  }

  it('names the chain, the rule and its place in the policy, for what is admitted', async () => {
    const { status, flows } = await explain('shop/web', 'shop/db');
    assert.equal(status, 0);
    assert.equal(flows.length, 1);
    const egress = judged(flows[0], 'egress');
    assert.deepEqual(
      [egress.effect, egress.chain, egress.rule?.place, egress.agrees],
      ['accept', 'policy/shop/web/egress', 'egress[0].to[0]', 'yes'],
    );
    const ingress = judged(flows[0], 'ingress');
    assert.deepEqual(
      [ingress.effect, ingress.chain, ingress.rule?.place, ingress.agrees],
      ['accept', 'policy/shop/db/ingress', 'ingress[0].from[0]', 'yes'],
    );
    assert.deepEqual(ingress.via, ['ingress', 'ingress/shop/db']);
    const { stdout } = await cluster.lab.exec('node/n1', ['nft', '-a', 'list', 'chain', ...TABLE, 'policy/shop/db/ingress']);
    assert.match(stdout, new RegExp(`@port-v4.*# handle ${ingress.rule?.handle}\n`, 'u'));
  });

  it('says what the rule has counted', async () => {
    const before = judged((await explain('shop/other', 'shop/db:80')).flows[0], 'ingress');
    assert.deepEqual([before.effect, before.chain, before.rule?.packets, before.agrees], ['drop', 'ingress/shop/db', 0, 'yes']);
    await cluster.expect('denied', { from: 'shop/other', to: 'shop/db', protocols: ['TCP'] });
    const after = judged((await explain('shop/other', 'shop/db:80')).flows[0], 'ingress');
    assert.ok((after.rule?.packets ?? 0) > 0);
    assert.equal(after.rule?.packets, await cluster.dropped('ingress', 'shop/db'));
    const { status, stdout } = await sluice('shop/other', 'shop/db:80');
    assert.equal(status, 1);
    assert.match(stdout, /kernel {3}agrees: chain ingress\/shop\/db handle \d+ drops it, \d+ packets? so far\n +counter drop\n/u);
  });

  it('agrees of every pair, port and protocol, and with packets', async () => {
    const names = ['db', 'web', 'other', 'far'];
    for (const [port, protocol, asked] of [
      [80, 'TCP', ':80'],
      [81, 'TCP', ':81'],
      [80, 'UDP', ':80/UDP'],
      [0, 'ICMP', ':icmp'],
    ] as const) {
      const { flows } = await explain('ns/shop', `ns/shop${asked}`);
      const kernels = flows.flatMap(({ egress, ingress }) => [egress.kernel, ingress.kernel]).filter((kernel) => kernel?.judged === true);
      assert.ok(kernels.length > 4);
      for (const kernel of kernels) assert.equal(kernel.agrees, 'yes', JSON.stringify(kernel));
      const expectations = names.flatMap((from) =>
        names
          .filter((to) => to !== from)
          .map((to) => {
            const has = (end: Flow['source'], name: string): boolean => end.members.some((member) => member.name === `shop/${name}`);
            const found = flows.filter((flow) => !flow.itself && has(flow.source, from) && has(flow.destination, to));
            // n2 has no agent, so that what it would refuse is not refused.
            const isAllowed = found.every(({ allowed }) => allowed);
            assert.ok(found.length > 0, `${from} to ${to}${asked}`);
            return [isAllowed ? 'allowed' : 'denied', { from: `shop/${from}`, to: `shop/${to}`, port, protocols: [protocol] }] as const;
          }),
      );
      await cluster.expectAll(expectations);
    }
  });

  it('says of which node a direction is, and that a node itself is not judged', async () => {
    const [far] = (await explain('shop/far', 'shop/db:81')).flows;
    assert.equal(far?.egress.kernel?.judged, false);
    assert.deepEqual(far.egress.kernel, { judged: false, reason: 'node n2 judges it, and not n1' });
    assert.equal(judged(far, 'ingress').agrees, 'yes');
    const [host] = (await explain('shop/host', 'shop/db:81')).flows;
    assert.equal(host?.ingress.reason, 'own-node');
    assert.deepEqual(host.ingress.kernel, {
      judged: false,
      reason: 'what a node itself sends and receives is not forwarded, and no rule sees it',
    });
  });

  /** The IPv4 address of shop/db. */
  const db = (): string => {
    const { addresses } = cluster.lab.pods.find(({ name }) => name === 'db') ?? assert.fail('no db');
    return formatAddress(addresses.find((address) => familyOf(address) === 4) ?? assert.fail('no IPv4'));
  };

  const TAMPERINGS: readonly (readonly [what: string, command: () => readonly string[], effect: Kernel['effect'], difference: RegExp])[] = [
    [
      'lets everything pass',
      () => ['insert', 'rule', ...TABLE, 'ingress', 'accept'],
      'accept',
      /refuses it, and the kernel lets it through/u,
    ],
    [
      'lets a port pass in the chain of the pod',
      () => ['insert', 'rule', ...TABLE, 'ingress/shop/db', 'tcp', 'dport', '1-100', 'counter', 'accept'],
      'accept',
      /refuses it, and the kernel lets it through/u,
    ],
    ['takes the pod out of the map', () => ['delete', 'element', ...TABLE, 'ingress-pods-v4', `{ ${db()} }`], 'accept', /lets it through/u],
    ['puts the table to sleep', () => ['add', 'table', ...TABLE, '{ flags dormant; }'], 'accept', /its table inet sluice is dormant/u],
    ['deletes a base chain', () => ['delete', 'chain', ...TABLE, 'ingress'], 'unknown', /base chain of this direction is missing/u],
  ];

  for (const [what, command, effect, difference] of TAMPERINGS) {
    it(`says that the kernel does not agree, where somebody ${what}`, async () => {
      await cluster.lab.exec('node/n1', ['nft', ...command()]);
      try {
        const { status, flows } = await explain('shop/other', 'shop/db:80');
        const kernels = flows.map((flow) => judged(flow, 'ingress')).filter(({ agrees }) => agrees === 'no');
        assert.equal(status, 1);
        assert.deepEqual([kernels[0]?.effect, flows[0]?.allowed], [effect, false]);
        assert.match(kernels[0]?.difference ?? '', difference);
        const { stdout } = await sluice('shop/other', 'shop/db:80');
        assert.match(stdout, /kernel {3}does not agree: .*\n(?:.*\n)*note {2}the kernel does not do what the objects say: sluice verify/u);
      } finally {
        await repair();
      }
    });
  }

  it('says that the kernel does not agree, where it drops what policy admits, in a chain of its own or of somebody else', async () => {
    const drops = [
      [['insert', 'rule', ...TABLE, 'egress', 'ip', 'daddr', db(), 'drop']],
      [
        ['add', 'chain', ...TABLE, 'mine', '{ type filter hook forward priority 5; policy accept; }'],
        ['add', 'rule', ...TABLE, 'mine', 'tcp', 'dport', '5432', 'drop'],
      ],
    ];
    for (const commands of drops) {
      for (const args of commands) await cluster.lab.exec('node/n1', ['nft', ...args]);
      const { status, flows } = await explain('shop/web', 'shop/db');
      assert.equal(status, 1);
      const kernel = flows.map((flow) => judged(flow, 'egress')).find(({ agrees }) => agrees === 'no');
      assert.match(kernel?.difference ?? 'agrees', /^policy admits it, and (?:the kernel|chain mine, which no agent makes,) drops it$/u);
      assert.ok(flows.every(({ allowed }) => allowed));
      await repair();
    }
  });

  it('answers without the kernel where there is no table, and says so; of what policy refuses that it is not refused', async () => {
    await cluster.lab.exec('node/n1', ['nft', 'delete', 'table', ...TABLE]);
    try {
      const { status, stdout } = await sluice('shop/web', 'shop/db');
      assert.equal(status, 0);
      assert.match(stdout, /the kernel of n1 was not asked: this kernel has no table inet sluice\./u);
      const refused = await sluice('shop/other', 'shop/db:80');
      assert.equal(refused.status, 1);
      assert.match(
        refused.stdout,
        /does not agree: .*\n +policy refuses it, and this kernel has no table inet sluice: nothing is refused\n/u,
      );
      assert.doesNotMatch(refused.stdout, /was not asked/u);
    } finally {
      await repair();
    }
  });

  it('does not count what audit mode lets through as a disagreement, and says that it is audit', async () => {
    cluster.start('n1', { args: ['--ownership', 'shared', '--mode', 'audit'] });
    await cluster.settled(['n1']);
    await cluster.agent('n1').end('SIGKILL');
    try {
      const { status, flows } = await explain('shop/other', 'shop/db:80');
      const kernel = judged(flows[0], 'ingress');
      assert.deepEqual([status, kernel.effect, kernel.audited, kernel.agrees], [1, 'accept', true, 'yes']);
      const { stdout } = await sluice('shop/other', 'shop/db:80', '--status-file', statusFile());
      assert.match(stdout, /kernel {3}agrees: chain ingress\/shop\/db handle \d+ lets it through, by audit alone, /u);
      assert.match(stdout, /the agent of n1 runs with --mode audit/u);
      // Another agent's word: nothing is to be audited.
      writeFileSync(`${statusFile()}.enforce`, readFileSync(statusFile(), 'utf8').replace('"mode":"audit"', '"mode":"enforce"'));
      const otherwise = await sluice('shop/other', 'shop/db:80', '--status-file', `${statusFile()}.enforce`);
      assert.match(otherwise.stdout, /does not agree: (?:.*\n)+ +policy refuses it, and the kernel audits the pod where it should not\n/u);
    } finally {
      await repair();
    }
  });
});
