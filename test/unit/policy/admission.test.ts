/** The prepared yes or no is the evaluator's, for random clusters and whatever is asked of them. */
import assert from 'node:assert/strict';
import { Admission } from '../../../src/policy/admission.ts';
import type { Address } from '../../../src/policy/address.ts';
import { askedAbout, evaluateOne, type Flow } from '../../../src/policy/evaluate.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { Direction, Policy, Protocol } from '../../../src/policy/objects.ts';
import { worldOf, type World } from '../../../src/policy/world.ts';
import { Dice } from '../../random/cluster.ts';
import { address, KEYS, ip, labels, NAMESPACES, pod, PODS } from './model.ts';

const OUTSIDE = ['192.0.2.9', '198.51.100.7', '10.244.9.9', '2001:db8::1'];
const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];
const PORTS = [0, 79, 80, 81, 82, 443, 8080, 65_535];

function randomPort(dice: Dice): object {
  const protocol = dice.pick(['TCP', 'UDP', 'SCTP', undefined]);
  return dice.pick([
    { protocol },
    { protocol, port: 80 },
    { protocol, port: 79, endPort: 81 },
    { protocol, port: 81, endPort: 65_535 },
    { protocol, port: dice.pick(['serve-80-tcp', 'serve-81-udp', 'nobody']) },
  ]);
}

function randomPeer(dice: Dice): object {
  const value = (): string => dice.pick(['a', 'b', 'c']);
  return dice.pick([
    { podSelector: { matchLabels: { pod: value() } } },
    { podSelector: {}, namespaceSelector: { matchLabels: { ns: dice.pick([...NAMESPACES]) } } },
    { namespaceSelector: {}, podSelector: { matchExpressions: [{ key: 'pod', operator: 'NotIn', values: [value()] }] } },
    { ipBlock: { cidr: dice.pick(['10.244.0.0/16', '192.0.2.0/24', 'fd00::/8', '0.0.0.0/0']), except: [] } },
    { ipBlock: { cidr: '10.244.0.0/16', except: ['10.244.2.0/24'] } },
    { ipBlock: { cidr: `10.244.${dice.roll(4)}.${dice.roll(20)}/32` } },
    {},
  ]);
}

function randomPolicies(dice: Dice, count: number): Policy[] {
  const list = (make: (dice: Dice) => object): object[] | undefined =>
    dice.chance(20) ? undefined : Array.from({ length: 1 + dice.roll(3) }, () => make(dice));
  return Array.from({ length: count }, (_, index) => {
    const rules = (peers: 'from' | 'to'): object[] =>
      Array.from({ length: dice.roll(3) }, () => ({ [peers]: list(randomPeer), ports: list(randomPort) }));
    const podSelector = dice.chance(50) ? {} : { matchLabels: { pod: dice.pick(['a', 'b']) } };
    const spec = { podSelector, policyTypes: ['Ingress', 'Egress'], ingress: rules('from'), egress: rules('to') };
    return interpretPolicy(dice.pick([...NAMESPACES]), `p${index}`, spec);
  });
}

function worldWith(policies: readonly Policy[]): World {
  // Two have their labels from one set, as equal ones may.
  const shared = labels({ ns: 'x' });
  const namespaces = NAMESPACES.map((name) => ({ name, labels: name === 'z' ? labels({ ns: name }) : shared }));
  const ofPods = new Map(PODS.map((name) => [name, labels({ pod: name })]));
  const pods = KEYS.map((key) => pod(key, { labels: ofPods.get(key.slice(2) as (typeof PODS)[number]) ?? assert.fail(key) }));
  return worldOf({ pods, namespaces, policies });
}

