import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { editDistance } from '../../../src/policy/edit-distance.ts';
import { describeFault, missesOf } from '../../../src/policy/nearest-miss.ts';
import type { Direction, Namespace, Pod } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { address, ip, labels, MODEL, namespace, pod, podsWith, policy } from './model.ts';

/** Of one policy of namespace x that isolates x/a for ingress: what its misses say, nearest first. */
function sentences(
  rules: unknown,
  {
    from = 'x/b',
    source = ip(from),
    port = 80,
    protocol = 'TCP',
    pods = [],
    namespaces = MODEL.namespaces,
    direction = 'ingress',
    destination = ip('x/a'),
  }: {
    readonly from?: string;
    readonly source?: string;
    readonly destination?: string;
    readonly port?: number;
    readonly protocol?: 'TCP' | 'UDP' | 'ICMP';
    readonly pods?: readonly Pod[];
    readonly namespaces?: readonly Namespace[];
    readonly direction?: Direction;
  } = {},
): string[] {
  const subject = { matchLabels: { pod: 'a' } };
  const spec = { podSelector: subject, policyTypes: [direction === 'ingress' ? 'Ingress' : 'Egress'], [direction]: rules };
  const world = worldOf({ ...MODEL, namespaces, pods: podsWith(...pods), policies: [policy(spec)] });
  const question = { source: address(source), destination: address(destination), protocol, port };
  return missesOf(world, question, direction).map(
    ({ rule, peer, faults }) => `${rule ?? '-'}.${peer ?? '-'} ${faults.map((fault) => describeFault(fault, direction)).join(' | ')}`,
  );
}

const FRONT_END = pod('x/b', { labels: labels({ app: 'front-end', tier: 'web' }) });

