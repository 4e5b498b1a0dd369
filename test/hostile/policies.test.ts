/** Policies and pods of a tenant who means ill, each as large as it may be, beside a bystander on the same node. */
import assert from 'node:assert/strict';
import { podObject, policyObject, type KubernetesObject } from '../kernel/support/objects.ts';
import { ipv4 } from './generator/texts.ts';
import { HostileLab, NODE } from './support/hostile-lab.ts';
import { IS_ALL, size } from './support/hostile-size.ts';

const TENANT = 'tenant';
const times = <T>(count: number, of: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => of(index));

function policy(name: string, spec: Readonly<Record<string, unknown>>): KubernetesObject {
  return policyObject(TENANT, name, spec);
}

/** One without a network namespace: its rules are made all the same. */
function pod(
  index: number,
  fields: { readonly labels?: Record<string, string>; readonly ports?: readonly object[]; readonly node?: string } = {},
): KubernetesObject {
  const { labels = { app: 'pod' }, ports = [], node = 'elsewhere' } = fields;
  const object = podObject(
    { namespace: TENANT, name: `p${index}`, node, addresses: [], hostNetwork: false },
    { labels, addresses: [ipv4(0x0af5_0000 + index)] },
  );
  return { ...object, spec: { nodeName: node, containers: [{ name: 'main', ports }] } };
}

const noneOf = (index: number): object => ({ podSelector: { matchExpressions: [{ key: 'x', operator: 'NotIn', values: [`v${index}`] }] } });
const block = (cidr: string): object => ({ ipBlock: { cidr } });

interface Case {
  readonly what: string;
  readonly objects: () => readonly KubernetesObject[];
  /** Only where all is played: it takes long. */
  readonly long?: boolean;
  /** What tenant/pod is closed for; undefined: what the evaluator says is enough. */
  readonly closes?: 'ingress' | 'egress';
}

