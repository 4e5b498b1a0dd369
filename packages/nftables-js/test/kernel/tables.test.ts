/** Whole tables, both ways, with `nft` as the oracle. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Chain, Element, NamedCounter, NftConnection, Operation, Rule, SetDefinition, Table } from 'nftables-js';
import { nft, nftFile, withConnection } from '../nft.ts';

const FIXTURES = fileURLToPath(new URL('fixtures/', import.meta.url));

interface Content {
  readonly table: Table;
  readonly counters: NamedCounter[];
  readonly chains: Chain[];
  readonly sets: { readonly set: SetDefinition; readonly elements: Element[] }[];
  readonly rules: Rule[];
}

function read(connection: NftConnection, table: Table): Content {
  const reference = { family: table.family, table: table.name };
  return {
    table,
    counters: connection.counters(reference),
    chains: connection.chains(reference),
    sets: connection.sets(reference).map((set) => ({ set, elements: connection.elements({ ...reference, set: set.name }) })),
    rules: connection.rules(reference),
  };
}

function write({ table, counters, chains, sets, rules }: Content): Operation[] {
  return [
    { op: 'create', table },
    ...counters.map((counter): Operation => ({ op: 'create', counter })),
    ...chains.map((chain): Operation => ({ op: 'create', chain })),
    ...sets.flatMap(({ set, elements }): Operation[] => [
      { op: 'create', set },
      { op: 'create', elements: { family: set.family, table: set.table, set: set.name, elements } },
    ]),
    ...rules.map((rule): Operation => ({ op: 'append', rule })),
  ];
}

/** Without what the kernel gives anew: handles, and the time that elements have left. In one order: hash sets have none. */
function comparable(contents: readonly Content[]): unknown {
  const text = JSON.stringify(contents, (key, value: unknown) => {
    if (key === 'handle' || key === 'expirationMs') return undefined;
    if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
    return typeof value === 'bigint' ? `${value}n` : value;
  });
  const copy = JSON.parse(text) as { sets: { elements: object[] }[] }[];
  for (const { sets } of copy) for (const set of sets) set.elements.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return copy;
}

