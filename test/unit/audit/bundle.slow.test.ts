/** Bundles: what is kept, what is hashed, that answers are the same, and what is said of files that are none. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Rule } from 'nftables-js';
import { type BundleDocument, packBundle, readBundle } from '../../../src/audit/bundle-format.ts';
import { inventoryOfBundle, openBundle } from '../../../src/audit/bundle-inventory.ts';
import { hashNames, NameHashes } from '../../../src/audit/bundle-names.ts';
import { keptFields } from '../../../src/audit/bundle-objects.ts';
import { type KernelTable, restoreKernelTable, storeKernelTable } from '../../../src/audit/kernel-table.ts';
import { rulesOfNode } from '../../../src/audit/node-rules.ts';
import { compareTable, prepare } from '../../../src/audit/table-comparison.ts';
import { desiredTable } from '../../../src/enforcement/nftables/desired-table.ts';
import type { TableOptions } from '../../../src/enforcement/nftables/frame.ts';
import { SluiceError } from '../../../src/errors.ts';
import { evaluate, type Question } from '../../../src/policy/evaluate.ts';
import type { Ruleset } from '../../../src/ruleset/objects.ts';
import { loadDirectory } from '../../../src/sources/load-directory.ts';
import { type ApiObject, ClusterGenerator, NAMESPACES, NODES } from '../../random/cluster.ts';

const OPTIONS: TableOptions = { owned: false, logGroup: 100, cutMark: 0x1000 };
const NODE = 'node-a';

function bundle(objects: readonly ApiObject[], fields: Partial<BundleDocument> = {}): BundleDocument {
  return {
    apiVersion: 'sluice.dev/v1',
    kind: 'Bundle',
    createdAt: '2026-01-01T00:00:00Z',
    version: '0.1.0',
    origin: 'the directory shop',
    hashed: { names: false },
    node: NODE,
    objects: objects.map((object): Record<string, unknown> => ({ ...keptFields(object.kind, object) })),
    missing: [],
    kernel: { unread: 'nobody looked' },
    bridges: null,
    status: null,
    ...fields,
  };
}

/** A kernel that has been given exactly this. */
function kernelWith(ruleset: Ruleset): KernelTable {
  const { table, sets, chains } = desiredTable(ruleset, OPTIONS);
  let handle = 0n;
  const numbered = (rule: Rule): Rule => ({ ...rule, handle: ++handle });
  return {
    generation: 7,
    consistent: true,
    table: { ...table, handle: ++handle },
    sets: [...sets].map((set) => ({ definition: set.definition, elements: [...set.elements()] })),
    chains: [...chains].map(({ chain, rules, tail }) => ({ chain, rules: [...rules, ...tail].map(numbered) })),
  };
}

/** A random cluster of three namespaces, some pods of which share addresses. */
function randomObjects(seed: number): ApiObject[] {
  const generator = new ClusterGenerator(seed);
  const { dice } = generator;
  return [
    ...generator.nodes(),
    ...NAMESPACES.flatMap((namespace) => [
      generator.namespace(namespace),
      ...['p', 'q', 'r'].map((name) => generator.policy(namespace, name)),
      ...['a', 'b', 'c', 'd'].map((name) =>
        generator.pod(namespace, name, dice.pick(NODES), 2 + dice.roll(40), dice.pick([[4, 6], [4]] as const)),
      ),
    ]),
  ];
}

const code = (expected: string) => (error: unknown) => {
  assert.ok(error instanceof SluiceError, String(error));
  assert.deepEqual([error.code, error.exitStatus], [expected, 2], error.message);
  assert.notEqual(error.hint, undefined);
  return true;
};

