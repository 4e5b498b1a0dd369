/** `sluice verify` against a real kernel: every tampering is found and named, nothing else is, and a cluster in motion gives no finding. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DumpDocument } from '../../../src/commands/dump-document.ts';
import type { VerificationDocument } from '../../../src/commands/verify-document.ts';
import { setSysctls } from '../../../src/lab/namespaces.ts';
import { familyOf, formatAddress } from '../../../src/policy/address.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { PROGRAM } from '../support/agent-process.ts';
import { podObject, policyObject } from '../support/objects.ts';

type Found = VerificationDocument['differences'];

const TABLE = ['inet', 'sluice'] as const;
/** The first rule of `ingress`, which stands beside whatever is inserted before it. */
const ESTABLISHED = 'ct state established accept comment "replies, and flows judged already"';

describe('sluice verify', function () {
  this.timeout(120_000);
  let cluster: AgentLab;
  const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      pods: ['db', 'web', 'other'].map((name) => ({ namespace: 'shop', name, node: 'n1' })),
      agents: false,
      objects: [
        policyObject('shop', 'db', {
          podSelector: { matchLabels: { app: 'db' } },
          ingress: [
            { from: [{ podSelector: { matchLabels: { app: 'web' } } }], ports: [{ port: 'pg' }] },
            { from: [{ ipBlock: { cidr: '192.0.2.0/24' } }], ports: [{ port: 5432 }] },
          ],
        }),
        policyObject('shop', 'web', {
          podSelector: { matchLabels: { app: 'web' } },
          policyTypes: ['Egress'],
          egress: [{ to: [{ podSelector: { matchLabels: { app: 'db' } } }], ports: [{ port: 80 }, { port: 443 }] }],
        }),
      ],
    });
    for (const pod of cluster.lab.pods)
      cluster.write(podObject(pod, { labels: { app: pod.name }, ports: pod.name === 'db' ? [{ name: 'pg', containerPort: 5432 }] : [] }));
    // These switch it on for every bridge of the namespace, whatever its own flags say.
    setSysctls(cluster.lab.netns('node/n1'), { 'net.bridge.bridge-nf-call-iptables': '0', 'net.bridge.bridge-nf-call-ip6tables': '0' });
  });

  after(async () => {
    await cluster.close();
    rmSync(directory, { recursive: true });
  });

  afterEach(async () => {
    await cluster.agent('n1').end('SIGKILL');
  });

  async function program(): Promise<void> {
    cluster.start('n1', { args: ['--ownership', 'shared'] });
    await cluster.settled();
    await cluster.agent('n1').end('SIGKILL');
  }

  async function sluice(
    ...args: readonly string[]
  ): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }> {
    const argv = [process.execPath, PROGRAM, 'verify', '--source', cluster.directory, ...args];
    return await cluster.lab.exec('node/n1', argv, { check: false });
  }

  async function verify(...args: readonly string[]): Promise<{ readonly status: number; readonly document: VerificationDocument }> {
    const { status, stdout, stderr } = await sluice('--node', 'n1', '-o', 'json', ...args);
    assert.match(stdout, /^\{/, stderr);
    return { status, document: JSON.parse(stdout) as VerificationDocument };
  }

  async function run(...argv: readonly string[]): Promise<void> {
    await cluster.lab.exec('node/n1', argv);
  }
  const nft = (...args: readonly string[]): Promise<void> => run('nft', ...args);

  /** The whole name of the one set or map that begins so. */
  async function setNamed(beginning: string): Promise<string> {
    const names = [...(await cluster.table('n1')).matchAll(/^\t(?:set|map) (\S+) \{$/gm)].map(([, name]) => `${name}`);
    const [name, another] = names.filter((each) => each.startsWith(beginning));
    assert.ok(name !== undefined && another === undefined, `${beginning}: ${names.join(' ')}`);
    return name;
  }

  async function handleOf(chain: string, rule: string): Promise<string> {
    const { stdout } = await cluster.lab.exec('node/n1', ['nft', '-a', 'list', 'chain', ...TABLE, chain]);
    const line = stdout.split('\n').find((each) => each.includes(rule)) ?? assert.fail(stdout);
    return /# handle (\d+)$/.exec(line)?.[1] ?? assert.fail(line);
  }

  const addressOf = (pod: string, family: 4 | 6 = 4): string =>
    formatAddress(cluster.lab.pod(`shop/${pod}`).addresses.find((address) => familyOf(address) === family) ?? assert.fail(pod));
  const different = (object: Found[number]['object'], name: string, ...lines: Found[number]['lines']): Found => [
    { object, name, kernel: 'different', lines },
  ];
  const desired = (text: string) => ({ side: 'desired', text }) as const;
  const kernel = (text: string, handle?: string) => ({ side: 'kernel', text, ...(handle === undefined ? {} : { handle }) }) as const;
  const both = (text: string) => ({ side: 'both', text }) as const;

  it('finds nothing while nobody has done anything, with the agent or without it', async () => {
    cluster.start('n1', { args: ['--ownership', 'shared'] });
    await cluster.settled();
    for (const state of ['running', 'killed']) {
      const { status, document } = await verify();
      assert.deepEqual([status, document.equal, document.differences], [0, true, []], state);
      // Two base chains, of each policy one, of db and web one; four maps, a set of peers a family and policy, of blocks, of ports, of named ports.
      assert.deepEqual(document.desired, { chains: 6, sets: 12, isolatedPods: 2 });
      await cluster.agent('n1').end('SIGKILL');
    }
  });

  const LIMIT = (chain: string): string => `limit rate 10/second burst 20 packets log prefix "${chain}" group 100`;

  /** Each does something to the table, and says what has to be found. */
  const tamperings: Readonly<Record<string, () => Promise<Found>>> = {
    'a rule that is deleted': async () => {
      await nft('delete', 'rule', ...TABLE, 'ingress/shop/db', 'handle', await handleOf('ingress/shop/db', 'jump'));
      return different('chain', 'ingress/shop/db', desired('jump policy/shop/db/ingress'), both(`ip saddr ${addressOf('db')} accept`));
    },
    'a drop that becomes an accept': async () => {
      const handle = await handleOf('ingress/shop/db', 'drop');
      await nft('replace', 'rule', ...TABLE, 'ingress/shop/db', 'handle', handle, 'counter', 'accept');
      const replaced = await handleOf('ingress/shop/db', 'counter packets 0 bytes 0 accept');
      return different(
        'chain',
        'ingress/shop/db',
        both(LIMIT('ingress/shop/db')),
        desired('counter drop'),
        kernel('counter accept', replaced),
      );
    },
    'an accept at the top of a base chain': async () => {
      await nft('insert', 'rule', ...TABLE, 'ingress', 'accept');
      const { stdout } = await cluster.lab.exec('node/n1', ['nft', '-a', 'list', 'chain', ...TABLE, 'ingress']);
      const handle = /^\t\taccept # handle (\d+)$/m.exec(stdout)?.[1] ?? assert.fail(stdout);
      return different('chain', 'ingress', kernel('accept', handle), both(ESTABLISHED));
    },
    'rules that change places': async () => {
      const handle = await handleOf('ingress/shop/db', 'jump');
      await nft('delete', 'rule', ...TABLE, 'ingress/shop/db', 'handle', handle);
      await nft('add', 'rule', ...TABLE, 'ingress/shop/db', 'jump', 'policy/shop/db/ingress');
      return different(
        'chain',
        'ingress/shop/db',
        // The order of these two means nothing, and is the kernel's.
        both(`ip6 saddr ${addressOf('db', 6)} accept`),
        desired('jump policy/shop/db/ingress'),
        both(LIMIT('ingress/shop/db')),
        both('counter drop'),
        kernel('jump policy/shop/db/ingress', await handleOf('ingress/shop/db', 'jump')),
      );
    },
    'an element that is taken out of a set': async () => {
      const set = await setNamed('pods-v4/shop/app.db/');
      await nft('delete', 'element', ...TABLE, set, `{ ${addressOf('db')} }`);
      return different('set', set, desired(addressOf('db')));
    },
    'an element that is put into a set': async () => {
      const set = await setNamed('pods-v4/shop/app.db/');
      await nft('add', 'element', ...TABLE, set, '{ 203.0.113.7 }');
      return different('set', set, kernel('203.0.113.7'));
    },
    'a pod that is taken out of the map': async () => {
      await nft('delete', 'element', ...TABLE, 'ingress-pods-v4', `{ ${addressOf('db')} }`);
      return different('map', 'ingress-pods-v4', desired(`${addressOf('db')} : goto ingress/shop/db`));
    },
    'a pod that is led to another chain': async () => {
      await nft('delete', 'element', ...TABLE, 'ingress-pods-v4', `{ ${addressOf('db')} }`);
      await nft('add', 'element', ...TABLE, 'ingress-pods-v4', `{ ${addressOf('db')} : goto egress/shop/web }`);
      return different(
        'map',
        'ingress-pods-v4',
        desired(`${addressOf('db')} : goto ingress/shop/db`),
        kernel(`${addressOf('db')} : goto egress/shop/web`),
      );
    },
    'the policy of a base chain': async () => {
      await nft('add', 'chain', ...TABLE, 'ingress', '{ policy drop; }');
      return different(
        'chain',
        'ingress',
        desired('type filter hook forward priority -10; policy accept;'),
        kernel('type filter hook forward priority -10; policy drop;'),
      );
    },
    'a base chain that is hooked elsewhere': async () => {
      await nft('delete', 'chain', ...TABLE, 'egress');
      await nft('add', 'chain', ...TABLE, 'egress', '{ type filter hook output priority 300; }');
      return different(
        'chain',
        'egress',
        desired('type filter hook forward priority -20; policy accept;'),
        kernel('type filter hook output priority 300; policy accept;'),
        ...[
          'ct label 100 counter drop comment "flow cut by a policy change"',
          'ct mark & 0x00001000 != 0x00000000 counter drop comment "flow older than the first rule, cut"',
          ESTABLISHED,
          'ct state related meta l4proto icmp icmp type != redirect accept comment "errors of a flow"',
          'ct state related meta l4proto ipv6-icmp icmpv6 type != nd-redirect accept comment "errors of a flow"',
          'ip saddr vmap @egress-pods-v4 comment "isolated local pods"',
          'ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit accept comment "neighbour discovery"',
          'ip6 hoplimit 255 icmpv6 type nd-neighbor-advert accept comment "neighbour discovery"',
          'ip6 saddr vmap @egress-pods-v6 comment "isolated local pods"',
        ].map(desired),
      );
    },
    'a chain that is emptied': async () => {
      await nft('flush', 'chain', ...TABLE, 'policy/shop/web/egress');
      const peers = await Promise.all([4, 6].map((family) => setNamed(`pods-v${family}/shop/app.db/`)));
      return different(
        'chain',
        'policy/shop/web/egress',
        ...peers.map((set, at) =>
          desired(`${at === 0 ? 'ip' : 'ip6'} daddr @${set} tcp dport @ports/80.443 counter accept comment "egress[0].to[0]"`),
        ),
      );
    },
    'the table, deleted': async () => {
      await nft('delete', 'table', ...TABLE);
      return [{ object: 'table', name: 'inet sluice', kernel: 'missing', lines: [] }];
    },
    'the table, put to sleep': async () => {
      await nft('add', 'table', ...TABLE, '{ flags dormant; }');
      return different('table', 'inet sluice', kernel('flags dormant'));
    },
    'a chain of somebody, and a jump to it': async () => {
      await nft('add', 'chain', ...TABLE, 'mine');
      await nft('add', 'rule', ...TABLE, 'mine', 'ip', 'saddr', '198.51.100.0/24', 'accept');
      await nft('insert', 'rule', ...TABLE, 'ingress', 'jump', 'mine');
      return [
        ...different('chain', 'ingress', kernel('jump mine', await handleOf('ingress', 'jump mine')), both(ESTABLISHED)),
        {
          object: 'chain',
          name: 'mine',
          kernel: 'extra',
          lines: [kernel('ip saddr 198.51.100.0/24 accept', await handleOf('mine', 'accept'))],
        },
      ];
    },
    'the number of a named port': async () => {
      const set = await setNamed('port-v4/');
      await nft('delete', 'element', ...TABLE, set, `{ ${addressOf('db')} . tcp . 5432 }`);
      await nft('add', 'element', ...TABLE, set, `{ ${addressOf('db')} . tcp . 22 }`);
      return different('set', set, desired(`${addressOf('db')} . tcp . 5432`), kernel(`${addressOf('db')} . tcp . 22`));
    },
    'a block that is widened': async () => {
      const set = await setNamed('block-v4/');
      await nft('add', 'element', ...TABLE, set, '{ 192.0.3.0-192.0.3.255 }');
      return different('set', set, kernel('192.0.3.0/24'));
    },
    'a range of ports that is widened': async () => {
      await nft('add', 'element', ...TABLE, 'ports/80.443', '{ 1-79 }');
      return different('set', 'ports/80.443', kernel('1-79'));
    },
    'a rule for another port': async () => {
      const set = await setNamed('block-v4/');
      const handle = await handleOf('policy/shop/db/ingress', '5432');
      const rule = (port: string): string => `ip saddr @${set} tcp dport ${port} counter accept comment "ingress[1].from[0]"`;
      await nft('replace', 'rule', ...TABLE, 'policy/shop/db/ingress', 'handle', handle, rule('1-65535'));
      const chain = 'policy/shop/db/ingress';
      const { document } = await verify('--settle', '0');
      const context = document.differences[0]?.lines.filter(({ side }) => side === 'both') ?? [];
      return different('chain', chain, ...context, desired(rule('5432')), kernel(rule('1-65535'), await handleOf(chain, '1-65535')));
    },
    'a set of somebody': async () => {
      await nft('add', 'set', ...TABLE, 'mine', '{ type mark; elements = { 0x7 } }');
      return [{ object: 'set', name: 'mine', kernel: 'extra', lines: [kernel('type mark'), kernel('0x00000007')] }];
    },
    'the flag of a bridge': async () => {
      await run('ip', 'link', 'set', 'cni0', 'type', 'bridge', 'nf_call_iptables', '0');
      return different('bridge', 'cni0', desired('nf_call_iptables 1'), kernel('nf_call_iptables 0'));
    },
    'another bit for flows that are cut': async () => {
      const handle = await handleOf('egress', 'ct mark');
      const rule = 'ct mark & 0x00000001 != 0x00000000 counter drop comment "flow older than the first rule, cut"';
      await nft('replace', 'rule', ...TABLE, 'egress', 'handle', handle, rule);
      return different(
        'chain',
        'egress',
        both('ct label 100 counter drop comment "flow cut by a policy change"'),
        desired(rule.replace('00000001', '00001000')),
        kernel(rule, await handleOf('egress', 'ct mark')),
        both(ESTABLISHED),
      );
    },
  };

  for (const [what, tamper] of Object.entries(tamperings)) {
    it(`finds ${what}, and nothing else`, async () => {
      await program();
      const expected = await tamper();
      const { status, document } = await verify('--settle', '0');
      assert.deepEqual(document.differences, expected);
      assert.deepEqual([status, document.equal], [1, false]);
    });
  }

  it('shows the difference as a patch', async () => {
    await program();
    const handle = await handleOf('ingress/shop/db', 'drop');
    await nft('replace', 'rule', ...TABLE, 'ingress/shop/db', 'handle', handle, 'counter', 'accept');
    const set = await setNamed('pods-v4/shop/app.db/');
    await nft('add', 'element', ...TABLE, set, '{ 203.0.113.7 }');
    const now = await handleOf('ingress/shop/db', 'counter packets 0 bytes 0 accept');
    assert.deepEqual(await sluice('--node', 'n1'), {
      status: 1,
      stdout: `--- desired
+++ kernel
@@ chain ingress/shop/db @@
 ${LIMIT('ingress/shop/db')}
-counter drop
+counter accept  # handle ${now}
@@ set ${set} @@
+203.0.113.7
`,
      stderr: 'n1: 2 objects are not as they should be\n',
    });
    assert.deepEqual(await sluice('--node', 'n2', '--settle', '0'), {
      status: 2,
      stdout: '',
      stderr: `sluice: no Node object and no pod in the directory ${cluster.directory} names node n2\nPerhaps n1 is meant.\n`,
    });
  });

  it('says the same of a bundle that was made on the node, names hashed or not', async () => {
    await program();
    const set = await setNamed('pods-v4/shop/app.db/');
    await nft('add', 'element', ...TABLE, set, '{ 203.0.113.7 }');
    await nft('insert', 'rule', ...TABLE, 'ingress', 'tcp', 'dport', '{ 22, 8000-8080 }', 'accept');
    const { document: expected } = await verify('--settle', '0');
    assert.deepEqual(
      expected.differences.map(({ lines }) => lines[0]?.text),
      ['tcp dport { 22, 8000-8080 } accept', '203.0.113.7'],
    );
    const made = async (...args: readonly string[]): Promise<VerificationDocument> => {
      const file = join(directory, 'bundle.json.gz');
      const cli = [process.execPath, PROGRAM];
      await run(...cli, 'bundle', '--source', cluster.directory, '--node', 'n1', '-o', file, ...args);
      const { stdout } = await cluster.lab.exec('node/n1', [...cli, 'verify', '--bundle', file, '-o', 'json'], { check: false });
      return JSON.parse(stdout) as VerificationDocument;
    };
    assert.deepEqual(await made(), expected);
    const { differences, desired: counted } = await made('--hash-names');
    assert.deepEqual(
      differences.map(({ object, kernel: how, lines }) => [object, how, lines]),
      expected.differences.map(({ object, kernel: how, lines }) => [object, how, lines]),
    );
    assert.deepEqual(counted, expected.desired);
  });

  it('has a dump beside it that says what the rules have counted', async () => {
    await program();
    await cluster.expect('denied', { from: 'shop/other', to: 'shop/db' });
    const argv = [process.execPath, PROGRAM, 'dump', '--source', cluster.directory, '-o', 'json'];
    const { stdout } = await cluster.lab.exec('node/n1', ['env', 'NODE_NAME=n1', ...argv]);
    const { countedOn, pods } = JSON.parse(stdout) as DumpDocument;
    const counts = new Map(pods.map(({ pod, direction, refused }) => [`${pod} ${direction}`, refused?.packets]));
    assert.equal(countedOn, 'n1');
    assert.ok((counts.get('shop/db ingress') ?? 0) >= 4, stdout);
    assert.deepEqual(
      [counts.get('shop/db ingress'), counts.get('shop/web egress')],
      [await cluster.dropped('ingress', 'shop/db'), await cluster.dropped('egress', 'shop/web')],
    );
  });

  it('says that it may not look, where it may not', async () => {
    await program();
    const argv = ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin', process.execPath, PROGRAM, 'verify'];
    const { status, stderr } = await cluster.lab.exec('node/n1', [...argv, '--source', cluster.directory, '--node', 'n1'], {
      check: false,
    });
    assert.deepEqual([status, stderr.split('\n')[0]], [1, 'sluice: reading table inet sluice of this kernel is not permitted']);
    assert.match(stderr, /CAP_NET_ADMIN/);
  });

  it('finds nothing in a cluster in motion, whose agent is never quite there', async () => {
    cluster.start('n1', { args: ['--ownership', 'shared'] });
    await cluster.settled();
    const [db, other] = ['db', 'other'].map((name) => cluster.lab.pod(`shop/${name}`));
    if (db === undefined || other === undefined) assert.fail('no pods');
    const extra = policyObject('shop', 'extra', { podSelector: { matchLabels: { app: 'other' } }, ingress: [{ ports: [{ port: 'pg' }] }] });
    const end = new AbortController();
    let changes = 0;
    const mover = (async () => {
      while (!end.signal.aborted) {
        const pick = Math.trunc(Math.random() * 4);
        if (pick === 0) cluster.write(podObject(other, { labels: { app: ['other', 'web', 'db'][changes % 3] ?? '' } }));
        else if (pick === 1)
          cluster.write(podObject(db, { labels: { app: 'db' }, ports: [{ name: 'pg', containerPort: 5432 + (changes % 2) }] }));
        else if (pick === 2) cluster.write(extra);
        else cluster.write({ ...extra, spec: { podSelector: {}, ingress: [] } });
        changes++;
        // Longer than a directory has to be quiet for to be read, so that the agent is behind, but never for long.
        await sleep(25);
      }
    })();
    let passing = 0;
    try {
      // On a machine that has nothing else to do the agent is nearly always there: as long as nothing was ever different nothing is shown.
      for (let turn = 0; turn < 8 || (passing === 0 && turn < 60); turn++) {
        const { status, document } = await verify('--settle', '20');
        assert.deepEqual([status, document.differences], [0, []], `turn ${turn}, looked ${JSON.stringify(document.looks)}`);
        passing += document.passing;
      }
    } finally {
      end.abort();
      await mover;
    }
    assert.ok(passing > 0, `nothing was ever different in ${changes} changes: this has shown nothing`);
  });
});