const CASES: readonly Case[] = [
  ...([true, false] as const).map(
    (isIngress): Case => ({
      what: `one rule of 300 selectors times 300 named ports, ${isIngress ? 'ingress' : 'egress'}`,
      closes: isIngress ? 'ingress' : 'egress',
      long: !isIngress,
      objects: () => {
        const [peers, ports] = [
          times(300, (i) => ({ podSelector: { matchLabels: { k: `v${i}` } } })),
          times(300, (i) => ({ port: `p${i}` })),
        ];
        return [
          policy('rules', isIngress ? { ingress: [{ from: peers, ports }] } : { policyTypes: ['Egress'], egress: [{ to: peers, ports }] }),
        ];
      },
    }),
  ),
  ...(
    [
      [2_000, 50],
      [16_000, 20],
    ] as const
  ).map(
    ([selectors, pods]): Case => ({
      what: `${selectors} distinct selectors that each match ${pods} pods`,
      long: selectors === 2_000,
      objects: () => [
        ...times(pods, (i) => pod(i, { node: i === 0 ? NODE : 'elsewhere' })),
        policy('many', { ingress: [{ from: times(selectors, noneOf) }] }),
      ],
    }),
  ),
  ...(
    [
      [size(1_000, 10_000), 1],
      [1_000, 50],
    ] as const
  ).map(
    ([policies, pods]): Case => ({
      what: `${policies} policies that all select the same ${pods} pods`,
      long: pods > 1,
      objects: () => [
        ...times(pods, (i) => pod(i, { node: NODE })),
        ...times(policies, (i) => {
          const rules = [{ ports: [{ port: 1 + (i % 60_000) }] }];
          return policy(`p${i}`, { policyTypes: ['Ingress', 'Egress'], ingress: rules, egress: rules });
        }),
      ],
    }),
  ),
  {
    what: 'ends of the spaces of addresses and ports',
    long: true,
    objects: () => [
      policy('ends', {
        ingress: [
          {
            from: [
              '0.0.0.0/0',
              '0.0.0.0/32',
              '255.255.255.255/32',
              '0.0.0.0/1',
              '128.0.0.0/1',
              '::/0',
              '::/128',
              'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128',
              '8000::/1',
              '::/1',
              '255.255.255.254/31',
            ].map(block),
            ports: [{ port: 1 }, { port: 65_535 }, { port: 1, endPort: 65_535 }],
          },
        ],
      }),
      policy('exceptions', {
        ingress: [
          {
            from: [
              { ipBlock: { cidr: '0.0.0.0/0', except: ['0.0.0.0/32', '255.255.255.255/32'] } },
              { ipBlock: { cidr: '0.0.0.0/0', except: ['0.0.0.0/1', '128.0.0.0/2'] } },
              { ipBlock: { cidr: '::/0', except: ['::/128', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128'] } },
            ],
            ports: [{ port: 1 }, { port: 65_535 }, { port: 65_534, protocol: 'UDP' }],
          },
        ],
      }),
      policy('addresses', { ingress: [{ from: times(40, (i) => block(`${i % 2 === 0 ? 255 : 0}.0.0.${i}/32`)) }] }),
      policy('protocols', {
        ingress: [
          {
            ports: [
              {},
              { port: 65_535 },
              { port: 1 },
              { protocol: 'SCTP' },
              { protocol: 'UDP', port: 65_000, endPort: 65_535 },
              { protocol: 'UDP', port: 1 },
            ],
          },
        ],
      }),
    ],
  },
  {
    what: 'names of 253 characters, and keys of labels as long',
    long: true,
    objects: () =>
      times(300, (i) =>
        policy([...[63, 63, 63, 50].map((length, at) => 'xyzw'.charAt(at).repeat(length)), String(i).padStart(10, '0')].join('.'), {
          ingress: [
            {
              from: [{ podSelector: { matchLabels: { [`${'a'.repeat(200)}.example/${'k'.repeat(63)}`]: `${'v'.repeat(62)}${i % 10}` } } }],
              ports: [{ port: 'a-very-long-nam' }],
            },
          ],
        }),
      ),
  },
  {
    what: 'names that mean something to programs',
    objects: () => [
      ...[
        'constructor',
        'tostring',
        'hasownproperty',
        'valueof',
        '0',
        '1e3',
        'null',
        'true',
        'a.b',
        'ingress',
        'egress',
        'policy',
        'xn--nxasmq6b',
      ].map((name) =>
        policy(name, {
          podSelector: {
            matchExpressions: [
              { key: 'constructor', operator: 'DoesNotExist' },
              { key: 'toString', operator: 'DoesNotExist' },
              { key: 'hasOwnProperty', operator: 'NotIn', values: ['valueOf'] },
            ],
          },
          ingress: [
            {
              from: [{ podSelector: { matchLabels: { constructor: 'constructor' } } }],
              ports: [{ port: 'constructor' }, { port: 'valueof' }],
            },
          ],
        }),
      ),
      pod(1, { node: NODE, labels: { constructor: 'constructor', valueOf: 'x' }, ports: [{ name: 'constructor', containerPort: 80 }] }),
    ],
  },
  {
    what: '90,000 exceptions of one block',
    long: true,
    closes: 'ingress',
    objects: () => [
      policy('exceptions', {
        ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except: times(90_000, (i) => `${ipv4(0x0100_0001 + i * 256)}/32`) } }] }],
      }),
    ],
  },
  {
    what: '100,000 blocks in 100 policies',
    long: true,
    closes: 'ingress',
    objects: () =>
      times(100, (j) =>
        policy(`b${j}`, { ingress: [{ from: times(1_000, (i) => block(`${20 + j}.${(i >> 8) & 255}.${i & 255}.0/25`)) }] }),
      ),
  },
  {
    what: '1,000 rules with 16 blocks each',
    closes: 'ingress',
    objects: () => [
      policy('b', {
        ingress: times(1_000, (rule) => ({ from: times(16, (i) => block(`${20 + (rule % 100)}.${Math.floor(rule / 100)}.${i}.0/25`)) })),
      }),
    ],
  },
  {
    what: '5,000 rules with five ports each',
    long: true,
    objects: () => [
      policy('b', { ingress: times(5_000, (rule) => ({ ports: times(5, (i) => ({ port: 1 + ((rule * 7 + i * 13) % 65_000) })) })) }),
    ],
  },
  {
    what: '10,000 numbers of one name, and 50 selectors',
    closes: 'egress',
    objects: () => [
      pod(5, { node: NODE, ports: times(10_000, (i) => ({ name: 'p', containerPort: i + 1 })) }),
      policy('b', { policyTypes: ['Egress'], egress: [{ to: times(50, noneOf), ports: [{ port: 'p' }] }] }),
    ],
  },
  { what: '70,000 empty rules', long: true, objects: () => [policy('b', { ingress: times(70_000, () => ({})) })] },
  {
    what: '65,000 exceptions with host bits and leading zeros',
    long: true,
    objects: () => [policy('b', { ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except: times(65_000, () => '09.9.9.9/8') } }] }] })],
  },
  {
    what: '60,000 peers with host bits',
    long: true,
    objects: () => [policy('b', { ingress: [{ from: times(60_000, () => block('9.9.9.9/8')) }] })],
    closes: 'ingress',
  },
  {
    what: 'a selector of 60,000 values, and one of 30,000 expressions',
    long: true,
    objects: () => [
      policy('values', { podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: times(60_000, (i) => `v${i}`) }] } }),
      policy('expressions', { podSelector: { matchExpressions: times(30_000, (i) => ({ key: `k${i}`, operator: 'Exists' })) } }),
    ],
  },
  {
    what: 'pods with 60,000 ports',
    long: true,
    objects: () => times(5, (i) => pod(i, { node: NODE, ports: times(60_000, (port) => ({ name: `p${port}`, containerPort: port + 1 })) })),
  },
];

