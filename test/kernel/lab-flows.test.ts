import assert from 'node:assert/strict';
import { Lab } from '../../src/lab/lab.ts';

const VIP = '10.96.0.10';

/** Drops what one pod sends to another, by address, in a node's forward hook. */
const drop = (source: string, destination: string): string => `table inet test {
  chain forward { type filter hook forward priority 0; policy accept;
    ip saddr ${source} ip daddr ${destination} drop
  }
}
`;

describe('flows and streams of the lab', function () {
  this.timeout(60_000);
  let lab: Lab;

  before(async () => {
    lab = await Lab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'client', node: 'n1' },
        { namespace: 'dev', name: 'server', node: 'n2' },
      ],
    });
    for (const protocol of ['TCP', 'UDP'] as const) await lab.addService(VIP, 8080, [{ pod: 'dev/server', port: 81 }], protocol);
  });

  after(() => lab.close());

  afterEach(async () => {
    for (const node of lab.nodes) await lab.exec(`node/${node.name}`, ['nft', 'delete', 'table', 'inet', 'test'], { check: false });
  });

  for (const protocol of ['TCP', 'UDP'] as const) {
    for (const [through, to, port] of [
      ['directly', 'dev/server', 80],
      ['through a Service address', VIP, 8080],
    ] as const) {
      it(`carry ${protocol} in both directions, ${through}, and notice in which direction they are cut`, async () => {
        const flow = await lab.openFlow({ from: 'dev/client', to, port, protocol });
        assert.equal((await flow.counts()).answeredBy, 'dev/server');
        assert.equal(await flow.delivers('client', 5000), true);
        assert.equal(await flow.delivers('server', 5000), true);

        await flow.serverSends({ everyMs: 5 });
        const { client, server } = await flow.counts();
        while ((await flow.counts()).client.received < client.received + 20);
        assert.equal((await flow.counts()).server.received, server.received, 'the client is silent');

        await lab.exec('node/n1', ['nft', '-f', '-'], { input: drop('10.244.1.2', '10.244.0.2') });
        assert.equal(await flow.fallsSilent(300, 5000), true, 'the server sends and nothing arrives');
        const cut = (await flow.counts()).server.sent;
        while ((await flow.counts()).server.sent < cut + 10);
        assert.equal(await flow.delivers('server', 300), false);
        if (protocol === 'UDP') assert.equal(await flow.delivers('client', 5000), true, 'the other direction is open');

        await lab.exec('node/n1', ['nft', 'delete', 'table', 'inet', 'test']);
        assert.equal(await flow.delivers('server', 20_000), true, 'it goes on when the rule is gone');
        await flow.stop();
        assert.equal(await flow.fallsSilent(100, 5000), true);
        assert.equal((await flow.close()).broken, undefined);
      });
    }
  }

  it('say that a flow does not come about', async () => {
    await lab.exec('node/n1', ['nft', '-f', '-'], { input: drop('10.244.0.2', '10.244.1.2') });
    for (const protocol of ['TCP', 'UDP'] as const) {
      await assert.rejects(
        lab.openFlow({ from: 'dev/client', to: 'dev/server', port: 80, protocol }, { timeoutMs: 300 }),
        new RegExp(`opening a ${protocol} flow to port 80: no answer`),
      );
    }
    await lab.exec('node/n1', ['nft', 'delete', 'table', 'inet', 'test']);
    await assert.rejects(lab.openFlow({ from: 'dev/client', to: 'dev/server', port: 99, protocol: 'TCP' }), /ECONNREFUSED/);
  });

  it('notice a connection that is reset', async () => {
    const flow = await lab.openFlow({ from: 'dev/client', to: 'dev/server', port: 80, protocol: 'TCP' });
    await lab.exec('node/n1', ['nft', '-f', '-'], {
      input: drop('10.244.0.2', '10.244.1.2').replace(' drop', ' meta l4proto tcp reject with tcp reset'),
    });
    await flow.clientSends({ everyMs: 10 });
    while ((await flow.counts()).broken === undefined);
    assert.equal((await flow.close()).broken, 'ECONNRESET');
  });

  it('probe at a constant rate and count what was answered, refused and lost', async () => {
    const open = await lab.startStream({ from: 'dev/client', to: 'dev/server', port: 80, protocol: 'TCP' }, { perSecond: 200 });
    const refused = await lab.startStream({ from: 'dev/client', to: 'dev/server', port: 99, protocol: 'TCP' }, { perSecond: 100 });
    await lab.exec('node/n2', ['nft', '-f', '-'], { input: drop('10.244.1.2', '10.244.0.2').replace('drop', 'udp sport 81 drop') });
    const lost = await lab.startStream(
      { from: 'dev/client', to: 'dev/server', port: 81, protocol: 'UDP' },
      { perSecond: 100, timeoutMs: 200 },
    );
    const startedAt = performance.now();
    while ((await open.counts()).started < 200);
    const seconds = (performance.now() - startedAt) / 1000;
    assert.ok(seconds > 0.8, `200 at 200 a second took ${seconds} s`);
    const [first, second, third] = await Promise.all([open.stop(), refused.stop(), lost.stop()]);
    assert.deepEqual(
      { ...first, slowestMs: 0 },
      { started: first.started, answered: first.started, unanswered: 0, failed: {}, pending: 0, slowestMs: 0 },
    );
    assert.deepEqual(second, {
      started: second.started,
      answered: 0,
      unanswered: 0,
      failed: { ECONNREFUSED: second.started },
      pending: 0,
      slowestMs: 0,
    });
    assert.deepEqual(third, { started: third.started, answered: 0, unanswered: third.started, failed: {}, pending: 0, slowestMs: 0 });
    assert.ok(second.started > 50 && third.started > 50);
  });
});
