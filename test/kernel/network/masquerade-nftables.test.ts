/** The tables in nftables: what flanneld would have written, to the byte, and put right whatever is done to them. */
import assert from 'node:assert/strict';
import { canonicalRule, NftConnection, Poller } from 'nftables-js';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { SluiceError } from '../../../src/errors.ts';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import { Masquerade, type MasqueradeOptions } from '../../../src/network/masquerade/masquerade.ts';
import type { Family } from '../../../src/policy/address.ts';
import { eventually } from '../support/eventually.ts';
import { CLUSTER, FAMILIES, feedAt, makeTopology, netns, type Place, prefix, removeTopology, runAt } from './masquerade-topology.ts';

type Wanted = Pick<MasqueradeOptions, 'families' | 'masquerade' | 'forward' | 'randomFully'>;

const ALL: Wanted = { families: FAMILIES.map((family) => CLUSTER[family]), masquerade: true, forward: true, randomFully: true };

/** What flanneld 0.28 gives to nft: Init, SetupAndEnsureMasqRules, SetupAndEnsureForwardRules. */
function flanneld({ families, masquerade, forward, randomFully }: Wanted): string {
  const lines = FAMILIES.map((family) => `add table ${tableOf(family)} { comment "rules for flannel-ipv${family}" ; }`);
  const cidrs: Readonly<Record<Family, readonly [cluster: string, pods: string, multicast: string]>> = {
    4: ['10.244.0.0/16', '10.244.1.0/24', '224.0.0.0/4'],
    6: ['fd00:10:244::/48', 'fd00:10:244:1::/64', 'ff00::/8'],
  };
  const chain = (name: string, table: string, definition: string, rules: readonly string[]): void => {
    lines.push(`add chain ${table} ${name} { ${definition} }`, `flush chain ${table} ${name}`);
    lines.push(...rules.map((rule) => `add rule ${table} ${name} ${rule}`));
  };
  for (const { family } of masquerade ? families : []) {
    const ip = family === 4 ? 'ip' : 'ip6';
    const [cluster, pods, multicast] = cidrs[family];
    const verdict = randomFully ? 'masquerade fully-random' : 'masquerade';
    chain(
      'postrtg',
      tableOf(family),
      'type nat hook postrouting priority 100 ; comment "chain to manage traffic masquerading by flannel" ;',
      [
        'meta mark 0x4000 return',
        `${ip} saddr ${pods} ${ip} daddr ${cluster} return`,
        `${ip} saddr ${cluster} ${ip} daddr ${pods} return`,
        `${ip} saddr != ${pods} ${ip} daddr ${cluster} return`,
        `${ip} saddr ${cluster} ${ip} daddr != ${multicast} ${verdict}`,
        `${ip} saddr != ${cluster} ${ip} daddr ${cluster} ${verdict}`,
      ],
    );
  }
  for (const { family } of forward ? families : []) {
    const ip = family === 4 ? 'ip' : 'ip6';
    const [cluster] = cidrs[family];
    chain('forward', tableOf(family), 'type filter hook forward priority 0 ; comment "chain to accept flannel traffic" ;', [
      `${ip} saddr ${cluster} accept`,
      `${ip} daddr ${cluster} accept`,
    ]);
  }
  return `${lines.join('\n')}\n`;
}

function tableOf(family: Family): string {
  return family === 4 ? 'ip flannel-ipv4' : 'ip6 flannel-ipv6';
}

/** Both tables, whichever was made first: as text, as JSON, and as the kernel has the rules. No others may be there. */
function content(place: Place): string[] {
  const connection = inNamespace(netns(place), () => NftConnection.open());
  try {
    const names = connection.tables().map(({ family, name }) => `${family} ${name}`);
    assert.deepEqual(names.toSorted(), FAMILIES.map(tableOf));
    return FAMILIES.flatMap((family) => [
      runAt(place, 'nft', 'list', 'table', ...tableOf(family).split(' ')),
      runAt(place, 'nft', '-j', 'list', 'table', ...tableOf(family).split(' ')).replaceAll(/"handle": \d+/g, ''),
      ...connection
        .rules({ family: family === 4 ? 'ip' : 'ip6', table: `flannel-ipv${family}` })
        .map(({ expressions }) => canonicalRule(expressions)),
    ]);
  } finally {
    connection.close();
  }
}

function withHandles(): string {
  return runAt('node', 'nft', '-a', 'list', 'ruleset');
}

function generation(): number {
  const connection = inNamespace(netns('node'), () => NftConnection.open());
  try {
    return connection.generation();
  } finally {
    connection.close();
  }
}

