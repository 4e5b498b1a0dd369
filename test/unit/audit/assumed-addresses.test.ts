import assert from 'node:assert/strict';
import { assumeAddresses, isAssumed } from '../../../src/audit/assumed-addresses.ts';
import { formatAddress, parseAddress } from '../../../src/policy/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { inventory } from './inventory-of.ts';

function workload(kind: string, name: string, spec: string, group = 'apps/v1'): string {
  return `{ apiVersion: ${group}, kind: ${kind}, metadata: { name: ${name}, namespace: shop }, spec: ${spec} }\n---\n`;
}

const WEB = '{ selector: { matchLabels: { app: web } }, template: { metadata: { labels: { app: web } } } }';

function pod(name: string, rest: string, labels = '{}'): string {
  return `{ apiVersion: v1, kind: Pod, metadata: { name: ${name}, namespace: shop, labels: ${labels} }, ${rest} }\n---\n`;
}

function policy(cidr: string): string {
  const rule = `ingress: [{ from: [{ ipBlock: { cidr: ${cidr} } }] }]`;
  return `{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: { name: p, namespace: shop }, spec: { podSelector: {}, ${rule} } }\n---\n`;
}

async function assumed(yaml: string): Promise<{ pods: readonly string[]; made: readonly string[]; addresses: Record<string, string[]> }> {
  const { inventory: result, pods, workloads } = await assumeAddresses(inventory(yaml));
  const addresses = result.pods.map(({ name, addresses: own }) => [name, own.map(formatAddress)] as const);
  return { pods, made: workloads.flatMap((one) => one.pods), addresses: Object.fromEntries(addresses) };
}

describe('manifests from before there is a cluster', () => {
  it('have an address for each pod without one, and leave the others', async () => {
    const { pods, addresses } = await assumed(pod('a', 'status: {}') + pod('b', 'status: { podIP: 10.0.0.1 }'));
    assert.deepEqual(pods, ['shop/a']);
    assert.deepEqual(addresses['b'], ['10.0.0.1']);
    const [own] = addresses['a'] ?? [];
    assert.ok(own !== undefined && isAssumed(parseAddress(own) ?? assert.fail(own)));
  });

  it('have none for pods that have ended, and for those whose address is their node’s', async () => {
    const { pods, addresses } = await assumed(pod('a', 'status: { phase: Failed }') + pod('b', 'spec: { hostNetwork: true }'));
    assert.deepEqual([pods, addresses], [[], { a: [], b: [] }]);
  });

  it('have addresses of the families that the cluster has', async () => {
    const { addresses } = await assumed(pod('a', 'status: {}') + pod('b', "status: { podIPs: [{ ip: 10.0.0.1 }, { ip: 'fd00::1' }] }"));
    assert.deepEqual(
      addresses['a']?.map((text) => text.includes(':')),
      [false, true],
    );
  });

  it('have two pods for a workload that has none, with its labels, and one where there is one at a time', async () => {
    const single = '{ replicas: 1, selector: { matchLabels: { app: db } }, template: { metadata: { labels: { app: db } } } }';
    const { made } = await assumed(workload('Deployment', 'web', WEB) + workload('StatefulSet', 'db', single));
    assert.deepEqual(made, ['shop/db-1', 'shop/web-1', 'shop/web-2']);
    const { inventory: result } = await assumeAddresses(inventory(workload('Deployment', 'web', WEB)));
    assert.deepEqual(
      result.pods.map(({ labels }) => labels.get('app')),
      ['web', 'web'],
    );
  });

  it('have none where the workload has pods, or is made by another', async () => {
    const there = workload('Deployment', 'web', WEB) + pod('web-x', 'status: { podIP: 10.0.0.1 }', '{ app: web }');
    assert.deepEqual((await assumed(there)).made, []);
    const set = '{ selector: { matchLabels: { app: web, h: x } }, template: { metadata: { labels: { app: web, h: x } } } }';
    assert.deepEqual((await assumed(workload('Deployment', 'web', WEB) + workload('ReplicaSet', 'web-x', set))).made, [
      'shop/web-1',
      'shop/web-2',
    ]);
    assert.deepEqual((await assumed(workload('ReplicaSet', 'web-x', set))).made, ['shop/web-x-1', 'shop/web-x-2']);
  });

  it('are in no ipBlock but one that holds everything', async () => {
    for (const [cidr, allowed] of [
      ['0.0.0.0/0', true],
      ['0.0.0.0/0, except: [10.0.0.0/8]', true],
      ['10.0.0.0/8', false],
      ['128.0.0.0/1', false],
    ] as const) {
      const { inventory: result } = await assumeAddresses(inventory(workload('Deployment', 'web', WEB) + policy(cidr)));
      const [source, destination] = result.pods.map(({ addresses: [own] }) => own ?? assert.fail());
      assert.ok(source !== undefined && destination !== undefined);
      assert.equal(evaluate(result.world, { source, destination, protocol: 'TCP', port: 80 }).allowed, allowed, cidr);
    }
  });
});
