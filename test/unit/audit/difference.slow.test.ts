import assert from 'node:assert/strict';
import { flowDifference } from '../../../src/audit/difference-flows.ts';
import { type Change, type Comparison, differenceOf, pairsOf, partiesOf } from '../../../src/audit/difference.ts';
import { apply, type ObjectLists } from '../../../src/audit/difference-objects.ts';
import { CUT_LABEL } from '../../../src/enforcement/conntrack/flow-sweep.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { type Address, addressBytes, parseAddress } from '../../../src/policy/address.ts';
import { Equivalence } from '../../../src/policy/equivalence.ts';
import { addressOf, isOwnNode, isPair } from '../../../src/policy/equivalence-parties.ts';
import { evaluate, type Question } from '../../../src/policy/evaluate.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { Namespace, Node, Pod, Policy } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { type Flow, labelBits, type Tuple } from 'nftables-js';
import { type ApiObject, PORTS } from '../../random/cluster.ts';
import { LabCluster } from '../../random/lab-cluster.ts';

const SHARING = new Sharing();
const CLUSTERS = 40;

function listsOf(objects: readonly ApiObject[]): ObjectLists {
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

function comparisonOf(before: ObjectLists, after: ObjectLists, onlyPolicies: boolean): Comparison {
  return {
    before: new Equivalence(worldOf(before), before.pods),
    after: new Equivalence(worldOf(after), after.pods),
    pods: after.pods,
    nodes: after.nodes,
    onlyPolicies,
  };
}

/** Of one protocol and port what is said to become of each pair: `source destination family`. */
function saidOf(changes: readonly Change[], protocol: Question['protocol'], port: number): Map<string, string> {
  const said = new Map<string, string>();
  for (const change of changes) {
    const isMeant = change.ports.some(
      (set) =>
        set.protocol === protocol && (set.ranges.length === 0 || set.ranges.some(({ first, last }) => first <= port && port <= last)),
    );
    if (!isMeant) continue;
    for (const { source, destination, family } of pairsOf(change)) {
      const key = `${source.name} → ${destination.name} IPv${family}`;
      assert.equal(said.has(key), false, `${key} is said twice`);
      said.set(key, change.becomes);
    }
  }
  return said;
}

describe('a difference', () => {
  it('is what the evaluator says before and after, for every pair, protocol and port of random changes', () => {
    let turned = 0;
    for (let seed = 1; seed <= CLUSTERS; seed++) {
      const before = listsOf(new LabCluster(seed).objects);
      // Policies of another cluster, of which some have the same names.
      const others = listsOf(new LabCluster(seed + 5000).objects).policies;
      const applied = apply(
        before,
        others.map((policy) => ({ kind: 'NetworkPolicy' as const, key: `${policy.namespace}/${policy.name}`, object: policy })),
      );
      const comparison = comparisonOf(before, applied.objects, applied.onlyPolicies);
      const { changes } = differenceOf(comparison);
      const parties = partiesOf(comparison);
      for (const protocol of ['TCP', 'UDP', 'SCTP', 'ICMP', 'other'] as const) {
        for (const port of protocol === 'ICMP' || protocol === 'other' ? [0] : [...PORTS, 0, 79, 500, 8000, 65_535]) {
          const expected = new Map<string, string>();
          for (const source of parties) {
            for (const destination of parties) {
              if (!isPair(source, destination) || isOwnNode(source, destination)) continue;
              for (const family of [4, 6] as const) {
                const [from, to] = [addressOf(source, family), addressOf(destination, family)];
                if (from === undefined || to === undefined) continue;
                const question = { source: from, destination: to, protocol, port };
                const [was, is] = [evaluate(comparison.before.world, question).allowed, evaluate(comparison.after.world, question).allowed];
                if (was !== is) expected.set(`${source.name} → ${destination.name} IPv${family}`, is ? 'allowed' : 'denied');
              }
            }
          }
          turned += expected.size;
          const said = saidOf(changes, protocol, port);
          assert.deepEqual(said, expected, `cluster ${seed}, ${port}/${protocol}`);
        }
      }
    }
    assert.ok(turned > 1000, `${turned}`);
  });

  it('does not look at what no change can have touched, and misses nothing for that', () => {
    for (let seed = 1; seed <= CLUSTERS; seed++) {
      const before = listsOf(new LabCluster(seed).objects);
      const after = { ...before, policies: before.policies.slice(1) };
      const text = (onlyPolicies: boolean): string =>
        differenceOf(comparisonOf(before, after, onlyPolicies))
          .changes.map(({ becomes, sources, destinations, ports }) =>
            [becomes, sources.map(({ name }) => name), destinations.map(({ name }) => name), JSON.stringify(ports)].join(' '),
          )
          .join('\n');
      assert.equal(text(true), text(false));
    }
  });
});

describe('live flows in a difference', () => {
  const [CLIENT, SERVER, OTHER] = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];

  function address(text: string): Address {
    return parseAddress(text) ?? assert.fail(text);
  }

  function flow(source: string, destination: string, cut: 'label' | 'mark' | undefined): Flow {
    const tuple = (from: string, to: string, fromPort: number, toPort: number): Tuple => ({
      source: addressBytes(address(from)),
      destination: addressBytes(address(to)),
      protocol: 6,
      sourcePort: fromPort,
      destinationPort: toPort,
      icmp: undefined,
    });
    return {
      family: 'ip',
      id: 1,
      original: tuple(source, destination, 40_000, 80),
      reply: tuple(destination, source, 80, 40_000),
      zone: 0,
      zoneDirection: 'both',
      status: 0,
      mark: cut === 'mark' ? 0x1000 : 0,
      labels: cut === 'label' ? labelBits(CUT_LABEL) : undefined,
      timeoutSeconds: 100,
    };
  }

  function pods(): Pod[] {
    return [CLIENT, SERVER, OTHER].map((ip, index) => {
      const { object } = project(
        'Pod',
        {
          metadata: { namespace: 'x', name: `p${index}`, labels: { app: `p${index}` } },
          spec: { nodeName: index === 2 ? 'n2' : 'n1', containers: [] },
          status: { phase: 'Running', podIPs: [{ ip }] },
        },
        SHARING,
      );
      return object ?? assert.fail();
    });
  }

  const deny = (app: string): Policy => interpretPolicy('x', `deny-${app}`, { podSelector: { matchLabels: { app } } });
  const judge = (...policies: readonly Policy[]) => ({ world: worldOf({ pods: pods(), policies }), node: 'n1' });
  const between = (source: string, destination: string) => [
    { source: address(source), destination: address(destination), protocol: 'TCP', port: 80 },
  ];

  it('are cut where the node of the pod that refuses them is at hand, and only there', () => {
    const flows = [flow(CLIENT, SERVER, undefined), flow(CLIENT, OTHER, undefined)];
    const { judged, cut, restored } = flowDifference(flows, judge(), judge(deny('p1'), deny('p2')), 0x1000);
    assert.deepEqual([judged, cut, restored], [2, between(CLIENT, SERVER), []]);
  });

  it('go on again where what had them cut is gone, by label or by mark', () => {
    for (const how of ['label', 'mark'] as const) {
      const { cut, restored } = flowDifference([flow(CLIENT, SERVER, how)], judge(deny('p1')), judge(), 0x1000);
      assert.deepEqual([cut, restored], [[], between(CLIENT, SERVER)]);
    }
  });

  it('are not cut by a change where they are cut already, or about to be', () => {
    const denied = judge(deny('p1'));
    for (const cut of ['label', undefined] as const) {
      const found = flowDifference([flow(CLIENT, SERVER, cut)], denied, judge(deny('p1'), deny('p0')), 0x1000);
      assert.deepEqual([found.cut, found.restored], [[], []]);
    }
  });

  it('are not cut on account of a pod that is audited', () => {
    const audited = { ...judge(deny('p1')), isAudited: () => true };
    assert.deepEqual(flowDifference([flow(CLIENT, SERVER, undefined)], judge(), audited, 0x1000).cut, []);
  });
});
