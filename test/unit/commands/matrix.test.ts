import assert from 'node:assert/strict';
import { type Endpoint, selectEndpoints } from '../../../src/commands/matrix-endpoints.ts';
import { matrix, type MatrixRecord } from '../../../src/commands/matrix-records.ts';
import { matrixTable } from '../../../src/commands/matrix-table.ts';
import { SluiceError } from '../../../src/errors.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { plain } from '../../../src/output/colour.ts';
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
}

function pod(name: string, { ips = [], port, phase = 'Running', created = '2026-01-01T00:00:00Z', hostNetwork = false }: PodFields): Pod {
  const [namespace, own] = name.split('/');
  const ports = port === undefined ? [] : [{ containerPort: port }];
  const { object } = project(
    'Pod',
    {
      metadata: { namespace, name: own, labels: { app: own }, creationTimestamp: created },
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
  return selectEndpoints(of, pods, world([], pods)).endpoints.map(({ name }) => name);
}

function declared({ pod }: Endpoint): Pod['declaredPorts'] {
  return pod?.declaredPorts ?? [];
}

function records(policies: readonly Policy[], from: readonly string[] = [], to: readonly string[] = []): MatrixRecord[] {
  const cluster = world(policies);
  const { endpoints: sources } = selectEndpoints(from, PODS, cluster);
  return [...matrix(cluster, sources, selectEndpoints(to, PODS, cluster).endpoints, declared)];
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
    ['dev/something-else', 'Name namespace/pod, namespace/*, namespace or an address.'],
    ['a/b/c', 'Name namespace/pod, namespace/*, namespace or an address.'],
    ['10.0.0.300', 'Name namespace/pod, namespace/*, namespace or an address.'],
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
    const { endpoints, leftOut } = selectEndpoints([], pods, world([], pods));
    assert.deepEqual(
      endpoints.map(({ name }) => name),
      ['dev/newer', 'dev/agent'],
    );
    assert.deepEqual(
      leftOut.map(({ name }) => name),
      ['dev/pending', 'dev/older'],
    );
    assert.throws(() => names(['dev/done'], pods), /has ended/u);
  });
});

describe('a matrix', () => {
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
      toDb.map(({ source, allowed, ingress }) => [source, allowed, ingress.reason, ...ingress.policies]),
      [
        ['dev/web', false, 'refused', 'dev/db-from-api'],
        ['dev/api', true, 'admitted', 'dev/db-from-api'],
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
  function table(policies: readonly Policy[], width = 80): string[] {
    return [...matrixTable(records(policies), plain, width)].join('\n').split('\n');
  }

  it('groups sources by namespace, and leaves a pod and itself out', () => {
    assert.deepEqual(table([DB_FROM_API]).slice(6, 10), [
      'dev/db',
      '  5432/TCP  allowed  dev/api',
      '            denied   dev/web, prod/web',
      '',
    ]);
  });

  it('tells families apart where their verdicts differ', () => {
    const lines = table([WEB_V4]);
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
    assert.equal(table([DB_FROM_API]).at(-1), '21 flows: 19 allowed, 2 denied');
  });

  it('has one block for destinations that have the same verdicts', () => {
    const pods = ['a', 'b', 'c'].map((name, i) => pod(`dev/${name}`, { ips: [`10.0.0.${i + 1}`], port: 80 }));
    const cluster = world([interpretPolicy('dev', 'deny', { podSelector: {} })], pods);
    const { endpoints } = selectEndpoints([], pods, cluster);
    assert.deepEqual(
      [...matrixTable(matrix(cluster, endpoints, endpoints, declared), plain)],
      ['dev/a, dev/b, dev/c', '  80/TCP  denied   dev/* (2 pods)', '', '6 flows: 0 allowed, 6 denied'],
    );
  });

  it('fits the width that there is', () => {
    for (const line of table([DB_FROM_API, WEB_V4], 45)) assert.ok(line.length <= 45, line);
  });
});
