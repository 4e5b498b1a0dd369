import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MatrixDocument } from '../../../src/commands/matrix-document.ts';
import { parseAddress } from '../../../src/policy/address.ts';
import { nameGroups, type Party } from '../../../src/policy/equivalence-parties.ts';

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

  it('prints a graph that graphviz takes', function () {
    const { status, error, stderr } = spawnSync('dot', ['-Tplain'], { input: sluice('-o', 'dot').stdout, encoding: 'utf8' });
    if (error !== undefined) this.skip();
    assert.equal(status, 0, stderr);
  });

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
