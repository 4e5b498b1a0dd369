/** What a tenant leaves behind in an agent's memory by changing one pod or one policy again and again. */
import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Cluster } from '../../../src/cluster/cluster.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { upsertOf } from '../../random/events.ts';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Bytes of the heap that remain of `work`. */
function grownBy(work: () => void): number {
  gc();
  const before = process.memoryUsage().heapUsed;
  work();
  gc();
  return process.memoryUsage().heapUsed - before;
}

function pod(node: string, labels: Readonly<Record<string, string>>): SourceEvent {
  return upsertOf({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'tenant', name: node, labels },
    spec: { nodeName: node, containers: [] },
    status: { podIPs: [{ ip: node === 'here' ? '10.244.0.2' : '10.244.1.2' }] },
  });
}

function policy(name: string, spec: Readonly<Record<string, unknown>>): SourceEvent {
  return upsertOf({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { namespace: 'tenant', name }, spec });
}

const times = <T>(count: number, of: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => of(index));

describe('what remains in memory', function () {
  this.timeout(60_000);

  it('of a pod that is relabelled again and again, and is in thousands of groups, is bounded', () => {
    const cluster = new Cluster('here');
    const ruleset = new NodeRuleset(cluster);
    const groups = (from: number) =>
      times(800, (i) => ({ podSelector: { matchExpressions: [{ key: 'x', operator: 'NotIn', values: [`v${from + i}`] }] } }));
    ruleset.update(
      cluster.apply([
        pod('here', { app: 'here' }),
        pod('away', { app: 'away' }),
        ...times(4, (i) => policy(`p${i}`, { podSelector: { matchLabels: { app: 'here' } }, ingress: [{ from: groups(i * 800) }] })),
      ]),
    );
    const grown = grownBy(() => {
      for (let turn = 0; turn < 1_500; turn++) ruleset.update(cluster.apply([pod('away', { app: `r${turn}` })]));
    });
    // 1,500 times 3,200 references would be 38 MB.
    assert.ok(grown < 15e6, `${grown} bytes`);
  });

  it('of a local pod that is relabelled again and again, and that hundreds of policies select, is bounded', () => {
    const cluster = new Cluster('here');
    const ruleset = new NodeRuleset(cluster);
    ruleset.update(cluster.apply([pod('here', {}), ...times(900, (i) => policy(`p${i}`, { podSelector: {}, ingress: [] }))]));
    const grown = grownBy(() => {
      for (let turn = 0; turn < 900; turn++) ruleset.update(cluster.apply([pod('here', { app: `r${turn}` })]));
    });
    // 900 times 900 references, thrice, would be 19 MB.
    assert.ok(grown < 8e6, `${grown} bytes`);
  });

  it('of labels by the thousand that a local pod had once is bounded', () => {
    const cluster = new Cluster('here');
    const ruleset = new NodeRuleset(cluster);
    const closed = policy('closed', { podSelector: {}, ingress: [] });
    ruleset.update(cluster.apply([closed]));
    const labels = (turn: number): Record<string, string> => Object.fromEntries(times(10_000, (i) => [`k${i}`, `v${turn}`]));
    ruleset.update(cluster.apply([pod('here', labels(0))]));
    const grown = grownBy(() => {
      for (let turn = 1; turn < 100; turn++) ruleset.update(cluster.apply([pod('here', labels(turn))]));
    });
    // 100 times 10,000 labels would be 60 MB.
    assert.ok(grown < 25e6, `${grown} bytes`);
  });

  it('of policies whose selectors have thousands of values is nothing when they are gone', () => {
    const sharing = new Sharing();
    const read = (turn: number): void => {
      const values = times(5_000, (i) => `value-${turn}-${i}`);
      const podSelector = { matchExpressions: [{ key: 'app', operator: 'In', values }] };
      project('NetworkPolicy', { metadata: { namespace: 'tenant', name: 'p' }, spec: { podSelector } }, sharing);
    };
    read(0);
    const grown = grownBy(() => {
      for (let turn = 1; turn < 200; turn++) read(turn);
    });
    // 200 times 5,000 values would be 50 MB.
    assert.ok(grown < 5e6, `${grown} bytes`);
  });
});
