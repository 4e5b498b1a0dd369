/**
 * The 48 upstream end-to-end cases of NetworkPolicy (42 TCP, 3 UDP, 3 SCTP): for each step the policies, and what they allow,
 * written out by hand beside them in terms of names alone. Policies are of namespace x.
 */
import type { Namespace, Pod, PolicyProtocol } from '../../../src/policy/objects.ts';
import { labels, MODEL, namespace, only, pod } from './model.ts';

export interface Probe {
  readonly from: string;
  readonly fromNs: string;
  readonly to: string;
  readonly toNs: string;
  readonly port: number;
  readonly protocol: PolicyProtocol;
}

type Expectation = (probe: Probe) => boolean;

/** One state of the cluster, and what is allowed in it (besides a pod to itself). */
export interface Step {
  /** Specs, of namespace x unless there is a namespace before the name: `y/name`. */
  readonly policies: Readonly<Record<string, unknown>>;
  readonly pods?: readonly Pod[];
  readonly namespaces?: readonly Namespace[];
  readonly expect: Expectation;
}

export interface Case {
  readonly title: string;
  /** `podIP` is the address of a pod in the family that is being asked about, and `bits` the length of a whole address. */
  readonly steps: (podIP: (key: string) => string, bits: number) => readonly Step[];
}

const A = only('a');
const NOT_X = { matchExpressions: [{ key: 'ns', operator: 'NotIn', values: ['x'] }] };
const NS_Y = { matchLabels: { ns: 'y' } };
const DENY_INGRESS = { podSelector: {}, policyTypes: ['Ingress'] };
const DENY_EGRESS = { podSelector: {}, policyTypes: ['Egress'] };
const EVERYTHING: Expectation = () => true;

function at(port: number | string, protocol: string = 'TCP'): object {
  return { protocol, port };
}

/** x/a admits these peers on these ports. */
function toA(from: readonly object[], ports: readonly object[] = [at(80)]): object {
  return { podSelector: A, policyTypes: ['Ingress'], ingress: [{ from, ports }] };
}

function isTCP(probe: Probe, port: number = 80): boolean {
  return probe.protocol === 'TCP' && probe.port === port;
}

/** Everything is allowed but to x/a, where only this is. */
function onlyToA(expect: Expectation): Expectation {
  return (probe) => probe.to !== 'x/a' || expect(probe);
}

/** Everything is allowed but from x/a, where only this is. */
function onlyFromA(expect: Expectation): Expectation {
  return (probe) => probe.from !== 'x/a' || expect(probe);
}

/** A case of one step. */
function single(title: string, policies: Readonly<Record<string, unknown>>, expect: Expectation): Case {
  return { title, steps: () => [{ policies, expect }] };
}

function podExpression(...values: readonly string[]): object {
  return { matchExpressions: [{ key: 'pod', operator: 'In', values }] };
}

/** Cases 1, 14 and 13 for one protocol; 43 to 48 repeat them for UDP and SCTP. */
function repeated(protocol: PolicyProtocol): readonly Case[] {
  const ports = [at(80, protocol)];
  return [
    single(`default-deny-ingress blocks ${protocol} too`, { deny: DENY_INGRESS }, (p) => p.toNs !== 'x'),
    single(
      `only namespace y to x/a on port 81 of ${protocol}`,
      { p: toA([{ namespaceSelector: NS_Y }], [at(81, protocol)]) },
      onlyToA((p) => p.fromNs === 'y' && p.port === 81 && p.protocol === protocol),
    ),
    single(
      `only pod y/a to x/a over ${protocol}`,
      { p: toA([{ namespaceSelector: NS_Y, podSelector: A }], ports) },
      onlyToA((p) => p.from === 'y/a' && p.port === 80 && p.protocol === protocol),
    ),
  ];
}

