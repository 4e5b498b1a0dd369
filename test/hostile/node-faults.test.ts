/** Faults of the node: a full disk, a clock that jumps, others who flush or hold the tables. The bystander's changes come into force; or they do as soon as it is over. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NftConnection } from '../../packages/nftables-js/src/index.ts';
import { inNamespace, run } from '../../src/lab/namespaces.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { podObject } from '../kernel/support/objects.ts';
import { HostileLab, NODE } from './support/hostile-lab.ts';
import { HEALTH_MS, IS_ALL, size } from './support/hostile-size.ts';

const MS_OVER = 15_000;

describe('an agent on a node where', function () {
  this.timeout(120_000);
  let lab: HostileLab;
  let directory: string;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-faults-'));
    lab = await HostileLab.create({});
  });
  after(async () => {
    await lab?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** A shell command that goes on in the node's namespace until it is ended. */
  async function beside<T>(command: string, work: () => Promise<T>): Promise<T> {
    const child = lab.cluster.lab.spawn(`node/${NODE}`, ['sh', '-c', `while :; do ${command} 2>/dev/null; done`], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    try {
      return await work();
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
  }

  /** What holds for everybody, when it is over: as soon as that. */
  async function isOver(): Promise<void> {
    await lab.begin();
    await lab.changes(5, MS_OVER);
    await lab.cluster.expectAll([
      ['allowed', { from: 'victim/client', to: 'victim/server', protocols: ['TCP'] }],
      ['denied', { from: 'victim/client', to: 'victim/server', port: 81 }],
    ]);
    console.log(`        ${lab.assertUnharmed()}`);
  }

  it('nothing is wrong brings changes into force', isOver);

  it('the disk of the status file is full, and then is read-only, goes on', async () => {
    const state = join(directory, 'state');
    mkdirSync(state);
    await run(undefined, ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', state]);
    try {
      writeFileSync(join(state, 'fill'), Buffer.alloc(65_536));
      await lab.restartWith({ args: ['--status-file', join(state, 'status.json')] });
      await isOver();
      rmSync(join(state, 'fill'));
      await isOver();
      await run(undefined, ['mount', '-o', 'remount,ro', state]);
      await isOver();
    } finally {
      await lab.bystander.rest();
      await lab.agent.end('SIGKILL');
      await run(undefined, ['umount', state]);
    }
  });

  it('a directory is where its socket should be, or somebody who listens and says nothing, goes on', async () => {
    const [taken, listened] = [join(directory, 'taken.sock'), join(directory, 'listened.sock')];
    mkdirSync(taken);
    const server = createServer().listen(listened);
    try {
      for (const path of [taken, listened]) {
        await lab.restartWith({ args: ['--observe-socket', path] });
        await isOver();
      }
    } finally {
      server.close();
    }
  });

  it('the clock jumps by hours and years, goes on', async () => {
    const file = join(directory, 'clock.mjs');
    const jumps = '[0, -3600e3, 7200e3, -86400e3 * 400, 1e9]';
    writeFileSync(
      file,
      `const D = Date, now = D.now.bind(D); let off = 0, i = 0;
      setInterval(() => { off = ${jumps}[i++ % 5]; }, 300).unref();
      globalThis.Date = class extends D { constructor(...a) { if (a.length === 0) super(now() + off); else super(...a); } static now() { return now() + off; } };`,
    );
    await lab.restartWith({ nodeOptions: `--import ${file}` });
    await lab.begin();
    await lab.changes(size(20, 100));
    await isOver();
  });

  it('somebody makes and deletes a table of theirs without end, goes on', async () => {
    await lab.restartWith({});
    await beside('nft "add table ip noise; add chain ip noise c; flush table ip noise; delete table ip noise"', async () => {
      await lab.begin();
      await lab.changes(size(10, 50));
      console.log(`        ${lab.assertUnharmed()}`);
    });
    await isOver();
  });

  it('somebody flushes what the agent owns, without end, is not even touched', async () => {
    const command = 'nft flush ruleset; nft delete table inet sluice; nft add table inet sluice; sleep 0.01';
    await beside(command, async () => {
      await lab.begin();
      await lab.changes(size(10, 50));
      await lab.cluster.expect('denied', { from: 'victim/client', to: 'victim/server', port: 81 });
      console.log(`        ${lab.assertUnharmed()}`);
    });
    await isOver();
  });

  for (const [what, command] of [
    ['flushes all tables a hundred times a second', 'nft flush ruleset; sleep 0.01'],
    ['makes the agent’s table anew without end', 'nft "delete table inet sluice; add table inet sluice; add chain inet sluice x"'],
  ] as const) {
    it(`somebody ${what}, which nobody owns, answers and recovers`, async () => {
      await lab.restartWith({ args: ['--ownership', 'shared'], fresh: true });
      const isBegun = performance.timeOrigin + performance.now();
      await beside(command, () =>
        eventually(() => lab.bystander.times('health', isBegun).length >= size(15, 60), 'health has been asked for', { withinMs: 60_000 }),
      );
      const slowest = lab.bystander.times('health', isBegun).at(-1) ?? Number.NaN;
      assert.ok(slowest <= HEALTH_MS, `health after ${Math.round(slowest)} ms`);
      assert.ok(lab.agent.running);
      await isOver();
    });
    if (!IS_ALL) break;
  }

  for (const [what, table] of [
    ['the table', 'sluice'],
    ['the table that tells of an agent', 'sluice-agent'],
  ] as const) {
    it(`somebody holds ${what} says so, and takes over when it is let go`, async () => {
      await lab.bystander.rest();
      await lab.agent.end('SIGKILL');
      await lab.cluster.lab.exec(`node/${NODE}`, ['nft', 'delete', 'table', 'inet', table], { check: false });
      const other = inNamespace(lab.cluster.lab.netns(`node/${NODE}`), () => NftConnection.open());
      other.commit([{ op: 'create', table: { family: 'inet', name: table, flags: ['owner'] } }]);
      try {
        lab.startAgent({});
        await eventually(
          () =>
            (lab.agent.status?.error ?? '') !== '' ||
            lab.agent.logged('waiting for the other agent of this node to end').length > 0 ||
            lab.agent.log().some(({ level }) => level !== 'info'),
          'it says so',
        );
        assert.equal(lab.agent.status?.ready ?? false, false);
      } finally {
        other.close();
      }
      await lab.quiet();
      await isOver();
    });
  }

  it('it is killed at any moment beside a tenant who changes everything, leaves rules that are whole, and the victim isolated', async () => {
    await lab.restartWith({});
    let turn = 0;
    const churn = (): void => {
      turn++;
      const labels = { app: 'pod', k: `v${turn % 11}` };
      const pods = Array.from({ length: 10 + (turn % 10) }, (_, i) =>
        podObject(
          { namespace: 'tenant', name: `c${i}`, node: NODE, addresses: [], hostNetwork: false },
          { labels, addresses: [`10.245.0.${i + 2}`] },
        ),
      );
      const from = [{ podSelector: { matchLabels: { k: `v${turn % 11}` } } }, { ipBlock: { cidr: `10.${turn % 200}.0.0/16` } }];
      lab.erase();
      lab.write([
        ...pods,
        {
          kind: 'NetworkPolicy',
          apiVersion: 'networking.k8s.io/v1',
          metadata: { namespace: 'tenant', name: `q${turn % 7}` },
          spec: { podSelector: {}, ingress: [{ from, ports: [{ port: 1 + (turn % 1_000) }] }] },
        },
      ]);
    };
    const timer = setInterval(churn, 25);
    try {
      for (let kill = 0; kill < size(3, 30); kill++) {
        await eventually(() => turn > 10 * (kill + 1), 'there have been changes');
        await lab.agent.end('SIGKILL');
        await lab.cluster.expect('denied', { from: 'victim/client', to: 'victim/server', port: 81, families: [4], protocols: ['TCP'] });
        lab.startAgent({});
      }
    } finally {
      clearInterval(timer);
      lab.erase();
    }
    await lab.quiet();
    for (let stop = 0; stop < size(2, 10); stop++) {
      lab.agent.signal('SIGSTOP');
      const stoppedAt = performance.now();
      await eventually(() => performance.now() - stoppedAt > 500, 'it has been stopped for a while');
      lab.agent.signal('SIGCONT');
    }
    await isOver();
  });
});