describe('a miss', () => {
  it('says which label is another, and how far it is from what is wanted', () => {
    const from = [{ podSelector: { matchLabels: { app: 'frontend' } } }];
    assert.deepEqual(sentences([{ from }], { pods: [FRONT_END] }), ['0.0 wants app=frontend; the source has app=front-end (1 edit away)']);
  });

  it('takes no name with another number for a slip', () => {
    const from = [{ podSelector: { matchLabels: { app: 'shard-1' } } }];
    assert.deepEqual(sentences([{ from }], { pods: [pod('x/b', { labels: labels({ app: 'shard-2' }) })] }), [
      '0.0 wants app=shard-1; the source has app=shard-2',
    ]);
  });

  it('says which label is not there, and which one may be meant instead', () => {
    const from = [{ podSelector: { matchExpressions: [{ key: 'App', operator: 'In', values: ['frontend', 'backend'] }] } }];
    assert.deepEqual(sentences([{ from }], { pods: [FRONT_END] }), [
      '0.0 wants App in (backend, frontend); the source has no label App, but app=front-end',
    ]);
    const zone = [{ podSelector: { matchExpressions: [{ key: 'zone', operator: 'Exists' }] } }];
    assert.deepEqual(sentences([{ from: zone }], { pods: [FRONT_END] }), ['0.0 wants a label zone; the source has no label zone']);
  });

  it('says which label is one that may not be', () => {
    const from = [
      {
        podSelector: {
          matchExpressions: [
            { key: 'app', operator: 'NotIn', values: ['front-end'] },
            { key: 'tier', operator: 'DoesNotExist' },
          ],
        },
      },
    ];
    assert.deepEqual(sentences([{ from }], { pods: [FRONT_END] }), [
      '0.0 wants app!=front-end; the source has app=front-end | wants no label tier; the source has tier=web',
    ]);
  });

  it('says that a peer without a namespaceSelector means its own namespace', () => {
    const from = [{ podSelector: { matchLabels: { pod: 'b' } } }];
    assert.deepEqual(sentences([{ from }], { from: 'y/b' }), [
      '0.0 wants pods of its own namespace, x, having no namespaceSelector; the source is in y',
    ]);
  });

  it('says what the namespace has, where the pod itself would match', () => {
    const from = [{ namespaceSelector: { matchLabels: { team: 'ops' } }, podSelector: { matchLabels: { pod: 'b' } } }];
    const namespaces = [namespace('x'), namespace('y', { team: 'opps' })];
    assert.deepEqual(sentences([{ from }], { from: 'y/b', namespaces }), [
      "0.0 wants a namespace with team=ops; the source's namespace y has team=opps (1 edit away)",
    ]);
    const byName = [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'z' } } }];
    assert.deepEqual(sentences([{ from: byName }], { from: 'y/b' }), ['0.0 wants namespace z; the source is in y']);
  });

  it('says which port is admitted, of several the nearest', () => {
    const ports = [{ protocol: 'UDP', port: 53 }, { port: 80 }, { port: 8000, endPort: 9000 }];
    assert.deepEqual(sentences([{ ports }], { port: 81 }), ['0.- admits TCP 80 and 2 more; asked is TCP 81']);
    assert.deepEqual(sentences([{ ports }], { port: 53 }), ['0.- admits UDP 53 and 2 more; asked is TCP 53']);
    assert.deepEqual(sentences([{ ports }], { port: 9001 }), ['0.- admits TCP 8000-9000 and 2 more; asked is TCP 9001']);
    assert.deepEqual(sentences([{ ports: [{ protocol: 'UDP' }] }]), ['0.- admits every UDP port; asked is TCP 80']);
  });

  it('says what the destination declares under the name of a port', () => {
    const http = { name: 'http', protocol: 'TCP', port: 8080 } as const;
    const ports = [{ port: 'http' }];
    assert.deepEqual(sentences([{ ports }], { pods: [pod('x/a', { ports: [http] })] }), [
      '0.- admits TCP http, which the destination declares as 8080; asked is TCP 80',
    ]);
    assert.deepEqual(sentences([{ ports }], { pods: [pod('x/a', { ports: [{ ...http, protocol: 'UDP', port: 80 }] })] }), [
      '0.- admits TCP http, which the destination declares as UDP 80; asked is TCP 80',
    ]);
    assert.deepEqual(sentences([{ ports }]), ['0.- admits TCP http, which no container of the destination declares; asked is TCP 80']);
    const egress = { direction: 'egress', source: ip('x/a'), destination: '198.51.100.7' } as const;
    assert.deepEqual(sentences([{ ports }], egress), ['0.- admits TCP http, and what is no pod has no named ports; asked is TCP 80']);
  });

  it('says that ICMP has no ports', () => {
    assert.deepEqual(sentences([{ ports: [{ port: 80 }] }], { protocol: 'ICMP' }), [
      '0.- admits ports only, and ICMP has none: a rule without ports would admit it',
    ]);
  });

  it('says where an address lies, and that selectors never match what is no pod', () => {
    const from = [
      { ipBlock: { cidr: '198.51.0.0/16', except: ['198.51.100.0/24'] } },
      { ipBlock: { cidr: '203.0.113.0/24' } },
      { ipBlock: { cidr: '2001:db8::/32' } },
      { namespaceSelector: {} },
    ];
    assert.deepEqual(sentences([{ from }], { source: '198.51.100.7' }), [
      '0.0 admits 198.51.0.0/16 except 198.51.100.0/24; the source is in what it leaves out',
      '0.1 admits 203.0.113.0/24; the source is outside of it',
      '0.3 wants a pod; the source is an address of no pod, which only an ipBlock matches',
      '0.2 admits 2001:db8::/32; the source is of the other address family',
    ]);
    // n2 is not the node of x/a.
    assert.deepEqual(sentences([{ from: [{ namespaceSelector: {} }] }], { source: '192.0.2.2' }), [
      "0.0 wants a pod; the source is a node's address, which only an ipBlock matches",
    ]);
  });

  it('says what cannot be read, and why', () => {
    const [empty, none] = [[{ from: [{}] }], [{ from: 'everyone', ports: [{ port: '80' }] }]];
    assert.deepEqual(sentences(empty), [
      '0.0 matches nothing, since it cannot be read: spec.ingress[0].from[0]: the peer names nobody; the peer matches nothing. ' +
        'For every pod of every namespace, write namespaceSelector: {}',
    ]);
    assert.deepEqual(sentences(none), [
      '0.- matches nothing, since it cannot be read: spec.ingress[0].from: it is a list of peers, not a string; the rule admits nothing' +
        ' | has ports that cannot be read: spec.ingress[0].ports[0].port: "80" is text, and no name of a port; this entry admits nothing. ' +
        'Write the number without quotes: port: 80',
    ]);
    const never = {
      matchExpressions: [
        { key: 'app', operator: 'Exists' },
        { key: 'app', operator: 'DoesNotExist' },
      ],
    };
    assert.deepEqual(sentences([{ from: [{ podSelector: never }] }]), [
      '0.0 wants a label app of the pod that is there and is not, or has no value that is left: it matches nothing',
    ]);
  });

  it('says that a policy without rules admits nothing', () => {
    assert.deepEqual(sentences([]), ['-.- has no ingress rules: it admits nothing']);
  });

  it('is the nearer the fewer things are amiss, and then the more alike the labels are', () => {
    const by = (app: string): unknown => ({ podSelector: { matchLabels: { app } } });
    const rules = [
      { from: [by('frontend')], ports: [{ port: 81 }] },
      { from: [by('payments'), by('front-ends')] },
      { from: [by('front-end')], ports: [{ port: 8080 }] },
    ];
    assert.deepEqual(
      sentences(rules, { pods: [FRONT_END] }).map((text) => text.split(' ')[0]),
      ['1.1', '2.0', '1.0', '0.0'],
    );
  });
});

describe('the distance of two texts', () => {
  it('is what it takes to edit one into the other', () => {
    assert.equal(editDistance('frontend', 'front-end'), 1);
    assert.equal(editDistance('kitten', 'sitting'), 3);
    assert.equal(editDistance('', 'abc'), 3);
  });

  it('is no more than the limit, and the same below it', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 8 });
    fc.assert(
      fc.property(word, word, fc.nat(6), (a, b, limit) => {
        assert.equal(editDistance(a, b, limit), Math.min(limit, editDistance(a, b)));
      }),
    );
  });
});