describe('tables', () => {
  const connection = withConnection();

  for (const fixture of readdirSync(FIXTURES)) {
    it(`loaded by nft from ${fixture} are read, deleted, and written back as they were`, () => {
      nftFile(`${FIXTURES}${fixture}`);
      const listing = nft('list ruleset');
      const tables = connection().tables();
      const contents = tables.map((table) => read(connection(), table));
      assert.ok(contents.every(({ chains }) => chains.length > 0));

      connection().commit([...tables.map((table): Operation => ({ op: 'delete', table })), ...contents.flatMap(write)]);

      assert.equal(nft('list ruleset'), listing);
      assert.deepEqual(
        comparable(
          connection()
            .tables()
            .map((table) => read(connection(), table)),
        ),
        comparable(contents),
      );
    });
  }

  it('keep expressions that this version has no words for', () => {
    nftFile(`${FIXTURES}rules.nft`);
    const expressions = connection()
      .rules({ family: 'ip', table: 't4', chain: 'c' })
      .flatMap((rule) => rule.expressions);
    const unknown = expressions.flatMap((expression) => (expression.expr === 'unknown' ? [expression.name] : []));
    assert.deepEqual(unknown.toSorted(), ['exthdr', 'exthdr', 'fib', 'notrack', 'numgen', 'payload', 'quota', 'socket']);
  });

  it('written from plain data are listed by nft as people would write them', () => {
    const table = { family: 'inet', table: 'shop' } as const;
    connection().commit([
      { op: 'add', table: { family: 'inet', name: 'shop', flags: [], comment: 'Überwachung' } },
      { op: 'add', counter: { ...table, name: 'denied', packets: 1n, bytes: 2n ** 40n, comment: 'what was refused' } },
      { op: 'add', chain: { ...table, name: 'policy/shop/allow-web.v1/ingress', comment: 'one policy' } },
      {
        op: 'add',
        chain: { ...table, name: 'forward', base: { type: 'filter', hook: 'forward', priority: -15, policy: 'drop' } },
      },
      { op: 'add', set: { ...table, name: 'web', key: ['ipv4_addr'], flags: [], comment: 'app=web' } },
      { op: 'add', elements: { ...table, set: 'web', elements: [{ key: Uint8Array.of(10, 244, 1, 2), comment: 'web-7d9f' }] } },
      { op: 'add', set: { ...table, name: 'ports', key: ['ipv4_addr', 'inet_proto', 'inet_service'], flags: ['interval'] } },
      {
        op: 'add',
        elements: {
          ...table,
          set: 'ports',
          elements: [
            { key: Uint8Array.of(10, 244, 1, 0, 6, 0, 0, 0, 0, 80, 0, 0), keyEnd: Uint8Array.of(10, 244, 1, 255, 6, 0, 0, 0, 0, 90, 0, 0) },
          ],
        },
      },
      {
        op: 'add',
        set: { ...table, name: 'pods', key: ['ipv6_addr'], data: ['verdict'], flags: ['timeout'], timeoutMs: 90_000n, size: 1000 },
      },
      {
        op: 'append',
        rule: {
          ...table,
          chain: 'forward',
          expressions: [{ expr: 'verdict', verdict: 'goto', chain: 'policy/shop/allow-web.v1/ingress' }],
          comment: 'where everything goes',
        },
      },
    ]);
    assert.equal(
      nft('list table inet shop'),
      `table inet shop {
	comment "Überwachung"
	counter denied {
		comment "what was refused"
		packets 1 bytes 1099511627776
	}

	set web {
		type ipv4_addr
		comment "app=web"
		elements = { 10.244.1.2 comment "web-7d9f" }
	}

	set ports {
		type ipv4_addr . inet_proto . inet_service
		flags interval
		elements = { 10.244.1.0/24 . tcp . 80-90 }
	}

	map pods {
		type ipv6_addr : verdict
		size 1000
		timeout 1m30s
	}

	chain policy/shop/allow-web.v1/ingress {
		comment "one policy"
	}

	chain forward {
		type filter hook forward priority -15; policy drop;
		goto policy/shop/allow-web.v1/ingress comment "where everything goes"
	}
}
`,
    );
  });

  it('are nothing where there is nothing', () => {
    const missing = { family: 'inet', table: 'nothing' } as const;
    assert.deepEqual(connection().tables(), []);
    assert.deepEqual(connection().tables({ family: 'inet', name: 'nothing' }), []);
    assert.equal(connection().table({ family: 'inet', name: 'nothing' }), undefined);
    nft('add table inet there');
    for (const table of ['nothing', 'there']) {
      const reference = { ...missing, table };
      assert.deepEqual(connection().chains(reference), []);
      assert.equal(connection().chain({ ...reference, name: 'x' }), undefined);
      assert.deepEqual(connection().rules(reference), []);
      assert.deepEqual(connection().rules({ ...reference, chain: 'x' }), []);
      assert.deepEqual(connection().sets(reference), []);
      assert.equal(connection().set({ ...reference, name: 'x' }), undefined);
      assert.deepEqual(connection().elements({ ...reference, set: 'x' }), []);
      assert.equal(connection().elementKeys({ ...reference, set: 'x' }, 4).length, 0);
      assert.deepEqual(connection().counters(reference), []);
      assert.equal(connection().counter({ ...reference, name: 'x' }), undefined);
    }
  });

  it('and their objects are found by family and name', () => {
    nft(
      'add table inet a',
      'add table ip a',
      'add table inet b',
      'add chain inet a c',
      'add chain inet b c',
      'add chain ip a only-ip',
      'add chain inet a d',
      'add set inet a s { type ipv4_addr; }',
      'add set inet b s { type ipv6_addr; }',
      'add counter inet a k',
      'add counter inet b k { packets 7 bytes 8; }',
      'add rule inet a c accept',
      'add rule inet a d drop',
      'add rule inet b c drop',
    );
    const nftables = connection();
    const names = (objects: readonly { readonly name: string }[]): string[] => objects.map(({ name }) => name).toSorted();
    assert.deepEqual(names(nftables.tables({ family: 'inet' })), ['a', 'b']);
    assert.deepEqual(
      nftables.tables({ name: 'a' }).map(({ family }) => family),
      ['inet', 'ip'],
    );
    assert.deepEqual(names(nftables.chains({ family: 'inet', table: 'a' })), ['c', 'd']);
    assert.deepEqual(names(nftables.chains({ family: 'ip', table: 'a' })), ['only-ip']);
    assert.equal(nftables.chain({ family: 'ip', table: 'a', name: 'c' }), undefined);
    assert.equal(nftables.rules({ family: 'inet', table: 'a' }).length, 2);
    assert.deepEqual(
      nftables.rules({ family: 'inet', table: 'a', chain: 'd' }).map(({ expressions }) => expressions),
      [[{ expr: 'verdict', verdict: 'drop' }]],
    );
    assert.deepEqual(nftables.set({ family: 'inet', table: 'b', name: 's' })?.key, ['ipv6_addr']);
    assert.equal(nftables.counter({ family: 'inet', table: 'b', name: 'k' })?.packets, 7n);
    assert.equal(nftables.counters({ family: 'inet', table: 'a' }).length, 1);
  });
});
