/** One `sluice network` a node, with what it needs to be one: real processes in one network namespace. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { spawnIn } from '../../../src/lab/namespaces.ts';
import { PROGRAM } from '../support/agent-process.ts';
import { eventually } from '../support/eventually.ts';
import { DaemonNodes } from './support/daemon-nodes.ts';

const CONF = { Backend: { Type: 'vxlan' } };

/** A process and what it prints. */
class Second {
  readonly #child: ChildProcess;
  output = '';
  status: number | null | undefined;

  constructor(nodes: DaemonNodes, wrapper: readonly string[] = []) {
    const program = [...wrapper, process.execPath, PROGRAM, 'network', '--node', 'a', '--lease-dir', nodes.leases, '--ip-masq'];
    const files = ['--net-config-path', join(nodes.state, 'net-conf.json'), '--subnet-file', nodes.file('a', 'subnet.env')];
    const cni = ['--cni-conf-file', nodes.file('a', '10-flannel.conflist')];
    this.#child = spawnIn(nodes.netns('a'), [...program, ...files, ...cni], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    this.#child.once('close', (status) => {
      this.status = status;
    });
  }

  async ends(signal?: NodeJS.Signals): Promise<number | null | undefined> {
    if (signal !== undefined) this.#child.kill(signal);
    await eventually(
      () => this.status !== undefined,
      () => `the end; it says\n${this.output}`,
    );
    return this.status;
  }
}

describe('sluice network on its node', function () {
  this.timeout(90_000);
  let nodes: DaemonNodes;
  let second: Second | undefined;

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(async () => {
    nodes = await DaemonNodes.create(['a'], CONF);
  });
  afterEach(async () => {
    if (second !== undefined && second.status === undefined) await second.ends('SIGKILL');
    second = undefined;
    await nodes.close();
  });

  it('says that it lacks CAP_NET_ADMIN, once, and ends', async () => {
    second = new Second(nodes, ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin']);
    assert.equal(await second.ends(), 1);
    assert.equal(
      second.output,
      'sluice: the network is not permitted to make devices and routes\nCAP_NET_ADMIN is needed, in the network namespace of the node.\n',
    );
  });

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    it(`waits while there is another one, and takes over when that has ended by ${signal}`, async () => {
      nodes.start('a');
      await nodes.ready('a');
      second = new Second(nodes);
      const waiting = second;
      await eventually(
        () => /NETWORK_RUNNING/.test(waiting.output),
        () => waiting.output,
      );
      assert.match(waiting.output, /another sluice network is running on this node/);
      // Nobody but the first one repairs.
      await nodes.ip('a', ['link del flannel.1']);
      await eventually(() => /flannel\.1 made.*\n(.*\n)*.*flannel\.1 made/.test(nodes.log('a')), 'the repair');
      assert.equal(waiting.output.trim().split('\n').length, 1, waiting.output);
      await nodes.stop('a', signal);
      await eventually(
        () => /the network is ready/.test(waiting.output),
        () => waiting.output,
      );
      assert.doesNotMatch(waiting.output, /flannel\.1 made/);
    });
  }

  it('can be told to stop while it waits', async () => {
    nodes.start('a');
    await nodes.ready('a');
    second = new Second(nodes);
    const waiting = second;
    await eventually(
      () => /NETWORK_RUNNING/.test(waiting.output),
      () => waiting.output,
    );
    assert.equal(await waiting.ends('SIGTERM'), 0);
    assert.ok(nodes.running('a'));
  });
});
