/** iptables takes the rendering for it, and prints it again as it is. Without sets: these need ipset, which is not everywhere. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { rulesOfNode } from '../../../src/audit/node-rules.ts';
import { iptablesText } from '../../../src/enforcement/iptables/text.ts';
import type { ApiObject } from '../../random/cluster.ts';
import { upsertOf } from '../../random/events.ts';

const POD = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'db', namespace: 'shop' },
  spec: { nodeName: 'node-a', containers: [{ name: 'main' }] },
  status: { phase: 'Running', podIPs: [{ ip: '10.244.1.3' }, { ip: 'fd00::3' }] },
} as const;
const POLICY = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'db', namespace: 'shop' },
  spec: {
    podSelector: {},
    policyTypes: ['Ingress', 'Egress'],
    ingress: [
      { ports: [{ port: 5432 }, { port: 53, protocol: 'UDP' }, { port: 9, protocol: 'SCTP' }, { protocol: 'SCTP' }] },
      // Beyond what one multiport match takes.
      { ports: Array.from({ length: 20 }, (_, index) => ({ port: 8000 + index * 10, endPort: 8001 + index * 10 })) },
    ],
    egress: [{}],
  },
} as const;

describe('the rendering for iptables', () => {
  for (const variant of ['nft', 'legacy'] as const) {
    it(`is what iptables-save prints of it (${variant})`, function () {
      const objects = [POD, POLICY].map((object) => upsertOf(object as unknown as ApiObject));
      const [pod, policy] = objects.map((event) => (event.type === 'upsert' ? event.object : assert.fail()));
      const contents = { pods: [pod], namespaces: [], nodes: [], policies: [policy] } as unknown as Parameters<typeof rulesOfNode>[0];
      const { sets, rules } = iptablesText(rulesOfNode(contents, 'node-a'), { owned: false, logGroup: 100, cutMark: 0x1000 });
      assert.equal(sets, '');
      for (const [family, program] of [
        [4, `iptables-${variant}`],
        [6, `ip6tables-${variant}`],
      ] as const) {
        if (spawnSync(`${program}-restore`, ['--version']).error !== undefined) this.skip();
        execFileSync(`${program}-restore`, ['--noflush'], { input: rules[family], stdio: ['pipe', 'pipe', 'pipe'] });
        const printed = execFileSync(`${program}-save`, ['-t', 'filter'], { encoding: 'utf8' });
        const lines = (text: string): string[] =>
          text
            .split('\n')
            // Chains that every filter table has, and what the program says of itself.
            .filter((line) => !line.startsWith('#') && !/^:(INPUT|OUTPUT) /.test(line))
            .map((line) => line.replace(/\[\d+:\d+\]/, '[0:0]'));
        // Declarations have no order, rules of a chain have.
        const parts = (text: string): readonly string[][] => [
          lines(text)
            .filter((line) => line.startsWith(':'))
            .toSorted(),
          ...[...rules[family].matchAll(/^:(\S+) /gm)].map(([, chain]) => lines(text).filter((line) => line.startsWith(`-A ${chain} `))),
        ];
        assert.deepEqual(parts(printed), parts(rules[family]));
        assert.ok(lines(printed).length > 20);
      }
    });
  }
});
