import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { DiffDocument } from '../../../src/commands/diff-document.ts';
import { portsText } from '../../../src/commands/diff-report.ts';

const PROGRAM = join(import.meta.dirname, '../../../bin/sluice.js');

/** shop: web and db; dev: shell; all of IPv4, on one of two nodes. */
const CLUSTER = `\
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: dev}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {nodeName: n1, containers: [{ports: [{containerPort: 80}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db, labels: {app: db}}
spec: {nodeName: n1, containers: [{ports: [{containerPort: 5432, name: pg}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: dev, name: shell, labels: {app: shell}}
spec: {nodeName: n1, containers: [{}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.3}]}
`;

const DB = `\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: pg}]
`;

/** Pods of shop say nothing: of them nobody is another's source. */
const SILENCE = `\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: silence}
spec: {podSelector: {}, policyTypes: [Egress]}
`;

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

describe('sluice diff', () => {
  let directory: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-diff-'));
    mkdirSync(join(directory, 'now'));
    mkdirSync(join(directory, 'guarded'));
    mkdirSync(join(directory, 'change'));
    for (const state of ['now', 'guarded']) writeFileSync(join(directory, state, 'cluster.yaml'), CLUSTER);
    writeFileSync(join(directory, 'guarded', 'db.yaml'), DB);
    writeFileSync(join(directory, 'change', 'db.yaml'), DB);
  });

  after(() => rmSync(directory, { recursive: true }));

  function sluice(args: readonly string[], input = ''): Ran {
    const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, 'diff', ...args], {
      encoding: 'utf8',
      cwd: directory,
      input,
      env: { PATH: process.env['PATH'] },
    });
    return { status, stdout, stderr };
  }

  it('says what becomes denied, to whom, on which ports, and by which policy', () => {
    assert.deepEqual(sluice(['--source', 'now', '-f', 'change']), {
      status: 0,
      stderr: '',
      stdout: `\
+ NetworkPolicy shop/db created

isolated for ingress from now on, by shop/db:
  shop/db

becomes denied: every port and protocol
  from    dev/shell, outside
  to      shop/db
  because ingress: isolated by shop/db, which does not admit it

becomes denied: every TCP port but 5432; every UDP and SCTP port; ICMP; other protocols
  from    shop/web
  to      shop/db
  because ingress: isolated by shop/db, which does not admit it

`,
    });
  });

  it('says what becomes allowed where policies are deleted', () => {
    const { status, stdout } = sluice(['--source', 'guarded', '-f', 'change/db.yaml', '--delete']);
    assert.equal(status, 0);
    assert.equal(
      stdout,
      `\
- NetworkPolicy shop/db deleted

no longer isolated for ingress (was by shop/db):
  shop/db

becomes allowed: every port and protocol
  from    dev/shell, outside
  to      shop/db
  because ingress: no policy isolates it any more

becomes allowed: every TCP port but 5432; every UDP and SCTP port; ICMP; other protocols
  from    shop/web
  to      shop/db
  because ingress: no policy isolates it any more

`,
    );
  });

  it('says that nothing changes where the same is there already, or what is to be deleted is not', () => {
    const same = '  NetworkPolicy shop/db unchanged\n\nNo connection becomes allowed or denied.\n';
    assert.deepEqual(sluice(['--source', 'guarded', '-f', 'change', '--fail-on', 'any']), { status: 0, stdout: same, stderr: '' });
    const absent = '  NetworkPolicy shop/db is not there\n\nNo connection becomes allowed or denied.\n';
    assert.deepEqual(sluice(['--source', 'now', '-f', 'change', '--delete', '--fail-on', 'any']), {
      status: 0,
      stdout: absent,
      stderr: '',
    });
  });

  it('replaces a policy, and tells apart what it denies and what it allows', () => {
    // Instead of web, shell of another namespace; on every port.
    const other = DB.replace(
      'podSelector: {matchLabels: {app: web}}',
      'namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: dev}}',
    ).replace('    ports: [{port: pg}]\n', '');
    const { stdout } = sluice(['--source', 'guarded', '-f', '-'], other);
    assert.equal(
      stdout,
      `\
~ NetworkPolicy shop/db configured

becomes denied: 5432/TCP
  from    shop/web
  to      shop/db
  because ingress: isolated by shop/db, which does not admit it

becomes allowed: every port and protocol
  from    dev/shell
  to      shop/db
  because ingress: shop/db admits it (spec.ingress[0].from[0])

`,
    );
  });

  it('takes in labels of namespaces and pods', () => {
    const policy = DB.replace('podSelector: {matchLabels: {app: web}}', 'namespaceSelector: {matchLabels: {team: dev}}');
    mkdirSync(join(directory, 'labels'));
    writeFileSync(join(directory, 'labels', 'cluster.yaml'), `${CLUSTER}---\n${policy}`);
    const { stdout } = sluice(
      ['--source', 'labels', '-f', '-'],
      'apiVersion: v1\nkind: Namespace\nmetadata: {name: dev, labels: {team: dev}}\n',
    );
    assert.match(stdout, /^~ Namespace dev configured\n\nbecomes allowed: 5432\/TCP\n {2}from {4}dev\/shell\n {2}to {6}shop\/db\n/u);
  });

  it('leaves a pod and a node their addresses, which whoever applies them does not say', () => {
    const policy = DB.replace('app: web', 'role: client');
    mkdirSync(join(directory, 'roles'));
    writeFileSync(join(directory, 'roles', 'cluster.yaml'), `${CLUSTER}---\n${policy}`);
    const written = `\
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web, role: client}}
spec: {containers: [{ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: a}}
`;
    assert.equal(
      sluice(['--source', 'roles', '-f', '-'], written).stdout,
      `\
~ Pod shop/web configured
  Node n1 unchanged

becomes allowed: 5432/TCP
  from    shop/web
  to      shop/db
  because ingress: shop/db admits it (spec.ingress[0].from[0], spec.ingress[0].ports[0])

`,
    );
  });

  it('looks at every address of a node', () => {
    const external = CLUSTER.replace('address: 192.168.0.1}', 'address: 192.168.0.1}, {type: ExternalIP, address: 203.0.113.1}').replace(
      'nodeName: n1, containers: [{ports: [{containerPort: 5432',
      'nodeName: n2, containers: [{ports: [{containerPort: 5432',
    );
    mkdirSync(join(directory, 'external'));
    writeFileSync(join(directory, 'external', 'cluster.yaml'), `${external}---\n${DB}`);
    const change = DB.replace(
      'podSelector: {matchLabels: {app: web}}',
      'podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 203.0.113.1/32}',
    );
    const { status, stdout } = sluice(['--source', 'external', '-f', '-', '--fail-on', 'allowed'], change);
    assert.deepEqual(
      [status, stdout],
      [
        1,
        `\
~ NetworkPolicy shop/db configured

becomes allowed: 5432/TCP
  from    node/n1 at 203.0.113.1
  to      shop/db
  because ingress: shop/db admits it (spec.ingress[0].from[1], spec.ingress[0].ports[0])

`,
      ],
    );
  });

  it('puts ports together that policies cut differently', () => {
    const guard = (name: string, ports: string): string => `\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: ${name}}
spec: {podSelector: {matchLabels: {app: ${name}}}, ingress: [{ports: [${ports}]}]}
`;
    const policies = `${guard('web', '{port: 1, endPort: 99}')}---\n${guard('db', '{port: 1, endPort: 50}, {port: 51, endPort: 99}')}`;
    mkdirSync(join(directory, 'cut'));
    writeFileSync(join(directory, 'cut', 'cluster.yaml'), `${CLUSTER}---\n${policies}---\n${SILENCE}`);
    const { stdout } = sluice(['--source', 'cut', '-f', '-', '--delete'], policies);
    assert.equal(stdout.match(/^becomes/gmu)?.length, 1, stdout);
    assert.match(stdout, /^ {2}to {6}shop\/\* \(2 pods\)$/mu);
  });

  it('keeps to the width, however many ports and policies there are', () => {
    const ports = Array.from({ length: 60 }, (_, index) => `{port: ${1000 + 2 * index}}`).join(', ');
    const policies = Array.from({ length: 40 }, (_, index) =>
      DB.replace('name: db', `name: db-${index}`).replace('{port: pg}', ports),
    ).join('---\n');
    const { stdout } = sluice(['--source', 'now', '-f', '-'], policies);
    assert.match(stdout, /isolated for ingress from now on, by shop\/db-0, [^:]*\n {4}and 35 more:\n/u);
    assert.match(stdout, /^becomes denied: every TCP port but 1000,1002,[\d,]*,\n {16}1026,/mu);
    assert.deepEqual(
      stdout.split('\n').filter((line) => line.length > 100),
      [],
    );
  });

  it('says once that a kind changes nothing', () => {
    mkdirSync(join(directory, 'kinds'));
    for (const name of ['a', 'b']) {
      const other = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, namespace: shop}\n`;
      writeFileSync(join(directory, 'kinds', `${name}.yaml`), `${other}---\n${DB.replace('name: db', `name: ${name}`)}`);
    }
    assert.equal(
      sluice(['--source', 'now', '-f', 'kinds']).stderr,
      'kinds/a.yaml:1: notice: ConfigMap (v1) changes nothing, here or in later files: only Pod, Namespace, Node and NetworkPolicy are looked at [KIND_PASSED_OVER]\n',
    );
  });

  it('fails on what it is told to fail on', () => {
    const status = (failOn: string, ...args: string[]): number | null =>
      sluice(['--source', 'now', '-f', 'change', '--fail-on', failOn, ...args]).status;
    assert.deepEqual([status('denied'), status('allowed'), status('any')], [1, 0, 1]);
    const deleted = (failOn: string): number | null =>
      sluice(['--source', 'guarded', '-f', 'change', '--delete', '--fail-on', failOn]).status;
    assert.deepEqual([deleted('denied'), deleted('allowed'), deleted('any')], [0, 1, 1]);
  });

  it('is a document of its schema, the same as JSON and as YAML', () => {
    const { stdout } = sluice(['--source', 'now', '-f', 'change', '-o', 'json']);
    const document = DiffDocument.parse(JSON.parse(stdout));
    assert.deepEqual(parse(sluice(['--source', 'now', '-f', 'change', '-o', 'yaml']).stdout), JSON.parse(stdout));
    assert.deepEqual(document, {
      apiVersion: 'sluice.dev/v1',
      kind: 'Difference',
      origin: 'the directory now',
      objects: [{ change: 'created', kind: 'NetworkPolicy', name: 'shop/db' }],
      changes: [
        {
          becomes: 'denied',
          sources: [
            { name: 'dev/shell', kind: 'pod', members: ['dev/shell'] },
            { name: 'outside', kind: 'outside', members: ['outside'] },
          ],
          destinations: [{ name: 'shop/db', kind: 'pod', members: ['shop/db'] }],
          families: [4],
          ports: [
            ...(['TCP', 'UDP', 'SCTP'] as const).map((protocol) => ({ protocol, ranges: [{ port: 0, endPort: 65_535 }] })),
            { protocol: 'ICMP', ranges: [] },
            { protocol: 'other', ranges: [] },
          ],
          turns: [
            {
              direction: 'ingress',
              before: { allowed: true, reason: 'not-isolated' },
              after: { allowed: false, reason: 'refused', policies: ['shop/db'] },
            },
          ],
        },
        {
          becomes: 'denied',
          sources: [{ name: 'shop/web', kind: 'pod', members: ['shop/web'] }],
          destinations: [{ name: 'shop/db', kind: 'pod', members: ['shop/db'] }],
          families: [4],
          ports: [
            {
              protocol: 'TCP',
              ranges: [
                { port: 0, endPort: 5431 },
                { port: 5433, endPort: 65_535 },
              ],
            },
            { protocol: 'UDP', ranges: [{ port: 0, endPort: 65_535 }] },
            { protocol: 'SCTP', ranges: [{ port: 0, endPort: 65_535 }] },
            { protocol: 'ICMP', ranges: [] },
            { protocol: 'other', ranges: [] },
          ],
          turns: [
            {
              direction: 'ingress',
              before: { allowed: true, reason: 'not-isolated' },
              after: { allowed: false, reason: 'refused', policies: ['shop/db'] },
            },
          ],
        },
      ],
      isolation: [
        {
          direction: 'ingress',
          becomes: 'isolated',
          pods: [{ name: 'shop/db', kind: 'pod', members: ['shop/db'] }],
          policies: ['shop/db'],
        },
      ],
      missing: [],
    });
  });

  it('puts what names no namespace where it is told to, and says so', () => {
    const without = DB.replace('namespace: shop, ', '');
    const { stdout, stderr } = sluice(['--source', 'now', '-f', '-', '-n', 'shop'], without);
    assert.match(stdout, /^\+ NetworkPolicy shop\/db created/u);
    assert.equal(stderr, 'NetworkPolicy shop/db: names no namespace, and is taken to be in shop (-n)\n');
    const elsewhere = sluice(['--source', 'now', '-f', '-'], without);
    assert.match(elsewhere.stdout, /^\+ NetworkPolicy default\/db created\n\nNo connection/u);
    assert.match(elsewhere.stderr, /there is no namespace default, and no pod in it: its policies change nothing\n$/u);
  });

  for (const [what, change, stderr] of [
    [
      'an object that the API would refuse, with its place',
      DB.replace('port: pg', 'port: 70000'),
      /^standard input:8: error: NetworkPolicy shop\/db: spec\.ingress\[0\]\.ports\[0\]\.port: .*\[PORT_INVALID\]\nsluice: this cannot be applied as it is: 1 error, listed above\n/u,
    ],
    ['what is no YAML', 'a: [', /^standard input:1: error: .*\[SYNTAX_INVALID\]\n/u],
    ['an object twice', `${DB}---\n${DB}`, /error: NetworkPolicy shop\/db: the object is in the files more than once/u],
  ] as const) {
    it(`does not answer about ${what}`, () => {
      const ran = sluice(['--source', 'now', '-f', '-'], change);
      assert.deepEqual([ran.status, ran.stdout], [1, '']);
      assert.match(ran.stderr, stderr);
    });
  }

  for (const [what, args, input, stderr] of [
    [
      'a file that is not there',
      ['-f', 'nowhere.yaml'],
      '',
      /^sluice: nowhere\.yaml cannot be read: there is no such file or directory\n/u,
    ],
    ['files without an object', ['-f', '-'], '', /^sluice: there is no object in - that could change a connection\n/u],
    ['nothing to compare with', [], '', /required option '-f, --filename <path>'/u],
    [
      'a pod that is to be deleted',
      ['-f', '-', '--delete'],
      'apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {}\n',
      /^sluice: Pod shop\/web is to be deleted, and only policies can be\n/u,
    ],
  ] as const) {
    it(`is called wrongly with ${what}`, () => {
      const ran = sluice(['--source', 'now', ...args], input);
      assert.deepEqual([ran.status, ran.stdout], [2, '']);
      assert.match(ran.stderr, stderr);
    });
  }

  it('names ports as people do', () => {
    const ranges = (...pairs: readonly [number, number][]) => pairs.map(([first, last]) => ({ first, last }));
    assert.equal(portsText([{ protocol: 'TCP', ranges: ranges([80, 80], [1000, 2000]) }]), '80,1000-2000/TCP');
    assert.equal(portsText([{ protocol: 'UDP', ranges: ranges([0, 52], [54, 65_535]) }]), 'every UDP port but 53');
    assert.equal(
      portsText([
        { protocol: 'TCP', ranges: ranges([0, 65_535]) },
        { protocol: 'ICMP', ranges: [] },
      ]),
      'every TCP port; ICMP',
    );
  });
});
