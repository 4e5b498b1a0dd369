/** Nobody reads the agent's log any more: it goes on, and says later what is missing. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentLab } from '../support/agent-lab.ts';
import { eventually } from '../support/eventually.ts';
import { policyObject, tcp } from '../support/objects.ts';

describe('a log that nobody reads', function () {
  this.timeout(120_000);
  let cluster: AgentLab;
  let directory: string;
  let pipe: number;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-log-'));
    const path = join(directory, 'pipe');
    execFileSync('mkfifo', [path]);
    // Open for both, so that the agent's end opens, and no byte of it is read.
    pipe = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }],
      pods: ['client', 'server'].map((name) => ({ namespace: 'shop', name, node: 'n1' })),
      podLabels: { 'shop/server': { app: 'server' } },
    });
    await cluster.agent('n1').end('SIGTERM');
    cluster.start('n1', { wrapper: ['sh', '-c', `exec "$@" > ${path}`, 'sh'] });
    await cluster.settled();
  });
  after(async () => {
    await cluster.close();
    closeSync(pipe);
    rmSync(directory, { recursive: true });
  });

  const apply = (port: number): Promise<void> =>
    cluster.apply(policyObject('shop', 'server', { podSelector: { matchLabels: { app: 'server' } }, ingress: [{ ports: tcp(port) }] }));
  const flow = { from: 'shop/client', to: 'shop/server', protocols: ['TCP'], families: [4] } as const;

  /** Leaves no room in the pipe for a single byte. */
  const fill = (): void => {
    for (let size = 4_096; size >= 1; size = Math.floor(size / 2)) {
      try {
        for (;;) writeSync(pipe, `${' '.repeat(size - 1)}\n`);
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
      }
    }
  };

  it('keeps no change out of force while the pipe is full', async () => {
    fill();
    for (let change = 0; change < 10; change++) await apply(1_000 + change);
    await cluster.expect('denied', flow);
    await apply(80);
    await cluster.expect('allowed', flow);
  });

  it('goes on in whole lines once somebody reads it again', async () => {
    let text = '';
    const chunk = Buffer.alloc(1 << 16);
    const read = (): void => {
      try {
        for (let count = readSync(pipe, chunk); count > 0; count = readSync(pipe, chunk)) text += chunk.subarray(0, count).toString();
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
      }
    };
    const count = (): number => text.split('\n').filter((line) => line.includes('"rules in force"')).length;
    await eventually(
      () => {
        read();
        return count() >= 11;
      },
      () => `${count()} lines have come`,
    );
    for (const line of text.split('\n').slice(0, -1)) if (line.trim() !== '') JSON.parse(line);
  });

  it('does not keep the agent from ending', async () => {
    fill();
    await apply(2_000);
    const startedAt = performance.now();
    await cluster.agent('n1').end('SIGTERM');
    assert.ok(performance.now() - startedAt < 5_000);
  });
});
