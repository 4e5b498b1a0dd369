import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { familyOf, type Prefix } from '../../../src/policy/address.ts';
import { editDistance } from '../../../src/policy/edit-distance.ts';
import { evaluate, type Question } from '../../../src/policy/evaluate.ts';
import { describeFault, type Fault, type Miss, missesOf } from '../../../src/policy/nearest-miss.ts';
import type { Direction, Namespace, Node, Peer, Pod, Policy, PortMatch, Rule } from '../../../src/policy/objects.ts';
import { EVERYTHING } from '../../../src/policy/selector.ts';
import { ownsAddresses, type World, worldOf } from '../../../src/policy/world.ts';
import { type ApiObject, ClusterGenerator, Dice, NAMESPACES, NODES, ORPHAN, OUTSIDE } from '../../random/cluster.ts';
import { address, ip, labels, MODEL, namespace, pod, podsWith, policy } from './model.ts';

const WORLDS = 120;
const QUESTIONS = 60;
const DIRECTIONS = ['ingress', 'egress'] as const;

// --- random worlds

interface Parts {
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly policies: readonly Policy[];
}

function draw(seed: number): Parts {
  const generator = new ClusterGenerator(seed);
  const objects: ApiObject[] = [...generator.nodes(), ...NAMESPACES.map((name) => generator.namespace(name))];
  let host = 2;
  for (const name of [...NAMESPACES, ORPHAN]) {
    for (const index of [0, 1, 2]) objects.push(generator.pod(name, `p${index}`, generator.dice.pick(NODES), host++));
    for (const index of [0, 1]) objects.push(generator.policy(name, `policy-${index}`));
  }
  const sharing = new Sharing();
  const of = (kind: ApiObject['kind']): unknown[] =>
    objects.filter((object) => object.kind === kind).map((object) => project(object.kind, object, sharing).object);
  return {
    pods: of('Pod') as Pod[],
    namespaces: of('Namespace') as Namespace[],
    nodes: of('Node') as Node[],
    policies: of('NetworkPolicy') as Policy[],
  };
}

function drawQuestions({ pods, nodes }: Parts, dice: Dice): Question[] {
  const ends = [
    ...pods.filter(ownsAddresses).flatMap(({ addresses }) => addresses),
    ...nodes.flatMap(({ addresses }) => addresses),
    ...OUTSIDE.map(address),
  ];
  return Array.from({ length: QUESTIONS }, () => {
    const source = dice.pick(ends);
    const destination = dice.pick(ends.filter((end) => familyOf(end) === familyOf(source)));
    const protocol = dice.pick(['TCP', 'TCP', 'UDP', 'SCTP', 'ICMP'] as const);
    return { source, destination, protocol, ...(protocol === 'ICMP' ? {} : { port: dice.pick([80, 81, 8080, 443]) }) };
  });
}

function* asked(): Generator<{ readonly parts: Parts; readonly world: World; readonly question: Question; readonly direction: Direction }> {
  for (let seed = 1; seed <= WORLDS; seed++) {
    const parts = draw(seed);
    const world = worldOf(parts);
    for (const question of drawQuestions(parts, new Dice(seed))) {
      for (const direction of DIRECTIONS) yield { parts, world, question, direction };
    }
  }
}

// --- doing what a fault says

interface State {
  readonly parts: Parts;
  readonly question: Question;
  readonly policy: Policy;
}

/** What the fault says is amiss is put right, and nothing else. */
function repair(state: State, { rule, peer }: Miss, fault: Fault, direction: Direction): State {
  const { question } = state;
  const otherAddress = direction === 'egress' ? question.destination : question.source;
  const other = worldOf(state.parts).podAt(otherAddress);
  const destination = worldOf(state.parts).podAt(question.destination);
  const withPod = (changed: Pod | undefined, fields: Partial<Pod>): State => ({
    ...state,
    parts: { ...state.parts, pods: state.parts.pods.map((of) => (of.uid === changed?.uid ? { ...of, ...fields } : of)) },
  });
  const withRule = (change: (rule: Rule) => Rule): State => {
    const before = state.policy;
    const rules = before[direction]?.map((of) => (of.index === rule ? change(of) : of));
    const after: Policy = { ...before, [direction]: rules };
    return { ...state, policy: after };
  };
  const withPeer = (change: (peer: Peer) => Peer): State =>
    withRule((of) => ({ ...of, peers: of.peers?.map((each) => (each.index === peer ? change(each) : each)) }));
  const anyone: Peer = {
    kind: 'block',
    index: peer ?? 0,
    family: familyOf(otherAddress),
    cidr: { address: otherAddress, length: familyOf(otherAddress) === 4 ? 32 : 128 } satisfies Prefix,
    ranges: [{ first: otherAddress, last: otherAddress }],
    text: 'it',
  };
  switch (fault.kind) {
    case 'no-rules':
      return { ...state, policy: { ...state.policy, [direction]: [{ index: 0, peers: undefined, ports: undefined }] } };
    case 'portless':
    case 'ports-unreadable':
      return withRule((of) => ({ ...of, ports: undefined }));
    case 'port': {
      const { entry } = fault;
      if (entry.kind === 'numbers') return { ...state, question: { ...question, protocol: entry.protocol, port: entry.first } };
      const asIs = { ...question, protocol: entry.protocol };
      if (destination !== undefined) {
        const declared = { name: entry.name, protocol: entry.protocol, port: question.port ?? 0 };
        return { ...withPod(destination, { ports: [...destination.ports, declared] }), question: asIs };
      }
      const number: PortMatch = {
        kind: 'numbers',
        index: entry.index,
        protocol: entry.protocol,
        first: question.port ?? 0,
        last: question.port ?? 0,
      };
      return { ...withRule((of) => ({ ...of, ports: of.ports?.map((each) => (each === entry ? number : each)) })), question: asIs };
    }
    case 'label': {
      const { of, requirement, wanted } = fault;
      const namespaces = state.parts.namespaces;
      const before = of === 'pod' ? other?.labels : worldOf(state.parts).namespaceLabels(fault.namespace);
      const after = new Map(before);
      if (requirement.operator === 'In') after.set(requirement.key, wanted ?? assert.fail('no value is wanted'));
      else if (requirement.operator === 'DoesNotExist') after.delete(requirement.key);
      else after.set(requirement.key, 'something-else');
      if (of === 'pod') return withPod(other, { labels: after });
      const changed: Namespace = { name: fault.namespace, labels: after };
      return { ...state, parts: { ...state.parts, namespaces: [...namespaces.filter(({ name }) => name !== changed.name), changed] } };
    }
    case 'contradiction':
      return withPeer((of) =>
        of.kind !== 'pods' ? of : fault.of === 'pod' ? { ...of, pods: EVERYTHING } : { ...of, namespaces: EVERYTHING },
      );
    case 'own-namespace':
      return withPeer((of) => (of.kind === 'pods' ? { ...of, namespaces: EVERYTHING } : of));
    case 'peer-unreadable':
      return peer === undefined ? withRule((of) => ({ ...of, peers: undefined })) : withPeer(() => anyone);
    case 'no-pod':
    case 'block':
      return withPeer(() => anyone);
  }
}

