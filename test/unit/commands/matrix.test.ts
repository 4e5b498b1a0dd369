import assert from 'node:assert/strict';
import { parse } from 'yaml';
import { MatrixDocument, matrixCsv, matrixDocument } from '../../../src/commands/matrix-document.ts';
import { matrixDot } from '../../../src/commands/matrix-dot.ts';
import { othersOf, selectEndpoints } from '../../../src/commands/matrix-endpoints.ts';
import { type Grid, gridOf } from '../../../src/commands/matrix-grid.ts';
import { matrix, type MatrixRecord, type Port } from '../../../src/commands/matrix-records.ts';
import { matrixTable } from '../../../src/commands/matrix-table.ts';
import { SluiceError } from '../../../src/errors.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { plain } from '../../../src/output/colour.ts';
import { Equivalence } from '../../../src/policy/equivalence.ts';
import { type Party } from '../../../src/policy/equivalence-parties.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { Pod, Policy } from '../../../src/policy/objects.ts';
import { type World, worldOf } from '../../../src/policy/world.ts';

const SHARING = new Sharing();

interface PodFields {
  readonly ips?: readonly string[];
  readonly port?: number;
  readonly phase?: string;
  readonly created?: string;
  readonly hostNetwork?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
}

function pod(name: string, fields: PodFields): Pod {
  const { ips = [], port, phase = 'Running', created = '2026-01-01T00:00:00Z', hostNetwork = false } = fields;
  const [namespace, own = ''] = name.split('/');
  const ports = port === undefined ? [] : [{ containerPort: port }];
  const { object } = project(
    'Pod',
    {
      metadata: { namespace, name: own, labels: fields.labels ?? { app: own }, creationTimestamp: created },
      spec: { hostNetwork, containers: [{ ports }] },
      status: { phase, podIPs: ips.map((ip) => ({ ip })) },
    },
    SHARING,
  );
  assert.ok(object);
  return object;
}

/** dev: web (dual stack), api, db; prod: web, db. */
const PODS = [
  pod('dev/web', { ips: ['10.0.0.1', 'fd00::1'], port: 80 }),
  pod('dev/api', { ips: ['10.0.0.2', 'fd00::2'], port: 81 }),
  pod('dev/db', { ips: ['10.0.0.3'], port: 5432 }),
  pod('prod/web', { ips: ['10.0.1.1', 'fd00:1::1'], port: 80 }),
  pod('prod/db', { ips: ['fd00:1::3'] }),
];
const DB_FROM_API = interpretPolicy('dev', 'db-from-api', {
  podSelector: { matchLabels: { app: 'db' } },
  ingress: [{ from: [{ podSelector: { matchLabels: { app: 'api' } } }] }],
});
const WEB_V4 = interpretPolicy('prod', 'web-v4', {
  podSelector: { matchLabels: { app: 'web' } },
  ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/24' } }] }],
});

function world(policies: readonly Policy[], pods: readonly Pod[] = PODS): World {
  return worldOf({ pods, policies });
}

function names(of: readonly string[], pods: readonly Pod[] = PODS): string[] {
  return selectEndpoints(of, pods, world([], pods)).parties.map(({ name }) => name);
}

function declared({ pod }: Party): readonly Port[] {
  return pod?.declaredPorts ?? [];
}

function records(policies: readonly Policy[], from: readonly string[] = [], to: readonly string[] = []): MatrixRecord[] {
  const cluster = world(policies);
  const equivalence = new Equivalence(cluster, PODS);
  const select = (names: readonly string[]): readonly Party[] => selectEndpoints(names, PODS, cluster).parties;
  return [...matrix(equivalence, select(from), select(to), declared)];
}

