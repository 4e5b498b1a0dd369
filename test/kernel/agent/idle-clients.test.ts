/** An agent that may open 64 descriptors, and a hundred clients at each of its sockets that say nothing, and come again: policy changes all the same. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { AgentLab } from '../support/agent-lab.ts';
import { eventually } from '../support/eventually.ts';
import { policyObject, tcp } from '../support/objects.ts';

const HEALTH = 9478;
const METRICS = 9477;
const OBSERVE = '/run/sluice/idle-clients.sock';

/** Connects a hundred times to each, says when all have tried, and comes again where it is sent away. */
const CLIENTS = `
  const { connect } = require('node:net');
  const [, ...sockets] = process.argv;
  let tried = 0;
  const come = (to) => {
    const socket = connect(to.startsWith('/') ? { path: to } : { port: Number(to), host: '127.0.0.1', localAddress: '127.0.0.2' });
    const settled = () => { if (++tried === sockets.length * 100) console.log('all'); };
    socket.once('connect', settled);
    socket.on('error', (error) => { if (error.syscall === 'connect') settled(); });
    socket.on('close', () => setTimeout(() => come(to), 500));
    socket.resume();
  };
  for (const to of sockets) for (let index = 0; index < 100; index++) come(to);
`;
/** How soon changes are in force all the same: there is room for a machine that has other work too. */
const CHANGE_MS = 3_000;

describe('an agent that may open few descriptors', function () {
  this.timeout(60_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      pods: ['client', 'server'].map((name) => ({ namespace: 'shop', name, node: 'n1' })),
      podLabels: { 'shop/server': { app: 'server' } },
    });
    await cluster.agent('n1').end('SIGTERM');
    const args = ['--health-address', `127.0.0.1:${HEALTH}`, '--metrics-address', `127.0.0.1:${METRICS}`, '--observe-socket', OBSERVE];
    cluster.start('n1', { args, wrapper: ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'] });
    await cluster.settled();
  });
  after(() => cluster.close());

  const apply = (port: number): Promise<void> =>
    cluster.apply(policyObject('shop', 'server', { podSelector: { matchLabels: { app: 'server' } }, ingress: [{ ports: tcp(port) }] }));
  const flow = { from: 'shop/client', to: 'shop/server', protocols: ['TCP'], families: [4] } as const;
  const page = async (port: number, path: string): Promise<string> => {
    const script = `fetch('http://127.0.0.1:${port}${path}').then(async (answer) => console.log(answer.status, (await answer.text()).length > 0))`;
    return (await cluster.lab.exec('node/n1', [process.execPath, '-e', script], { check: false })).stdout.trim();
  };

  it('takes changes and answers probes while a hundred clients are at each of its sockets', async () => {
    const clients = cluster.lab.spawn('node/n1', [process.execPath, '-e', CLIENTS, String(HEALTH), String(METRICS), OBSERVE], {});
    try {
      let said = '';
      clients.stdout?.on('data', (chunk) => (said += String(chunk)));
      await eventually(() => said.includes('all'), 'all have come');
      for (let turn = 0; turn < 5; turn++) {
        for (const [port, expected] of [
          [1_000 + turn, 'denied'],
          [80, 'allowed'],
        ] as const) {
          const startedAt = performance.now();
          await apply(port);
          const tookMs = performance.now() - startedAt;
          await cluster.expect(expected, flow);
          assert.ok(tookMs < CHANGE_MS, `a change took ${tookMs.toFixed()} ms`);
        }
        assert.equal(await page(HEALTH, '/healthz'), '200 true');
        assert.equal(await page(METRICS, '/metrics'), '200 true');
      }
      const open = readdirSync(`/proc/${cluster.agent('n1').pid}/fd`).length;
      assert.ok(open <= 60, `${open} descriptors are open`);
    } finally {
      clients.kill();
    }
  });
});
