import assert from 'node:assert/strict';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { type Address, familyOf, formatAddress, formatPrefix, parseAddress, type Range } from '../../../src/policy/address.ts';
import { Equivalence, outsideClasses } from '../../../src/policy/equivalence.ts';
import { evaluate, type Question } from '../../../src/policy/evaluate.ts';
import type { Namespace, Node, Pod, Policy } from '../../../src/policy/objects.ts';
import { contains, intersects, rangeToPrefixes } from '../../../src/policy/ranges.ts';
import { localAddresses, type World, worldOf } from '../../../src/policy/world.ts';
import { type ApiObject, Dice, PORTS } from '../../random/cluster.ts';
import { LabCluster } from '../../random/lab-cluster.ts';

const SHARING = new Sharing();
/** Enough to have drawn every kind of selector, block and port many times over. */
const CLUSTERS = 40;

interface Parts {
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly policies: readonly Policy[];
}

function partsOf(objects: readonly ApiObject[]): Parts {
  const of = (kind: ApiObject['kind']): unknown[] =>
    objects
      .filter((object) => object.kind === kind)
      .map((object) => project(kind, object, SHARING).object ?? assert.fail(object.metadata.name));
  return {
    pods: of('Pod') as Pod[],
    namespaces: of('Namespace') as Namespace[],
    nodes: of('Node') as Node[],
    policies: of('NetworkPolicy') as Policy[],
  };
}

function classesOf(parts: Parts): Equivalence {
  return new Equivalence(worldOf(parts), parts.pods);
}

function address(text: string): Address {
  return parseAddress(text) ?? assert.fail(text);
}

/** Everybody that a cluster of the lab has, and some that nobody is. */
function addressesOf({ pods, nodes }: Parts, dice: Dice): Address[] {
  const strangers = ['172.30.0.100', '8.8.8.8', '10.244.1.200', '255.255.255.255', '0.0.0.0', 'fd00:30::100', '::', 'fd00:244:1::99'];
  const near = Array.from({ length: 4 }, () => `10.244.${1 + dice.roll(2)}.${dice.roll(16)}`);
  return [...new Set([...pods.flatMap((pod) => pod.addresses), ...nodes.flatMap(localAddresses), ...[...strangers, ...near].map(address)])];
}

function* questions(addresses: readonly Address[]): Generator<Question> {
  for (const source of addresses) {
    for (const destination of addresses) {
      if (familyOf(source) !== familyOf(destination)) continue;
      for (const protocol of ['TCP', 'UDP', 'SCTP'] as const) {
        for (const port of [...PORTS, 0, 79, 8000, 8081, 65_535]) yield { source, destination, protocol, port };
      }
      yield { source, destination, protocol: 'ICMP' };
      yield { source, destination, protocol: 'other' };
    }
  }
}

function textOf({ source, destination, protocol, port }: Question): string {
  return `${formatAddress(source)} ${formatAddress(destination)} ${protocol} ${port}`;
}

/** By hand: a policy's meaning, read as everywhere. */
function policy(namespace: string, name: string, spec: unknown): ApiObject {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { namespace, name }, spec };
}

function pod(name: string, ip: string, labels: Record<string, string>, node = 'n1', port = 80): ApiObject {
  const spec = { nodeName: node, containers: [{ ports: [{ containerPort: port, name: 'web' }] }] };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'x', name, labels },
    spec,
    status: { phase: 'Running', podIPs: [{ ip }] },
  };
}

function texts(ranges: readonly Range[]): string[] {
  return ranges.flatMap(rangeToPrefixes).map(formatPrefix);
}

