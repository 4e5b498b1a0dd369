/** The fields that can be long, deep, wide, many or odd, and how each is made so. What is drawn has to be valid for the API server. */
import type { ApiObject } from '../../random/cluster.ts';
import type { Draft } from './draft.ts';
import {
  dnsLabel,
  ENDS_OF_SPACE,
  ipv4,
  labels,
  labelText,
  longestKey,
  longestName,
  longText,
  MEANINGFUL_LABELS,
  MEANINGFUL_NAMES,
  oddBlock,
  oddIPv4,
  oddIPv6,
} from './texts.ts';

export interface HostileField {
  readonly name: string;
  /** Undefined: every kind. */
  readonly kinds?: readonly ApiObject['kind'][];
  readonly draw: (draft: Draft) => void;
}

const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const times = <T>(count: number, of: (index: number) => T): T[] =>
  Array.from({ length: Math.max(1, Math.floor(count)) }, (_, index) => of(index));

/** How many there are: mostly as many as fit, sometimes few. @param bytesEach of JSON */
function many({ dice, bytes }: Draft, bytesEach: number, most = Number.POSITIVE_INFINITY): number {
  const fit = Math.min(most, Math.floor(bytes / bytesEach));
  return Math.max(1, dice.pick([fit, fit, Math.floor(fit / 2), Math.floor(fit / 10), 200, 17, 16]));
}

// --- what every object has

export const METADATA_FIELDS: readonly HostileField[] = [
  { name: 'the longest name', kinds: ['NetworkPolicy', 'Pod'], draw: ({ dice, metadata }) => void (metadata.name = longestName(dice)) },
  { name: 'a name of 63 characters', kinds: ['Namespace'], draw: ({ dice, metadata }) => void (metadata.name = dnsLabel(dice, 63)) },
  {
    name: 'thousands of labels',
    draw: (draft) => {
      draft.metadata['labels'] = { ...asRecord(draft.metadata['labels']), ...labels(draft.dice, many(draft, 40), { keys: 8, values: 12 }) };
    },
  },
  {
    name: 'labels as long as they may be',
    draw: (draft) => {
      const entries = times(many(draft, 400), () => [longestKey(draft.dice), labelText(draft.dice, 63)]);
      draft.metadata['labels'] = { ...asRecord(draft.metadata['labels']), ...Object.fromEntries(entries) };
    },
  },
  {
    name: 'labels that are called as something of the language is',
    draw: ({ dice, metadata }) => {
      const entries = MEANINGFUL_LABELS.map((key) => [key, dice.pick([...MEANINGFUL_LABELS, ''])]);
      metadata['labels'] = { ...asRecord(metadata['labels']), ...Object.fromEntries(entries) };
    },
  },
  {
    name: 'annotations of 256 kB in one',
    // All keys and values together may be 256 KiB; a character of the text may be four bytes.
    draw: ({ dice, metadata }) =>
      void (metadata['annotations'] = { 'example.com/note': longText(dice, 60_000), plain: 'x'.repeat(20_000) }),
  },
  {
    name: 'annotations of 256 kB in thousands',
    draw: ({ dice, metadata }) =>
      void (metadata['annotations'] = Object.fromEntries(times(dice.pick([200, 12_000]), (index) => [`a${index}`, labelText(dice, 8)]))),
  },
  {
    name: 'thousands of finalizers',
    draw: (draft) => {
      if (draft.metadata['namespace'] === undefined) draft.metadata['finalizers'] = ['example.com/never'];
      else draft.metadata['finalizers'] = times(many(draft, 40, 5_000), (index) => `example.com/finalizer-${index}`);
    },
  },
  {
    name: 'thousands of owners',
    draw: (draft) =>
      void (draft.metadata['ownerReferences'] = times(many(draft, 140), (index) => ({
        apiVersion: 'example.com/v1',
        kind: 'Tenant',
        name: `owner-${index}`,
        uid: `uid-${index}`,
        blockOwnerDeletion: index % 2 === 0,
      }))),
  },
  {
    name: 'thousands of field managers',
    draw: (draft) =>
      void (draft.metadata['managedFields'] = times(many(draft, 220, 200), (index) => ({
        manager: `manager-${index}`,
        operation: 'Apply',
        apiVersion: 'v1',
        time: '2026-01-01T00:00:00Z',
        fieldsType: 'FieldsV1',
        fieldsV1: { 'f:metadata': { 'f:labels': { [`f:k${index}`]: {} } } },
      }))),
  },
];

