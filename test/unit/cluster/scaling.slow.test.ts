/** What costs twice as much costs at most little more than twice the time: nothing is a product of two lengths that somebody else chooses. */
import assert from 'node:assert/strict';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { upsertOf } from '../../random/events.ts';

/** Between two and four, which is what something quadratic takes; the rest is for the noise of a machine that others use as well. */
const LINEAR = 3;
const TRIES = 5;

/** CPU milliseconds. */
function cpuOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function pod(
  name: string,
  node: string,
  index: number,
  labels: Readonly<Record<string, string>>,
  containers: readonly object[] = [],
): SourceEvent {
  return upsertOf({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'tenant', name, labels },
    spec: { nodeName: node, containers },
    status: { podIPs: [{ ip: `10.244.${index >> 8}.${index & 255}` }] },
  });
}

/** A policy a selector, each of which selects every pod of the namespace and is no other's: NotIn of a value that nobody has. */
function policies(count: number): SourceEvent[] {
  return Array.from({ length: count }, (_, index) =>
    upsertOf({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: 'tenant', name: `p${index}` },
      spec: {
        podSelector: { matchLabels: { here: 'yes' } },
        ingress: [{ from: [{ podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: [`v${index}`] }] } }] }],
      },
    }),
  );
}

interface Sized {
  readonly what: string;
  /** Returns what is measured. */
  readonly prepare: (size: number) => () => void;
  readonly size: number;
}

const PODS = 50;

function manyGroups(size: number): { cluster: Cluster; ruleset: NodeRuleset; events: SourceEvent[] } {
  const cluster = new Cluster('n');
  const ruleset = new NodeRuleset(cluster);
  const others = Array.from({ length: PODS }, (_, index) => pod(`pod-${index}`, 'other', index + 2, { app: 'web' }));
  ruleset.update(cluster.apply([pod('here', 'n', 1, { here: 'yes' }), ...others]));
  return { cluster, ruleset, events: policies(size) };
}

describe('the cost of what a tenant may write', () => {
  const cases: readonly Sized[] = [
    {
      what: 'distinct selectors that all match the same pods',
      size: 1_500,
      prepare: (size) => {
        const { cluster, ruleset, events } = manyGroups(size);
        return () => void ruleset.update(cluster.apply(events));
      },
    },
    {
      what: 'a pod that comes into and leaves so many groups',
      size: 4_000,
      prepare: (size) => {
        const { cluster, ruleset, events } = manyGroups(size);
        ruleset.update(cluster.apply(events));
        return () => {
          for (const app of ['v1', 'v2', 'v3']) ruleset.update(cluster.apply([pod('pod-0', 'other', 2, { app })]));
        };
      },
    },
    {
      what: 'the end of so many policies',
      size: 1_500,
      prepare: (size) => {
        const { cluster, ruleset, events } = manyGroups(size);
        ruleset.update(cluster.apply(events));
        const deletions = events.map((_, index): SourceEvent => ({ type: 'delete', kind: 'NetworkPolicy', key: `tenant/p${index}` }));
        return () => void ruleset.update(cluster.apply(deletions));
      },
    },
    {
      what: 'the peers of a policy that all have a port of its name',
      size: 400,
      prepare: (size) => {
        const { cluster, ruleset } = manyGroups(1);
        const ports = Array.from({ length: 100 }, (_, port) => ({ name: 'p', ports: [{ name: 'web', containerPort: port + 1 }] }));
        const peers = Array.from({ length: size }, (_, index) => pod(`peer-${index}`, 'other', 100 + index, { app: 'peer' }, ports));
        ruleset.update(cluster.apply(peers));
        const policy = upsertOf({
          apiVersion: 'networking.k8s.io/v1',
          kind: 'NetworkPolicy',
          metadata: { namespace: 'tenant', name: 'named' },
          spec: { podSelector: {}, policyTypes: ['Egress'], egress: [{ to: [{ podSelector: {} }], ports: [{ port: 'web' }] }] },
        });
        return () => void ruleset.update(cluster.apply([policy]));
      },
    },
  ];

  for (const { what, size, prepare } of cases) {
    it(`grows with its number: ${what}`, function () {
      this.timeout(60_000);
      // The least of some tries is what it takes when nothing else is going on.
      const least = (of: number): number => Math.min(cpuOf(prepare(of)), cpuOf(prepare(of)), cpuOf(prepare(of)));
      least(size);
      const ratios: number[] = [];
      for (let turn = 0; turn < TRIES; turn++) {
        const ratio = least(size * 2) / least(size);
        if (ratio < LINEAR) return;
        ratios.push(ratio);
      }
      assert.fail(`twice as many take ${ratios.map((ratio) => ratio.toFixed(1)).join(', ')} times as long`);
    });
  }
});