describe('classes of addresses', () => {
  it('have the evaluator’s verdict for every pair, port and family of random clusters', () => {
    let asked = 0;
    for (let seed = 1; seed <= CLUSTERS; seed++) {
      const parts = partsOf(new LabCluster(seed).objects);
      const classes = classesOf(parts);
      for (const question of questions(addressesOf(parts, new Dice(seed)))) {
        assert.deepEqual(classes.verdict(question), evaluate(classes.world, question), `cluster ${seed}: ${textOf(question)}`);
        asked++;
      }
    }
    assert.ok(asked > 100_000, `${asked}`);
  });

  it('are not told apart by any question about others', () => {
    for (let seed = 1; seed <= CLUSTERS; seed++) {
      const parts = partsOf(new LabCluster(seed).objects);
      const classes = classesOf(parts);
      const addresses = addressesOf(parts, new Dice(seed));
      for (const one of addresses) {
        for (const other of addresses) {
          const [a, b] = [classes.end(one), classes.end(other)];
          if (a === b || a.class !== b.class) continue;
          for (const third of addresses) {
            const c = classes.end(third);
            // Who somebody is matters for itself and for its own node.
            if (third === one || third === other || c.family !== a.family) continue;
            if ([a, b, c].some(({ node }) => node !== undefined) || c.pod === a.pod || c.pod === b.pod) continue;
            for (const port of PORTS) {
              const [to, from] = [{ destination: third }, { source: third }];
              const ask = (question: Pick<Question, 'source' | 'destination'>): unknown =>
                evaluate(classes.world, { ...question, protocol: 'TCP', port });
              assert.deepEqual(ask({ source: one, ...to }), ask({ source: other, ...to }), `cluster ${seed}`);
              // As destinations they may have declared other ports than a rule names; those in use are compared.
              assert.deepEqual(ask({ destination: one, ...from }), ask({ destination: other, ...from }), `cluster ${seed}`);
            }
          }
        }
      }
    }
  });

  it('are fewer than the addresses where policies ask for less', () => {
    const objects = [
      ...['a', 'b', 'c'].map((name, index) => pod(name, `10.0.0.${index + 1}`, { app: name, unasked: name }, `n${index}`)),
      pod('d', '10.0.0.4', { app: 'c', unasked: 'z' }),
      policy('x', 'p', {
        podSelector: { matchLabels: { app: 'a' } },
        ingress: [{ from: [{ podSelector: { matchLabels: { app: 'b' } } }] }],
      }),
    ];
    const classes = classesOf(partsOf(objects));
    const [a, b, c, d] = [1, 2, 3, 4].map((host) => classes.end(address(`10.0.0.${host}`)).class);
    assert.equal(c, d);
    assert.equal(new Set([a, b, c]).size, 3);
    assert.equal(classes.end(address('192.0.2.1')).class, classes.end(address('198.51.100.1')).class);
  });

  it('tell pods apart whose ports have the same name and another number', () => {
    const objects = [
      pod('a', '10.0.0.1', { app: 'a' }, 'n1', 80),
      pod('b', '10.0.0.2', { app: 'a' }, 'n1', 8080),
      pod('c', '10.0.0.3', { app: 'c' }),
      policy('x', 'p', { podSelector: { matchLabels: { app: 'a' } }, ingress: [{ ports: [{ port: 'web' }] }] }),
    ];
    const classes = classesOf(partsOf(objects));
    const source = address('10.0.0.3');
    const allowed = (host: number, port: number): boolean =>
      classes.verdict({ source, destination: address(`10.0.0.${host}`), protocol: 'TCP', port }).allowed;
    assert.deepEqual([allowed(1, 80), allowed(2, 80), allowed(1, 8080), allowed(2, 8080)], [true, false, false, true]);
  });

  it('tell a label that is empty from one that is not there', () => {
    const objects = [
      pod('a', '10.0.0.1', { app: 'a' }),
      pod('b', '10.0.0.2', { tier: '' }),
      pod('c', '10.0.0.3', {}),
      policy('x', 'p', {
        podSelector: { matchLabels: { app: 'a' } },
        ingress: [{ from: [{ podSelector: { matchLabels: { tier: '' } } }] }],
      }),
    ];
    const classes = classesOf(partsOf(objects));
    const allowed = (host: number): boolean =>
      classes.verdict({ source: address(`10.0.0.${host}`), destination: address('10.0.0.1'), protocol: 'TCP', port: 80 }).allowed;
    assert.deepEqual([allowed(2), allowed(3)], [true, false]);
  });

  it('tell labels apart whatever characters they hold, as a directory may', () => {
    const objects = [
      pod('a', '10.0.0.1', { app: 'a' }),
      pod('b', '10.0.0.2', { tier: '\t', zone: 'z' }),
      pod('c', '10.0.0.3', { zone: 'z' }),
      pod('d', '10.0.0.4', { tier: ' -', zone: '1:z' }),
      policy('x', 'p', {
        podSelector: { matchLabels: { app: 'a' } },
        ingress: [
          {
            from: [
              {
                podSelector: {
                  matchExpressions: [
                    { key: 'tier', operator: 'Exists' },
                    { key: 'zone', operator: 'Exists' },
                  ],
                },
              },
            ],
          },
        ],
      }),
    ];
    for (const order of [
      [2, 3, 4],
      [4, 3, 2],
    ]) {
      const classes = classesOf(partsOf(objects));
      const allowed = (host: number): boolean =>
        classes.verdict({ source: address(`10.0.0.${host}`), destination: address('10.0.0.1'), protocol: 'TCP', port: 80 }).allowed;
      assert.deepEqual(
        order.map(allowed),
        order.map((host) => host !== 3),
      );
    }
  });

  it('cut the ports of a pair where a rule about it does, and where the destination’s named ports are', () => {
    const objects = [
      pod('a', '10.0.0.1', { app: 'a' }),
      pod('b', '10.0.0.2', { app: 'b' }),
      policy('x', 'in', {
        podSelector: { matchLabels: { app: 'b' } },
        ingress: [{ ports: [{ port: 1000, endPort: 2000 }, { port: 'web' }] }],
      }),
      policy('x', 'out', { podSelector: { matchLabels: { app: 'a' } }, egress: [{ ports: [{ port: 65_535 }] }], policyTypes: ['Egress'] }),
    ];
    const classes = classesOf(partsOf(objects));
    const [a, b] = [classes.end(address('10.0.0.1')), classes.end(address('10.0.0.2'))];
    assert.deepEqual(classes.portCuts(a, b, 'TCP'), [0, 80, 81, 1000, 2001, 65_535]);
    assert.deepEqual(classes.portCuts(b, a, 'TCP'), [0, 80, 81]);
    assert.deepEqual(classes.portCuts(a, b, 'UDP'), [0]);
  });

  it('leave it to the evaluator to refuse a question', () => {
    const classes = classesOf(partsOf([pod('a', '10.0.0.1', {})]));
    const ask = (destination: string, port: number | undefined) => () =>
      classes.verdict({ source: address('10.0.0.1'), destination: address(destination), protocol: 'TCP', port });
    assert.throws(ask('fd00::1', 80), { code: 'MIXED_FAMILIES' });
    assert.throws(ask('10.0.0.2', undefined), { code: 'PORT_INVALID' });
    assert.throws(ask('10.0.0.2', 65_536 + 80), { code: 'PORT_INVALID' });
  });
});

