/** Nearest misses in random worlds: each is put right as its faults say, and the evaluator is asked again. */
import assert from 'node:assert/strict';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { familyOf, type Prefix } from '../../../src/policy/address.ts';
import { evaluate, type Question } from '../../../src/policy/evaluate.ts';
import { describeFault, type Fault, type Miss, missesOf } from '../../../src/policy/nearest-miss.ts';
import type { Direction, Namespace, Node, Peer, Pod, Policy, PortMatch, Rule } from '../../../src/policy/objects.ts';
import { EVERYTHING } from '../../../src/policy/selector.ts';
import { ownsAddresses, type World, worldOf } from '../../../src/policy/world.ts';
import { type ApiObject, ClusterGenerator, Dice, NAMESPACES, NODES, ORPHAN, OUTSIDE } from '../../random/cluster.ts';
import { address } from './model.ts';

const WORLDS = 120;
const QUESTIONS = 60;
const DIRECTIONS = ['ingress', 'egress'] as const;

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
