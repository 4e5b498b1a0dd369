import assert from 'node:assert/strict';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { type Address, familyOf, parseAddress } from '../../../src/policy/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import { isEmpty } from '../../../src/ruleset/objects.ts';
import { ClusterGenerator, OUTSIDE } from '../../random/cluster.ts';
import { History, upsertOf } from '../../random/events.ts';
import { Replica } from './replica.ts';

const NODE = 'node-a';

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

describe('node ruleset', () => {
  it('is the same by differences as from the start, and its changes lead from each state to the next', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const history = new History(new ClusterGenerator(seed));
      const cluster = new Cluster(NODE);
      const ruleset = new NodeRuleset(cluster);
      const replica = new Replica();
      for (let step = 0; step < 30; step++) {
        replica.apply(ruleset.update(cluster.apply(history.batch())).changes);
        if (step % 5 !== 4) continue;
        assert.deepEqual(replica, Replica.of(ruleset), `seed ${seed}, step ${step}: what the changes led to`);
        const freshCluster = new Cluster(NODE);
        const fresh = new NodeRuleset(freshCluster);
        fresh.update(freshCluster.apply(history.state.values()));
        assert.deepEqual(replica, Replica.of(fresh), `seed ${seed}, step ${step}: what a fresh start gives`);
      }
    }
  });

  it('admits exactly what the evaluator allows, judged by its rules alone', () => {
    let refused = 0;
    let admitted = 0;
    for (let seed = 1000; seed < 1060; seed++) {
      const history = new History(new ClusterGenerator(seed));
      const cluster = new Cluster(NODE);
      const ruleset = new NodeRuleset(cluster);
      for (let step = 0; step < 25; step++) ruleset.update(cluster.apply(history.batch()));
      const replica = Replica.of(ruleset);
      const pods = [...history.state.values()].flatMap((event) =>
        event.kind === 'Pod' && !event.object.hostNetwork ? event.object.addresses : [],
      );
      const addresses = [...new Set([...pods, ...OUTSIDE.map(address)])];
      for (const source of addresses) {
        for (const destination of addresses) {
          if (familyOf(source) !== familyOf(destination)) continue;
          for (const [protocol, port] of [
            ['TCP', 80],
            ['TCP', 81],
            ['UDP', 80],
            ['SCTP', 8080],
            ['TCP', 8000],
            ['ICMP', undefined],
          ] as const) {
            const question = port === undefined ? { source, destination, protocol } : { source, destination, protocol, port };
            const verdict = evaluate(cluster, question);
            for (const [direction, pod] of [
              ['ingress', cluster.podAt(destination)],
              ['egress', cluster.podAt(source)],
            ] as const) {
              if (pod === undefined || pod.node !== NODE) continue;
              const where = `seed ${seed} ${direction} ${source} ${destination} ${protocol} ${port}`;
              assert.equal(replica.admits(direction, question), verdict[direction].allowed, where);
              if (verdict[direction].allowed) admitted++;
              else refused++;
            }
          }
        }
      }
    }
    assert.ok(admitted > 1000 && refused > 1000, `${admitted} admitted and ${refused} refused are too few to tell`);
  });

  it('names an end of every flow whose verdict on this node a change turned', () => {
    const questions = [
      ['TCP', 80],
      ['TCP', 81],
      ['UDP', 80],
      ['SCTP', 8080],
    ] as const;
    const verdicts = (cluster: Cluster, addresses: readonly Address[]): Map<string, boolean> => {
      const all = new Map<string, boolean>();
      for (const source of addresses) {
        for (const destination of addresses) {
          if (familyOf(source) !== familyOf(destination)) continue;
          for (const [protocol, port] of questions) {
            const { egress, ingress } = evaluate(cluster, { source, destination, protocol, port });
            const local = (end: Address): boolean => cluster.podAt(end)?.node === NODE;
            all.set(
              `${source} ${destination} ${protocol} ${port}`,
              (!local(source) || egress.allowed) && (!local(destination) || ingress.allowed),
            );
          }
        }
      }
      return all;
    };
    const turned = { tightened: 0, loosened: 0 };
    for (let seed = 2000; seed < 2012; seed++) {
      const history = new History(new ClusterGenerator(seed));
      const cluster = new Cluster(NODE);
      const ruleset = new NodeRuleset(cluster);
      // Every address that the generator gives to pods.
      const addresses = ['node-a', 'node-b'].flatMap((_, index) =>
        Array.from({ length: 6 }, (_, host) => [
          address(`10.244.${index + 1}.${host + 2}`),
          address(`fd00:244:${index + 1}::${host + 2}`),
        ]).flat(),
      );
      for (let step = 0; step < 30; step++) {
        const before = verdicts(cluster, addresses);
        const { tightened, loosened } = ruleset.update(cluster.apply(history.batch()));
        for (const [flow, allowed] of verdicts(cluster, addresses)) {
          if (allowed === before.get(flow)) continue;
          const ends = flow.split(' ').slice(0, 2);
          const named = addresses.filter((end) => ends.includes(`${end}`));
          const where = `seed ${seed}, step ${step}: ${flow} is ${allowed ? 'allowed' : 'refused'} now`;
          if (allowed)
            assert.ok(
              named.some((end) => tightened.has(end) || loosened.has(end)),
              where,
            );
          else
            assert.ok(
              named.some((end) => tightened.has(end)),
              where,
            );
          turned[allowed ? 'loosened' : 'tightened']++;
        }
      }
    }
    assert.ok(turned.tightened > 1000 && turned.loosened > 1000, JSON.stringify(turned));
  });

  it('unites the blocks of a rule where there are very many, and keeps few apart', () => {
    const rulesOf = (count: number): { rules: number; sets: number; replica: Replica } => {
      const from = Array.from({ length: count }, (_, index) => ({
        ipBlock: { cidr: `192.0.${index >> 8}.${index & 255}/32`, ...(index === 7 ? { except: ['192.0.0.7/32'] } : {}) },
      }));
      const cluster = new Cluster(NODE);
      const ruleset = new NodeRuleset(cluster);
      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'a', namespace: 'x' },
        spec: { nodeName: NODE, containers: [] },
        status: { podIPs: [{ ip: '10.244.1.2' }] },
      } as const;
      const policy = {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'p', namespace: 'x' },
        spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {} }, ...from] }] },
      } as const;
      ruleset.update(cluster.apply([upsertOf(pod), upsertOf(policy)]));
      return { rules: ruleset.chains.get('policy/x/p/ingress')?.rules.length ?? 0, sets: ruleset.sets.size, replica: Replica.of(ruleset) };
    };
    const few = rulesOf(10);
    // The block that is excepted whole has no rule.
    assert.deepEqual([few.rules, few.sets], [10, 10]);
    const many = rulesOf(500);
    assert.deepEqual([many.rules, many.sets], [2, 2]);
    const asks = (source: string): boolean =>
      many.replica.admits('ingress', { source: address(source), destination: address('10.244.1.2'), protocol: 'TCP', port: 80 });
    assert.deepEqual(['192.0.0.6', '192.0.0.7', '192.0.0.8', '192.0.1.243', '192.0.1.244'].map(asks), [true, false, true, true, false]);
  });

  it('changes nothing where nothing that policy is made of changed', () => {
    const history = new History(new ClusterGenerator(5));
    const cluster = new Cluster(NODE);
    const ruleset = new NodeRuleset(cluster);
    for (let step = 0; step < 40; step++) ruleset.update(cluster.apply(history.batch()));
    const again = [...history.state.values()].map((event) => ({ ...event, object: structuredClone(event.object) }) as typeof event);
    assert.ok(isEmpty(ruleset.update(cluster.apply(again)).changes));
  });
});
