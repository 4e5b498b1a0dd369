/** Policies of a tenant who means ill, in forms that the API server accepts: others' changes come into force all the same. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { AgentLab } from '../support/agent-lab.ts';
import { policyObject, tcp } from '../support/objects.ts';

const times = <T>(count: number, of: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => of(index));
const selector = (index: number) => ({ podSelector: { matchLabels: { k: `v${index}` } } });
const block = (index: number) => ({ ipBlock: { cidr: `11.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}/32` } });

/** Resident memory of a process, bytes. */
function residentBytes(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? assert.fail();
  return Number(kib) * 1024;
}

describe('a hostile policy', function () {
  this.timeout(120_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      podLabels: { 'victim/server': { app: 'server' } },
      pods: ['tenant/pod', 'victim/client', 'victim/server'].map((key) => {
        const [namespace = '', name = ''] = key.split('/');
        return { namespace, name, node: 'n1' };
      }),
    });
  });
  after(() => cluster.close());

  const flow = { from: 'victim/client', to: 'victim/server', protocols: ['TCP'], families: [4] } as const;

  /** What an agent says of its last commits must not be slower than this for somebody else's change. */
  const SOON_MS = 1_000;

  for (const [what, spec] of [
    [
      '260 selectors times 260 named ports',
      { ingress: [{ from: times(260, selector), ports: times(260, (index) => ({ port: `p${index}` })) }] },
    ],
    [
      '260 selectors times 260 named ports, egress',
      { policyTypes: ['Egress'], egress: [{ to: times(260, selector), ports: times(260, (index) => ({ port: `p${index}` })) }] },
    ],
    [
      '65,000 exceptions that cannot be read',
      { ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except: times(65_000, () => '9.9.9/8') } }] }] },
    ],
    [
      '60,000 exceptions with host bits',
      { ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except: times(60_000, () => '9.9.9.9/8') } }] }] },
    ],
    ['20,000 peers that cannot be read', { ingress: [{ from: times(19_000, () => ({})) }] }],
    ['a rule for each of 60,000 ports', { ingress: times(60_000, (index) => ({ ports: [{ port: 1000 + index }] })) }],
    [
      '19,000 blocks and as many ports',
      { ingress: [{ from: times(19_000, block) }, { ports: times(900, (index) => ({ port: 1001 + index * 2 })) }] },
    ],
    ['8,000 distinct selectors', { ingress: [{ from: times(8_000, selector) }] }],
  ] as const) {
    it(`of ${what} isolates its own pod, and keeps nobody’s change out`, async () => {
      const poison = policyObject('tenant', 'poison', spec);
      await cluster.apply(poison);
      const latencies: number[] = [];
      for (const port of [81, 80, 82]) {
        const startedAt = performance.now();
        await cluster.apply(
          policyObject('victim', 'server', { podSelector: { matchLabels: { app: 'server' } }, ingress: [{ ports: tcp(port) }] }),
        );
        latencies.push(performance.now() - startedAt);
        await cluster.expect(port === 80 ? 'allowed' : 'denied', flow);
      }
      assert.ok(
        latencies.every((ms) => ms < SOON_MS),
        `ms: ${latencies.map(Math.round).join(', ')}`,
      );
      const isEgress = 'egress' in spec;
      await cluster.expect('denied', isEgress ? { from: 'tenant/pod', to: 'victim/client' } : { from: 'victim/client', to: 'tenant/pod' });
      const agent = cluster.agent('n1');
      assert.ok(residentBytes(agent.pid) < 450e6, `${residentBytes(agent.pid)} bytes`);
      const { ready, closedPolicies } = agent.status ?? assert.fail();
      assert.deepEqual([ready, closedPolicies], [true, []]);
      // An agent that starts with it there has everything in force as well.
      await agent.end('SIGKILL');
      cluster.start('n1');
      await cluster.settled();
      await cluster.remove(poison);
      await cluster.expect('allowed', isEgress ? { from: 'tenant/pod', to: 'victim/client' } : { from: 'victim/client', to: 'tenant/pod' });
    });
  }
});
