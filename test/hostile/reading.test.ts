/** What it costs to read one object of a tenant, and what others' objects cost beside a tenant's; and objects of no shape that anybody expects. No kernel. */
import assert from 'node:assert/strict';
import { Cluster } from '../../src/cluster/cluster.ts';
import { type ObjectKind, project } from '../../src/kubernetes/projections.ts';
import { Sharing } from '../../src/kubernetes/sharing.ts';
import { NodeRuleset } from '../../src/ruleset/node-ruleset.ts';
import type { SourceEvent } from '../../src/sources/source.ts';
import { type ApiObject, Dice } from '../random/cluster.ts';
import { upsertOf } from '../random/events.ts';
import { ipv4 } from './generator/texts.ts';
import { size } from './support/hostile-size.ts';

const times = <T>(count: number, of: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => of(index));
/** CPU of one object that is read: others wait for it. */
const READ_MS = size(600, 150);
/** CPU of one pod of somebody else, beside the policies of a tenant. */
const STRANGER_MS = size(20, 5);
/** Each severity has so many problems told, and one that says how many there are more. */
const TOLD = 2 * 21;

function policy(name: string, spec: Readonly<Record<string, unknown>>): ApiObject {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { namespace: 'tenant', name }, spec };
}

function pod(
  name: string,
  namespace: string,
  address: string,
  node: string,
  labels: Readonly<Record<string, string>>,
  ports: readonly object[] = [],
): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, uid: `${namespace}/${name}`, labels },
    spec: { nodeName: node, containers: [{ name: 'main', ports }] },
    status: { phase: 'Running', podIPs: [{ ip: address }] },
  };
}

/** CPU milliseconds. */
function cpuOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

const exceptions = (count: number, of: (index: number) => string): ApiObject =>
  policy('x', { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except: times(count, of) } }] }] });
const ofPorts = (count: number, isNamed: boolean): ApiObject =>
  pod(
    'x',
    'tenant',
    '10.0.0.1',
    'n',
    {},
    times(count, (i) => ({ containerPort: i + 1, protocol: 'TCP', ...(isNamed ? { name: `p${i}` } : {}) })),
  );

describe('reading one object', function () {
  this.timeout(120_000);

  for (const [what, object] of [
    ['65,000 exceptions with host bits', () => exceptions(65_000, () => '9.9.9.9/8')],
    ['130,000 exceptions with host bits', () => exceptions(130_000, () => '9.9.9.9/8')],
    ['65,000 exceptions with host bits and leading zeros', () => exceptions(65_000, () => '09.9.9.9/8')],
    ['90,000 distinct exceptions', () => exceptions(90_000, (i) => `${ipv4(0x0100_0001 + i * 256)}/32`)],
    [
      '19,000 distinct exceptions of IPv6',
      () =>
        policy('x', {
          ingress: [{ from: [{ ipBlock: { cidr: '::/0', except: times(19_000, (i) => `2001:db8:${i.toString(16)}::/64`) } }] }],
        }),
    ],
    [
      '60,000 peers with host bits',
      () => policy('x', { podSelector: {}, ingress: [{ from: times(60_000, () => ({ ipBlock: { cidr: '9.9.9.9/8' } })) }] }),
    ],
    ['a pod with 60,000 ports', () => ofPorts(60_000, false)],
    ['a pod with 60,000 named ports', () => ofPorts(60_000, true)],
    ['a pod with 30,000 labels', () => pod('x', 'tenant', '10.0.0.1', 'n', Object.fromEntries(times(30_000, (i) => [`k${i}`, 'v'])))],
    [
      'a selector with 60,000 values',
      () => policy('x', { podSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: times(60_000, (i) => `v${i}`) }] } }),
    ],
    [
      'a selector with 30,000 expressions',
      () => policy('x', { podSelector: { matchExpressions: times(30_000, (i) => ({ key: `k${i}`, operator: 'Exists' })) } }),
    ],
    ['130,000 empty rules', () => policy('x', { podSelector: {}, egress: times(130_000, () => ({})), policyTypes: ['Egress'] })],
    [
      '100,000 ports in a rule',
      () => policy('x', { podSelector: {}, ingress: [{ ports: times(100_000, (i) => ({ port: (i % 65_535) + 1 })) }] }),
    ],
  ] as const) {
    it(`of ${what} costs a bounded time, and tells of a bounded number of problems`, () => {
      const { kind, ...value } = object();
      let read: ReturnType<typeof project> | undefined;
      // The least of some tries is what it takes when nothing else is going on.
      const ms = Math.min(...times(3, () => cpuOf(() => (read = project(kind, value, new Sharing())))));
      assert.ok(read?.object !== undefined);
      assert.ok(read.problems.length <= TOLD, `${read.problems.length} problems`);
      assert.ok(ms < READ_MS, `${Math.round(ms)} ms`);
    });
  }
});

