import assert from 'node:assert/strict';
import { Cluster } from '../../../src/cluster/cluster.ts';
import type { IsolationRecord } from '../../../src/commands/dump-document.ts';
import { dumpRecords } from '../../../src/commands/dump-records.ts';
import { NodeRuleset } from '../../../src/ruleset/node-ruleset.ts';
import type { ApiObject } from '../../random/cluster.ts';
import { upsertOf } from '../../random/events.ts';

function pod(name: string, labels: Record<string, string>, node: string, ...ips: string[]): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', labels },
    spec: { nodeName: node, containers: [{ name: 'main', ports: [{ name: 'web', containerPort: 8080 }] }] },
    status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })) },
  };
}

function policy(name: string, spec: Record<string, unknown>): ApiObject {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace: 'shop' }, spec };
}

function dump(...objects: ApiObject[]): IsolationRecord[] {
  const cluster = new Cluster('node-a');
  const ruleset = new NodeRuleset(cluster);
  const events = objects.map(upsertOf);
  ruleset.update(cluster.apply(events));
  const pods = events.flatMap((event) =>
    event.type === 'upsert' && event.kind === 'Pod' && event.object.node === 'node-a' ? [event.object] : [],
  );
  return dumpRecords(ruleset, pods);
}

const web = pod('web', { app: 'web' }, 'node-a', '10.244.1.2');
const client = pod('client', { app: 'client' }, 'node-b', '10.244.2.2');

describe('dump', () => {
  it('has nothing to say of pods that no policy isolates, and of pods of other nodes', () => {
    assert.deepEqual(dump(web, client), []);
    assert.deepEqual(dump(web, client, policy('deny', { podSelector: { matchLabels: { app: 'client' } } })), []);
  });

  it('names each policy that isolates, and resolves its peers and named ports to what they are now', () => {
    const records = dump(
      web,
      client,
      policy('deny', { podSelector: {} }),
      policy('web', {
        podSelector: { matchLabels: { app: 'web' } },
        ingress: [
          {
            from: [{ podSelector: { matchLabels: { app: 'client' } } }],
            ports: [{ port: 'web' }, { port: 90, endPort: 95 }, { port: 80 }],
          },
          { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.128.0.0/9'] } }] },
        ],
      }),
    );
    assert.equal(records.length, 1);
    const [record] = records;
    assert.equal(record?.pod, 'shop/web');
    assert.equal(record.direction, 'ingress');
    assert.deepEqual(record.addresses, ['10.244.1.2']);
    assert.deepEqual(
      record.policies.map(({ policy, rules }) => [policy, rules.length]),
      [
        ['shop/deny', 0],
        ['shop/web', 3],
      ],
    );
    const rules = record.policies[1]?.rules ?? [];
    assert.deepEqual(
      rules.map(({ path, family, protocol, ports }) => [path, family, protocol, ports]),
      [
        ['ingress[0].from[0]', 4, 'TCP', ['80', '90-95']],
        ['ingress[0].from[0]', 4, undefined, undefined],
        ['ingress[1].from[0]', 4, undefined, undefined],
      ],
    );
    assert.deepEqual(
      rules.map(({ peer }) => peer?.elements),
      [['10.244.2.2'], ['10.244.2.2'], ['10.0.0.0/9']],
    );
    assert.deepEqual(rules[1]?.named?.elements, ['10.244.1.2:8080/TCP']);
  });

  it('tells the families of a dual-stack pod apart', () => {
    const both = pod('web', { app: 'web' }, 'node-a', '10.244.1.2', 'fd00::2');
    const [record] = dump(
      both,
      policy('web', { podSelector: {}, policyTypes: ['Egress'], egress: [{ to: [{ podSelector: {} }], ports: [{ port: 'web' }] }] }),
    );
    assert.deepEqual(record?.addresses, ['10.244.1.2', 'fd00::2']);
    assert.deepEqual(
      record.policies[0]?.rules.map(({ family, named }) => [family, named?.elements]),
      [
        [4, ['10.244.1.2:8080/TCP']],
        [6, ['[fd00::2]:8080/TCP']],
      ],
    );
  });
});