/** With the outside, where it is said; on the ports that pods declare. */
function grid(policies: readonly Policy[], pods: readonly Pod[] = PODS, options: { outside?: boolean; by?: 'pod' } = {}): Grid {
  const cluster = world(policies, pods);
  const equivalence = new Equivalence(cluster, pods);
  const { parties } = selectEndpoints([], pods, cluster);
  const sources = options.outside === true ? [...parties, ...othersOf(equivalence, [])] : parties;
  const portsOf = (party: Party) => declared(party).map(({ protocol, port }) => ({ protocol, first: port, last: port }));
  return gridOf({
    equivalence,
    sources,
    destinations: parties.filter((party) => portsOf(party).length > 0),
    portsOf,
    by: options.by ?? 'group',
  });
}

function table(of: Grid, width = 80): string[] {
  return [...matrixTable(of, plain, width)].join('\n').split('\n');
}

/** `name`, with the labels of a Deployment: each pod has its own name, and shares the hash of the template. */
function replica(name: string, ip: string, labels: Readonly<Record<string, string>> = {}): Pod {
  return pod(`shop/${name}`, { ips: [ip], port: 80, labels: { app: 'web', 'pod-template-hash': '5d4f8c7b9', ...labels } });
}

describe('the endpoints of a matrix', () => {
  it('are all pods where none is named', () => {
    assert.deepEqual(names([]), ['dev/web', 'dev/api', 'dev/db', 'prod/web', 'prod/db']);
  });

  it('are named by pod, by namespace, and by address, and are there once', () => {
    assert.deepEqual(names(['dev/db']), ['dev/db']);
    assert.deepEqual(names(['prod']), ['prod/web', 'prod/db']);
    assert.deepEqual(names(['prod/*', 'dev/api', 'prod/web']), ['prod/web', 'prod/db', 'dev/api']);
    assert.deepEqual(names(['192.0.2.1', 'FD00:0::9', 'fd00::9']), ['192.0.2.1', 'fd00::9']);
  });

  for (const [name, hint] of [
    ['dev/wbe', 'Did you mean dev/web?'],
    ['dve', 'Did you mean dev?'],
    ['dev/something-else', 'Name namespace/pod, namespace/KIND/name (deploy, sts, svc …), namespace or an address.'],
    ['a/b/c', 'Name namespace/pod, namespace/KIND/name (deploy, sts, svc …), namespace or an address.'],
    ['10.0.0.300', 'Name namespace/pod, namespace/KIND/name (deploy, sts, svc …), namespace or an address.'],
  ] as const) {
    it(`are not ${name}, and it says so: ${hint}`, () => {
      assert.throws(
        () => names([name]),
        (error) => error instanceof SluiceError && error.code === 'ENDPOINT_UNKNOWN' && error.hint === hint && error.exitStatus === 2,
      );
    });
  }

  it('are not pods that have ended, nor those without an address of their own', () => {
    const pods = [
      pod('dev/done', { ips: ['10.0.0.7'], phase: 'Succeeded' }),
      pod('dev/pending', {}),
      pod('dev/older', { ips: ['10.0.0.8'] }),
      pod('dev/newer', { ips: ['10.0.0.8'], created: '2026-02-01T00:00:00Z' }),
      pod('dev/agent', { ips: ['192.168.0.1'], hostNetwork: true }),
    ];
    const { parties, leftOut } = selectEndpoints([], pods, world([], pods));
    assert.deepEqual(
      parties.map(({ name }) => name),
      ['dev/newer', 'dev/agent'],
    );
    assert.deepEqual(
      leftOut.map(({ name }) => name),
      ['dev/pending', 'dev/older'],
    );
    assert.throws(() => names(['dev/done'], pods), /has ended/u);
  });
});