// --- NetworkPolicy

type Fields = Record<string, unknown>;

function asRecord(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

/** Some rules of one direction, with which the policy is about that direction as well. */
function addRules({ dice, spec }: Draft, rules: (peersField: 'from' | 'to') => readonly Fields[]): void {
  const direction = dice.pick(['ingress', 'egress'] as const);
  const before = Array.isArray(spec[direction]) ? (spec[direction] as Fields[]) : [];
  spec[direction] = [...before, ...rules(direction === 'ingress' ? 'from' : 'to')];
  const type = direction === 'ingress' ? 'Ingress' : 'Egress';
  const types = (spec['policyTypes'] as string[] | undefined) ?? ['Ingress'];
  spec['policyTypes'] = types.includes(type) ? types : [...types, type];
}

/** A selector that is no other's. */
function selector({ dice }: Draft, index: number): Fields {
  return dice.pick<() => Fields>([
    () => ({ matchLabels: { app: `v${index}` } }),
    () => ({ matchExpressions: [{ key: 'app', operator: 'NotIn', values: [`v${index}`] }] }),
    () => ({ matchExpressions: [{ key: 'app', operator: 'In', values: ['pod', `v${index}`] }] }),
    () => ({ matchExpressions: [{ key: `k${index}`, operator: 'Exists' }] }),
    () => ({ matchExpressions: [{ key: `k${index}`, operator: 'DoesNotExist' }] }),
  ])();
}

function peer(draft: Draft, index: number): Fields {
  const { dice } = draft;
  return dice.pick<() => Fields>([
    () => ({ podSelector: selector(draft, index) }),
    () => ({ namespaceSelector: selector(draft, index) }),
    () => ({ podSelector: selector(draft, index), namespaceSelector: {} }),
    () => ({ podSelector: {}, namespaceSelector: selector(draft, index) }),
    () => ({ ipBlock: { cidr: `${ipv4(dice.roll(2 ** 32))}/${dice.pick([8, 16, 24, 32])}` } }),
    () => ({ ipBlock: { cidr: `fd00:${index.toString(16).slice(-4)}::${(index >> 16).toString(16)}/${dice.pick([48, 64, 128])}` } }),
  ])();
}

function port({ dice }: Draft, index: number): Fields {
  return dice.pick<() => Fields>([
    () => ({ port: (index % 65_535) + 1 }),
    () => ({ port: (index % 65_535) + 1, protocol: dice.pick(PROTOCOLS) }),
    () => ({
      port: (index % 65_000) + 1,
      endPort: Math.min(65_535, (index % 65_000) + 1 + dice.roll(500)),
      protocol: dice.pick(PROTOCOLS),
    }),
    () => ({ port: `p${index}`.slice(0, 15), protocol: dice.pick(PROTOCOLS) }),
    () => ({ protocol: dice.pick(PROTOCOLS) }),
  ])();
}

export const POLICY_FIELDS: readonly HostileField[] = [
  {
    name: 'podSelector: thousands of labels',
    draw: (draft) => void (draft.spec['podSelector'] = { matchLabels: labels(draft.dice, many(draft, 40), { keys: 8, values: 12 }) }),
  },
  {
    name: 'podSelector: thousands of expressions that every pod meets',
    draw: (draft) => {
      const of = many(draft, 70);
      const expression = draft.dice.pick<(index: number) => Fields>([
        (index) => ({ key: `k${index}`, operator: 'DoesNotExist' }),
        (index) => ({ key: `k${index}`, operator: 'NotIn', values: ['x'] }),
        (index) => ({ key: 'app', operator: 'NotIn', values: [`v${index}`] }),
        () => ({ key: 'app', operator: 'Exists' }),
      ]);
      draft.spec['podSelector'] = { matchExpressions: times(of, expression) };
    },
  },
  {
    name: 'podSelector: one expression with thousands of values',
    draw: (draft) => {
      const values = times(many(draft, 12), (index) => `v${index}`);
      const operator = draft.dice.pick(['In', 'NotIn']);
      draft.spec['podSelector'] = { matchExpressions: [{ key: 'app', operator, values: operator === 'In' ? [...values, 'pod'] : values }] };
    },
  },
  {
    name: 'podSelector: contradictions and repetitions',
    draw: (draft) =>
      void (draft.spec['podSelector'] = {
        matchLabels: { app: 'pod' },
        matchExpressions: times(many(draft, 120), (index) => ({
          key: draft.dice.pick(['app', ...MEANINGFUL_LABELS]),
          operator: index % 3 === 0 ? 'In' : 'NotIn',
          values: index % 3 === 0 ? ['pod', 'pod', ''] : ['', 'x', ...MEANINGFUL_LABELS],
        })),
      }),
  },
  { name: 'thousands of empty rules', draw: (draft) => addRules(draft, () => times(many(draft, 4, 120_000), () => ({}))) },
  {
    name: 'thousands of rules with a peer and a port each',
    draw: (draft) =>
      addRules(draft, (field) => times(many(draft, 150), (index) => ({ [field]: [peer(draft, index)], ports: [port(draft, index)] }))),
  },
  {
    name: 'thousands of peers of every kind in a rule',
    draw: (draft) => addRules(draft, (field) => [{ [field]: times(many(draft, 130), (index) => peer(draft, index)) }]),
  },
  {
    name: 'thousands of distinct selectors in a rule',
    draw: (draft) =>
      addRules(draft, (field) => [{ [field]: times(many(draft, 110), (index) => ({ podSelector: selector(draft, index) })) }]),
  },
  {
    name: 'thousands of distinct namespaceSelectors in a rule',
    draw: (draft) =>
      addRules(draft, (field) => [
        { [field]: times(many(draft, 110), (index) => ({ podSelector: {}, namespaceSelector: selector(draft, index) })) },
      ]),
  },
  {
    name: 'a peer whose selector has thousands of values',
    draw: (draft) => {
      const values = times(many(draft, 12), (index) => `v${index}`);
      const podSelector = { matchExpressions: [{ key: 'app', operator: draft.dice.pick(['In', 'NotIn']), values }] };
      addRules(draft, (field) => [{ [field]: [{ podSelector, namespaceSelector: draft.dice.pick([{}, podSelector]) }] }]);
    },
  },
  {
    name: 'peers times ports',
    draw: (draft) => {
      const size = many(draft, 200, 1_500);
      addRules(draft, (field) => [
        { [field]: times(size, (index) => peer(draft, index)), ports: times(size, (index) => port(draft, index)) },
      ]);
    },
  },
  {
    name: 'thousands of ports in a rule',
    draw: (draft) => addRules(draft, () => [{ ports: times(many(draft, 45), (index) => port(draft, index)) }]),
  },
  {
    name: 'thousands of named ports in a rule',
    draw: (draft) =>
      addRules(draft, (field) => [
        {
          ...draft.dice.pick([{}, { [field]: [{ namespaceSelector: {} }] }]),
          ports: times(many(draft, 40), (index) => ({ port: `p${index}`, protocol: draft.dice.pick(PROTOCOLS) })),
        },
      ]),
  },
  {
    name: 'ranges of ports that overlap',
    draw: (draft) =>
      addRules(draft, () => [
        {
          ports: times(many(draft, 60), (index) => ({
            protocol: PROTOCOLS[index % 3],
            port: 1 + (index % 30_000),
            endPort: 65_535 - (index % 30_000),
          })),
        },
      ]),
  },
  {
    name: 'ends of the space of ports',
    draw: (draft) =>
      addRules(draft, () => [
        {
          ports: [
            { port: 1 },
            { port: 65_535 },
            { port: 1, endPort: 65_535 },
            { port: 65_535, endPort: 65_535, protocol: 'SCTP' },
            { protocol: 'UDP' },
          ],
        },
        { ports: [{ port: 'constructor' }, { port: 'a' }, { port: '0a' }, { port: 'a-0-b-1-c-2-d-3' }] },
      ]),
  },
  {
    name: 'thousands of exceptions of a block',
    draw: (draft) =>
      addRules(draft, (field) => [
        { [field]: [{ ipBlock: { cidr: '0.0.0.0/0', except: times(many(draft, 18), (index) => `${ipv4(0x0100_0000 + index * 2)}/32`) } }] },
      ]),
  },
  {
    name: 'thousands of exceptions of IPv6',
    draw: (draft) =>
      addRules(draft, (field) => [
        {
          [field]: [
            {
              ipBlock: {
                cidr: '::/0',
                except: times(many(draft, 28), (index) => `2001:db8:${(index >> 16).toString(16)}:${(index & 0xffff).toString(16)}::/64`),
              },
            },
          ],
        },
      ]),
  },
  {
    name: 'exceptions within one another',
    draw: (draft) =>
      addRules(draft, (field) => [
        {
          [field]: times(many(draft, 900), (index) => ({
            ipBlock: { cidr: '0.0.0.0/0', except: times(32, (bits) => `${ipv4((index * 2_654_435_761) >>> 0)}/${bits + 1}`) },
          })),
        },
      ]),
  },
  {
    name: 'blocks in odd spellings',
    draw: (draft) => {
      const { dice } = draft;
      addRules(draft, (field) => [
        {
          [field]: times(many(draft, 60, 5_000), () => {
            const length = dice.pick([0, 1, 8, 16, 24, 31, 32]);
            return { ipBlock: { cidr: oddBlock(dice, dice.roll(2 ** 32), length) } };
          }),
        },
        { [field]: [{ ipBlock: { cidr: `${oddIPv6(dice, 'fd00:10:245:0:0:0:0:1')}/${dice.pick([0, 8, 64, 128])}` } }] },
      ]);
    },
  },
  {
    name: 'exceptions in odd spellings',
    draw: (draft) => {
      const { dice } = draft;
      const except = times(many(draft, 40, 5_000), () => oddBlock(dice, 0x0af4_0000 + dice.roll(65_536), dice.pick([24, 30, 32])));
      addRules(draft, (field) => [{ [field]: [{ ipBlock: { cidr: '10.244.0.0/16', except } }] }]);
      addRules(draft, (field) => [
        { [field]: [{ ipBlock: { cidr: '::ffff:10.244.0.0/112', except: ['::ffff:10.244.0.2/128', '::FFFF:0af4:0003/00128'] } }] },
      ]);
    },
  },
  {
    name: 'ends of the space of addresses',
    draw: (draft) => addRules(draft, (field) => [{ [field]: ENDS_OF_SPACE.map((cidr) => ({ ipBlock: { cidr } })) }]),
  },
  {
    name: 'lists that are null, empty or not there',
    draw: (draft) => {
      const { dice } = draft;
      const list = (): unknown => dice.pick([null, [], undefined]);
      addRules(draft, (field) => [
        { [field]: list(), ports: list() },
        { [field]: [{ podSelector: { matchLabels: dice.pick([null, {}]), matchExpressions: list() } }], ports: list() },
        { [field]: [{ ipBlock: { cidr: '10.0.0.0/8', except: list() } }] },
        { [field]: list() },
      ]);
      draft.spec['policyTypes'] = dice.pick<unknown>([null, [], ['Ingress'], ['Ingress', 'Ingress'], ['Egress', 'Egress'], undefined]);
      if (dice.chance(30)) draft.spec['podSelector'] = dice.pick([null, undefined]);
      if (dice.chance(30)) draft.spec[dice.pick(['ingress', 'egress'])] = list();
    },
  },
  {
    name: 'fields that nobody knows, deep within one another',
    draw: (draft) => {
      let deep: unknown = 'x';
      for (let level = 0; level < 500; level++) deep = level % 2 === 0 ? [deep] : { x: deep };
      draft.spec['unknown'] = deep;
      addRules(draft, () => [{ unknown: deep, ports: [{ port: 80, unknown: deep }] }]);
    },
  },
];

// --- Pod

const NO_IMAGE = { image: 'registry.invalid/none' };

function firstContainer({ spec }: Draft): Fields {
  const [first] = spec['containers'] as readonly Fields[];
  return first ?? {};
}

/** With those that are there already. */
function addPorts(draft: Draft, ports: readonly Fields[]): void {
  const container = firstContainer(draft);
  container['ports'] = [...((container['ports'] as Fields[] | undefined) ?? []), ...ports];
}

export const POD_FIELDS: readonly HostileField[] = [
  {
    name: 'ports by the ten thousand',
    draw: (draft) =>
      addPorts(
        draft,
        times(many(draft, 16, draft.dice.pick([65_535, 10_000, 3_000])), (index) => ({
          containerPort: 65_535 - index,
          protocol: draft.dice.pick(PROTOCOLS),
        })),
      ),
  },
  {
    name: 'named ports by the ten thousand',
    draw: (draft) =>
      addPorts(
        draft,
        times(many(draft, 45, draft.dice.pick([65_535, 5_000, 2_000])), (index) => ({ name: `p${index}`, containerPort: index + 1 })),
      ),
  },
  {
    name: 'one name for thousands of ports, of as many containers',
    draw: (draft) => {
      const count = many(draft, 300, 4_000);
      draft.spec['containers'] = times(count, (index) => ({
        name: `c${index}`,
        ...NO_IMAGE,
        ports: [{ name: draft.dice.pick(['p0', 'p1', 'constructor']), containerPort: index + 1, protocol: draft.dice.pick(PROTOCOLS) }],
      }));
    },
  },
  {
    name: 'ports of the host',
    draw: (draft) =>
      addPorts(
        draft,
        times(many(draft, 60, 20_000), (index) => ({
          containerPort: index + 1,
          hostPort: index + 1,
          hostIP: draft.dice.pick(['', '127.0.0.1', '::']),
        })),
      ),
  },
  {
    name: 'sidecars and init containers with ports',
    draw: (draft) =>
      void (draft.spec['initContainers'] = times(many(draft, 300, 3_000), (index) => ({
        name: `i${index}`,
        ...NO_IMAGE,
        ...(index % 2 === 0 ? { restartPolicy: 'Always' } : {}),
        ports: [{ name: 'p0', containerPort: index + 1 }],
      }))),
  },
  {
    name: 'hostNetwork',
    draw: (draft) => {
      draft.spec['hostNetwork'] = true;
      for (const port of (firstContainer(draft)['ports'] as Fields[] | undefined) ?? []) port['hostPort'] = port['containerPort'];
    },
  },
  {
    name: 'an environment of a megabyte',
    draw: (draft) =>
      void (firstContainer(draft)['env'] = times(many(draft, 110), (index) => ({ name: `V${index}`, value: longText(draft.dice, 60) }))),
  },
  {
    name: 'volumes, tolerations and host aliases by the thousand',
    draw: (draft) => {
      const count = many(draft, 250);
      draft.spec['volumes'] = times(count, (index) => ({ name: `v${index}`, emptyDir: {} }));
      draft.spec['tolerations'] = times(count, (index) => ({ key: `k${index}`, operator: 'Exists', effect: 'NoSchedule' }));
      draft.spec['hostAliases'] = times(count, (index) => ({ ip: ipv4(index), hostnames: ['example.com'] }));
    },
  },
  {
    name: 'labels that thousands of selectors look at',
    draw: ({ metadata, dice, bytes }) => {
      const count = dice.pick([17, 2_000, Math.floor(bytes / 25)]);
      metadata['labels'] = {
        ...asRecord(metadata['labels']),
        ...Object.fromEntries(times(count, (index) => [`k${index}`, `v${index}`])),
        app: `v${dice.roll(100)}`,
      };
    },
  },
  {
    name: 'a phase that nobody knows',
    draw: ({ dice, status }) =>
      void (status['phase'] = dice.pick(['', 'Unknown', 'Pending', 'running', 'Succeeded', 'Failed', 'x'.repeat(100_000), 'Running\n'])),
  },
  {
    name: 'addresses in odd spellings',
    draw: ({ dice, status }) => {
      const [first, second] = ((status['podIPs'] ?? []) as { ip: string }[]).map(({ ip }) => ip);
      if (first === undefined || second === undefined) return;
      const podIPs = [oddIPv4(dice, first), oddIPv6(dice, second)];
      if (dice.chance(30)) podIPs.reverse();
      status['podIPs'] = podIPs.map((ip) => ({ ip }));
      status['podIP'] = podIPs[0];
    },
  },
  {
    name: 'addresses that no pod has',
    draw: ({ dice, status }) => {
      const ip = dice.pick([
        '0.0.0.0',
        '255.255.255.255',
        '127.0.0.1',
        '224.0.0.1',
        '169.254.1.1',
        '::',
        '::1',
        'ff02::1',
        'fe80::1',
        '::ffff:0.0.0.0',
      ]);
      status['podIP'] = ip;
      status['podIPs'] = [{ ip }];
    },
  },
  {
    name: 'no address',
    draw: ({ dice, status }) => {
      status['podIP'] = dice.pick([null, '']);
      status['podIPs'] = dice.pick([null, []]);
    },
  },
  {
    name: 'a status of a megabyte',
    draw: (draft) => {
      const { dice, status } = draft;
      const count = many(draft, 300, 3_000);
      status['message'] = longText(dice, 100_000);
      status['conditions'] = times(count, (index) => ({
        type: `example.com/C${index}`,
        status: dice.pick(['True', 'False', 'Unknown']),
        message: longText(dice, 100),
      }));
      status['hostIP'] = '172.18.0.2';
    },
  },
  {
    name: 'times of long ago and of the far future',
    draw: ({ dice, status }) =>
      void (status['startTime'] = dice.pick(['0001-01-01T00:00:01Z', '9999-12-31T23:59:59Z', '1969-12-31T23:59:59Z'])),
  },
];

// --- Namespace

export const NAMESPACE_FIELDS: readonly HostileField[] = [
  {
    name: 'a mode that nobody knows',
    draw: ({ dice, metadata }) =>
      void (metadata['annotations'] = {
        ...asRecord(metadata['annotations']),
        'sluice.dev/mode': dice.pick(['audit', 'AUDIT', '', longText(dice, 50_000), 'enforce']),
      }),
  },
  {
    name: 'the name of another one in its label',
    draw: ({ metadata }) =>
      void (metadata['labels'] = { ...asRecord(metadata['labels']), 'kubernetes.io/metadata.name': 'victim', app: 'server' }),
  },
  {
    name: 'a name that means something',
    draw: ({ dice, metadata }) => void (metadata.name = `${dice.pick(MEANINGFUL_NAMES)}-${dice.roll(1_000_000)}`),
  },
  { name: 'finalizers of its own', draw: ({ spec }) => void (spec['finalizers'] = ['kubernetes', 'example.com/never']) },
];