describe('a pod of somebody else', function () {
  this.timeout(120_000);
  const peers = (count: number, of: (index: number) => object): ApiObject['spec'] => ({
    podSelector: {},
    ingress: [{ from: times(count, of) }],
  });
  const notIn = (key: string) => (i: number) => ({
    podSelector: { matchExpressions: [{ key, operator: 'NotIn', values: [`v${i}`] }] },
    namespaceSelector: {},
  });

  for (const [what, policies] of [
    [
      '900 selectors for everybody in each of nine policies',
      () => times(9, (j) => policy(`p${j}`, peers(900, notIn(`x${j}`)) as ApiObject)),
    ],
    [
      '1,000 policies with a namespaceSelector each',
      () =>
        times(1_000, (i) =>
          policy(
            `p${i}`,
            peers(1, () => ({ namespaceSelector: { matchExpressions: [{ key: `k${i}`, operator: 'DoesNotExist' }] } })) as ApiObject,
          ),
        ),
    ],
    [
      'ten selectors of 19,000 values each',
      () =>
        times(10, (j) =>
          policy(
            `p${j}`,
            peers(1, () => ({
              podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: times(19_000, (i) => `v${j}-${i}`) }] },
              namespaceSelector: {},
            })) as ApiObject,
          ),
        ),
    ],
  ] as const) {
    it(`costs a bounded time beside ${what}`, () => {
      const cluster = new Cluster('n');
      const ruleset = new NodeRuleset(cluster);
      const apply = (events: readonly SourceEvent[]): void => void ruleset.update(cluster.apply(events));
      apply([
        upsertOf(pod('local', 'tenant', '10.244.0.2', 'n', { app: 'pod' })),
        ...times(200, (i) => upsertOf(pod(`s${i}`, 'stranger', ipv4(0x0a5a_0000 + i), 'other', { app: `a${i}` }))),
        ...policies().map((each) => upsertOf(each)),
      ]);
      while (ruleset.preparing) apply([]);
      const costs = times(50, (i) =>
        cpuOf(() => apply([upsertOf(pod(`new${i}`, 'stranger', ipv4(0x0a5b_0000 + i), 'other', { app: `new${i}` }))])),
      );
      const median = costs.sort((a, b) => a - b)[25] ?? Number.NaN;
      assert.ok(median < STRANGER_MS, `${median.toFixed(1)} ms`);
    });
  }
});