describe('a matrix pair by pair', () => {
  it('has a record for each pair, port and family that both ends have', () => {
    const pairs = records([], ['dev/web', 'dev/db'], ['dev/web', 'dev/db', 'prod/db']);
    assert.deepEqual(
      pairs.map(({ source, destination, family, port, protocol }) => `${source} ${destination} IPv${family} ${port}/${protocol}`),
      [
        'dev/web dev/web IPv4 80/TCP',
        'dev/web dev/web IPv6 80/TCP',
        'dev/db dev/web IPv4 80/TCP',
        'dev/web dev/db IPv4 5432/TCP',
        'dev/db dev/db IPv4 5432/TCP',
      ],
    );
    assert.deepEqual([pairs[1]?.sourceAddress, pairs[3]?.destinationAddress], ['fd00::1', '10.0.0.3']);
  });

  it('says of each pair whether it is allowed, and which policies had a say', () => {
    const toDb = records([DB_FROM_API], ['dev'], ['dev/db']);
    assert.deepEqual(
      toDb.map(({ source, allowed, ingress }) => [source, allowed, ingress.reason, ...ingress.policies, ...(ingress.fields ?? [])]),
      [
        ['dev/web', false, 'refused', 'dev/db-from-api'],
        ['dev/api', true, 'admitted', 'dev/db-from-api', 'spec.ingress[0].from[0]'],
        ['dev/db', true, 'same-pod'],
      ],
    );
    assert.deepEqual(toDb[0]?.egress, { allowed: true, reason: 'not-isolated', policies: [] });
  });

  it('takes addresses for ends', () => {
    const fromOutside = records([WEB_V4], ['192.0.2.1', '10.0.0.200', 'fd00::9'], ['prod/web']);
    assert.deepEqual(
      fromOutside.map(({ source, sourceAddress, allowed }) => [source, sourceAddress, allowed]),
      [
        ['192.0.2.1', '192.0.2.1', false],
        ['10.0.0.200', '10.0.0.200', true],
        ['fd00::9', 'fd00::9', false],
      ],
    );
  });
});

describe('the table of a matrix', () => {
  it('groups sources by namespace, and leaves a pod and itself out', () => {
    assert.deepEqual(table(grid([DB_FROM_API])).slice(6, 10), [
      'dev/db',
      '  5432/TCP  allowed  dev/api',
      '            denied   dev/web, prod/web',
      '',
    ]);
  });

  it('tells families apart where their verdicts differ', () => {
    const lines = table(grid([WEB_V4]));
    const at = lines.indexOf('prod/web');
    assert.deepEqual(lines.slice(at, at + 3), [
      'prod/web',
      '  80/TCP  allowed  dev/web (IPv4), dev/api (IPv4), dev/db',
      '          denied   dev/web (IPv6), dev/api (IPv6), prod/db',
    ]);
  });

  it('counts the flows that it shows', () => {
    // To dev/web: api 4 and 6, db 4, prod/web 4 and 6, prod/db 6; to dev/api as many; to dev/db: web, api and prod/web by 4;
    // to prod/web: web 4 and 6, api 4 and 6, db 4, prod/db 6. Of those to dev/db, only api is let in.
    assert.equal(table(grid([DB_FROM_API])).at(-1), '21 flows: 19 allowed, 2 denied');
  });

  it('has one block for destinations that have the same verdicts', () => {
    const pods = ['a', 'b', 'c'].map((name, i) => pod(`dev/${name}`, { ips: [`10.0.0.${i + 1}`], port: 80 }));
    const deny = interpretPolicy('dev', 'deny', { podSelector: {} });
    assert.deepEqual(table(grid([deny], pods)), [
      'dev/a, dev/b, dev/c',
      '  80/TCP  denied   dev/* (2 pods)',
      '',
      '6 flows: 0 allowed, 6 denied',
    ]);
  });

  it('fits the width that there is', () => {
    for (const line of table(grid([DB_FROM_API, WEB_V4]), 45)) assert.ok(line.length <= 45, line);
  });

  it('has one row for the pods of a workload, and says which one differs', () => {
    const web = ['bbbbb', 'ccccc', 'ddddd', 'fffff'].map((own, i) => replica(`web-5d4f8c7b9-${own}`, `10.0.0.${i + 1}`));
    const db = pod('shop/db-0', { ips: ['10.0.0.9'], port: 5432 });
    // A block that has three of the four.
    const some = interpretPolicy('shop', 'some', {
      podSelector: { matchLabels: { app: 'db-0' } },
      ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/24', except: ['10.0.0.2/32'] } }] }],
    });
    assert.deepEqual(table(grid([], [...web, db])).slice(0, 2), ['shop/web-* (4 pods)', '  80/TCP  allowed  shop/* (5 pods)']);
    assert.deepEqual(table(grid([some], [...web, db]), 100).slice(3, 6), [
      'shop/db-0',
      '  5432/TCP  allowed  shop/web-* (3 of 4 pods, not web-5d4f8c7b9-ccccc)',
      '            denied   shop/web-5d4f8c7b9-ccccc',
    ]);
  });

  it('says what is outside as policies tell it apart', () => {
    const db = interpretPolicy('dev', 'db', {
      podSelector: { matchLabels: { app: 'db' } },
      ingress: [{ from: [{ ipBlock: { cidr: '192.0.2.0/24', except: ['192.0.2.128/25'] } }] }],
    });
    const lines = table(grid([db], PODS, { outside: true }), 100);
    const at = lines.indexOf('dev/db');
    // Nobody inside is in the block, nor is what it leaves out.
    assert.deepEqual(lines.slice(at, at + 3), [
      'dev/db',
      '  5432/TCP  allowed  outside: 192.0.2.0/25',
      '            denied   dev/* (2 pods), prod/web, outside: everything else',
    ]);
    assert.match(lines.join('\n'), /^ {2}80\/TCP {2}allowed {2}dev\/\* \(2 pods\), prod\/\* \(2 pods\), outside$/mu);
  });

  it('does not list what is most of everybody', () => {
    const pods = Array.from({ length: 10 }, (_, i) => pod(`ns${i}/p`, { ips: [`10.0.0.${i + 1}`], port: 80 }));
    const one = interpretPolicy('ns0', 'one', {
      podSelector: {},
      ingress: [{ from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'ns1' } } }] }],
    });
    assert.deepEqual(table(grid([one], pods)).slice(0, 3), [
      'ns0/p',
      '  80/TCP  allowed  ns1/p',
      '          denied   everyone else (8 pods)',
    ]);
  });
});

