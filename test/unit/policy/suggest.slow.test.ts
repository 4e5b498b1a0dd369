import assert from 'node:assert/strict';
import type { Address } from '../../../src/policy/address.ts';
import { type DirectionVerdict, evaluate, type Question } from '../../../src/policy/evaluate.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { Namespace, Node, Pod, Policy, Protocol } from '../../../src/policy/objects.ts';
import { type Suggestion, suggestPolicy } from '../../../src/policy/suggest.ts';
import { isDisputed, type Objects, ownsAddresses, type World, worldOf } from '../../../src/policy/world.ts';
import { ClusterGenerator, Dice, OUTSIDE, PORTS } from '../../random/cluster.ts';
import { History } from '../../random/events.ts';
import { address, ip, labels, MODEL, pod, podsWith, policy } from './model.ts';

/** What the API would make of it: also shows that it is written as the API wants it. */
function read({ policy: { metadata, spec } }: Suggestion): Policy {
  const meaning = interpretPolicy(metadata.namespace, metadata.name, spec);
  assert.deepEqual(meaning.problems, [], JSON.stringify(spec));
  return meaning;
}

interface Lists extends Objects {
  readonly pods: readonly Pod[];
  readonly policies: readonly Policy[];
}

function worldWith(lists: Lists, suggestions: readonly Suggestion[]): World {
  return worldOf({ ...lists, policies: [...lists.policies, ...suggestions.map(read)] });
}

function isolationOf(world: World, pods: readonly Pod[]): string[] {
  return pods.flatMap((each) =>
    (['ingress', 'egress'] as const).flatMap((direction) =>
      world.isolating(each, direction).length > 0 ? [`${each.namespace}/${each.name} ${direction}`] : [],
    ),
  );
}

function listsOf(history: History): Lists {
  const of = <T>(kind: string): T[] =>
    [...history.state.values()].flatMap((event) => (event.type === 'upsert' && event.kind === kind ? [event.object as T] : []));
  return { pods: of<Pod>('Pod'), namespaces: of<Namespace>('Namespace'), nodes: of<Node>('Node'), policies: of<Policy>('NetworkPolicy') };
}

function suggestions(
  lists: Lists,
  from: string,
  to: string,
  protocol: Protocol = 'TCP',
  port: number | undefined = 80,
): readonly Suggestion[] {
  const world = worldOf(lists);
  const found = suggestPolicy(world, { source: address(from), destination: address(to), protocol, port });
  assert.ok(evaluate(worldWith(lists, found), { source: address(from), destination: address(to), protocol, port }).allowed);
  return found;
}

const DENY = { podSelector: {}, policyTypes: ['Ingress', 'Egress'] };

/** Where several pods claim an address, and different policies isolate them, no policy admits anything. */
function isHopeless(verdict: DirectionVerdict): boolean {
  return verdict.reason === 'refused' && isDisputed(verdict.policies);
}

/** How many live pods claim an address. */
function claims(pods: readonly Pod[], address: Address): number {
  return pods.filter((pod) => ownsAddresses(pod) && pod.addresses.includes(address)).length;
}

