/** What a page of metrics costs, and what of it is somebody else's choice. */
import assert from 'node:assert/strict';
import { AccumulatedCounts } from '../../../src/observability/accumulated-counts.ts';
import { AgentMetrics, type InForce } from '../../../src/observability/metrics.ts';
import type { DesiredChain } from '../../../src/ruleset/objects.ts';

const IN_FORCE: InForce = {
  pods: 1,
  policies: 2,
  activePolicies: 1,
  closedPolicies: 0,
  isolatedPods: { ingress: 1, egress: 0 },
  auditedPods: 0,
  enforcing: true,
  chains: 2,
  rules: 3,
  sets: 1,
  elements: 4,
  ready: true,
  objectProblems: 0,
};

function chain(kind: 'pod' | 'policy', of: string): DesiredChain {
  return { name: `${kind}/${of}`, direction: 'ingress', kind, of, audited: false, rules: [], comment: '' };
}

describe('a page of metrics', () => {
  it('is made once for all who ask at the same time, and soon after', async () => {
    const metrics = new AgentMetrics({ version: '1', byRule: false });
    let [looks, counts] = [0, 0];
    metrics.describe({
      inForce: () => {
        looks++;
        return IN_FORCE;
      },
      async *counts() {
        counts++;
        yield { chain: chain('pod', 'shop/web'), place: undefined, packets: 7, verdict: 'drop' };
      },
    });
    const pages = await Promise.all(Array.from({ length: 200 }, () => metrics.page()));
    assert.equal(new Set(pages.map(({ body }) => body)).size, 1);
    assert.equal(await metrics.page(), pages[0]);
    assert.deepEqual([looks, counts], [1, 1]);
    assert.match(pages[0]?.body ?? '', /^sluice_denied_packets_total\{namespace="shop",direction="ingress"\} 7$/mu);
    assert.match(pages[0]?.body ?? '', /^sluice_set_elements 4$/mu);
  });

  it('is made anew where it could not be made', async () => {
    const metrics = new AgentMetrics({ version: '1', byRule: false });
    let isBroken = true;
    metrics.describe({
      inForce: () => IN_FORCE,
      async *counts() {
        if (isBroken) throw new Error('no table');
        yield* [];
      },
    });
    await assert.rejects(metrics.page(), /no table/u);
    isBroken = false;
    assert.match((await metrics.page()).body, /^sluice_ready 1$/mu);
  });

  it('holds the event loop for no longer than a slice, though a policy has thousands of rules', async () => {
    const metrics = new AgentMetrics({ version: '1', byRule: true });
    const policies = Array.from({ length: 60 }, (_, index) => chain('policy', `n${index}/p`));
    metrics.describe({
      inForce: () => IN_FORCE,
      async *counts() {
        for (const of of policies)
          for (let rule = 0; rule < 1_500; rule++) yield { chain: of, place: `ingress[${rule}]`, packets: 2, verdict: 'accept' };
      },
    });
    let [last, longest] = [performance.now(), 0];
    const ticking = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 1);
    const { body } = await metrics.page();
    clearInterval(ticking);
    // By themselves a thousand of each, and the others of a namespace together.
    const lines = body.match(/^sluice_allowed_connections_total\{namespace="n7".*$/gmu) ?? [];
    assert.equal(lines.length, 1_001);
    assert.ok(
      lines.includes('sluice_allowed_connections_total{namespace="n7",policy="",direction="ingress",rule=""} 1000'),
      String(lines.at(-1)),
    );
    assert.ok(lines.includes('sluice_allowed_connections_total{namespace="n7",policy="p",direction="ingress",rule="ingress[999]"} 2'));
    assert.ok(longest < 250, `${longest} ms`);
  });

  it('writes values of labels as Prometheus reads them', async () => {
    const metrics = new AgentMetrics({ version: '1', byRule: false });
    metrics.describe({
      inForce: () => IN_FORCE,
      async *counts() {
        yield { chain: chain('pod', 'a"b\\c/web'), place: undefined, packets: 1, verdict: 'accept' };
      },
    });
    const { body } = await metrics.page();
    assert.ok(body.includes('sluice_would_be_denied_packets_total{namespace="a\\"b\\\\c",direction="ingress"} 1\n'));
  });
});

describe('counters that are added up', () => {
  it('are forgotten a quarter of an hour after the last rule about them, and never fall before', () => {
    const counts = new AccumulatedCounts();
    counts.look([{ rule: 'a', about: 'x', packets: 5 }], 0);
    counts.look([{ rule: 'a', about: 'x', packets: 2 }], 1_000);
    counts.look([{ rule: 'b', about: 'y', packets: 1 }], 2_000);
    assert.deepEqual(
      [...counts.sums()],
      [
        ['x', 7],
        ['y', 1],
      ],
    );
    counts.look([{ rule: 'b', about: 'y', packets: 1 }], 800_000);
    assert.deepEqual(
      [...counts.sums()].map(([about]) => about),
      ['x', 'y'],
    );
    counts.look([{ rule: 'b', about: 'y', packets: 1 }], 902_001);
    assert.deepEqual([...counts.sums()], [['y', 1]]);
  });
});