export const CASES: readonly Case[] = [
  /* 1 */ single('default-deny-ingress', { deny: DENY_INGRESS }, (p) => p.toNs !== 'x'),
  /* 2 */ single(
    'default-deny-all',
    { deny: { podSelector: {}, policyTypes: ['Ingress', 'Egress'] } },
    (p) => p.toNs !== 'x' && p.fromNs !== 'x',
  ),
  /* 3 */ single(
    'podSelector: x/a only from x/b',
    { p: toA([{ podSelector: only('b') }]) },
    onlyToA((p) => p.from === 'x/b' && isTCP(p)),
  ),
  /* 4 */ single(
    'deny-all plus allow-all-to-a',
    { deny: DENY_INGRESS, allow: { podSelector: A, ingress: [{}] } },
    (p) => p.toNs !== 'x' || p.to === 'x/a',
  ),
  /* 5 */ single(
    'all namespaces may reach x/a',
    { p: toA([{ namespaceSelector: {} }]) },
    onlyToA((p) => isTCP(p)),
  ),
  /* 6 */ single(
    'only namespace y to x/a',
    { p: toA([{ namespaceSelector: NS_Y }]) },
    onlyToA((p) => p.fromNs === 'y' && isTCP(p)),
  ),
  /* 7 */ single(
    'podSelector by matchExpressions',
    { p: toA([{ podSelector: podExpression('b') }]) },
    onlyToA((p) => p.from === 'x/b' && isTCP(p)),
  ),
  /* 8 */ single(
    'namespaceSelector by matchExpressions',
    { p: toA([{ namespaceSelector: { matchExpressions: [{ key: 'ns', operator: 'In', values: ['y'] }] } }]) },
    onlyToA((p) => p.fromNs === 'y' && isTCP(p)),
  ),
  /* 9 */ single(
    'podSelector or namespaceSelector',
    { p: toA([{ namespaceSelector: NOT_X }, { podSelector: only('b') }]) },
    onlyToA((p) => (p.fromNs !== 'x' || p.from === 'x/b') && isTCP(p)),
  ),
  /* 10 */ single(
    'podSelector and namespaceSelector',
    { p: toA([{ namespaceSelector: NOT_X, podSelector: only('b') }]) },
    onlyToA((p) => ['y/b', 'z/b'].includes(p.from) && isTCP(p)),
  ),
  /* 11 */ single(
    'pods b and c outside of x',
    { p: toA([{ namespaceSelector: NOT_X, podSelector: podExpression('b', 'c') }]) },
    onlyToA((p) => ['y/b', 'y/c', 'z/b', 'z/c'].includes(p.from) && isTCP(p)),
  ),
  /* 12 */ single(
    'pods b or c in x',
    { p: toA([{ podSelector: only('b') }, { podSelector: only('c') }]) },
    onlyToA((p) => ['x/b', 'x/c'].includes(p.from) && isTCP(p)),
  ),
  /* 13 */ single(
    'only y/a',
    { p: toA([{ namespaceSelector: NS_Y, podSelector: A }]) },
    onlyToA((p) => p.from === 'y/a' && isTCP(p)),
  ),
  /* 14 */ single(
    'only y to x/a on port 81',
    { p: toA([{ namespaceSelector: NS_Y }], [at(81)]) },
    onlyToA((p) => p.fromNs === 'y' && isTCP(p, 81)),
  ),
  /* 15 */ {
    title: 'stacked policies with overlapping selectors',
    steps: () => {
      const first = toA([{ namespaceSelector: NS_Y }], [at(81)]);
      return [
        { policies: { first }, expect: onlyToA((p) => p.fromNs === 'y' && isTCP(p, 81)) },
        {
          policies: { first, second: toA([{ namespaceSelector: NS_Y }], [at(80)]) },
          expect: onlyToA((p) => p.fromNs === 'y' && p.protocol === 'TCP'),
        },
      ];
    },
  },
  /* 16 */ single('allow-all', { allow: { podSelector: {}, ingress: [{}] } }, EVERYTHING),
  /* 17 */ single(
    'ingress on one named port',
    { p: { podSelector: A, ingress: [{ ports: [{ port: 'serve-81-tcp' }] }] } },
    onlyToA((p) => isTCP(p, 81)),
  ),
  /* 18 */ single(
    'namespace y on one named port',
    { p: toA([{ namespaceSelector: NS_Y }], [{ port: 'serve-80-tcp' }]) },
    onlyToA((p) => p.fromNs === 'y' && isTCP(p)),
  ),
  /* 19 */ single(
    'egress on one named port, to anyone',
    { p: { podSelector: A, policyTypes: ['Egress'], egress: [{ ports: [{ port: 'serve-80-tcp' }] }] } },
    onlyFromA((p) => isTCP(p)),
  ),
  /* 20 */ {
    title: 'allow-all updated to deny-all',
    steps: () => [
      { policies: { p: { podSelector: {}, ingress: [{}] } }, expect: EVERYTHING },
      { policies: { p: DENY_INGRESS }, expect: (p) => p.toNs !== 'x' },
    ],
  },
  /* 21 */ {
    title: 'a label on namespace y opens x/a',
    steps: () => {
      const policies = { p: toA([{ namespaceSelector: { matchLabels: { ns2: 'updated' } } }]) };
      return [
        { policies, expect: onlyToA(() => false) },
        {
          policies,
          namespaces: [...MODEL.namespaces, namespace('y', { ns2: 'updated' })],
          expect: onlyToA((p) => p.fromNs === 'y' && isTCP(p)),
        },
      ];
    },
  },
  /* 22 */ {
    title: 'a label on pod x/b opens x/a',
    steps: () => {
      const policies = { p: toA([{ podSelector: { matchLabels: { pod2: 'updated' } } }]) };
      return [
        { policies, expect: onlyToA(() => false) },
        {
          policies,
          pods: [...MODEL.pods, pod('x/b', { labels: labels({ pod: 'b', pod2: 'updated' }) })],
          expect: onlyToA((p) => p.from === 'x/b' && isTCP(p)),
        },
      ];
    },
  },
  /* 23 */ single(
    'the empty podSelector is the own namespace only',
    { p: toA([{ podSelector: {} }]) },
    onlyToA((p) => p.fromNs === 'x' && isTCP(p)),
  ),
  /* 24 */ {
    title: 'a label makes x/a a subject',
    steps: () => {
      const policies = { p: { podSelector: { matchLabels: { target: 'isolated' } }, policyTypes: ['Ingress'] } };
      return [
        { policies, expect: EVERYTHING },
        {
          policies,
          pods: [...MODEL.pods, pod('x/a', { labels: labels({ pod: 'a', target: 'isolated' }) })],
          expect: onlyToA(() => false),
        },
      ];
    },
  },
  /* 25 */ single(
    'egress denied by podSelector',
    { p: { podSelector: A, policyTypes: ['Egress'] } },
    onlyFromA(() => false),
  ),
  /* 26 */ single('egress denied for the namespace', { p: DENY_EGRESS }, (p) => p.fromNs !== 'x'),
  /* 27 */ single(
    'ingress from b and egress on port 80 only',
    { p: { podSelector: A, ingress: [{ from: [{ podSelector: only('b') }] }], egress: [{ ports: [at(80)] }] } },
    (p) => (p.to !== 'x/a' || p.from === 'x/b') && (p.from !== 'x/a' || isTCP(p)),
  ),
  /* 28 */ single(
    'egress refused by the client, although the servers allow it',
    {
      client: { podSelector: A, policyTypes: ['Egress'], egress: [{ to: [{ namespaceSelector: NS_Y, podSelector: A }] }] },
      'y/servers': {
        podSelector: podExpression('a', 'b'),
        ingress: [{ from: [{ namespaceSelector: { matchLabels: { ns: 'x' } }, podSelector: A }] }],
      },
    },
    (p) => (p.from !== 'x/a' || p.to === 'y/a') && (!['y/a', 'y/b'].includes(p.to) || p.from === 'x/a'),
  ),
  /* 29 */ single(
    'egress only to y/a',
    { p: { podSelector: A, policyTypes: ['Egress'], egress: [{ to: [{ namespaceSelector: NS_Y, podSelector: A }] }] } },
    onlyFromA((p) => p.to === 'y/a'),
  ),
  /* 30 */ single(
    'protocol TCP without a port',
    { p: { podSelector: A, ingress: [{ ports: [{ protocol: 'TCP' }] }] } },
    onlyToA((p) => p.protocol === 'TCP'),
  ),
  /* 31 */ single(
    'several ingress policies, allow-all wins',
    { deny: DENY_INGRESS, allow: { podSelector: {}, ingress: [{}] } },
    EVERYTHING,
  ),
  /* 32 */ single(
    'several egress policies, allow-all wins',
    { deny: DENY_EGRESS, allow: { podSelector: {}, policyTypes: ['Egress'], egress: [{}] } },
    EVERYTHING,
  ),
  /* 33 */ {
    title: 'no enforcement after deletion',
    steps: () => [
      { policies: { p: DENY_INGRESS }, expect: (p) => p.toNs !== 'x' },
      { policies: {}, expect: EVERYTHING },
    ],
  },
  /* 34 */ {
    title: 'egress to the CIDR of one pod',
    steps: (podIP, bits) => [
      {
        policies: { p: egressTo({ cidr: `${podIP('y/b')}/${bits}` }) },
        expect: onlyFromA((p) => p.to === 'y/b'),
      },
    ],
  },
  /* 35 */ {
    title: 'egress to a wide CIDR except one pod',
    steps: (podIP, bits) => [
      {
        policies: { p: egressTo({ cidr: `${podIP('x/b')}/4`, except: [`${podIP('x/b')}/${bits}`] }) },
        expect: onlyFromA((p) => p.to !== 'x/b'),
      },
    ],
  },
  /* 36 */ {
    title: 'CIDR and except overlap, and a later update allows the pod',
    steps: (podIP, bits) => [
      {
        policies: { p: egressTo({ cidr: `${podIP('x/b')}/4`, except: [`${podIP('x/b')}/${bits}`] }) },
        expect: onlyFromA((p) => p.to !== 'x/b'),
      },
      {
        policies: { p: egressTo({ cidr: `${podIP('x/b')}/${bits}` }) },
        expect: onlyFromA((p) => p.to === 'x/b'),
      },
    ],
  },
  /* 37 */ {
    title: 'ingress and egress are controlled independently',
    steps: () => {
      const egress = { podSelector: A, policyTypes: ['Egress'], egress: [{ to: [{ namespaceSelector: NS_Y, podSelector: only('b') }] }] };
      return [
        { policies: { egress }, expect: onlyFromA((p) => p.to === 'y/b') },
        {
          policies: { egress, ingress: { podSelector: A, policyTypes: ['Ingress'] } },
          expect: (p) => p.to !== 'x/a' && (p.from !== 'x/a' || p.to === 'y/b'),
        },
        { policies: { ingress: { podSelector: A, policyTypes: ['Ingress'] } }, expect: onlyToA(() => false) },
      ];
    },
  },
  /* 38 */ single(
    'SCTP is not TCP',
    { p: { podSelector: A, ingress: [{ ports: [at(81, 'SCTP')] }] } },
    onlyToA((p) => p.protocol === 'SCTP' && p.port === 81),
  ),
  /* 39 */ single(
    'a policy that only names an SCTP port isolates from TCP',
    { p: { podSelector: A, ingress: [{ ports: [at(7777, 'SCTP')] }] } },
    onlyToA(() => false),
  ),
  /* 40 */ single(
    'a policy that only names UDP blocks TCP',
    { p: { podSelector: A, ingress: [{ ports: [at(80, 'UDP')] }] } },
    onlyToA((p) => p.protocol === 'UDP' && p.port === 80),
  ),
  /* 41 */ single(
    'the default namespace label by matchLabels',
    { p: toA([{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'y' } } }]) },
    onlyToA((p) => p.fromNs === 'y' && isTCP(p)),
  ),
  /* 42 */ single(
    'the default namespace label by matchExpressions',
    { p: toA([{ namespaceSelector: { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['y'] }] } }]) },
    onlyToA((p) => p.fromNs !== 'y' && isTCP(p)),
  ),
  /* 43, 44, 45 */ ...repeated('UDP'),
  /* 46, 47, 48 */ ...repeated('SCTP'),
];

/** x/a may only send into this block. */
function egressTo(ipBlock: object): object {
  return { podSelector: A, policyTypes: ['Egress'], egress: [{ to: [{ ipBlock }] }] };
}