describe('beside a bystander', function () {
  this.timeout(240_000);
  let lab: HostileLab;

  before(async () => {
    lab = await HostileLab.create({});
    if (lab.withoutCgroup !== undefined) console.log(`      without a cgroup, which cannot be made here: ${lab.withoutCgroup}`);
  });
  after(() => lab?.close());
  afterEach(async function () {
    if (this.currentTest?.state !== 'failed') return;
    // What one case leaves is not the next one's.
    lab.erase();
    await lab.restart({ fresh: true });
  });

  for (const { what, objects, long = false, closes } of CASES) {
    if (long && !IS_ALL) continue;
    it(`harm nobody: ${what}`, async () => {
      const poison = objects();
      await lab.begin();
      lab.write(poison);
      await lab.changes(size(10, 100), 120_000);
      await lab.quiet();
      console.log(`        ${lab.assertUnharmed()}`);
      if (closes === 'ingress') await lab.cluster.expect('denied', { from: 'victim/client', to: 'tenant/pod' });
      if (closes === 'egress') await lab.cluster.expect('denied', { from: 'tenant/pod', to: 'victim/client' });
      await lab.cluster.expectAll([
        ['allowed', { from: 'victim/client', to: 'victim/server', protocols: ['TCP'] }],
        ['denied', { from: 'victim/client', to: 'victim/server', port: 81 }],
      ]);
      // A node that boots with it there: nothing is in the kernel yet.
      await lab.restart({ fresh: true });
      await lab.cluster.expect('denied', { from: 'victim/client', to: 'victim/server', port: 81 });
      console.log(`        started anew: ${lab.assertUnharmed()}`);
      await lab.begin();
      lab.erase();
      await lab.changes(5);
      await lab.quiet();
      await lab.cluster.expect('allowed', { from: 'victim/client', to: 'tenant/pod' }, { from: 'tenant/pod', to: 'victim/client' });
      console.log(`        when it goes: ${lab.assertUnharmed()}`);
      assert.ok(lab.agent.status?.ready);
    });
  }
});