describe('the grid of a matrix', () => {
  it('has the verdict of every pair, however pods are put together', () => {
    const pods = [
      ...PODS,
      ...['bbbbb', 'ccccc', 'ddddd'].map((own, i) => replica(`web-5d4f8c7b9-${own}`, `10.0.0.${i + 20}`)),
      pod('shop/host', { ips: ['192.168.0.1'], port: 80, hostNetwork: true }),
    ];
    const cluster = world([DB_FROM_API, WEB_V4], pods);
    const equivalence = new Equivalence(cluster, pods);
    const { parties } = selectEndpoints([], pods, cluster);
    const expected = new Map(
      [...matrix(equivalence, parties, parties, declared)].map((record) => [
        `${record.source} ${record.destination} ${record.family} ${record.port}`,
        record.allowed,
      ]),
    );
    for (const by of ['group', 'pod'] as const) {
      const found = grid([DB_FROM_API, WEB_V4], pods, by === 'pod' ? { by } : {});
      let asked = 0;
      for (const { destination, columns } of found.blocks) {
        for (const { first, verdicts } of columns) {
          for (const [row, source] of found.sources.entries()) {
            for (const family of [4, 6] as const) {
              const number = verdicts[family][row] ?? -1;
              if (number < 0) continue;
              for (const from of source.parties) {
                for (const to of destination.parties) {
                  const known = expected.get(`${from.name} ${to.name} ${family} ${first}`);
                  if (known === undefined || from.name === to.name) continue;
                  assert.equal(found.equivalence.isAllowed(number), known, `${from.name} ${to.name} IPv${family}`);
                  asked++;
                }
              }
            }
          }
        }
      }
      const pairs = [...expected.keys()].filter((key) => key.split(' ')[0] !== key.split(' ')[1]);
      assert.equal(asked, pairs.length, by);
    }
  });
});

