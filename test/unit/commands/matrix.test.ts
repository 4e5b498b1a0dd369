import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
import { parseAddress } from '../../../src/policy/address.ts';
import { nameGroups, type Party } from '../../../src/policy/equivalence-parties.ts';
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

  it('is a graph, in which what is denied has no edge', function () {
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
    const { status, error, stderr } = spawnSync('dot', ['-Tplain'], { input: dot, encoding: 'utf8' });
    if (error !== undefined) console.log('      (no graphviz here: only the grammar was looked at)');
    else assert.equal(status, 0, stderr);
  });
});

describe('sluice matrix', () => {
  const PROGRAM = join(import.meta.dirname, '../../../bin/sluice.js');
  let directory: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-matrix-'));
    const objects = [
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' }, status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] } },
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n2' }, status: { addresses: [{ type: 'InternalIP', address: '192.168.0.2' }] } },
      ...[
        ['web', '10.0.0.1', 80],
        ['db', '10.0.0.2', 5432],
      ].map(([name, ip, containerPort]) => ({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace: 'shop', name, labels: { app: name } },
        spec: { nodeName: 'n1', containers: [{ ports: [{ containerPort }] }] },
        status: { phase: 'Running', podIPs: [{ ip }] },
      })),
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { namespace: 'shop', name: 'db' },
        spec: {
          podSelector: { matchLabels: { app: 'db' } },
          policyTypes: ['Ingress', 'Egress'],
          ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }] }],
          egress: [{ ports: [{ port: 443 }], to: [{ ipBlock: { cidr: '198.51.100.0/24' } }] }],
        },
      },
    ];
    writeFileSync(join(directory, 'shop.json'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  });

  after(() => rmSync(directory, { recursive: true }));

  function sluice(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, 'matrix', '--source', directory, ...args], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });
    return { status, stdout, stderr };
  }

  it('asks about everybody, nodes and the outside included, on every port that tells anything apart', () => {
    assert.deepEqual(sluice(), {
      status: 0,
      stderr: '',
      stdout: `\
shop/db
  5432/TCP  allowed  shop/web
            denied   other nodes, outside

shop/web
  80/TCP  allowed  other nodes, outside
          denied   shop/db

other nodes, outside: everything else
  any port  allowed  shop/web
            denied   shop/db

outside: 198.51.100.0/24
  443/TCP          allowed  shop/* (2 pods)
  other TCP ports  allowed  shop/web
                   denied   shop/db
  any UDP port     allowed  shop/web
                   denied   shop/db
  any SCTP port    allowed  shop/web
                   denied   shop/db

8 flows: 4 allowed, 4 denied
`,
    });
  });

  it('asks about pods alone where that is said, and about who is named', () => {
    assert.equal(
      sluice('--no-external', '--to', 'shop/db').stdout,
      'shop/db\n  5432/TCP  allowed  shop/web\n\n1 flow: 1 allowed, 0 denied\n',
    );
    assert.match(sluice('--from', '192.0.2.1', '--to', 'shop/db').stdout, /denied {3}192\.0\.2\.1/u);
  });

  it('takes a workload for its pods', () => {
    const deployment = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { namespace: 'shop', name: 'front' },
      spec: { selector: { matchLabels: { app: 'web' } }, template: { metadata: { labels: { app: 'web' } } } },
    };
    writeFileSync(join(directory, 'front.json'), JSON.stringify(deployment));
    const { status, stdout } = sluice('--from', 'shop/deploy/front', '--to', 'shop/db');
    assert.deepEqual([status, stdout], [0, 'shop/db\n  5432/TCP  allowed  shop/web\n\n1 flow: 1 allowed, 0 denied\n']);
    const unknown = sluice('--from', 'shop/deploy/fornt');
    assert.equal(unknown.status, 2);
    assert.match(unknown.stderr, /fornt/u);
    rmSync(join(directory, 'front.json'));
  });

  function withFile(name: string, objects: readonly unknown[], ...args: readonly string[]): ReturnType<typeof sluice> {
    const file = join(directory, name);
    writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
    try {
      return sluice(...args);
    } finally {
      rmSync(file);
    }
  }

  const node = (name: string, host: number): unknown => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    spec: { podCIDR: `10.1.${host}.0/24` },
    status: {
      addresses: [
        { type: 'InternalIP', address: `192.168.7.${host}` },
        { type: 'ExternalIP', address: `203.0.113.${host}` },
      ],
    },
  });

  it('asks a node about each of its addresses that policies tell apart', () => {
    const policy = {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: 'shop', name: 'web' },
      spec: {
        podSelector: { matchLabels: { app: 'web' } },
        ingress: [{ from: [{ ipBlock: { cidr: '203.0.113.0/24' } }, { ipBlock: { cidr: '10.1.3.0/24' } }] }],
      },
    };
    // Packets of a node's own come to pods of other nodes with the first address of its podCIDR.
    const { stdout } = withFile('more.json', [node('n2', 2), node('n3', 3), policy], '--to', 'shop/web', '--external');
    assert.equal(
      stdout.split('\n\n')[0],
      `\
shop/web
  80/TCP  allowed  nodes at 203.0.113.2, 203.0.113.3, node/n3 at 10.1.3.0, outside: 10.1.3.0/24,
                   outside: 203.0.113.0/24
          denied   shop/db, other nodes, outside: 198.51.100.0/24, outside: everything else`,
    );
  });

  it('calls nodes what they are asked about as', () => {
    const party = (name: string, address: string): Party => ({
      kind: 'node',
      name,
      namespace: '',
      pod: undefined,
      node: /^node\/(\S+)/u.exec(name)?.[1],
      addresses: [parseAddress(address) ?? assert.fail(address)],
    });
    const [a, a2, b, b2] = [
      party('node/a', '10.0.0.1'),
      party('node/a at 10.1.0.1', '10.1.0.1'),
      party('node/b', '10.0.0.2'),
      party('node/b at 10.1.0.2', '10.1.0.2'),
    ];
    const named = (...sets: readonly (readonly Party[])[]): string[] => nameGroups(sets, [a, a2, b, b2]).map(({ name }) => name);
    assert.deepEqual(named([a, a2, b, b2]), ['other nodes']);
    assert.deepEqual(named([a, b], [a2, b2]), ['other nodes', 'nodes at 10.1.0.1, 10.1.0.2']);
    assert.deepEqual(named([a, a2], [b], [b2]), ['node/a', 'node/b', 'node/b at 10.1.0.2']);
    assert.deepEqual(named([a, a2, b], [b2]), ['other nodes', 'node/b at 10.1.0.2']);
    assert.deepEqual(
      nameGroups([[a, a2]], [a, a2]).map(({ name }) => name),
      ['node/a'],
    );
  });

  it('says where there is nothing to ask', () => {
    assert.deepEqual(sluice('--from', 'shop/web', '--to', 'shop/web'), {
      status: 0,
      stdout: '0 flows: 0 allowed, 0 denied\n',
      stderr: 'there is nothing to ask: a pod and itself, a pod and its own node, two that are no pods, or no addresses of one family\n',
    });
  });

  it('counts as it shows where a pod is on the network of a node that is not known', () => {
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'shop', name: 'agent' },
      spec: { nodeName: 'n9', hostNetwork: true, containers: [] },
      status: { phase: 'Running', podIPs: [{ ip: '192.168.7.9' }] },
    };
    const beside = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'shop', name: 'db-9', labels: { app: 'db' } },
      spec: { nodeName: 'n9', containers: [{ ports: [{ containerPort: 5432 }] }] },
      status: { phase: 'Running', podIPs: [{ ip: '10.0.0.9' }] },
    };
    const { stdout } = withFile('agent.json', [pod, beside], '--from', 'shop/agent', '--to', 'shop/db-9');
    assert.equal(stdout, 'shop/db-9\n  5432/TCP  denied   shop/agent\n\n1 flow: 0 allowed, 1 denied\n');
  });

  it('does not show an address that it has only assumed', () => {
    const deployment = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { namespace: 'shop', name: 'new' },
      spec: {
        selector: { matchLabels: { app: 'new' } },
        template: { metadata: { labels: { app: 'new' } }, spec: { containers: [{ ports: [{ containerPort: 80 }] }] } },
      },
    };
    const json = withFile('new.json', [deployment], '--no-external', '-o', 'json').stdout;
    const { sources } = MatrixDocument.parse(JSON.parse(json));
    assert.deepEqual(sources.find(({ name }) => name.startsWith('shop/new'))?.members, [
      { name: 'shop/new-1', addresses: [] },
      { name: 'shop/new-2', addresses: [] },
    ]);
    for (const format of ['table', 'csv', 'dot', 'yaml', 'html']) {
      const { stdout } = withFile('new.json', [deployment], '--no-external', '-o', format);
      assert.doesNotMatch(stdout, /\b0\.0\.0\.[1-9]/u, format);
      if (format === 'html') assert.match(stdout, /Pods that have no address yet/u);
    }
  });

  it('puts a namespace together where all of it is allowed over one family and not over the other', () => {
    const objects = [
      ...[1, 2].map((host) => ({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace: 'dual', name: `p${host}`, labels: { app: `p${host}` } },
        spec: { containers: [] },
        status: { phase: 'Running', podIPs: [{ ip: `10.3.0.${host}` }, { ip: `fd00::${host}` }] },
      })),
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace: 'front', name: 'door', labels: { app: 'door' } },
        spec: { containers: [{ ports: [{ containerPort: 443 }] }] },
        status: { phase: 'Running', podIPs: [{ ip: '10.3.1.1' }, { ip: 'fd00::1:1' }] },
      },
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { namespace: 'front', name: 'door' },
        spec: { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }] },
      },
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { namespace: 'dual', name: 'p1' },
        spec: { podSelector: { matchLabels: { app: 'p1' } } },
      },
    ];
    const { stdout } = withFile('dual.json', objects, '--from', 'dual', '--to', 'front');
    assert.equal(
      stdout,
      'front/door\n  443/TCP  allowed  dual/* (2 pods) (IPv4)\n           denied   dual/* (2 pods) (IPv6)\n\n4 flows: 2 allowed, 2 denied\n',
    );
  });

  it('asks an address about every port, unless one is named', () => {
    assert.equal(
      sluice('--from', 'shop/db', '--to', '198.51.100.7').stdout.split('\n\n')[0],
      '198.51.100.7\n  443/TCP          allowed  shop/db\n  other TCP ports  denied   shop/db\n  any UDP port     denied   shop/db\n  any SCTP port    denied   shop/db',
    );
    assert.match(sluice('--from', 'shop/db', '--to', '198.51.100.7', '--port', '443').stdout, /443\/TCP {2}allowed {2}shop\/db/u);
  });

  it('is called wrongly with a name that nobody has, and with a format that there is not', () => {
    const { status, stderr } = sluice('--from', 'shpo');
    assert.deepEqual([status, stderr], [2, 'sluice: "shpo" is no namespace with pods\nDid you mean shop?\n']);
    assert.equal(sluice('-o', 'pdf').status, 2);
  });
});
