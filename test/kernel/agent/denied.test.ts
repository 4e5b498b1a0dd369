/** What is denied is denied at any rate: logging is limited, dropping is not. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentLab } from '../support/agent-lab.ts';
import { policyObject } from '../support/objects.ts';

const SECONDS = 3;

describe('denied connections', function () {
  this.timeout(60_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'near', node: 'n1' },
        { namespace: 'dev', name: 'far', node: 'n2' },
        { namespace: 'shop', name: 'server', node: 'n1' },
        { namespace: 'shop', name: 'mute', node: 'n1' },
      ],
      podLabels: { 'shop/server': { app: 'server' }, 'shop/mute': { app: 'mute' } },
      objects: [
        policyObject('shop', 'no-ingress', { podSelector: { matchLabels: { app: 'server' } } }),
        policyObject('shop', 'no-egress', { podSelector: { matchLabels: { app: 'mute' } }, policyTypes: ['Egress'] }),
      ],
    });
  });

  after(() => cluster.close());

  it('are denied to the last one, 100 a second and 600 at once, whatever the rate limit of the log', async () => {
    assert.match(await cluster.table('n1'), /limit rate \d+\/\w+ .*log /, 'the log is limited');
    const streams = await Promise.all(
      (
        [
          ['dev/near', 'shop/server', 'TCP', 4],
          ['dev/far', 'shop/server', 'UDP', 6],
          ['shop/mute', 'dev/far', 'TCP', 6],
          ['shop/mute', 'dev/near', 'UDP', 4],
        ] as const
      ).map(([from, to, protocol, family]) =>
        cluster.lab.startStream({ from, to, port: 80, protocol, family }, { perSecond: 100, timeoutMs: 500 }),
      ),
    );
    await sleep(SECONDS * 1000);
    const counts = await Promise.all(streams.map((stream) => stream.stop()));
    for (const { started, answered, unanswered, failed } of counts) {
      assert.ok(started > SECONDS * 80, `${started} were started`);
      assert.deepEqual({ answered, unanswered, failed }, { answered: 0, unanswered: started, failed: {} });
    }
    const started = counts.map((count) => count.started);
    const sum = (a = 0, b = 0): number => a + b;
    const [ingress, egress] = await Promise.all([cluster.dropped('ingress', 'shop/server'), cluster.dropped('egress', 'shop/mute')]);
    assert.ok(ingress >= sum(started[0], started[1]), `${ingress} packets were dropped of ${sum(started[0], started[1])} attempts`);
    assert.ok(egress >= sum(started[2], started[3]), `${egress} packets were dropped of ${sum(started[2], started[3])} attempts`);

    const burst = Array.from({ length: 150 }, () => ({ from: 'dev/near', to: 'shop/server' }));
    await cluster.expect('denied', ...burst);
    assert.ok((await cluster.dropped('ingress', 'shop/server')) >= ingress + 4 * burst.length);
  });
});