describe('suggested policies', () => {
  it('admit the flow, and isolate nobody who was not isolated before', () => {
    const dice = new Dice(7);
    const shown = { egress: 0, ingress: 0, both: 0 };
    for (let seed = 1; seed <= 150; seed++) {
      const history = new History(new ClusterGenerator(seed));
      for (let step = 0; step < 25; step++) history.batch();
      const lists = listsOf(history);
      const world = worldOf(lists);
      const addresses: Address[] = [...lists.pods.flatMap((each) => each.addresses), ...OUTSIDE.map(address)];
      for (let tries = 0; tries < 150; tries++) {
        const source = dice.pick(addresses);
        const destination = dice.pick(addresses);
        if (typeof source !== typeof destination) continue;
        const protocol = dice.pick(['TCP', 'UDP', 'SCTP', 'ICMP', 'other'] as const);
        const question: Question = { source, destination, protocol, port: dice.pick([...PORTS, 0, 65_535]) };
        const verdict = evaluate(world, question);
        const found = suggestPolicy(world, question, verdict);
        assert.deepEqual(
          found.map(({ direction }) => direction),
          (['egress', 'ingress'] as const).filter((direction) => !verdict[direction].allowed && !isHopeless(verdict[direction])),
        );
        if (verdict.allowed || isHopeless(verdict.egress) || isHopeless(verdict.ingress)) continue;
        // What selects one of two pods with one address makes a dispute of it (row 40).
        if ([source, destination].some((end) => (world.podAt(end)?.addresses ?? []).some((each) => claims(lists.pods, each) > 1))) continue;
        shown[found.length === 2 ? 'both' : (found[0]?.direction ?? 'both')]++;
        const after = worldWith(lists, found);
        assert.ok(evaluate(after, question).allowed, `seed ${seed}: ${JSON.stringify(found)}`);
        assert.deepEqual(isolationOf(after, lists.pods), isolationOf(world, lists.pods), `seed ${seed}: ${JSON.stringify(found)}`);
      }
    }
    for (const [what, count] of Object.entries(shown)) assert.ok(count > 100, `${what}: ${count}`);
  });

  it('select by lasting labels, across namespaces by the name of the namespace', () => {
    const pods = podsWith(
      pod('x/a', { labels: labels({ app: 'db', 'controller-revision-hash': 'db-5f', 'apps.kubernetes.io/pod-index': '0' }) }),
      pod('y/b', { labels: labels({ app: 'web', tier: 'front', 'pod-template-hash': '7d9f' }) }),
    );
    const [suggestion, ...others] = suggestions(
      { ...MODEL, pods, policies: [policy({ podSelector: {} })] },
      ip('y/b'),
      ip('x/a'),
      'TCP',
      5432,
    );
    assert.deepEqual(others, []);
    assert.deepEqual(suggestion, {
      direction: 'ingress',
      policy: {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: suggestion?.policy.metadata.name, namespace: 'x' },
        spec: {
          podSelector: { matchLabels: { app: 'db' } },
          policyTypes: ['Ingress'],
          ingress: [
            {
              from: [
                {
                  namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'y' } },
                  podSelector: { matchLabels: { app: 'web', tier: 'front' } },
                },
              ],
              ports: [{ protocol: 'TCP', port: 5432 }],
            },
          ],
        },
      },
      admits: 'TCP 5432 into pods app=db of x, from pods app=web,tier=front of y',
      notes: [],
    });
    assert.match(suggestion.policy.metadata.name, /^allow-ingress-from-web-tcp-5432-[a-z0-9]+$/);
  });

  it('name no port where the protocol has none that a policy can name', () => {
    const lists = { ...MODEL, policies: [policy(DENY)] };
    const [dccp, icmp] = (['other', 'ICMP'] as const).map(
      (protocol) => suggestions(lists, ip('y/a'), ip('x/a'), protocol, 4807)[0]?.policy,
    );
    assert.deepEqual(dccp?.spec.ingress?.[0]?.ports, undefined);
    assert.doesNotMatch(dccp?.metadata.name ?? '4807', /4807/);
    assert.deepEqual(dccp, icmp, 'what is the same has one name');
  });

  it('admit nobody else: neither another pod, nor another port, nor the other direction', () => {
    const pods = podsWith(pod('x/a', { labels: labels({ app: 'db' }) }), pod('x/b', { labels: labels({ app: 'web' }) }));
    const lists: Lists = { ...MODEL, pods, policies: [policy(DENY)] };
    const found = suggestions(lists, ip('x/b'), ip('x/a'));
    assert.deepEqual(
      found.map(({ direction, policy: { spec } }) => [direction, spec.policyTypes]),
      [
        ['egress', ['Egress']],
        ['ingress', ['Ingress']],
      ],
    );
    const after = worldWith(lists, found);
    const allowed = (from: string, to: string, protocol: Protocol, port: number): boolean =>
      evaluate(after, { source: address(ip(from)), destination: address(ip(to)), protocol, port }).allowed;
    assert.deepEqual(
      [
        allowed('x/b', 'x/a', 'TCP', 80),
        allowed('x/b', 'x/a', 'TCP', 81),
        allowed('x/b', 'x/a', 'UDP', 80),
        allowed('x/a', 'x/b', 'TCP', 80),
        allowed('x/c', 'x/a', 'TCP', 80),
        allowed('x/b', 'x/c', 'TCP', 80),
      ],
      [true, false, false, false, false, false],
    );
  });

  it('ask for whatever the isolating policy asks for, so that they select nobody who is open', () => {
    const pods = podsWith(
      pod('x/a', { labels: labels({ app: 'db', 'pod-template-hash': '1' }) }),
      pod('x/c', { labels: labels({ app: 'db', 'pod-template-hash': '2', canary: 'yes' }) }),
    );
    const subject = (podSelector: unknown): Suggestion['policy']['spec']['podSelector'] | undefined =>
      suggestions({ ...MODEL, pods, policies: [policy({ podSelector })] }, ip('x/b'), ip('x/a'))[0]?.policy.spec.podSelector;
    assert.deepEqual(subject({ matchLabels: { 'pod-template-hash': '1' } }), { matchLabels: { app: 'db', 'pod-template-hash': '1' } });
    assert.deepEqual(subject({ matchExpressions: [{ key: 'canary', operator: 'DoesNotExist' }] }), {
      matchLabels: { app: 'db' },
      matchExpressions: [{ key: 'canary', operator: 'DoesNotExist' }],
    });
    assert.deepEqual(subject({ matchExpressions: [{ key: 'canary', operator: 'NotIn', values: ['yes', 'no'] }] }), {
      matchLabels: { app: 'db' },
      matchExpressions: [{ key: 'canary', operator: 'NotIn', values: ['no', 'yes'] }],
    });
    assert.deepEqual(subject({ matchExpressions: [{ key: 'app', operator: 'In', values: ['db', 'x'] }] }), { matchLabels: { app: 'db' } });
  });

  it('name addresses that are no pod’s one by one, of both families, and say whose they may be', () => {
    const lists: Lists = { ...MODEL, policies: [policy(DENY)] };
    const [outside] = suggestions(lists, '192.0.2.7', ip('x/a'));
    assert.deepEqual(outside?.policy.spec.ingress?.[0]?.from, [{ ipBlock: { cidr: '192.0.2.7/32' } }]);
    assert.deepEqual(outside.notes, []);
    const [six] = suggestions(lists, '2001:db8::7', ip('x/a', 6));
    assert.deepEqual(six?.policy.spec.ingress?.[0]?.from, [{ ipBlock: { cidr: '2001:db8::7/128' } }]);
    const unlabelled = podsWith(pod('y/b', { labels: labels({}) }));
    const [bare] = suggestions({ ...lists, pods: unlabelled }, ip('y/b'), ip('x/a'));
    assert.deepEqual(bare?.policy.spec.ingress?.[0]?.from, [{ ipBlock: { cidr: `${ip('y/b')}/32` } }]);
    assert.match(bare.notes.join(), /y\/b has no labels/);
  });

  it('say what they admit beyond the flow, where policies cannot say less', () => {
    const lists: Lists = { ...MODEL, policies: [policy({ podSelector: {} })] };
    const [icmp] = suggestions(lists, ip('x/b'), ip('x/a'), 'ICMP', undefined);
    assert.equal(icmp?.policy.spec.ingress?.[0]?.ports, undefined);
    assert.match(icmp?.notes.join() ?? '', /every protocol and port/);
    const [zero] = suggestions(lists, ip('x/b'), ip('x/a'), 'UDP', 0);
    assert.deepEqual(zero?.policy.spec.ingress?.[0]?.ports, [{ protocol: 'UDP' }]);
    assert.match(zero?.notes.join() ?? '', /every UDP port/);
  });

  it('are none where the flow is allowed', () => {
    assert.deepEqual(
      suggestPolicy(worldOf(MODEL), { source: address(ip('x/b')), destination: address(ip('x/a')), protocol: 'TCP', port: 80 }),
      [],
    );
  });
});