describe('classes of what is outside', () => {
  const SPEC = {
    podSelector: {},
    ingress: [
      { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }] },
      { from: [{ ipBlock: { cidr: '10.1.2.3/32' } }] },
      { from: [{ ipBlock: { cidr: '192.0.2.0/24' } }] },
    ],
  };

  it('are the blocks, what they leave out, and the rest', () => {
    const classes = classesOf(partsOf([pod('a', '172.16.0.1', {}), policy('x', 'p', SPEC)]));
    const found = outsideClasses([classes]).map(({ family, isRest, ranges }) => [family, isRest, texts(ranges).length]);
    assert.deepEqual(
      outsideClasses([classes])
        .filter(({ family, isRest }) => family === 4 && !isRest)
        .map(({ ranges }) => texts(ranges)),
      [
        ['10.0.0.0/16', '10.2.0.0/15', '10.4.0.0/14', '10.8.0.0/13', '10.16.0.0/12', '10.32.0.0/11', '10.64.0.0/10', '10.128.0.0/9'],
        ['10.1.2.3/32'],
        ['192.0.2.0/24'],
      ],
    );
    // Of IPv6 there is no block, and everything is one class.
    assert.deepEqual(found.at(-1), [6, true, 1]);
    assert.equal(found.length, 5);
  });

  it('are not of a block that pods and nodes have whole', () => {
    const objects = [pod('a', '10.1.2.3', {}), policy('x', 'p', SPEC)];
    const blocks = outsideClasses([classesOf(partsOf(objects))]).filter(({ family, isRest }) => family === 4 && !isRest);
    assert.equal(
      blocks.some(({ representative }) => representative === address('10.1.2.3')),
      false,
    );
    assert.equal(blocks.length, 2);
  });

  it('cover every address once, and their representatives are nobody’s, in random clusters and for two sets of policies at once', () => {
    for (let seed = 1; seed <= CLUSTERS; seed++) {
      const [before, after] = [partsOf(new LabCluster(seed).objects), partsOf(new LabCluster(seed + 1000).objects)];
      const both = { ...before, policies: after.policies };
      const worlds = [classesOf(before), classesOf(both)];
      const found = outsideClasses(worlds);
      const isNobodys = (world: World, each: Address): boolean => world.podAt(each) === undefined && world.nodeAt(each) === undefined;
      for (const one of found) {
        assert.ok(worlds.every(({ world }) => isNobodys(world, one.representative)));
        assert.ok(contains(one.ranges, one.representative));
        for (const other of found) {
          if (one !== other) assert.ok(!one.ranges.some((range) => intersects(other.ranges, range)), `cluster ${seed}`);
        }
      }
      const dice = new Dice(seed);
      const strangers = addressesOf(before, dice).filter((each) => isNobodys(worlds[0]?.world ?? assert.fail(), each));
      for (const stranger of strangers) {
        const home = found.find(({ ranges }) => contains(ranges, stranger)) ?? assert.fail(formatAddress(stranger));
        for (const classes of worlds) assert.equal(classes.end(stranger).class, classes.end(home.representative).class, `cluster ${seed}`);
      }
    }
  });
});