describe('masquerading in nftables', () => {
  let poller: Poller;
  let repairs: string[];
  let errors: unknown[];
  const running: Masquerade[] = [];

  const start = async (wanted: Partial<Wanted> = {}): Promise<Masquerade> => {
    const masquerade = await inNamespace(netns('node'), () =>
      Masquerade.start({
        mode: 'nftables',
        ...ALL,
        ...wanted,
        poller,
        resyncSeconds: 3600,
        onRepair: (what) => repairs.push(what),
        onError: (error) => errors.push(error),
      }),
    );
    running.push(masquerade);
    return masquerade;
  };

  before(function () {
    onlyInSandbox(this);
    makeTopology();
    poller = new Poller();
  });
  beforeEach(() => {
    repairs = [];
    errors = [];
    for (const place of ['node', 'elsewhere'] as const) runAt(place, 'nft', 'flush', 'ruleset');
  });
  afterEach(() => {
    for (const masquerade of running.splice(0)) masquerade.close();
  });
  after(() => {
    poller?.close();
    if (poller !== undefined) removeTopology();
  });

  for (const [name, wanted] of [
    ['of both families', {}],
    ['of IPv4, and an empty table for IPv6', { families: [CLUSTER[4]] }],
    ['of IPv6, and an empty table for IPv4', { families: [CLUSTER[6]] }],
    ['without random ports', { randomFully: false }],
    ['without forwarding', { forward: false }],
    ['without masquerading', { masquerade: false }],
    ['of neither', { masquerade: false, forward: false }],
  ] as const satisfies readonly (readonly [string, Partial<Wanted>])[]) {
    it(`leaves to the byte what flanneld leaves: rules ${name}`, async () => {
      await start(wanted);
      feedAt('elsewhere', flanneld({ ...ALL, ...wanted }), 'nft', '-f', '-');
      assert.deepEqual(content('node'), content('elsewhere'));
    });

    it(`takes over from flanneld without touching anything: rules ${name}`, async () => {
      feedAt('node', flanneld({ ...ALL, ...wanted }), 'nft', '-f', '-');
      const before = [withHandles(), generation()];
      await start(wanted);
      assert.deepEqual([withHandles(), generation()], before);
    });
  }

  it('writes whatever length a prefix has as nft does', async () => {
    for (const [network, subnet] of [
      ['10.244.0.0/14', '10.244.128.0/17'],
      ['10.0.0.0/8', '10.1.2.3/32'],
      ['fc00::/7', 'fd00:8000::/33'],
      ['fd00::/8', 'fd00::1/128'],
    ] as const) {
      const family = network.includes(':') ? 6 : 4;
      (await start({ families: [{ family, network: prefix(network), subnet: prefix(subnet) }] })).close();
      const text = flanneld({ ...ALL, families: [CLUSTER[family]] })
        .replaceAll(/10\.244\.0\.0\/16|fd00:10:244::\/48/g, network)
        .replaceAll(/10\.244\.1\.0\/24|fd00:10:244:1::\/64/g, subnet);
      runAt('elsewhere', 'nft', 'flush', 'ruleset');
      feedAt('elsewhere', text, 'nft', '-f', '-');
      assert.deepEqual(content('node'), content('elsewhere'));
    }
  });

  it('lets flanneld take over', async () => {
    (await start()).close();
    feedAt('node', flanneld(ALL), 'nft', '-f', '-');
    feedAt('elsewhere', flanneld(ALL), 'nft', '-f', '-');
    assert.deepEqual(content('node'), content('elsewhere'));
  });

  it('replaces the rules of another subnet, of a chain that is not wanted any more, and of a family that is not', async () => {
    (await start()).close();
    const wanted = { families: [{ ...CLUSTER[4], subnet: prefix('10.244.7.0/24') }], forward: false };
    await start(wanted);
    const text = flanneld({ ...ALL, families: [CLUSTER[4]], forward: false }).replaceAll('10.244.1.0/24', '10.244.7.0/24');
    feedAt('elsewhere', text, 'nft', '-f', '-');
    assert.deepEqual(content('node'), content('elsewhere'));
    assert.deepEqual(repairs, []);
  });

  describe('puts right within a second', () => {
    const V4 = 'ip flannel-ipv4';
    for (const [name, command, expected] of [
      ['a table that is deleted', `delete table ${V4}`, ['table ip flannel-ipv4: it was missing']],
      ['a ruleset that is flushed', 'flush ruleset', ['table ip flannel-ipv4: it was missing', 'table ip6 flannel-ipv6: it was missing']],
      ['a table that is emptied', `flush table ${V4}`, ['table ip flannel-ipv4: the rules of chain postrtg were others']],
      [
        'a chain that is emptied',
        'flush chain ip6 flannel-ipv6 forward',
        ['table ip6 flannel-ipv6: the rules of chain forward were others'],
      ],
      ['a chain that is deleted', `delete chain ${V4} forward`, ['table ip flannel-ipv4: chain forward was missing']],
      ['a rule that is added', `insert rule ${V4} postrtg accept`, ['table ip flannel-ipv4: the rules of chain postrtg were others']],
      [
        'a rule that is given a comment',
        `add rule ${V4} forward ip daddr 10.244.0.0/16 accept comment "mine"`,
        ['table ip flannel-ipv4: the rules of chain forward were others'],
      ],
      ['a chain that is added', `add chain ${V4} mine`, ['table ip flannel-ipv4: it had a chain mine']],
      ['a set that is added', `add set ${V4} mine { type ipv4_addr; }`, ['table ip flannel-ipv4: it had sets']],
      [
        'a policy that drops',
        `add chain ${V4} forward { type filter hook forward priority 0; policy drop; }`,
        ['table ip flannel-ipv4: chain forward was defined otherwise'],
      ],
      ['a table that is put to sleep', `add table ${V4} { flags dormant; }`, ['table ip flannel-ipv4: it had the flag dormant']],
      [
        'a chain on another hook',
        `delete chain ${V4} postrtg; add chain ${V4} postrtg { type nat hook postrouting priority 50; comment "chain to manage traffic masquerading by flannel"; }`,
        ['table ip flannel-ipv4: chain postrtg was defined otherwise'],
      ],
      ['a table without its comment', `delete table ${V4}; add table ${V4}`, ['table ip flannel-ipv4: its comment was another']],
    ] as const) {
      it(name, async () => {
        await start();
        const before = content('node');
        runAt('node', 'nft', command);
        const since = performance.now();
        await eventually(() => repairs.length > 0, 'a repair');
        const tookMs = performance.now() - since;
        assert.ok(tookMs < 1000, `${tookMs} ms`);
        await eventually(() => repairs.length === expected.length, 'the other repairs');
        assert.deepEqual(content('node'), before);
        assert.deepEqual(repairs, expected);
        assert.deepEqual(errors, []);
      });
    }

    it('a rule that is deleted, again and again', async () => {
      await start();
      const before = content('node');
      for (let count = 1; count <= 3; count++) {
        const [, handle] = /masquerade fully-random # handle (\d+)/.exec(withHandles()) ?? [];
        assert.ok(handle);
        const since = performance.now();
        runAt('node', 'nft', `delete rule ip flannel-ipv4 postrtg handle ${handle}`);
        await eventually(() => repairs.length === count, 'a repair');
        const tookMs = performance.now() - since;
        assert.ok(tookMs < 1000, `${tookMs} ms`);
        assert.deepEqual(content('node'), before);
      }
    });
  });

  it('takes neither its own changes for those of others, nor the same rules written anew for a change', async () => {
    await start();
    feedAt('node', flanneld(ALL), 'nft', '-f', '-');
    const after = withHandles();
    // What comes later has been looked at later.
    runAt('node', 'nft', 'delete table ip6 flannel-ipv6');
    await eventually(() => repairs.length > 0, 'a repair');
    assert.deepEqual(repairs, ['table ip6 flannel-ipv6: it was missing']);
    const v4 = (text: string): string => /table ip flannel-ipv4(.*\n)*?\}/.exec(text)?.[0] ?? '';
    assert.equal(v4(withHandles()), v4(after));
    assert.match(v4(after), /masquerade/);
  });

  it('leaves the rules where they are when it ends, and does nothing to them any more', async () => {
    const first = await start();
    const before = content('node');
    first.close();
    assert.deepEqual(content('node'), before);
    // By the time that another has put something right twice, this one would have put back what it wants.
    await start({ families: [CLUSTER[4]] });
    for (const count of [1, 2]) {
      runAt('node', 'nft', 'delete table ip flannel-ipv4');
      await eventually(() => repairs.length === count, 'a repair');
    }
    assert.ok(!runAt('node', 'nft', 'list', 'table', 'ip6', 'flannel-ipv6').includes('chain'));
  });

  it('says who is in the way where the kernel keeps the table for another', async () => {
    const other = inNamespace(netns('node'), () => NftConnection.open());
    try {
      other.commit([{ op: 'create', table: { family: 'ip', name: 'flannel-ipv4', flags: ['owner'] } }]);
      await assert.rejects(start(), (error) => {
        assert.ok(error instanceof SluiceError);
        assert.equal(error.code, 'TABLE_OWNED');
        assert.equal(error.message, `table ip flannel-ipv4 belongs to another program (netlink port ${other.port})`);
        return true;
      });
    } finally {
      other.close();
    }
  });

  it('tells of a repair that is refused, and does it when it is possible', async () => {
    await start();
    const other = inNamespace(netns('node'), () => NftConnection.open());
    try {
      other.commit([
        { op: 'delete', table: { family: 'ip', name: 'flannel-ipv4' } },
        { op: 'create', table: { family: 'ip', name: 'flannel-ipv4', flags: ['owner'] } },
      ]);
      await eventually(() => errors.length > 0, 'an error');
      assert.equal(errors[0] instanceof SluiceError && errors[0].code, 'TABLE_OWNED');
    } finally {
      other.close();
    }
    await eventually(() => repairs.length > 0, 'a repair');
    feedAt('elsewhere', flanneld(ALL), 'nft', '-f', '-');
    assert.deepEqual(content('node'), content('elsewhere'));
  });
});