describe('a bundle', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  function file(name: string, content: string | Uint8Array): string {
    const path = join(directory, name);
    writeFileSync(path, content);
    return path;
  }

  it('keeps of an object what is read, and no environment, image, command or annotation', () => {
    const container = {
      name: 'c',
      image: 'i',
      env: [{ name: 'PASSWORD', value: 'x' }],
      command: ['y'],
      ports: [{ containerPort: 80, hostPort: 8 }],
    };
    const metadata = { name: 'p', namespace: 'n', uid: 'u', labels: { a: 'b' }, annotations: { secret: 'z' }, managedFields: [1] };
    assert.deepEqual(
      keptFields('Pod', {
        metadata,
        spec: { nodeName: 'n1', serviceAccountName: 's', containers: [container], volumes: [{ secret: {} }] },
        status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }], hostIP: '192.0.2.1' },
      }),
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'p', namespace: 'n', uid: 'u', labels: { a: 'b' } },
        spec: { nodeName: 'n1', containers: [{ ports: [{ containerPort: 80 }] }] },
        status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }] },
      },
    );
    assert.deepEqual(keptFields('Namespace', { metadata: { name: 'n', annotations: { 'sluice.dev/mode': 'audit', other: 'x' } } }), {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'n', annotations: { 'sluice.dev/mode': 'audit' } },
    });
    assert.equal(keptFields('Secret', { metadata: { name: 's' }, data: { a: 'b' } }), undefined);
  });

  it('keeps what is not of the right form as far as it is a text or a number: what is wrong with it can be told', () => {
    assert.deepEqual(keptFields('Pod', { metadata: { name: 7 }, spec: { containers: { env: 'x' }, nodeName: ['y'] }, status: 'none' }), {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 7 },
      spec: { nodeName: ['y'] },
      status: 'none',
    });
  });

  it('says what the directory said that it was made of: the same objects, problems and rules', async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const objects = randomObjects(seed);
      const source = mkdtempSync(join(directory, 'source-'));
      writeFileSync(join(source, 'all.json'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
      const expected = await loadDirectory(source);
      const inventory = await openBundle(file('b.json.gz', await packBundle(bundle(objects))));
      for (const kind of ['pods', 'namespaces', 'nodes', 'policies'] as const) {
        const byName = (items: readonly { readonly name: string; readonly namespace?: string }[]): unknown[] =>
          items.toSorted((a, b) => `${a.namespace}/${a.name}`.localeCompare(`${b.namespace}/${b.name}`));
        assert.deepEqual(byName(inventory[kind]), byName(expected[kind]), `seed ${seed}, ${kind}`);
      }
      const faults = (problems: typeof inventory.problems): string[] =>
        problems.map(({ object, code: what, severity }) => `${object} ${what} ${severity}`).sort();
      assert.deepEqual(faults(inventory.problems), faults(expected.problems), `seed ${seed}`);
      const kernel = kernelWith(rulesOfNode(expected, NODE));
      assert.deepEqual(compareTable(prepare(desiredTable(rulesOfNode(inventory, NODE), OPTIONS)), kernel), []);
    }
  });

  it('gives the kernel state back without loss', async () => {
    const table = kernelWith(rulesOfNode(await inventoryOfBundle(bundle(randomObjects(3)), 'b'), NODE));
    const odd: Rule = {
      family: 'inet',
      table: 'sluice',
      chain: 'egress',
      handle: 2n ** 63n,
      expressions: [
        { expr: 'counter', packets: 2n ** 60n, bytes: 1n },
        { expr: 'unknown', name: 'fib', data: Uint8Array.of(0, 255) },
      ],
    };
    const [first, ...rest] = table.chains;
    assert.ok(first !== undefined);
    const whole = { ...table, chains: [{ ...first, rules: [odd, ...first.rules] }, ...rest] };
    const text = JSON.stringify(storeKernelTable(whole));
    // A member that is undefined is one that is not there.
    assert.deepEqual(restoreKernelTable(JSON.parse(text)), structuredClone(whole));
  });

  it('is not read where a part of a rule lacks what it has to have, or is of a kind that no version writes', async () => {
    const table = kernelWith(rulesOfNode(await inventoryOfBundle(bundle(randomObjects(3)), 'b'), NODE));
    const text = JSON.stringify(storeKernelTable(table));
    const mayLack = new Set(['destination', 'invert', 'prefix', 'group']);
    const tried = new Set<string>();
    const read = (): { readonly stored: unknown; readonly expressions: Record<string, unknown>[] } => {
      const stored = JSON.parse(text) as { chains: { rules: { expressions: Record<string, unknown>[] }[] }[] };
      return { stored, expressions: stored.chains.flatMap(({ rules }) => rules.flatMap(({ expressions }) => expressions)) };
    };
    for (const [at, whole] of read().expressions.entries()) {
      const { expr, verdict } = whole;
      for (const field of Object.keys(whole)) {
        const what = `${String(expr)} ${String(verdict)} ${field}`;
        if (mayLack.has(field) || tried.has(what)) continue;
        tried.add(what);
        const { stored, expressions } = read();
        restoreKernelTable(stored);
        delete expressions[at]?.[field];
        assert.throws(() => restoreKernelTable(stored), { name: 'ZodError' }, `without ${what}`);
        Object.assign(expressions[at] ?? {}, { [field]: field === 'expr' ? 'lookout' : true });
        assert.throws(() => restoreKernelTable(stored), { name: 'ZodError' }, `with another ${what}`);
      }
    }
    assert.ok(tried.size > 20, [...tried].join(', '));
  });

  it('with its names hashed gives the same verdicts and the same rules, and finds the same tampering', async () => {
    let verdicts = 0;
    for (let seed = 1; seed <= 15; seed++) {
      const objects = randomObjects(seed);
      const plain = bundle(objects);
      const before = await inventoryOfBundle(plain, 'b');
      const kernel = kernelWith(rulesOfNode(before, NODE));
      const hashes = new NameHashes();
      const after = await inventoryOfBundle(await hashNames({ ...plain, kernel: { table: storeKernelTable(kernel) } }, hashes), 'b');
      for (const source of before.pods) {
        for (const destination of before.pods) {
          const [from, to] = [source.addresses[0], destination.addresses[0]];
          if (from === undefined || to === undefined || typeof from !== typeof to) continue;
          for (const port of [80, 8080]) {
            const question: Question = { source: from, destination: to, protocol: 'TCP', port };
            const a = evaluate(before.world, question);
            const b = evaluate(after.world, question);
            assert.deepEqual(
              [a.allowed, a.egress.reason, a.ingress.reason],
              [b.allowed, b.egress.reason, b.ingress.reason],
              `seed ${seed}`,
            );
            verdicts++;
          }
        }
      }
      const held = after.held.kernel;
      assert.ok('table' in held);
      const node = hashes.name(NODE);
      assert.equal(after.held.node, node);
      const desired = prepare(desiredTable(rulesOfNode(after, node), OPTIONS));
      assert.deepEqual(compareTable(desired, held.table), [], `seed ${seed}`);
      // Somebody else's chain and set are still there, under names that say nothing.
      const mine = {
        ...kernel,
        chains: [...kernel.chains, { chain: { family: 'inet', table: 'sluice', name: 'payroll' }, rules: [] } as const],
      };
      const tampered = await inventoryOfBundle(await hashNames({ ...plain, kernel: { table: storeKernelTable(mine) } }, hashes), 'b');
      assert.ok('table' in tampered.held.kernel);
      assert.deepEqual(compareTable(desired, tampered.held.kernel.table), [
        { object: 'chain', name: hashes.name('payroll'), kernel: 'extra', lines: [] },
      ]);
    }
    assert.ok(verdicts > 500, String(verdicts));
  });

  it('with its names hashed holds none of them', async () => {
    const metadata = {
      name: 'payroll-0',
      namespace: 'finance',
      labels: { team: 'redwood', 'app.kubernetes.io/name': 'ledger' },
      uid: '7f1c',
    };
    const objects = [
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'finance', labels: { owner: 'alice' } } },
      { apiVersion: 'v1', kind: 'Node', metadata: { name: NODE }, status: { addresses: [{ type: 'Hostname', address: 'metalbox' }] } },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata,
        spec: { nodeName: NODE, containers: [{ name: 'main', ports: [{ name: 'bookkeep', containerPort: 80 }] }] },
        status: { phase: 'Running', podIPs: [{ ip: '10.244.1.2' }] },
      },
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'only-auditors', namespace: 'finance' },
        spec: {
          podSelector: { matchLabels: { team: 'redwood' } },
          ingress: [
            {
              from: [{ podSelector: { matchExpressions: [{ key: 'role', operator: 'In', values: ['auditor'] }] }, someday: 'mystery' }],
              ports: [{ port: 'bookkeep' }],
            },
          ],
        },
      },
    ] as unknown as ApiObject[];
    const plain = bundle(objects, {
      status: { node: NODE, ready: true, error: 'finance/payroll-0 is odd', sourceProblems: { 'finance.yaml': 1 } },
      missing: [{ what: 'nodes', reason: 'User "alice" cannot list', consequence: 'c' }],
    });
    const kernel = kernelWith(rulesOfNode(await inventoryOfBundle(plain, 'b'), NODE));
    const text = JSON.stringify(await hashNames({ ...plain, kernel: { table: storeKernelTable(kernel) } }));
    const names = [
      'payroll',
      'finance',
      'team',
      'redwood',
      'ledger',
      'alice',
      NODE,
      'metalbox',
      'bookkeep',
      'auditor',
      'role',
      '7f1c',
      'mystery',
      'someday',
      'shop',
    ];
    assert.deepEqual(
      names.filter((name) => text.includes(name)),
      [],
    );
    assert.ok(text.includes('app.kubernetes.io/name') && text.includes('10.244.1.2'), 'well-known keys and addresses stay');
    // A name has the same hash everywhere in a bundle, and another one in the next.
    assert.notEqual(JSON.stringify(await hashNames(plain)), JSON.stringify(await hashNames(plain)));
  });

  it('says what is wrong with a file that is none, is damaged, is too new or too large', async () => {
    const packed = await packBundle(bundle(randomObjects(1)));
    const text = gunzipSync(packed).toString();
    assert.equal(readBundle(file('plain.json', text)).kind, 'Bundle', 'unpacked by somebody');
    assert.throws(() => readBundle(join(directory, 'nowhere')), code('BUNDLE_UNREADABLE'));
    assert.throws(() => readBundle(directory), code('BUNDLE_UNREADABLE'));
    assert.throws(() => readBundle(file('short.gz', packed.subarray(0, packed.length >> 1))), code('BUNDLE_UNREADABLE'));
    assert.throws(() => readBundle(file('text', 'hello\n')), code('BUNDLE_FOREIGN'));
    assert.throws(() => readBundle(file('empty', '')), code('BUNDLE_FOREIGN'));
    assert.throws(() => readBundle(file('json.gz', gzipSync('[1'))), code('BUNDLE_FOREIGN'));
    assert.throws(() => readBundle(file('list.gz', gzipSync('{"apiVersion":"v1","kind":"List"}'))), code('BUNDLE_FOREIGN'));
    const newer = text.replace('sluice.dev/v1', 'sluice.dev/v2');
    assert.throws(() => readBundle(file('newer.gz', gzipSync(newer))), code('BUNDLE_NEWER'));
    assert.throws(() => readBundle(file('odd.gz', gzipSync(text.replace('"objects":[', '"objects":[7,')))), code('BUNDLE_INVALID'));
    const damaged = Buffer.from(packed);
    damaged[packed.length >> 1] = (damaged[packed.length >> 1] ?? 0) ^ 0xff;
    assert.throws(() => readBundle(file('damaged.gz', damaged)), SluiceError);
    const bomb = gzipSync(Buffer.alloc(300 << 20));
    assert.ok(bomb.length < 1 << 20);
    assert.throws(() => readBundle(file('bomb.gz', bomb)), code('BUNDLE_TOO_LARGE'));
    const table = bundle([], { kernel: { table: { generation: 'x' } } });
    await assert.rejects(openBundle(file('table.gz', await packBundle(table))), code('BUNDLE_INVALID'));
  });
});