const WORDS = [
  'spec',
  'status',
  'metadata',
  'labels',
  'name',
  'namespace',
  'ingress',
  'egress',
  'from',
  'to',
  'ports',
  'port',
  'endPort',
  'protocol',
  'podSelector',
  'namespaceSelector',
  'ipBlock',
  'cidr',
  'except',
  'matchLabels',
  'matchExpressions',
  'key',
  'operator',
  'values',
  'policyTypes',
  'podIP',
  'podIPs',
  'ip',
  'phase',
  'containers',
  'containerPort',
  'nodeName',
  'hostNetwork',
  'uid',
  'creationTimestamp',
  'addresses',
  'podCIDRs',
  'annotations',
  '__proto__',
  'constructor',
  'toString',
  'sluice.dev/mode',
];
const SCALARS: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1e308,
  80,
  65_535,
  65_536,
  1.5,
  '',
  'a',
  'TCP',
  'In',
  'NotIn',
  'Ingress',
  '10.0.0.0/8',
  '::/0',
  '0.0.0.0/0',
  '1.2.3.4',
  '10.0.0.1/33',
  '\u0000',
  '\ud800',
  'x'.repeat(300),
  '2025-01-01T00:00:00Z',
  '9999-99-99T99:99:99Z',
  '__proto__',
  '010.1.1.1/08',
  '/',
  '1/',
  '::ffff:1.2.3.4/120',
];
const SHAPES: readonly (readonly [ObjectKind, unknown])[] = [
  ['Pod', pod('a', 'b', '1.2.3.4', 'n', { a: 'b' }, [{ name: 'x', containerPort: 80, protocol: 'TCP' }])],
  ['Namespace', { metadata: { name: 'a', labels: { a: 'b' }, annotations: { 'sluice.dev/mode': 'audit' } } }],
  [
    'Node',
    {
      metadata: { name: 'a' },
      spec: { podCIDR: '10.0.0.0/24', podCIDRs: ['10.0.0.0/24'] },
      status: { addresses: [{ type: 'InternalIP', address: '1.2.3.4' }] },
    },
  ],
  [
    'NetworkPolicy',
    policy('a', {
      podSelector: { matchLabels: { a: 'b' }, matchExpressions: [{ key: 'a', operator: 'In', values: ['b'] }] },
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        {
          from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }, { podSelector: {}, namespaceSelector: {} }],
          ports: [{ port: 80, endPort: 90, protocol: 'TCP' }, { port: 'http' }],
        },
      ],
      egress: [{}],
    }),
  ],
];

function anything(dice: Dice, depth: number): unknown {
  const kind = dice.roll(10);
  if (depth <= 0 || kind < 3) return dice.pick(SCALARS);
  if (kind < 5) return times(dice.roll(4), () => anything(dice, depth - 1));
  const object = {};
  // A key of any name becomes the object's own.
  for (let n = dice.roll(6); n > 0; n--)
    Object.defineProperty(object, dice.pick(WORDS), { value: anything(dice, depth - 1), enumerable: true, configurable: true });
  return object;
}

function mutated(dice: Dice, value: unknown): unknown {
  if (dice.roll(12) === 0) return anything(dice, 3);
  if (Array.isArray(value)) return value.map((each) => mutated(dice, each));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(() => dice.roll(20) !== 0);
  return Object.fromEntries(entries.map(([key, each]) => [dice.roll(30) === 0 ? dice.pick(WORDS) : key, mutated(dice, each)]));
}

describe('objects of no shape that anybody expects', () => {
  it('are read or refused, and make the code throw nowhere', function () {
    this.timeout(120_000);
    const seed = Number(process.env['SLUICE_HOSTILE_SEED'] ?? Date.now() % 1_000_000);
    const dice = new Dice(seed);
    const sharing = new Sharing();
    let read = 0;
    for (let n = 0; n < size(20_000, 400_000); n++) {
      const [kind, shape] = dice.pick(SHAPES);
      const value = dice.roll(4) === 0 ? anything(dice, 5) : mutated(dice, shape);
      const { object, problems } = project(kind, value, sharing);
      if (object !== undefined) read++;
      const fault = problems.find(({ code }) => code === 'OBJECT_FAULT');
      assert.equal(fault, undefined, `seed ${seed}, object ${n}: ${kind} ${JSON.stringify(value)}: ${fault?.message}`);
    }
    assert.ok(read > 0);
  });
});