function verdictOf({ parts, question, policy: changed }: State, direction: Direction, others = true): boolean {
  const policies = parts.policies.map((of) => (of.namespace === changed.namespace && of.name === changed.name ? changed : of));
  return evaluate(worldOf({ ...parts, policies: others ? policies : [changed] }), question)[direction].allowed;
}

/** The policy with nothing in this direction but the one rule and the one peer. */
function alone({ policy: of, rule, peer }: Miss, direction: Direction): Policy {
  const rules = of[direction]?.filter(({ index }) => index === rule);
  return { ...of, [direction]: rules?.map((only) => ({ ...only, peers: only.peers?.filter(({ index }) => index === peer) })) };
}

describe('misses in random worlds', function () {
  this.timeout(60_000);

  it('are there exactly where the evaluator refuses, one for each peer of each rule of each isolating policy', () => {
    const refusals = { ingress: 0, egress: 0 };
    for (const { world, question, direction } of asked()) {
      const verdict = evaluate(world, question)[direction];
      const misses = missesOf(world, question, direction);
      const atLeastOne = (count: number): number => Math.max(1, count);
      const expected =
        verdict.reason !== 'refused'
          ? 0
          : verdict.policies
              .map((of) => atLeastOne((of[direction] ?? []).reduce((sum, rule) => sum + atLeastOne(rule.peers?.length ?? 0), 0)))
              .reduce((sum, count) => sum + count, 0);
      assert.equal(misses.length, expected);
      assert.ok(misses.every(({ faults }) => faults.length > 0));
      if (expected > 0) refusals[direction]++;
    }
    assert.ok(refusals.ingress > 500 && refusals.egress > 500, JSON.stringify(refusals));
  });

  it('are put right by what their faults say, all of them and no fewer', () => {
    const repaired = new Map<Fault['kind'], number>();
    for (const { parts, world, question, direction } of asked()) {
      for (const miss of missesOf(world, question, direction)) {
        const start: State = { parts, question, policy: miss.policy };
        const all = miss.faults.reduce((state, fault) => repair(state, miss, fault, direction), start);
        assert.ok(verdictOf(all, direction), JSON.stringify(miss.faults));
        for (const left of miss.faults) {
          const start: State = { parts, question, policy: alone(miss, direction) };
          const others = miss.faults.filter((fault) => fault !== left);
          const state = others.reduce((before, fault) => repair(before, miss, fault, direction), start);
          assert.ok(!verdictOf(state, direction, false), `${JSON.stringify(left)} of ${JSON.stringify(miss.faults)} is no fault`);
          repaired.set(left.kind, (repaired.get(left.kind) ?? 0) + 1);
        }
      }
    }
    const kinds: readonly Fault['kind'][] = [
      'no-rules',
      'port',
      'portless',
      'ports-unreadable',
      'label',
      'own-namespace',
      'no-pod',
      'block',
      'peer-unreadable',
    ];
    for (const kind of kinds) assert.ok((repaired.get(kind) ?? 0) > 20, `${kind} was met ${repaired.get(kind) ?? 0} times`);
  });

  it('come with a sentence each', () => {
    for (const { world, question, direction } of asked()) {
      for (const { faults } of missesOf(world, question, direction)) {
        for (const fault of faults) assert.match(describeFault(fault, direction), /^(?:wants|admits|matches|has) .*[^.]$/u);
      }
    }
  });
});

// --- by hand

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