/** What is asked, and what both say of it. */
function compare(world: World, admission: Admission, question: Pick<Flow, 'source' | 'destination' | 'protocol' | 'port'>): boolean[] {
  const flow: Flow = { ...question, sourcePod: world.podAt(question.source), destinationPod: world.podAt(question.destination) };
  return DIRECTIONS.flatMap((direction) => {
    const asked = askedAbout(world, flow, direction);
    if ('allowed' in asked) return [];
    const { allowed } = evaluateOne(world, question, direction);
    assert.equal(
      admission.admits(world, asked, flow, direction),
      allowed,
      JSON.stringify({ direction, ...question }, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
    );
    return [allowed];
  });
}

describe('admission', () => {
  it('is what the evaluator says, whatever is asked, and asked again', () => {
    const verdicts: boolean[] = [];
    for (let seed = 1; seed <= 40; seed++) {
      const dice = new Dice(seed);
      const world = worldWith(randomPolicies(dice, 1 + dice.roll(8)));
      const admission = new Admission();
      const addresses: readonly Address[] = [...KEYS.flatMap((key) => [address(ip(key, 4)), address(ip(key, 6))]), ...OUTSIDE.map(address)];
      for (let count = 0; count < 400; count++) {
        const [source, destination] = [dice.pick(addresses), dice.pick(addresses)];
        if (typeof source !== typeof destination) continue;
        const protocol = dice.pick<Protocol>(['TCP', 'UDP', 'SCTP', 'ICMP', 'other']);
        const port = protocol === 'ICMP' || protocol === 'other' ? undefined : dice.pick(PORTS);
        verdicts.push(...compare(world, admission, { source, destination, protocol, port }));
      }
    }
    const allowed = verdicts.filter(Boolean).length;
    assert.ok(allowed > 500 && verdicts.length - allowed > 500, `${allowed} of ${verdicts.length}`);
  });

  it('of 500 policies costs a search, not a walk: 20,000 questions about as many addresses', () => {
    const policies = Array.from({ length: 500 }, (_, index) =>
      interpretPolicy('x', `p${index}`, {
        ingress: [{ from: [{ ipBlock: { cidr: `11.0.${index % 250}.${index}/32` } }], ports: [{ port: 80 }] }],
      }),
    );
    const world = worldWith(policies);
    const destination = address(ip('x/a'));
    let looks = 0;
    const flow = { destination, protocol: 'TCP', port: 80, sourcePod: undefined, destinationPod: world.podAt(destination) } as const;
    const asked = askedAbout(world, { ...flow, source: address('11.0.0.0') }, 'ingress');
    assert.ok(!('allowed' in asked));
    // Whoever walks the rules for each question reads the ranges of each of them.
    const watchedRanges = <T extends object>(ranges: T): T =>
      new Proxy(ranges, {
        get: (target, key, receiver): unknown => {
          looks++;
          return Reflect.get(target, key, receiver);
        },
      });
    const watched = asked.map((policy) => ({
      ...policy,
      ingress: policy.ingress?.map((rule) => ({
        ...rule,
        peers: rule.peers?.map((peer) => (peer.kind === 'block' ? { ...peer, ranges: watchedRanges(peer.ranges) } : peer)),
      })),
    }));
    const admission = new Admission();
    let admitted = 0;
    for (let index = 0; index < 20_000; index++) {
      const source = address(`11.0.${index >> 8}.${index & 255}`);
      if (admission.admits(world, watched, { ...flow, source }, 'ingress')) admitted++;
    }
    // Of 11.0.K.N: N is 0 to 255, and K 0 to 77.
    const expected = policies.filter((_, index) => index < 256 && index % 250 < 78).length;
    assert.equal(admitted, expected);
    assert.ok(looks < 20_000, `${looks} looks`);
  });

  it('prepares rule by rule, and says so when it has', () => {
    const policy = interpretPolicy('x', 'p', { ingress: [{ ports: [{ port: 80 }] }, { ports: [{ port: 81 }] }] });
    const admission = new Admission();
    assert.equal([...admission.prepare([policy], 'ingress')].length, 2);
    assert.equal([...admission.prepare([policy], 'ingress')].length, 0);
  });
});