describe('a matrix for programs', () => {
  const FACTS = { grid: grid([DB_FROM_API]), origin: 'the test', by: 'group', missing: [] } as const;

  it('is a document of its schema, the same as JSON and as YAML', () => {
    const json: unknown = JSON.parse([...matrixDocument('json', FACTS)].join(''));
    const document = MatrixDocument.parse(json);
    assert.deepEqual(parse([...matrixDocument('yaml', FACTS)].join('')), json);
    assert.deepEqual([document.kind, document.allowed, document.denied], ['Matrix', 19, 2]);
    assert.deepEqual(
      document.sources.map(({ name }) => name),
      ['dev/web', 'dev/api', 'dev/db', 'prod/web', 'prod/db'],
    );
    assert.deepEqual(
      document.flows.filter(({ destination }) => destination === 'dev/db'),
      [
        {
          source: 'dev/web',
          destination: 'dev/db',
          protocol: 'TCP',
          port: 5432,
          families: [4],
          allowed: false,
          egress: { allowed: true, reason: 'not-isolated', policies: [] },
          ingress: { allowed: false, reason: 'refused', policies: ['dev/db-from-api'] },
        },
        {
          source: 'dev/api',
          destination: 'dev/db',
          protocol: 'TCP',
          port: 5432,
          families: [4],
          allowed: true,
          egress: { allowed: true, reason: 'not-isolated', policies: [] },
          ingress: { allowed: true, reason: 'admitted', policies: ['dev/db-from-api'], fields: ['spec.ingress[0].from[0]'] },
        },
        {
          source: 'prod/web',
          destination: 'dev/db',
          protocol: 'TCP',
          port: 5432,
          families: [4],
          allowed: false,
          egress: { allowed: true, reason: 'not-isolated', policies: [] },
          ingress: { allowed: false, reason: 'refused', policies: ['dev/db-from-api'] },
        },
      ],
    );
  });

  it('is a document where there is nobody', () => {
    const nobody = { ...FACTS, grid: grid([], []) };
    for (const format of ['json', 'yaml'] as const) {
      const { sources, flows } = MatrixDocument.parse(parse([...matrixDocument(format, nobody)].join('')));
      assert.deepEqual([sources, flows], [[], []]);
    }
  });

  it('is a table for spreadsheets, which take nothing in it for a formula', () => {
    const lines = [...matrixCsv(FACTS.grid)].join('').split('\r\n');
    assert.equal(lines[0], 'source,destination,protocol,port,endPort,families,allowed,egress,egressPolicies,ingress,ingressPolicies');
    assert.ok(lines.includes('dev/web,dev/db,TCP,5432,,IPv4,false,not-isolated,,refused,dev/db-from-api'));
    const two = grid([DB_FROM_API, interpretPolicy('dev', 'db-two', { podSelector: { matchLabels: { app: 'db' } } })]);
    assert.ok([...matrixCsv(two)].join('').includes('refused,dev/db-from-api dev/db-two\r\n'));
  });

  it('is a graph, in which what is denied has no edge', () => {
    const dot = [...matrixDot(FACTS.grid)].join('');
    assert.match(dot, /^ {2}"dev\/api" -> "dev\/db" \[label="5432\/TCP"\];$/mu);
    assert.doesNotMatch(dot, /"dev\/web" -> "dev\/db"/u);
    assert.match([...matrixDot(grid([WEB_V4]))].join(''), /"dev\/web" -> "prod\/web" \[label="80\/TCP \(IPv4\)", style=dashed\]/u);
    // Each statement of the graph is one that the grammar has (graphviz.org/doc/info/lang.html), with nothing but quoted names.
    const id = '"(?:[^"\\\\]|\\\\.)*"';
    const statement = new RegExp(
      `^(?:digraph sluice \\{|\\}|\\s*(?:rankdir=LR|(?:node|edge) \\[.*\\]|${id}|${id} -> ${id} \\[label=${id}(?:, style=dashed)?\\]|label=${id}; color=gray);|\\s*subgraph ${id} \\{|\\s*\\})$`,
      'u',
    );
    for (const line of dot.trimEnd().split('\n')) assert.match(line, statement);
  });
});
